package ktls

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nfseal/nfseal/internal/nowait"
	"github.com/nfseal/nfseal/proxy/tlsrecord"
)

// ErrRenew: the keys of a session had to change, and the kernel takes no new ones. Who connects again goes
// on.
var ErrRenew = errors.New("ktls: new keys are due, and the kernel takes none")

// Conn is a TLS session that the kernel carries. It is a net.Conn; one goroutine may read while others write.
type Conn struct {
	raw      *net.TCPConn
	socket   syscall.RawConn
	carrier  *Carrier
	isServer bool
	v13      bool
	in       reader
	out      writer
	closed   atomic.Bool
	renewing atomic.Bool // the sending direction has ended with ErrRenew
}

// newConn is for a socket that has both keys. Those of TLS 1.2, which never change, are not kept.
func newConn(carrier *Carrier, raw *net.TCPConn, socket syscall.RawConn, isServer bool, in, out *tlsrecord.Traffic) *Conn {
	c := &Conn{raw: raw, socket: socket, carrier: carrier, isServer: isServer, v13: in.IsTLS13()}
	c.in.c, c.out.c = c, c
	c.in.attempt, c.out.attempt = c.in.receive, c.out.sendControl
	c.in.inbox = nowait.NewInbox(socket)
	if c.v13 {
		c.in.keys, c.out.keys = *in, *out
	}
	return c
}

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

// CloseWrite sends close_notify, after which nothing more can be written. The connection itself stays as it
// is.
func (c *Conn) CloseWrite() error {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.shutLocked(tlsrecord.AlertCloseNotify)
}

// Close sends close_notify if nothing is being written, closes the connection and gives all memory back.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	defer c.carrier.open.Add(-1)
	var alert error
	if c.out.mu.TryLock() {
		alert = c.out.shutLocked(tlsrecord.AlertCloseNotify)
		c.out.mu.Unlock()
	}
	err := c.raw.Close()
	c.in.mu.Lock() // whoever reads has been woken up
	c.in.end(net.ErrClosed)
	c.in.mu.Unlock()
	c.out.mu.Lock() // so has whoever writes
	c.out.keys.Wipe()
	c.out.mu.Unlock()
	if err != nil {
		return err
	}
	if alert != nil && !errors.Is(alert, tlsrecord.ErrShut) && !hungUp(alert) {
		return alert
	}
	return nil
}

// hungUp says whether err only means that the peer has gone.
func hungUp(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// abort tells the peer why the session ends, if there is something to say.
func (c *Conn) abort(why error) {
	alert, ok := tlsrecord.AlertFor(why)
	if why == ErrRenew {
		alert, ok = tlsrecord.AlertInternalError, true
	}
	if !ok {
		return
	}
	c.raw.SetWriteDeadline(time.Now().Add(tlsrecord.AlertTimeout)) // for a write that is under way, too
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	takeError(c.socket)     // what was received keeps nothing from being sent
	c.out.shutLocked(alert) // the session is over either way
}

// renew counts a session that ends because the kernel takes no new keys.
func (c *Conn) renew() error {
	c.carrier.renew.Add(1)
	return ErrRenew
}

// writer is the sending direction.
type writer struct {
	c       *Conn
	attempt func(uintptr) bool // sendControl, made once

	updateWanted atomic.Bool // new keys are to be announced before the next data

	mu      sync.Mutex
	keys    tlsrecord.Traffic // of TLS 1.3
	records uint64            // at least as many as were sent under them
	iov     [][]byte
	buffers net.Buffers
	err     error // why nothing can be written any more

	// What sendControl sends, and what came of it.
	message, kind []byte
	errno         error
}
