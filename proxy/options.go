package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"time"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/proxy/ktls"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/transport"
)

// Session answers the calls of one connection.
type Session interface {
	rpc.Handler
	// Close is called once, when the connection and all its calls are over.
	Close()
}

// Resolver finds the session for a new connection. For a file system that doesn't exist, or a
// peer that may not use it, it gives a session that says so inside the protocol; an error closes
// the connection. ctx ends with Options.ResolveTimeout and when the server closes.
type Resolver interface {
	Resolve(ctx context.Context, id transport.Identity) (Session, error)
}

// Options configure a Server.
type Options struct {
	// Listeners are accepted from; the Server owns and closes them. See Listen.
	Listeners []net.Listener
	// TLS is the policy, from transport.ServerConfig. Nil serves plaintext only.
	TLS *tls.Config
	// ClientCAs is transport.FrontOptions'.
	ClientCAs *x509.CertPool
	// KTLS is transport.FrontOptions'.
	KTLS *ktls.Carrier
	// Resolver finds sessions.
	Resolver Resolver
	// Log gets a line for each connection. Nil logs nothing.
	Log *zap.Logger
	// RPC bounds each connection's calls, and with its Buffers the memory of all of them. Its DrainTimeout is set to the Server's.
	RPC rpc.Options
	// MaxConnections bounds the connections served at once.
	MaxConnections int
	// MaxPending, SniffTimeout and HandshakeTimeout are transport.FrontOptions'.
	MaxPending                     int
	SniffTimeout, HandshakeTimeout time.Duration
	// DrainTimeout bounds how long Close waits for calls under way.
	DrainTimeout time.Duration
	// ResolveTimeout bounds Resolver.Resolve.
	ResolveTimeout time.Duration
}

// EnsureDefaults fills what was left zero.
func (o *Options) EnsureDefaults() {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = DefaultMaxConnections
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = DefaultDrainTimeout
	}
	if o.ResolveTimeout == 0 {
		o.ResolveTimeout = DefaultResolveTimeout
	}
	o.RPC.DrainTimeout = o.DrainTimeout
	if o.RPC.Buffers == nil {
		o.RPC.Buffers = rpc.NewBuffers(rpc.DefaultBufferBytes)
	}
	o.RPC.EnsureDefaults()
}

// Validate says what can't work.
func (o *Options) Validate() error {
	switch {
	case len(o.Listeners) == 0:
		return errors.New("proxy: no listeners")
	case o.Resolver == nil:
		return errors.New("proxy: no resolver")
	case o.MaxConnections < 1 || o.DrainTimeout <= 0 || o.ResolveTimeout <= 0:
		return errors.New("proxy: MaxConnections, DrainTimeout and ResolveTimeout must be positive")
	}
	return o.RPC.Validate()
}
