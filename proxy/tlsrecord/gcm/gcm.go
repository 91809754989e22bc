package gcm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/fips140"
	"fmt"
	"sync"
)

// What the standard fixes.
const (
	// KeyBytes is the length of a key.
	KeyBytes = 32
	// NonceBytes is the length of a nonce.
	NonceBytes = 12
	// TagBytes is what a sealed message is longer than its plaintext.
	TagBytes = 16

	blockBytes = 16
	// mostText is the longest message: 2^32 − 2 blocks (NIST SP 800-38D §5.2.1.1).
	mostText = (1<<32 - 2) * blockBytes
)

// New returns AES-256-GCM with a key, which stays the caller's. Nonces are NonceBytes long, others panic. A destination
// begins where the source does or is apart from it. Methods may be called concurrently.
func New(key []byte) (cipher.AEAD, error) {
	if len(key) == KeyBytes && useWide() {
		return newWide(key), nil
	}
	return newStandard(key)
}

func newStandard(key []byte) (cipher.AEAD, error) {
	if len(key) != KeyBytes {
		return nil, fmt.Errorf("gcm: key of %d bytes", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("gcm: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("gcm: %w", err)
	}
	return aead, nil
}

// useWide says whether this process uses the assembly.
var useWide = sync.OnceValue(func() bool { return available() && !fips140.Enabled() && selfTest() })

// selfTest compares the assembly with crypto/cipher. It is there for emulators, which announce instructions that they do
// not get right.
func selfTest() bool {
	key, nonce := make([]byte, KeyBytes), make([]byte, NonceBytes)
	for i := range key {
		key[i] = byte(i * 5)
	}
	standard, err := newStandard(key)
	if err != nil {
		return false
	}
	w := newWide(key)
	for _, n := range []int{0, 1, 16, 63, 512, 1024 + 512 + 77} {
		nonce[0]++
		plain := make([]byte, n)
		for i := range plain {
			plain[i] = byte(i*7 + i>>8)
		}
		sealed := standard.Seal(nil, nonce, plain, key)
		opened, err := w.Open(nil, nonce, sealed, key)
		if err != nil || !bytes.Equal(opened, plain) || !bytes.Equal(w.Seal(nil, nonce, plain, key), sealed) {
			return false
		}
	}
	return true
}
