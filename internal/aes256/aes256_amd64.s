//go:build !purego

#include "textflag.h"

// KEY makes one round key of the one two before it, x, and a word of the one before it, y,
// which AESKEYGENASSIST has put into the dword that the shuffle spreads (FIPS 197 §5.2).
#define KEY(rcon, spread, x, y, at) \
	VAESKEYGENASSIST $rcon, y, X2;    \
	VPSHUFD          $spread, X2, X2; \
	VPSLLDQ          $4, x, X3;       \
	VPXOR            X3, x, x;        \
	VPSLLDQ          $8, x, X3;       \
	VPXOR            X3, x, x;        \
	VPXOR            X2, x, x;        \
	VMOVDQU          x, at(DI)

// func Expand(key *[KeyBytes]byte, keys *Schedule)
TEXT ·Expand(SB), NOSPLIT, $0-16
	MOVQ    key+0(FP), SI
	MOVQ    keys+8(FP), DI
	VMOVDQU (SI), X0
	VMOVDQU 16(SI), X1
	VMOVDQU X0, (DI)
	VMOVDQU X1, 16(DI)
	KEY(0x01, 0xff, X0, X1, 32)
	KEY(0x00, 0xaa, X1, X0, 48)
	KEY(0x02, 0xff, X0, X1, 64)
	KEY(0x00, 0xaa, X1, X0, 80)
	KEY(0x04, 0xff, X0, X1, 96)
	KEY(0x00, 0xaa, X1, X0, 112)
	KEY(0x08, 0xff, X0, X1, 128)
	KEY(0x00, 0xaa, X1, X0, 144)
	KEY(0x10, 0xff, X0, X1, 160)
	KEY(0x00, 0xaa, X1, X0, 176)
	KEY(0x20, 0xff, X0, X1, 192)
	KEY(0x00, 0xaa, X1, X0, 208)
	KEY(0x40, 0xff, X0, X1, 224)
	VPXOR   X0, X0, X0
	VPXOR   X1, X1, X1
	VPXOR   X2, X2, X2
	VPXOR   X3, X3, X3
	RET

// func Encrypt(keys *Schedule, dst, src *[BlockBytes]byte)
TEXT ·Encrypt(SB), NOSPLIT, $0-24
	MOVQ        keys+0(FP), AX
	MOVQ        dst+8(FP), DI
	MOVQ        src+16(FP), SI
	VMOVDQU     (SI), X0
	VPXOR       (AX), X0, X0
	VAESENC     16(AX), X0, X0
	VAESENC     32(AX), X0, X0
	VAESENC     48(AX), X0, X0
	VAESENC     64(AX), X0, X0
	VAESENC     80(AX), X0, X0
	VAESENC     96(AX), X0, X0
	VAESENC     112(AX), X0, X0
	VAESENC     128(AX), X0, X0
	VAESENC     144(AX), X0, X0
	VAESENC     160(AX), X0, X0
	VAESENC     176(AX), X0, X0
	VAESENC     192(AX), X0, X0
	VAESENC     208(AX), X0, X0
	VAESENCLAST 224(AX), X0, X0
	VMOVDQU     X0, (DI)
	VPXOR       X0, X0, X0
	RET
