package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/ktls"
	"github.com/nfseal/nfseal/proxy/tlsrecord"
)

// ClientOptions say how to reach a server and what it has to prove.
type ClientOptions struct {
	// Roots are the CAs trusted; nil means the system's.
	Roots *x509.CertPool
	// ServerName is the DNS name or IP address that the certificate must hold; also sent as SNI.
	ServerName string
	// Certificate is shown to a server that asks for one; nil for none.
	Certificate *tls.Certificate
	// NoOCSP leaves revocation unchecked.
	NoOCSP bool
	// OCSP keeps responders' answers for later connections; nil keeps none.
	OCSP *OCSPCache
	// Carrier decides who carries the session; nil leaves it in user space.
	Carrier *ktls.Carrier
	// DialTimeout bounds the TCP connection, HandshakeTimeout TLS, OCSPTimeout one question to a
	// responder.
	DialTimeout, HandshakeTimeout, OCSPTimeout time.Duration
}

// EnsureDefaults fills what was left zero.
func (o *ClientOptions) EnsureDefaults() {
	if o.DialTimeout == 0 {
		o.DialTimeout = DefaultDialTimeout
	}
	if o.HandshakeTimeout == 0 {
		o.HandshakeTimeout = DefaultHandshakeTimeout
	}
	if o.OCSPTimeout == 0 {
		o.OCSPTimeout = DefaultOCSPTimeout
	}
}

// Validate says what can't work.
func (o *ClientOptions) Validate() error {
	if o.ServerName == "" {
		return errors.New("transport: no server name to verify")
	}
	if o.DialTimeout <= 0 || o.HandshakeTimeout <= 0 || o.OCSPTimeout <= 0 {
		return errors.New("transport: time-outs must be positive")
	}
	return nil
}

// Dial connects to address ("host:port"), runs the handshake and verifies the server. Refusals are
// *Error; the connection is closed then.
func Dial(ctx context.Context, address string, o ClientOptions) (ktls.Session, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	raw, err := dialer(o.DialTimeout).DialContext(ctx, "tcp", address)
	var unresolved *net.DNSError
	switch {
	case errors.As(err, &unresolved):
		return nil, &Error{Cause: CauseResolve, Server: o.ServerName, Err: err}
	case err != nil:
		return nil, &Error{Cause: CauseUnreachable, Server: o.ServerName, Err: err}
	}
	return Client(ctx, raw, o)
}

// dialer notices a server that has vanished, whether or not something was being sent to it.
func dialer(timeout time.Duration) *net.Dialer {
	d := &net.Dialer{
		Timeout: timeout,
		KeepAliveConfig: net.KeepAliveConfig{
			Enable: true, Idle: dialKeepAlive, Interval: dialKeepAlive, Count: dialKeepAliveCount,
		},
		Control: func(_, _ string, raw syscall.RawConn) error {
			var err error
			control := func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(dialUnacked.Milliseconds()))
			}
			return errors.Join(raw.Control(control), err)
		},
	}
	d.SetMultipathTCP(false)
	return d
}

// Client is Dial over a connection that stands. It owns raw: on an error it has closed it.
func Client(ctx context.Context, raw net.Conn, o ClientOptions) (ktls.Session, error) {
	o.EnsureDefaults()
	conn, err := verified(ctx, raw, o)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

func verified(ctx context.Context, raw net.Conn, o ClientOptions) (ktls.Session, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	hctx, cancel := context.WithTimeout(ctx, o.HandshakeTimeout)
	defer cancel()
	keys, err := tlsrecord.ClientKeys(hctx, raw, clientConfig(o))
	if err != nil {
		return nil, &Error{Cause: handshakeCause(err), Server: o.ServerName, Err: err}
	}
	defer keys.Wipe()
	if !o.NoOCSP {
		if err := checkRevocation(ctx, keys.State, o); err != nil {
			return nil, err
		}
	}
	session, err := o.Carrier.Carry(keys)
	if err != nil {
		return nil, &Error{Cause: CauseHandshake, Server: o.ServerName, Err: err}
	}
	return session, nil
}

func clientConfig(o ClientOptions) *tls.Config {
	var own []tls.Certificate
	if o.Certificate != nil {
		own = []tls.Certificate{*o.Certificate}
	}
	return &tls.Config{
		Certificates:                own,
		RootCAs:                     o.Roots,
		ServerName:                  o.ServerName,
		MinVersion:                  tlsMinVersion,
		MaxVersion:                  maxVersion(false),
		CipherSuites:                Suites(),
		CurvePreferences:            Curves(),
		Renegotiation:               tls.RenegotiateNever,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}
}

// handshakeCause sorts what crypto/tls and crypto/x509 say.
func handshakeCause(err error) Cause {
	var verification *tls.CertificateVerificationError
	if !errors.As(err, &verification) {
		return CauseHandshake
	}
	return verificationCause(err)
}
