package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	_ "crypto/sha1" // OCSP clients name certificates by SHA-1
	_ "crypto/sha256"
	_ "crypto/sha512"

	"golang.org/x/crypto/ocsp"
)

// errBusy says that too many responses wait to be signed.
var errBusy = errors.New("pki: too many OCSP responses wait to be signed")

// OCSPStats are counters since the start, one for each kind of answer.
type OCSPStats struct {
	Good, Revoked, Unknown uint64
	// Malformed, Unauthorized (another CA's certificate) and TryLater are unsigned answers.
	Malformed, Unauthorized, TryLater uint64
	// Signed counts signatures made, Cached the answers that needed none.
	Signed, Cached uint64
}

// responder answers for one authority. The CA's key signs.
type responder struct {
	a      *Authority
	prefix string // path of OCSPURL
	issuer map[crypto.Hash]issuerHashes
	cache  responseCache

	signing chan struct{} // a place for each signature being made
	queued  atomic.Int64

	good, revoked, unknown, malformed, unauthorized, tryLater, signed, cached atomic.Uint64
}

// issuerHashes name the CA in a CertID (RFC 6960 §4.1.1).
type issuerHashes struct{ name, key []byte }

func (r *responder) init(a *Authority) error {
	u, err := url.Parse(a.o.OCSPURL)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		PublicKey asn1.BitString
	}
	if _, err := asn1.Unmarshal(a.cert.RawSubjectPublicKeyInfo, &spki); err != nil {
		return fmt.Errorf("pki: CA's public key: %w", err)
	}
	r.a, r.prefix = a, strings.TrimSuffix(u.Path, "/")
	r.signing = make(chan struct{}, maxSigning)
	r.issuer = make(map[crypto.Hash]issuerHashes)
	r.cache.responses = make(map[responseKey]response)
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		r.issuer[h] = issuerHashes{name: sum(h, a.cert.RawSubject), key: sum(h, spki.PublicKey.RightAlign())}
	}
	return nil
}

func sum(h crypto.Hash, b []byte) []byte {
	w := h.New()
	w.Write(b)
	return w.Sum(nil)
}

// Responder answers OCSP by POST and GET (RFC 6960 appendix A) for the certificates issued here. It
// is to be served at the path of Options.OCSPURL and below. A request for several certificates is
// answered for the first; nonces are not answered, as RFC 5019 §4 has it.
func (a *Authority) Responder() http.Handler { return &a.ocsp }

// OCSPStats gives the responder's counters.
func (a *Authority) OCSPStats() OCSPStats {
	r := &a.ocsp
	return OCSPStats{
		Good: r.good.Load(), Revoked: r.revoked.Load(), Unknown: r.unknown.Load(),
		Malformed: r.malformed.Load(), Unauthorized: r.unauthorized.Load(), TryLater: r.tryLater.Load(),
		Signed: r.signed.Load(), Cached: r.cached.Load(),
	}
}

// ServeHTTP implements http.Handler.
func (r *responder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	der, status := r.requestOf(req)
	if status != http.StatusOK {
		http.Error(w, http.StatusText(status), status)
		return
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	w.Header().Set("Cache-Control", "no-cache")
	w.Write(r.answer(req.Context(), der))
}

// requestOf takes the DER request out of an HTTP one, or says with which status to refuse it.
func (r *responder) requestOf(req *http.Request) ([]byte, int) {
	switch req.Method {
	case http.MethodPost:
		return postedRequest(req)
	case http.MethodGet:
		return gottenRequest(strings.TrimPrefix(req.URL.Path, r.prefix))
	}
	return nil, http.StatusMethodNotAllowed
}

func postedRequest(req *http.Request) ([]byte, int) {
	if req.Header.Get("Content-Type") != "application/ocsp-request" {
		return nil, http.StatusUnsupportedMediaType
	}
	der, err := io.ReadAll(io.LimitReader(req.Body, maxRequestBytes+1))
	switch {
	case err != nil:
		return nil, http.StatusBadRequest
	case len(der) > maxRequestBytes:
		return nil, http.StatusRequestEntityTooLarge
	}
	return der, http.StatusOK
}

// gottenRequest decodes the base64 in a path, whose percent signs net/http has resolved.
func gottenRequest(path string) ([]byte, int) {
	text := strings.TrimPrefix(path, "/")
	switch {
	case len(text) > base64.StdEncoding.EncodedLen(maxRequestBytes):
		return nil, http.StatusRequestURITooLong
	case text == "":
		return nil, http.StatusBadRequest
	}
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, http.StatusBadRequest
	}
	return der, http.StatusOK
}

// answer gives the DER response to a DER request; every request gets one.
func (r *responder) answer(ctx context.Context, der []byte) []byte {
	req, err := ocsp.ParseRequest(der)
	if err != nil || req.SerialNumber == nil || req.SerialNumber.Sign() <= 0 || req.SerialNumber.BitLen() > 160 {
		r.malformed.Add(1)
		return ocsp.MalformedRequestErrorResponse
	}
	issuer, ok := r.issuer[req.HashAlgorithm]
	if !ok || !bytes.Equal(issuer.name, req.IssuerNameHash) || !bytes.Equal(issuer.key, req.IssuerKeyHash) {
		r.unauthorized.Add(1)
		return ocsp.UnauthorizedErrorResponse
	}
	resp, err := r.respond(ctx, req.SerialNumber, req.HashAlgorithm)
	if err != nil {
		r.tryLater.Add(1)
		return ocsp.TryLaterErrorResponse
	}
	r.count(resp.status)
	return resp.der
}

func (r *responder) count(status int) {
	switch status {
	case ocsp.Good:
		r.good.Add(1)
	case ocsp.Revoked:
		r.revoked.Add(1)
	default:
		r.unknown.Add(1)
	}
}

// respond gives a signed response at least half of whose time is left.
func (r *responder) respond(ctx context.Context, serial *big.Int, hash crypto.Hash) (response, error) {
	key := responseKey{serial: serialText(serial), hash: hash}
	if resp, ok := r.cache.get(key, time.Now()); ok {
		r.cached.Add(1)
		return resp, nil
	}
	if err := r.enter(ctx); err != nil {
		return response{}, err
	}
	defer func() { <-r.signing }()
	issued := r.a.issued.Load()
	resp, err := r.sign(issued, key, serial)
	if err != nil {
		return response{}, err
	}
	// Unknown serials are anybody's to invent: they don't get a place.
	if resp.status != ocsp.Unknown {
		r.cache.put(key, resp, func() bool { return r.a.issued.Load() == issued })
	}
	return resp, nil
}

// enter waits for a place among those who sign, but not in a long queue.
func (r *responder) enter(ctx context.Context) error {
	defer r.queued.Add(-1)
	if r.queued.Add(1) > maxSigningQueued {
		return errBusy
	}
	select {
	case r.signing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("pki: OCSP: %w", context.Cause(ctx))
	}
}

func (r *responder) sign(issued *index, key responseKey, serial *big.Int) (response, error) {
	now := time.Now().UTC().Truncate(time.Second)
	template := ocsp.Response{
		Status: ocsp.Unknown, SerialNumber: serial, IssuerHash: key.hash,
		ThisUpdate: now.Add(-responseBackdate), NextUpdate: now.Add(r.a.o.ResponseValidity),
	}
	if rec, ok := (*issued)[key.serial]; ok {
		template.Status = ocsp.Good
		if rec.Revoked() {
			template.Status, template.RevokedAt, template.RevocationReason = ocsp.Revoked, rec.RevokedAt, int(rec.Reason)
		}
	}
	der, err := ocsp.CreateResponse(r.a.cert, r.a.cert, template, r.a.key)
	if err != nil {
		return response{}, fmt.Errorf("pki: sign OCSP response: %w", err)
	}
	r.signed.Add(1)
	return response{
		der: der, status: template.Status,
		renewAt: now.Add(r.a.o.ResponseValidity / 2), ends: template.NextUpdate,
	}, nil
}

// response is a signed answer. Its der is shared and never changed.
type response struct {
	der           []byte
	status        int
	renewAt, ends time.Time
}

type responseKey struct {
	serial string
	hash   crypto.Hash
}

// responseCache keeps signed answers about known certificates.
type responseCache struct {
	mu        sync.Mutex
	responses map[responseKey]response
}

func (c *responseCache) get(key responseKey, now time.Time) (response, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	resp, ok := c.responses[key]
	return resp, ok && now.Before(resp.renewAt)
}

// put keeps resp if it is still true once the cache is locked. When the cache is full some other goes.
func (c *responseCache) put(key responseKey, resp response, stillTrue func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !stillTrue() {
		return
	}
	if len(c.responses) >= maxCacheEntries {
		for some := range c.responses {
			delete(c.responses, some)
			break
		}
	}
	c.responses[key] = resp
}

func (c *responseCache) forget(serial string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.responses {
		if key.serial == serial {
			delete(c.responses, key)
		}
	}
}
