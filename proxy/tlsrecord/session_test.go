package tlsrecord

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// TestPRF: the vector for P_SHA384 that went round the TLS working group's list in 2009.
func TestPRF(t *testing.T) {
	from := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	want := from("7b0c18e9ced410ed1804f2cfa34a336a1c14dffb4900bb5fd7942107e81c83cde9ca0faa60be9fe34f82b1233c9146a0" +
		"e534cb400fed2700884f9dc236f80edd8bfa961144c9e8d792eca722a7b32fc3d416d473ebc2c5fd4abfdad05d918425" +
		"9b5bf8cd4d90fa0d31e2dec479e4f1a26066f2eea9a69236a3e52655c9e9aee691c8f3a26854308d5eaa3be85e099070" +
		"3d73e56f")
	got := make([]byte, len(want))
	prf(got, from("b80b733d6ceefcdc71566ea48e5567df"), "test label", from("cd665cf6a8447dd6ff8b27555edb7465"))
	if !bytes.Equal(got, want) {
		t.Errorf("%x", got)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	s := &secrets{}
	l := &keyLog{}
	for i := range s.client.key {
		s.client.key[i], l.master[i] = 0xab, 0xab
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{s, l, &Keys{s: s}, Traffic{s.client}, &Traffic{s.client}} {
			if text := fmt.Sprintf(format, v); text != "[redacted]" {
				t.Errorf("%s of %T: %s", format, v, text)
			}
		}
	}
}

// wire returns the two ends of a TCP connection.
func wire(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// versions are those that everything is tried with.
var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

// eachVersion runs f with each.
func eachVersion(t *testing.T, f func(t *testing.T, version uint16)) {
	for _, v := range versions {
		t.Run(tls.VersionName(v), func(t *testing.T) { f(t, v) })
	}
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

// duplex is what both kinds of connection can do.
type duplex interface {
	net.Conn
	CloseWrite() error
}

// starters run one end of a handshake.
var starters = map[string]func(ctx context.Context, raw net.Conn, config *tls.Config, server bool) (duplex, error){
	"ours": func(ctx context.Context, raw net.Conn, config *tls.Config, server bool) (duplex, error) {
		run := Client
		if server {
			run = Server
		}
		conn, state, err := run(ctx, raw, config)
		if err == nil && !state.HandshakeComplete {
			err = errors.New("state of an unfinished handshake")
		}
		return conn, err
	},
	"crypto/tls": func(ctx context.Context, raw net.Conn, config *tls.Config, server bool) (duplex, error) {
		conn := tls.Client(raw, config)
		if server {
			conn = tls.Server(raw, config)
		}
		return conn, conn.HandshakeContext(ctx)
	},
}

// shake runs both ends of a handshake.
func shake(t testing.TB, version uint16, server, client string, rawServer, rawClient net.Conn) (s, c duplex) {
	t.Helper()
	serverConfig, clientConfig := configs(t, version)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	result := make(chan error, 1)
	go func() {
		var err error
		s, err = starters[server](ctx, rawServer, serverConfig, true)
		result <- err
	}()
	c, err := starters[client](ctx, rawClient, clientConfig, false)
	if err := errors.Join(err, <-result); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { go s.Close(); c.Close() })
	return s, c
}

// random returns n bytes that repeat nowhere.
func random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// send writes data in pieces of all sizes, reports the first error and ends the direction.
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
func receive(from duplex) ([]byte, error) {
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
func TestBothWays(t *testing.T) { eachVersion(t, testBothWays) }

func testBothWays(t *testing.T, version uint16) {
	data := random(3 << 20)
	for _, p := range []struct {
		server, client string
		pipe           bool
	}{
		{"ours", "crypto/tls", false}, {"crypto/tls", "ours", false}, {"ours", "ours", false}, {"ours", "ours", true},
	} {
		t.Run(fmt.Sprintf("%s to %s pipe %v", p.server, p.client, p.pipe), func(t *testing.T) {
			a, b := wire(t)
			if p.pipe {
				a, b = net.Pipe()
			}
			s, c := shake(t, version, p.server, p.client, a, b)
			errs := make(chan error, 4)
			for _, ends := range [][2]duplex{{s, c}, {c, s}} {
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
func TestFirstData(t *testing.T) { eachVersion(t, testFirstData) }

func testFirstData(t *testing.T, version uint16) {
	for range 20 {
		a, b := wire(t)
		serverConfig, clientConfig := configs(t, version)
		go func() {
			conn := tls.Server(&held{Conn: a}, serverConfig)
			if conn.HandshakeContext(t.Context()) == nil {
				conn.Write([]byte("at once"))
				conn.NetConn().(*held).release()
			}
		}()
		conn, _, err := Client(t.Context(), b, clientConfig)
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

func TestWriteBuffers(t *testing.T) { eachVersion(t, testWriteBuffers) }

func testWriteBuffers(t *testing.T, version uint16) {
	a, b := wire(t)
	s, c := shake(t, version, "ours", "crypto/tls", a, b)
	conn := s.(*Conn)
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
			n, err := conn.WriteBuffers(v)
			if err == nil && n != int64(len(all)) {
				err = fmt.Errorf("wrote %d of %d", n, len(all))
			}
			wrote <- err
		}()
		got := make([]byte, len(all))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, all) {
			t.Errorf("%s: other bytes, or %v", name, err)
		}
		if err := <-wrote; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnsupported: a session that is not one with AES-256-GCM is not taken over.
func TestUnsupported(t *testing.T) {
	for name, edit := range map[string]func(*tls.Config){
		"AES-128": func(c *tls.Config) {
			c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		},
		"no suite fit": func(c *tls.Config) {
			c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}
		},
	} {
		a, b := wire(t)
		serverConfig, clientConfig := configs(t, tls.VersionTLS12)
		edit(serverConfig)
		clientConfig.CipherSuites = serverConfig.CipherSuites
		go tls.Client(b, clientConfig).HandshakeContext(t.Context())
		if conn, _, err := Server(t.Context(), a, serverConfig); !errors.Is(err, ErrUnsupported) || conn != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeyLogOfOthers: a KeyLogWriter that was set before gets its lines.
func TestKeyLogOfOthers(t *testing.T) {
	a, b := wire(t)
	serverConfig, clientConfig := configs(t, tls.VersionTLS12)
	var lines bytes.Buffer
	serverConfig.KeyLogWriter = &lines
	go Client(t.Context(), b, clientConfig)
	if _, _, err := Server(t.Context(), a, serverConfig); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(lines.Bytes(), []byte("CLIENT_RANDOM ")) {
		t.Errorf("%q", lines.Bytes())
	}
}

// TestSuiteOf13: it is AES-256-GCM. Package proxy's tests have OpenSSL offer others.
func TestSuiteOf13(t *testing.T) {
	a, b := wire(t)
	serverConfig, clientConfig := configs(t, tls.VersionTLS13)
	go tls.Client(b, clientConfig).HandshakeContext(t.Context())
	k, err := ServerKeys(t.Context(), a, serverConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Wipe()
	if k.State.Version != tls.VersionTLS13 || k.State.CipherSuite != tls.TLS_AES_256_GCM_SHA384 {
		t.Errorf("%s, %s", tls.VersionName(k.State.Version), tls.CipherSuiteName(k.State.CipherSuite))
	}
}
