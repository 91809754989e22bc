package tlsrecord

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nfseal/nfseal/internal/nowait"
)

// Conn is a TLS session under way. It is a net.Conn; one goroutine may read while others write.
type Conn struct {
	raw    net.Conn
	in     reader
	out    writer
	closed atomic.Bool

	isServer bool
	expects  atomic.Bool   // what comes is waited for by an Expect: see nowait
	source   nowait.Expect // what MoveFrom waits by
}

// newConn carries a session on raw: in protects what is received, out what is sent.
func newConn(raw net.Conn, in, out *direction) (*Conn, error) {
	c := &Conn{raw: raw}
	if err := errors.Join(c.in.init(in), c.out.init(out)); err != nil {
		return nil, err
	}
	c.in.c, c.out.raw, c.out.to = c, raw, raw
	if socket := nowait.NewSocket(raw); socket != nil {
		c.out.to = socket
	}
	c.in.attempt = c.in.receive
	nowait.Pair(&c.in.expect, &c.source)
	if socket, ok := raw.(syscall.Conn); ok {
		var err error
		if c.in.socket, err = socket.SyscallConn(); err != nil {
			return nil, fmt.Errorf("tlsrecord: %w", err)
		}
		c.in.inbox = nowait.NewInbox(c.in.socket)
	}
	return c, nil
}

// Expect says whether Read waits as a nowait.Expect does. At first it does not.
func (c *Conn) Expect(on bool) { c.expects.Store(on) }

// LocalAddr implements net.Conn.
func (c *Conn) LocalAddr() net.Addr { return c.raw.LocalAddr() }

// RemoteAddr implements net.Conn.
func (c *Conn) RemoteAddr() net.Addr { return c.raw.RemoteAddr() }

// SetDeadline implements net.Conn. A write that runs into its deadline ends the session; a read does not.
func (c *Conn) SetDeadline(t time.Time) error { return c.raw.SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.raw.SetWriteDeadline(t) }

// CloseWrite sends close_notify, after which nothing more can be written. The connection itself stays as
// it is.
func (c *Conn) CloseWrite() error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.shutLocked(AlertCloseNotify)
}

// Close sends close_notify if nothing is being written, closes the connection and gives all memory back.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	var alert error
	if c.out.mu.TryLock() {
		alert = c.out.shutLocked(AlertCloseNotify)
		c.out.mu.Unlock()
	}
	err := c.raw.Close()
	c.in.mu.Lock() // whoever reads has been woken up
	c.in.end(net.ErrClosed)
	c.in.mu.Unlock()
	if err != nil {
		return err
	}
	if alert != nil && !errors.Is(alert, ErrShut) && !errors.Is(alert, syscall.EPIPE) && !errors.Is(alert, syscall.ECONNRESET) {
		return alert
	}
	return nil
}

// abort tells the peer why the session ends, if there is something to say.
func (c *Conn) abort(why error) {
	alert, ok := AlertFor(why)
	if !ok {
		return
	}
	c.raw.SetWriteDeadline(time.Now().Add(AlertTimeout)) // for a write that is under way, too
	c.out.mu.Lock()
	c.out.shutLocked(alert) // the session is over either way
	c.out.mu.Unlock()
}

// writer is the sending direction.
type writer struct {
	raw net.Conn
	to  io.Writer // raw, or its socket

	updateWanted atomic.Bool // new keys are to be announced before the next data

	mu sync.Mutex
	half
	one [1][]byte // what Write has
	err error     // why nothing can be written any more
}
