package main

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/certfile"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// TestServerCertificateOfAnotherCA: the helper's checks, with cafile=, of a certificate of another CA as the daemon serves it:
// with a staple, with the responder alone, revoked, and without a responder in it.
func TestServerCertificateOfAnotherCA(t *testing.T) {
	ca := transporttest.NewOpenSSLCA(t)
	source := func(t *testing.T, cert, key string) *certfile.Source {
		t.Helper()
		s, err := certfile.Open(t.Context(), certfile.Options{Pairs: []certfile.Pair{{Cert: cert, Key: key}}, Names: []string{"127.0.0.1"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	mount := func(t *testing.T, s *certfile.Source, stapled bool) (int, string) {
		t.Helper()
		b := newBed(t, func(*transporttest.CA) *tls.Certificate {
			cert, err := s.GetCertificate(&tls.ClientHelloInfo{})
			if err != nil || (cert.OCSPStaple != nil) != stapled {
				t.Fatalf("%v, staple of %d bytes", err, len(cert.OCSPStaple))
			}
			return cert
		})
		status, _, stderr := b.mount(t, "cafile="+ca.Root, "-f")
		b.nothingLeft(t)
		return status, stderr
	}
	cert, key := ca.Issue(t, "one", transporttest.OpenSSLLeaf{})
	early := source(t, cert, key) // its responder is down
	ca.StartOCSP(t)
	if status, stderr := mount(t, early, false); status != exitOK {
		t.Errorf("responder alone: %d, %s", status, stderr)
	}
	s := source(t, cert, key)
	ca.StopOCSP()
	if status, stderr := mount(t, s, true); status != exitOK {
		t.Errorf("staple alone: %d, %s", status, stderr)
	}
	if status, stderr := mount(t, early, false); status != exitMount || !strings.Contains(stderr, "responder can't be reached") {
		t.Errorf("neither: %d, %s", status, stderr)
	}
	ca.Revoke(t, "one")
	ca.StartOCSP(t)
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, stderr := mount(t, s, false); status != exitMount || !strings.Contains(stderr, "has been revoked") {
		t.Errorf("revoked: %d, %s", status, stderr)
	}
	cert, key = ca.Issue(t, "bare", transporttest.OpenSSLLeaf{NoAIA: true})
	if status, stderr := mount(t, source(t, cert, key), false); status != exitMount || !strings.Contains(stderr, "nothing says") {
		t.Errorf("no responder: %d, %s", status, stderr)
	}
}
