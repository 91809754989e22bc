package transport

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"
)

// OCSPCache keeps what responders said, so that each connection needn't ask: only "good", and only until the answer's
// nextUpdate, before which there may be nothing newer (RFC 6960 §2.4). An answer without nextUpdate isn't kept. The zero
// value is ready. Its methods may be called concurrently.
type OCSPCache struct {
	mu      sync.Mutex
	answers map[[sha256.Size]byte]ocspAnswer
}

// ocspAnswer is a response in DER, which is judged again each time that it is used.
type ocspAnswer struct {
	der  []byte
	ends time.Time
}

// good says whether a kept answer still calls cert good. A nil cache has none.
func (c *OCSPCache) good(cert, issuer *x509.Certificate, now time.Time) bool {
	if c == nil {
		return false
	}
	key := sha256.Sum256(cert.Raw)
	c.mu.Lock()
	answer, ok := c.answers[key]
	c.mu.Unlock()
	if !ok {
		return false
	}
	cause, _ := judgeResponse(answer.der, cert, issuer, now)
	return cause == 0
}

// keep takes in an answer that was judged to be good.
func (c *OCSPCache) keep(cert *x509.Certificate, der []byte) {
	if c == nil {
		return
	}
	resp, err := ocsp.ParseResponseForCert(der, cert, nil)
	if err != nil || resp.NextUpdate.IsZero() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers == nil {
		c.answers = make(map[[sha256.Size]byte]ocspAnswer)
	}
	if len(c.answers) >= maxOCSPAnswers {
		c.dropOldestLocked()
	}
	c.answers[sha256.Sum256(cert.Raw)] = ocspAnswer{der: der, ends: resp.NextUpdate}
}

// dropOldestLocked makes room by what ends first.
func (c *OCSPCache) dropOldestLocked() {
	var oldest [sha256.Size]byte
	var ends time.Time
	for key, answer := range c.answers {
		if ends.IsZero() || answer.ends.Before(ends) {
			oldest, ends = key, answer.ends
		}
	}
	delete(c.answers, oldest)
}
