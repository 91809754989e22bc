package xts

import "sync"

// path is one implementation of the cipher.
type path uint8

const (
	pathClosed path = iota
	pathGeneric
	pathAESNI // 16 bytes at a time
	pathVAES  // 32 bytes at a time, AVX2
	pathCount
)

// String names the path in tests and reports.
func (p path) String() string {
	return [pathCount]string{"closed", "generic", "AES-NI", "VAES"}[p]
}

// bestPath returns the fastest path that this processor has and gets right.
var bestPath = sync.OnceValue(func() path {
	for p := pathCount - 1; p > pathGeneric; p-- {
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

// sameAnswers says whether two ciphers agree in both directions on two units, which leave every
// remainder of the interleavings: 63 blocks, and 9 bytes for ciphertext stealing.
func sameAnswers(c, g *Cipher) bool {
	const unitBytes = 63*BlockBytes + 9
	var plain, a, b [2 * unitBytes]byte
	for i := range plain {
		plain[i] = byte(i * 7)
	}
	first := Unit{Hi: 1, Lo: ^uint64(0)}
	c.Encrypt(a[:], plain[:], unitBytes, first)
	g.Encrypt(b[:], plain[:], unitBytes, first)
	if a != b {
		return false
	}
	c.Decrypt(a[:], plain[:], unitBytes, first)
	g.Decrypt(b[:], plain[:], unitBytes, first)
	return a == b
}
