package transport_test

import (
	"crypto/x509"
	"net/http"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// TestOCSPCache counts what the responder is asked over three connections, and takes it away for a fourth.
func TestOCSPCache(t *testing.T) {
	for name, c := range map[string]struct {
		edit  func(*ocsp.Response)
		cache *transport.OCSPCache
		asked int64
		cause transport.Cause // of the fourth connection
	}{
		"kept":               {nil, new(transport.OCSPCache), 1, 0},
		"no cache":           {nil, nil, 3, transport.CauseOCSPHTTP},
		"without nextUpdate": {func(r *ocsp.Response) { r.NextUpdate = time.Time{} }, new(transport.OCSPCache), 3, transport.CauseOCSPHTTP},
	} {
		t.Run(name, func(t *testing.T) {
			ca, responder := transporttest.NewCA(t), transporttest.NewResponder(t)
			cert := ca.Issue(t, func(x *x509.Certificate) { x.OCSPServer = []string{responder.URL} })
			responder.Answer(ca.Respond(t, cert.Leaf, c.edit))
			address := tlsPeer(t, cert)
			with := func(o *transport.ClientOptions) { o.OCSP = c.cache }
			for range 3 {
				checkRefusal(t, dial(t, address, ca, with), 0)
			}
			if asked := responder.Asked.Load(); asked != c.asked {
				t.Errorf("asked %d times, want %d", asked, c.asked)
			}
			responder.AnswerWith(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
			checkRefusal(t, dial(t, address, ca, with), c.cause)
		})
	}
}

// TestOCSPCacheKeepsGoodOnly: a refusal is asked about again, and another certificate is another question.
func TestOCSPCacheKeepsGoodOnly(t *testing.T) {
	ca, responder := transporttest.NewCA(t), transporttest.NewResponder(t)
	cache := new(transport.OCSPCache)
	with := func(o *transport.ClientOptions) { o.OCSP = cache }
	for range 20 { // more than are kept
		cert := ca.Issue(t, func(x *x509.Certificate) { x.OCSPServer = []string{responder.URL} })
		address := tlsPeer(t, cert)
		responder.Answer(ca.Respond(t, cert.Leaf, revoked))
		checkRefusal(t, dial(t, address, ca, with), transport.CauseRevoked)
		responder.Answer(ca.Respond(t, cert.Leaf, nil))
		checkRefusal(t, dial(t, address, ca, with), 0)
	}
}
