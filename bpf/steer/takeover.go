package steer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNobody says that no process offers its listening sockets.
var ErrNobody = errors.New("steer: no running process offers its listening sockets")

// The messages of a takeover, each one packet. The second one carries the descriptors.
const (
	msgTake    = "nfseal takeover 1"
	msgSockets = "sockets"
	msgRetire  = "retire"
)

// An Offer lets a successor take over the listening sockets of this process: see doc.go.
type Offer struct {
	sockets []*net.TCPListener
	l       *net.UnixListener
	taken   chan struct{} // closed when a successor wants this process to retire
	once    sync.Once
	wg      sync.WaitGroup
	slots   chan struct{} // bounds the takers

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]struct{}
}

// NewOffer offers ls at the Unix socket path, in the place of whoever offers there. ls stay the
// caller's, and must stay open until Close. Only processes of this user, or root's, may take.
func NewOffer(path string, ls []*net.TCPListener) (*Offer, error) {
	if _, err := examine(ls); err != nil {
		return nil, err
	}
	l, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("steer: offer: %w", err)
	}
	o := &Offer{
		sockets: ls, l: l, taken: make(chan struct{}),
		slots: make(chan struct{}, maxTakers), conns: make(map[net.Conn]struct{}),
	}
	o.wg.Go(o.accept)
	return o, nil
}

// listenUnix puts a new socket at path with one rename: there is always one, the old or the new.
func listenUnix(path string) (*net.UnixListener, error) {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: next, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(next, 0o600), os.Rename(next, path)); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Taken is closed when a successor has the sockets and waits for this process to stop accepting,
// drain, give back what it holds, and Close the Offer as the last thing.
func (o *Offer) Taken() <-chan struct{} { return o.taken }

// Close tells a waiting successor that this process is done, and waits for the goroutines.
func (o *Offer) Close() error {
	o.mu.Lock()
	o.closed = true
	for c := range o.conns {
		c.Close()
	}
	o.mu.Unlock()
	err := o.l.Close()
	o.wg.Wait()
	return err
}

func (o *Offer) accept() {
	for {
		conn, err := o.l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors
			time.Sleep(acceptPause)
			continue
		}
		select {
		case o.slots <- struct{}{}:
			o.adopt(conn)
		default:
			conn.Close()
		}
	}
}

func (o *Offer) adopt(conn *net.UnixConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		conn.Close()
		return
	}
	o.conns[conn] = struct{}{}
	o.wg.Go(func() {
		defer func() { <-o.slots }()
		if o.serve(conn) == nil {
			o.once.Do(func() { close(o.taken) })
			return // the connection ends with Close
		}
		conn.Close()
		o.mu.Lock()
		delete(o.conns, conn)
		o.mu.Unlock()
	})
}

// serve gives one process the sockets. It returns nil when that wants this one to retire.
func (o *Offer) serve(conn *net.UnixConn) error {
	if err := checkPeer(conn); err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(takeoverTimeout))
	if err := expect(conn, msgTake); err != nil {
		return err
	}
	if err := sendSockets(conn, []byte(msgSockets), o.sockets); err != nil {
		return err
	}
	conn.SetDeadline(time.Time{}) // a successor takes its time to look around; Close ends the wait
	return expect(conn, msgRetire)
}

// Taken are the listening sockets of another process, which goes on accepting from them until
// Retire.
type Taken struct {
	// Listeners belong to the caller.
	Listeners []*net.TCPListener
	conn      *net.UnixConn
}

// Take asks the process that offers at path for its listening sockets. ErrNobody if there is none.
func Take(ctx context.Context, path string) (*Taken, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unixpacket", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, ErrNobody
	}
	if err != nil {
		return nil, fmt.Errorf("steer: take over: %w", err)
	}
	conn := c.(*net.UnixConn)
	ls, err := take(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("steer: take over: %w", err)
	}
	return &Taken{Listeners: ls, conn: conn}, nil
}

func take(conn *net.UnixConn) ([]*net.TCPListener, error) {
	if err := checkPeer(conn); err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(takeoverTimeout))
	defer conn.SetDeadline(time.Time{})
	if _, err := conn.Write([]byte(msgTake)); err != nil {
		return nil, err
	}
	return receiveSockets(conn, msgSockets)
}

// Retire tells the other process to stop accepting and drain, and waits until it has closed its
// Offer, the connection or itself. New connections wait in the accept queues meanwhile.
func (t *Taken) Retire(ctx context.Context) error {
	defer t.conn.Close()
	if _, err := t.conn.Write([]byte(msgRetire)); err != nil {
		return fmt.Errorf("steer: retire: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { t.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := expect(t.conn, "")
	if ctx.Err() != nil {
		return fmt.Errorf("steer: retire: %w", ctx.Err())
	}
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	return fmt.Errorf("steer: retire: %w", err)
}

// Close hangs up without Retire: the other process goes on. The Listeners stay open.
func (t *Taken) Close() error { return t.conn.Close() }

// expect reads one packet. io.EOF when the other side has gone.
func expect(conn *net.UnixConn, want string) error {
	buf := make([]byte, maxMessageBytes)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	if n == 0 {
		return io.EOF
	}
	if string(buf[:n]) != want {
		return fmt.Errorf("unexpected message of %d bytes", n)
	}
	return nil
}

// checkPeer lets only this user and root be the other side.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: the other process belongs to user %d", fs.ErrPermission, peer.Uid)
	}
	return nil
}
