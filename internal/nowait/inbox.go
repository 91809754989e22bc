package nowait

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Inbox tells of what a socket has received. It belongs to the goroutine that reads.
type Inbox struct {
	raw  syscall.RawConn
	look func(fd uintptr) // made once
	has  bool             // what look found
}

// NewInbox is for the socket raw.
func NewInbox(raw syscall.RawConn) *Inbox {
	b := &Inbox{raw: raw}
	b.look = func(fd uintptr) { b.has = readable(fd) }
	return b
}

// Pending says whether a read of the socket would not wait: something was received that was not taken, or it is at its
// end, broken or closed.
func (b *Inbox) Pending() bool {
	b.has = true // of one that is closed, and so not looked at
	b.raw.Control(b.look)
	return b.has
}

func readable(fd uintptr) bool {
	var now unix.Timespec
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return errno == 0 && n > 0
}
