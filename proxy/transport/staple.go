package transport

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ocsp"
)

// Staple is an OCSP response that calls a certificate good.
type Staple struct {
	// DER is the response as it is stapled.
	DER []byte
	// ThisUpdate is when it was true; Ends is when Dial would stop taking it: nextUpdate, or a while after
	// ThisUpdate where the responder names none.
	ThisUpdate, Ends time.Time
}

// FetchStaple asks the responders that cert names (AIA, RFC 5280 §4.2.2.1), in their order, by POST. It takes what
// Dial would take: a fresh "good", signed by issuer or a responder that issuer appointed. Anything else is
// an *Error, whose Cause says whether the certificate has been revoked. timeout bounds each responder.
func FetchStaple(ctx context.Context, cert, issuer *x509.Certificate, timeout time.Duration) (Staple, error) {
	request, err := ocsp.CreateRequest(cert, issuer, nil)
	if err != nil {
		return Staple{}, &Error{Cause: CauseOCSPMalformed, Server: cert.Subject.String(), Err: err}
	}
	last := &Error{Cause: CauseNoOCSP, Server: cert.Subject.String()}
	for _, responder := range cert.OCSPServer[:min(len(cert.OCSPServer), maxOCSPURLs)] {
		der, cause, err := ask(ctx, responder, request, cert, issuer, timeout)
		if cause == 0 {
			return stapleOf(der, cert)
		}
		last = &Error{Cause: cause, Server: cert.Subject.String(), Err: fmt.Errorf("%s: %w", responder, err)}
		if cause == CauseRevoked || cause == CauseUnknown {
			break
		}
	}
	return Staple{}, last
}

// stapleOf reads the dates of a response that was judged to be good.
func stapleOf(der []byte, cert *x509.Certificate) (Staple, error) {
	resp, err := ocsp.ParseResponseForCert(der, cert, nil)
	if err != nil {
		return Staple{}, errors.Join(CauseOCSPMalformed, err)
	}
	return Staple{DER: der, ThisUpdate: resp.ThisUpdate, Ends: endOf(resp)}, nil
}

// endOf is until when a response is taken.
func endOf(resp *ocsp.Response) time.Time {
	if resp.NextUpdate.IsZero() {
		return resp.ThisUpdate.Add(maxOCSPAge)
	}
	return resp.NextUpdate
}
