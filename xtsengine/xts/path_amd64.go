//go:build !purego

package xts

import (
	"math"
	"unsafe"

	"golang.org/x/sys/cpu"

	"github.com/nfseal/nfseal/internal/aes256"
	"github.com/nfseal/nfseal/internal/x86"
)

// available says whether this processor can take path p.
func available(p path) bool {
	switch p {
	case pathGeneric:
		return true
	case pathAESNI:
		return aes256.Available()
	case pathVAES:
		return aes256.Available() && cpu.X86.HasBMI2 && x86.VAES()
	case pathVAES512:
		return available(pathVAES) && cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW
	case pathVAES512Mul:
		return available(pathVAES512) && cpu.X86.HasAVX512VPCLMULQDQ
	}
	return false
}

// fastestFirst lists the paths in the order in which to try them on a processor of the vendor. Both
// VAES-512 paths run on any processor that has their instructions: what differs is what the AES units
// share. Intel's do 512 bits on one port, which has the shifts too, and carry-less multiplication on
// the other; on AMD's processors the multiplication takes an AES round's place, and shifts do not.
func fastestFirst(vendor string) []path {
	if vendor == "GenuineIntel" {
		return []path{pathVAES512Mul, pathVAES512, pathVAES, pathAESNI}
	}
	return []path{pathVAES512, pathVAES, pathAESNI}
}

const (
	// aesniBlocks is how many blocks the path AES-NI does together.
	aesniBlocks = 8
	// octetBlocks is what the path VAES counts in; groupOctets of them it does together.
	octetBlocks = 8
	octetBytes  = octetBlocks * BlockBytes
	groupOctets = 3
	// vaesUnits is how many first tweaks are made at once for the path VAES, tweaksTogether of them
	// side by side.
	vaesUnits      = 64
	tweaksTogether = 16
	// tweaksAhead is how many first tweaks the path VAES may look at beyond those of its run.
	tweaksAhead = groupOctets + 1
)

// expand makes the schedules that the path needs.
func (c *Cipher) expand(key []byte) error {
	if c.path == pathGeneric {
		return c.expandGeneric(key)
	}
	aes256.Expand((*[aes256.KeyBytes]byte)(key), &c.enc)
	invertAESNI(&c.enc, &c.dec)
	aes256.Expand((*[aes256.KeyBytes]byte)(key[KeyBytes/2:]), &c.tweak)
	if c.wideRegisters() {
		c.wide.enc.spread(&c.enc)
		c.wide.dec.spread(&c.dec)
		c.wide.tweak.spread(&c.tweak)
	}
	return nil
}

// wideRegisters says whether the path is one on zmm registers.
func (c *Cipher) wideRegisters() bool { return c.path == pathVAES512 || c.path == pathVAES512Mul }

// spread sets w to keys.
func (w *wideSchedule) spread(keys *aes256.Schedule) {
	for at := range w {
		w[at] = keys[at/(4*BlockBytes)*BlockBytes+at%BlockBytes]
	}
}

// encryptTweaks turns the first n unit numbers into initial tweaks. The others may become anything.
func (c *Cipher) encryptTweaks(tweaks *[tweakBatch][BlockBytes]byte, n int) {
	switch {
	case c.path == pathGeneric:
		c.encryptTweaksGeneric(tweaks[:n])
	case n == 1:
		aes256.Encrypt(&c.tweak, &tweaks[0], &tweaks[0])
	default:
		tweaksAESNI(&c.tweak, tweaks)
	}
}

// wholeUnits does the whole data units of the run if the path has a way over units of their size,
// and returns how many bytes they are.
func (c *Cipher) wholeUnits(dst, src []byte, unitBytes int, first Unit, decrypt bool) (done int) {
	switch {
	case c.wideRegisters() && unitBytes%groupBytes == 0:
		return c.wideUnits(dst, src, unitBytes, first, decrypt)
	case c.path < pathVAES || unitBytes%octetBytes != 0 || unitBytes == octetBytes:
		return 0
	case len(src) < 2*unitBytes:
		return c.octetUnit(dst, src, unitBytes, first, decrypt)
	default:
		return c.octetUnits(dst, src, unitBytes, first, decrypt)
	}
}

// wideUnits is wholeUnits on zmm registers.
func (c *Cipher) wideUnits(dst, src []byte, unitBytes int, first Unit, decrypt bool) (done int) {
	left := len(src) / unitBytes
	if first.Lo+uint64(left)+tweakBatch < first.Lo { // the assembly carries nothing to Hi
		return 0
	}
	for left > 0 {
		units := min(left, max(maxCallBytes/unitBytes, 1))
		switch groups := unitBytes / groupBytes; {
		case c.path == pathVAES512Mul && decrypt:
			decryptVAES512Mul(&c.wide.dec, &c.wide.tweak, &dst[done], &src[done], groups, units, first.Lo, first.Hi)
		case c.path == pathVAES512Mul:
			encryptVAES512Mul(&c.wide.enc, &c.wide.tweak, &dst[done], &src[done], groups, units, first.Lo, first.Hi)
		case decrypt:
			decryptVAES512(&c.wide.dec, &c.wide.tweak, &dst[done], &src[done], groups, units, first.Lo, first.Hi)
		default:
			encryptVAES512(&c.wide.enc, &c.wide.tweak, &dst[done], &src[done], groups, units, first.Lo, first.Hi)
		}
		done += units * unitBytes
		first.Lo += uint64(units)
		left -= units
	}
	return done
}

// octetUnits is wholeUnits on ymm registers.
func (c *Cipher) octetUnits(dst, src []byte, unitBytes int, first Unit, decrypt bool) (done int) {
	var tweaks [vaesUnits + tweaksAhead][BlockBytes]byte
	for left := len(src) / unitBytes; left > 0; {
		units := min(left, vaesUnits, max(maxCallBytes/unitBytes, 1))
		for i := range units {
			first.Add(uint64(i)).put(&tweaks[i])
		}
		tweaksVAES(&c.tweak, &tweaks[0], (units+tweaksTogether-1)/tweaksTogether)
		c.octets(&dst[done], &src[done], units*unitBytes/octetBytes, unitBytes/octetBytes, &tweaks[0], decrypt)
		done += units * unitBytes
		first = first.Add(uint64(units))
		left -= units
	}
	clear(tweaks[:])
	return done
}

// octetUnit is octetUnits for a run of one.
func (c *Cipher) octetUnit(dst, src []byte, unitBytes int, first Unit, decrypt bool) (done int) {
	if len(src) < unitBytes {
		return 0
	}
	var t [BlockBytes]byte
	first.put(&t)
	if n := unitBytes / octetBytes; decrypt {
		decryptVAES(&c.dec, &dst[0], &src[0], n/groupOctets, n%groupOctets, math.MaxInt, &t, &c.tweak)
	} else {
		encryptVAES(&c.enc, &dst[0], &src[0], n/groupOctets, n%groupOctets, math.MaxInt, &t, &c.tweak)
	}
	clear(t[:])
	return unitBytes
}

// octets does n octets of blocks in units of perUnit each, with the units' first tweaks, and leaves the
// tweak of the block after them in the first.
func (c *Cipher) octets(dst, src *byte, n, perUnit int, tweaks *[BlockBytes]byte, decrypt bool) {
	if decrypt {
		decryptVAES(&c.dec, dst, src, n/groupOctets, n%groupOctets, perUnit, tweaks, nil)
	} else {
		encryptVAES(&c.enc, dst, src, n/groupOctets, n%groupOctets, perUnit, tweaks, nil)
	}
}

// units does n whole units whose first tweaks are given, if the path has a way over units of their
// size. The tweaks may become anything.
func (c *Cipher) units(dst, src []byte, unitBytes, n int, tweaks *[tweakBatch][BlockBytes]byte, decrypt bool) bool {
	if c.path != pathAESNI || unitBytes%(aesniBlocks*BlockBytes) != 0 {
		return false
	}
	if decrypt {
		decryptUnitsAESNI(&c.dec, &dst[0], &src[0], unitBytes/BlockBytes, n, tweaks)
	} else {
		encryptUnitsAESNI(&c.enc, &dst[0], &src[0], unitBytes/BlockBytes, n, tweaks)
	}
	return true
}

// maxCallBytes bounds one call of assembly, in which the goroutine cannot be preempted.
const maxCallBytes = 1 << 20

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
	if many := n &^ (octetBlocks - 1); c.path >= pathVAES && many > 0 {
		c.octets(dst, src, many/octetBlocks, math.MaxInt, t, decrypt)
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
func encryptAESNI(keys *aes256.Schedule, dst, src *byte, blocks int, tweak *[BlockBytes]byte)

//go:noescape
func decryptAESNI(keys *aes256.Schedule, dst, src *byte, blocks int, tweak *[BlockBytes]byte)

// encryptUnitsAESNI and decryptUnitsAESNI do units ≤ tweakBatch of blocks each, a positive multiple
// of aesniBlocks; else as above.

//go:noescape
func encryptUnitsAESNI(keys *aes256.Schedule, dst, src *byte, blocks, units int, tweaks *[tweakBatch][BlockBytes]byte)

//go:noescape
func decryptUnitsAESNI(keys *aes256.Schedule, dst, src *byte, blocks, units int, tweaks *[tweakBatch][BlockBytes]byte)

// tweaksAESNI encrypts a batch of unit numbers in place.
//
//go:noescape
func tweaksAESNI(keys *aes256.Schedule, tweaks *[tweakBatch][BlockBytes]byte)

// invertAESNI makes the schedule of the equivalent inverse cipher (FIPS 197 §5.3.5).
//
//go:noescape
func invertAESNI(keys, inverse *aes256.Schedule)

// Assembly, VAES on ymm registers: groups·groupOctets + rest octets of blocks in units of perUnit octets
// each. tweaks are the units' first ones, with tweaksAhead more behind the last of the run if it
// reaches the end of its unit; the first is encrypted with tweak before if that is not nil. The tweak
// of the block after the run is left in the first of them.
// groups ≥ 0, 0 ≤ rest < groupOctets, perUnit ≥ 2; dst is src or does not overlap it.

//go:noescape
func encryptVAES(keys *aes256.Schedule, dst, src *byte, groups, rest, perUnit int, tweaks *[BlockBytes]byte, tweak *aes256.Schedule)

//go:noescape
func decryptVAES(keys *aes256.Schedule, dst, src *byte, groups, rest, perUnit int, tweaks *[BlockBytes]byte, tweak *aes256.Schedule)

// tweaksVAES encrypts batches·tweaksTogether unit numbers in place. batches ≥ 1.
//
//go:noescape
func tweaksVAES(keys *aes256.Schedule, tweaks *[BlockBytes]byte, batches int)

// Assembly, VAES on zmm registers: a run of units of groups·groupBytes each. groups ≥ 1, units ≥ 1;
// lo and hi are the number of the first unit, whose lower half may not overflow within the run or the
// eight units behind it. dst is src or does not overlap it. Those that end in Mul make tweaks by
// carry-less multiplication, the others by shifts.

//go:noescape
func encryptVAES512(keys, tweak *wideSchedule, dst, src *byte, groups, units int, lo, hi uint64)

//go:noescape
func decryptVAES512(keys, tweak *wideSchedule, dst, src *byte, groups, units int, lo, hi uint64)

//go:noescape
func encryptVAES512Mul(keys, tweak *wideSchedule, dst, src *byte, groups, units int, lo, hi uint64)

//go:noescape
func decryptVAES512Mul(keys, tweak *wideSchedule, dst, src *byte, groups, units int, lo, hi uint64)
