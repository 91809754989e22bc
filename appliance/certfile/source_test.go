package certfile

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// record keeps events.
type record struct {
	mu     sync.Mutex
	events []Event
}

func (r *record) note(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *record) has(what string, is error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.events, func(e Event) bool { return e.What == what && (is == nil || errors.Is(e.Err, is)) })
}

func open(t *testing.T, o Options) (*Source, *record) {
	t.Helper()
	r := &record{}
	o.Events = r.note
	if o.Names == nil {
		o.Names = names
	}
	if o.Poll == 0 {
		o.Poll = 20 * time.Millisecond
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, r
}

// serve echoes over TLS.
func serve(t *testing.T, s *Source) string {
	t.Helper()
	config, err := transport.ServerConfig(transport.ServerOptions{Certificate: s.GetCertificate})
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
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
				io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

// dial connects with all the checks of a client.
func dial(ctx context.Context, address, server string, roots *x509.CertPool) (net.Conn, error) {
	conn, err := transport.Dial(ctx, address, transport.ClientOptions{Roots: roots, ServerName: server})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

func echo(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, 5)
	if _, err := io.WriteString(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q, %v", got, err)
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 1000 {
		if holds() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("not within ten seconds: ", what)
}

// TestOpenSSLChain has chain and responder of openssl, and our client and openssl's judge what is served.
func TestOpenSSLChain(t *testing.T) {
	ca := transporttest.NewOpenSSLCA(t)
	cert, key := ca.Issue(t, "one", transporttest.OpenSSLLeaf{})
	ca.StartOCSP(t)
	s, events := open(t, Options{Pairs: []Pair{{cert, key}}})
	if state := s.States()[0]; time.Until(state.StapleEnds) < 50*time.Minute || state.File != cert {
		t.Fatalf("no staple: %+v %+v", state, events.events)
	}
	address, roots := serve(t, s), transporttest.PoolOf(t, ca.Root)
	ca.StopOCSP() // so that it is the staple that is believed
	standing, err := dial(t.Context(), address, transporttest.ServerName, roots)
	if err != nil {
		t.Fatal(err)
	}
	defer standing.Close()
	if _, err := dial(t.Context(), address, "fs-2.efs.local-1.nfseal.internal", roots); !errors.Is(err, transport.CauseName) {
		t.Errorf("another name: %v", err)
	}
	out, err := exec.Command("openssl", "s_client", "-connect", address, "-servername", transporttest.ServerName, "-status", "-CAfile", ca.Root,
		"-verify_return_error", "-verify_hostname", transporttest.ServerName).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "OCSP Response Status: successful") || !strings.Contains(string(out), "Cert Status: good") ||
		!strings.Contains(string(out), "Verify return code: 0 (ok)") {
		t.Errorf("openssl: %v\n%s", err, out)
	}

	// A new certificate in the place of the old one, the key after it: what lies between is not used.
	newCert, newKey := ca.Issue(t, "two", transporttest.OpenSSLLeaf{Kind: "rsa2048"})
	ca.StartOCSP(t)
	write(t, cert, read(t, newCert))
	eventually(t, "the mismatch is told of", func() bool { return events.has(EventNotLoaded, ErrMismatch) })
	if conn, err := dial(t.Context(), address, transporttest.ServerName, roots); err != nil {
		t.Errorf("while the files don't fit together: %v", err)
	} else {
		conn.Close()
	}
	write(t, key, read(t, newKey))
	eventually(t, "the new certificate is served", func() bool { return s.served(t).Equal(ca.Leaf(t, "two")) })
	conn, err := dial(t.Context(), address, transporttest.ServerName, roots)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	echo(t, standing)
	echo(t, conn)

	ca.Revoke(t, "two")
	ca.StartOCSP(t)
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t.Context(), address, transporttest.ServerName, roots); !errors.Is(err, transport.CauseRevoked) {
		t.Errorf("revoked: %v", err)
	}
	if !events.has(EventStapleFailed, transport.CauseRevoked) {
		t.Error("the revocation was not told of")
	}
}

// served is the certificate that is given to a client that names none.
func (s *Source) served(t *testing.T) *x509.Certificate {
	t.Helper()
	cert, err := s.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf
}

// files writes a certificate and the CA's behind it.
func files(t *testing.T, ca *transporttest.CA, cert *tls.Certificate) Pair {
	t.Helper()
	dir := t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	chain := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Leaf.Raw})) + string(ca.PEM())
	return Pair{
		Cert: write(t, dir+"/cert.pem", chain),
		Key:  write(t, dir+"/key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))),
	}
}

// TestStapleIsRenewed: a response is replaced before it ends, not at every look; without a newer one it is stapled
// until then.
func TestStapleIsRenewed(t *testing.T) {
	ca, responder := transporttest.NewCA(t), transporttest.NewResponder(t)
	cert := ca.Issue(t, func(c *x509.Certificate) { c.OCSPServer = []string{responder.URL} })
	responder.Answer(endsIn(t, ca, cert, time.Hour))
	s, events := open(t, Options{Pairs: []Pair{files(t, ca, cert)}, Poll: time.Hour}) // the test looks by itself
	first := s.first()
	if !first.askAt.Before(first.staple.Ends) {
		t.Fatalf("the responder is asked at %v, and the staple ends at %v", first.askAt, first.staple.Ends)
	}
	responder.Answer(endsIn(t, ca, cert, 2*time.Hour))
	s.refreshAt(first.askAt.Add(-1))
	if ends := s.first().staple.Ends; ends != first.staple.Ends {
		t.Errorf("replaced before its time by one that ends at %v", ends)
	}
	s.refreshAt(first.askAt)
	second := s.first()
	if second.staple.Ends.Sub(first.staple.Ends) < 59*time.Minute {
		t.Fatalf("the staple ends at %v after one that ends at %v", second.staple.Ends, first.staple.Ends)
	}
	responder.AnswerWith(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	s.refreshAt(second.askAt)
	if !events.has(EventStapleFailed, transport.CauseOCSPHTTP) {
		t.Error("the responder's failure was not told of")
	}
	if !s.showsStaple(t) {
		t.Error("the staple is gone before its end")
	}
}

// TestStapleEnds: the source asks by itself, and does not show a staple that is old.
func TestStapleEnds(t *testing.T) {
	ca, responder := transporttest.NewCA(t), transporttest.NewResponder(t)
	cert := ca.Issue(t, func(c *x509.Certificate) { c.OCSPServer = []string{responder.URL} })
	responder.AnswerWith(func(w http.ResponseWriter, _ *http.Request) { w.Write(endsIn(t, ca, cert, 5*time.Second)) })
	s, events := open(t, Options{Pairs: []Pair{files(t, ca, cert)}})
	eventually(t, "the responder is asked again, and believed", func() bool { return responder.Asked.Load() > 1 && s.showsStaple(t) })
	responder.AnswerWith(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	eventually(t, "the responder's failure is told of", func() bool { return events.has(EventStapleFailed, transport.CauseOCSPHTTP) })
	eventually(t, "an old staple is not shown", func() bool { return !s.showsStaple(t) })
}

// endsIn is an OCSP response that is good for a while, to the second.
func endsIn(t *testing.T, ca *transporttest.CA, cert *tls.Certificate, life time.Duration) []byte {
	return ca.Respond(t, cert.Leaf, func(r *ocsp.Response) { r.NextUpdate = time.Now().Add(life).Truncate(time.Second) })
}

func (s *Source) first() *entry { return (*s.current.Load())[0] }

func (s *Source) refreshAt(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refreshLocked(now)
}

// showsStaple tells whether a client that names no server is given an OCSP response.
func (s *Source) showsStaple(t *testing.T) bool {
	t.Helper()
	cert, err := s.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return cert.OCSPStaple != nil
}

// TestChoosesByName: of several certificates the one that a client asks for.
func TestChoosesByName(t *testing.T) {
	ca := transporttest.NewCA(t)
	pair := func(name string) Pair {
		return files(t, ca, ca.Issue(t, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{name}, nil }))
	}
	s, events := open(t, Options{
		Pairs: []Pair{pair("nfs.example.com"), pair("*.efs.local-1.nfseal.internal")},
		Names: append([]string{"nfs.example.com"}, names...),
	})
	if !events.has(EventNoOCSP, nil) {
		t.Error("nobody was told that there is no responder")
	}
	address := serve(t, s)
	for asked, want := range map[string]string{
		"nfs.example.com": "nfs.example.com", transporttest.ServerName: "*.efs.local-1.nfseal.internal",
		"elsewhere.example": "nfs.example.com", "": "nfs.example.com",
	} {
		conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: asked, InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().PeerCertificates[0].DNSNames[0]; got != want {
			t.Errorf("%q: %s", asked, got)
		}
		conn.Close()
	}
}

// TestWarnsBeforeTheEnd: once a day, not at each look.
func TestWarnsBeforeTheEnd(t *testing.T) {
	ca := transporttest.NewCA(t)
	s, events := open(t, Options{Pairs: []Pair{files(t, ca, ca.Issue(t, nil))}}) // it ends in an hour
	eventually(t, "a warning", func() bool { return events.has(EventExpiring, nil) })
	s.tend(s.stamps(), true)
	events.mu.Lock()
	defer events.mu.Unlock()
	n := 0
	for _, e := range events.events {
		if e.What == EventExpiring {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d warnings", n)
	}
}

// TestOpenRefuses all bad files at once, and takes none.
func TestOpenRefuses(t *testing.T) {
	ca := transporttest.NewCA(t)
	good := files(t, ca, ca.Issue(t, nil))
	bad, worse := good, good
	bad.Key, worse.Cert = "/missing.key", "/missing.pem"
	_, err := Open(t.Context(), Options{Pairs: []Pair{good, bad, worse}, Names: names})
	if err == nil || !strings.Contains(err.Error(), "/missing.key") || !strings.Contains(err.Error(), "/missing.pem") {
		t.Error(err)
	}
	os.Remove(good.Key)
	if err := Check(Options{Pairs: []Pair{good}, Names: names}); !errors.Is(err, ErrUnreadable) {
		t.Error(err)
	}
}
