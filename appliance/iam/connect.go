package iam

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
	ErrProofOld       = errors.New("iam: the proof is over a day old")
	ErrProofFuture    = errors.New("iam: the proof is from the future: compare the clocks")
	ErrProofSignature = errors.New("iam: the signature does not match: wrong secret, region, file system or key pair")
)

// Connect is the request that a connection's proof signs.
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

// Verify returns nil if signature is c's, made with secret, and not too old at the time now.
func (c *Connect) Verify(secret Secret, signature [32]byte, now time.Time) error {
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

// Sign returns the signature of c with secret (AWS Signature Version 4).
func (c *Connect) Sign(secret Secret) [32]byte {
	scope := c.scope()
	request := sha256.Sum256([]byte(c.canonicalRequest()))
	text := strings.Join([]string{algorithm, c.Time.UTC().Format(timeFormat), scope, hex.EncodeToString(request[:])}, "\n")
	key := []byte("AWS4" + secret.text)
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
