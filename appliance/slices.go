package appliance

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/appliance/api"
)

// slice is how long a thread of the daemon runs at least before another one that is ready takes its processor. The
// kernel's own choice, some 3 ms, is made for programs that compute: a thread that is woken with a short slice is let in
// before one that has a long one left.
const slice = 100 * time.Microsecond

// ShortenSlices asks the kernel for short slices for all threads of the process, and those that they start. Linux 6.12 and
// later have that (sched_setattr(2), sched_runtime of SCHED_OTHER), older ones take no notice. Threads in real time, or
// of a class of their own, stay as they are. It is done once, before there is work.
func ShortenSlices() error {
	done := map[int]bool{}
	for more := true; more; { // a thread that starts meanwhile is found in the next pass
		more = false
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("slices: %w", err)
		}
		for _, entry := range threads {
			thread, err := strconv.Atoi(entry.Name())
			if err != nil || done[thread] {
				continue
			}
			done[thread], more = true, true
			if err := shortenSlice(thread); err != nil {
				return fmt.Errorf("slices: thread %d: %w", thread, err)
			}
		}
	}
	return nil
}

func shortenSlice(thread int) error {
	attr, err := unix.SchedGetAttr(thread, 0)
	if errors.Is(err, unix.ESRCH) || (err == nil && attr.Policy != unix.SCHED_NORMAL) {
		return nil
	}
	if err != nil {
		return err
	}
	attr.Runtime = uint64(slice)
	if err := unix.SchedSetAttr(thread, attr, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// slicesFeature says how long the slices of this process are.
func slicesFeature() api.Feature {
	f := api.Feature{Name: "short slices", Detail: "the kernel has none of a program's own before Linux 6.12, or the daemon may not ask for them"}
	if attr, err := unix.SchedGetAttr(0, 0); err == nil && attr.Policy == unix.SCHED_NORMAL && attr.Runtime == uint64(slice) {
		f.On, f.Detail = true, fmt.Sprintf("of %v: a thread that is woken need not wait for one that computes", slice)
	}
	return f
}
