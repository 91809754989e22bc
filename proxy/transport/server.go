package transport

import (
	"crypto/fips140"
	"crypto/tls"
	"errors"
)

// CertificateFunc chooses the certificate for a handshake. It is called for every connection and
// must be quick; an OCSP response in the certificate's OCSPStaple is stapled for clients that ask.
type CertificateFunc func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// ServerOptions are what can be chosen of the server's TLS policy.
type ServerOptions struct {
	// Certificate is the source of certificates.
	Certificate CertificateFunc
	// OnlyTLS12 leaves TLS 1.3 out.
	OnlyTLS12 bool
}

// ServerConfig is the server's TLS policy. The result is not to be changed.
func ServerConfig(o ServerOptions) (*tls.Config, error) {
	if o.Certificate == nil {
		return nil, errors.New("transport: a TLS server needs a source of certificates")
	}
	return &tls.Config{
		GetCertificate:   o.Certificate,
		MinVersion:       tlsMinVersion,
		MaxVersion:       maxVersion(o.OnlyTLS12),
		CipherSuites:     Suites(),
		CurvePreferences: Curves(),
		// A client shows who it is with a certificate of its own making; what is in it is looked at
		// later. One that shows none is let in here and judged by the file system's policy.
		ClientAuth: tls.RequestClientCert,
		// A resumed session would carry the identity of the connection before it.
		SessionTicketsDisabled: true,
		Renegotiation:          tls.RenegotiateNever,
		// Replies are large; small first records would only cost system calls.
		DynamicRecordSizingDisabled: true,
	}, nil
}

// maxVersion leaves TLS 1.3 out where crypto/tls, in Go's FIPS 140 mode, has a list of its suites that
// begins with AES-128.
func maxVersion(only12 bool) uint16 {
	if only12 || fips140.Enabled() {
		return tlsMinVersion
	}
	return tlsMaxVersion
}
