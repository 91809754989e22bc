package ktls

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/tlsrecord"
)

// ErrNoPipe: there is no pipe to splice through. Nothing has been moved; the data can be copied.
var ErrNoPipe = errors.New("ktls: no pipe to splice through")

// MoveFrom moves all that src sends into the session, without a copy in this process (splice(2)), and adds it
// to moved as it goes. Nil is src's end, which is not passed on.
func (c *Conn) MoveFrom(src *net.TCPConn, moved *atomic.Uint64) error {
	p, from, err := pipeFor(src)
	if err != nil {
		return err
	}
	defer p.close()
	for {
		n, err := p.fill(from)
		if n == 0 || err != nil {
			return err
		}
		if err := c.out.splice(p); err != nil {
			return err
		}
		moved.Add(uint64(n))
	}
}

// MoveTo is MoveFrom the other way: it moves all that the session's peer sends to dst. Nil is the session's orderly
// end.
func (c *Conn) MoveTo(dst *net.TCPConn, moved *atomic.Uint64) error {
	p, to, err := pipeFor(dst)
	if err != nil {
		return err
	}
	defer p.close()
	for {
		n, err := c.in.splice(p)
		if n == 0 || err != nil {
			return err
		}
		if err := p.drain(to); err != nil {
			return err
		}
		moved.Add(uint64(n))
	}
}

func pipeFor(conn *net.TCPConn) (*pipe, syscall.RawConn, error) {
	socket, err := conn.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	p, err := newPipe()
	return p, socket, err
}

// splice sends what is in p.
func (w *writer) splice(p *pipe) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	// The kernel ends a record after 17 pieces of memory, too, so there may be more than are counted here, of small
	// ones. What counts is how much is encrypted under a key (RFC 8446 §5.5), and small ones add little to that.
	if err := w.readyLocked(p.bytes); err != nil {
		return err
	}
	err := p.drain(w.c.socket)
	if err != nil {
		w.err = err
	}
	return err
}

// splice fills p, which is empty, with what was received, and returns how much that is; 0 is the session's end.
func (in *reader) splice(p *pipe) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for {
		if len(in.plain) > 0 {
			n, err := p.write(in.plain)
			in.plain = in.plain[n:]
			in.tidy()
			return n, err
		}
		if in.err != nil {
			return 0, endOrError(in.err)
		}
		n, err := p.fillFromSession(in.c.socket)
		if n > 0 {
			in.useless = 0
			return n, nil
		}
		if err := in.unsplicedLocked(err); err != nil {
			return 0, endOrError(err)
		}
	}
}

// unsplicedLocked deals with what splice(2) could not move: a record that is not data or is empty, the connection's
// end, or an error.
func (in *reader) unsplicedLocked(why error) error {
	errno, ofKernel := why.(unix.Errno)
	switch {
	case why == nil, errno == unix.EINVAL:
	case ofKernel:
		in.end(readError(errno))
		return in.err
	default:
		return in.waitFailedLocked(why)
	}
	_, err := in.fillLocked(nil, false)
	switch {
	case err != errNothing:
		return err
	case errno == unix.EINVAL: // it was an error that the socket has told once
		in.end(readError(errno))
		return in.err
	}
	if in.useless++; in.useless > tlsrecord.MaxUseless { // empty ones
		in.end(tlsrecord.ErrUnexpected)
	}
	return in.err
}

// endOrError makes the session's orderly end nil.
func endOrError(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// pipe is where data passes between two sockets. Each time it is emptied before it is filled again: of a record that
// finds no room for all its pieces Linux loses the rest (tls_sw_splice_read, in 6.1 and later).
type pipe struct {
	r, w  int
	bytes int // in it

	// Made once: attempts at a socket, and what came of the last one.
	take, takeRecords, give func(fd uintptr) bool
	err                     error
	late                    error // what fillFromSession keeps
}

// pipeBytes is the size of a pipe with so many slots.
var pipeBytes = pipeSlots * os.Getpagesize()

func newPipe() (*pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoPipe, err)
	}
	p := &pipe{r: fds[0], w: fds[1]}
	if _, err := unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, pipeBytes); err != nil {
		p.close()
		return nil, fmt.Errorf("%w of %d bytes: %w", ErrNoPipe, pipeBytes, err)
	}
	p.take, p.takeRecords, p.give = p.tryTake, p.tryTakeRecords, p.tryGive
	return p, nil
}

func (p *pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// fill takes what a socket has received and returns how much that is; 0 is its end.
func (p *pipe) fill(socket syscall.RawConn) (int, error) {
	err := socket.Read(p.take)
	if err == nil {
		err = p.err
	}
	if err != nil {
		err = fmt.Errorf("ktls: splice: %w", err)
	}
	return p.bytes, err
}

// fillFromSession is fill for the socket of a session. The error is a unix.Errno, or that of the wait. One that came
// after data is kept for the next call, since the socket may tell it only once.
func (p *pipe) fillFromSession(socket syscall.RawConn) (int, error) {
	if err := p.late; err != nil {
		p.late = nil
		return 0, err
	}
	if err := socket.Read(p.takeRecords); err != nil {
		return 0, err
	}
	if p.bytes == 0 {
		return 0, p.err
	}
	if p.err != unix.EAGAIN {
		p.late = p.err
	}
	return p.bytes, nil
}

// drain gives all of it to a socket.
func (p *pipe) drain(socket syscall.RawConn) error {
	for p.bytes > 0 {
		err := socket.Write(p.give)
		if err == nil {
			err = p.err
		}
		if err != nil {
			return fmt.Errorf("ktls: splice: %w", err)
		}
	}
	return nil
}

// write puts b into the empty pipe, as much as fits.
func (p *pipe) write(b []byte) (int, error) {
	for {
		n, err := unix.Write(p.w, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("ktls: pipe: %w", err)
		}
		p.bytes = n
		return n, nil
	}
}

func (p *pipe) tryTake(fd uintptr) bool {
	p.bytes, p.err = splice(int(fd), p.w, pipeBytes)
	return p.err != unix.EAGAIN
}

// tryTakeRecords takes several: a call moves one at most.
func (p *pipe) tryTakeRecords(fd uintptr) bool {
	p.bytes = 0
	for range pipeSlots / recordSlots {
		var n int
		n, p.err = splice(int(fd), p.w, pipeBytes)
		p.bytes += n
		if n < tlsrecord.MaxPlaintextBytes { // or after each small call there would be one in vain
			break
		}
	}
	return p.bytes > 0 || p.err != unix.EAGAIN
}

// tryGive has what the socket took sent before it waits for room. Up to Linux 6.4 splice(2) tells a session that more
// follows (MSG_SENDPAGE_NOTLAST), even where the socket's buffer is full then: with nothing on its way to the peer, no
// acknowledgement would come to have it sent, and there would never be room.
func (p *pipe) tryGive(fd uintptr) bool {
	var n int
	n, p.err = splice(p.r, int(fd), p.bytes)
	p.bytes -= n
	if p.err != unix.EAGAIN {
		return true
	}
	if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil { // which sends what waits
		p.err = err
		return true
	}
	return false
}

// splice is splice(2) on ends that don't wait. n is 0 where there is an error.
func splice(from, to, bytes int) (n int, err error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, bytes, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if err == nil {
			return int(n), nil
		}
		if err != unix.EINTR {
			return 0, err
		}
	}
}
