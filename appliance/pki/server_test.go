package pki

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ocsp"
)

func mustServe(t *testing.T, a *Authority, dir string, r Request) *ServerCertificate {
	t.Helper()
	s, err := a.OpenServerCertificate(t.Context(), dir, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// staple parses what a handshake would staple now.
func staple(t *testing.T, s *ServerCertificate) *ocsp.Response {
	t.Helper()
	cert, err := s.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if cert.OCSPStaple == nil {
		t.Fatal("nothing is stapled")
	}
	resp, err := ocsp.ParseResponseForCert(cert.OCSPStaple, cert.Leaf, s.a.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestServerCertificateStaysTheSame(t *testing.T) {
	o := testOptions(t)
	dir := t.TempDir()
	a := mustOpen(t, o)
	s := mustServe(t, a, dir, someNames)
	serial := s.Serial()
	if staple(t, s).Status != ocsp.Good {
		t.Error("stapled state isn't good")
	}
	s.Close()
	if again := mustServe(t, mustOpen(t, o), dir, someNames); again.Serial() != serial {
		t.Error("reopening issued another certificate")
	}
	if n := len(a.Records()); n != 1 {
		t.Errorf("%d certificates issued, want 1", n)
	}
}

func TestServerCertificateThatDoesNotFitIsReplaced(t *testing.T) {
	more := Request{Names: someNames.Names, Addresses: append([]netip.Addr{netip.MustParseAddr("10.0.0.1")}, someNames.Addresses...)}
	for name, change := range map[string]func(t *testing.T, o *Options, r *Request){
		"other names":        func(_ *testing.T, _ *Options, r *Request) { *r = more },
		"other OCSP address": func(_ *testing.T, o *Options, _ *Request) { o.OCSPURL = "http://10.0.0.1/ocsp" },
		"CA address":         func(_ *testing.T, o *Options, _ *Request) { o.CAURL = "http://10.0.0.1/ca.crt" },
		"other suffix":       func(_ *testing.T, o *Options, _ *Request) { o.Suffix = "example.org" },
		"another host's CA":  func(t *testing.T, o *Options, _ *Request) { o.Dir = filepath.Join(t.TempDir(), "pki") },
	} {
		t.Run(name, func(t *testing.T) {
			o, r, dir := testOptions(t), someNames, t.TempDir()
			s := mustServe(t, mustOpen(t, o), dir, r)
			serial := s.Serial()
			s.Close()
			change(t, &o, &r)
			a := mustOpen(t, o)
			again := mustServe(t, a, dir, r)
			if again.Serial() == serial {
				t.Fatal("the old certificate is still in use")
			}
			if err := again.Leaf().CheckSignatureFrom(a.Certificate()); err != nil {
				t.Error(err)
			}
			if staple(t, again).Status != ocsp.Good {
				t.Error("stapled state isn't good")
			}
		})
	}
}

func TestSetRequest(t *testing.T) {
	s := mustServe(t, mustOpen(t, testOptions(t)), t.TempDir(), someNames)
	serial := s.Serial()
	if err := s.SetRequest(t.Context(), someNames); err != nil || s.Serial() != serial {
		t.Errorf("the same names: %v, serial changed: %v", err, s.Serial() != serial)
	}
	if err := s.SetRequest(t.Context(), Request{Names: []string{"UPPER"}}); err == nil {
		t.Error("accepted a bad name")
	}
	if err := s.SetRequest(t.Context(), AddressesOf([]string{"10.1.2.3", "nas"})); err != nil {
		t.Fatal(err)
	}
	if s.Leaf().VerifyHostname("10.1.2.3") != nil || s.Leaf().VerifyHostname("nas") != nil || s.Leaf().VerifyHostname("box") == nil {
		t.Errorf("names are %q", s.Names())
	}
}

func TestRenewalAndRestapling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(t)
		o.ResponseValidity = 36 * time.Hour
		a := mustOpen(t, o)
		s := mustServe(t, a, t.TempDir(), someNames)
		defer s.Close()
		first := s.Serial()
		began := time.Now()
		for time.Since(began) < 59*24*time.Hour {
			if left := time.Until(staple(t, s).NextUpdate); left < o.ResponseValidity/2-time.Second {
				t.Fatalf("after %v the staple has only %v left", time.Since(began), left)
			}
			time.Sleep(7 * time.Hour)
		}
		if s.Serial() != first {
			t.Fatalf("renewed after %v", time.Since(began))
		}
		time.Sleep(2 * 24 * time.Hour)
		synctest.Wait()
		if s.Serial() == first {
			t.Fatal("not renewed after two thirds of its time")
		}
		if left := time.Until(s.Leaf().NotAfter); left < 88*24*time.Hour {
			t.Errorf("the new one is valid for %v", left)
		}
		if staple(t, s).Status != ocsp.Good {
			t.Error("the new one isn't stapled as good")
		}
	})
}

func TestRevocationIsStapledAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := mustOpen(t, testOptions(t))
		s := mustServe(t, a, t.TempDir(), someNames)
		defer s.Close()
		for range 3 {
			if err := a.Revoke(s.Serial(), ReasonKeyCompromise); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if staple(t, s).Status != ocsp.Revoked {
				t.Fatal("still stapled as good")
			}
			if err := s.Renew(t.Context()); err != nil {
				t.Fatal(err)
			}
			if staple(t, s).Status != ocsp.Good {
				t.Fatal("renewed one isn't good")
			}
			synctest.Wait()
		}
	})
}

// brokenSealer fails while it is told to.
type brokenSealer struct {
	Sealer
	broken *atomic.Bool
}

func (b brokenSealer) Seal(ctx context.Context, plain []byte, ec map[string]string) ([]byte, error) {
	if b.broken.Load() {
		return nil, errors.New("the root of trust is away")
	}
	return b.Sealer.Seal(ctx, plain, ec)
}

func TestFailedRenewalIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		var failures atomic.Int64
		o := testOptions(t)
		o.Sealer = brokenSealer{o.Sealer, &broken}
		o.LeafValidity = 24 * time.Hour
		o.Events = func(e Event) {
			if e.What == EventRenewalFailed && e.Err != nil {
				failures.Add(1)
			}
		}
		s := mustServe(t, mustOpen(t, o), t.TempDir(), someNames)
		defer s.Close()
		serial := s.Serial()
		broken.Store(true)
		time.Sleep(17 * time.Hour)
		if s.Serial() != serial || failures.Load() == 0 {
			t.Fatalf("%d failures seen", failures.Load())
		}
		if staple(t, s).Status != ocsp.Good {
			t.Error("the old certificate isn't stapled meanwhile")
		}
		broken.Store(false)
		time.Sleep(2 * retryRenewal)
		synctest.Wait()
		if s.Serial() == serial {
			t.Error("not renewed when the root of trust was back")
		}
	})
}

func TestAgedStapleIsNotShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustServe(t, mustOpen(t, testOptions(t)), t.TempDir(), someNames)
		s.Close() // nobody restaples from here on
		time.Sleep(DefaultResponseValidity + time.Second)
		cert, err := s.GetCertificate(nil)
		if err != nil || cert.OCSPStaple != nil {
			t.Errorf("stapled %d bytes of yesterday, %v", len(cert.OCSPStaple), err)
		}
	})
}

func TestStoredCertificateNearItsEndIsReplacedAtOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, dir := testOptions(t), t.TempDir()
		a := mustOpen(t, o)
		s := mustServe(t, a, dir, someNames)
		serial := s.Serial()
		s.Close()
		time.Sleep(61 * 24 * time.Hour)
		again := mustServe(t, mustOpen(t, o), dir, someNames)
		defer again.Close()
		if again.Serial() == serial {
			t.Error("not replaced")
		}
	})
}

func TestExpiredAuthorityIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(t)
		a := mustOpen(t, o)
		time.Sleep(DefaultCAValidity + time.Hour)
		if _, err := Open(t.Context(), o); !errors.Is(err, ErrCAExpired) {
			t.Errorf("open: %v", err)
		}
		if _, err := a.Issue(t.Context(), someNames); !errors.Is(err, ErrCAExpired) {
			t.Errorf("issue: %v", err)
		}
	})
}
