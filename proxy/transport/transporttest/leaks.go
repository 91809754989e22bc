package transporttest

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// CheckGoroutines fails the test if, at its end, goroutines that run this module's code are left which
// were not there at the call.
func CheckGoroutines(t testing.TB) {
	t.Helper()
	before := ours()
	t.Cleanup(func() {
		var after int
		for range 100 {
			if after = ours(); after <= before {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after:\n%s", before, after, stacks[:runtime.Stack(stacks, true)])
	})
}

// ours counts goroutines with a frame of this module besides those of tests.
func ours() int {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	n := 0
	for g := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(g, "github.com/nfseal/nfseal/") && !strings.Contains(g, "testing.tRunner") {
			n++
		}
	}
	return n
}
