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
	return newOnPath(key, bestPath())
}

// path is one implementation of the cipher.
type path uint8

const (
	pathStandard path = iota // crypto/cipher's
	pathVAES                 // 32 bytes an instruction, AVX2
	pathVAES512              // 64 bytes an instruction, AVX-512
	pathCount
)

// String names the path in tests.
func (p path) String() string {
	return [pathCount]string{"standard", "VAES", "VAES-512"}[p]
}

// bestPath is the fastest path that this processor has and gets right, and crypto/cipher's in FIPS 140 mode.
var bestPath = sync.OnceValue(func() path {
	for p := pathCount - 1; p > pathStandard && !fips140.Enabled(); p-- {
		if available(p) && selfTest(p) {
			return p
		}
	}
	return pathStandard
})

// newOnPath is New on a path that the processor has.
func newOnPath(key []byte, p path) (AEAD, error) {
	if len(key) != KeyBytes {
		return nil, fmt.Errorf("gcm: key of %d bytes", len(key))
	}
	if p == pathStandard {
		return newStandard(key)
	}
	return newOwn(key, p), nil
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

// selfTest compares a path with crypto/cipher. It is there for emulators, which announce instructions that they do not get
// right.
func selfTest(p path) bool {
	key := make([]byte, KeyBytes)
	for i := range key {
		key[i] = byte(i * 5)
	}
	yardstick, err := newStandard(key)
	return err == nil && sameAnswers(newOwn(key, p), yardstick)
}

// sameAnswers says whether two ciphers agree on messages of some lengths.
func sameAnswers(a, b AEAD) bool {
	nonce, extra := make([]byte, NonceBytes), make([]byte, 29)
	for _, n := range []int{0, 1, 16, 31, 63, 256, 512, 1024 + 512 + 77} {
		nonce[0]++
		plain := make([]byte, n)
		for i := range plain {
			plain[i] = byte(i*7 + i>>8)
		}
		sealed := b.Seal(nil, nonce, plain, extra)
		opened, err := a.Open(nil, nonce, sealed, extra)
		if err != nil || !bytes.Equal(opened, plain) || !bytes.Equal(a.Seal(nil, nonce, plain, extra), sealed) {
			return false
		}
		if !bytes.Equal(a.SealWith(nil, nonce, plain, 23, extra), b.SealWith(nil, nonce, plain, 23, extra)) {
			return false
		}
	}
	return true
}
