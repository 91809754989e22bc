package trust

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

const (
	// MaxWrappedBytes bounds what a root makes of a secret.
	MaxWrappedBytes = 16 << 10
	saltBytes       = 16
)

// gcm makes the cipher of one wrapped secret of key, which is KeyBytes long and the caller's.
func gcm(kind Kind, key []byte) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key, nil, "nfseal root of trust v1 "+string(kind), KeyBytes)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	defer clear(derived)
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func additional(kind Kind, aad []byte) []byte {
	return append([]byte("nfseal root of trust v1\x00"+string(kind)+"\x00"), aad...)
}

// seal encrypts secret under key, which serves for this secret alone.
func seal(kind Kind, key, secret, aad []byte) ([]byte, error) {
	aead, err := gcm(kind, key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, secret, additional(kind, aad)), nil
}

// open is the inverse of seal. ErrRefused if the key or anything else is not what it was.
func open(kind Kind, key, sealed, aad []byte) ([]byte, error) {
	aead, err := gcm(kind, key)
	if err != nil {
		return nil, err
	}
	secret, err := aead.Open(nil, nil, sealed, additional(kind, aad))
	if err != nil {
		return nil, ErrRefused
	}
	if len(secret) != KeyBytes {
		clear(secret)
		return nil, ErrDamaged
	}
	return secret, nil
}

// salted is a secret that was wrapped under a key that a root derives from what it has and a salt.
type salted struct {
	Salt   []byte `json:"salt"`
	Sealed []byte `json:"sealed"`
}

func sealSalted(kind Kind, derive func(salt []byte) ([]byte, error), secret, aad []byte) ([]byte, error) {
	w := salted{Salt: newSalt()}
	key, err := derive(w.Salt)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	if w.Sealed, err = seal(kind, key, secret, aad); err != nil {
		return nil, err
	}
	return encode(w)
}

func openSalted(kind Kind, derive func(salt []byte) ([]byte, error), wrapped, aad []byte) ([]byte, error) {
	var w salted
	if err := decode(wrapped, &w); err != nil {
		return nil, err
	}
	key, err := derive(w.Salt)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return open(kind, key, w.Sealed, aad)
}

func newSalt() []byte {
	salt := make([]byte, saltBytes)
	rand.Read(salt) // never fails (crypto/rand)
	return salt
}

// decode reads the JSON of something wrapped.
func decode(wrapped []byte, into any) error {
	if len(wrapped) > MaxWrappedBytes || json.Unmarshal(wrapped, into) != nil {
		return ErrDamaged
	}
	return nil
}

func encode(from any) ([]byte, error) {
	text, err := json.Marshal(from)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	return text, nil
}
