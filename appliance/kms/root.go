package kms

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// KeyID names a root key. It is derived from the key one way and is no secret.
type KeyID [16]byte

// String returns the id as 32 hexadecimal digits.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// ParseKeyID is the inverse of String.
func ParseKeyID(s string) (KeyID, error) {
	var id KeyID
	if len(s) != 2*len(id) {
		return KeyID{}, fmt.Errorf("kms: %.64q is not a key id", s)
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return KeyID{}, fmt.Errorf("kms: %q is not a key id", s)
	}
	return id, nil
}

// RootKey is the root key, ready for use. Every formatter shows its id alone.
type RootKey struct {
	id   KeyID
	aead cipher.AEAD // makes and prepends its own random nonce
}

// ID returns the name of the key.
func (k *RootKey) ID() KeyID { return k.id }

// String, GoString, Format and MarshalJSON keep the key out of logs and errors.
func (k *RootKey) String() string { return "root key " + k.id.String() }

// GoString is String.
func (k *RootKey) GoString() string { return k.String() }

// Format is String, whatever the verb.
func (k *RootKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// MarshalJSON is the id in quotes.
func (k *RootKey) MarshalJSON() ([]byte, error) { return []byte(`"` + k.id.String() + `"`), nil }

// NewRootKey derives what is used from the KeyBytes bytes of secret, which the caller wipes.
func NewRootKey(secret []byte) (*RootKey, error) {
	if len(secret) != KeyBytes {
		return nil, fmt.Errorf("kms: a root key has %d bytes, not %d", KeyBytes, len(secret))
	}
	id, err := hkdf.Key(sha256.New, secret, nil, "nfseal root key id v1", len(KeyID{}))
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	wrapping, err := hkdf.Key(sha256.New, secret, nil, "nfseal root key wrapping v1", 32)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	defer clear(wrapping)
	block, err := aes.NewCipher(wrapping)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return &RootKey{id: KeyID(id), aead: aead}, nil
}
