package tlsrecord

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/internal/nowait"
)

// reader is the receiving direction.
type reader struct {
	c       *Conn
	socket  syscall.RawConn    // nil if the connection is no socket
	inbox   *nowait.Inbox      // the same
	attempt func(uintptr) bool // receive, made once

	mu sync.Mutex
	half
	buf     *buffer     // nil while there is nothing in it
	r, w    int         // bytes r to w have been received and not been opened
	plain   []byte      // what was opened in buf and not been read
	useless int         // records in a row without data
	pieces  [][]byte    // what moveTo passes on
	buffers net.Buffers // the same while it is written
	err     error       // why nothing can be read any more

	expect nowait.Expect

	// What receive found.
	n     int
	errno error
}

// Read implements net.Conn. It returns as much as was received and fits; records that fit whole are
// opened straight into p.
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
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
}

// ReadBuffered is Read of what was received before: it does not wait, and returns 0 and no error where that is no data.
func (c *Conn) ReadBuffered(p []byte) (int, error) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return c.in.readLocked(p)
}

// readLocked is Read without waiting.
func (in *reader) readLocked(p []byte) (int, error) {
	n := in.drain(p)
	if n > 0 {
		in.tidy()
		return n, nil
	}
	return 0, in.err
}

// Buffered says whether something was received before that Read has not taken: data, an end, or a record without data.
func (c *Conn) Buffered() bool {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	if len(c.in.plain) > 0 || c.in.err != nil {
		return true
	}
	if c.in.buf == nil {
		return false
	}
	_, whole, err := c.in.parse(c.in.buf.Mem[c.in.r:c.in.w])
	return whole || err != nil
}

// Pending says whether Read would not wait, or only for the rest of a record.
func (c *Conn) Pending() bool {
	in := &c.in
	in.mu.Lock()
	defer in.mu.Unlock()
	return len(in.plain) > 0 || in.err != nil || in.r < in.w || in.inbox != nil && in.inbox.Pending()
}

// drain moves to p what can be had without waiting.
func (in *reader) drain(p []byte) int {
	n := 0
	for n < len(p) {
		if len(in.plain) > 0 {
			k := copy(p[n:], in.plain)
			n, in.plain = n+k, in.plain[k:]
			continue
		}
		if in.err != nil || in.buf == nil {
			break
		}
		length, whole, err := in.parse(in.buf.Mem[in.r:in.w])
		if err != nil {
			in.end(err)
			break
		}
		if !whole {
			break
		}
		record := in.buf.Mem[in.r : in.r+length]
		in.r += length
		k, err := in.take(p[n:], record)
		if err != nil {
			in.end(err)
			break
		}
		n += k
	}
	return n
}

// take opens a record: into p if it fits, and says how much data that is, or else where it is.
func (in *reader) take(p, record []byte) (int, error) {
	var dst []byte
	size := in.room(len(record))
	straight := record[0] == TypeApplication && size > 0 && size <= len(p)
	if straight {
		dst = p
	}
	kind, plain, err := in.open(dst, record)
	if err != nil {
		return 0, err
	}
	if kind == TypeApplication && len(plain) > 0 {
		in.useless = 0
		if straight {
			return len(plain), nil
		}
		in.plain = plain
		return 0, nil
	}
	if in.useless++; in.useless > MaxUseless {
		return 0, ErrUnexpected
	}
	return 0, in.control(kind, plain)
}

// control deals with a record that is not data.
func (in *reader) control(kind byte, plain []byte) error {
	switch kind {
	case TypeApplication:
		return nil // empty
	case TypeHandshake:
		return in.handshake(plain)
	case TypeAlert:
		return AlertError(plain, in.v13)
	}
	return ErrUnexpected
}

// handshake deals with messages after the handshake.
func (in *reader) handshake(plain []byte) error {
	if !in.v13 {
		return ErrRenegotiation
	}
	update, asked, err := ParsePostHandshake(plain, in.c.isServer)
	if err != nil || !update {
		return err
	}
	if asked {
		in.c.out.updateWanted.Store(true)
	}
	return in.update()
}

// end ends the direction, tells the peer if it is at fault, and gives the memory back.
func (in *reader) end(err error) {
	if in.err == nil {
		in.err = err
		in.c.abort(err)
		in.wipe()
	}
	in.plain, in.r, in.w = nil, 0, 0
	freeBuffer(in.buf)
	in.buf = nil
}

// tidy gives the buffer back when nothing is in it.
func (in *reader) tidy() {
	if in.buf != nil && in.r == in.w && len(in.plain) == 0 {
		in.r, in.w = 0, 0
		freeBuffer(in.buf)
		in.buf = nil
	}
}

// fill waits for more. Before it waits, all that was received has been opened and read but the beginning
// of a record.
func (in *reader) fill() error {
	in.tidy()
	if in.socket == nil {
		in.grow()
		n, err := in.c.raw.Read(in.buf.Mem[in.w:])
		return in.received(n, err)
	}
	if err := in.socket.Read(in.attempt); err != nil {
		return in.received(0, err)
	}
	n, err := in.n, in.errno
	if n == 0 && err == nil {
		err = io.EOF
	}
	return in.received(n, err)
}

// received counts n bytes, or makes of err what Read returns.
func (in *reader) received(n int, err error) error {
	in.w += n
	switch {
	case n > 0 || err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		in.tidy()
		return err
	case errors.Is(err, io.EOF):
		err = ErrTruncated
	case err == in.errno:
		err = fmt.Errorf("tlsrecord: read: %w", err)
	}
	in.end(err)
	return err
}

// receive tries to read from the socket, and says whether it did. While it waits, the connection keeps no
// more memory than what it has received needs.
func (in *reader) receive(fd uintptr) bool {
	for {
		in.grow()
		in.n, in.errno = nowait.Receive(fd, in.buf.Mem[in.w:])
		if in.errno != unix.EAGAIN {
			in.expect.Came()
			return true
		}
		if !in.c.expects.Load() || !in.expect.Wait(fd) {
			in.shrink()
			return false
		}
	}
}

// grow gets a large buffer, with what was received at its beginning.
func (in *reader) grow() {
	if in.buf == nil || len(in.buf.Mem) != largeBytes {
		in.move(largeBytes)
		return
	}
	in.w = copy(in.buf.Mem, in.buf.Mem[in.r:in.w])
	in.r = 0
}

// shrink goes back to a buffer for one record, or to none.
func (in *reader) shrink() {
	in.tidy()
	if in.buf != nil {
		in.move(smallBytes)
	}
}

// move changes to a buffer of another size; what was received fits in.
func (in *reader) move(size int) {
	b := newBuffer(size)
	n := 0
	if in.buf != nil {
		n = copy(b.Mem, in.buf.Mem[in.r:in.w])
		freeBuffer(in.buf)
	}
	in.buf, in.r, in.w = b, 0, n
}
