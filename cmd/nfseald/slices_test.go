package main

import (
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/appliance/api"
)

// TestShortSlices: all threads of the daemon have short slices where the kernel has slices of a thread's own, and it says
// whether they do.
func TestShortSlices(t *testing.T) {
	own, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	can := own.Policy == unix.SCHED_NORMAL && own.Runtime != 0 // Linux 6.12 and later tell the slice
	d := startDaemon(t, t.TempDir())
	s, err := d.api.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(s.Features, func(f api.Feature) bool { return f.Name == "short slices" })
	if i < 0 || s.Features[i].On != can {
		t.Errorf("can be %v: %+v", can, s.Features)
	}
	threads := d.threads(t)
	if len(threads) < 3 {
		t.Fatal(threads)
	}
	for _, id := range threads {
		if attr, err := unix.SchedGetAttr(id, 0); err == nil && can != (attr.Runtime == 100_000) {
			t.Errorf("thread %d: %+v", id, attr)
		}
	}
	d.signal(t, syscall.SIGTERM)
}
