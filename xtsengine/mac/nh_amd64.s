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

// Four blocks side by side: a load of the key, most of which straddle two lines of the cache, is for all of them. The
// sums are in Z0…Z3, Z8…Z11, Z12…Z15 and Z16…Z19, the messages in Z20…Z23, the key in Z24.

#define TERM(message, sum, s, p) \
	VPADDD   Z24, message, s; \
	VPSHUFD  $0xf5, s, p;     \
	VPMULUDQ s, p, p;         \
	VPADDQ   p, sum, sum

#define PASS4(at, a, b, c, d) \
	VMOVDQU64 at(DI), Z24;   \
	TERM(Z20, a, Z4, Z5);    \
	TERM(Z21, b, Z6, Z7);    \
	TERM(Z22, c, Z25, Z26);  \
	TERM(Z23, d, Z27, Z28)

#define FOLD4 \
	FOLD(Z0, Y0); \
	FOLD(Z1, Y1); \
	FOLD(Z2, Y2); \
	FOLD(Z3, Y3); \
	SUM

#define BLOCK(a, b, c, d) \
	ADDQ      $32, DX; \
	VMOVDQA64 a, Z0;   \
	VMOVDQA64 b, Z1;   \
	VMOVDQA64 c, Z2;   \
	VMOVDQA64 d, Z3;   \
	FOLD4

// func nhFourAVX512(sums *[fourBlocks * passes]uint64, key, blocks *byte, bytes int)
TEXT ·nhFourAVX512(SB), NOSPLIT, $0-32
	MOVQ   sums+0(FP), DX
	MOVQ   key+8(FP), DI
	MOVQ   blocks+16(FP), SI
	MOVQ   bytes+24(FP), CX
	MOVQ   CX, R8
	LEAQ   (R8)(R8*2), R9
	VPXORQ Z0, Z0, Z0
	VPXORQ Z1, Z1, Z1
	VPXORQ Z2, Z2, Z2
	VPXORQ Z3, Z3, Z3
	VPXORQ Z8, Z8, Z8
	VPXORQ Z9, Z9, Z9
	VPXORQ Z10, Z10, Z10
	VPXORQ Z11, Z11, Z11
	VPXORQ Z12, Z12, Z12
	VPXORQ Z13, Z13, Z13
	VPXORQ Z14, Z14, Z14
	VPXORQ Z15, Z15, Z15
	VPXORQ Z16, Z16, Z16
	VPXORQ Z17, Z17, Z17
	VPXORQ Z18, Z18, Z18
	VPXORQ Z19, Z19, Z19

line:
	VMOVDQU64 (SI), Z20
	VMOVDQU64 (SI)(R8*1), Z21
	VMOVDQU64 (SI)(R8*2), Z22
	VMOVDQU64 (SI)(R9*1), Z23
	PASS4(0, Z0, Z8, Z12, Z16)
	PASS4(16, Z1, Z9, Z13, Z17)
	PASS4(32, Z2, Z10, Z14, Z18)
	PASS4(48, Z3, Z11, Z15, Z19)
	ADDQ $64, SI
	ADDQ $64, DI
	SUBQ $64, CX
	JNZ  line
	FOLD4
	BLOCK(Z8, Z9, Z10, Z11)
	BLOCK(Z12, Z13, Z14, Z15)
	BLOCK(Z16, Z17, Z18, Z19)
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
