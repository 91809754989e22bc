package sessiontest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// Session is a TLS session under way.
type Session interface {
	Duplex
	WriteBuffers(v [][]byte) (int64, error)
	MoveFrom(src *net.TCPConn, moved *atomic.Uint64) error
	MoveTo(dst *net.TCPConn, moved *atomic.Uint64) error
	Pending() bool
}

// Duplex is a connection whose directions end one by one.
type Duplex interface {
	net.Conn
	CloseWrite() error
}

// Path is one way to have sessions.
type Path struct {
	Version uint16
	// Carry runs one end of a handshake over raw.
	Carry func(ctx context.Context, raw net.Conn, config *tls.Config, server bool) (Session, error)
	// Shut is what a write after CloseWrite gives.
	Shut error
	// Race says that the race detector is on, which allocates.
	Race bool
}

// Wire returns the two ends of a TCP connection.
func Wire(t testing.TB) (a, b *net.TCPConn) {
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

// Configs are those of a server and a client that fit together.
func Configs(t testing.TB, version uint16) (server, client *tls.Config) {
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

// shake is Carry with a time limit.
func (p Path) shake(t testing.TB, raw net.Conn, config *tls.Config, server bool) (Session, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return p.Carry(ctx, raw, config, server)
}

// Ends are both ends of a session over a and b: ours, and crypto/tls's or ours too. What is ours is closed at the end of the
// test.
func (p Path) Ends(t testing.TB, a, b net.Conn, oursIsServer, both bool) (ours Session, peer Duplex) {
	t.Helper()
	serverConfig, clientConfig := Configs(t, p.Version)
	mine, theirs := clientConfig, serverConfig
	if oursIsServer {
		mine, theirs = serverConfig, clientConfig
	}
	result := make(chan error, 1)
	go func() {
		var err error
		peer, err = p.other(t, b, theirs, !oursIsServer, both)
		result <- err
	}()
	ours, err := p.shake(t, a, mine, oursIsServer)
	if err := errors.Join(err, <-result); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	if both {
		t.Cleanup(func() { peer.Close() })
	}
	return ours, peer
}

func (p Path) other(t testing.TB, raw net.Conn, config *tls.Config, server, ours bool) (Duplex, error) {
	if ours {
		return p.shake(t, raw, config, server)
	}
	conn := tls.Client(raw, config)
	if server {
		conn = tls.Server(raw, config)
	}
	return conn, conn.HandshakeContext(t.Context())
}

// ends is Ends over a TCP connection.
func (p Path) ends(t testing.TB, oursIsServer, both bool) (ours Session, peer Duplex) {
	t.Helper()
	a, b := Wire(t)
	return p.Ends(t, a, b, oursIsServer, both)
}

// Random returns n bytes that repeat nowhere.
func Random(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// Send writes data in pieces of all sizes, and ends the direction.
func Send(to Duplex, data []byte) error {
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

// Receive reads pieces of all sizes to the end.
func Receive(from io.Reader) ([]byte, error) {
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
