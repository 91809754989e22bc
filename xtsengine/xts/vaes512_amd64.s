//go:build !purego

#include "textflag.h"

// Runs of whole data units, sixteen blocks at a time in four zmm registers: as many as it takes to
// keep AES units of one zmm instruction a cycle full. All that is not AES goes to other ports.
//
// Z0…Z3 blocks, Z4…Z7 their tweaks, Z8…Z11 tweaks ⊕ the last round key, Z12 the initial tweaks of
// the next units, lowest lane first, Z13 the next of them in every lane, Z16…Z30 the round keys,
// Z14, Z15 and Z31 scratch. K1 marks the lower half of every 128-bit lane. BX the tweak key's
// schedule, DI destination, SI source, R8 groups of sixteen blocks a unit, CX those left of this
// unit, R9 units left, R11 units until Z12 is used up. On the stack: the numbers of the four units
// whose tweaks come next; they are not secret.

// The powers of α in a register of first tweaks: lane j of register i is multiplied by α^(4i+j).
DATA left<>+0(SB)/8, $0
DATA left<>+8(SB)/8, $0
DATA left<>+16(SB)/8, $1
DATA left<>+24(SB)/8, $1
DATA left<>+32(SB)/8, $2
DATA left<>+40(SB)/8, $2
DATA left<>+48(SB)/8, $3
DATA left<>+56(SB)/8, $3
DATA left<>+64(SB)/8, $4
DATA left<>+72(SB)/8, $4
DATA left<>+80(SB)/8, $5
DATA left<>+88(SB)/8, $5
DATA left<>+96(SB)/8, $6
DATA left<>+104(SB)/8, $6
DATA left<>+112(SB)/8, $7
DATA left<>+120(SB)/8, $7
DATA left<>+128(SB)/8, $8
DATA left<>+136(SB)/8, $8
DATA left<>+144(SB)/8, $9
DATA left<>+152(SB)/8, $9
DATA left<>+160(SB)/8, $10
DATA left<>+168(SB)/8, $10
DATA left<>+176(SB)/8, $11
DATA left<>+184(SB)/8, $11
DATA left<>+192(SB)/8, $12
DATA left<>+200(SB)/8, $12
DATA left<>+208(SB)/8, $13
DATA left<>+216(SB)/8, $13
DATA left<>+224(SB)/8, $14
DATA left<>+232(SB)/8, $14
DATA left<>+240(SB)/8, $15
DATA left<>+248(SB)/8, $15
GLOBL left<>(SB), RODATA|NOPTR, $256

// 64 less each of them: what leaves a half goes into the other one. A shift by 64 leaves nothing.
DATA right<>+0(SB)/8, $64
DATA right<>+8(SB)/8, $64
DATA right<>+16(SB)/8, $63
DATA right<>+24(SB)/8, $63
DATA right<>+32(SB)/8, $62
DATA right<>+40(SB)/8, $62
DATA right<>+48(SB)/8, $61
DATA right<>+56(SB)/8, $61
DATA right<>+64(SB)/8, $60
DATA right<>+72(SB)/8, $60
DATA right<>+80(SB)/8, $59
DATA right<>+88(SB)/8, $59
DATA right<>+96(SB)/8, $58
DATA right<>+104(SB)/8, $58
DATA right<>+112(SB)/8, $57
DATA right<>+120(SB)/8, $57
DATA right<>+128(SB)/8, $56
DATA right<>+136(SB)/8, $56
DATA right<>+144(SB)/8, $55
DATA right<>+152(SB)/8, $55
DATA right<>+160(SB)/8, $54
DATA right<>+168(SB)/8, $54
DATA right<>+176(SB)/8, $53
DATA right<>+184(SB)/8, $53
DATA right<>+192(SB)/8, $52
DATA right<>+200(SB)/8, $52
DATA right<>+208(SB)/8, $51
DATA right<>+216(SB)/8, $51
DATA right<>+224(SB)/8, $50
DATA right<>+232(SB)/8, $50
DATA right<>+240(SB)/8, $49
DATA right<>+248(SB)/8, $49
GLOBL right<>(SB), RODATA|NOPTR, $256

// The steps of the four unit numbers of a register, and from one register to the next.
DATA lanes<>+0(SB)/8, $0
DATA lanes<>+8(SB)/8, $0
DATA lanes<>+16(SB)/8, $1
DATA lanes<>+24(SB)/8, $0
DATA lanes<>+32(SB)/8, $2
DATA lanes<>+40(SB)/8, $0
DATA lanes<>+48(SB)/8, $3
DATA lanes<>+56(SB)/8, $0
GLOBL lanes<>(SB), RODATA|NOPTR, $64

DATA four<>+0(SB)/8, $4
DATA four<>+8(SB)/8, $0
DATA four<>+16(SB)/8, $4
DATA four<>+24(SB)/8, $0
DATA four<>+32(SB)/8, $4
DATA four<>+40(SB)/8, $0
DATA four<>+48(SB)/8, $4
DATA four<>+56(SB)/8, $0
GLOBL four<>(SB), RODATA|NOPTR, $64

// EXPAND sets tweaks to register at/64 of the first tweaks of the unit whose initial one is in Z13.
#define EXPAND(at, tweaks) \
	VPSLLVQ    left<>+at(SB), Z13, tweaks; \
	VPSRLVQ    right<>+at(SB), Z13, Z14;   \
	VPSHUFD    $0x4e, Z14, Z14;                \
	VPSLLQ.Z   $1, Z14, K1, Z15;               \
	VPTERNLOGQ $0x96, Z14, Z15, tweaks;        \
	VPSLLQ.Z   $2, Z14, K1, Z15;               \
	VPSLLQ.Z   $7, Z14, K1, Z31;               \
	VPTERNLOGQ $0x96, Z15, Z31, tweaks

// ADVANCE multiplies a register of tweaks by α^16.
#define ADVANCE(tweaks) \
	VPSRLDQ    $14, tweaks, Z14;        \
	VPSLLDQ    $2, tweaks, tweaks;      \
	VPSLLQ     $1, Z14, Z15;            \
	VPTERNLOGQ $0x96, Z14, Z15, tweaks; \
	VPSLLQ     $2, Z14, Z15;            \
	VPSLLQ     $7, Z14, Z31;            \
	VPTERNLOGQ $0x96, Z15, Z31, tweaks

// TAKE puts the next initial tweak into Z13.
#define TAKE \
	VSHUFI64X2 $0, Z12, Z12, Z13; \
	VALIGNQ    $2, Z12, Z12, Z12

#define WHITEN(at, blocks, tweaks, last) \
	VMOVDQU64  at(SI), blocks;           \
	VPXORQ     tweaks, Z30, last;        \
	VPTERNLOGQ $0x96, tweaks, Z16, blocks

#define WHITEN4 \
	WHITEN(0, Z0, Z4, Z8);     \
	WHITEN(64, Z1, Z5, Z9);    \
	WHITEN(128, Z2, Z6, Z10);  \
	WHITEN(192, Z3, Z7, Z11)

#define ROUND4(op, key) \
	op key, Z0, Z0; \
	op key, Z1, Z1; \
	op key, Z2, Z2; \
	op key, Z3, Z3

// FINISH4 does the last round, which whitens too, and goes on to the next group.
#define FINISH4(op) \
	op        Z8, Z0, Z0;   \
	op        Z9, Z1, Z1;   \
	op        Z10, Z2, Z2;  \
	op        Z11, Z3, Z3;  \
	VMOVDQU64 Z0, 0(DI);    \
	VMOVDQU64 Z1, 64(DI);   \
	VMOVDQU64 Z2, 128(DI);  \
	VMOVDQU64 Z3, 192(DI);  \
	ADDQ      $256, SI;     \
	ADDQ      $256, DI

// GROUP does sixteen blocks and moves their tweaks on.
#define GROUP(op, last) \
	WHITEN4;          \
	ROUND4(op, Z17);  \
	ADVANCE(Z4);      \
	ROUND4(op, Z18);  \
	ROUND4(op, Z19);  \
	ADVANCE(Z5);      \
	ROUND4(op, Z20);  \
	ROUND4(op, Z21);  \
	ADVANCE(Z6);      \
	ROUND4(op, Z22);  \
	ROUND4(op, Z23);  \
	ADVANCE(Z7);      \
	ROUND4(op, Z24);  \
	ROUND4(op, Z25);  \
	ROUND4(op, Z26);  \
	ROUND4(op, Z27);  \
	ROUND4(op, Z28);  \
	ROUND4(op, Z29);  \
	FINISH4(last)

// TWEAKKEY and TWEAK are the rounds of the four unit numbers in Z12.
#define TWEAKKEY \
	VBROADCASTI32X4 (BX), Z14;     \
	VPXORQ          Z14, Z12, Z12

#define TWEAK(op, at) \
	VBROADCASTI32X4 at(BX), Z14;   \
	op              Z14, Z12, Z12

// NUMBERS moves the unit numbers in Z12 on, for the next time.
#define NUMBERS \
	VPADDQ    four<>(SB), Z12, Z14;      \
	VMOVDQU64 Z14, numbers-64(SP)

// GROUPTWEAKS is GROUP, with the initial tweaks of the next four units computed beside it.
#define GROUPTWEAKS(op, last) \
	VMOVDQU64 numbers-64(SP), Z12; \
	NUMBERS;                 \
	WHITEN4;                 \
	TWEAKKEY;                \
	ROUND4(op, Z17);         \
	TWEAK(VAESENC, 16);      \
	ADVANCE(Z4);             \
	ROUND4(op, Z18);         \
	TWEAK(VAESENC, 32);      \
	ROUND4(op, Z19);         \
	TWEAK(VAESENC, 48);      \
	ADVANCE(Z5);             \
	ROUND4(op, Z20);         \
	TWEAK(VAESENC, 64);      \
	ROUND4(op, Z21);         \
	TWEAK(VAESENC, 80);      \
	ADVANCE(Z6);             \
	ROUND4(op, Z22);         \
	TWEAK(VAESENC, 96);      \
	ROUND4(op, Z23);         \
	TWEAK(VAESENC, 112);     \
	ADVANCE(Z7);             \
	ROUND4(op, Z24);         \
	TWEAK(VAESENC, 128);     \
	ROUND4(op, Z25);         \
	TWEAK(VAESENC, 144);     \
	ROUND4(op, Z26);         \
	TWEAK(VAESENC, 160);     \
	ROUND4(op, Z27);         \
	TWEAK(VAESENC, 176);     \
	ROUND4(op, Z28);         \
	TWEAK(VAESENC, 192);     \
	ROUND4(op, Z29);         \
	TWEAK(VAESENC, 208);     \
	FINISH4(last);           \
	TWEAK(VAESENCLAST, 224)

// GROUPLAST does the last sixteen blocks of a unit and makes the first tweaks of the next one.
#define GROUPLAST(op, last) \
	WHITEN4;          \
	TAKE;             \
	ROUND4(op, Z17);  \
	EXPAND(0, Z4);    \
	ROUND4(op, Z18);  \
	ROUND4(op, Z19);  \
	EXPAND(64, Z5);    \
	ROUND4(op, Z20);  \
	ROUND4(op, Z21);  \
	EXPAND(128, Z6);    \
	ROUND4(op, Z22);  \
	ROUND4(op, Z23);  \
	EXPAND(192, Z7);    \
	ROUND4(op, Z24);  \
	ROUND4(op, Z25);  \
	ROUND4(op, Z26);  \
	ROUND4(op, Z27);  \
	ROUND4(op, Z28);  \
	ROUND4(op, Z29);  \
	FINISH4(last)

#define KEYS \
	VBROADCASTI32X4 0(AX), Z16;    \
	VBROADCASTI32X4 16(AX), Z17;   \
	VBROADCASTI32X4 32(AX), Z18;   \
	VBROADCASTI32X4 48(AX), Z19;   \
	VBROADCASTI32X4 64(AX), Z20;   \
	VBROADCASTI32X4 80(AX), Z21;   \
	VBROADCASTI32X4 96(AX), Z22;   \
	VBROADCASTI32X4 112(AX), Z23;  \
	VBROADCASTI32X4 128(AX), Z24;  \
	VBROADCASTI32X4 144(AX), Z25;  \
	VBROADCASTI32X4 160(AX), Z26;  \
	VBROADCASTI32X4 176(AX), Z27;  \
	VBROADCASTI32X4 192(AX), Z28;  \
	VBROADCASTI32X4 208(AX), Z29;  \
	VBROADCASTI32X4 224(AX), Z30

// START makes the first tweaks of the first unit.
#define START \
	VBROADCASTI32X4 (DX), Z12;            \
	VPADDQ          lanes<>(SB), Z12, Z12; \
	NUMBERS;                 \
	TWEAKKEY;                \
	TWEAK(VAESENC, 16);      \
	TWEAK(VAESENC, 32);      \
	TWEAK(VAESENC, 48);      \
	TWEAK(VAESENC, 64);      \
	TWEAK(VAESENC, 80);      \
	TWEAK(VAESENC, 96);      \
	TWEAK(VAESENC, 112);     \
	TWEAK(VAESENC, 128);     \
	TWEAK(VAESENC, 144);     \
	TWEAK(VAESENC, 160);     \
	TWEAK(VAESENC, 176);     \
	TWEAK(VAESENC, 192);     \
	TWEAK(VAESENC, 208);     \
	TWEAK(VAESENCLAST, 224); \
	TAKE;                    \
	EXPAND(0, Z4);           \
	EXPAND(64, Z5);           \
	EXPAND(128, Z6);           \
	EXPAND(192, Z7)

// WIPE clears what VZEROUPPER does not reach: the round keys.
#define WIPE \
	VPXORQ Z16, Z16, Z16; \
	VPXORQ Z17, Z17, Z17; \
	VPXORQ Z18, Z18, Z18; \
	VPXORQ Z19, Z19, Z19; \
	VPXORQ Z20, Z20, Z20; \
	VPXORQ Z21, Z21, Z21; \
	VPXORQ Z22, Z22, Z22; \
	VPXORQ Z23, Z23, Z23; \
	VPXORQ Z24, Z24, Z24; \
	VPXORQ Z25, Z25, Z25; \
	VPXORQ Z26, Z26, Z26; \
	VPXORQ Z27, Z27, Z27; \
	VPXORQ Z28, Z28, Z28; \
	VPXORQ Z29, Z29, Z29; \
	VPXORQ Z30, Z30, Z30; \
	VPXORQ Z31, Z31, Z31; \
	VZEROUPPER

// RUN is the whole of a direction.
#define RUN(round, last) \
	MOVQ  keys+0(FP), AX;    \
	MOVQ  tweak+8(FP), BX;   \
	MOVQ  dst+16(FP), DI;    \
	MOVQ  src+24(FP), SI;    \
	MOVQ  groups+32(FP), R8; \
	MOVQ  units+40(FP), R9;  \
	MOVQ  first+48(FP), DX;  \
	MOVL  $0x55, CX;         \
	KMOVW CX, K1;            \
	MOVQ  $3, R11;           \
	START;                   \
	KEYS;                    \
unit: \
	LEAQ  -2(R8), CX;        \
	TESTQ R11, R11;          \
	JNZ   first;             \
	CMPQ  R9, $1;            \
	JEQ   first;             \
	MOVQ  $4, R11;           \
	GROUPTWEAKS(round, last); \
	JMP   middle;            \
first: \
	GROUP(round, last);      \
middle: \
	DECQ  R11;               \
	TESTQ CX, CX;            \
	JZ    end;               \
group: \
	GROUP(round, last);      \
	DECQ  CX;                \
	JNZ   group;             \
end: \
	GROUPLAST(round, last);  \
	DECQ  R9;                \
	JNZ   unit;              \
	WIPE;                    \
	RET

// func encryptVAES512(keys, tweak *[scheduleBytes]byte, dst, src *byte, groups, units int, first *[BlockBytes]byte)
TEXT ·encryptVAES512(SB), 0, $64-56
	RUN(VAESENC, VAESENCLAST)

// func decryptVAES512(keys, tweak *[scheduleBytes]byte, dst, src *byte, groups, units int, first *[BlockBytes]byte)
TEXT ·decryptVAES512(SB), 0, $64-56
	RUN(VAESDEC, VAESDECLAST)
