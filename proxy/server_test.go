package proxy_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// Procedures of the test program.
const (
	procNull = 0
	procWait = 1 // waits for the resolver's gate
	procBig  = 2 // answers half a megabyte
)

const testProgram = 400100

// resolver gives sessions of the test program and remembers what it was asked.
type resolver struct {
	gate chan struct{}
	err  error

	mu      sync.Mutex
	asked   []transport.Identity
	waiting atomic.Int64
	open    atomic.Int64
}

func (r *resolver) Resolve(_ context.Context, id transport.Identity) (proxy.Session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, id)
	if r.err != nil {
		return nil, r.err
	}
	r.open.Add(1)
	return &session{r: r}, nil
}

func (r *resolver) last(t *testing.T) transport.Identity {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.asked) == 0 {
		t.Fatal("nobody asked the resolver")
	}
	return r.asked[len(r.asked)-1]
}

type session struct {
	r      *resolver
	closed atomic.Bool
}

func (s *session) Handle(ctx context.Context, call *rpc.Call, reply *xdr.Encoder) {
	switch {
	case call.Program != testProgram:
		call.ProgUnavail(reply)
	case call.Procedure == procWait:
		s.r.waiting.Add(1)
		select {
		case <-s.r.gate:
			call.Succeed(reply)
		case <-ctx.Done():
			call.SystemErr(reply)
		}
	case call.Procedure == procBig:
		call.Succeed(reply)
		reply.Reserve(512 << 10)
	default:
		call.Succeed(reply)
	}
}

func (s *session) Close() {
	if s.closed.Swap(true) {
		panic("session closed twice")
	}
	s.r.open.Add(-1)
}

// fixture is a running server.
type fixture struct {
	*proxy.Server
	r       *resolver
	ca      *transporttest.CA
	cert    *tls.Certificate
	address string
	log     *observer.ObservedLogs
	served  chan error
}

// config is the policy with f's certificate.
func (f *fixture) config(t *testing.T, only12 bool) *tls.Config {
	t.Helper()
	config, err := transport.ServerConfig(transport.ServerOptions{
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.cert, nil }, OnlyTLS12: only12,
	})
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func start(t *testing.T, edit func(*proxy.Options, *fixture)) *fixture {
	t.Helper()
	transporttest.CheckGoroutines(t)
	f := &fixture{r: &resolver{gate: make(chan struct{})}, ca: transporttest.NewCA(t), served: make(chan error, 1)}
	f.cert = f.ca.Issue(t, nil)
	f.cert.OCSPStaple = f.ca.Respond(t, f.cert.Leaf, nil)
	l, err := proxy.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zap.InfoLevel)
	f.address, f.log = l.Addr().String(), logs
	o := proxy.Options{Listeners: []net.Listener{l}, TLS: f.config(t, false), Resolver: f.r, Log: zap.New(core)}
	if edit != nil {
		edit(&o, f)
	}
	f.Server, err = proxy.New(o)
	if err != nil {
		t.Fatal(err)
	}
	go func() { f.served <- f.Serve(context.Background()) }()
	t.Cleanup(func() {
		f.Close()
		if n := f.r.open.Load(); n != 0 {
			t.Errorf("%d sessions were not closed", n)
		}
		if s := f.Stats(); s.Active != 0 || s.Front.Pending != 0 {
			t.Errorf("after Close: %+v", s)
		}
	})
	return f
}

func (f *fixture) plain(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

func (f *fixture) secure(t *testing.T) net.Conn {
	t.Helper()
	conn, err := transport.Dial(t.Context(), f.address, transport.ClientOptions{Roots: f.ca.Pool(), ServerName: transporttest.ServerName})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// record is a call in one fragment.
func record(program, procedure uint32) []byte {
	e := xdr.NewEncoder(make([]byte, 256))
	e.Uint32(0)
	rpc.AppendCall(&e, 7, program, 1, procedure, &rpc.Auth{})
	b := e.Bytes()
	binary.BigEndian.PutUint32(b, 1<<31|uint32(len(b)-4))
	return b
}

// answer reads one reply and gives its accept status.
func answer(conn net.Conn) (rpc.AcceptStatus, error) {
	var mark [4]byte
	if _, err := io.ReadFull(conn, mark[:]); err != nil {
		return 0, err
	}
	body := make([]byte, binary.BigEndian.Uint32(mark[:])&^(1<<31))
	if _, err := io.ReadFull(conn, body); err != nil {
		return 0, err
	}
	if len(body) < 24 || binary.BigEndian.Uint32(body) != 7 {
		return 0, fmt.Errorf("reply % x", body)
	}
	return rpc.AcceptStatus(binary.BigEndian.Uint32(body[20:])), nil
}

func call(conn net.Conn, program, procedure uint32) (rpc.AcceptStatus, error) {
	if _, err := conn.Write(record(program, procedure)); err != nil {
		return 0, err
	}
	return answer(conn)
}

// mustServe makes one call that succeeds.
func mustServe(t *testing.T, conn net.Conn) {
	t.Helper()
	if status, err := call(conn, testProgram, procNull); err != nil || status != rpc.Success {
		t.Fatalf("a plain call: status %d, %v", status, err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("never: " + what)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func TestBothKindsOnOnePort(t *testing.T) {
	f := start(t, nil)
	plain := f.plain(t)
	mustServe(t, plain)
	if id := f.r.last(t); id.Secure || id.FileSystem != "" || id.Peer.String() != plain.LocalAddr().String() {
		t.Errorf("identity in the clear: %+v", id)
	}
	secure := f.secure(t)
	mustServe(t, secure)
	if id := f.r.last(t); !id.Secure || id.ServerName != transporttest.ServerName || id.FileSystem != "fs-0123456789abcdef0" {
		t.Errorf("identity over TLS: %+v", id)
	}
	if s := f.Stats(); s.Accepted != 2 || s.Active != 2 || s.Front.TLS != 1 || s.Front.Plain != 1 {
		t.Errorf("stats %+v", s)
	}
	plain.Close()
	secure.Close()
	waitFor(t, "both over", func() bool { return f.Stats().Served == 2 })
	var transports []any
	for _, line := range f.log.FilterMessage("connection opened").All() {
		transports = append(transports, line.ContextMap()["transport"])
	}
	if want := []any{"plaintext", "TLS 1.3"}; !slices.Equal(transports, want) {
		t.Errorf("connections in the log: %v, not %v", transports, want)
	}
}

func TestUnknownProgramKeepsTheConnection(t *testing.T) {
	f := start(t, nil)
	conn := f.secure(t)
	if status, err := call(conn, 400123, 2); err != nil || status != rpc.ProgUnavail {
		t.Errorf("status %d, %v", status, err)
	}
	mustServe(t, conn)
}

func TestResolverSaysNo(t *testing.T) {
	f := start(t, func(_ *proxy.Options, f *fixture) { f.r.err = errors.New("no such thing") })
	conn := f.secure(t)
	conn.Write(record(testProgram, procNull))
	if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("read: %v", err)
	}
	waitFor(t, "counted", func() bool { return f.Stats().Unresolved == 1 })
}

func TestHangUp(t *testing.T) {
	f := start(t, nil)
	conn := f.secure(t)
	mustServe(t, conn)
	f.r.last(t).HangUp()
	if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("read: %v", err)
	}
}

func TestTooManyConnections(t *testing.T) {
	f := start(t, func(o *proxy.Options, _ *fixture) { o.MaxConnections = 2 })
	first := f.secure(t)
	mustServe(t, first)
	mustServe(t, f.plain(t))
	third := f.plain(t)
	third.Write(record(testProgram, procNull))
	if _, err := third.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the third connection is served: %v", err)
	}
	if s := f.Stats(); s.Refused != 1 || s.Active > 3 {
		t.Errorf("stats %+v", s)
	}
	first.Close()
	waitFor(t, "a place", func() bool { return f.Stats().Active == 1 })
	mustServe(t, f.plain(t))
}

func TestCloseLetsCallsFinish(t *testing.T) {
	f := start(t, nil)
	idle := f.secure(t)
	mustServe(t, idle)
	busy := f.secure(t)
	busy.Write(record(testProgram, procWait))
	silent := f.plain(t)
	waitFor(t, "the call", func() bool { return f.r.waiting.Load() == 1 && f.Stats().Front.Pending == 1 })

	closed := make(chan struct{})
	go func() {
		f.Close()
		close(closed)
	}()
	for name, conn := range map[string]net.Conn{"idle": idle, "silent": silent} {
		if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Errorf("%s connection: %v", name, err)
		}
	}
	if conn, err := net.Dial("tcp", f.address); err == nil {
		conn.Close()
		t.Error("still accepting")
	}
	select {
	case <-closed:
		t.Fatal("Close didn't wait for the call")
	case <-time.After(50 * time.Millisecond):
	}
	close(f.r.gate)
	if status, err := answer(busy); err != nil || status != rpc.Success {
		t.Errorf("the call under way: status %d, %v", status, err)
	}
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Fatal("Close doesn't return")
	}
	if err := <-f.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if err := f.Serve(t.Context()); !errors.Is(err, proxy.ErrClosed) {
		t.Errorf("serving again: %v", err)
	}
	if n := f.Stats().Forced; n != 0 {
		t.Errorf("%d connections were closed by force", n)
	}
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	var stats rpc.Stats
	f := start(t, func(o *proxy.Options, _ *fixture) {
		o.DrainTimeout, o.RPC.Stats = 300*time.Millisecond, &stats
	})
	waiting := f.secure(t)
	waiting.Write(record(testProgram, procWait)) // until its context ends
	deaf := f.plain(t)
	deaf.(*net.TCPConn).SetReadBuffer(4096)
	for range 64 {
		deaf.Write(record(testProgram, procBig)) // 32 MiB of replies that nobody fetches
	}
	waitFor(t, "calls", func() bool { return f.r.waiting.Load() == 1 && stats.Calls.Load() == 65 })
	begun := time.Now()
	f.Close()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	if status, err := answer(waiting); err != nil || status != rpc.SystemErr {
		t.Errorf("the call whose context ended: status %d, %v", status, err)
	}
	if n := f.Stats().Forced; n != 1 {
		t.Errorf("%d connections were closed by force, want 1", n)
	}
}

func TestContextDrains(t *testing.T) {
	l, err := proxy.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := proxy.New(proxy.Options{Listeners: []net.Listener{l}, Resolver: &resolver{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", l.Addr().String()); err == nil {
		t.Error("still listening")
	}
}

func TestBrokenListenerEndsServe(t *testing.T) {
	var listener net.Listener
	f := start(t, func(o *proxy.Options, _ *fixture) { listener = o.Listeners[0] })
	mustServe(t, f.plain(t))
	raw, err := listener.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var broken error
	if err := raw.Control(func(fd uintptr) { broken = unix.Shutdown(int(fd), unix.SHUT_RDWR) }); err != nil || broken != nil {
		t.Fatal(err, broken)
	}
	if err := <-f.served; !errors.Is(err, unix.EINVAL) {
		t.Errorf("Serve: %v", err)
	}
}

func TestBadOptions(t *testing.T) {
	l, err := proxy.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	good := proxy.Options{Listeners: []net.Listener{l}, Resolver: &resolver{}}
	for name, edit := range map[string]func(*proxy.Options){
		"listeners":   func(o *proxy.Options) { o.Listeners = nil },
		"resolver":    func(o *proxy.Options) { o.Resolver = nil },
		"connections": func(o *proxy.Options) { o.MaxConnections = -1 },
		"drain":       func(o *proxy.Options) { o.DrainTimeout = -1 },
		"rpc":         func(o *proxy.Options) { o.RPC.MaxInFlight = -1 },
		"front":       func(o *proxy.Options) { o.MaxPending = -1 },
	} {
		o := good
		edit(&o)
		if _, err := proxy.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := proxy.Listen(t.Context(), "127.0.0.1:99999"); err == nil {
		t.Error("listens on port 99999")
	}
}

// TestSlowloris holds 200 connections open that never get anywhere, in each of three ways, while a
// real one works.
func TestSlowloris(t *testing.T) {
	const count, sniff, handshake = 200, 500 * time.Millisecond, time.Second
	f := start(t, func(o *proxy.Options, _ *fixture) { o.SniffTimeout, o.HandshakeTimeout = sniff, handshake })
	good := f.secure(t)
	mustServe(t, good)
	conns := make([]net.Conn, count)
	begun := time.Now()
	for i := range conns {
		conns[i] = f.plain(t)
		switch i % 3 {
		case 1:
			conns[i].Write([]byte{0x16})
		case 2:
			conns[i].Write([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc})
		}
	}
	for i := range 20 {
		mustServe(t, good)
		if i == 10 {
			mustServe(t, f.secure(t)) // a new one gets in, too
		}
	}
	for i, conn := range conns {
		if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
			t.Fatalf("connection %d is still open", i)
		}
	}
	if took := time.Since(begun); took > sniff+handshake+5*time.Second {
		t.Errorf("the last one was gone after %v", took)
	}
	mustServe(t, good)
	waitFor(t, "all counted", func() bool {
		s := f.Stats().Front
		return s.Silent+s.Slow == count && s.Pending == 0
	})
	// Whoever can connect can't fill the log.
	if n := f.log.Len(); n > 50 {
		t.Errorf("%d lines in the log", n)
	}
}

func TestGarbageOnThePort(t *testing.T) {
	f := start(t, nil)
	good := f.secure(t)
	mustServe(t, good)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	null := record(testProgram, procNull)
	for name, bytes := range map[string][]byte{
		"2 GiB record":         {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"2 GiB in fragments":   {0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"HTTP":                 []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
		"zeros":                make([]byte, 1<<16),
		"half a record mark":   null[:2],
		"half a record":        null[:len(null)/2],
		"record of nothing":    {0x80, 0, 0, 0},
		"reply":                {0x80, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1},
		"TLS, then garbage":    []byte("\x16\x03\x01\x00\x05garbage"),
		"TLS alert":            {0x15, 3, 1, 0, 2, 2, 40},
		"TLS application data": {0x17, 3, 3, 0, 4, 1, 2, 3, 4},
	} {
		for range 20 {
			conn := f.plain(t)
			conn.Write(bytes)
			conn.(*net.TCPConn).CloseWrite()
			if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
				t.Errorf("%s: the connection is still open", name)
			}
			conn.Close()
		}
	}
	// Inside TLS as well.
	inside := f.secure(t)
	inside.Write([]byte{0xff, 0xff, 0xff, 0xff})
	if _, err := io.Copy(io.Discard, inside); isTimeout(err) {
		t.Error("2 GiB record inside TLS: the connection is still open")
	}
	mustServe(t, good)
	waitFor(t, "all over", func() bool { return f.Stats().Active == 1 })
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
}
