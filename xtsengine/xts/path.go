package xts

import (
	"bytes"
	"sync"

	"github.com/nfseal/nfseal/internal/x86"
)

// path is one implementation of the cipher.
type path uint8

const (
	pathClosed path = iota
	pathGeneric
	pathAESNI      // 16 bytes at a time
	pathVAES       // 32 bytes at a time, AVX2
	pathVAES512    // 64 bytes at a time, AVX-512
	pathVAES512Mul // the same, with its tweaks made by carry-less multiplication
	pathCount
)

// String names the path in tests and reports.
func (p path) String() string {
	return [pathCount]string{"closed", "generic", "AES-NI", "VAES", "VAES-512", "VAES-512-CLMUL"}[p]
}

// bestPath returns the fastest path that this processor has and gets right.
var bestPath = sync.OnceValue(func() path {
	for _, p := range fastestFirst(x86.Vendor()) {
		if available(p) && selfTest(p) {
			return p
		}
	}
	return pathGeneric
})

// selfTest compares path p with the generic one. It is there for emulators, which announce
// instructions that they do not get right: QEMU 7.2 copies the lower half of a ymm register over
// the upper one in VAESENC. What such a machine wrote, no other could read.
func selfTest(p path) bool {
	var key [KeyBytes]byte
	for i := range key {
		key[i] = byte(i)
	}
	c, err := newOnPath(key[:], p)
	if err != nil {
		return false
	}
	g, err := newOnPath(key[:], pathGeneric)
	return err == nil && sameAnswers(c, g)
}

// sameAnswers says whether two ciphers agree in both directions on two units that leave every
// remainder of the interleavings, 63 blocks and 9 bytes for ciphertext stealing, and on runs of
// whole ones of one group and of several, in which the tweaks of four are made together more than
// once.
func sameAnswers(c, g *Cipher) bool {
	const odd, whole = 63*BlockBytes + 9, 3 * groupBytes
	return sameRun(c, g, 2*odd, odd) && sameRun(c, g, 9*whole, whole) && sameRun(c, g, 9*groupBytes, groupBytes)
}

func sameRun(c, g *Cipher, n, unitBytes int) bool {
	plain, a, b := make([]byte, n), make([]byte, n), make([]byte, n)
	for i := range plain {
		plain[i] = byte(i*7 + i>>8)
	}
	for _, first := range []Unit{{Hi: 1, Lo: ^uint64(0)}, {Hi: 5, Lo: 1<<32 - 2}} {
		c.Encrypt(a, plain, unitBytes, first)
		g.Encrypt(b, plain, unitBytes, first)
		if !bytes.Equal(a, b) {
			return false
		}
		c.Decrypt(a, plain, unitBytes, first)
		g.Decrypt(b, plain, unitBytes, first)
		if !bytes.Equal(a, b) {
			return false
		}
	}
	return true
}
