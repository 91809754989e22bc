package kms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/nfseal/nfseal/appliance/durable"
)

// What can be wrong with a key file.
var (
	ErrNoKeyFile    = errors.New("kms: there is no key file")
	ErrKeyFileMode  = errors.New("kms: the key file can be read by others")
	ErrKeyFileShape = errors.New("kms: the key file holds no key")
)

// KeyID names a root key. It is derived from the key one way and is no secret.
type KeyID [16]byte

// String returns the id as 32 hexadecimal digits.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// ParseKeyID is the inverse of String.
func ParseKeyID(s string) (KeyID, error) {
	var id KeyID
	if n, err := hex.Decode(id[:], []byte(s)); len(s) != 2*len(id) || err != nil || n != len(id) {
		return KeyID{}, fmt.Errorf("kms: %q is not a key id", s)
	}
	return id, nil
}

// RootKey is the root of trust, ready for use. Every formatter shows its id alone.
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

// CreateKeyFile makes a new key at path, which must not exist, with mode 0600, durably.
func CreateKeyFile(path string) error {
	var secret [KeyBytes]byte
	rand.Read(secret[:]) // never fails (crypto/rand)
	defer clear(secret[:])
	text := append(hex.AppendEncode(nil, secret[:]), '\n')
	defer clear(text)
	if err := durable.CreateFile(path, text, 0o600); err != nil {
		return fmt.Errorf("kms: key file can't be made: %w", err)
	}
	return nil
}

// ReadKeyFile reads the key at path. It writes nothing.
func ReadKeyFile(path string) (*RootKey, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w at %s", ErrNoKeyFile, path)
	}
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o, it must be 0600 (chmod 600 %s)",
			ErrKeyFileMode, path, info.Mode().Perm(), path)
	}
	text, err := durable.ReadFile(path, maxKeyFileBytes)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	defer clear(text)
	secret, err := decodeKey(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, path)
	}
	defer clear(secret)
	return newRootKey(secret)
}

// decodeKey takes both forms of a key file and returns a slice of its own.
func decodeKey(text []byte) ([]byte, error) {
	if len(text) == KeyBytes {
		return bytes.Clone(text), nil
	}
	digits := bytes.TrimRight(text, "\r\n")
	secret := make([]byte, KeyBytes)
	if len(digits) != 2*KeyBytes {
		return nil, ErrKeyFileShape
	}
	if _, err := hex.Decode(secret, digits); err != nil {
		clear(secret)
		return nil, ErrKeyFileShape // the cause would quote a byte of the key
	}
	return secret, nil
}

// newRootKey derives what is used from the 32 bytes of secret, which the caller wipes.
func newRootKey(secret []byte) (*RootKey, error) {
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
