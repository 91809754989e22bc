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

// AEAD is AES-256-GCM with one key. Nonces are NonceBytes long, others panic. A destination begins where the source does
// or is apart from it. Methods may be called concurrently.
type AEAD interface {
	cipher.AEAD
	// SealWith is Seal of plaintext and one byte behind it, as a record of TLS 1.3 has it (RFC 8446 §5.2), so that plaintext
	// need not be moved to where there is room for that. dst has capacity for all, or new memory is taken.
	SealWith(dst, nonce, plaintext []byte, last byte, extra []byte) []byte
}

// New returns AES-256-GCM with a key, which stays the caller's.
func New(key []byte) (AEAD, error) {
	if len(key) == KeyBytes && useWide() {
		return newWide(key), nil
	}
	return newStandard(key)
}

// standard is the cipher of crypto/cipher.
type standard struct{ cipher.AEAD }

// SealWith implements AEAD.
func (s standard) SealWith(dst, nonce, plaintext []byte, last byte, extra []byte) []byte {
	all, out := grow(dst, len(plaintext)+1+TagBytes)
	n := copy(out, plaintext)
	out[n] = last
	s.Seal(out[:0], nonce, out[:n+1], extra)
	return all
}

// grow appends room for n bytes to dst.
func grow(dst []byte, n int) (all, room []byte) {
	if have := len(dst); cap(dst)-have >= n {
		all = dst[:have+n]
	} else {
		all = append(dst[:have:have], make([]byte, n)...)
	}
	return all, all[len(dst):]
}

func newStandard(key []byte) (AEAD, error) {
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
	return standard{aead}, nil
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
	own, err := newStandard(key)
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
		sealed := own.Seal(nil, nonce, plain, key)
		opened, err := w.Open(nil, nonce, sealed, key)
		if err != nil || !bytes.Equal(opened, plain) || !bytes.Equal(w.Seal(nil, nonce, plain, key), sealed) {
			return false
		}
		if !bytes.Equal(w.SealWith(nil, nonce, plain, 23, key), own.SealWith(nil, nonce, plain, 23, key)) {
			return false
		}
	}
	return true
}
