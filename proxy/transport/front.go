package transport

import (
	"container/list"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nfseal/nfseal/proxy/ktls"
	"github.com/nfseal/nfseal/proxy/tlsrecord"
)

// FrontOptions configure a Front.
type FrontOptions struct {
	// TLS is the policy, from ServerConfig. Nil refuses TLS connections.
	TLS *tls.Config
	// ClientCAs, if they are set, are those that clients' certificates must come from: what is refused is
	// a *ClientError.
	ClientCAs *x509.CertPool
	// KTLS decides who carries sessions; nil leaves all in user space.
	KTLS *ktls.Carrier
	// MaxPending bounds the connections in Admit, and those in the Lobby.
	MaxPending int
	// SniffTimeout and HandshakeTimeout bound how long one may take.
	SniffTimeout, HandshakeTimeout time.Duration
}

// EnsureDefaults fills what was left zero.
func (o *FrontOptions) EnsureDefaults() {
	if o.MaxPending == 0 {
		o.MaxPending = DefaultMaxPending
	}
	if o.SniffTimeout == 0 {
		o.SniffTimeout = DefaultSniffTimeout
	}
	if o.HandshakeTimeout == 0 {
		o.HandshakeTimeout = DefaultHandshakeTimeout
	}
}

// Validate says what can't work.
func (o *FrontOptions) Validate() error {
	if o.MaxPending < 1 || o.SniffTimeout <= 0 || o.HandshakeTimeout <= 0 {
		return errors.New("transport: MaxPending, SniffTimeout and HandshakeTimeout must be positive")
	}
	return nil
}

// Reasons for which Admit refuses a connection; the error wraps one of them.
var (
	ErrSilent    = errors.New("transport: no bytes within the time allowed")
	ErrGone      = errors.New("transport: closed by the peer before it said anything")
	ErrHandshake = errors.New("transport: TLS handshake failed")
	ErrSlow      = errors.New("transport: TLS handshake not finished within the time allowed")
	ErrCrowded   = errors.New("transport: closed to make room for newer connections")
	ErrNoTLS     = errors.New("transport: TLS is not offered here")
)

// FrontStats are counters since the start, and Pending, which is now.
type FrontStats struct {
	Pending                                int64
	TLS, Plain                             uint64
	Silent, Gone, Handshake, Slow, Crowded uint64
	// Probes are those of RFC 9289 that were answered with STARTTLS, ProbesRefused those that were not,
	// because TLS 1.3 is not offered.
	Probes, ProbesRefused uint64
	// ClientRefused counts refused client certificates by cause.
	ClientRefused [CauseNoCertificate + 1]uint64
}

// Front admits connections: sniffing, TLS, and the bounds on both. Its methods may be called
// concurrently.
type Front struct {
	o      FrontOptions
	probed *tls.Config // the policy after a probe; nil refuses

	mu      sync.Mutex
	pending list.List // of *pendingConn, oldest first

	waiting atomic.Int64 // in the Lobby

	tls, plain                             atomic.Uint64
	silent, gone, handshake, slow, crowded atomic.Uint64
	probes, probesRefused                  atomic.Uint64
	refused                                [CauseNoCertificate + 1]atomic.Uint64
}

type pendingConn struct {
	conn    net.Conn
	crowded atomic.Bool
}

// NewFront checks the options and makes a Front.
func NewFront(o FrontOptions) (*Front, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Front{o: o, probed: afterProbe(o.TLS)}, nil
}

// Stats gives the counters.
func (f *Front) Stats() FrontStats {
	f.mu.Lock()
	pending := f.pending.Len()
	f.mu.Unlock()
	stats := FrontStats{
		Pending: int64(pending) + f.waiting.Load(), TLS: f.tls.Load(), Plain: f.plain.Load(),
		Silent: f.silent.Load(), Gone: f.gone.Load(), Handshake: f.handshake.Load(),
		Slow: f.slow.Load(), Crowded: f.crowded.Load(),
		Probes: f.probes.Load(), ProbesRefused: f.probesRefused.Load(),
	}
	for cause := range f.refused {
		stats.ClientRefused[cause] = f.refused[cause].Load()
	}
	return stats
}

// Admit finds out what a fresh connection speaks and finishes the TLS handshake if it is TLS. It
// returns the connection to go on with, without deadlines: a ktls.Session, or conn itself with
// nothing read from it. conn must be a socket. On an error Admit has closed it. It takes no longer than
// the two time-outs together, and ends early when ctx is done.
func (f *Front) Admit(ctx context.Context, conn net.Conn) (net.Conn, Identity, error) {
	p, leave := f.enter(conn)
	defer leave()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	admitted, id, err := f.admit(ctx, conn)
	if err == nil && p.crowded.Load() {
		err = ErrCrowded
	}
	if err == nil {
		return admitted, id, nil
	}
	conn.Close()
	if p.crowded.Load() {
		err = ErrCrowded
	}
	f.count(err)
	return nil, Identity{}, err
}

// enter puts conn among the pending ones and, when there are too many, closes the oldest.
func (f *Front) enter(conn net.Conn) (*pendingConn, func()) {
	p := &pendingConn{conn: conn}
	f.mu.Lock()
	e := f.pending.PushBack(p)
	var victim *pendingConn
	if f.pending.Len() > f.o.MaxPending {
		victim = f.pending.Remove(f.pending.Front()).(*pendingConn)
	}
	f.mu.Unlock()
	if victim != nil {
		victim.crowded.Store(true)
		victim.conn.Close()
	}
	return p, func() {
		f.mu.Lock()
		f.pending.Remove(e) // does nothing when e was the victim
		f.mu.Unlock()
	}
}

func (f *Front) admit(ctx context.Context, conn net.Conn) (net.Conn, Identity, error) {
	if err := conn.SetDeadline(time.Now().Add(f.o.SniffTimeout)); err != nil {
		return nil, Identity{}, fmt.Errorf("%w: %w", ErrGone, err)
	}
	kind, err := sniff(conn)
	if err != nil {
		return nil, Identity{}, err
	}
	policy := f.o.TLS
	switch {
	case kind == openingProbe && f.probed != nil:
		f.probes.Add(1)
		policy = f.probed
		if err := answerProbe(conn); err != nil {
			return nil, Identity{}, err
		}
	case kind == openingProbe:
		f.probesRefused.Add(1) // package rpc answers AUTH_BADCRED
		fallthrough
	case kind == openingPlain:
		f.plain.Add(1)
		return conn, plainIdentity(conn), conn.SetDeadline(time.Time{})
	case policy == nil:
		return nil, Identity{}, ErrNoTLS
	}
	return f.shake(ctx, conn, policy)
}

// shake runs the handshake.
func (f *Front) shake(ctx context.Context, conn net.Conn, policy *tls.Config) (net.Conn, Identity, error) {
	if err := conn.SetDeadline(time.Now().Add(f.o.HandshakeTimeout)); err != nil {
		return nil, Identity{}, fmt.Errorf("%w: %w", ErrGone, err)
	}
	err := awaitHello(conn)
	var secure ktls.Session
	var state tls.ConnectionState
	if err == nil {
		secure, state, err = f.server(ctx, conn, policy)
	}
	switch {
	case err != nil && isTimeout(err):
		return nil, Identity{}, ErrSlow
	case err != nil:
		return nil, Identity{}, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	if f.o.ClientCAs != nil {
		ctx, cancel := context.WithTimeout(ctx, f.o.HandshakeTimeout)
		defer cancel()
		if err := checkClient(ctx, &state, f.o.ClientCAs, addrPort(conn.RemoteAddr()).Addr()); err != nil {
			secure.Close()
			return nil, Identity{}, err
		}
	}
	f.tls.Add(1)
	return secure, secureIdentity(conn, &state), conn.SetDeadline(time.Time{})
}

// server runs the handshake and has the session carried.
func (f *Front) server(ctx context.Context, conn net.Conn, policy *tls.Config) (ktls.Session, tls.ConnectionState, error) {
	k, err := tlsrecord.ServerKeys(ctx, conn, policy)
	if err != nil {
		return nil, tls.ConnectionState{}, err
	}
	secure, err := f.o.KTLS.Carry(k)
	return secure, k.State, err
}

func (f *Front) count(err error) {
	var client *ClientError
	switch {
	case errors.As(err, &client):
		f.refused[client.Cause].Add(1)
	case errors.Is(err, ErrCrowded):
		f.crowded.Add(1)
	case errors.Is(err, ErrSilent):
		f.silent.Add(1)
	case errors.Is(err, ErrGone):
		f.gone.Add(1)
	case errors.Is(err, ErrSlow):
		f.slow.Add(1)
	default:
		f.handshake.Add(1)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
