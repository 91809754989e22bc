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

var (
	numbers atomic.Uint64 // the last number given to an Expect
	lately  atomic.Uint64 // that of the last one to wait
)

var epoch = time.Now()

// Expect waits for what a socket receives, in the kernel, where that has come soon before.
//
// A goroutine that waits in the runtime's poller gives its thread away, and that one its processor. When the next
// call of a client is there 30 us later, threads are woken to look for work, one of them finds it, and the runtime's monitor, which
// had gone to sleep with the last of them, is woken too. A thread that waits in poll(2) is woken by the kernel and goes on.
// It keeps its place on a processor until somebody wants that, as in any system call.
//
// Only the socket that was also the last one to wait is waited for in this way: a client with one call at a time, and
// no others beside it. So there is one thread at most that does, and it costs the others nothing. Two sockets can be a
// pair, of which calls come from the one and answers from the other: then one thread waits for both.
//
// A socket that brings many calls at a time is empty for moments too: who reads from it had better not expect, for the
// poller finds what comes then without waking anybody.
//
// An Expect belongs to the goroutine that reads.
type Expect struct {
	number uint64       // a pair has one; 0 before the first wait
	other  *Expect      // the other one of its pair; nil if it is alone
	fd     atomic.Int32 // one more than the descriptor that it waited for last; 0 for none

	began   time.Duration // when the wait in the poller began, after epoch; 0 if there was none
	quick   bool          // the last wait was short
	met     int           // how often something came while it waited in the kernel
	fds     [2]unix.PollFd
	timeout unix.Timespec
}

// Pair makes a pair of two that have not waited yet.
func Pair(a, b *Expect) {
	a.number = numbers.Add(1)
	b.number = a.number
	a.other, b.other = b, a
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
	e.fd.Store(int32(fd) + 1)
	if e.number == 0 {
		e.number = numbers.Add(1)
	}
	if lately.Swap(e.number) == e.number && e.quick {
		mine, others := e.poll()
		if mine || others {
			return mine
		}
	}
	e.quick = false
	e.began = time.Since(epoch)
	return false
}

// poll waits in the kernel, and says for which of the pair something has come: the other one's goroutine finds that in the
// poller. A signal ends it early: then it did not come in time.
func (e *Expect) poll() (mine, others bool) {
	e.fds[0] = unix.PollFd{Fd: e.fd.Load() - 1, Events: unix.POLLIN}
	e.fds[1] = unix.PollFd{Fd: -1} // which the kernel ignores
	if e.other != nil {
		e.fds[1] = unix.PollFd{Fd: e.other.fd.Load() - 1, Events: unix.POLLIN}
	}
	e.timeout = unix.NsecToTimespec(patience)
	if n, err := unix.Ppoll(e.fds[:], &e.timeout, nil); n < 1 || err != nil {
		return false, false
	}
	e.met++
	mine = e.fds[0].Revents != 0
	return mine, !mine
}

// Met says how often something came, for either of a pair, while this one waited for it in the kernel.
func (e *Expect) Met() int { return e.met }
