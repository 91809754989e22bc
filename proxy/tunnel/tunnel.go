package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nfseal/nfseal/proxy/transport"
)

// ErrClosed says that the Tunnel was closed before.
var ErrClosed = errors.New("tunnel: closed")

// Conn is a connection whose sending direction can be ended by itself.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Options configure a Tunnel.
type Options struct {
	// Listener is where the kernel connects; the Tunnel owns and closes it. See Listen.
	Listener net.Listener
	// Dial makes a verified connection to the server.
	Dial func(ctx context.Context) (Conn, error)
	// MaxConnections bounds the local connections; one more is closed at once.
	MaxConnections int
	// HoldTimeout is how long a local connection waits for the server.
	HoldTimeout time.Duration
	// OnDial is told when the server can't be reached (err) and when it can again (nil): changes
	// of the cause only, from one goroutine at a time. May be nil.
	OnDial func(err error)
	// Admit says why a local connection is not to be carried; nil admits all. See OwnedByRoot.
	Admit func(net.Conn) error
	// OnRefuse is told of each connection that Admit refused, one at a time. May be nil.
	OnRefuse func(err error)
}

// EnsureDefaults fills what was left zero.
func (o *Options) EnsureDefaults() {
	if o.MaxConnections == 0 {
		o.MaxConnections = DefaultMaxConnections
	}
	if o.HoldTimeout == 0 {
		o.HoldTimeout = DefaultHoldTimeout
	}
	if o.OnDial == nil {
		o.OnDial = func(error) {}
	}
	if o.Admit == nil {
		o.Admit = func(net.Conn) error { return nil }
	}
	if o.OnRefuse == nil {
		o.OnRefuse = func(error) {}
	}
}

// Validate says what can't work.
func (o *Options) Validate() error {
	switch {
	case o.Listener == nil:
		return errors.New("tunnel: no listener")
	case o.Dial == nil:
		return errors.New("tunnel: no way to dial")
	case o.MaxConnections < 1 || o.HoldTimeout <= 0:
		return errors.New("tunnel: MaxConnections and HoldTimeout must be positive")
	}
	return nil
}

// Stats are counters since the start, and Active, which is now.
type Stats struct {
	// Active local connections, whether or not they have a server connection.
	Active int64
	// Accepted local connections, of them Refused above the limit or by Admit.
	Accepted, Refused uint64
	// Dialled server connections and DialErrors.
	Dialled, DialErrors uint64
	// Lost connections ended otherwise than by the kernel's will: it will connect again.
	Lost uint64
	// LostAt is when the connection that ended last was lost; zero if the kernel ended it.
	LostAt time.Time
	// Up and Down are bytes to and from the server.
	Up, Down uint64
}

// Tunnel carries connections. Its methods may be called concurrently.
type Tunnel struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	closing  bool
	serving  bool
	lastDial error // of its last dial, nil after a good one

	// dialMu keeps calls of OnDial apart. It is taken before mu.
	dialMu sync.Mutex

	active                                                 atomic.Int64
	lostAt                                                 atomic.Int64 // in nanoseconds of Unix time, or 0
	accepted, refused, dialled, dialErrors, lost, up, down atomic.Uint64
}

// New checks the options. The listener belongs to the Tunnel from then on, and only then.
func New(o Options) (*Tunnel, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	t := &Tunnel{o: o}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

// Listen listens on the first free port of 127.0.0.1 from FirstPort to LastPort.
func Listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	for port := FirstPort; port <= LastPort; port++ {
		l, err := lc.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("tunnel: %w", err)
		}
	}
	return nil, fmt.Errorf("tunnel: no port from %d to %d is free on 127.0.0.1", FirstPort, LastPort)
}

// Stats gives the counters.
func (t *Tunnel) Stats() Stats {
	var lostAt time.Time
	if ns := t.lostAt.Load(); ns != 0 {
		lostAt = time.Unix(0, ns)
	}
	return Stats{
		LostAt: lostAt, Active: t.active.Load(), Accepted: t.accepted.Load(), Refused: t.refused.Load(),
		Dialled: t.dialled.Load(), DialErrors: t.dialErrors.Load(), Lost: t.lost.Load(),
		Up: t.up.Load(), Down: t.down.Load(),
	}
}

// Serve accepts and carries connections until ctx is done, Close is called or the listener breaks.
// It returns nil in the first two cases, and only when all goroutines have gone. It can be called
// once.
func (t *Tunnel) Serve(ctx context.Context) error {
	t.mu.Lock()
	if t.closing || t.serving {
		t.mu.Unlock()
		return ErrClosed
	}
	t.serving = true
	t.wg.Add(1)
	t.mu.Unlock()
	stop := context.AfterFunc(ctx, t.shut)
	defer stop()
	err := t.accept()
	t.wg.Done()
	return errors.Join(err, t.Close())
}

// Close ends all connections and waits for every goroutine.
func (t *Tunnel) Close() error {
	t.shut()
	t.wg.Wait()
	return nil
}

func (t *Tunnel) shut() {
	t.mu.Lock()
	t.closing = true
	t.mu.Unlock()
	t.cancel()
	t.o.Listener.Close()
}

func (t *Tunnel) accept() error {
	pause := time.Duration(0)
	for {
		conn, err := t.o.Listener.Accept()
		if err == nil {
			pause = 0
			t.adopt(conn)
			continue
		}
		if t.ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("tunnel: %w", err)
		}
		pause = min(max(2*pause, minAcceptPause), maxAcceptPause)
		if !t.sleep(t.ctx, pause) {
			return nil
		}
	}
}

func (t *Tunnel) adopt(conn net.Conn) {
	t.accepted.Add(1)
	local, ok := conn.(Conn)
	// Before it counts: those who may not connect can't take the places of those who may.
	if err := t.o.Admit(conn); err != nil {
		t.refused.Add(1)
		t.o.OnRefuse(err)
		conn.Close()
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !ok || t.closing || t.active.Load() >= int64(t.o.MaxConnections) {
		t.refused.Add(1)
		conn.Close()
		return
	}
	t.active.Add(1)
	t.wg.Go(func() {
		defer t.active.Add(-1)
		t.carry(local)
	})
}

// sleep says whether the time went by before ctx ended.
func (t *Tunnel) sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// dial tries until it has a connection or ctx ends.
func (t *Tunnel) dial(ctx context.Context) (Conn, error) {
	pause := minDialPause
	for {
		server, err := t.o.Dial(ctx)
		if err == nil {
			t.dialled.Add(1)
			t.report(nil)
			return server, nil
		}
		if ctx.Err() == nil {
			t.dialErrors.Add(1)
			t.report(err)
		}
		if !t.sleep(ctx, pause) {
			return nil, err
		}
		pause = min(2*pause, maxDialPause)
	}
}

// report tells OnDial of a change.
func (t *Tunnel) report(err error) {
	t.dialMu.Lock()
	defer t.dialMu.Unlock()
	t.mu.Lock()
	changed := !sameCause(err, t.lastDial)
	t.lastDial = err
	t.mu.Unlock()
	if changed {
		t.o.OnDial(err)
	}
}

// sameCause compares refusals by their cause, since details such as ports differ each time.
func sameCause(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	var ca, cb *transport.Error
	if errors.As(a, &ca) && errors.As(b, &cb) {
		return ca.Cause == cb.Cause
	}
	return a.Error() == b.Error()
}
