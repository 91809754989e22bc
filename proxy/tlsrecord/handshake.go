package tlsrecord

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
)

// Server runs the server's end of a handshake over raw under config, which must allow nothing but TLS
// 1.2 and 1.3 with AES-256-GCM, and returns a connection for the data. Errors of
// the handshake are those of crypto/tls. raw is left open on an error; it belongs to the Conn otherwise.
func Server(ctx context.Context, raw net.Conn, config *tls.Config) (*Conn, tls.ConnectionState, error) {
	return conn(ServerKeys(ctx, raw, config))
}

// Client is Server for the client's end.
func Client(ctx context.Context, raw net.Conn, config *tls.Config) (*Conn, tls.ConnectionState, error) {
	return conn(ClientKeys(ctx, raw, config))
}

func conn(k *Keys, err error) (*Conn, tls.ConnectionState, error) {
	if err != nil {
		return nil, tls.ConnectionState{}, err
	}
	c, err := k.Conn()
	return c, k.State, err
}

// ServerKeys is Server, but leaves open who is to carry the data: Keys.Conn, or somebody else who is given
// the keys. One of them is to be called, or Wipe.
func ServerKeys(ctx context.Context, raw net.Conn, config *tls.Config) (*Keys, error) {
	return handshake(ctx, raw, config, true)
}

// ClientKeys is ServerKeys for the client's end.
func ClientKeys(ctx context.Context, raw net.Conn, config *tls.Config) (*Keys, error) {
	return handshake(ctx, raw, config, false)
}

func handshake(ctx context.Context, raw net.Conn, config *tls.Config, isServer bool) (*Keys, error) {
	t := &tap{Conn: raw, isServer: isServer}
	log := new(keyLog)
	defer log.wipe()
	config = config.Clone()
	config.KeyLogWriter = both(log, config.KeyLogWriter)
	config.SessionTicketsDisabled = true // one would be the first record under the keys of TLS 1.3
	secure := tls.Client(t, config)
	if isServer {
		secure = tls.Server(t, config)
	}
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	k := &Keys{State: secure.ConnectionState(), raw: raw, isServer: isServer}
	if err := k.derive(t, log); err != nil {
		return nil, err
	}
	return k, nil
}

// both is a writer to log, and to other if there is one.
func both(log *keyLog, other io.Writer) io.Writer {
	if other == nil {
		return log
	}
	return io.MultiWriter(log, other)
}

// Keys are those of a session whose handshake is over, and which nobody carries yet. Nothing prints them.
type Keys struct {
	// State is what was agreed on.
	State tls.ConnectionState

	raw      net.Conn
	isServer bool
	s        *secrets
}

// String implements fmt.Stringer.
func (*Keys) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer.
func (*Keys) GoString() string { return "[redacted]" }

// Wipe overwrites the keys.
func (k *Keys) Wipe() { k.s.wipe() }

func (k *Keys) derive(t *tap, log *keyLog) (err error) {
	switch k.State.Version {
	case tls.VersionTLS12:
		random, ok := t.serverRandom()
		if !ok {
			return fmt.Errorf("%w: no ServerHello was seen", ErrUnsupported)
		}
		k.s, err = derive12(log, &random, k.State.CipherSuite)
	case tls.VersionTLS13:
		k.s, err = derive13(log, k.State.CipherSuite)
	default:
		err = fmt.Errorf("%w: %s", ErrUnsupported, tls.VersionName(k.State.Version))
	}
	return err
}

// NetConn is the connection that the handshake went over.
func (k *Keys) NetConn() net.Conn { return k.raw }

// IsServer says which end this is.
func (k *Keys) IsServer() bool { return k.isServer }

// Traffic gives copies of what protects the two directions, for who carries the session elsewhere. All that
// the peer has sent after its handshake is still in the connection.
func (k *Keys) Traffic() (in, out Traffic) {
	in, out = Traffic{k.s.server}, Traffic{k.s.client}
	if k.isServer {
		in, out = out, in
	}
	return in, out
}

// Conn carries the session here. The keys are wiped from k.
func (k *Keys) Conn() (*Conn, error) {
	defer k.Wipe()
	in, out := &k.s.server, &k.s.client
	if k.isServer {
		in, out = out, in
	}
	c, err := newConn(k.raw, in, out)
	if err == nil {
		c.isServer = k.isServer
	}
	return c, err
}
