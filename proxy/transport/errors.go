package transport

import "fmt"

// Cause says why Dial refused. It is an error so that errors.Is(err, CauseRevoked) works.
type Cause int

// The causes. Those that speak of OCSP are about the server's certificate or one between it and
// the CA.
const (
	// CauseUnreachable: no TCP connection.
	CauseUnreachable Cause = iota + 1
	// CauseResolve: the server's DNS name has no address.
	CauseResolve
	// CauseHandshake: the other end doesn't speak TLS 1.2 or 1.3 with AES-256-GCM, or stopped.
	CauseHandshake
	// CauseUntrusted: the certificate doesn't come from a CA that is trusted here.
	CauseUntrusted
	// CauseName: the certificate is for another name.
	CauseName
	// CauseDates: the certificate has expired or is not yet valid.
	CauseDates
	// CauseCertificate: the certificate can't be used for a server for another reason.
	CauseCertificate
	// CauseRevoked: OCSP says revoked.
	CauseRevoked
	// CauseUnknown: OCSP doesn't know the certificate.
	CauseUnknown
	// CauseNoOCSP: nothing stapled and no responder named.
	CauseNoOCSP
	// CauseOCSPUnreachable: the responder can't be reached or didn't answer in time.
	CauseOCSPUnreachable
	// CauseOCSPHTTP: the responder answered with an HTTP error.
	CauseOCSPHTTP
	// CauseOCSPRefused: the responder answered with an OCSP error such as tryLater.
	CauseOCSPRefused
	// CauseOCSPMalformed: the response is not OCSP or is about another certificate.
	CauseOCSPMalformed
	// CauseOCSPSignature: the response is not signed by the CA or a responder of its choice.
	CauseOCSPSignature
	// CauseOCSPStale: the response is too old, or from the future.
	CauseOCSPStale
	// CauseNoCertificate: a client showed none; see ClientError.
	CauseNoCertificate
)

// causeText is what happened and what to do about it.
var causeText = map[Cause]struct{ what, remedy string }{
	CauseUnreachable:     {"the server can't be reached", "check its address, the port and the firewalls between"},
	CauseResolve:         {"the server's name can't be resolved", "correct the name or the DNS, or give the address with mounttargetip="},
	CauseHandshake:       {"no TLS connection with AES-256-GCM could be made", "check that this is an nfseal server and see its log"},
	CauseUntrusted:       {"the server's certificate is not from a trusted CA", "give the server's own ca.pem with cafile="},
	CauseName:            {"the server's certificate is for another name", "mount by a name in the certificate, or have it issued for this one"},
	CauseDates:           {"the server's certificate is outside its dates", "check the clocks of both machines and renew the certificate"},
	CauseCertificate:     {"the server's certificate is not fit for a TLS server", "have a new one issued"},
	CauseRevoked:         {"the server's certificate has been revoked", "have the server's certificate renewed"},
	CauseUnknown:         {"the OCSP responder doesn't know the server's certificate", "have the server's certificate renewed by the present CA"},
	CauseNoOCSP:          {"nothing says that the server's certificate isn't revoked: no OCSP response is stapled and no responder is named in it", "use a certificate with an OCSP address, or the option noocsp"},
	CauseOCSPUnreachable: {"the OCSP responder can't be reached", "open the way to it or repair it"},
	CauseOCSPHTTP:        {"the OCSP responder answered with an HTTP error", "repair the responder"},
	CauseOCSPRefused:     {"the OCSP responder didn't give an answer", "try again later or repair the responder"},
	CauseOCSPMalformed:   {"the OCSP response can't be understood or is about another certificate", "repair the responder"},
	CauseOCSPSignature:   {"the OCSP response is not signed by the CA", "check who answers in place of the responder"},
	CauseOCSPStale:       {"the OCSP response is not from now", "check the clocks of both machines and the responder"},
}

// Error implements error.
func (c Cause) Error() string {
	if t, ok := causeText[c]; ok {
		return t.what
	}
	return fmt.Sprintf("transport: cause %d", int(c))
}

// Error is a refusal by Dial or Client. Its text is one sentence: the server, the cause, the detail, what
// to do.
type Error struct {
	Cause Cause
	// Server is the name or address that was asked for.
	Server string
	// Err is the detail; may be nil.
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Server + ": " + e.Cause.Error()
	if e.Err != nil {
		text += " (" + e.Err.Error() + ")"
	}
	if t, ok := causeText[e.Cause]; ok {
		text += "; " + t.remedy
	}
	return text
}

// Unwrap gives the cause and the detail to errors.Is.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Cause}
	}
	return []error{e.Cause, e.Err}
}
