package nowait

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// soon is how quickly something has to have come for the next to be expected as quickly.
	soon = 400 * time.Microsecond
	// patience is how long it is waited for, in nanoseconds.
	patience = int64(500 * time.Microsecond)
)

// lately is the Expect that was the last to wait.
var lately atomic.Pointer[Expect]

var epoch = time.Now()

// Expect waits for what a socket receives, in the kernel, where that has come soon before.
//
// A goroutine that waits in the runtime's poller gives its thread away, and that one its processor. When the next
// call of a client is there 30 us later, threads are woken to look for work, one of them finds it, and the runtime's monitor, which
// had gone to sleep with the last of them, is woken too. A thread that waits in poll(2) is woken by the kernel and goes on.
// It keeps its place on a processor until somebody wants that, as in any system call.
//
// Only the socket that was also the last one to wait is waited for in this way: a client with one call at a time, and
// no others beside it. So there is one thread at most that does, and it costs the others nothing.
//
// An Expect belongs to the goroutine that reads.
type Expect struct {
	began   time.Duration // when the wait in the poller began, after epoch; 0 if there was none
	quick   bool          // the last wait was short
	met     int           // how often something came while it waited in the kernel
	fds     [1]unix.PollFd
	timeout unix.Timespec
}

// Came hears that something was received.
func (e *Expect) Came() {
	if e.began != 0 {
		e.quick = time.Since(epoch)-e.began < soon
		e.began = 0
	}
}

// Wait is for a socket that has nothing. It says whether something has come, and false at once where that is not
// expected, or where others wait: then who reads waits in the poller.
func (e *Expect) Wait(fd uintptr) bool {
	if lately.Swap(e) == e && e.quick && e.poll(fd) {
		return true
	}
	e.quick = false
	e.began = time.Since(epoch)
	return false
}

// poll waits in the kernel. A signal ends it early: then it did not come in time.
func (e *Expect) poll(fd uintptr) bool {
	e.fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	e.timeout = unix.NsecToTimespec(patience)
	if n, err := unix.Ppoll(e.fds[:], &e.timeout, nil); n != 1 || err != nil {
		return false
	}
	e.met++
	return true
}

// Met says how often something came while it was waited for in the kernel.
func (e *Expect) Met() int { return e.met }
