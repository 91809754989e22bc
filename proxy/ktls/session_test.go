package ktls

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/tlsrecord"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// path is who carries a session in a test, and the version of TLS.
type path struct {
	version uint16
	carrier *Carrier
	kernel  bool
}

// carrierFor makes a Carrier for a path. Where NFSEAL_KTLS is "require", a kernel without TLS is an error.
func carrierFor(t testing.TB, kernel bool) *Carrier {
	t.Helper()
	use := UseOff
	if kernel {
		use = UseOn
	}
	c, err := New(Options{Use: use, Renew: true})
	if err != nil && os.Getenv("NFSEAL_KTLS") == "require" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err, "(runs in user-mode Linux: make test has test/e2e run it there)")
	}
	return c
}

// eachPath runs f in user space and in the kernel, with both versions.
func eachPath(t *testing.T, f func(t *testing.T, p path)) {
	for _, kernel := range []bool{false, true} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			where := map[bool]string{false: "user space", true: "kernel"}[kernel]
			t.Run(where+", "+tls.VersionName(version), func(t *testing.T) {
				f(t, path{version, carrierFor(t, kernel), kernel})
			})
		}
	}
}

// wire returns the two ends of a TCP connection.
func wire(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return dialled.(*net.TCPConn), accepted.(*net.TCPConn)
}

// configs are those of a server and a client that fit together.
func configs(t testing.TB, version uint16) (server, client *tls.Config) {
	ca := transporttest.NewCA(t)
	suites := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}
	server = &tls.Config{
		Certificates: []tls.Certificate{*ca.Issue(t, nil)}, MinVersion: version, MaxVersion: version,
		CipherSuites: suites, SessionTicketsDisabled: true,
	}
	client = &tls.Config{
		RootCAs: ca.Pool(), ServerName: transporttest.ServerName, MaxVersion: version, CipherSuites: suites,
	}
	return server, client
}

// carry runs one end of a handshake and hands the session over.
func (p path) carry(t testing.TB, raw net.Conn, config *tls.Config, server bool) (Session, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	keys := tlsrecord.ClientKeys
	if server {
		keys = tlsrecord.ServerKeys
	}
	k, err := keys(ctx, raw, config)
	if err != nil {
		return nil, err
	}
	s, err := p.carrier.Carry(k)
	if err != nil {
		return nil, err
	}
	if _, in := s.(*Conn); in != p.kernel {
		return nil, fmt.Errorf("the session is a %T; %+v", s, p.carrier.Stats())
	}
	return s, nil
}

// ends are both ends of a session: ours, and crypto/tls's or ours too.
func (p path) ends(t testing.TB, oursIsServer, both bool) (ours Session, peer net.Conn) {
	t.Helper()
	a, b := wire(t)
	serverConfig, clientConfig := configs(t, p.version)
	mine, theirs := clientConfig, serverConfig
	if oursIsServer {
		mine, theirs = serverConfig, clientConfig
	}
	result := make(chan error, 1)
	go func() {
		var err error
		switch {
		case both:
			peer, err = p.carry(t, b, theirs, !oursIsServer)
		case oursIsServer:
			peer = tls.Client(b, theirs)
		default:
			peer = tls.Server(b, theirs)
		}
		if conn, ok := peer.(*tls.Conn); ok {
			err = conn.HandshakeContext(t.Context())
		}
		result <- err
	}()
	ours, err := p.carry(t, a, mine, oursIsServer)
	if err := errors.Join(err, <-result); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	return ours, peer
}

// random returns n bytes that repeat nowhere.
func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// duplex is what both kinds of connection can do.
type duplex interface {
	net.Conn
	CloseWrite() error
}

// send writes data in pieces of all sizes, and ends the direction.
func send(to duplex, data []byte) error {
	sizes := []int{1, 0, 16383, 16384, 16385, 5, 300_000, 29, 65536, 4096}
	for i := 0; len(data) > 0; i++ {
		n := min(sizes[i%len(sizes)], len(data))
		if k, err := to.Write(data[:n]); err != nil || k != n {
			return fmt.Errorf("write of %d: %d, %w", n, k, err)
		}
		data = data[n:]
	}
	return to.CloseWrite()
}

// receive reads pieces of all sizes to the end.
func receive(from net.Conn) ([]byte, error) {
	var all []byte
	sizes := []int{1, 70_000, 13, 16384, 4096, 1 << 20}
	buf := make([]byte, 1<<20)
	for i := 0; ; i++ {
		n, err := from.Read(buf[:sizes[i%len(sizes)]])
		all = append(all, buf[:n]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// TestBothWays: every pairing carries the same bytes both ways at once, to an orderly end.
func TestBothWays(t *testing.T) { eachPath(t, testBothWays) }

func testBothWays(t *testing.T, p path) {
	data := random(3 << 20)
	for _, c := range []struct{ server, both bool }{{true, false}, {false, false}, {true, true}} {
		t.Run(fmt.Sprintf("server %v both %v", c.server, c.both), func(t *testing.T) {
			ours, peer := p.ends(t, c.server, c.both)
			errs := make(chan error, 4)
			for _, ends := range [][2]duplex{{ours, peer.(duplex)}, {peer.(duplex), ours}} {
				go func() { errs <- send(ends[0], data) }()
				go func() {
					got, err := receive(ends[1])
					if err == nil && !bytes.Equal(got, data) {
						err = fmt.Errorf("%d bytes arrived, not the %d that were sent", len(got), len(data))
					}
					errs <- err
				}()
			}
			for range 4 {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestFirstData: what the peer sends in the same segment as the end of its handshake is not lost.
func TestFirstData(t *testing.T) { eachPath(t, testFirstData) }

func testFirstData(t *testing.T, p path) {
	for range 5 {
		a, b := wire(t)
		serverConfig, clientConfig := configs(t, p.version)
		go func() {
			conn := tls.Server(&held{Conn: a}, serverConfig)
			if conn.HandshakeContext(t.Context()) == nil {
				conn.Write([]byte("at "))
				conn.Write([]byte("once"))
				conn.NetConn().(*held).release()
			}
		}()
		conn, err := p.carry(t, b, clientConfig, false)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 7)
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "at once" {
			t.Fatalf("%q, %v", got, err)
		}
		conn.Close()
		a.Close()
	}
}

// held holds back what is written after the first flight until it is released.
type held struct {
	net.Conn
	writes int
	kept   []byte
}

func (h *held) Write(p []byte) (int, error) {
	if h.writes++; h.writes == 1 {
		return h.Conn.Write(p)
	}
	h.kept = append(h.kept, p...)
	return len(p), nil
}

func (h *held) release() { h.Conn.Write(h.kept) }

// TestWriteBuffers: slices of all sizes arrive as one stream.
func TestWriteBuffers(t *testing.T) { eachPath(t, testWriteBuffers) }

func testWriteBuffers(t *testing.T, p path) {
	ours, peer := p.ends(t, true, false)
	for name, sizes := range map[string][]int{
		"nothing":      {},
		"empty ones":   {0, 0},
		"small ones":   {3, 0, 200, 1, 17},
		"across":       {16380, 10, 20000, 0, 5},
		"exactly":      {16384, 16384, 1},
		"large":        {100, 1 << 20, 4, 300_000},
		"empty at end": {16384, 0},
	} {
		var v [][]byte
		var all []byte
		for _, n := range sizes {
			v = append(v, random(n))
			all = append(all, v[len(v)-1]...)
		}
		wrote := make(chan error, 1)
		go func() {
			n, err := ours.WriteBuffers(v)
			if err == nil && n != int64(len(all)) {
				err = fmt.Errorf("wrote %d of %d", n, len(all))
			}
			wrote <- err
		}()
		got := make([]byte, len(all))
		if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, all) {
			t.Errorf("%s: other bytes, or %v", name, err)
		}
		if err := <-wrote; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i, n := range sizes {
			if len(v[i]) != n {
				t.Errorf("%s: a slice has %d bytes afterwards, not %d", name, len(v[i]), n)
			}
		}
	}
}

// TestReadDeadline: a read that waited in vain can be done again.
func TestReadDeadline(t *testing.T) { eachPath(t, testReadDeadline) }

func testReadDeadline(t *testing.T, p path) {
	ours, peer := p.ends(t, true, false)
	for _, size := range []int{10, 1 << 20} {
		buf := make([]byte, size)
		ours.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
		if n, err := ours.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d, %v", n, err)
		}
		ours.SetReadDeadline(time.Time{})
		peer.Write([]byte("late"))
		if n, err := ours.Read(buf); err != nil || string(buf[:n]) != "late" {
			t.Errorf("%q, %v", buf[:n], err)
		}
	}
}

// TestWriteDeadline: a write that a peer does not fetch fails, and so do all that follow.
func TestWriteDeadline(t *testing.T) { eachPath(t, testWriteDeadline) }

func testWriteDeadline(t *testing.T, p path) {
	ours, _ := p.ends(t, true, false)
	ours.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := ours.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	ours.SetWriteDeadline(time.Time{})
	if _, err := ours.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// TestCloseUnderCalls: Close ends a read and a write that wait.
func TestCloseUnderCalls(t *testing.T) { eachPath(t, testCloseUnderCalls) }

func testCloseUnderCalls(t *testing.T, p path) {
	ours, _ := p.ends(t, true, false)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := ours.Read(make([]byte, 10)); err == nil {
			t.Error("read something")
		}
	})
	wg.Go(func() {
		if _, err := ours.Write(make([]byte, 64<<20)); err == nil {
			t.Error("wrote all")
		}
	})
	time.Sleep(50 * time.Millisecond)
	if err := ours.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := ours.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a second Close: %v", err)
	}
	if open := p.carrier.Stats().Open; open != 0 {
		t.Errorf("%d sessions are open", open)
	}
}

// TestHalfClose: after CloseWrite the other direction goes on, and the peer sees an orderly end.
func TestHalfClose(t *testing.T) { eachPath(t, testHalfClose) }

func testHalfClose(t *testing.T, p path) {
	ours, peer := p.ends(t, true, false)
	if err := ours.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Write([]byte("x")); !errors.Is(err, tlsrecord.ErrShut) {
		t.Errorf("a write after CloseWrite: %v", err)
	}
	if n, err := peer.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the peer reads %d, %v", n, err)
	}
	peer.Write([]byte("still here"))
	buf := make([]byte, 100)
	if n, err := ours.Read(buf); err != nil || string(buf[:n]) != "still here" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	peer.(duplex).CloseWrite()
	if n, err := ours.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
}

// TestTruncation: an end of the connection is not the session's end.
func TestTruncation(t *testing.T) { eachPath(t, testTruncation) }

func testTruncation(t *testing.T, p path) {
	ours, peer := p.ends(t, true, false)
	peer.Write([]byte("good"))
	peer.(*tls.Conn).NetConn().(*net.TCPConn).CloseWrite()
	got, err := receive(ours)
	if string(got) != "good" || !errors.Is(err, tlsrecord.ErrTruncated) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestNoAllocation: reads and writes of all sizes take their memory from the pool.
func TestNoAllocation(t *testing.T) { eachPath(t, testNoAllocation) }

func testNoAllocation(t *testing.T, p path) {
	ours, peer := p.ends(t, true, true)
	go io.Copy(peer, peer)
	v := [][]byte{make([]byte, 100), make([]byte, 20_000), make([]byte, 7)}
	all := make([]byte, 20_107)
	for name, f := range map[string]func(){
		"small": func() {
			ours.Write(v[0])
			io.ReadFull(ours, all[:50])
			io.ReadFull(ours, all[:50])
		},
		"large": func() {
			ours.Write(v[1])
			io.ReadFull(ours, all[:20_000])
		},
		"buffers": func() {
			ours.WriteBuffers(v)
			io.ReadFull(ours, all)
		},
	} {
		if n := testing.AllocsPerRun(100, f); n >= 1 && !raceEnabled {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
