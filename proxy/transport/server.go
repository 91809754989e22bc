package transport

import (
	"crypto/tls"
	"errors"
)

// CertificateFunc chooses the certificate for a handshake. It is called for every connection and
// must be quick; an OCSP response in the certificate's OCSPStaple is stapled for clients that ask.
type CertificateFunc func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// ServerConfig is the server's TLS policy with the given source of certificates. The result is not to
// be changed.
func ServerConfig(certificate CertificateFunc) (*tls.Config, error) {
	if certificate == nil {
		return nil, errors.New("transport: a TLS server needs a source of certificates")
	}
	return &tls.Config{
		GetCertificate:   certificate,
		MinVersion:       tlsMinVersion,
		MaxVersion:       tlsMaxVersion,
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
