package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// buffers are those of connections that have ended, for the next ones.
var buffers = sync.Pool{New: func() any { return new([bufferBytes]byte) }}

// carry is the life of one local connection.
func (t *Tunnel) carry(local Conn) {
	defer local.Close()
	stop := context.AfterFunc(t.ctx, func() { local.Close() })
	defer stop()

	// Nothing is dialled for one that only looks whether somebody listens.
	buf := buffers.Get().(*[bufferBytes]byte)
	defer buffers.Put(buf)
	n, err := local.Read(buf[:])
	if n == 0 || err != nil {
		return
	}
	server, err := t.reach()
	if err != nil {
		reset(local)
		t.ended(true)
		return
	}
	defer server.Close()
	stopServer := context.AfterFunc(t.ctx, func() { server.SetDeadline(longAgo) })
	defer stopServer()
	lost, err := t.join(local, server, buf[:], n)
	if err != nil {
		reset(local)
	}
	t.ended(lost)
}

// ended notes how a connection ended.
func (t *Tunnel) ended(lost bool) {
	if !lost {
		t.lostAt.Store(0)
		return
	}
	t.lost.Add(1)
	t.lostAt.Store(time.Now().UnixNano())
}

// reach dials for as long as a local connection is held.
func (t *Tunnel) reach() (Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.o.HoldTimeout)
	defer cancel()
	return t.dial(ctx)
}

// join copies both ways until both have ended or one failed. buf[:n] was read from local. lost says
// that it wasn't the kernel who ended it.
func (t *Tunnel) join(local, server Conn, buf []byte, n int) (lost bool, err error) {
	downErr := make(chan error, 1)
	var kernelDone atomic.Bool
	t.wg.Go(func() {
		buf := buffers.Get().(*[bufferBytes]byte)
		defer buffers.Put(buf)
		err := pump(local, server, buf[:], 0, &t.down)
		lost = !kernelDone.Load()
		t.settle(err, local, server)
		downErr <- err
	})
	upErr := pump(server, local, buf, n, &t.up)
	kernelDone.Store(upErr == nil)
	t.settle(upErr, server, local)
	err = errors.Join(upErr, <-downErr)
	return lost, err
}

// longAgo as a deadline ends what is under way on a connection.
var longAgo = time.Unix(1, 0)

// settle ends what from has sent to to: by passing the end on and giving the other direction a
// while, or after an error by ending both.
func (t *Tunnel) settle(err error, to, from Conn) {
	if err != nil {
		to.SetDeadline(longAgo)
		from.SetDeadline(longAgo)
		return
	}
	to.CloseWrite()
	to.SetReadDeadline(time.Now().Add(lingerTimeout))
	if t.ctx.Err() != nil { // or the deadline that Close set would be undone
		to.SetDeadline(longAgo)
	}
}

// pump writes buf[:n] to to, and after it all that from sends. Nil is from's end.
func pump(to io.Writer, from io.Reader, buf []byte, n int, count *atomic.Uint64) error {
	for {
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
			count.Add(uint64(n))
		}
		var err error
		n, err = from.Read(buf)
		if err == nil || n > 0 {
			continue
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
}

// reset makes the coming Close tell the kernel that the connection broke: it then connects again at
// once, where after an orderly end it would wait some seconds.
func reset(local Conn) {
	if tcp, ok := local.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
}
