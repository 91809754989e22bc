package transport_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// admission is what Admit gave.
type admission struct {
	conn net.Conn
	id   transport.Identity
	err  error
	took time.Duration
}

// frontPeer admits every connection and reports what came of it.
func frontPeer(t *testing.T, o transport.FrontOptions) (*transport.Front, string, <-chan admission) {
	t.Helper()
	ca := transporttest.NewCA(t)
	cert := ca.Issue(t, nil)
	config, err := transport.ServerConfig(transport.ServerOptions{Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if o.TLS == nil {
		o.TLS = config
	}
	front, err := transport.NewFront(o)
	if err != nil {
		t.Fatal(err)
	}
	results := make(chan admission, 1024)
	address := peer(t, func(conn net.Conn) {
		start := time.Now()
		admitted, id, err := front.Admit(t.Context(), conn)
		a := admission{admitted, id, err, time.Since(start)}
		if err == nil {
			one := make([]byte, 1)
			io.ReadFull(admitted, one)
		}
		results <- a
	})
	return front, address, results
}

func connect(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

func next(t *testing.T, results <-chan admission) admission {
	t.Helper()
	select {
	case a := <-results:
		return a
	case <-time.After(10 * time.Second):
		t.Fatal("nothing admitted or refused")
		return admission{}
	}
}

func TestAdmitPlaintext(t *testing.T) {
	_, address, results := frontPeer(t, transport.FrontOptions{})
	conn := connect(t, address)
	conn.Write([]byte{0x80, 0, 0, 0x2c})
	a := next(t, results)
	if a.err != nil {
		t.Fatal(a.err)
	}
	if _, ok := a.conn.(*net.TCPConn); !ok {
		t.Errorf("a plaintext connection became %T", a.conn)
	}
	if a.id.Secure || a.id.ServerName != "" || a.id.Peer.String() != conn.LocalAddr().String() || a.id.Local.String() != address {
		t.Errorf("identity %+v", a.id)
	}
}

func TestAdmitTLS(t *testing.T) {
	for name, c := range map[string]struct{ sni, fileSystem string }{
		"wildcard":       {"fs-0123456789abcdef0.efs.local-1.nfseal.internal", "fs-0123456789abcdef0"},
		"upper case":     {"FS-0ABCDEF.EFS.local-1.nfseal.internal", "fs-0abcdef"},
		"zone before":    {"use1-az1.fs-0a1.efs.local-1.nfseal.internal", "fs-0a1"},
		"other name":     {"box.example.org", ""},
		"no id":          {"fs-xyz.efs.local-1.nfseal.internal", ""},
		"none":           {"", ""},
		"with a zero id": {"fs-.efs", ""},
	} {
		t.Run(name, func(t *testing.T) {
			front, address, results := frontPeer(t, transport.FrontOptions{})
			conn := tls.Client(connect(t, address), &tls.Config{InsecureSkipVerify: true, ServerName: c.sni})
			if _, err := conn.Write([]byte{1}); err != nil {
				t.Fatal(err)
			}
			a := next(t, results)
			if a.err != nil || !a.id.Secure || a.id.FileSystem != c.fileSystem {
				t.Errorf("%+v", a)
			}
			if a.id.ClientCertificate != nil {
				t.Error("a client certificate out of nowhere")
			}
			if s := front.Stats(); s.TLS != 1 || s.Pending != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestAdmitTakesAnyClientCertificate(t *testing.T) {
	_, address, results := frontPeer(t, transport.FrontOptions{})
	cert := transporttest.NewCA(t).Issue(t, nil)
	conn := tls.Client(connect(t, address), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{*cert}})
	if _, err := conn.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if a := next(t, results); a.err != nil || a.id.ClientCertificate == nil || !a.id.ClientCertificate.Equal(cert.Leaf) {
		t.Errorf("%+v", a)
	}
}

func TestAdmitRefuses(t *testing.T) {
	const sniffTime, handshakeTime = 100 * time.Millisecond, 200 * time.Millisecond
	hello := clientHello(t)
	for name, c := range map[string]struct {
		do   func(*net.TCPConn)
		want error
	}{
		"silent":            {func(*net.TCPConn) {}, transport.ErrSilent},
		"closes":            {func(c *net.TCPConn) { c.Close() }, transport.ErrGone},
		"closes half":       {func(c *net.TCPConn) { c.CloseWrite() }, transport.ErrGone},
		"resets":            {func(c *net.TCPConn) { c.SetLinger(0); c.Close() }, transport.ErrGone},
		"first byte only":   {func(c *net.TCPConn) { c.Write(hello[:1]) }, transport.ErrSlow},
		"half a record":     {func(c *net.TCPConn) { c.Write(hello[:len(hello)/2]) }, transport.ErrSlow},
		"hello, then quiet": {func(c *net.TCPConn) { c.Write(hello) }, transport.ErrSlow},
		"cut record":        {func(c *net.TCPConn) { c.Write(hello[:len(hello)/2]); c.CloseWrite() }, transport.ErrHandshake},
		"garbage":           {func(c *net.TCPConn) { c.Write([]byte("\x16\x03\x01garbagegarbagegarbage")); c.CloseWrite() }, transport.ErrHandshake},
		"not a handshake":   {func(c *net.TCPConn) { c.Write(append([]byte{0x16, 0x99}, hello...)); c.CloseWrite() }, transport.ErrHandshake},
		"huge record":       {func(c *net.TCPConn) { c.Write([]byte{0x16, 3, 1, 0xff, 0xff}) }, transport.ErrHandshake},
	} {
		t.Run(name, func(t *testing.T) {
			transporttest.CheckGoroutines(t)
			front, address, results := frontPeer(t, transport.FrontOptions{SniffTimeout: sniffTime, HandshakeTimeout: handshakeTime})
			conn := connect(t, address)
			c.do(conn)
			a := next(t, results)
			if !errors.Is(a.err, c.want) {
				t.Errorf("error %v, want %v", a.err, c.want)
			}
			if a.took > sniffTime+handshakeTime+2*time.Second {
				t.Errorf("took %v", a.took)
			}
			s := front.Stats()
			if sum := s.Silent + s.Gone + s.Slow + s.Handshake + s.Crowded; sum != 1 || s.Pending != 0 {
				t.Errorf("stats %+v", s)
			}
			// The connection is really closed.
			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
				t.Error("the connection is still open")
			}
		})
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// clientHello is the first record of a good client.
func clientHello(t testing.TB) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	go tls.Client(theirs, &tls.Config{ServerName: "a", MaxVersion: tls.VersionTLS12}).HandshakeContext(t.Context())
	buf := make([]byte, 4096)
	n, err := ours.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// TestDrippingHelloIsAdmitted: a ClientHello that comes a byte at a time is waited for, and what was told to the
// kernel for that time does not hold back what comes after it.
func TestDrippingHelloIsAdmitted(t *testing.T) {
	front, address, results := frontPeer(t, transport.FrontOptions{})
	slow := &byByte{Conn: connect(t, address)}
	if _, err := tls.Client(slow, &tls.Config{InsecureSkipVerify: true}).Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	// What the client sends after its hello is shorter: it would never be read.
	if a := next(t, results); a.err != nil || front.Stats().TLS != 1 {
		t.Errorf("%v, %+v", a.err, front.Stats())
	}
}

// byByte sends each byte by itself.
type byByte struct{ net.Conn }

func (c *byByte) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
		time.Sleep(100 * time.Microsecond)
	}
	return len(b), nil
}

func TestOldestPendingMakesRoom(t *testing.T) {
	front, address, results := frontPeer(t, transport.FrontOptions{MaxPending: 4})
	idle := make([]*net.TCPConn, 4)
	for i := range idle {
		idle[i] = connect(t, address)
		waitFor(t, func() bool { return front.Stats().Pending == int64(i+1) })
	}
	good := tls.Client(connect(t, address), &tls.Config{InsecureSkipVerify: true})
	if _, err := good.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	refused, admitted := 0, 0
	for range 2 {
		if a := next(t, results); a.err == nil {
			admitted++
		} else if errors.Is(a.err, transport.ErrCrowded) {
			refused++
		}
	}
	if refused != 1 || admitted != 1 || front.Stats().Crowded != 1 {
		t.Errorf("%d refused, %d admitted, stats %+v", refused, admitted, front.Stats())
	}
	idle[0].SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := idle[0].Read(make([]byte, 1)); isTimeout(err) {
		t.Error("the oldest connection is still open")
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("it didn't happen")
}

func TestAdmitEndsWithItsContext(t *testing.T) {
	front, err := transport.NewFront(transport.FrontOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	address := peer(t, func(conn net.Conn) {
		_, _, err := front.Admit(ctx, conn)
		done <- err
	})
	connect(t, address)
	waitFor(t, func() bool { return front.Stats().Pending == 1 })
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("admitted")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("still waiting")
	}
}

func TestFrontWithoutTLS(t *testing.T) {
	front, err := transport.NewFront(transport.FrontOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	address := peer(t, func(conn net.Conn) {
		_, _, err := front.Admit(t.Context(), conn)
		done <- err
	})
	connect(t, address).Write([]byte{0x16, 3, 1})
	if err := <-done; !errors.Is(err, transport.ErrNoTLS) {
		t.Errorf("error %v", err)
	}
}

func TestBadFrontOptions(t *testing.T) {
	for _, o := range []transport.FrontOptions{{MaxPending: -1}, {SniffTimeout: -1}, {HandshakeTimeout: -1}} {
		if _, err := transport.NewFront(o); err == nil {
			t.Errorf("accepted %+v", o)
		}
	}
	if _, err := transport.ServerConfig(transport.ServerOptions{}); err == nil {
		t.Error("accepted a server without certificates")
	}
}

// FuzzAdmit sends arbitrary first bytes and the end: whatever they are, the front decides, and a
// plaintext connection has all its bytes still.
func FuzzAdmit(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x16})
	f.Add([]byte{0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0})
	f.Add([]byte{0x80, 0, 0, 4, 1, 2, 3, 4})
	f.Add(clientHello(f))
	f.Add(transport.Probe(7))
	f.Add(transport.Probe(7)[:30])
	ca := transporttest.NewCA(f)
	cert := ca.Issue(f, nil)
	config, err := transport.ServerConfig(transport.ServerOptions{Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }})
	if err != nil {
		f.Fatal(err)
	}
	front, err := transport.NewFront(transport.FrontOptions{TLS: config, SniffTimeout: 5 * time.Second, HandshakeTimeout: 5 * time.Second})
	if err != nil {
		f.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	defer l.Close()
	f.Fuzz(func(t *testing.T, data []byte) {
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		client.Write(data)
		client.(*net.TCPConn).CloseWrite()
		admitted, id, err := front.Admit(t.Context(), conn)
		if len(data) > 0 && data[0] != 0x16 && !transport.IsProbe(data[:min(len(data), len(transport.Probe(0)))]) {
			if err != nil || id.Secure {
				t.Fatalf("% x: %+v, %v", data, id, err)
			}
			got, err := io.ReadAll(admitted)
			if err != nil || string(got) != string(data) {
				t.Fatalf("sent % x, got % x, %v", data, got, err)
			}
			return
		}
		if err == nil {
			t.Fatalf("admitted % x", data)
		}
	})
}
