package nowait

import (
	"fmt"
	"io"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mostBytes is what one call moves at most: some 20 us of copying.
const mostBytes = 256 << 10

// Receive takes up to len(p) bytes, at least one, that a socket has received; 0 is the end of what comes. When there are
// none the error is unix.EAGAIN.
func Receive(fd uintptr, p []byte) (int, error) {
	at, n := unsafe.Pointer(unsafe.SliceData(p)), min(len(p), mostBytes)
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(at), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Reader reads from a stream socket, for one goroutine at a time.
type Reader struct {
	raw     syscall.RawConn
	attempt func(fd uintptr) bool // receive, made once

	// What is under way.
	p   []byte
	n   int
	err error
}

// NewReader returns one for a connection, whose deadlines and whose end are its own; nil if that is not a socket alone,
// but has a Read that does more.
func NewReader(conn net.Conn) *Reader {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil // closed: its Read says so
	}
	r := &Reader{raw: raw}
	r.attempt = r.receive
	return r
}

// Read implements io.Reader. It waits in the runtime's poller, as a read of the connection does.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r.p, r.n, r.err = p, 0, nil
	err := r.raw.Read(r.attempt)
	r.p = nil
	switch {
	case err != nil:
		return 0, err
	case r.err != nil:
		return 0, fmt.Errorf("nowait: receive: %w", r.err)
	case r.n == 0:
		return 0, io.EOF
	}
	return r.n, nil
}

func (r *Reader) receive(fd uintptr) bool {
	r.n, r.err = Receive(fd, r.p)
	return r.err != unix.EAGAIN
}
