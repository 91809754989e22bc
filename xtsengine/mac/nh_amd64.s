//go:build !purego

#include "textflag.h"

// NH, all four passes beside each other. A lane of 64 bits holds two neighbouring words: their sums
// with the key, the upper one moved down, and the product of both.
//
// SI piece, DI key, CX what is left, accumulators 0…3 one a pass, 4 message, 5…12 scratch.

#define PASS512(at, sum, s, p) \
	VPADDD   at(DI), Z4, s; \
	VPSHUFD  $0xf5, s, p;   \
	VPMULUDQ s, p, p;       \
	VPADDQ   p, sum, sum

#define LINE512(at) \
	VMOVDQU64 at(SI), Z4;              \
	PASS512(at, Z0, Z5, Z6);           \
	PASS512((at+16), Z1, Z7, Z8);      \
	PASS512((at+32), Z2, Z9, Z10);     \
	PASS512((at+48), Z3, Z11, Z12)

#define PASS256(at, sum, s, p) \
	VPADDD   at(DI), Y4, s; \
	VPSHUFD  $0xf5, s, p;   \
	VPMULUDQ s, p, p;       \
	VPADDQ   p, sum, sum

#define HALF256(at) \
	VMOVDQU at(SI), Y4;                \
	PASS256(at, Y0, Y5, Y6);           \
	PASS256((at+16), Y1, Y7, Y8);      \
	PASS256((at+32), Y2, Y9, Y10);     \
	PASS256((at+48), Y3, Y11, Y12)

// SUM adds the lanes of each of Y0…Y3 up and stores the four sums at DX.
#define SUM \
	VPUNPCKLQDQ Y1, Y0, Y4;        \
	VPUNPCKHQDQ Y1, Y0, Y5;        \
	VPADDQ      Y4, Y5, Y4;        \
	VPUNPCKLQDQ Y3, Y2, Y6;        \
	VPUNPCKHQDQ Y3, Y2, Y7;        \
	VPADDQ      Y6, Y7, Y6;        \
	VPERM2I128  $0x20, Y6, Y4, Y0; \
	VPERM2I128  $0x31, Y6, Y4, Y1; \
	VPADDQ      Y0, Y1, Y0;        \
	VMOVDQU     Y0, (DX)

// FOLD adds the upper half of a register to its lower one.
#define FOLD(z, y) \
	VEXTRACTI64X4 $1, z, Y5; \
	VPADDQ        Y5, y, y

// func nhAVX512(sum *[passes]uint64, key, piece *byte, bytes int)
TEXT ·nhAVX512(SB), NOSPLIT, $0-32
	MOVQ   sum+0(FP), DX
	MOVQ   key+8(FP), DI
	MOVQ   piece+16(FP), SI
	MOVQ   bytes+24(FP), CX
	VPXORQ Z0, Z0, Z0
	VPXORQ Z1, Z1, Z1
	VPXORQ Z2, Z2, Z2
	VPXORQ Z3, Z3, Z3
	SUBQ   $128, CX
	JB     last

lines:
	LINE512(0)
	LINE512(64)
	ADDQ $128, SI
	ADDQ $128, DI
	SUBQ $128, CX
	JAE  lines

last:
	ADDQ $128, CX
	JZ   fold
	LINE512(0)

fold:
	FOLD(Z0, Y0)
	FOLD(Z1, Y1)
	FOLD(Z2, Y2)
	FOLD(Z3, Y3)
	SUM
	VZEROUPPER
	RET

// func nhAVX2(sum *[passes]uint64, key, piece *byte, bytes int)
TEXT ·nhAVX2(SB), NOSPLIT, $0-32
	MOVQ  sum+0(FP), DX
	MOVQ  key+8(FP), DI
	MOVQ  piece+16(FP), SI
	MOVQ  bytes+24(FP), CX
	VPXOR Y0, Y0, Y0
	VPXOR Y1, Y1, Y1
	VPXOR Y2, Y2, Y2
	VPXOR Y3, Y3, Y3

lines:
	HALF256(0)
	HALF256(32)
	ADDQ $64, SI
	ADDQ $64, DI
	SUBQ $64, CX
	JNZ  lines
	SUM
	VZEROUPPER
	RET
