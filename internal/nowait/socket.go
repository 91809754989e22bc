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
	return move(unix.SYS_RECVFROM, fd, p, unix.MSG_DONTWAIT)
}

// Send gives a socket up to len(p) bytes, at least one, and returns how many it took. When it takes none the error is
// unix.EAGAIN.
func Send(fd uintptr, p []byte) (int, error) {
	return move(unix.SYS_SENDTO, fd, p, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// move is one of the two.
func move(call, fd uintptr, p []byte, flags uintptr) (int, error) {
	at, most := unsafe.Pointer(unsafe.SliceData(p)), min(len(p), mostBytes)
	for {
		n, _, errno := unix.RawSyscall6(call, fd, uintptr(at), uintptr(most), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Socket reads from a stream socket and writes to it, as its connection does: one goroutine at a time in each direction.
type Socket struct {
	raw     syscall.RawConn
	inbox   *Inbox
	in, out half
	pieces  gather
}

// half is one direction.
type half struct {
	attempt func(fd uintptr) bool // to move what is under way, made once

	expect  Expect
	expects bool

	// What is under way, and how far that is.
	p   []byte
	n   int
	err error
}

// NewSocket returns that of a connection, whose deadlines and whose end are its own; nil if the connection is not a socket
// alone, but has a Read and Write that do more.
func NewSocket(conn net.Conn) *Socket {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil // closed: its Read says so
	}
	s := &Socket{raw: raw, inbox: NewInbox(raw)}
	s.in.attempt, s.out.attempt, s.pieces.attempt = s.in.receive, s.out.send, s.pieces.send
	return s
}

// Expect says whether Read waits as an Expect does. At first it does not. It is called by who reads.
func (s *Socket) Expect(on bool) { s.in.expects = on }

// Pending says whether Read would not wait. It is called by who reads.
func (s *Socket) Pending() bool { return s.inbox.Pending() }

// Read implements io.Reader. It waits in the runtime's poller, as a read of the connection does, or as Expect says.
func (s *Socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.in.move(s.raw.Read, p)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, err
}

// Write implements io.Writer. It waits as Read does.
func (s *Socket) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return s.out.move(s.raw.Write, p)
}

// move has until make attempts at p, and returns how far they came.
func (h *half) move(until func(func(uintptr) bool) error, p []byte) (int, error) {
	h.p, h.n, h.err = p, 0, nil
	err := until(h.attempt)
	h.p = nil
	if err == nil && h.err != nil {
		err = fmt.Errorf("nowait: socket: %w", h.err)
	}
	return h.n, err
}

// receive takes what there is.
func (h *half) receive(fd uintptr) bool {
	for {
		h.n, h.err = Receive(fd, h.p)
		if h.err != unix.EAGAIN {
			h.expect.Came()
			return true
		}
		if !h.expects || !h.expect.Wait(fd) {
			return false
		}
	}
}

// send gives away all.
func (h *half) send(fd uintptr) bool {
	for h.n < len(h.p) {
		n, err := Send(fd, h.p[h.n:])
		if err == unix.EAGAIN {
			return false
		}
		if h.err = err; err != nil {
			return true
		}
		h.n += n
	}
	return true
}
