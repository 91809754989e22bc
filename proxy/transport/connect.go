package transport

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/url"
	"strings"
	"time"
)

// Why a proof is not taken.
var (
	ErrProofOld       = errors.New("the proof is over a day old")
	ErrProofFuture    = errors.New("the proof is from the future: compare the clocks")
	ErrProofSignature = errors.New("the signature does not match: wrong secret, region, file system or key pair")
)

// Connect is the request that a Proof signs with AWS Signature Version 4. It is never sent. Its
// canonical form, in which \n is a line end and there is no empty line after the header:
//
//	GET\n/\nAction=Connect&PublicKeyHash=<40 hex digits>&X-Amz-Algorithm=AWS4-HMAC-SHA256
//	&X-Amz-Credential=<key id>%2F<date>%2F<region>%2Felasticfilesystem%2Faws4_request
//	&X-Amz-Date=<time>&X-Amz-Expires=86400[&X-Amz-Security-Token=<token>]&X-Amz-SignedHeaders=host
//	\nhost:<file system id>\nhost\n<SHA-256 of nothing>
//
// So a proof is good for one key pair, one file system and one region, for a day.
type Connect struct {
	AccessKeyID  string
	SessionToken string // "" for none
	Region       string
	FileSystem   string
	KeyHash      []byte // SHA-1 of the client's public key
	Time         time.Time
}

const (
	algorithm  = "AWS4-HMAC-SHA256"
	service    = "elasticfilesystem"
	terminator = "aws4_request"
	dateFormat = "20060102"
	timeFormat = "20060102T150405Z"
	emptyHash  = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// Verify returns nil if signature is c's, made with the secret access key, and not too old at the
// time now.
func (c *Connect) Verify(secret string, signature [32]byte, now time.Time) error {
	switch age := now.Sub(c.Time); {
	case age > proofLife:
		return ErrProofOld
	case age < -clockSkew:
		return ErrProofFuture
	}
	if sum := c.Sign(secret); !hmac.Equal(sum[:], signature[:]) {
		return ErrProofSignature
	}
	return nil
}

// Sign returns the signature of c with a secret access key.
func (c *Connect) Sign(secret string) [32]byte {
	scope := c.scope()
	request := sha256.Sum256([]byte(c.canonicalRequest()))
	text := strings.Join([]string{algorithm, c.Time.UTC().Format(timeFormat), scope, hex.EncodeToString(request[:])}, "\n")
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		next := sign(key, part)
		clear(key)
		key = next
	}
	defer clear(key)
	return [32]byte(sign(key, text))
}

func sign(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func (c *Connect) scope() string {
	return strings.Join([]string{c.Time.UTC().Format(dateFormat), c.Region, service, terminator}, "/")
}

func (c *Connect) canonicalRequest() string {
	query := []string{
		"Action=Connect",
		"PublicKeyHash=" + hex.EncodeToString(c.KeyHash),
		"X-Amz-Algorithm=" + algorithm,
		"X-Amz-Credential=" + url.QueryEscape(c.AccessKeyID+"/"+c.scope()),
		"X-Amz-Date=" + c.Time.UTC().Format(timeFormat),
		"X-Amz-Expires=86400",
	}
	if c.SessionToken != "" {
		query = append(query, "X-Amz-Security-Token="+url.QueryEscape(c.SessionToken))
	}
	query = append(query, "X-Amz-SignedHeaders=host")
	return strings.Join([]string{"GET", "/", strings.Join(query, "&"), "host:" + c.FileSystem, "host", emptyHash}, "\n")
}
