package pki

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ServerCertificate is a server's certificate and key, kept in a directory, renewed and stapled
// while it is open. Its methods may be called concurrently.
type ServerCertificate struct {
	a       *Authority
	path    string
	request Request

	// current is replaced by the holder of mu.
	current atomic.Pointer[stapled]
	mu      sync.Mutex

	ctx    context.Context // ends the goroutine and what it waits for
	cancel context.CancelFunc
	done   chan struct{} // closed by the goroutine
	wake   chan struct{} // room for one
}

// stapled is a certificate with an OCSP response and the end of that response's time.
type stapled struct {
	bare, with *tls.Certificate
	restapleAt time.Time
	stapleEnds time.Time
}

// OpenServerCertificate opens the server certificate in dir (made 0700 if missing), or issues one
// where there is none or where the one there doesn't fit: another CA's, other names, another OCSP
// address, or two thirds of its time over.
func (a *Authority) OpenServerCertificate(ctx context.Context, dir string, r Request) (*ServerCertificate, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	s := &ServerCertificate{
		a: a, path: filepath.Join(dir, "server.json"), request: r,
		done: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	revoked := a.revocations() // before the first staple, so that none is missed
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	go s.run(revoked)
	return s, nil
}

func (s *ServerCertificate) open(ctx context.Context) error {
	cert, key, err := readKeyFile(ctx, s.path, purposeServer, s.a.o.Sealer)
	if errors.Is(err, fs.ErrNotExist) {
		return s.Renew(ctx)
	}
	if err != nil {
		return err
	}
	if !s.fits(cert) || !time.Now().Before(renewAt(cert)) {
		return s.Renew(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.publishLocked(ctx, &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert})
}

// fits says whether a stored certificate is what would be issued now, but for its dates.
func (s *ServerCertificate) fits(cert *x509.Certificate) bool {
	if cert.CheckSignatureFrom(s.a.cert) != nil || !slices.Equal(cert.OCSPServer, []string{*s.a.ocspURL.Load()}) {
		return false
	}
	if _, known := (*s.a.issued.Load())[serialText(cert.SerialNumber)]; !known {
		return false
	}
	want, err := s.a.leafTemplate(s.request)
	return err == nil && slices.Equal(namesOf(want), namesOf(cert)) &&
		slices.Equal(want.IssuingCertificateURL, cert.IssuingCertificateURL)
}

// renewAt is when two thirds of a certificate's time are over.
func renewAt(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 3 * 2)
}

// Renew issues a new certificate with a new key and puts it in the place of the old one: on disk first,
// then for the handshakes that follow. Connections that stand are not touched.
func (s *ServerCertificate) Renew(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cert, err := s.a.Issue(ctx, s.request)
	if err != nil {
		return err
	}
	key := cert.PrivateKey.(*ecdsa.PrivateKey)
	if err := writeKeyFile(ctx, s.path, purposeServer, s.a.o.Sealer, cert.Leaf, key); err != nil {
		return err
	}
	if err := s.publishLocked(ctx, cert); err != nil {
		return err
	}
	s.a.o.Events(Event{What: EventRenewed, Serial: serialText(cert.Leaf.SerialNumber), Names: namesOf(cert.Leaf)})
	s.nudge()
	return nil
}

// publishLocked staples cert and makes it current.
func (s *ServerCertificate) publishLocked(ctx context.Context, cert *tls.Certificate) error {
	resp, err := s.a.ocsp.respond(ctx, cert.Leaf.SerialNumber, crypto.SHA1)
	if err != nil {
		return err
	}
	with := *cert
	with.OCSPStaple = resp.der
	s.current.Store(&stapled{bare: cert, with: &with, restapleAt: resp.renewAt, stapleEnds: resp.ends})
	return nil
}

// GetCertificate is for tls.Config. It gives the current certificate with its OCSP response, or
// without one in the case that the response has aged: the client can still ask the responder.
func (s *ServerCertificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c := s.current.Load()
	if time.Now().Before(c.stapleEnds) {
		return c.with, nil
	}
	return c.bare, nil
}

// Leaf is the current certificate.
func (s *ServerCertificate) Leaf() *x509.Certificate { return s.current.Load().bare.Leaf }

// Serial is the current certificate's serial number as Authority.Revoke takes it.
func (s *ServerCertificate) Serial() string { return serialText(s.Leaf().SerialNumber) }

// SetRequest changes the names; a certificate that lacks them is replaced before it returns.
func (s *ServerCertificate) SetRequest(ctx context.Context, r Request) error {
	if err := r.validate(); err != nil {
		return err
	}
	r = Request{Names: slices.Clone(r.Names), Addresses: slices.Clone(r.Addresses)}
	s.mu.Lock()
	s.request = r
	fits := s.fits(s.Leaf())
	s.mu.Unlock()
	if fits {
		return nil
	}
	return s.Renew(ctx)
}

// Names gives the names and addresses in the current certificate.
func (s *ServerCertificate) Names() []string { return namesOf(s.Leaf()) }

// Close ends renewal and waits for it. The certificate can still be used.
func (s *ServerCertificate) Close() error {
	s.cancel()
	<-s.done
	return nil
}

func (s *ServerCertificate) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run renews certificate and staple until Close; revoked is closed at the next revocation.
func (s *ServerCertificate) run(revoked <-chan struct{}) {
	defer close(s.done)
	for {
		wait := s.tend()
		timer := time.NewTimer(wait)
		select {
		case <-s.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-s.wake:
		case <-revoked:
			revoked = s.a.revocations()
			s.restaple()
		}
		timer.Stop()
	}
}

// tend does what is due and says how long nothing will be.
func (s *ServerCertificate) tend() time.Duration {
	c := s.current.Load()
	now := time.Now()
	if !now.Before(renewAt(c.bare.Leaf)) {
		if err := s.Renew(s.ctx); err != nil {
			s.a.o.Events(Event{What: EventRenewalFailed, Serial: s.Serial(), Names: s.Names(), Err: err})
			s.restapleIfDue(now)
			return retryRenewal
		}
	}
	if !s.restapleIfDue(now) {
		return retryRenewal
	}
	c = s.current.Load()
	return max(time.Second, min(time.Until(renewAt(c.bare.Leaf)), time.Until(c.restapleAt)))
}

func (s *ServerCertificate) restapleIfDue(now time.Time) bool {
	if now.Before(s.current.Load().restapleAt) {
		return true
	}
	return s.restaple()
}

func (s *ServerCertificate) restaple() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.publishLocked(s.ctx, s.current.Load().bare)
	if err != nil {
		s.a.o.Events(Event{What: EventStapleFailed, Serial: s.Serial(), Err: err})
	}
	return err == nil
}

// AddressesOf gives the addresses that text holds, for a Request; what is no address is a name.
func AddressesOf(hosts []string) Request {
	var r Request
	for _, h := range hosts {
		if addr, err := netip.ParseAddr(h); err == nil {
			r.Addresses = append(r.Addresses, addr)
			continue
		}
		r.Names = append(r.Names, h)
	}
	return r
}
