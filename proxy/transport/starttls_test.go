package transport_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/transport"
)

// probeCall is the probe as the octets of RFC 9289 §4.1 and RFC 5531 §9 have it, for NFS version 4.
var probeCall = []byte{
	0x80, 0, 0, 40, // the record mark
	1, 2, 3, 4, // xid
	0, 0, 0, 0, // CALL
	0, 0, 0, 2, // RPC version
	0, 1, 0x86, 0xa3, 0, 0, 0, 4, // program and version
	0, 0, 0, 0, // NULL
	0, 0, 0, 7, 0, 0, 0, 0, // AUTH_TLS
	0, 0, 0, 0, 0, 0, 0, 0, // AUTH_NONE
}

// probeReply is what says that TLS may begin.
var probeReply = []byte("\x80\x00\x00\x20\x01\x02\x03\x04\x00\x00\x00\x01\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x08STARTTLS\x00\x00\x00\x00")

// askForTLS sends a probe, in pieces of so many bytes, and reads the answer.
func askForTLS(t *testing.T, address string, piece int) *net.TCPConn {
	t.Helper()
	conn := connect(t, address)
	for rest := probeCall; len(rest) > 0; {
		n := min(piece, len(rest))
		conn.Write(rest[:n])
		if rest = rest[n:]; len(rest) > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	got := make([]byte, len(probeReply))
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, probeReply) {
		t.Fatalf("% x, %v", got, err)
	}
	return conn
}

// TestProbe: after a probe, whole or in pieces, TLS 1.3 for the protocol "sunrpc" is let in, or for none that is named, as by Linux, and
// nothing else.
func TestProbe(t *testing.T) {
	for name, c := range map[string]struct {
		piece  int
		config *tls.Config
		want   error
	}{
		"whole":         {44, &tls.Config{NextProtos: []string{"sunrpc"}}, nil},
		"in pieces":     {9, &tls.Config{NextProtos: []string{"sunrpc"}}, nil},
		"byte by byte":  {1, &tls.Config{NextProtos: []string{"h2", "sunrpc"}}, nil},
		"no ALPN":       {44, &tls.Config{}, nil},
		"another ALPN":  {44, &tls.Config{NextProtos: []string{"h2"}}, transport.ErrHandshake},
		"only TLS 1.2":  {44, &tls.Config{NextProtos: []string{"sunrpc"}, MaxVersion: tls.VersionTLS12}, transport.ErrHandshake},
		"no TLS at all": {44, nil, transport.ErrHandshake},
	} {
		t.Run(name, func(t *testing.T) {
			front, address, results := frontPeer(t, transport.FrontOptions{})
			conn := askForTLS(t, address, c.piece)
			if c.config == nil {
				conn.Write(probeCall)
			} else {
				c.config.InsecureSkipVerify = true
				tls.Client(conn, c.config).Write([]byte{1})
			}
			conn.CloseWrite()
			a := next(t, results)
			if !errors.Is(a.err, c.want) || a.id.Secure != (c.want == nil) {
				t.Errorf("%+v, want %v", a, c.want)
			}
			if s := front.Stats(); s.Probes != 1 || s.TLS+s.Handshake != 1 || s.Plain != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestAlmostAProbe: what differs from a probe is ONC RPC, with all its bytes; so is a probe where TLS 1.3
// is off.
func TestAlmostAProbe(t *testing.T) {
	config, err := transport.ServerConfig(transport.ServerOptions{
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") }, OnlyTLS12: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	try := func(name string, o transport.FrontOptions, sent []byte, refused uint64) {
		front, address, results := frontPeer(t, o)
		conn := connect(t, address)
		conn.Write(sent)
		conn.CloseWrite()
		a := next(t, results)
		if s := front.Stats(); a.err != nil || a.id.Secure || s.Plain != 1 || s.Probes != 0 || s.ProbesRefused != refused {
			t.Errorf("%s: %+v, %+v", name, a, s)
		}
	}
	for _, at := range []int{0, 3, 11, 15, 27, 31, 35, 39, 43} {
		sent := bytes.Clone(probeCall)
		sent[at] ^= 0x40
		try("another byte", transport.FrontOptions{}, sent, 0)
	}
	try("cut short", transport.FrontOptions{}, probeCall[:43], 0)
	try("TLS 1.2 only", transport.FrontOptions{TLS: config}, probeCall, 1)
}
