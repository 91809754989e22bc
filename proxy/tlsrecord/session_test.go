package tlsrecord

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/tlsrecord/sessiontest"
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

// versions are those that everything is tried with.
var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

// eachVersion runs f with each.
func eachVersion(t *testing.T, f func(t *testing.T, version uint16)) {
	for _, v := range versions {
		t.Run(tls.VersionName(v), func(t *testing.T) { f(t, v) })
	}
}

// starters run one end of a handshake.
var starters = map[string]func(ctx context.Context, raw net.Conn, config *tls.Config, server bool) (sessiontest.Duplex, error){
	"ours": func(ctx context.Context, raw net.Conn, config *tls.Config, server bool) (sessiontest.Duplex, error) {
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
	"crypto/tls": func(ctx context.Context, raw net.Conn, config *tls.Config, server bool) (sessiontest.Duplex, error) {
		conn := tls.Client(raw, config)
		if server {
			conn = tls.Server(raw, config)
		}
		return conn, conn.HandshakeContext(ctx)
	},
}

// shake runs both ends of a handshake.
func shake(t testing.TB, version uint16, server, client string, rawServer, rawClient net.Conn) (s, c sessiontest.Duplex) {
	t.Helper()
	serverConfig, clientConfig := sessiontest.Configs(t, version)
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

// TestSessions: the contract, in user space.
func TestSessions(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) { sessiontest.Run(t, suite(version)) })
}

// suite is what the contract runs.
func suite(version uint16) sessiontest.Path {
	return sessiontest.Path{Version: version, Shut: ErrShut, Race: raceEnabled,
		Carry: func(ctx context.Context, raw net.Conn, config *tls.Config, server bool) (sessiontest.Session, error) {
			conn, err := starters["ours"](ctx, raw, config, server)
			if err != nil {
				return nil, err
			}
			return conn.(*Conn), nil
		}}
}

// TestPipe: a connection need not be a socket.
func TestPipe(t *testing.T) {
	eachVersion(t, func(t *testing.T, version uint16) {
		a, b := net.Pipe()
		ours, peer := suite(version).Ends(t, a, b, true, true)
		sessiontest.Exchange(t, ours, peer, sessiontest.Random(3<<20))
	})
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
		a, b := sessiontest.Wire(t)
		serverConfig, clientConfig := sessiontest.Configs(t, tls.VersionTLS12)
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
	a, b := sessiontest.Wire(t)
	serverConfig, clientConfig := sessiontest.Configs(t, tls.VersionTLS12)
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
	a, b := sessiontest.Wire(t)
	serverConfig, clientConfig := sessiontest.Configs(t, tls.VersionTLS13)
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

// TestServerExpects: a server that is told to expects the next call of a client, in the kernel, and does not by itself.
func TestServerExpects(t *testing.T) {
	rawServer, rawClient := sessiontest.Wire(t)
	s, c := shake(t, tls.VersionTLS12, "ours", "crypto/tls", rawServer, rawClient)
	server := s.(*Conn)
	if server.expects.Load() {
		t.Error("it expects without being told to")
	}
	server.Expect(true)
	met := make(chan bool, 1)
	go func() {
		p := make([]byte, 1)
		for range 2000 {
			if _, err := server.Read(p); err != nil {
				break
			}
			server.Write(p)
		}
		met <- server.in.expect.Met() > 0
	}()
	p := []byte("x")
	for range 2000 {
		c.Write(p)
		if _, err := c.Read(p); err != nil {
			t.Fatal(err)
		}
	}
	if !<-met {
		t.Error("of 2,000 calls none was waited for in the kernel")
	}
}
