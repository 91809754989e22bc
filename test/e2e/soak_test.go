package e2e

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	soakTime = 10 * time.Minute
	// soakKillEvery is how often the daemon is killed and started again.
	soakKillEvery = 90 * time.Second
	// soakMaxRSSMB is far above what the daemon needs, and far below what a leak would reach.
	soakMaxRSSMB = 1500
)

// Ten minutes of random operations against models, from several processes on two clients, while the
// daemon is killed now and then.
func TestSoak(t *testing.T) {
	long(t)
	w := getWorld(t)
	s := startServer(t, w)
	other := w.anotherClient(t)
	a, b := s.mount(w.guest, s.fs), "/mnt/soak"
	must(t, other, "mkdir", b)
	must(t, other, s.mountArgs(s.fs, b)...)

	ctx, cancel := context.WithTimeout(t.Context(), 2*soakTime)
	defer cancel()
	const hammers = 4
	ended := make(chan hammered, hammers)
	seconds := strconv.Itoa(int(soakTime.Seconds()))
	kills := strconv.Itoa(int(soakTime/soakKillEvery) + 1)
	for i := range hammers {
		g, dir := w.guest, a
		if i%2 == 1 {
			g, dir = other, b
		}
		dir = fmt.Sprintf("%s/%d", dir, i)
		must(t, g, "mkdir", dir)
		go func() {
			r, err := g.Run(ctx, w.work, "hammer", dir, seconds, fmt.Sprint(time.Now().UnixNano()+int64(i)), kills)
			if err == nil {
				err = r.Err()
			}
			ended <- hammered{dir, r.Stdout, err}
		}()
	}
	tick := time.NewTicker(soakKillEvery)
	defer tick.Stop()
	for left := hammers; left > 0; {
		select {
		case h := <-ended:
			left--
			t.Logf("%s: %s", h.dir, h.said)
			if h.err != nil {
				t.Fatal(h.err)
			}
		case <-tick.C:
			if mb := residentMB(t, s.Pid()); mb > soakMaxRSSMB {
				t.Fatalf("the daemon uses %d MiB", mb)
			}
			s.Kill()
			s.restart()
		}
	}
	must(t, other, "umount", b)
}

// hammered is how one of the processes ended.
type hammered struct {
	dir, said string
	err       error
}

func residentMB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb >> 10
}
