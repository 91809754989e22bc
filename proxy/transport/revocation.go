package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"
)

// checkRevocation asks for the state of the server's certificate, and of each certificate between it
// and the CA that names a responder.
func checkRevocation(ctx context.Context, state tls.ConnectionState, o ClientOptions) error {
	chain := state.VerifiedChains[0]
	if len(chain) < 2 {
		return &Error{Cause: CauseNoOCSP, Server: o.ServerName, Err: errors.New("the certificate is its own CA")}
	}
	if err := checkLeaf(ctx, chain[0], chain[1], state.OCSPResponse, o); err != nil {
		return err
	}
	for i := 1; i+1 < len(chain); i++ {
		if len(chain[i].OCSPServer) == 0 {
			continue
		}
		if err := askResponders(ctx, chain[i], chain[i+1], o); err != nil {
			return err
		}
	}
	return nil
}

// checkLeaf takes a stapled answer that is an answer; with another one, or none, it asks.
func checkLeaf(ctx context.Context, cert, issuer *x509.Certificate, staple []byte, o ClientOptions) error {
	var stapleErr error
	if len(staple) > 0 {
		cause, err := judgeResponse(staple, cert, issuer, time.Now())
		if cause == 0 {
			return nil
		}
		stapleErr = &Error{Cause: cause, Server: o.ServerName, Err: fmt.Errorf("stapled response: %w", err)}
		if cause == CauseRevoked || cause == CauseUnknown || len(cert.OCSPServer) == 0 {
			return stapleErr
		}
	}
	return askResponders(ctx, cert, issuer, o)
}

// askResponders asks the responders that cert names, one after the other until one gives a state.
func askResponders(ctx context.Context, cert, issuer *x509.Certificate, o ClientOptions) error {
	if len(cert.OCSPServer) == 0 {
		return &Error{Cause: CauseNoOCSP, Server: o.ServerName}
	}
	if o.OCSP.good(cert, issuer, time.Now()) {
		return nil
	}
	request, err := ocsp.CreateRequest(cert, issuer, nil)
	if err != nil {
		return &Error{Cause: CauseOCSPMalformed, Server: o.ServerName, Err: err}
	}
	var last error
	for _, responder := range cert.OCSPServer[:min(len(cert.OCSPServer), maxOCSPURLs)] {
		der, cause, err := ask(ctx, responder, request, cert, issuer, o.OCSPTimeout)
		if cause == 0 {
			o.OCSP.keep(cert, der)
			return nil
		}
		last = &Error{Cause: cause, Server: o.ServerName, Err: fmt.Errorf("%s: %w", responder, err)}
		if cause == CauseRevoked || cause == CauseUnknown {
			return last
		}
	}
	return last
}

// ask gives the answer, and cause 0 if it is a fresh "good".
func ask(ctx context.Context, responder string, request []byte, cert, issuer *x509.Certificate, timeout time.Duration) ([]byte, Cause, error) {
	u, err := url.Parse(responder)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, CauseOCSPUnreachable, errors.New("not an http:// address")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	der, cause, err := post(ctx, responder, request)
	if err != nil {
		return nil, cause, err
	}
	cause, err = judgeResponse(der, cert, issuer, time.Now())
	return der, cause, err
}

// post sends one OCSP request over a connection of its own (RFC 6960 appendix A.1).
func post(ctx context.Context, responder string, request []byte) ([]byte, Cause, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, responder, bytes.NewReader(request))
	if err != nil {
		return nil, CauseOCSPUnreachable, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	req.Header.Set("Accept", "application/ocsp-response")
	client := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxOCSPResponseBytes},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, CauseOCSPUnreachable, bareURLError(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, CauseOCSPHTTP, errors.New(resp.Status)
	}
	der, err := io.ReadAll(io.LimitReader(resp.Body, maxOCSPResponseBytes+1))
	switch {
	case err != nil:
		return nil, CauseOCSPUnreachable, err
	case len(der) > maxOCSPResponseBytes:
		return nil, CauseOCSPMalformed, fmt.Errorf("more than %d bytes", maxOCSPResponseBytes)
	}
	return der, 0, nil
}

// bareURLError takes off method and address, which the sentence names already.
func bareURLError(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}

// judgeResponse gives 0 for a fresh "good" about cert, signed by issuer or a responder that issuer
// appointed.
func judgeResponse(der []byte, cert, issuer *x509.Certificate, now time.Time) (Cause, error) {
	// Without the issuer, so that a bad signature can be told from bad syntax.
	resp, err := ocsp.ParseResponseForCert(der, cert, nil)
	if err != nil {
		return parseCause(err), err
	}
	if err := checkSigner(resp, issuer, now); err != nil {
		return CauseOCSPSignature, err
	}
	if err := checkFresh(resp, now); err != nil {
		return CauseOCSPStale, err
	}
	switch resp.Status {
	case ocsp.Good:
		return 0, nil
	case ocsp.Revoked:
		return CauseRevoked, fmt.Errorf("on %s, reason %d", resp.RevokedAt.UTC().Format(time.RFC3339), resp.RevocationReason)
	}
	return CauseUnknown, errors.New("state \"unknown\"")
}

func parseCause(err error) Cause {
	var refused ocsp.ResponseError
	var parse ocsp.ParseError
	switch {
	case errors.As(err, &refused):
		return CauseOCSPRefused
	case errors.As(err, &parse) && strings.HasPrefix(parse.Error(), "bad signature"):
		return CauseOCSPSignature
	}
	return CauseOCSPMalformed
}

// checkSigner follows RFC 6960 §4.2.2.2: the issuer itself, or a certificate which the issuer signed
// for that purpose. Package ocsp doesn't look at the purpose: without this every holder of a
// certificate of the CA could vouch for itself.
func checkSigner(resp *ocsp.Response, issuer *x509.Certificate, now time.Time) error {
	signer := resp.Certificate
	if signer == nil || bytes.Equal(signer.Raw, issuer.Raw) {
		return resp.CheckSignatureFrom(issuer)
	}
	if err := signer.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("the responder's certificate: %w", err)
	}
	if !slices.Contains(signer.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning) {
		return errors.New("the responder's certificate is not for signing OCSP responses")
	}
	if now.Before(signer.NotBefore) || now.After(signer.NotAfter) {
		return errors.New("the responder's certificate is outside its dates")
	}
	return resp.CheckSignatureFrom(signer)
}

func checkFresh(resp *ocsp.Response, now time.Time) error {
	ends := endOf(resp)
	if resp.ThisUpdate.After(now.Add(clockSkew)) {
		return fmt.Errorf("it begins at %s", resp.ThisUpdate.UTC().Format(time.RFC3339))
	}
	if !now.Before(ends) {
		return fmt.Errorf("it ended at %s", ends.UTC().Format(time.RFC3339))
	}
	return nil
}
