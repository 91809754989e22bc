package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/appliance/api"
)

// TestCalmMonitor: of the daemon's threads one has much timer slack, which does nothing but sleep, and the capability that
// this took is gone.
func TestCalmMonitor(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs CAP_SYS_NICE, to read another process's timer slack: runs in make test as root")
	}
	d := startDaemon(t, t.TempDir())
	s, err := d.api.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(s.Features, func(f api.Feature) bool { return f.Name == "calm monitor" }); i < 0 || !s.Features[i].On {
		t.Errorf("%+v", s.Features)
	}
	calls := d.systemCalls(t, d.calmThread(t))
	if calls[unix.SYS_NANOSLEEP] == 0 {
		t.Errorf("it was never seen asleep: %v", calls)
	}
	delete(calls, unix.SYS_NANOSLEEP)
	delete(calls, unix.SYS_FUTEX)
	if len(calls) > 0 {
		t.Errorf("it calls %v", calls)
	}
	d.calmThread(t) // what has come meanwhile has not inherited its slack
	d.signal(t, syscall.SIGTERM)
}

// calmThread is the only one with much slack. None has the capability.
func (d *daemon) calmThread(t *testing.T) int {
	t.Helper()
	var calm []int
	for _, thread := range d.threads(t) {
		slack := strings.TrimSpace(readProc(t, "%d/timerslack_ns", thread))
		if slack == "500000" {
			calm = append(calm, thread)
		} else if slack != "50000" {
			t.Errorf("thread %d has a slack of %s ns", thread, slack)
		}
		for _, set := range regexp.MustCompile(`(?m)^Cap(?:Inh|Prm|Eff|Amb):\s*(\S+)$`).FindAllStringSubmatch(readProc(t, "%d/status", thread), -1) {
			if bits, err := strconv.ParseUint(set[1], 16, 64); err != nil || bits>>unix.CAP_SYS_NICE&1 != 0 && !withCgo() {
				t.Errorf("thread %d: %s, %v", thread, set[0], err)
			}
		}
	}
	if len(calm) != 1 {
		t.Fatalf("threads %v have slack", calm)
	}
	return calm[0]
}

// withCgo says whether this program, which is the daemon too, was built with cgo.
func withCgo() bool {
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0)
	return errno == unix.ENOTSUP
}

// threads are the daemon's.
func (d *daemon) threads(t *testing.T) (list []int) {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		thread, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, thread)
	}
	return list
}

// systemCalls are those in which a thread is found, while the daemon has a little to do.
func (d *daemon) systemCalls(t *testing.T, thread int) map[int]int {
	t.Helper()
	found := map[int]int{}
	for range 300 {
		if _, err := d.api.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		number, _, _ := strings.Cut(readProc(t, "%d/task/%d/syscall", d.cmd.Process.Pid, thread), " ")
		if n, err := strconv.Atoi(number); err == nil { // else it runs
			found[n]++
		}
	}
	return found
}

// readProc returns what a file of the kernel's says.
func readProc(t *testing.T, format string, args ...any) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/"+format, args...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
