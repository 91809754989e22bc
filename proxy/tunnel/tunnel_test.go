package tunnel_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/ktls"
	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
	"github.com/nfseal/nfseal/proxy/tunnel"
)

// server is a TLS server on one address that can be stopped, which breaks its connections, and started
// again.
type server struct {
	address string
	config  *tls.Config
	serve   func(*tls.Conn)

	mu    sync.Mutex
	l     net.Listener
	conns []net.Conn
	wg    sync.WaitGroup
}

func newServer(t *testing.T, cert *tls.Certificate, serve func(*tls.Conn)) *server {
	t.Helper()
	config, err := transport.ServerConfig(transport.ServerOptions{Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{address: "127.0.0.1:0", config: config, serve: serve}
	s.start(t)
	s.address = s.l.Addr().String()
	t.Cleanup(s.stop)
	return s
}

func (s *server) start(t *testing.T) {
	t.Helper()
	var l net.Listener
	var err error
	for range 100 { // somebody else may have the port for a moment
		if l, err = net.Listen("tcp", s.address); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.l = l
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			s.wg.Go(func() {
				defer conn.Close()
				s.serve(tls.Server(conn, s.config))
			})
		}
	})
}

func (s *server) stop() {
	s.l.Close()
	s.mu.Lock()
	for _, conn := range s.conns {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.wg.Wait()
}

func echo(conn *tls.Conn) {
	io.Copy(conn, conn)
	conn.CloseWrite()
}

// eachCarrier runs f with sessions in user space, and in the kernel where that has TLS. Where NFSEAL_KTLS is "require",
// one without is an error.
func eachCarrier(t *testing.T, f func(t *testing.T, carrier *ktls.Carrier)) {
	t.Run("user space", func(t *testing.T) { f(t, nil) })
	t.Run("kernel", func(t *testing.T) {
		carrier, err := ktls.New(ktls.Options{Use: ktls.UseOn, Renew: true})
		if err != nil && os.Getenv("NFSEAL_KTLS") == "require" {
			t.Fatal(err)
		}
		if err != nil {
			t.Skip(err, "(runs in user-mode Linux: make test has test/e2e run it there)")
		}
		f(t, carrier)
		if stats := carrier.Stats(); stats.Kernel == 0 || stats.User != (ktls.Stats{}).User {
			t.Errorf("the kernel did not carry all: %+v", stats)
		}
	})
}

// start runs a tunnel to s until the end of the test and gives its address.
func start(t *testing.T, s *server, ca *transporttest.CA, carrier *ktls.Carrier, edit func(*tunnel.Options)) (*tunnel.Tunnel, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client := transport.ClientOptions{Roots: ca.Pool(), ServerName: transporttest.ServerName, Carrier: carrier}
	o := tunnel.Options{Listener: l, Dial: func(ctx context.Context) (tunnel.Conn, error) {
		return transport.Dial(ctx, s.address, client)
	}}
	if edit != nil {
		edit(&o)
	}
	tun, err := tunnel.New(o)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- tun.Serve(context.Background()) }()
	t.Cleanup(func() {
		begun := time.Now()
		if err := tun.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 7*time.Second {
			t.Errorf("Close took %v", took)
		}
	})
	return tun, l.Addr().String()
}

func setUp(t *testing.T, serve func(*tls.Conn), edit func(*tunnel.Options)) (*tunnel.Tunnel, string, *server) {
	t.Helper()
	return setUpWith(t, nil, serve, edit)
}

// setUpWith is setUp with a choice of who carries the sessions.
func setUpWith(t *testing.T, carrier *ktls.Carrier, serve func(*tls.Conn), edit func(*tunnel.Options)) (*tunnel.Tunnel, string, *server) {
	t.Helper()
	transporttest.CheckGoroutines(t)
	ca := transporttest.NewCA(t)
	cert := ca.Issue(t, nil)
	cert.OCSPStaple = ca.Respond(t, cert.Leaf, nil)
	s := newServer(t, cert, serve)
	tun, address := start(t, s, ca, carrier, edit)
	return tun, address, s
}

func connect(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn.(*net.TCPConn)
}

func ping(conn net.Conn, text string) error {
	if _, err := conn.Write([]byte(text)); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != text {
		return errors.New("echo differs: " + string(got))
	}
	return nil
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

func TestBytesBothWays(t *testing.T) { eachCarrier(t, testBytesBothWays) }

func testBytesBothWays(t *testing.T, carrier *ktls.Carrier) {
	tun, address, _ := setUpWith(t, carrier, echo, nil)
	var wg sync.WaitGroup
	conns, size := 4, 8<<20+12345
	if carrier != nil {
		size = 2<<20 + 12345 // in a guest without instructions for AES
	}
	for range conns {
		conn := connect(t, address)
		data := make([]byte, size)
		rand.Read(data)
		wg.Go(func() {
			if _, err := conn.Write(data); err != nil {
				t.Error(err)
			}
			conn.CloseWrite()
		})
		wg.Go(func() {
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes came back of %d, %v", len(got), len(data), err)
			}
		})
	}
	wg.Wait()
	waitFor(t, "all connections over", func() bool { return tun.Stats().Active == 0 })
	if s := tun.Stats(); s.Up != uint64(conns*size) || s.Down != s.Up || s.Dialled != uint64(conns) || s.Lost != 0 || !s.LostAt.IsZero() {
		t.Errorf("stats %+v", s)
	}
}

func TestServerEndsFirst(t *testing.T) { eachCarrier(t, testServerEndsFirst) }

func testServerEndsFirst(t *testing.T, carrier *ktls.Carrier) {
	farewell := func(conn *tls.Conn) {
		conn.Read(make([]byte, 1))
		conn.Write([]byte("bye"))
		conn.CloseWrite()
		io.Copy(io.Discard, conn)
	}
	tun, address, _ := setUpWith(t, carrier, farewell, nil)
	conn := connect(t, address)
	conn.Write([]byte("x"))
	if got, err := io.ReadAll(conn); err != nil || string(got) != "bye" {
		t.Fatalf("got %q, %v", got, err)
	}
	// The other direction is still open for a while.
	if _, err := conn.Write([]byte("more")); err != nil {
		t.Error(err)
	}
	conn.Close()
	waitFor(t, "connection over", func() bool { return tun.Stats().Active == 0 })
	if s := tun.Stats(); s.Lost != 1 || time.Since(s.LostAt) > time.Minute {
		t.Errorf("stats %+v", s)
	}
}

func TestProbesAreNotDialled(t *testing.T) {
	tun, address, _ := setUp(t, echo, nil)
	for range 5 {
		connect(t, address).Close()
	}
	waitFor(t, "probes over", func() bool { s := tun.Stats(); return s.Accepted == 5 && s.Active == 0 })
	if s := tun.Stats(); s.Dialled != 0 || s.DialErrors != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestServerRestart(t *testing.T) { eachCarrier(t, testServerRestart) }

func testServerRestart(t *testing.T, carrier *ktls.Carrier) {
	var changes []error // OnDial is never called twice at once
	tun, address, s := setUpWith(t, carrier, echo, func(o *tunnel.Options) {
		o.OnDial = func(err error) { changes = append(changes, err) }
	})
	first := connect(t, address)
	if err := ping(first, "hello"); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		s.stop()
		if _, err := first.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("the kernel's connection ended with %v, not a reset", err)
		}
		// The kernel connects again while the server is away, and waits.
		next := connect(t, address)
		errorsBefore := tun.Stats().DialErrors
		answered := make(chan error, 1)
		go func() { answered <- ping(next, "are you there?") }()
		waitFor(t, "dial errors", func() bool { return tun.Stats().DialErrors > errorsBefore+2 })
		select {
		case err := <-answered:
			t.Fatalf("round %d: answered by nobody: %v", round, err)
		default:
		}
		s.start(t)
		began := time.Now()
		if err := <-answered; err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("noticed after %v that the server is back", took)
		}
		first = next
	}
	if s := tun.Stats(); s.Lost != 3 || s.LostAt.IsZero() {
		t.Errorf("stats %+v", s)
	}
	first.Close()
	waitFor(t, "connection over", func() bool { return tun.Stats().Active == 0 })
	if s := tun.Stats(); s.Lost != 3 || !s.LostAt.IsZero() {
		t.Errorf("stats after the kernel's own end %+v", s)
	}
	if err := tun.Close(); err != nil {
		t.Fatal(err)
	}
	for i, err := range changes {
		if down := i%2 == 0; down != (err != nil) {
			t.Errorf("change %d is %v", i, err)
		}
	}
	if len(changes) != 6 {
		t.Errorf("%d changes reported: %v", len(changes), changes)
	}
}

func TestHeldConnectionsAreLetGo(t *testing.T) {
	tun, address, s := setUp(t, echo, func(o *tunnel.Options) { o.HoldTimeout = 200 * time.Millisecond })
	s.stop()
	conn := connect(t, address)
	conn.Write([]byte("x"))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("ended with %v, not a reset", err)
	}
	waitFor(t, "connection over", func() bool { return tun.Stats().Active == 0 })
	s.start(t)
}

func TestServerThatCannotProveItself(t *testing.T) {
	var reported atomic.Int64
	var last atomic.Value
	ca := transporttest.NewCA(t)
	revoked := ca.Issue(t, nil) // no OCSP at all
	s := newServer(t, revoked, echo)
	tun, address := start(t, s, ca, nil, func(o *tunnel.Options) {
		o.HoldTimeout = time.Second
		o.OnDial = func(err error) { reported.Add(1); last.Store(err) }
	})
	conn := connect(t, address)
	conn.Write([]byte("secret"))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d, %v", n, err)
	}
	if s := tun.Stats(); s.Up != 0 || s.Dialled != 0 || s.DialErrors < 2 {
		t.Errorf("stats %+v", s)
	}
	if reported.Load() != 1 || !errors.Is(last.Load().(error), transport.CauseNoOCSP) {
		t.Errorf("reported %d times, %v", reported.Load(), last.Load())
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	tun, address, _ := setUp(t, echo, func(o *tunnel.Options) { o.MaxConnections = 2 })
	for range 2 {
		if err := ping(connect(t, address), "x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := ping(connect(t, address), "x"); err == nil {
		t.Error("a third connection is carried")
	}
	if s := tun.Stats(); s.Refused != 1 || s.Active != 2 {
		t.Errorf("stats %+v", s)
	}
}

// TestSpliced: data passes through pipes where the kernel carries the session, and is copied where no pipe is to be had.
func TestSpliced(t *testing.T) { eachCarrier(t, testSpliced) }

func testSpliced(t *testing.T, carrier *ktls.Carrier) {
	if carrier == nil {
		return // there is nothing to splice
	}
	none := make(chan func(), 1)
	_, address, _ := setUpWith(t, carrier, echo, func(o *tunnel.Options) {
		dial := o.Dial
		o.Dial = func(ctx context.Context) (tunnel.Conn, error) {
			conn, err := dial(ctx)
			select {
			case takeFiles := <-none:
				takeFiles()
			default:
			}
			return conn, err
		}
	})
	for _, want := range []int{4, 0} {
		conn := connect(t, address)
		files := func() {}
		if want == 0 {
			files = noMoreFiles(t, none)
		}
		err := ping(conn, "hello")
		files()
		if n := pipes(t); err != nil || n > want {
			t.Errorf("%d ends of pipes, want %d; %v", n, want, err)
		}
		// On a busy machine two of the four were seen to come after the reply.
		waitFor(t, "both directions have pipes", func() bool { return pipes(t) == want })
		conn.Close()
		waitFor(t, "the pipes are closed", func() bool { return pipes(t) == 0 })
	}
}

// noMoreFiles has the next dial use up all file descriptors, and returns what gives them back.
func noMoreFiles(t *testing.T, dials chan<- func()) (giveBack func()) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	set := func(l unix.Rlimit) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
			t.Error(err)
		}
	}
	dials <- func() { set(unix.Rlimit{Cur: 1, Max: limit.Max}) }
	return func() { set(limit) }
}

// pipes counts the file descriptors of this process that are ends of pipes of their own, not of its output.
func pipes(t *testing.T) int {
	t.Helper()
	const fds = "/proc/self/fd"
	files, err := os.ReadDir(fds)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		where, err := os.Readlink(fds + "/" + f.Name())
		if err == nil && len(f.Name()) > 1 && strings.HasPrefix(where, "pipe:") {
			n++
		}
	}
	return n
}

// TestCloseEndsEverything has connections in every state at the end.
func TestCloseEndsEverything(t *testing.T) { eachCarrier(t, testCloseEndsEverything) }

func testCloseEndsEverything(t *testing.T, carrier *ktls.Carrier) {
	stuck := func(conn *tls.Conn) {
		if conn.Handshake() == nil {
			time.Sleep(100 * time.Millisecond) // reads nothing
		}
		io.Copy(io.Discard, conn)
	}
	tun, address, _ := setUpWith(t, carrier, stuck, nil)
	connect(t, address) // silent
	flood := connect(t, address)
	go func() {
		for {
			if _, err := flood.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
	}()
	ended := connect(t, address)
	ended.Write([]byte("x"))
	ended.CloseWrite()
	waitFor(t, "data", func() bool { return tun.Stats().Up > 1<<20 })
}

func TestServeOnce(t *testing.T) {
	tun, address, _ := setUp(t, echo, nil)
	if err := ping(connect(t, address), "it serves"); err != nil {
		t.Fatal(err)
	}
	if err := tun.Serve(t.Context()); !errors.Is(err, tunnel.ErrClosed) {
		t.Errorf("serving twice: %v", err)
	}
	tun.Close()
	if err := tun.Serve(t.Context()); !errors.Is(err, tunnel.ErrClosed) {
		t.Errorf("serving after Close: %v", err)
	}
}

func TestContextEndsServe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tun, err := tunnel.New(tunnel.Options{Listener: l, Dial: func(context.Context) (tunnel.Conn, error) { return nil, errors.New("no") }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- tun.Serve(ctx) }()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestListen(t *testing.T) {
	seen := map[int]bool{}
	for range 3 {
		l, err := tunnel.Listen(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addr := l.Addr().(*net.TCPAddr)
		if addr.Port < tunnel.FirstPort || addr.Port > tunnel.LastPort || !addr.IP.IsLoopback() || seen[addr.Port] {
			t.Errorf("listens on %v", addr)
		}
		seen[addr.Port] = true
	}
}

func TestBadOptions(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial := func(context.Context) (tunnel.Conn, error) { return nil, errors.New("no") }
	for _, o := range []tunnel.Options{{Dial: dial}, {Listener: l}, {Listener: l, Dial: dial, MaxConnections: -1}, {Listener: l, Dial: dial, HoldTimeout: -1}} {
		if _, err := tunnel.New(o); err == nil {
			t.Errorf("accepted %+v", o)
		}
	}
}

// BenchmarkEcho is one connection's throughput there and back.
func BenchmarkEcho(b *testing.B) {
	ca := transporttest.NewCA(b)
	cert := ca.Issue(b, nil)
	cert.OCSPStaple = ca.Respond(b, cert.Leaf, nil)
	config, err := transport.ServerConfig(transport.ServerOptions{Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }})
	if err != nil {
		b.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err == nil {
			io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}, make([]byte, 256<<10))
		}
	}()
	local, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	tun, err := tunnel.New(tunnel.Options{Listener: local, Dial: func(ctx context.Context) (tunnel.Conn, error) {
		return transport.Dial(ctx, l.Addr().String(), transport.ClientOptions{Roots: ca.Pool(), ServerName: transporttest.ServerName})
	}})
	if err != nil {
		b.Fatal(err)
	}
	go tun.Serve(context.Background())
	defer tun.Close()
	conn, err := net.Dial("tcp", local.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	chunk := make([]byte, 1<<20)
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for range b.N {
			if _, err := conn.Write(chunk); err != nil {
				return
			}
		}
	}()
	if _, err := io.CopyN(io.Discard, conn, int64(b.N)*int64(len(chunk))); err != nil {
		b.Fatal(err)
	}
}
