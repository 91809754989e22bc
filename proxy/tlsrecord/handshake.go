package tlsrecord

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
)

// Server runs the server's end of a handshake over raw under config, which must allow nothing but TLS
// 1.2 with AES-256-GCM, and returns a connection for the data. Errors of the handshake are those of
// crypto/tls. raw is left open on an error; it belongs to the Conn otherwise.
func Server(ctx context.Context, raw net.Conn, config *tls.Config) (*Conn, tls.ConnectionState, error) {
	return handshake(ctx, raw, config, true)
}

// Client is Server for the client's end.
func Client(ctx context.Context, raw net.Conn, config *tls.Config) (*Conn, tls.ConnectionState, error) {
	return handshake(ctx, raw, config, false)
}

func handshake(ctx context.Context, raw net.Conn, config *tls.Config, isServer bool) (*Conn, tls.ConnectionState, error) {
	t := &tap{Conn: raw, isServer: isServer}
	log := new(keyLog)
	defer log.wipe()
	config = config.Clone()
	config.KeyLogWriter = both(log, config.KeyLogWriter)
	secure := tls.Client(t, config)
	if isServer {
		secure = tls.Server(t, config)
	}
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, tls.ConnectionState{}, err
	}
	state := secure.ConnectionState()
	conn, err := takeOver(t, log, &state)
	return conn, state, err
}

// both is a writer to log, and to other if there is one.
func both(log *keyLog, other io.Writer) io.Writer {
	if other == nil {
		return log
	}
	return io.MultiWriter(log, other)
}

// takeOver makes a Conn of a session whose handshake went through t.
func takeOver(t *tap, log *keyLog, state *tls.ConnectionState) (*Conn, error) {
	if state.Version != tls.VersionTLS12 {
		return nil, fmt.Errorf("%w: %s", ErrUnsupported, tls.VersionName(state.Version))
	}
	random, ok := t.serverRandom()
	if !ok {
		return nil, fmt.Errorf("%w: no ServerHello was seen", ErrUnsupported)
	}
	s, err := derive(log, &random, state.CipherSuite)
	if err != nil {
		return nil, err
	}
	defer s.wipe()
	if t.isServer {
		return newConn(t.Conn, &s.client, &s.server)
	}
	return newConn(t.Conn, &s.server, &s.client)
}
