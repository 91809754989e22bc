//go:build !purego

package xts

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// available says whether this processor can take path p.
func available(p path) bool {
	switch p {
	case pathGeneric:
		return true
	case pathAESNI:
		return cpu.X86.HasAES && cpu.X86.HasAVX
	case pathVAES:
		return cpu.X86.HasAES && cpu.X86.HasAVX2 && cpuidLeaf7()&hasVAES != 0
	}
	return false
}

// hasVAES is the bit of ECX of CPUID leaf 7 for AES instructions on ymm registers. Package cpu has
// it only for processors with AVX-512. A processor with AVX2 has leaf 7.
const hasVAES = 1 << 9

// vaesBlocks is how many blocks the VAES path does together.
const vaesBlocks = 16

// expand makes the schedules that the path needs.
func (c *Cipher) expand(key []byte) error {
	if c.path == pathGeneric {
		return c.expandGeneric(key)
	}
	expandAESNI(&key[0], &c.enc)
	invertAESNI(&c.enc, &c.dec)
	expandAESNI(&key[KeyBytes/2], &c.tweak)
	return nil
}

// encryptTweaks turns the first n unit numbers into initial tweaks. The others may become anything.
func (c *Cipher) encryptTweaks(tweaks *[tweakBatch][BlockBytes]byte, n int) {
	switch {
	case c.path == pathGeneric:
		c.encryptTweaksGeneric(tweaks[:n])
	case n == 1:
		tweakAESNI(&c.tweak, &tweaks[0])
	default:
		tweaksAESNI(&c.tweak, tweaks)
	}
}

// blocks does n whole blocks and leaves the tweak of the block after them in t.
func (c *Cipher) blocks(dst, src *byte, n int, t *[BlockBytes]byte, decrypt bool) {
	if c.path == pathGeneric {
		c.blocksGeneric(dst, src, n, t, decrypt)
		return
	}
	keys := &c.enc
	if decrypt {
		keys = &c.dec
	}
	if many := n &^ (vaesBlocks - 1); c.path == pathVAES && many > 0 {
		if decrypt {
			decryptVAES(keys, dst, src, many, t)
		} else {
			encryptVAES(keys, dst, src, many, t)
		}
		if n -= many; n == 0 {
			return
		}
		dst = (*byte)(unsafe.Add(unsafe.Pointer(dst), many*BlockBytes))
		src = (*byte)(unsafe.Add(unsafe.Pointer(src), many*BlockBytes))
	}
	if decrypt {
		decryptAESNI(keys, dst, src, n, t)
	} else {
		encryptAESNI(keys, dst, src, n, t)
	}
}

// Assembly, AES-NI with AVX's three operands. Each handles n ≥ 0 blocks of any alignment; dst is
// src or does not overlap it; tweak moves on to the next block.

//go:noescape
func encryptAESNI(keys *[scheduleBytes]byte, dst, src *byte, blocks int, tweak *[BlockBytes]byte)

//go:noescape
func decryptAESNI(keys *[scheduleBytes]byte, dst, src *byte, blocks int, tweak *[BlockBytes]byte)

// tweakAESNI encrypts one unit number in place, tweaksAESNI a batch.
//
//go:noescape
func tweakAESNI(keys *[scheduleBytes]byte, tweak *[BlockBytes]byte)

//go:noescape
func tweaksAESNI(keys *[scheduleBytes]byte, tweaks *[tweakBatch][BlockBytes]byte)

// expandAESNI expands an AES-256 key for encryption (FIPS 197 §5.2), invertAESNI makes the schedule
// of the equivalent inverse cipher from it (§5.3.5).
//
//go:noescape
func expandAESNI(key *byte, keys *[scheduleBytes]byte)

//go:noescape
func invertAESNI(keys, inverse *[scheduleBytes]byte)

// Assembly, VAES on ymm registers. blocks is a positive multiple of vaesBlocks; else as above.

//go:noescape
func encryptVAES(keys *[scheduleBytes]byte, dst, src *byte, blocks int, tweak *[BlockBytes]byte)

//go:noescape
func decryptVAES(keys *[scheduleBytes]byte, dst, src *byte, blocks int, tweak *[BlockBytes]byte)

// cpuidLeaf7 returns ECX of CPUID leaf 7, subleaf 0.
func cpuidLeaf7() (ecx uint32)
