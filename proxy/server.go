package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/nfseal/nfseal/proxy/ktls"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/transport"
)

// ErrClosed says that the Server was closed before.
var ErrClosed = errors.New("proxy: server is closed")

// Why a connection above the limit was closed, and one below it.
var (
	errCrowded  = errors.New("proxy: too many connections")
	errMakeRoom = errors.New("proxy: too many connections, and most of them from this address")
)

// notAdmitted is in the log for connections that came to nothing.
const notAdmitted = "connection not admitted"

// Stats are counters since the start, and Active, which is now.
type Stats struct {
	// Front counts what became of connections before their session.
	Front transport.FrontStats
	// KTLS counts who carries TLS sessions.
	KTLS ktls.Stats
	// Buffers say what long calls and their replies take.
	Buffers rpc.BufferStats
	// Active connections are being served.
	Active int64
	// Accepted counts TCP connections, AcceptErrors failed accepts.
	Accepted, AcceptErrors uint64
	// Refused were above MaxConnections, or closed to make room there; Unresolved got an error from the Resolver.
	Refused, Unresolved uint64
	// Served counts the connections that had a session and are over, Forced those of them that Close
	// did not wait for.
	Served, Forced uint64
}

// Server accepts and serves connections. Its methods may be called concurrently.
type Server struct {
	o     Options
	log   *zap.Logger
	front *transport.Front
	lobby *transport.Lobby
	room  *places

	ctx       context.Context // ends when draining begins
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	accepting context.Context // ends before ctx
	stop      context.CancelFunc
	acceptors sync.WaitGroup

	mu        sync.Mutex
	closing   bool
	serving   bool
	listeners []*listener
	broken    chan error            // has room for one
	conns     map[net.Conn]struct{} // every open connection, as accepted

	active                                                      atomic.Int64
	accepted, acceptErrors, refused, unresolved, served, forced atomic.Uint64
}

// New checks the options. The listeners belong to the Server from then on, and only then; it is to be closed.
func New(o Options) (*Server, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	front, err := transport.NewFront(transport.FrontOptions{
		TLS: o.TLS, ClientCAs: o.ClientCAs, KTLS: o.KTLS, MaxPending: o.MaxPending,
		SniffTimeout: o.SniffTimeout, HandshakeTimeout: o.HandshakeTimeout,
	})
	if err != nil {
		return nil, err
	}
	// Whoever can reach the port can cause lines in the log.
	sampled := zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(c, time.Second, logFirst, logEvery)
	})
	s := &Server{
		o: o, log: o.Log.WithOptions(sampled), front: front, room: newPlaces(o.MaxConnections),
		conns: make(map[net.Conn]struct{}), broken: make(chan error, 1),
	}
	if s.listeners, err = openListeners(o.Listeners); err != nil {
		return nil, err
	}
	if s.lobby, err = front.OpenLobby(s.adopt, s.turnedAway); err != nil {
		closeListeners(s.listeners, false)
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.accepting, s.stop = context.WithCancel(s.ctx)
	return s, nil
}

// Stats gives the counters.
func (s *Server) Stats() Stats {
	return Stats{
		Front: s.front.Stats(), KTLS: s.o.KTLS.Stats(), Buffers: s.o.RPC.Buffers.Stats(), Active: s.active.Load(),
		Accepted: s.accepted.Load(), AcceptErrors: s.acceptErrors.Load(),
		Refused: s.refused.Load(), Unresolved: s.unresolved.Load(),
		Served: s.served.Load(), Forced: s.forced.Load(),
	}
}

// Addrs gives the listeners' addresses.
func (s *Server) Addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	addrs := make([]net.Addr, len(s.listeners))
	for i, l := range s.listeners {
		addrs[i] = l.Addr()
	}
	return addrs
}

// Serve accepts and serves until ctx is done, Close is called or a listener breaks; then it drains. It
// returns nil in the first two cases. It can be called once.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.start(); err != nil {
		return err
	}
	var err error
	select {
	case <-ctx.Done():
	case <-s.ctx.Done():
	case err = <-s.broken:
	}
	return errors.Join(err, s.Close())
}

// Add has Serve, now or when it is called, accept from l too. l belongs to the Server unless Add fails,
// which it does after Close.
func (s *Server) Add(l net.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return ErrClosed
	}
	added, err := openListener(l)
	if err != nil {
		return err
	}
	s.listeners = append(s.listeners, added)
	if s.serving {
		s.acceptFrom(added)
	}
	return nil
}

// acceptFrom starts the goroutine of a listener. s.mu is held.
func (s *Server) acceptFrom(l *listener) {
	s.acceptors.Go(func() {
		if err := s.accept(l); err != nil {
			select {
			case s.broken <- err:
			default: // one is enough to end Serve
			}
		}
	})
}

func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return ErrClosed
	}
	if s.serving {
		return errors.New("proxy: Serve was called before")
	}
	s.serving = true
	for _, l := range s.listeners {
		s.acceptFrom(l)
	}
	return nil
}

// Close drains and waits for every goroutine. Connections that are not done in time are closed
// under their calls. A second call waits likewise.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closing = true
	listeners := s.listeners // does not grow any more
	s.mu.Unlock()
	s.stop()
	closeListeners(listeners, true)
	s.acceptors.Wait() // each has a listener's socket until it returns
	s.cancel()
	s.lobby.Close()
	// The calls' own context ends with DrainTimeout; a little more lets their replies go out.
	force := time.AfterFunc(s.o.DrainTimeout+forceGrace, s.closeConns)
	defer force.Stop()
	s.wg.Wait()
	return nil
}

// closeConns closes all connections under their calls.
func (s *Server) closeConns() {
	s.mu.Lock()
	conns := s.conns
	s.conns = nil // whoever closes at the same time finds none left
	s.mu.Unlock()
	for conn := range conns {
		s.forced.Add(1)
		conn.Close()
	}
}

// accept takes connections from l until the server closes or l breaks.
func (s *Server) accept(l *listener) error {
	pause := time.Duration(0)
	for {
		n, err := s.lobby.Accept(l.raw)
		s.accepted.Add(uint64(n))
		if err == nil {
			pause = 0
			continue
		}
		if s.accepting.Err() != nil {
			return nil
		}
		if brokenListener(err) {
			return fmt.Errorf("proxy: listener %s: %w", l.Addr(), err)
		}
		s.acceptErrors.Add(1)
		s.log.Warn("connection not accepted", zap.Error(err))
		pause = min(max(2*pause, minAcceptPause), maxAcceptPause)
		select {
		case <-time.After(pause):
		case <-s.accepting.Done():
			return nil
		}
	}
}

// turnedAway puts into the log whom the lobby has let go.
func (s *Server) turnedAway(peer netip.AddrPort, err error) {
	if line := s.log.Check(zap.InfoLevel, notAdmitted); line != nil {
		line.Write(zap.Stringer("peer", peer), zap.Error(err))
	}
}

// adopt starts the goroutine of a connection that has left the lobby.
func (s *Server) adopt(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		conn.Close()
		return
	}
	s.conns[conn] = struct{}{}
	s.wg.Go(func() {
		s.run(conn)
		conn.Close()
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	})
}

// run is the life of one connection.
func (s *Server) run(raw net.Conn) {
	tune(raw)
	log := s.log.With(zap.Stringer("peer", raw.RemoteAddr()))
	conn, id, err := s.front.Admit(s.ctx, raw)
	if err != nil {
		log.Info(notAdmitted, zap.Error(err))
		return
	}
	defer conn.Close()
	mine, victim := s.room.enter(raw)
	if mine == nil {
		s.refused.Add(1)
		log.Warn("connection refused", zap.Error(errCrowded))
		return
	}
	defer s.room.leave(mine)
	s.active.Add(1)
	defer s.active.Add(-1)
	if victim != nil {
		s.refused.Add(1)
		s.log.Warn("connection closed", zap.Stringer("peer", victim.RemoteAddr()), zap.Error(errMakeRoom))
		victim.Close()
	}
	id.HangUp = func() { raw.Close() }
	session, err := s.resolve(id)
	if err != nil {
		s.unresolved.Add(1)
		log.Warn("connection without a session", zap.String("file_system", id.FileSystem), zap.Error(err))
		return
	}
	defer s.served.Add(1)
	defer session.Close()
	log.Info("connection opened", zap.String("transport", transportName(id)), zap.String("server_name", id.ServerName))
	err = rpc.ServeConn(s.ctx, conn, session, s.o.RPC)
	log.Info("connection closed", zap.Error(err))
}

// transportName is "TLS 1.2", "TLS 1.3" or "plaintext".
func transportName(id transport.Identity) string {
	if !id.Secure {
		return "plaintext"
	}
	return tls.VersionName(id.TLSVersion)
}

func (s *Server) resolve(id transport.Identity) (Session, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.o.ResolveTimeout)
	defer cancel()
	return s.o.Resolver.Resolve(ctx, id)
}
