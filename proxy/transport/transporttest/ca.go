package transporttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// ServerName is in every certificate of Issue, besides 127.0.0.1.
const ServerName = "fs-0123456789abcdef0.efs.local-1.nfseal.internal"

// CA is a certificate authority.
type CA struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// NewCA makes a self-signed CA.
func NewCA(t testing.TB) *CA {
	t.Helper()
	return newCA(t, nil, nil)
}

// Intermediate makes a CA below ca. edit may change the template.
func (ca *CA) Intermediate(t testing.TB, edit func(*x509.Certificate)) *CA {
	t.Helper()
	return newCA(t, ca, edit)
}

func newCA(t testing.TB, parent *CA, edit func(*x509.Certificate)) *CA {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber:          serial(t),
		Subject:               pkix.Name{CommonName: "test CA " + serial(t).String()},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	if edit != nil {
		edit(template)
	}
	signer := &CA{Cert: template, Key: key}
	if parent != nil {
		signer = parent
	}
	return &CA{Cert: sign(t, template, signer, &key.PublicKey), Key: key}
}

// Issue makes a server certificate for ServerName and 127.0.0.1. edit may change the template before it
// is signed.
func (ca *CA) Issue(t testing.TB, edit func(*x509.Certificate)) *tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: serial(t),
		Subject:      pkix.Name{CommonName: ServerName},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{ServerName},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if edit != nil {
		edit(template)
	}
	leaf := sign(t, template, ca, &key.PublicKey)
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// Pool holds the CA alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	return pool
}

// PEM is the CA's certificate as a file has it.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw})
}

// Respond signs an OCSP response about cert with the CA's key: good, from a minute ago, for an hour. edit
// may change the template.
func (ca *CA) Respond(t testing.TB, cert *x509.Certificate, edit func(*ocsp.Response)) []byte {
	t.Helper()
	return ca.RespondAs(t, cert, ca.Cert, ca.Key, edit)
}

// RespondAs is Respond with the key, and for other than the CA the certificate, of somebody else.
func (ca *CA) RespondAs(t testing.TB, cert, signer *x509.Certificate, key crypto.Signer, edit func(*ocsp.Response)) []byte {
	t.Helper()
	template := ocsp.Response{
		Status: ocsp.Good, SerialNumber: cert.SerialNumber,
		ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour),
	}
	if signer != ca.Cert {
		template.Certificate = signer
	}
	if edit != nil {
		edit(&template)
	}
	der, err := ocsp.CreateResponse(ca.Cert, signer, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Responder is an OCSP responder that gives whatever Answer says.
type Responder struct {
	URL string
	// Asked counts requests.
	Asked  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

// NewResponder starts one that answers 500 until told otherwise; it ends with the test.
func NewResponder(t testing.TB) *Responder {
	t.Helper()
	r := &Responder{}
	r.AnswerWith(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no answer set", 500) })
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.Asked.Add(1)
		io.Copy(io.Discard, req.Body)
		(*r.answer.Load())(w, req)
	}))
	t.Cleanup(srv.Close)
	r.URL = srv.URL
	return r
}

// Answer makes der the answer to every request.
func (r *Responder) Answer(der []byte) {
	r.AnswerWith(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/ocsp-response")
		w.Write(der)
	})
}

// AnswerWith makes h answer.
func (r *Responder) AnswerWith(h http.HandlerFunc) { r.answer.Store(&h) }

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	return n.Add(n, big.NewInt(1))
}

func sign(t testing.TB, template *x509.Certificate, ca *CA, public *ecdsa.PublicKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, public, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
