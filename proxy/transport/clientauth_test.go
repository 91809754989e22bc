package transport_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// TestClientCertificates: where clients need certificates of a CA, one that is good is let in, and each
// other is refused and counted for what is wrong with it.
func TestClientCertificates(t *testing.T) {
	ca, other := transporttest.NewCA(t), transporttest.NewCA(t)
	status := func(edit func(*ocsp.Response)) func(*transporttest.Responder, *x509.Certificate) {
		return func(r *transporttest.Responder, c *x509.Certificate) { r.Answer(ca.Respond(t, c, edit)) }
	}
	good := status(nil)
	for name, c := range map[string]struct {
		from   *transporttest.CA // nil for no certificate
		edit   func(*x509.Certificate)
		answer func(*transporttest.Responder, *x509.Certificate)
		want   transport.Cause // 0: let in
		label  string          // of want in the metric
	}{
		"good by address": {ca, nil, good, 0, ""},
		"good by name":    {ca, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"localhost"} }, good, 0, ""},
		"none":            {nil, nil, good, transport.CauseNoCertificate, "no_certificate"},
		"other CA":        {other, nil, good, transport.CauseUntrusted, "untrusted"},
		"expired":         {ca, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, good, transport.CauseDates, "dates"},
		"for servers":     {ca, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, good, transport.CauseCertificate, "usage"},
		"other address": {ca, func(c *x509.Certificate) {
			c.IPAddresses, c.DNSNames = []net.IP{net.IPv4(192, 0, 2, 1)}, nil
		}, good, transport.CauseName, "name"},
		"names nothing": {ca, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, nil }, good, transport.CauseName, "name"},
		"no responder":  {ca, func(c *x509.Certificate) { c.OCSPServer = nil }, good, transport.CauseNoOCSP, "no_responder"},
		"revoked": {ca, nil, status(func(r *ocsp.Response) {
			r.Status, r.RevokedAt = ocsp.Revoked, time.Now().Add(-time.Hour)
		}), transport.CauseRevoked, "revoked"},
		"unknown": {ca, nil, status(func(r *ocsp.Response) { r.Status = ocsp.Unknown }), transport.CauseUnknown, "unknown"},
		"stale": {ca, nil, status(func(r *ocsp.Response) {
			r.NextUpdate = time.Now().Add(-time.Minute)
			r.ThisUpdate = time.Now().Add(-time.Hour)
		}), transport.CauseOCSPStale, "ocsp_stale"},
		"responder with HTTP 500": {ca, nil, func(r *transporttest.Responder, _ *x509.Certificate) {
			r.AnswerWith(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusInternalServerError) })
		}, transport.CauseOCSPHTTP, "ocsp_http"},
		"tryLater": {ca, nil, func(r *transporttest.Responder, _ *x509.Certificate) {
			r.Answer(ocsp.TryLaterErrorResponse)
		}, transport.CauseOCSPRefused, "ocsp_refused"},
		"unreachable": {ca, func(c *x509.Certificate) { c.OCSPServer = []string{"http://127.0.0.1:1/"} }, good, transport.CauseOCSPUnreachable, "ocsp_unreachable"},
		"no OCSP": {ca, nil, func(r *transporttest.Responder, _ *x509.Certificate) {
			r.Answer([]byte("hello"))
		}, transport.CauseOCSPMalformed, "ocsp_malformed"},
		"signed by another": {ca, nil, func(r *transporttest.Responder, c *x509.Certificate) {
			r.Answer(other.Respond(t, c, nil))
		}, transport.CauseOCSPSignature, "ocsp_signature"},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+" over "+tls.VersionName(version), func(t *testing.T) {
				front, address, results := frontPeer(t, transport.FrontOptions{ClientCAs: ca.Pool()})
				responder := transporttest.NewResponder(t)
				config := &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version}
				if c.from != nil {
					cert := c.from.Issue(t, func(template *x509.Certificate) {
						template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
						template.DNSNames, template.OCSPServer = nil, []string{responder.URL}
						if c.edit != nil {
							c.edit(template)
						}
					})
					c.answer(responder, cert.Leaf)
					config.Certificates = []tls.Certificate{*cert}
				}
				tls.Client(connect(t, address), config).Write([]byte{1})
				a := next(t, results)
				s := front.Stats()
				if c.want == 0 {
					if a.err != nil || !a.id.Secure || s.TLS != 1 {
						t.Errorf("%+v, %+v", a, s)
					}
					return
				}
				var refused *transport.ClientError
				if !errors.As(a.err, &refused) || !errors.Is(a.err, c.want) || s.ClientRefused[c.want] != 1 || s.TLS != 0 {
					t.Errorf("%+v, %+v; want %v", a, s, c.want)
				}
				for label, n := range s.ClientRefusals() {
					if (n == 1) != (label == c.label) {
						t.Errorf("%d under %s, want 1 under %s alone", n, label, c.label)
					}
				}
			})
		}
	}
}
