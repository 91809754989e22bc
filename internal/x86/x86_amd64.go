//go:build !purego

package x86

import (
	"encoding/binary"

	"golang.org/x/sys/cpu"
)

// Bits of ECX of CPUID leaf 7.
const (
	vaesBit       = 1 << 9
	vpclmulqdqBit = 1 << 10
)

// VAES says whether there are AES instructions on ymm registers, and AVX2 and an operating system that keeps such
// registers.
func VAES() bool { return leaf7()&vaesBit != 0 }

// VPCLMULQDQ is VAES for carry-less multiplication.
func VPCLMULQDQ() bool { return leaf7()&vpclmulqdqBit != 0 }

// leaf7 is ECX of CPUID leaf 7, which a processor with AVX2 has, and 0 without.
func leaf7() uint32 {
	if !cpu.X86.HasAVX2 {
		return 0
	}
	_, c, _ := cpuid(7)
	return c
}

// Vendor is the processor's, as CPUID leaf 0 has it in three registers: "GenuineIntel", "AuthenticAMD".
func Vendor() string {
	b, c, d := cpuid(0)
	var name [12]byte
	for i, register := range [3]uint32{b, d, c} {
		binary.LittleEndian.PutUint32(name[4*i:], register)
	}
	return string(name[:])
}

// cpuid returns three registers of a CPUID leaf, subleaf 0.
func cpuid(leaf uint32) (ebx, ecx, edx uint32)
