package appliance

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/appliance/api"
)

// monitorSlack is by how much the kernel may let the thread of the Go runtime that watches the others oversleep. That thread
// looks every 20 us for as long as others come and go from system calls, and the kernel's own slack is 50 us: on a
// machine of two processors a sixth of the processor time of small writes goes there (docs/adr/0023-idle-polling.md).
const monitorSlack = 500 * time.Microsecond

// spareThreads is how many threads the runtime has beside one a processor before the monitor has its slack: more than are
// usually in system calls at a time. One that the monitor itself started later would inherit the slack.
const spareThreads = 24

// monitorCalm is true once the slack is set; a thread's slack can't be asked for without the capability to set it.
var monitorCalm atomic.Bool

// CalmMonitor sets the slack, for which it needs CAP_SYS_NICE, and gives that capability up for good. It is done once,
// before there is work.
func CalmMonitor() error {
	thread, err := monitorThread()
	if err != nil {
		return fmt.Errorf("monitor: %w", err)
	}
	startThreads(runtime.GOMAXPROCS(0) + spareThreads)
	slack := strconv.FormatInt(monitorSlack.Nanoseconds(), 10)
	err = os.WriteFile(fmt.Sprintf("/proc/%d/timerslack_ns", thread), []byte(slack), 0)
	monitorCalm.Store(err == nil)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return nil // the feature's text says what it takes
	}
	return errors.Join(err, dropCapability(unix.CAP_SYS_NICE))
}

// monitorThread is the first thread that the runtime starts, which has the second place in the kernel's list.
func monitorThread() (int, error) {
	threads, err := os.Open("/proc/self/task")
	if err != nil {
		return 0, err
	}
	defer threads.Close()
	names, err := threads.Readdirnames(2)
	if err != nil {
		return 0, err
	}
	if len(names) < 2 {
		return 0, errors.New("the process has one thread")
	}
	return strconv.Atoi(names[1])
}

// startThreads has the runtime start n threads, or what it lacks of them. It keeps those that it does not need.
func startThreads(n int) {
	var there, gone sync.WaitGroup
	there.Add(n)
	for range n {
		gone.Go(func() {
			runtime.LockOSThread() // so that each of these needs a thread
			defer runtime.UnlockOSThread()
			there.Done()
			there.Wait()
		})
	}
	gone.Wait()
}

// dropCapability takes a capability from all threads: whoever gets hold of the process can't have it back. A build with cgo
// keeps it, for there the runtime does not know of all threads.
func dropCapability(number uint) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	bit := uint32(1) << (number % 32)
	set := &sets[number/32]
	set.Effective &^= bit
	set.Permitted &^= bit
	set.Inheritable &^= bit
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0])), 0)
	if errno != 0 && errno != unix.ENOTSUP {
		return fmt.Errorf("capset: %w", errno)
	}
	return nil
}

// monitorFeature says whether the runtime's monitor lets the others work.
func monitorFeature() api.Feature {
	if !monitorCalm.Load() {
		return api.Feature{Name: "calm monitor", Detail: "Go's monitor looks at its threads every 70µs: to let it wait takes CAP_SYS_NICE at the start"}
	}
	return api.Feature{Name: "calm monitor", On: true, Detail: fmt.Sprintf("Go's monitor looks at its threads every %v, not every 70µs", monitorSlack+20*time.Microsecond)}
}
