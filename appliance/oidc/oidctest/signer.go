package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// Signer is one key of a provider.
type Signer struct {
	by      jose.SignatureAlgorithm
	name    string
	private crypto.Signer
}

// NewSigner makes a key of a name that fits an algorithm.
func NewSigner(t testing.TB, by jose.SignatureAlgorithm, name string) *Signer {
	t.Helper()
	curves := map[jose.SignatureAlgorithm]elliptic.Curve{jose.ES256: elliptic.P256(), jose.ES384: elliptic.P384(), jose.ES512: elliptic.P521()}
	s, err := &Signer{by: by, name: name}, error(nil)
	if curve := curves[by]; curve != nil {
		s.private, err = ecdsa.GenerateKey(curve, rand.Reader)
	} else {
		s.private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// By is the same key with another algorithm.
func (s *Signer) By(by jose.SignatureAlgorithm) *Signer { return &Signer{by, s.name, s.private} }

// Token signs claims.
func (s *Signer) Token(t testing.TB, claims map[string]any) string {
	t.Helper()
	return s.TokenOf(t, Text(t, claims))
}

// TokenOf signs a text.
func (s *Signer) TokenOf(t testing.TB, text string) string {
	t.Helper()
	return sign(t, jose.SigningKey{Algorithm: s.by, Key: jose.JSONWebKey{Key: s.private, KeyID: s.name}}, text)
}

// SharedSecret signs claims by HS256 with the public key of s, in PEM's DER, as the secret.
func SharedSecret(t testing.TB, s *Signer, claims map[string]any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(s.private.Public())
	if err != nil {
		t.Fatal(err)
	}
	return sign(t, jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: der, KeyID: s.name}}, Text(t, claims))
}

func sign(t testing.TB, key jose.SigningKey, text string) string {
	t.Helper()
	signer, err := jose.NewSigner(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Text is claims in JSON.
func Text(t testing.TB, claims map[string]any) string {
	t.Helper()
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// WriteKeys writes the public keys of signers to a file.
func WriteKeys(t testing.TB, signers ...*Signer) (file string) {
	t.Helper()
	var set jose.JSONWebKeySet
	for _, s := range signers {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: s.private.Public(), KeyID: s.name, Use: "sig"})
	}
	text, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
