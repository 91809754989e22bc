package pki

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

func encodings(b []byte) [][]byte {
	forms := [][]byte{b, []byte(hex.EncodeToString(b))}
	// Base64 at each of the three places that the bytes can have in a longer text.
	for shift := range 3 {
		text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), b...))
		forms = append(forms, []byte(text[4:len(text)-4]))
	}
	return forms
}

func issue(t testing.TB, a *Authority) *tls.Certificate {
	t.Helper()
	pair, err := a.Issue(t.Context(), someNames)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func request(t testing.TB, cert, issuer *x509.Certificate, hash crypto.Hash) []byte {
	t.Helper()
	der, err := ocsp.CreateRequest(cert, issuer, &ocsp.RequestOptions{Hash: hash})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// serve gives a server that has the responder where OCSPURL says, in a mux as the daemon has it.
func serve(t *testing.T, a *Authority) string {
	mux := http.NewServeMux()
	mux.Handle("/ocsp", a.Responder())
	mux.Handle("/ocsp/", a.Responder())
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL + "/ocsp"
}

func post(t *testing.T, address string, der []byte) (int, []byte) {
	t.Helper()
	return read(t)(http.Post(address, "application/ocsp-request", bytes.NewReader(der)))
}

func read(t *testing.T) func(*http.Response, error) (int, []byte) {
	return func(resp *http.Response, err error) (int, []byte) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, body
	}
}

func TestResponderStates(t *testing.T) {
	a := mustOpen(t, testOptions(t))
	address := serve(t, a)
	good, revoked, unknown := issue(t, a), issue(t, a), issue(t, a)
	if err := a.Revoke(serialText(revoked.Leaf.SerialNumber), ReasonKeyCompromise); err != nil {
		t.Fatal(err)
	}
	unknown.Leaf.SerialNumber = big.NewInt(4711)
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		for want, pair := range map[int]*tls.Certificate{ocsp.Good: good, ocsp.Revoked: revoked, ocsp.Unknown: unknown} {
			status, body := post(t, address, request(t, pair.Leaf, a.Certificate(), hash))
			resp, err := ocsp.ParseResponseForCert(body, pair.Leaf, a.Certificate())
			if status != 200 || err != nil {
				t.Fatalf("%v %d: HTTP %d, %v", hash, want, status, err)
			}
			if resp.Status != want || resp.IssuerHash != hash {
				t.Errorf("%v: state %d with hash %v, want %d", hash, resp.Status, resp.IssuerHash, want)
			}
			now := time.Now()
			if resp.ThisUpdate.After(now) || resp.NextUpdate.Before(now.Add(DefaultResponseValidity-time.Minute)) {
				t.Errorf("valid from %v to %v", resp.ThisUpdate, resp.NextUpdate)
			}
			if want == ocsp.Revoked && (resp.RevocationReason != int(ReasonKeyCompromise) || now.Sub(resp.RevokedAt) > time.Minute) {
				t.Errorf("revoked at %v, reason %d", resp.RevokedAt, resp.RevocationReason)
			}
		}
	}
	stats := a.OCSPStats()
	if stats.Good != 4 || stats.Revoked != 4 || stats.Unknown != 4 {
		t.Errorf("stats %+v", stats)
	}
}

func TestResponderOverGet(t *testing.T) {
	a := mustOpen(t, testOptions(t))
	address := serve(t, a)
	// Some requests have two slashes in a row in base64; look until one was tried.
	for tries := 0; ; tries++ {
		pair := issue(t, a)
		text := base64.StdEncoding.EncodeToString(request(t, pair.Leaf, a.Certificate(), crypto.SHA1))
		if !strings.Contains(text, "/") {
			continue
		}
		status, body := read(t)(http.Get(address + "/" + url.QueryEscape(text)))
		if _, err := ocsp.ParseResponseForCert(body, pair.Leaf, a.Certificate()); status != 200 || err != nil {
			t.Fatalf("%s: HTTP %d, %v", text, status, err)
		}
		if tries >= 10 {
			return
		}
	}
}

func TestResponderRefuses(t *testing.T) {
	a := mustOpen(t, testOptions(t))
	other := mustOpen(t, testOptions(t))
	address := serve(t, a)
	pair := issue(t, a)
	der := request(t, pair.Leaf, a.Certificate(), crypto.SHA1)

	for name, c := range map[string]struct {
		der  []byte
		want []byte
	}{
		"another CA's":    {request(t, pair.Leaf, other.Certificate(), crypto.SHA1), ocsp.UnauthorizedErrorResponse},
		"empty":           {nil, ocsp.MalformedRequestErrorResponse},
		"garbage":         {[]byte("GET / HTTP/1.1"), ocsp.MalformedRequestErrorResponse},
		"cut":             {der[:len(der)-1], ocsp.MalformedRequestErrorResponse},
		"trailing":        {append(bytes.Clone(der), 0), ocsp.MalformedRequestErrorResponse},
		"negative serial": {requestFor(t, a, big.NewInt(-1)), ocsp.MalformedRequestErrorResponse},
		"huge serial":     {requestFor(t, a, new(big.Int).Lsh(big.NewInt(1), 8000)), ocsp.MalformedRequestErrorResponse},
	} {
		if status, body := post(t, address, c.der); status != 200 || !bytes.Equal(body, c.want) {
			t.Errorf("%s: HTTP %d, % x, want % x", name, status, body, c.want)
		}
	}
	if signed := a.OCSPStats().Signed; signed != 0 {
		t.Errorf("%d signatures for requests that deserve none", signed)
	}

	do := func(method, url, contentType string, body io.Reader) int {
		req, err := http.NewRequest(method, url, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		status, _ := read(t)(http.DefaultClient.Do(req))
		return status
	}
	for name, c := range map[string]struct{ got, want int }{
		"too large":     {do("POST", address, "application/ocsp-request", bytes.NewReader(make([]byte, maxRequestBytes+1))), 413},
		"content type":  {do("POST", address, "text/plain", bytes.NewReader(der)), 415},
		"method":        {do("PUT", address, "application/ocsp-request", bytes.NewReader(der)), 405},
		"GET nothing":   {do("GET", address, "", nil), 400},
		"GET garbage":   {do("GET", address+"/%25%25", "", nil), 400},
		"GET too large": {do("GET", address+"/"+strings.Repeat("A", 2*maxRequestBytes), "", nil), 414},
	} {
		if c.got != c.want {
			t.Errorf("%s: HTTP %d, want %d", name, c.got, c.want)
		}
	}
}

func requestFor(t testing.TB, a *Authority, serial *big.Int) []byte {
	cert := *a.Certificate()
	cert.SerialNumber = serial
	return request(t, &cert, a.Certificate(), crypto.SHA1)
}

func TestResponsesAreCachedUntilRevocation(t *testing.T) {
	a := mustOpen(t, testOptions(t))
	pair := issue(t, a)
	der := request(t, pair.Leaf, a.Certificate(), crypto.SHA1)
	state := func() int {
		resp, err := ocsp.ParseResponseForCert(a.ocsp.answer(t.Context(), der), pair.Leaf, a.Certificate())
		if err != nil {
			t.Fatal(err)
		}
		return resp.Status
	}
	for range 100 {
		if state() != ocsp.Good {
			t.Fatal("not good")
		}
	}
	if s := a.OCSPStats(); s.Signed != 1 || s.Cached != 99 {
		t.Errorf("%d signed, %d cached", s.Signed, s.Cached)
	}
	if err := a.Revoke(serialText(pair.Leaf.SerialNumber), ReasonSuperseded); err != nil {
		t.Fatal(err)
	}
	if state() != ocsp.Revoked {
		t.Error("a revoked certificate is answered from the cache as good")
	}
}

func TestUnknownSerialsDoNotFillTheCache(t *testing.T) {
	a := mustOpen(t, testOptions(t))
	for i := range 50 {
		a.ocsp.answer(t.Context(), requestFor(t, a, big.NewInt(int64(i+1))))
	}
	if n := len(a.ocsp.cache.responses); n != 0 {
		t.Errorf("%d responses kept", n)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := responseCache{responses: make(map[responseKey]response)}
	for i := range maxCacheEntries + 100 {
		c.put(responseKey{serial: serialText(big.NewInt(int64(i + 1)))}, response{}, func() bool { return true })
	}
	if len(c.responses) != maxCacheEntries {
		t.Errorf("%d entries", len(c.responses))
	}
}

// TestRevocationIsNeverForgotten asks while revoking: once Revoke has returned, no answer says good.
func TestRevocationIsNeverForgotten(t *testing.T) {
	a := mustOpen(t, testOptions(t))
	for range 5 {
		pair := issue(t, a)
		der := request(t, pair.Leaf, a.Certificate(), crypto.SHA1)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						a.ocsp.answer(t.Context(), der)
					}
				}
			})
		}
		if err := a.Revoke(serialText(pair.Leaf.SerialNumber), ReasonUnspecified); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			resp, err := ocsp.ParseResponseForCert(a.ocsp.answer(t.Context(), der), pair.Leaf, a.Certificate())
			if err != nil || resp.Status != ocsp.Revoked {
				t.Fatalf("state %v, %v after the revocation", resp, err)
			}
		}
		close(stop)
		wg.Wait()
	}
}

func TestBusyResponderSaysTryLater(t *testing.T) {
	a := mustOpen(t, testOptions(t))
	for range maxSigning {
		a.ocsp.signing <- struct{}{}
	}
	a.ocsp.queued.Store(maxSigningQueued)
	pair := issue(t, a)
	der := request(t, pair.Leaf, a.Certificate(), crypto.SHA1)
	if got := a.ocsp.answer(t.Context(), der); !bytes.Equal(got, ocsp.TryLaterErrorResponse) {
		t.Errorf("answer % x", got)
	}
	if n := a.ocsp.queued.Load(); n != maxSigningQueued {
		t.Errorf("%d in the queue, want %d", n, maxSigningQueued)
	}
}

func FuzzAnswer(f *testing.F) {
	a := mustOpen(f, testOptions(f))
	pair := issue(f, a)
	f.Add(request(f, pair.Leaf, a.Certificate(), crypto.SHA1))
	f.Add(request(f, pair.Leaf, a.Certificate(), crypto.SHA256))
	f.Add([]byte{0x30, 0x00})
	f.Fuzz(func(t *testing.T, der []byte) {
		_, err := ocsp.ParseResponse(a.ocsp.answer(t.Context(), der), a.Certificate())
		if _, refused := err.(ocsp.ResponseError); err != nil && !refused {
			t.Fatalf("the answer to % x doesn't parse: %v", der, err)
		}
	})
}
