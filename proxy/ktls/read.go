package ktls

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/internal/nowait"
	"github.com/nfseal/nfseal/proxy/tlsrecord"
)

// buffers are for small reads.
var buffers = sync.Pool{New: func() any { return new([bufferBytes]byte) }}

// reader is the receiving direction.
type reader struct {
	c       *Conn
	attempt func(uintptr) bool // receive, made once
	inbox   *nowait.Inbox

	mu      sync.Mutex
	keys    tlsrecord.Traffic  // of TLS 1.3
	buf     *[bufferBytes]byte // nil while there is nothing in it
	plain   []byte             // what was received into buf and not been read
	useless int                // records in a row without data
	err     error              // why nothing can be read any more

	// What receive is to do, and what it found.
	into       []byte // nil: buf
	mayWait    bool
	n, oobn    int
	flags      int
	errno      unix.Errno
	iov        unix.Iovec
	msg        unix.Msghdr
	controlMem [controlBytes]byte
}

// Read implements net.Conn. It returns as much as was received and fits.
func (c *Conn) Read(p []byte) (int, error) {
	in := &c.in
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if n, err := in.readLocked(p); n > 0 || err != nil {
			return n, err
		}
		if n, err := in.fillLocked(p, true); n > 0 || err != nil {
			return n, err
		}
	}
}

// ReadBuffered is Read of what was received before: it does not wait, and returns 0 and no error where that is nothing.
func (c *Conn) ReadBuffered(p []byte) (int, error) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return c.in.readLocked(p)
}

// readLocked is Read without waiting.
func (in *reader) readLocked(p []byte) (int, error) {
	if len(in.plain) > 0 {
		n := copy(p, in.plain)
		in.plain = in.plain[n:]
		in.tidy()
		return n, nil
	}
	return 0, in.err
}

// Buffered says whether something was received before that Read has not taken.
func (c *Conn) Buffered() bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return len(c.in.plain) > 0 || c.in.err != nil
}

// Pending says whether Read would not wait, or only for the rest of a record.
func (c *Conn) Pending() bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return len(c.in.plain) > 0 || c.in.err != nil || c.in.inbox.Pending()
}

// errNothing: nothing was there, and waiting was not wanted.
var errNothing = errors.New("ktls: nothing to read")

// fillLocked receives records of one type: data into p, if that holds any record, or else into plain; others are
// dealt with. It returns how much is in p.
func (in *reader) fillLocked(p []byte, mayWait bool) (int, error) {
	in.into, in.mayWait = nil, mayWait
	if len(p) >= tlsrecord.MaxPlaintextBytes {
		in.into = p
	}
	err := in.c.socket.Read(in.attempt)
	got := in.into
	in.into = nil
	switch {
	case err != nil:
		return 0, in.waitFailedLocked(err)
	case in.errno == unix.EAGAIN:
		in.tidy()
		return 0, errNothing
	case in.errno != 0:
		err = readError(in.errno)
		in.end(err)
		return 0, in.err
	}
	if got == nil {
		got = in.buf[:]
	}
	return in.sortLocked(got[:in.n], len(p) >= tlsrecord.MaxPlaintextBytes)
}

// waitFailedLocked ends the direction after a wait that failed, unless it was only too long.
func (in *reader) waitFailedLocked(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		in.tidy()
		return err
	}
	in.end(err)
	return err
}

// sortLocked deals with what was received: b.
func (in *reader) sortLocked(b []byte, direct bool) (int, error) {
	kind, ok := typeOf(in.controlMem[:in.oobn])
	switch {
	case !ok && len(b) == 0 && in.c.renewing.Load():
		in.end(ErrRenew)
		return 0, in.err
	case !ok && len(b) == 0:
		in.end(tlsrecord.ErrTruncated)
		return 0, in.err
	case !ok || in.flags&unix.MSG_CTRUNC != 0:
		in.end(tlsrecord.ErrUnexpected)
		return 0, in.err
	case kind == tlsrecord.TypeApplication && len(b) > 0:
		in.useless = 0
		if direct {
			return len(b), nil
		}
		in.plain = b
		return 0, nil
	}
	err := in.controlLocked(kind, b)
	if in.useless++; err == nil && in.useless > tlsrecord.MaxUseless {
		err = tlsrecord.ErrUnexpected
	}
	in.tidy()
	if err != nil {
		in.end(err)
	}
	return 0, in.err
}

// controlLocked deals with a record that is not data.
func (in *reader) controlLocked(kind byte, plain []byte) error {
	switch kind {
	case tlsrecord.TypeApplication:
		return nil // empty, or the end, which the next read is told of
	case tlsrecord.TypeHandshake:
		return in.handshakeLocked(plain)
	case tlsrecord.TypeAlert:
		return tlsrecord.AlertError(plain, in.c.v13)
	}
	return tlsrecord.ErrUnexpected
}

// handshakeLocked deals with messages after the handshake.
func (in *reader) handshakeLocked(plain []byte) error {
	if !in.c.v13 {
		return tlsrecord.ErrRenegotiation
	}
	update, asked, err := tlsrecord.ParsePostHandshake(plain, in.c.isServer)
	if err != nil || !update {
		return err
	}
	if !in.c.carrier.support.Rekey {
		return in.c.renew()
	}
	if asked {
		in.c.out.updateWanted.Store(true)
	}
	if err := in.keys.Update(); err != nil {
		return err
	}
	if setKeys(in.c.socket, optRX, &in.keys) != nil {
		return in.c.renew()
	}
	in.c.carrier.rekeyed.Add(1)
	return nil
}

// readError is what an error of the kernel means (Documentation/networking/tls.rst).
func readError(errno unix.Errno) error {
	switch errno {
	case unix.EBADMSG:
		return tlsrecord.ErrBadRecord
	case unix.EMSGSIZE:
		return tlsrecord.ErrOverflow
	case unix.EINVAL:
		return tlsrecord.ErrVersion
	case unix.EIO:
		return tlsrecord.ErrUnexpected
	}
	return fmt.Errorf("ktls: read: %w", errno)
}

// end ends the direction, tells the peer if it is at fault, and gives the memory back.
func (in *reader) end(err error) {
	if in.err == nil {
		in.err = err
		in.c.abort(err)
		in.keys.Wipe()
	}
	in.plain = nil
	in.tidy()
}

// tidy gives the buffer back when nothing is in it.
func (in *reader) tidy() {
	if in.buf != nil && len(in.plain) == 0 {
		buffers.Put(in.buf)
		in.buf, in.plain = nil, nil
	}
}

// recvmsg is recvmsg(2) without the memory that unix.Recvmsg allocates.
func (in *reader) recvmsg(fd uintptr, into []byte) {
	in.iov.Base = &into[0]
	in.iov.SetLen(len(into))
	in.msg = unix.Msghdr{Iov: &in.iov, Control: &in.controlMem[0]}
	in.msg.SetIovlen(1)
	in.msg.SetControllen(len(in.controlMem))
	n, _, errno := unix.Syscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&in.msg)), unix.MSG_DONTWAIT)
	in.n, in.oobn, in.flags, in.errno = int(n), int(in.msg.Controllen), int(in.msg.Flags), errno
	in.iov.Base, in.msg = nil, unix.Msghdr{}
	if errno != 0 {
		in.n, in.oobn = 0, 0
	}
}

// receive tries to read from the socket, and says whether it did. While it waits, the connection keeps no
// memory.
func (in *reader) receive(fd uintptr) bool {
	into := in.into
	if into == nil {
		if in.buf == nil {
			in.buf = buffers.Get().(*[bufferBytes]byte)
		}
		into = in.buf[:]
	}
	for {
		in.recvmsg(fd, into)
		if in.errno != unix.EINTR {
			break
		}
	}
	if in.errno != unix.EAGAIN {
		return true
	}
	in.tidy()
	return !in.mayWait
}
