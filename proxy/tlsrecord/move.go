package tlsrecord

import (
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/internal/nowait"
)

// MoveFrom sends all that src sends, and adds it to moved as it goes. It is read to where its records are sealed, as
// many at once as a buffer holds, so that nothing is copied here. Nil is src's end, which is not passed on. From now on
// what comes from src and what comes from the peer is waited for together, where that comes soon: see nowait.Expect.
func (c *Conn) MoveFrom(src *net.TCPConn, moved *atomic.Uint64) error {
	socket, err := src.SyscallConn()
	if err != nil {
		return fmt.Errorf("tlsrecord: %w", err)
	}
	in := newIntake(&c.out, &c.source)
	c.expects.Store(true)
	for {
		n, err := in.fill(socket)
		if n > 0 {
			if err = c.out.sendSealed(in.buf.Mem, n); err == nil {
				moved.Add(uint64(n))
			}
		}
		in.release()
		if n == 0 || err != nil {
			return err
		}
	}
}

// MoveTo is MoveFrom the other way: all that the peer sends goes to dst, from where its records were opened. Nil is the
// session's orderly end. While dst takes nothing, Close waits: dst is to be closed first, or given a deadline.
func (c *Conn) MoveTo(dst *net.TCPConn, moved *atomic.Uint64) error {
	for {
		n, err := c.in.moveTo(dst)
		moved.Add(uint64(n))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// intake reads from a socket to where the data of records belongs.
type intake struct {
	attempt func(uintptr) bool // receive, made once
	expect  *nowait.Expect
	offsets [largeRecords]int // of the data of each record in a buffer
	iov     [largeRecords]unix.Iovec
	buf     *buffer // nil while nothing is in it

	// What receive found.
	n     int
	errno unix.Errno
}

func newIntake(w *writer, expect *nowait.Expect) *intake {
	in := &intake{expect: expect}
	in.attempt = in.receive
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range in.offsets {
		in.offsets[i] = i*w.recordBytes(MaxPlaintextBytes) + w.prefixBytes()
	}
	return in
}

// fill waits for data and returns how much there is; 0 is the end.
func (in *intake) fill(socket syscall.RawConn) (int, error) {
	if err := socket.Read(in.attempt); err != nil {
		return 0, err
	}
	if in.errno != 0 {
		return 0, fmt.Errorf("tlsrecord: read: %w", in.errno)
	}
	return in.n, nil
}

// receive tries to read from the socket, and says whether it did. While it waits it has no buffer.
func (in *intake) receive(fd uintptr) bool {
	for {
		if in.try(fd) {
			in.expect.Came()
			return true
		}
		if !in.expect.Wait(fd) {
			return false
		}
	}
}

// try is one attempt.
func (in *intake) try(fd uintptr) bool {
	in.buf = newBuffer(largeBytes)
	for i, at := range in.offsets {
		in.iov[i].Base = &in.buf.Mem[at]
		in.iov[i].SetLen(MaxPlaintextBytes)
	}
	for {
		n, _, errno := unix.Syscall(unix.SYS_READV, fd, uintptr(unsafe.Pointer(&in.iov[0])), uintptr(len(in.iov)))
		if in.n, in.errno = int(n), errno; errno != unix.EINTR {
			break
		}
	}
	if in.errno == unix.EAGAIN {
		in.release()
		return false
	}
	return true
}

func (in *intake) release() {
	clear(in.iov[:])
	freeBuffer(in.buf)
	in.buf = nil
}

// sendSealed sends the n bytes of data that stand in b where full records have theirs.
func (w *writer) sendSealed(b []byte, n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.readyLocked(); err != nil {
		return err
	}
	end := 0
	for n > 0 {
		size := min(n, MaxPlaintextBytes)
		k, err := w.seal(b[end:], TypeApplication, w.payload(b[end:])[:size])
		if err != nil {
			return w.fail(err)
		}
		n, end = n-size, end+k
	}
	if _, err := w.to.Write(b[:end]); err != nil {
		return w.fail(err)
	}
	return nil
}

// moveTo waits for data and writes it to dst; it returns how much that was.
func (in *reader) moveTo(dst net.Conn) (int64, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for {
		late := in.gather()
		n, err := in.pour(dst)
		if late != nil {
			in.end(late)
		}
		in.tidy()
		switch {
		case n > 0 || err != nil:
			return n, err
		case in.err != nil:
			return 0, in.err
		}
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
}

// gather opens what can be had without waiting, where it is, into in.pieces. An error belongs behind them.
func (in *reader) gather() error {
	in.pieces = in.pieces[:0]
	for len(in.pieces) < maxPieces {
		if len(in.plain) > 0 {
			in.pieces = append(in.pieces, in.plain)
			in.plain = nil
			continue
		}
		if in.err != nil || in.buf == nil {
			return nil
		}
		length, whole, err := in.parse(in.buf.Mem[in.r:in.w])
		if err != nil || !whole {
			return err
		}
		record := in.buf.Mem[in.r : in.r+length]
		in.r += length
		if _, err := in.take(nil, record); err != nil {
			return err
		}
	}
	return nil
}

// pour writes in.pieces to dst.
func (in *reader) pour(dst net.Conn) (int64, error) {
	if len(in.pieces) == 0 {
		return 0, nil
	}
	in.buffers = in.pieces
	n, err := in.buffers.WriteTo(dst)
	clear(in.pieces)
	return n, err
}
