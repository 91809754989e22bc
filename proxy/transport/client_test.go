package transport_test

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// peer listens on loopback and runs serve on each connection; it ends with the test.
func peer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// tlsPeer is a server with our policy that echoes.
func tlsPeer(t *testing.T, cert *tls.Certificate) string {
	t.Helper()
	config, err := transport.ServerConfig(transport.ServerOptions{Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return peer(t, func(conn net.Conn) {
		secure := tls.Server(conn, config)
		io.Copy(secure, secure)
	})
}

func dial(t *testing.T, address string, ca *transporttest.CA, edit func(*transport.ClientOptions)) error {
	t.Helper()
	o := transport.ClientOptions{
		Roots: ca.Pool(), ServerName: transporttest.ServerName,
		HandshakeTimeout: 2 * time.Second, OCSPTimeout: 500 * time.Millisecond,
	}
	if edit != nil {
		edit(&o)
	}
	conn, err := transport.Dial(t.Context(), address, o)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Errorf("echo %q, %v", got, err)
	}
	return nil
}

// checkRefusal wants an error of that cause, in one sentence that names the server; 0 wants none.
func checkRefusal(t *testing.T, err error, want transport.Cause) {
	t.Helper()
	if want == 0 {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	var refusal *transport.Error
	if !errors.As(err, &refusal) || !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
		return
	}
	text := refusal.Error()
	if strings.ContainsAny(text, "\n\r") || !strings.HasPrefix(text, refusal.Server+": "+want.Error()) {
		t.Errorf("not a sentence: %q", text)
	}
}

// row is one server and its OCSP answers.
type row struct {
	ca        *transporttest.CA
	responder *transporttest.Responder
	cert      *tls.Certificate
}

func (r *row) answer(t *testing.T, edit func(*ocsp.Response)) {
	r.responder.Answer(r.ca.Respond(t, r.cert.Leaf, edit))
}

func (r *row) staple(t *testing.T, edit func(*ocsp.Response)) {
	r.cert.OCSPStaple = r.ca.Respond(t, r.cert.Leaf, edit)
}

func (r *row) withoutAIA(t *testing.T) { r.cert = r.ca.Issue(t, nil) }

func revoked(r *ocsp.Response) { r.Status, r.RevokedAt = ocsp.Revoked, time.Now().Add(-time.Hour) }
func unknown(r *ocsp.Response) { r.Status = ocsp.Unknown }
func expired(r *ocsp.Response) {
	r.ThisUpdate, r.NextUpdate = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Second)
}
func future(r *ocsp.Response) {
	r.ThisUpdate, r.NextUpdate = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
}
func open(r *ocsp.Response)    { r.NextUpdate = time.Time{} }
func openOld(r *ocsp.Response) { r.NextUpdate, r.ThisUpdate = time.Time{}, time.Now().Add(-time.Hour) }

// ocspRows is the table of what OCSP can say and what becomes of the connection.
var ocspRows = []struct {
	name string
	set  func(*testing.T, *row)
	want transport.Cause
	// asked says how often the responder is asked.
	asked int64
}{
	{"staple good", func(t *testing.T, r *row) { r.staple(t, nil) }, 0, 0},
	{"staple good, no AIA", func(t *testing.T, r *row) { r.withoutAIA(t); r.staple(t, nil) }, 0, 0},
	{"staple revoked, responder good", func(t *testing.T, r *row) { r.staple(t, revoked); r.answer(t, nil) }, transport.CauseRevoked, 0},
	{"staple unknown, responder good", func(t *testing.T, r *row) { r.staple(t, unknown); r.answer(t, nil) }, transport.CauseUnknown, 0},
	{"staple expired, responder good", func(t *testing.T, r *row) { r.staple(t, expired); r.answer(t, nil) }, 0, 1},
	{"staple expired, no AIA", func(t *testing.T, r *row) { r.withoutAIA(t); r.staple(t, expired) }, transport.CauseOCSPStale, 0},
	{"staple garbage, responder revoked", func(t *testing.T, r *row) {
		r.cert.OCSPStaple = []byte("garbage")
		r.answer(t, revoked)
	}, transport.CauseRevoked, 1},
	{"staple of another CA, no AIA", func(t *testing.T, r *row) {
		r.withoutAIA(t)
		r.cert.OCSPStaple = transporttest.NewCA(t).Respond(t, r.cert.Leaf, nil)
	}, transport.CauseOCSPSignature, 0},
	{"no AIA, no staple", func(t *testing.T, r *row) { r.withoutAIA(t) }, transport.CauseNoOCSP, 0},

	{"good", func(t *testing.T, r *row) { r.answer(t, nil) }, 0, 1},
	{"good without nextUpdate", func(t *testing.T, r *row) { r.answer(t, open) }, 0, 1},
	{"revoked", func(t *testing.T, r *row) { r.answer(t, revoked) }, transport.CauseRevoked, 1},
	{"unknown", func(t *testing.T, r *row) { r.answer(t, unknown) }, transport.CauseUnknown, 1},
	{"expired", func(t *testing.T, r *row) { r.answer(t, expired) }, transport.CauseOCSPStale, 1},
	{"old without nextUpdate", func(t *testing.T, r *row) { r.answer(t, openOld) }, transport.CauseOCSPStale, 1},
	{"from the future", func(t *testing.T, r *row) { r.answer(t, future) }, transport.CauseOCSPStale, 1},
	{"tryLater", func(t *testing.T, r *row) { r.responder.Answer(ocsp.TryLaterErrorResponse) }, transport.CauseOCSPRefused, 1},
	{"unauthorized", func(t *testing.T, r *row) { r.responder.Answer(ocsp.UnauthorizedErrorResponse) }, transport.CauseOCSPRefused, 1},
	{"HTTP 500", func(t *testing.T, r *row) {}, transport.CauseOCSPHTTP, 1},
	{"HTTP redirect", func(t *testing.T, r *row) {
		r.responder.AnswerWith(func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, "/elsewhere", http.StatusFound) })
	}, transport.CauseOCSPHTTP, 1},
	{"empty", func(t *testing.T, r *row) { r.responder.Answer(nil) }, transport.CauseOCSPMalformed, 1},
	{"garbage", func(t *testing.T, r *row) { r.responder.Answer([]byte("<html>")) }, transport.CauseOCSPMalformed, 1},
	{"oversized", func(t *testing.T, r *row) { r.responder.Answer(make([]byte, 1<<20)) }, transport.CauseOCSPMalformed, 1},
	{"about another certificate", func(t *testing.T, r *row) {
		r.responder.Answer(r.ca.Respond(t, r.ca.Issue(t, nil).Leaf, nil))
	}, transport.CauseOCSPMalformed, 1},
	{"signed by another CA", func(t *testing.T, r *row) {
		r.responder.Answer(transporttest.NewCA(t).Respond(t, r.cert.Leaf, nil))
	}, transport.CauseOCSPSignature, 1},
	{"signature bent", func(t *testing.T, r *row) {
		der := r.ca.Respond(t, r.cert.Leaf, nil)
		der[len(der)-1] ^= 1
		r.responder.Answer(der)
	}, transport.CauseOCSPSignature, 1},
	{"signed by the server itself", func(t *testing.T, r *row) {
		r.responder.Answer(r.ca.RespondAs(t, r.cert.Leaf, r.cert.Leaf, r.cert.PrivateKey.(crypto.Signer), nil))
	}, transport.CauseOCSPSignature, 1},
	{"delegated", func(t *testing.T, r *row) { r.delegate(t, nil) }, 0, 1},
	{"delegated, expired", func(t *testing.T, r *row) {
		r.delegate(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	}, transport.CauseOCSPSignature, 1},
	{"delegated by another CA", func(t *testing.T, r *row) {
		other := &row{ca: transporttest.NewCA(t), responder: r.responder, cert: r.cert}
		other.delegate(t, nil)
	}, transport.CauseOCSPSignature, 1},
	{"silent", func(t *testing.T, r *row) {
		r.responder.AnswerWith(func(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() })
	}, transport.CauseOCSPUnreachable, 1},
	{"unreachable", func(t *testing.T, r *row) { r.aia(t, "http://127.0.0.1:1/") }, transport.CauseOCSPUnreachable, 0},
	{"not http", func(t *testing.T, r *row) { r.aia(t, "ldap://127.0.0.1/") }, transport.CauseOCSPUnreachable, 0},
	{"first unreachable, second good", func(t *testing.T, r *row) {
		r.aia(t, "http://127.0.0.1:1/", r.responder.URL)
		r.answer(t, nil)
	}, 0, 1},
	{"first revoked, second not asked", func(t *testing.T, r *row) {
		r.aia(t, r.responder.URL, r.responder.URL)
		r.answer(t, revoked)
	}, transport.CauseRevoked, 1},
}

// delegate lets a certificate that the CA made for the purpose sign.
func (r *row) delegate(t *testing.T, edit func(*x509.Certificate)) {
	signer := r.ca.Issue(t, func(c *x509.Certificate) {
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
		if edit != nil {
			edit(c)
		}
	})
	r.responder.Answer(r.ca.RespondAs(t, r.cert.Leaf, signer.Leaf, signer.PrivateKey.(crypto.Signer), nil))
}

func (r *row) aia(t *testing.T, urls ...string) {
	r.cert = r.ca.Issue(t, func(c *x509.Certificate) { c.OCSPServer = urls })
}

func TestOCSP(t *testing.T) {
	for _, c := range ocspRows {
		t.Run(c.name, func(t *testing.T) {
			r := &row{ca: transporttest.NewCA(t), responder: transporttest.NewResponder(t)}
			r.aia(t, r.responder.URL)
			c.set(t, r)
			address := tlsPeer(t, r.cert)
			checkRefusal(t, dial(t, address, r.ca, nil), c.want)
			if n := r.responder.Asked.Load(); n != c.asked {
				t.Errorf("the responder was asked %d times, want %d", n, c.asked)
			}
			// Without OCSP none of this matters.
			checkRefusal(t, dial(t, address, r.ca, func(o *transport.ClientOptions) { o.NoOCSP = true }), 0)
			if n := r.responder.Asked.Load(); n != c.asked {
				t.Error("the responder was asked in spite of NoOCSP")
			}
		})
	}
}

func TestIntermediateIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*ocsp.Response)
		want transport.Cause
	}{"good": {nil, 0}, "revoked": {revoked, transport.CauseRevoked}} {
		t.Run(name, func(t *testing.T) {
			root, responder := transporttest.NewCA(t), transporttest.NewResponder(t)
			middle := root.Intermediate(t, func(c *x509.Certificate) { c.OCSPServer = []string{responder.URL} })
			responder.Answer(root.Respond(t, middle.Cert, c.edit))
			cert := middle.Issue(t, nil)
			cert.OCSPStaple = middle.Respond(t, cert.Leaf, nil)
			cert.Certificate = append(cert.Certificate, middle.Cert.Raw)
			checkRefusal(t, dial(t, tlsPeer(t, cert), root, nil), c.want)
		})
	}
}

func TestCertificate(t *testing.T) {
	ca := transporttest.NewCA(t)
	for name, c := range map[string]struct {
		edit   func(*x509.Certificate)
		client func(*transport.ClientOptions)
		want   transport.Cause
	}{
		"good":       {nil, nil, 0},
		"by address": {nil, func(o *transport.ClientOptions) { o.ServerName = "127.0.0.1" }, 0},
		"expired":    {func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, nil, transport.CauseDates},
		"not yet valid": {func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
		}, nil, transport.CauseDates},
		"other name":    {nil, func(o *transport.ClientOptions) { o.ServerName = "other.example" }, transport.CauseName},
		"other address": {nil, func(o *transport.ClientOptions) { o.ServerName = "127.0.0.2" }, transport.CauseName},
		"other CA": {nil, func(o *transport.ClientOptions) {
			o.Roots = transporttest.NewCA(t).Pool()
		}, transport.CauseUntrusted},
		"system's CAs": {nil, func(o *transport.ClientOptions) { o.Roots = nil }, transport.CauseUntrusted},
		"for clients only": {func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}, nil, transport.CauseCertificate},
	} {
		t.Run(name, func(t *testing.T) {
			cert := ca.Issue(t, c.edit)
			cert.OCSPStaple = ca.Respond(t, cert.Leaf, nil)
			checkRefusal(t, dial(t, tlsPeer(t, cert), ca, c.client), c.want)
		})
	}
}

func TestSelfSignedServerHasNoRevocation(t *testing.T) {
	ca := transporttest.NewCA(t)
	// The server's certificate is the trusted root itself.
	self := ca.Intermediate(t, func(c *x509.Certificate) { c.DNSNames = []string{transporttest.ServerName} })
	cert := &tls.Certificate{Certificate: [][]byte{self.Cert.Raw}, PrivateKey: self.Key, Leaf: self.Cert}
	err := dial(t, tlsPeer(t, cert), self, nil)
	checkRefusal(t, err, transport.CauseNoOCSP)
}

func TestServersThatAreNone(t *testing.T) {
	ca := transporttest.NewCA(t)
	cert := ca.Issue(t, nil)
	weak := func(edit func(*tls.Config)) func(net.Conn) {
		config := &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS10}
		edit(config)
		return func(conn net.Conn) { tls.Server(conn, config).HandshakeContext(context.Background()) }
	}
	for name, serve := range map[string]func(net.Conn){
		"plaintext": func(conn net.Conn) { conn.Write([]byte("220 ready\r\n")); io.Copy(io.Discard, conn) },
		"closes":    func(conn net.Conn) {},
		"silent":    func(conn net.Conn) { io.Copy(io.Discard, conn) },
		"TLS 1.1":   weak(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 }),
		"AES-128": weak(func(c *tls.Config) {
			c.MaxVersion = tls.VersionTLS12
			c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			err := dial(t, peer(t, serve), ca, func(o *transport.ClientOptions) { o.HandshakeTimeout = 300 * time.Millisecond })
			checkRefusal(t, err, transport.CauseHandshake)
		})
	}
	checkRefusal(t, dial(t, "127.0.0.1:1", ca, nil), transport.CauseUnreachable)
	checkRefusal(t, dial(t, "no.such.name.invalid:1", ca, nil), transport.CauseResolve)
}

func TestClientOptions(t *testing.T) {
	for name, o := range map[string]transport.ClientOptions{
		"no name":  {},
		"time-out": {ServerName: "a", OCSPTimeout: -1},
	} {
		if _, err := transport.Dial(t.Context(), "127.0.0.1:1", o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
