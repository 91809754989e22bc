package mac

import (
	"encoding/binary"
	"math/bits"
)

// factor is a number modulo p = 2^127 − 1, hi·2^64 + lo; 127 bits.
type factor struct {
	lo, hi uint64
}

// lowBits are the bits of hi that belong to a number of 127 bits.
const lowBits = 1<<63 - 1

// factorOf makes a factor of 16 bytes, without the top bit.
func factorOf(b []byte) factor {
	return factor{lo: binary.LittleEndian.Uint64(b), hi: binary.LittleEndian.Uint64(b[8:]) & lowBits}
}

// sum is a sum of products of 127 and 64 bits, not reduced: 67 of them need 198 bits.
type sum [4]uint64

// add adds k·w.
func (s *sum) add(k factor, w uint64) {
	h0, l0 := bits.Mul64(k.lo, w)
	h1, l1 := bits.Mul64(k.hi, w)
	var c uint64
	h0, c = bits.Add64(h0, l1, 0)
	h1 += c // h1 ≤ 2^63 − 2: no carry
	s[0], c = bits.Add64(s[0], l0, 0)
	s[1], c = bits.Add64(s[1], h0, c)
	s[2], c = bits.Add64(s[2], h1, c)
	s[3] += c
}

// reduce returns the sum modulo p, in [0, p). 2^127 is 1 modulo p, so the bits from 127 on are
// added to those below.
func (s *sum) reduce() factor {
	lo, hi := s[0], s[1]&lowBits
	carryLo := s[1]>>63 | s[2]<<1
	carryHi := s[2]>>63 | s[3]<<1
	var c uint64
	lo, c = bits.Add64(lo, carryLo, 0)
	hi += carryHi + c // ≤ 2^63 − 1 + 2^8
	lo, c = bits.Add64(lo, hi>>63, 0)
	hi = hi&lowBits + c // at most p now
	full := lo & (hi | 1<<63)
	isP := allOnes(full)
	return factor{lo: lo &^ isP, hi: hi &^ isP}
}

// allOnes returns all ones if x is, and else 0, without a branch.
func allOnes(x uint64) uint64 {
	y := ^x // 0 if x is all ones
	return ((y | -y) >> 63) - 1
}
