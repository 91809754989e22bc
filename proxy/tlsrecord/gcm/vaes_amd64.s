//go:build !purego

#include "textflag.h"

// AES-256-GCM on ymm registers, in VEX encoding, for processors with VAES and VPCLMULQDQ and without AVX-512. A group is 32
// blocks in two halves: counter mode on 16 blocks in eight registers, and beside its rounds GHASH of 16 blocks of
// ciphertext. GHASH has the form that vaes512_amd64.s explains, but a product takes three multiplications and not four
// (Karatsuba): LO of the lower halves, HI of the upper ones, and MI of the halves' sums, from which LO and HI are taken
// before the reduction.
//
// What is scarce on AMD's Zen 3 is the two ports of AES rounds. A multiplication takes most of both for one cycle, other
// operations on registers now and then one of them: hence the sums of the powers are ready made, and counters are not
// shuffled one by one.
//
// Y0…Y7 counter blocks, Y8 a round key or scratch, Y9 LO, Y10 MI, Y11 HI, Y12 data, Y13 the sums of their halves or scratch,
// Y14 the hash so far (in the lower lane), Y15 the reversal of bytes. AX round keys, BX powers, CX groups left, DI
// destination, SI source, R8 what is hashed, R9 the counter block, R10 the hash. The counter is on the stack, too.

DATA reversal<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA reversal<>+8(SB)/8, $0x0001020304050607
GLOBL reversal<>(SB), RODATA|NOPTR, $16

DATA modulus<>+0(SB)/8, $1
DATA modulus<>+8(SB)/8, $0xc200000000000000
DATA modulus<>+16(SB)/8, $1
DATA modulus<>+24(SB)/8, $0xc200000000000000
GLOBL modulus<>(SB), RODATA|NOPTR, $32

DATA lanes<>+0(SB)/8, $0
DATA lanes<>+8(SB)/8, $0
DATA lanes<>+16(SB)/8, $1
DATA lanes<>+24(SB)/8, $0
GLOBL lanes<>(SB), RODATA|NOPTR, $32

DATA two<>+0(SB)/8, $2
DATA two<>+8(SB)/8, $0
DATA two<>+16(SB)/8, $2
DATA two<>+24(SB)/8, $0
GLOBL two<>(SB), RODATA|NOPTR, $32

DATA sixteen<>+0(SB)/8, $16
DATA sixteen<>+8(SB)/8, $0
DATA sixteen<>+16(SB)/8, $16
DATA sixteen<>+24(SB)/8, $0
GLOBL sixteen<>(SB), RODATA|NOPTR, $32

// within is the last four bits of the counters of half a group, where a counter block has them.
DATA within<>+0(SB)/8, $0
DATA within<>+8(SB)/8, $0x0200000000000000
DATA within<>+16(SB)/8, $0
DATA within<>+24(SB)/8, $0x0300000000000000
DATA within<>+32(SB)/8, $0
DATA within<>+40(SB)/8, $0x0400000000000000
DATA within<>+48(SB)/8, $0
DATA within<>+56(SB)/8, $0x0500000000000000
DATA within<>+64(SB)/8, $0
DATA within<>+72(SB)/8, $0x0600000000000000
DATA within<>+80(SB)/8, $0
DATA within<>+88(SB)/8, $0x0700000000000000
DATA within<>+96(SB)/8, $0
DATA within<>+104(SB)/8, $0x0800000000000000
DATA within<>+112(SB)/8, $0
DATA within<>+120(SB)/8, $0x0900000000000000
DATA within<>+128(SB)/8, $0
DATA within<>+136(SB)/8, $0x0a00000000000000
DATA within<>+144(SB)/8, $0
DATA within<>+152(SB)/8, $0x0b00000000000000
DATA within<>+160(SB)/8, $0
DATA within<>+168(SB)/8, $0x0c00000000000000
DATA within<>+176(SB)/8, $0
DATA within<>+184(SB)/8, $0x0d00000000000000
DATA within<>+192(SB)/8, $0
DATA within<>+200(SB)/8, $0x0e00000000000000
DATA within<>+208(SB)/8, $0
DATA within<>+216(SB)/8, $0x0f00000000000000
DATA within<>+224(SB)/8, $0
DATA within<>+232(SB)/8, $0x0000000000000000
DATA within<>+240(SB)/8, $0
DATA within<>+248(SB)/8, $0x0100000000000000
GLOBL within<>(SB), RODATA|NOPTR, $256

// mask is for what belongs to the message, in a pair of blocks of which the rest is to be zero.
DATA mask<>+0(SB)/8, $~0
DATA mask<>+8(SB)/8, $~0
DATA mask<>+16(SB)/8, $~0
DATA mask<>+24(SB)/8, $~0
DATA mask<>+32(SB)/8, $0
DATA mask<>+40(SB)/8, $0
DATA mask<>+48(SB)/8, $0
DATA mask<>+56(SB)/8, $0
GLOBL mask<>(SB), RODATA|NOPTR, $64

// SUMS is how far behind a power the sum of its halves is.
#define SUMS 576

// COUNTERS makes the counter blocks of half a group, of which the first is number 16k + 2: those up to 16k + 15 are
// 16k ⊕ their last four bits, the other two 16k + 16 ⊕ 0 and 1. What is on the stack goes from 16k to 16k + 16.
#define COUNTERS \
	VBROADCASTI128 (AX), Y8;                  \
	VBROADCASTI128 base-16(SP), Y12;          \
	VPSHUFB        Y15, Y12, Y13;             \
	VPADDD         sixteen<>(SB), Y12, Y12;   \
	VMOVDQU        X12, base-16(SP);          \
	VPXOR          Y8, Y13, Y13;              \
	VPSHUFB        Y15, Y12, Y12;             \
	VPXOR          Y8, Y12, Y12;              \
	VPXOR          within<>+0(SB), Y13, Y0;   \
	VPXOR          within<>+32(SB), Y13, Y1;  \
	VPXOR          within<>+64(SB), Y13, Y2;  \
	VPXOR          within<>+96(SB), Y13, Y3;  \
	VPXOR          within<>+128(SB), Y13, Y4; \
	VPXOR          within<>+160(SB), Y13, Y5; \
	VPXOR          within<>+192(SB), Y13, Y6; \
	VPXOR          within<>+224(SB), Y12, Y7

#define ROUND(at) \
	VBROADCASTI128 at(AX), Y8; \
	VAESENC        Y8, Y0, Y0; \
	VAESENC        Y8, Y1, Y1; \
	VAESENC        Y8, Y2, Y2; \
	VAESENC        Y8, Y3, Y3; \
	VAESENC        Y8, Y4, Y4; \
	VAESENC        Y8, Y5, Y5; \
	VAESENC        Y8, Y6, Y6; \
	VAESENC        Y8, Y7, Y7

// FETCH brings in the lines that are written (PREFETCHW, which the assembler has no name for) and read 2 KiB later. They may
// be behind the message: that is no fault.
#define FETCH(at) \
	BYTE       $0x0f; BYTE $0x0d; BYTE $0x8f; LONG $(at+2048); \
	PREFETCHT0 (at+2048)(SI)

// COVER does the last round, in which the data comes to the key stream.
#define COVER(at, y) \
	VPXOR       at(SI), Y8, Y12; \
	VAESENCLAST Y12, y, y;       \
	VMOVDQU     y, at(DI)

#define COVERS \
	VBROADCASTI128 224(AX), Y8; \
	FETCH(0);                   \
	COVER(0, Y0);               \
	COVER(32, Y1);              \
	FETCH(64);                  \
	COVER(64, Y2);              \
	COVER(96, Y3);              \
	FETCH(128);                 \
	COVER(128, Y4);             \
	COVER(160, Y5);             \
	FETCH(192);                 \
	COVER(192, Y6);             \
	COVER(224, Y7);             \
	ADDQ $256, SI;              \
	ADDQ $256, DI

// LOAD takes two blocks into Y12, HALVES the sums of their halves into Y13.
#define LOAD(at) \
	VMOVDQU at(R8), Y12; \
	VPSHUFB Y15, Y12, Y12

#define HALVES \
	VPSHUFD $0x4e, Y12, Y13; \
	VPXOR   Y12, Y13, Y13

// PRODUCT multiplies and adds. The multiplications stand together: with the additions between them all took a tenth longer.
#define PRODUCT(at) \
	VPCLMULQDQ $0x00, at(BX), Y12, Y8;         \
	VPCLMULQDQ $0x11, at(BX), Y12, Y12;        \
	VPCLMULQDQ $0x00, (at+SUMS)(BX), Y13, Y13; \
	VPXOR      Y8, Y9, Y9;                     \
	VPXOR      Y12, Y11, Y11;                  \
	VPXOR      Y13, Y10, Y10

// BEGIN, HASH and JOIN take in two blocks: the first to be multiplied, further ones, and those to which the hash so far
// belongs, which come late, since what they wait for is the end of the group before.
#define BEGIN(at) \
	LOAD(at);                           \
	HALVES;                             \
	VPCLMULQDQ $0x00, at(BX), Y12, Y9;  \
	VPCLMULQDQ $0x11, at(BX), Y12, Y11; \
	VPCLMULQDQ $0x00, (at+SUMS)(BX), Y13, Y10

#define HASH(at) \
	LOAD(at); \
	HALVES;   \
	PRODUCT(at)

#define JOIN(at) \
	LOAD(at);            \
	VPXOR Y14, Y12, Y12; \
	HALVES;              \
	PRODUCT(at)

#define REDUCELOW \
	VPCLMULQDQ $0x10, modulus<>(SB), Y9, Y13; \
	VPXOR      Y9, Y10, Y10;                  \
	VPXOR      Y11, Y10, Y10;                 \
	VPSHUFD    $0x4e, Y9, Y9;                 \
	VPXOR      Y9, Y10, Y10;                  \
	VPXOR      Y13, Y10, Y10

#define REDUCEHIGH \
	VPCLMULQDQ $0x10, modulus<>(SB), Y10, Y13; \
	VPSHUFD    $0x4e, Y10, Y10;                \
	VPXOR      Y10, Y11, Y11;                  \
	VPXOR      Y13, Y11, Y11

// FOLD adds both lanes up.
#define FOLD \
	VEXTRACTI128 $1, Y11, X13; \
	VPXOR        X13, X11, X14

#define REDUCE \
	REDUCELOW;  \
	REDUCEHIGH; \
	FOLD

// FIRST and SECOND encrypt half a group of counters and hash half a group of blocks. What is opened in place is gone behind
// the half in which it is hashed.
#define FIRST \
	COUNTERS;   \
	ROUND(16);  \
	BEGIN(32);  \
	ROUND(32);  \
	HASH(64);   \
	ROUND(48);  \
	HASH(96);   \
	ROUND(64);  \
	HASH(128);  \
	ROUND(80);  \
	HASH(160);  \
	ROUND(96);  \
	HASH(192);  \
	ROUND(112); \
	ROUND(128); \
	HASH(224);  \
	ROUND(144); \
	ROUND(160); \
	JOIN(0);    \
	ROUND(176); \
	ROUND(192); \
	ROUND(208); \
	COVERS

#define SECOND \
	COUNTERS;   \
	ROUND(16);  \
	HASH(256);  \
	ROUND(32);  \
	HASH(288);  \
	ROUND(48);  \
	HASH(320);  \
	ROUND(64);  \
	HASH(352);  \
	ROUND(80);  \
	HASH(384);  \
	ROUND(96);  \
	HASH(416);  \
	ROUND(112); \
	HASH(448);  \
	ROUND(128); \
	ROUND(144); \
	HASH(480);  \
	ROUND(160); \
	ROUND(176); \
	REDUCELOW;  \
	ROUND(192); \
	REDUCEHIGH; \
	FOLD;       \
	ROUND(208); \
	COVERS

// ENCRYPT encrypts half a group.
#define ENCRYPT \
	COUNTERS;   \
	ROUND(16);  \
	ROUND(32);  \
	ROUND(48);  \
	ROUND(64);  \
	ROUND(80);  \
	ROUND(96);  \
	ROUND(112); \
	ROUND(128); \
	ROUND(144); \
	ROUND(160); \
	ROUND(176); \
	ROUND(192); \
	ROUND(208); \
	COVERS

#define HASHALL \
	BEGIN(32); \
	HASH(64);  \
	HASH(96);  \
	HASH(128); \
	HASH(160); \
	HASH(192); \
	HASH(224); \
	HASH(256); \
	HASH(288); \
	HASH(320); \
	HASH(352); \
	HASH(384); \
	HASH(416); \
	HASH(448); \
	HASH(480); \
	JOIN(0);   \
	REDUCE

// START loads what every function over many blocks has ready, and the first counter into X12.
#define START \
	MOVQ           keys+0(FP), AX;      \
	MOVQ           powers+8(FP), BX;    \
	MOVQ           hash+16(FP), R10;    \
	MOVQ           counter+24(FP), R9;  \
	MOVQ           dst+32(FP), DI;      \
	MOVQ           src+40(FP), SI;      \
	VBROADCASTI128 reversal<>(SB), Y15; \
	VMOVQ          (R9), X12;           \
	VPINSRQ        $1, 8(R9), X12, X12; \
	VPSHUFB        X15, X12, X12;       \
	VMOVDQU        (R10), X14

// GROUPS begins a function over whole groups.
#define GROUPS \
	START;                       \
	MOVQ    groups+48(FP), CX;   \
	VPSUBD  two<>(SB), X12, X12; \
	VMOVDQU X12, base-16(SP)

// WIPE clears the registers of GHASH. VZEROALL clears more and takes longer, which counts where there is little to do.
#define WIPE \
	VPXOR X8, X8, X8;    \
	VPXOR X9, X9, X9;    \
	VPXOR X10, X10, X10; \
	VPXOR X11, X11, X11; \
	VPXOR X12, X12, X12; \
	VPXOR X13, X13, X13; \
	VPXOR X14, X14, X14

// REST begins a group in part: two blocks at a time, R11 the bytes left, R12 a pair of blocks that stands in for the last
// ones if they are less than that, Y7 counters. BX goes to the power of the first block.
#define REST \
	START;                           \
	MOVQ        bytes+48(FP), R11;   \
	MOVQ        pair+56(FP), R12;    \
	LEAQ        15(R11), R13;        \
	ANDQ        $~15, R13;           \
	ADDQ        $512, BX;            \
	SUBQ        R13, BX;             \
	VINSERTI128 $1, X12, Y12, Y7;    \
	VPADDD      lanes<>(SB), Y7, Y7; \
	VPXOR       Y9, Y9, Y9;          \
	VPXOR       Y10, Y10, Y10;       \
	VPXOR       Y11, Y11, Y11

#define ONE(at) \
	VBROADCASTI128 at(AX), Y8; \
	VAESENC        Y8, Y0, Y0

// STEP makes key stream and loads data into Y1 to have it in Y0, encrypted or decrypted.
#define STEP \
	CMPQ           R11, $32;          \
	CMOVQLT        R12, SI;           \
	CMOVQLT        R12, DI;           \
	VPSHUFB        Y15, Y7, Y0;       \
	VPADDD         two<>(SB), Y7, Y7; \
	VBROADCASTI128 (AX), Y8;          \
	VPXOR          Y8, Y0, Y0;        \
	ONE(16);                          \
	ONE(32);                          \
	ONE(48);                          \
	ONE(64);                          \
	ONE(80);                          \
	ONE(96);                          \
	ONE(112);                         \
	ONE(128);                         \
	ONE(144);                         \
	ONE(160);                         \
	ONE(176);                         \
	ONE(192);                         \
	ONE(208);                         \
	VBROADCASTI128 224(AX), Y8;       \
	VMOVDQU        (SI), Y1;          \
	VPXOR          Y1, Y8, Y8;        \
	VAESENCLAST    Y8, Y0, Y0

// TAKE hashes the ciphertext in y and goes on.
#define TAKE(y) \
	VPSHUFB Y15, y, Y12;   \
	VPXOR   Y14, Y12, Y12; \
	VPXOR   Y14, Y14, Y14; \
	HALVES;                \
	PRODUCT(0);            \
	ADDQ    $32, BX;       \
	ADDQ    $32, SI;       \
	ADDQ    $32, DI;       \
	SUBQ    $32, R11

// ENDREST leaves the hash where it was.
#define ENDREST \
	REDUCE;             \
	VMOVDQU X14, (R10); \
	WIPE;               \
	VPXOR   Y0, Y0, Y0; \
	VPXOR   Y1, Y1, Y1; \
	VZEROUPPER

// func openVAES(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, groups int)
TEXT ·openVAES(SB), NOSPLIT, $16-56
	GROUPS

group:
	MOVQ    SI, R8
	FIRST
	SECOND
	DECQ    CX
	JNZ     group
	VMOVDQU X14, (R10)
	VZEROALL
	RET

// func sealVAES(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, groups int)
TEXT ·sealVAES(SB), NOSPLIT, $16-56
	GROUPS
	MOVQ    DI, R8
	ENCRYPT
	ENCRYPT
	DECQ    CX
	JZ      last

group:
	FIRST
	SECOND
	ADDQ    $512, R8
	DECQ    CX
	JNZ     group

last:
	HASHALL
	VMOVDQU X14, (R10)
	VZEROALL
	RET

// func openRestVAES(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, bytes int, pair *[pairBytes]byte)
TEXT ·openRestVAES(SB), NOSPLIT, $0-64
	REST

step:
	STEP
	VMOVDQU Y0, (DI)
	TAKE(Y1)
	JGT step
	ENDREST
	RET

// func sealRestVAES(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, bytes int, pair *[pairBytes]byte)
TEXT ·sealRestVAES(SB), NOSPLIT, $0-64
	REST

step:
	STEP
	MOVQ    $32, R13
	CMPQ    R11, R13
	CMOVQLT R11, R13
	LEAQ    mask<>+32(SB), R8
	SUBQ    R13, R8
	VPAND   (R8), Y0, Y0
	VMOVDQU Y0, (DI)
	TAKE(Y0)
	JGT step
	ENDREST
	RET

// func absorb(hash *[blockBytes]byte, upper, lower uint64, power *[blockBytes]byte)
TEXT ·absorb(SB), NOSPLIT, $0-32
	MOVQ       hash+0(FP), R10
	MOVQ       power+24(FP), BX
	VMOVQ      lower+16(FP), X12
	VPINSRQ    $1, upper+8(FP), X12, X12
	VPXOR      (R10), X12, X12
	VMOVDQU    (BX), X8
	VPCLMULQDQ $0x00, X8, X12, X9
	VPCLMULQDQ $0x11, X8, X12, X11
	VPCLMULQDQ $0x01, X8, X12, X10
	VPCLMULQDQ $0x10, X8, X12, X13
	VPXOR      X13, X10, X10
	VPCLMULQDQ $0x10, modulus<>(SB), X9, X13
	VPSHUFD    $0x4e, X9, X9
	VPXOR      X9, X10, X10
	VPXOR      X13, X10, X10
	VPCLMULQDQ $0x10, modulus<>(SB), X10, X13
	VPSHUFD    $0x4e, X10, X10
	VPXOR      X10, X11, X11
	VPXOR      X13, X11, X11
	VMOVDQU    X11, (R10)
	WIPE
	RET
