package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// ClientError says why a client's certificate was refused, where ServerOptions.ClientCAs are set.
type ClientError struct {
	// Cause is CauseNoCertificate, CauseUntrusted, CauseDates, CauseCertificate, CauseName, or one of
	// those about OCSP.
	Cause Cause
	// Err is the detail; may be nil.
	Err error
}

// clientText is what each cause means for a client's certificate.
var clientText = map[Cause]string{
	CauseNoCertificate:   "there is none",
	CauseUntrusted:       "it is not from the CA for clients",
	CauseDates:           "it is outside its dates",
	CauseCertificate:     "it is not fit for a TLS client",
	CauseName:            "it is not for the address that the client has",
	CauseRevoked:         "it has been revoked",
	CauseUnknown:         "the OCSP responder doesn't know it",
	CauseNoOCSP:          "it names no OCSP responder",
	CauseOCSPUnreachable: "its OCSP responder can't be reached",
	CauseOCSPHTTP:        "its OCSP responder answered with an HTTP error",
	CauseOCSPRefused:     "its OCSP responder refused to answer",
	CauseOCSPMalformed:   "the OCSP response can't be understood or is about another certificate",
	CauseOCSPSignature:   "the OCSP response is not signed by the CA",
	CauseOCSPStale:       "the OCSP response is not from now",
}

// clientLabels name the causes in metrics.
var clientLabels = map[Cause]string{
	CauseNoCertificate:   "no_certificate",
	CauseUntrusted:       "untrusted",
	CauseDates:           "dates",
	CauseCertificate:     "usage",
	CauseName:            "name",
	CauseRevoked:         "revoked",
	CauseUnknown:         "unknown",
	CauseNoOCSP:          "no_responder",
	CauseOCSPUnreachable: "ocsp_unreachable",
	CauseOCSPHTTP:        "ocsp_http",
	CauseOCSPRefused:     "ocsp_refused",
	CauseOCSPMalformed:   "ocsp_malformed",
	CauseOCSPSignature:   "ocsp_signature",
	CauseOCSPStale:       "ocsp_stale",
}

// ClientRefusals gives the label and the count of each reason for which a client's certificate can be refused.
func (s *FrontStats) ClientRefusals() map[string]uint64 {
	counts := make(map[string]uint64, len(clientLabels))
	for cause, label := range clientLabels {
		counts[label] = s.ClientRefused[cause]
	}
	return counts
}

// Error implements error.
func (e *ClientError) Error() string {
	text := "transport: client certificate refused: " + clientText[e.Cause]
	if e.Err != nil {
		text += " (" + e.Err.Error() + ")"
	}
	return text
}

// Unwrap gives the cause and the detail to errors.Is.
func (e *ClientError) Unwrap() []error { return slices.DeleteFunc([]error{e.Cause, e.Err}, isNil) }

func isNil(err error) bool { return err == nil }

// checkClient proves a client that has shown a certificate and that it holds its key: the chain to roots,
// the state of each certificate that names a responder, of its own in any case, and that its names
// include peer. Anything unclear is a *ClientError.
func checkClient(ctx context.Context, state *tls.ConnectionState, roots *x509.CertPool, peer netip.Addr) error {
	if len(state.PeerCertificates) == 0 {
		return &ClientError{Cause: CauseNoCertificate}
	}
	cert, between := state.PeerCertificates[0], x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return &ClientError{Cause: verificationCause(err), Err: err}
	}
	if err := checkPeerName(ctx, cert, peer); err != nil {
		return &ClientError{Cause: CauseName, Err: err}
	}
	verified := tls.ConnectionState{VerifiedChains: chains}
	err = checkRevocation(ctx, verified, ClientOptions{OCSPTimeout: DefaultOCSPTimeout})
	var refused *Error
	if errors.As(err, &refused) {
		return &ClientError{Cause: refused.Cause, Err: refused.Err}
	}
	return err
}

// checkPeerName looks for peer among the addresses in cert, then among those of the names in it.
func checkPeerName(ctx context.Context, cert *x509.Certificate, peer netip.Addr) error {
	for _, ip := range cert.IPAddresses {
		if address, ok := netip.AddrFromSlice(ip); ok && address.Unmap() == peer {
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, nameTimeout)
	defer cancel()
	for _, name := range cert.DNSNames[:min(len(cert.DNSNames), maxClientNames)] {
		addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
		if err == nil && slices.ContainsFunc(addresses, func(a netip.Addr) bool { return a.Unmap() == peer }) {
			return nil
		}
	}
	return fmt.Errorf("%s is no address in it, nor of a name in it", peer)
}

// verificationCause sorts what crypto/x509 says.
func verificationCause(err error) Cause {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &name):
		return CauseName
	case errors.As(err, &authority):
		return CauseUntrusted
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return CauseDates
	}
	return CauseCertificate
}
