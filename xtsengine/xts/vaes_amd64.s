//go:build !purego

#include "textflag.h"

// Sixteen blocks in eight ymm registers. Each register's two tweaks are kept on the stack and go
// sixteen blocks on by themselves, so that no chain of doublings holds the AES units up.
//
// Y0..Y7 blocks, Y12 first round key, Y10 last round key, Y11 round key, Y8, Y9, Y13 and Y14
// scratch. AX schedule, DI destination, SI source, CX blocks, DX where the tweak is kept, R10 the
// tweaks on the stack: eight of 32 bytes as they are, then eight ⊕ the last round key.

// The doubling of one tweak, as in aesni_amd64.s.
DATA alpha2<>+0(SB)/8, $0x87
DATA alpha2<>+8(SB)/8, $1
GLOBL alpha2<>(SB), RODATA|NOPTR, $16

// REDUCE multiplies Y13, the bits that left the upper half, by α^7 + α^2 + α + 1 and adds them to
// t. It spoils Y14.
#define REDUCE(t) \
	VPSLLQ $5, Y13, Y14;  \
	VPXOR  Y13, Y14, Y14; \
	VPSLLQ $1, Y14, Y14;  \
	VPXOR  Y13, Y14, Y14; \
	VPSLLQ $1, Y14, Y14;  \
	VPXOR  Y13, Y14, Y14; \
	VPXOR  Y14, t, t

// POWER sets t to s·α^k in both lanes; rest is 64 − k.
#define POWER(k, rest, s, t) \
	VPSRLQ  $rest, s, Y13; \
	VPSLLQ  $k, s, t;      \
	VPSLLDQ $8, Y13, Y14;  \
	VPXOR   Y14, t, t;     \
	VPSRLDQ $8, Y13, Y13;  \
	REDUCE(t)

// NEXT16 sets t to t·α^16 in both lanes.
#define NEXT16(t) \
	VPSRLDQ $14, t, Y13; \
	VPSLLDQ $2, t, t;    \
	REDUCE(t)

// LOAD2 whitens two blocks and moves their tweaks on.
#define LOAD2(at, y) \
	VMOVDQU at(R10), Y8;      \
	VPXOR   Y8, Y12, Y9;      \
	VPXOR   at(SI), Y9, y;    \
	VPXOR   Y8, Y10, Y9;      \
	VMOVDQU Y9, (256+at)(R10); \
	NEXT16(Y8);               \
	VMOVDQU Y8, at(R10)

#define ROUND16(op, at) \
	VBROADCASTI128 at(AX), Y11; \
	op             Y11, Y0, Y0; \
	op             Y11, Y1, Y1; \
	op             Y11, Y2, Y2; \
	op             Y11, Y3, Y3; \
	op             Y11, Y4, Y4; \
	op             Y11, Y5, Y5; \
	op             Y11, Y6, Y6; \
	op             Y11, Y7, Y7

// STORE2 ends two blocks: their last round whitens them too.
#define STORE2(op, at, y) \
	op      (256+at)(R10), y, y; \
	VMOVDQU y, at(DI)

// START makes the first sixteen tweaks of the one in X0.
#define START \
	VMOVDQU     alpha2<>(SB), X14; \
	VPSHUFD     $0x13, X0, X13;    \
	VPADDQ      X0, X0, X1;        \
	VPSRAD      $31, X13, X13;     \
	VPAND       X14, X13, X13;     \
	VPXOR       X13, X1, X1;       \
	VINSERTI128 $1, X1, Y0, Y0;    \
	POWER(2, 62, Y0, Y1);          \
	POWER(4, 60, Y0, Y2);          \
	POWER(4, 60, Y1, Y3);          \
	POWER(8, 56, Y0, Y4);          \
	POWER(8, 56, Y1, Y5);          \
	POWER(8, 56, Y2, Y6);          \
	POWER(8, 56, Y3, Y7);          \
	VMOVDQU     Y0, 0(R10);        \
	VMOVDQU     Y1, 32(R10);       \
	VMOVDQU     Y2, 64(R10);       \
	VMOVDQU     Y3, 96(R10);       \
	VMOVDQU     Y4, 128(R10);      \
	VMOVDQU     Y5, 160(R10);      \
	VMOVDQU     Y6, 192(R10);      \
	VMOVDQU     Y7, 224(R10)

#define WIPE \
	VPXOR   Y0, Y0, Y0;    \
	VMOVDQU Y0, 0(R10);    \
	VMOVDQU Y0, 32(R10);   \
	VMOVDQU Y0, 64(R10);   \
	VMOVDQU Y0, 96(R10);   \
	VMOVDQU Y0, 128(R10);  \
	VMOVDQU Y0, 160(R10);  \
	VMOVDQU Y0, 192(R10);  \
	VMOVDQU Y0, 224(R10);  \
	VMOVDQU Y0, 256(R10);  \
	VMOVDQU Y0, 288(R10);  \
	VMOVDQU Y0, 320(R10);  \
	VMOVDQU Y0, 352(R10);  \
	VMOVDQU Y0, 384(R10);  \
	VMOVDQU Y0, 416(R10);  \
	VMOVDQU Y0, 448(R10);  \
	VMOVDQU Y0, 480(R10)

// RUN is the whole of a direction.
#define RUN(round, last) \
	MOVQ           keys+0(FP), AX;    \
	MOVQ           dst+8(FP), DI;     \
	MOVQ           src+16(FP), SI;    \
	MOVQ           blocks+24(FP), CX; \
	MOVQ           tweak+32(FP), DX;  \
	LEAQ           31(SP), R10;       \
	ANDQ           $~31, R10;         \
	VMOVDQU        (DX), X0;          \
	START;                            \
	VBROADCASTI128 (AX), Y12;         \
	VBROADCASTI128 224(AX), Y10;      \
loop: \
	LOAD2(0, Y0);       \
	LOAD2(32, Y1);      \
	LOAD2(64, Y2);      \
	LOAD2(96, Y3);      \
	LOAD2(128, Y4);     \
	LOAD2(160, Y5);     \
	LOAD2(192, Y6);     \
	LOAD2(224, Y7);     \
	ROUND16(round, 16);  \
	ROUND16(round, 32);  \
	ROUND16(round, 48);  \
	ROUND16(round, 64);  \
	ROUND16(round, 80);  \
	ROUND16(round, 96);  \
	ROUND16(round, 112); \
	ROUND16(round, 128); \
	ROUND16(round, 144); \
	ROUND16(round, 160); \
	ROUND16(round, 176); \
	ROUND16(round, 192); \
	ROUND16(round, 208); \
	STORE2(last, 0, Y0);   \
	STORE2(last, 32, Y1);  \
	STORE2(last, 64, Y2);  \
	STORE2(last, 96, Y3);  \
	STORE2(last, 128, Y4); \
	STORE2(last, 160, Y5); \
	STORE2(last, 192, Y6); \
	STORE2(last, 224, Y7); \
	ADDQ           $256, SI;          \
	ADDQ           $256, DI;          \
	SUBQ           $16, CX;           \
	JNZ            loop;              \
	VMOVDQU        (R10), X0;         \
	VMOVDQU        X0, (DX);          \
	WIPE;                             \
	VZEROUPPER;                       \
	RET

// func encryptVAES(keys *[scheduleBytes]byte, dst, src *byte, blocks int, tweak *[BlockBytes]byte)
TEXT ·encryptVAES(SB), 0, $544-40
	RUN(VAESENC, VAESENCLAST)

// func decryptVAES(keys *[scheduleBytes]byte, dst, src *byte, blocks int, tweak *[BlockBytes]byte)
TEXT ·decryptVAES(SB), 0, $544-40
	RUN(VAESDEC, VAESDECLAST)

// func cpuidLeaf7() (ecx uint32)
TEXT ·cpuidLeaf7(SB), NOSPLIT, $0-4
	MOVL $7, AX
	XORL CX, CX
	CPUID
	MOVL CX, ecx+0(FP)
	RET
