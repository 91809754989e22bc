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
	id     KeyID
	aead   cipher.AEAD // makes and prepends its own random nonce
	tokens cipher.AEAD // the same, of session tokens
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
	aead, err := derive(secret, "nfseal root key wrapping v1")
	if err != nil {
		return nil, err
	}
	tokens, err := derive(secret, "nfseal root key session tokens v1")
	if err != nil {
		return nil, err
	}
	return &RootKey{KeyID(id), aead, tokens}, nil
}

// derive makes the cipher of one purpose.
func derive(secret []byte, purpose string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return aead, nil
}

// SealToken encrypts what a session token holds. That is no record here: whoever lets the token go out
// records that, and nobody can be let fill the log with tokens that are none.
func (k *RootKey) SealToken(text []byte) []byte { return k.tokens.Seal(nil, nil, text, nil) }

// OpenToken is the inverse of SealToken; ErrInvalidCiphertext. The caller wipes what it gets.
func (k *RootKey) OpenToken(sealed []byte) ([]byte, error) {
	text, err := k.tokens.Open(nil, nil, sealed, nil)
	if err != nil {
		return nil, ErrInvalidCiphertext
	}
	return text, nil
}
