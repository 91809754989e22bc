//go:build !purego

#include "textflag.h"

// Runs of whole data units, thirty-two blocks at a time in eight zmm registers, and two such groups
// under way: beside the last seven rounds of one go the first seven of the next. Sixteen registers in
// flight are what it takes where two AES rounds begin in every cycle and each lasts four: with eight,
// every slot that something else takes from the AES units would be lost.
//
// Tweaks are made in one of two ways, with what does not compete with AES:
//
//   - By shifts within 64 bits, shuffles within 128 bits, additions and logic, for processors whose
//     carry-less multiplier is one with their AES units (AMD's).
//   - By carry-less multiplication and byte shifts, for processors on which AES and shifts of zmm
//     registers share one port and those two have the other (Intel's).
//
// Z0…Z7 the younger group's blocks, Z8…Z15 the older one's, Z16…Z23 the tweaks of the group that
// comes next, Z24 the first round key, Z25 the numbers of the next four units, Z26 the initial tweaks
// of the units that follow, lowest lane first, Z27 the next of them in every lane, then its unit's
// first four tweaks, Z31 a round key, Z28…Z30 scratch. With shifts K1 marks the lower half of every
// 128-bit lane, K2 the lowest 32 bits of it. With multiplication Z29 has the unit's second four
// tweaks, and both halves of every lane of Z30 are α^7 + α^2 + α + 1. AX the data key's wide schedule,
// BX the tweak key's, DI destination, SI source, R8 groups a unit, CX those left of this unit, R9 units
// left, R11 initial tweaks left in Z26. On the stack: tweaks ⊕ the last round key, the younger group's
// at R10, the older one's at R12.

// Lane j of a register of tweaks is multiplied by α^j: what leaves a half goes into the other one.
// A shift by 64 leaves nothing.
#define POWER(lower, upper, n) \
	DATA left<>+lower(SB)/8, $n;       \
	DATA left<>+upper(SB)/8, $n;       \
	DATA right<>+lower(SB)/8, $(64-n); \
	DATA right<>+upper(SB)/8, $(64-n)

POWER(0, 8, 0)
POWER(16, 24, 1)
POWER(32, 40, 2)
POWER(48, 56, 3)
GLOBL left<>(SB), RODATA|NOPTR, $64
GLOBL right<>(SB), RODATA|NOPTR, $64

// The same as factors, for a unit's first four tweaks and for its second four.
#define FACTOR(lower, upper, n) \
	DATA first<>+lower(SB)/8, $(1<<n);   \
	DATA first<>+upper(SB)/8, $0;        \
	DATA second<>+lower(SB)/8, $(16<<n); \
	DATA second<>+upper(SB)/8, $0

FACTOR(0, 8, 0)
FACTOR(16, 24, 1)
FACTOR(32, 40, 2)
FACTOR(48, 56, 3)
GLOBL first<>(SB), RODATA|NOPTR, $64
GLOBL second<>(SB), RODATA|NOPTR, $64

// The steps of the four unit numbers of a register, and from one register to the next.
#define STEP(lower, upper, n) \
	DATA lanes<>+lower(SB)/8, $n; \
	DATA lanes<>+upper(SB)/8, $0; \
	DATA four<>+lower(SB)/8, $4;  \
	DATA four<>+upper(SB)/8, $0

STEP(0, 8, 0)
STEP(16, 24, 1)
STEP(32, 40, 2)
STEP(48, 56, 3)
GLOBL lanes<>(SB), RODATA|NOPTR, $64
GLOBL four<>(SB), RODATA|NOPTR, $64

// SHIFTS and FACTORS are what the two ways keep ready.
#define SHIFTS \
	MOVL  $0x55, CX;   \
	KMOVW CX, K1;      \
	MOVL  $0x1111, CX; \
	KMOVW CX, K2

#define FACTORS \
	MOVL         $0x87, CX; \
	VPBROADCASTQ CX, Z30

// CARRY adds to t what left its halves: Z28 has it in the half that it left.
#define CARRY(t) \
	VPSHUFD    $0x4e, Z28, Z28;    \
	VPADDQ.Z   Z28, Z28, K1, Z29;  \
	VPTERNLOGQ $0x96, Z28, Z29, t; \
	VPSLLQ.Z   $2, Z28, K1, Z29;   \
	VPSLLQ.Z   $7, Z28, K1, Z30;   \
	VPTERNLOGQ $0x96, Z29, Z30, t

// TIMES sets to to the product of from and factors below α^64. What the upper half gives goes up by
// 64 bits, and of that what leaves the upper end comes in again below.
#define TIMES(factors, from, to) \
	VPCLMULQDQ $0x01, factors, from, Z28; \
	VPCLMULQDQ $0x00, factors, from, Z31; \
	VPSLLDQ    $8, Z28, to;               \
	VPCLMULQDQ $0x01, Z30, Z28, Z28;      \
	VPTERNLOGQ $0x96, Z28, Z31, to

// BYTES sets to to from multiplied by α^(8n).
#define BYTES(n, from, to) \
	VPSRLDQ    $(16-n), from, Z28;   \
	VPCLMULQDQ $0x00, Z30, Z28, Z28; \
	VPSLLDQ    $n, from, to;         \
	VPXORQ     Z28, to, to

// LANES sets Z27 to the unit's first four tweaks, of its initial one in all lanes. LANESMUL also sets
// Z29 to the second four.
#define LANES \
	VPSRLVQ right<>(SB), Z27, Z28; \
	VPSLLVQ left<>(SB), Z27, Z27;  \
	CARRY(Z27)

#define LANESMUL \
	TIMES(second<>(SB), Z27, Z29); \
	TIMES(first<>(SB), Z27, Z27)

// SPREAD puts the next initial tweak into all lanes of Z27.
#define SPREAD \
	VSHUFI64X2 $0, Z26, Z26, Z27; \
	VALIGNQ    $2, Z26, Z26, Z26; \
	DECQ       R11

// A step sets t to the tweaks that the next group has there. EXPAND begins a unit: the four tweaks
// that are n blocks behind those in Z27, or as many bytes behind those in base.
#define EXPAND(n, bytes, base, t) \
	VPSRLQ $(64-n), Z27, Z28; \
	VPSLLQ $n, Z27, t;        \
	CARRY(t)

#define EXPANDMUL(n, bytes, base, t) BYTES(bytes, base, t)

// ADVANCE multiplies a register of tweaks by α^32: 32 bits go round, and the ones that left the
// upper end are added thrice more.
#define ADVANCE(n, bytes, base, t) \
	VPSHUFD.Z  $0xff, t, K2, Z28;  \
	VPSHUFD    $0x93, t, t;        \
	VPADDQ     Z28, Z28, Z29;      \
	VPSLLQ     $2, Z28, Z30;       \
	VPTERNLOGQ $0x96, Z29, Z30, t; \
	VPSLLQ     $7, Z28, Z28;       \
	VPXORQ     Z28, t, t

#define ADVANCEMUL(n, bytes, base, t) BYTES(4, t, t)

// KEEP is for the last group of all, which no tweaks follow.
#define KEEP(n, bytes, base, t)

// TWEAK is a round of the four unit numbers in Z26.
#define TWEAK(at) \
	VMOVDQU64 at(BX), Z28;   \
	VAESENC   Z28, Z26, Z26

// NONE is for groups beside which no initial tweaks are made.
#define NONE(at)

// NUMBERS begins the encryption of the next four unit numbers.
#define NUMBERS \
	VPXORQ (BX), Z25, Z26;       \
	VPADDQ four<>(SB), Z25, Z25

// TWEAKLAST ends it.
#define TWEAKLAST \
	VMOVDQU64   896(BX), Z28;  \
	VAESENCLAST Z28, Z26, Z26

// FETCH and FETCHTO bring in the lines that are read and written ahead bytes later, the latter for writing (PREFETCHW, which
// the assembler has no name for). The processor does so by itself only within a page of 4 KiB, a unit's length: buffers of
// mebibytes, which are in no core's cache, were a third slower than those that are.
#define ahead 2048
#define FETCH(at) PREFETCHT0 (at+ahead)(SI)
#define FETCHTO(at) \
	BYTE $0x0f; BYTE $0x0d; BYTE $0x8f; LONG $(at+ahead)

// WHITEN begins with a register of blocks.
#define WHITEN(at, blocks, tweaks) \
	FETCH(at);                             \
	VMOVDQU64  at(SI), blocks;             \
	VPXORQ     896(AX), tweaks, Z28;       \
	VMOVDQU64  Z28, at(R10);               \
	VPTERNLOGQ $0x96, tweaks, Z24, blocks

// WHITENLAST is WHITEN for the last group of all, whose tweaks stay in their registers: it clears
// what an earlier group left on the stack.
#define WHITENLAST(at, blocks, tweaks) \
	VMOVDQU64  at(SI), blocks;             \
	VMOVDQU64  Z25, at(R10);               \
	VPTERNLOGQ $0x96, tweaks, Z24, blocks

#define WHITEN8(whiten) \
	whiten(0, Z0, Z16);   \
	whiten(64, Z1, Z17);  \
	whiten(128, Z2, Z18); \
	whiten(192, Z3, Z19); \
	whiten(256, Z4, Z20); \
	whiten(320, Z5, Z21); \
	whiten(384, Z6, Z22); \
	whiten(448, Z7, Z23); \
	ADDQ $512, SI

// YOUNG, OLD and AGE are a round of the younger group, of the older one, and the seventh, by which
// the younger group becomes the older one.
#define YOUNG(op, at) \
	VMOVDQU64 at(AX), Z31; \
	op        Z31, Z0, Z0; \
	op        Z31, Z1, Z1; \
	op        Z31, Z2, Z2; \
	op        Z31, Z3, Z3; \
	op        Z31, Z4, Z4; \
	op        Z31, Z5, Z5; \
	op        Z31, Z6, Z6; \
	op        Z31, Z7, Z7

#define OLD(op, at) \
	VMOVDQU64 at(AX), Z31;   \
	op        Z31, Z8, Z8;   \
	op        Z31, Z9, Z9;   \
	op        Z31, Z10, Z10; \
	op        Z31, Z11, Z11; \
	op        Z31, Z12, Z12; \
	op        Z31, Z13, Z13; \
	op        Z31, Z14, Z14; \
	op        Z31, Z15, Z15

#define AGE(op) \
	VMOVDQU64 448(AX), Z31; \
	op        Z31, Z0, Z8;  \
	op        Z31, Z1, Z9;  \
	op        Z31, Z2, Z10; \
	op        Z31, Z3, Z11; \
	op        Z31, Z4, Z12; \
	op        Z31, Z5, Z13; \
	op        Z31, Z6, Z14; \
	op        Z31, Z7, Z15

// FINISH does the last round of a register of the older group, which whitens too.
#define FINISH(op, at, blocks) \
	FETCHTO(at);                   \
	VMOVDQU64 at(R12), Z31;        \
	op        Z31, blocks, blocks; \
	VMOVDQU64 blocks, at(DI)

#define FINISH8(op) \
	FINISH(op, 0, Z8);    \
	FINISH(op, 64, Z9);   \
	FINISH(op, 128, Z10); \
	FINISH(op, 192, Z11); \
	FINISH(op, 256, Z12); \
	FINISH(op, 320, Z13); \
	FINISH(op, 384, Z14); \
	FINISH(op, 448, Z15); \
	ADDQ $512, DI

// BOTH does a group's first seven rounds beside the last seven of the one before it, and with them a
// step on every register of tweaks and the rounds of the next initial tweaks.
#define BOTH(op, last, whiten, step, tweak) \
	OLD(op, 512);    \
	WHITEN8(whiten); \
	tweak(64);       \
	YOUNG(op, 64);   \
	tweak(128);      \
	step(0, 0, Z27, Z16);    \
	OLD(op, 576);    \
	tweak(192);      \
	YOUNG(op, 128);  \
	tweak(256);      \
	step(4, 0, Z29, Z17);   \
	OLD(op, 640);    \
	tweak(320);      \
	YOUNG(op, 192);  \
	tweak(384);      \
	step(8, 1, Z27, Z18);  \
	step(12, 1, Z29, Z19);  \
	OLD(op, 704);    \
	tweak(448);      \
	YOUNG(op, 256);  \
	tweak(512);      \
	step(16, 2, Z27, Z20);  \
	OLD(op, 768);    \
	tweak(576);      \
	YOUNG(op, 320);  \
	tweak(640);      \
	step(20, 2, Z29, Z21);  \
	OLD(op, 832);    \
	tweak(704);      \
	YOUNG(op, 384);  \
	tweak(768);      \
	step(24, 3, Z27, Z22);  \
	FINISH8(last);   \
	tweak(832);      \
	AGE(op);         \
	step(28, 3, Z29, Z23);  \
	XCHGQ R10, R12

// HEAD is BOTH without a group before, TAIL without one behind.
#define HEAD(op, whiten, step) \
	WHITEN8(whiten); \
	YOUNG(op, 64);   \
	step(0, 0, Z27, Z16);    \
	YOUNG(op, 128);  \
	step(4, 0, Z29, Z17);   \
	YOUNG(op, 192);  \
	step(8, 1, Z27, Z18);  \
	step(12, 1, Z29, Z19);  \
	YOUNG(op, 256);  \
	step(16, 2, Z27, Z20);  \
	YOUNG(op, 320);  \
	step(20, 2, Z29, Z21);  \
	YOUNG(op, 384);  \
	step(24, 3, Z27, Z22);  \
	AGE(op);         \
	step(28, 3, Z29, Z23);  \
	XCHGQ R10, R12

// FINISHLAST is FINISH for the last group of all.
#define FINISHLAST(op, at, blocks, tweaks) \
	VPXORQ    896(AX), tweaks, Z31; \
	op        Z31, blocks, blocks;  \
	VMOVDQU64 blocks, at(DI)

// TAIL does the last rounds of the last group, and clears what is on the stack of the one before.
#define TAIL(op, last) \
	OLD(op, 512);                    \
	VMOVDQU64 Z25, 0(R10);           \
	OLD(op, 576);                    \
	VMOVDQU64 Z25, 64(R10);          \
	OLD(op, 640);                    \
	VMOVDQU64 Z25, 128(R10);         \
	OLD(op, 704);                    \
	VMOVDQU64 Z25, 192(R10);         \
	OLD(op, 768);                    \
	VMOVDQU64 Z25, 256(R10);         \
	OLD(op, 832);                    \
	VMOVDQU64 Z25, 320(R10);         \
	VMOVDQU64 Z25, 384(R10);         \
	VMOVDQU64 Z25, 448(R10);         \
	FINISHLAST(last, 0, Z8, Z16);    \
	FINISHLAST(last, 64, Z9, Z17);   \
	FINISHLAST(last, 128, Z10, Z18); \
	FINISHLAST(last, 192, Z11, Z19); \
	FINISHLAST(last, 256, Z12, Z20); \
	FINISHLAST(last, 320, Z13, Z21); \
	FINISHLAST(last, 384, Z14, Z22); \
	FINISHLAST(last, 448, Z15, Z23)

// ONE is a round of the only unit's number, in every lane of Z27.
#define ONE(op, at) \
	VMOVDQU64 at(BX), Z28; \
	op        Z28, Z27, Z27

// FIRST is a round of the first four.
#define FIRST(op, at) \
	VMOVDQU64 at(BX), Z28; \
	op        Z28, Z26, Z26

#define ALLROUNDS(round) \
	round(VAESENC, 64);      \
	round(VAESENC, 128);     \
	round(VAESENC, 192);     \
	round(VAESENC, 256);     \
	round(VAESENC, 320);     \
	round(VAESENC, 384);     \
	round(VAESENC, 448);     \
	round(VAESENC, 512);     \
	round(VAESENC, 576);     \
	round(VAESENC, 640);     \
	round(VAESENC, 704);     \
	round(VAESENC, 768);     \
	round(VAESENC, 832);     \
	round(VAESENCLAST, 896)

// NUMBER puts the first unit's number into Z27, and the first four into Z25. Its halves come
// separately: a load of both would wait until their stores have left the processor's store queue.
#define NUMBER \
	VPBROADCASTQ lo+48(FP), Z27;        \
	VPBROADCASTQ hi+56(FP), Z28;        \
	VPUNPCKLQDQ  Z28, Z27, Z27;         \
	VPADDQ       lanes<>(SB), Z27, Z25

// START makes the first tweaks of the first unit, of its initial one in Z27.
#define START(lanes, expand) \
	lanes;                    \
	expand(0, 0, Z27, Z16);   \
	expand(4, 0, Z29, Z17);   \
	expand(8, 1, Z27, Z18);   \
	expand(12, 1, Z29, Z19);  \
	expand(16, 2, Z27, Z20);  \
	expand(20, 2, Z29, Z21);  \
	expand(24, 3, Z27, Z22);  \
	expand(28, 3, Z29, Z23)

// WIPE clears the registers that VZEROUPPER does not reach: keys and tweaks.
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

// RUN is the whole of a direction, with one of the two ways to make tweaks.
#define RUN(round, last, constants, lanes, expand, advance) \
	MOVQ      keys+0(FP), AX;                  \
	MOVQ      tweak+8(FP), BX;                 \
	MOVQ      dst+16(FP), DI;                  \
	MOVQ      src+24(FP), SI;                  \
	MOVQ      groups+32(FP), R8;               \
	MOVQ      units+40(FP), R9;                \
	LEAQ      63(SP), R10;                     \
	ANDQ      $~63, R10;                       \
	LEAQ      512(R10), R12;                   \
	constants;                                 \
	NUMBER;                                    \
	CMPQ      R9, $1;                          \
	JEQ       alone;                           \
	MOVQ      $4, R11;                         \
	NUMBERS;                                   \
	ALLROUNDS(FIRST);                          \
	SPREAD;                                    \
	JMP       start;                           \
alone: \
	VPXORQ    (BX), Z27, Z27;                  \
	ALLROUNDS(ONE);                            \
start: \
	START(lanes, expand);                      \
	VMOVDQU64 (AX), Z24;                       \
	MOVQ      R8, CX;                          \
	DECQ      CX;                              \
	JZ        short;                           \
	HEAD(round, WHITEN, advance);              \
	JMP       next;                            \
short: \
	DECQ      R9;                              \
	JZ        one;                             \
	SPREAD;                                    \
	lanes;                                     \
	HEAD(round, WHITEN, expand);               \
	MOVQ      R8, CX;                          \
	JMP       next;                            \
one: \
	VPXORQ    Z25, Z25, Z25;                   \
	HEAD(round, WHITENLAST, KEEP);             \
	JMP       tail;                            \
group: \
	BOTH(round, last, WHITEN, advance, NONE);  \
next: \
	DECQ      CX;                              \
	JNZ       group;                           \
	DECQ      R9;                              \
	JZ        end;                             \
	MOVQ      R8, CX;                          \
	SPREAD;                                    \
	lanes;                                     \
	JZ        numbers;                         \
unit: \
	BOTH(round, last, WHITEN, expand, NONE);   \
	JMP       next;                            \
numbers: \
	CMPQ      R9, $1;                          \
	JEQ       unit;                            \
	MOVQ      $4, R11;                         \
	NUMBERS;                                   \
	BOTH(round, last, WHITEN, expand, TWEAK);  \
	TWEAKLAST;                                 \
	JMP       next;                            \
end: \
	VPXORQ    Z25, Z25, Z25;                   \
	BOTH(round, last, WHITENLAST, KEEP, NONE); \
tail: \
	TAIL(round, last);                         \
	WIPE;                                      \
	RET

// func encryptVAES512(keys, tweak *wideSchedule, dst, src *byte, groups, units int, lo, hi uint64)
TEXT ·encryptVAES512(SB), 0, $1088-64
	RUN(VAESENC, VAESENCLAST, SHIFTS, LANES, EXPAND, ADVANCE)

// func decryptVAES512(keys, tweak *wideSchedule, dst, src *byte, groups, units int, lo, hi uint64)
TEXT ·decryptVAES512(SB), 0, $1088-64
	RUN(VAESDEC, VAESDECLAST, SHIFTS, LANES, EXPAND, ADVANCE)

// func encryptVAES512Mul(keys, tweak *wideSchedule, dst, src *byte, groups, units int, lo, hi uint64)
TEXT ·encryptVAES512Mul(SB), 0, $1088-64
	RUN(VAESENC, VAESENCLAST, FACTORS, LANESMUL, EXPANDMUL, ADVANCEMUL)

// func decryptVAES512Mul(keys, tweak *wideSchedule, dst, src *byte, groups, units int, lo, hi uint64)
TEXT ·decryptVAES512Mul(SB), 0, $1088-64
	RUN(VAESDEC, VAESDECLAST, FACTORS, LANESMUL, EXPANDMUL, ADVANCEMUL)
