package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nfseal/nfseal/proxy/ktls"
)

// buffers are those of connections that have ended, for the next ones.
var buffers = sync.Pool{New: func() any { return new([bufferBytes]byte) }}

// carry is the life of one local connection.
func (t *Tunnel) carry(local Conn) {
	defer local.Close()
	stop := context.AfterFunc(t.ctx, func() { local.Close() })
	defer stop()

	// Nothing is dialled for one that only looks whether somebody listens.
	first := make([]byte, firstBytes)
	n, err := local.Read(first)
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
	lost, err := t.join(local, server, first[:n])
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

// join moves data both ways until both have ended or one failed. first was read from local. lost says
// that it wasn't the kernel who ended it.
func (t *Tunnel) join(local, server Conn, first []byte) (lost bool, err error) {
	downErr := make(chan error, 1)
	var kernelDone atomic.Bool
	t.wg.Go(func() {
		err := t.fromServer(local, server)
		lost = !kernelDone.Load()
		t.settle(err, local, server)
		downErr <- err
	})
	upErr := t.toServer(server, local, first)
	kernelDone.Store(upErr == nil)
	t.settle(upErr, server, local)
	err = errors.Join(upErr, <-downErr)
	return lost, err
}

// toServer moves what the kernel's client sends, of which first was read, until its end.
func (t *Tunnel) toServer(server, local Conn, first []byte) error {
	if _, err := server.Write(first); err != nil {
		return err
	}
	t.up.Add(uint64(len(first)))
	if session, socket, ok := movable(server, local); ok {
		if err := session.MoveFrom(socket, &t.up); !errors.Is(err, ktls.ErrNoPipe) {
			return err
		}
	}
	return pump(server, local, &t.up)
}

// fromServer moves what the server sends until its end.
func (t *Tunnel) fromServer(local, server Conn) error {
	if session, socket, ok := movable(server, local); ok {
		if err := session.MoveTo(socket, &t.down); !errors.Is(err, ktls.ErrNoPipe) {
			return err
		}
	}
	return pump(local, server, &t.down)
}

// movable says whether data can go from one to the other without a copy here.
func movable(server, local Conn) (session ktls.Session, socket *net.TCPConn, ok bool) {
	session, isSession := server.(ktls.Session)
	socket, isTCP := local.(*net.TCPConn)
	return session, socket, isSession && isTCP
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

// pump copies to to all that from sends. Nil is from's end.
func pump(to io.Writer, from io.Reader, count *atomic.Uint64) error {
	buf := buffers.Get().(*[bufferBytes]byte)
	defer buffers.Put(buf)
	for {
		n, err := from.Read(buf[:])
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
			count.Add(uint64(n))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// reset makes the coming Close tell the kernel that the connection broke: it then connects again at
// once, where after an orderly end it would wait some seconds.
func reset(local Conn) {
	if tcp, ok := local.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
}
