package pki

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Errors of an Authority.
var (
	// ErrUnknownSerial says that the certificate isn't in the index.
	ErrUnknownSerial = errors.New("pki: no certificate with this serial number was issued here")
	// ErrCAExpired says that the CA itself is past its end.
	ErrCAExpired = errors.New("pki: the certificate authority has expired")
)

// Authority is a certificate authority with its index of issued certificates. Its methods may be
// called concurrently.
type Authority struct {
	o    Options
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte

	// issued is replaced as a whole, by the holder of mu, after the new one is on disk.
	issued atomic.Pointer[index]
	mu     sync.Mutex
	// changed is closed and replaced at each revocation; mu guards the variable.
	changed chan struct{}

	ocsp    responder
	ocspURL atomic.Pointer[string] // as Options.OCSPURL, or as it was changed
}

// Open opens the authority in o.Dir, or makes one where there is none.
func Open(ctx context.Context, o Options) (*Authority, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	a := &Authority{o: o, changed: make(chan struct{})}
	a.SetOCSPURL(o.OCSPURL)
	if err := a.open(ctx); err != nil {
		return nil, err
	}
	if now := time.Now(); now.After(a.cert.NotAfter) {
		return nil, fmt.Errorf("%w on %s", ErrCAExpired, a.cert.NotAfter.Format(time.DateOnly))
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	if err := writeFile(filepath.Join(o.Dir, "ca.pem"), a.pem, 0o644); err != nil {
		return nil, err
	}
	if err := a.ocsp.init(a); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Authority) open(ctx context.Context) error {
	path := filepath.Join(a.o.Dir, "ca.json")
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pki: %w", err)
	}
	haveCA := err == nil
	ix, err := openIndex(a.indexPath(), haveCA)
	if err != nil {
		return err
	}
	a.issued.Store(&ix)
	if haveCA {
		a.cert, a.key, err = readKeyFile(ctx, path, purposeCA, a.o.Sealer)
		return err
	}
	return a.create(ctx, path)
}

// SetOCSPURL changes where clients reach the responder, for the certificates that are issued or looked at from now on.
// Its path stays.
func (a *Authority) SetOCSPURL(url string) { a.ocspURL.Store(&url) }

func (a *Authority) indexPath() string { return filepath.Join(a.o.Dir, "index.json") }

// create makes the CA. Its file appears whole or not at all.
func (a *Authority) create(ctx context.Context, path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	serial := newSerial()
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"nfseal"}, CommonName: "nfseal CA " + a.o.Region + " " + serialText(serial)[:8]},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(a.o.CAValidity),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	cert, err := sign(template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	if err := writeKeyFile(ctx, path, purposeCA, a.o.Sealer, cert, key); err != nil {
		return err
	}
	a.cert, a.key = cert, key
	a.o.Events(Event{What: EventCACreated, Serial: serialText(serial)})
	return nil
}

// Certificate is the CA's certificate.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// PEM is the CA's certificate as clients want it in a file. The caller doesn't change it.
func (a *Authority) PEM() []byte { return a.pem }

// Pool holds the CA's certificate alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Records lists the certificates issued and not long expired, by serial.
func (a *Authority) Records() []Record { return a.issued.Load().records() }

// Request says what a server certificate is to hold besides the wildcard.
type Request struct {
	// Names are DNS names in lower case.
	Names []string
	// Addresses are IP addresses.
	Addresses []netip.Addr
}

func (r Request) validate() error {
	if len(r.Names)+len(r.Addresses) > maxNames {
		return fmt.Errorf("pki: more than %d names in one certificate", maxNames)
	}
	for _, name := range r.Names {
		if len(name) > 253 || !dnsName.MatchString(name) {
			return fmt.Errorf("pki: %q is not a DNS name in lower case", name)
		}
	}
	for _, addr := range r.Addresses {
		if !addr.IsValid() || addr.Zone() != "" {
			return fmt.Errorf("pki: address %q can't be in a certificate", addr)
		}
	}
	return nil
}

// Issue makes a key and a server certificate for it. The certificate is in the index before Issue
// returns. The key exists in memory only.
func (a *Authority) Issue(_ context.Context, r Request) (*tls.Certificate, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	template, err := a.leafTemplate(r)
	if err != nil {
		return nil, err
	}
	cert, err := sign(template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	if err := a.record(recordOf(cert)); err != nil {
		return nil, err
	}
	a.o.Events(Event{What: EventIssued, Serial: serialText(cert.SerialNumber), Names: namesOf(cert)})
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

func (a *Authority) leafTemplate(r Request) (*x509.Certificate, error) {
	now := time.Now()
	end := now.Add(a.o.LeafValidity)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	if !end.After(now) {
		return nil, ErrCAExpired
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: a.o.Wildcard()},
		NotBefore:             now.Add(-backdate),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		OCSPServer:            []string{*a.ocspURL.Load()},
		DNSNames:              append([]string{a.o.Wildcard()}, r.Names...),
	}
	if a.o.CAURL != "" {
		template.IssuingCertificateURL = []string{a.o.CAURL}
	}
	for _, addr := range r.Addresses {
		template.IPAddresses = append(template.IPAddresses, addr.Unmap().AsSlice())
	}
	return template, nil
}

func (a *Authority) record(r Record) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.recordLocked(r)
}

func (a *Authority) recordLocked(r Record) error {
	fresh, err := a.issued.Load().with(r, time.Now())
	if err != nil {
		return err
	}
	if err := writeIndex(a.indexPath(), fresh); err != nil {
		return err
	}
	a.issued.Store(&fresh)
	return nil
}

// Revoke revokes the certificate with the serial (hexadecimal, lower case). When it returns, the
// revocation is on disk and OCSP answers with it. Revoking twice keeps the first date and reason.
// A ServerCertificate that is revoked stays in use, stapled as revoked, until its Renew.
func (a *Authority) Revoke(serial string, reason Reason) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok := (*a.issued.Load())[serial]
	if !ok {
		return fmt.Errorf("%w: %s", ErrUnknownSerial, serial)
	}
	if r.Revoked() {
		return nil
	}
	r.RevokedAt, r.Reason = time.Now().UTC().Truncate(time.Second), reason
	if err := a.recordLocked(r); err != nil {
		return err
	}
	a.ocsp.cache.forget(serial)
	close(a.changed)
	a.changed = make(chan struct{})
	a.o.Events(Event{What: EventRevoked, Serial: serial, Names: r.Names})
	return nil
}

// revocations gives a channel that is closed at the next revocation.
func (a *Authority) revocations() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.changed
}

func sign(template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("pki: sign certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("pki: own certificate doesn't parse: %w", err)
	}
	return cert, nil
}

// newSerial gives a positive number of 127 random bits (RFC 5280 §4.1.2.2 allows 20 octets).
func newSerial() *big.Int {
	var b [serialBytes]byte
	rand.Read(b[:])
	b[0] = b[0]&0x7f | 0x40 // never short, never negative
	return new(big.Int).SetBytes(b[:])
}

func serialText(n *big.Int) string { return hex.EncodeToString(n.Bytes()) }

func recordOf(cert *x509.Certificate) Record {
	return Record{
		Serial: serialText(cert.SerialNumber), Names: namesOf(cert),
		NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC(),
	}
}

func namesOf(cert *x509.Certificate) []string {
	names := append([]string(nil), cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}
