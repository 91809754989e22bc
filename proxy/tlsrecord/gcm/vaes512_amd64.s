//go:build !purego

#include "textflag.h"

// AES-256 in counter mode on 32 blocks at a time, in eight zmm registers, and beside their rounds GHASH of 32 blocks of
// ciphertext: AES begins on one port of the processor and carry-less multiplication on another.
//
// GHASH is in the form in which a block, its bytes in reverse, is a number (NIST SP 800-38D §6.4, reflected). The powers of
// the hash key are divided by x, so that no product has to be shifted, and a product of 256 bits, LO, MI twice and HI, is
// reduced from below: 64 bits of LO go into MI and 64 of MI into HI, each with its multiple of the polynomial,
// x^128 + x^127 + x^126 + x^121 + 1 from the top down.
//
// Z0…Z7 counter blocks, Z16 data ⊕ the last round key, Z17…Z22 scratch of GHASH, Z23 HI, Z24 MI, Z25 LO, Z26 the
// hash so far (in the lowest lane), Z27 four more for each counter, Z28 the next four counters, Z29 the polynomial, Z30 the
// reversal of bytes, Z31 a round key. AX round keys, BX powers, CX groups left, DI destination, SI source, R8 what is hashed.

DATA reverse<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+8(SB)/8, $0x0001020304050607
GLOBL reverse<>(SB), RODATA|NOPTR, $16

DATA polynomial<>+0(SB)/8, $1
DATA polynomial<>+8(SB)/8, $0xc200000000000000
GLOBL polynomial<>(SB), RODATA|NOPTR, $16

DATA four<>+0(SB)/8, $4
DATA four<>+8(SB)/8, $0
GLOBL four<>(SB), RODATA|NOPTR, $16

DATA lanes<>+0(SB)/8, $0
DATA lanes<>+8(SB)/8, $0
DATA lanes<>+16(SB)/8, $1
DATA lanes<>+24(SB)/8, $0
DATA lanes<>+32(SB)/8, $2
DATA lanes<>+40(SB)/8, $0
DATA lanes<>+48(SB)/8, $3
DATA lanes<>+56(SB)/8, $0
GLOBL lanes<>(SB), RODATA|NOPTR, $64

// NEXT makes a register of counter blocks.
#define NEXT(z) \
	VPSHUFB Z30, Z28, z;  \
	VPADDD  Z27, Z28, Z28; \
	VPXORQ  Z31, z, z

#define COUNTERS \
	VBROADCASTI32X4 (AX), Z31; \
	NEXT(Z0); \
	NEXT(Z1); \
	NEXT(Z2); \
	NEXT(Z3); \
	NEXT(Z4); \
	NEXT(Z5); \
	NEXT(Z6); \
	NEXT(Z7)

#define ROUND(at) \
	VBROADCASTI32X4 at(AX), Z31; \
	VAESENC         Z31, Z0, Z0; \
	VAESENC         Z31, Z1, Z1; \
	VAESENC         Z31, Z2, Z2; \
	VAESENC         Z31, Z3, Z3; \
	VAESENC         Z31, Z4, Z4; \
	VAESENC         Z31, Z5, Z5; \
	VAESENC         Z31, Z6, Z6; \
	VAESENC         Z31, Z7, Z7

// FETCHTO brings in a line that is written 2 KiB later (PREFETCHW, which the assembler has no name for): messages are
// opened into buffers of a mebibyte, which are in no core's cache.
#define FETCHTO(at) BYTE $0x0f; BYTE $0x0d; BYTE $0x8f; LONG $(at+2048)

// FETCHFROM brings in a line that is read 2 KiB later, which may be behind the message: that is no fault.
#define FETCHFROM(at) PREFETCHT0 (at+2048)(SI)

// COVER does the last round, in which the data comes to the key stream.
#define COVER(at, z) \
	FETCHTO(at);                  \
	FETCHFROM(at);                \
	VPXORQ      at(SI), Z31, Z16; \
	VAESENCLAST Z16, z, z;        \
	VMOVDQU64   z, at(DI)

#define COVERS \
	VBROADCASTI32X4 224(AX), Z31; \
	COVER(0, Z0);    \
	COVER(64, Z1);   \
	COVER(128, Z2);  \
	COVER(192, Z3);  \
	COVER(256, Z4);  \
	COVER(320, Z5);  \
	COVER(384, Z6);  \
	COVER(448, Z7);  \
	ADDQ $512, SI;   \
	ADDQ $512, DI

// PRODUCT multiplies Z19 by Z18 into four parts.
#define PRODUCT \
	VPCLMULQDQ $0x00, Z18, Z19, Z22; \
	VPCLMULQDQ $0x01, Z18, Z19, Z21; \
	VPCLMULQDQ $0x10, Z18, Z19, Z20; \
	VPCLMULQDQ $0x11, Z18, Z19, Z17

#define SUM \
	VPXORQ     Z22, Z25, Z25;        \
	VPTERNLOGQ $0x96, Z20, Z21, Z24; \
	VPXORQ     Z17, Z23, Z23

#define LOAD(at) \
	VMOVDQU64 at(R8), Z19;   \
	VMOVDQU64 at(BX), Z18;   \
	VPSHUFB   Z30, Z19, Z19

// BEGIN, HASH and JOIN take in a register of blocks: the first to be multiplied, a further one, and the one to which
// the hash so far belongs, which comes last, since what it waits for is the end of the group before.
#define BEGIN(at) \
	LOAD(at);              \
	PRODUCT;               \
	VMOVDQA64 Z22, Z25;    \
	VPXORQ Z20, Z21, Z24;  \
	VMOVDQA64 Z17, Z23

#define HASH(at) \
	LOAD(at); \
	PRODUCT;  \
	SUM

#define JOIN(at) \
	LOAD(at);             \
	VPXORQ Z26, Z19, Z19; \
	PRODUCT;              \
	SUM

#define REDUCELOW \
	VPCLMULQDQ $0x01, Z25, Z29, Z22; \
	VPSHUFD    $0x4e, Z25, Z25;      \
	VPTERNLOGQ $0x96, Z22, Z25, Z24

#define REDUCEHIGH \
	VPCLMULQDQ $0x01, Z24, Z29, Z22; \
	VPSHUFD    $0x4e, Z24, Z24;      \
	VPTERNLOGQ $0x96, Z22, Z24, Z23

// FOLD adds the four lanes up.
#define FOLD \
	VEXTRACTI64X4 $1, Z23, Y22;  \
	VPXORQ        Y22, Y23, Y23; \
	VEXTRACTI32X4 $1, Y23, X22;  \
	VPXORQ        X22, X23, X26

#define REDUCE \
	REDUCELOW;  \
	REDUCEHIGH; \
	FOLD

// BOTH encrypts a group of counters and hashes a group of blocks.
#define BOTH \
	COUNTERS;   \
	ROUND(16);  \
	BEGIN(64);  \
	ROUND(32);  \
	HASH(128);  \
	ROUND(48);  \
	HASH(192);  \
	ROUND(64);  \
	HASH(256);  \
	ROUND(80);  \
	HASH(320);  \
	ROUND(96);  \
	HASH(384);  \
	ROUND(112); \
	HASH(448);  \
	ROUND(128); \
	JOIN(0);    \
	ROUND(144); \
	REDUCELOW;  \
	ROUND(160); \
	REDUCEHIGH; \
	ROUND(176); \
	FOLD;       \
	ROUND(192); \
	ROUND(208); \
	COVERS

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
	BEGIN(64);  \
	HASH(128);  \
	HASH(192);  \
	HASH(256);  \
	HASH(320);  \
	HASH(384);  \
	HASH(448);  \
	JOIN(0);    \
	REDUCE

// START loads what every function over many blocks has ready. R9 is the first counter block, R10 the hash so far.
#define START \
	MOVQ            keys+0(FP), AX;        \
	MOVQ            powers+8(FP), BX;      \
	MOVQ            hash+16(FP), R10;      \
	MOVQ            counter+24(FP), R9;    \
	MOVQ            dst+32(FP), DI;        \
	MOVQ            src+40(FP), SI;        \
	VBROADCASTI32X4 reverse<>(SB), Z30;    \
	VBROADCASTI32X4 polynomial<>(SB), Z29; \
	VBROADCASTI32X4 four<>(SB), Z27;       \
	VBROADCASTI32X4 (R9), Z28;             \
	VPSHUFB         Z30, Z28, Z28;         \
	VPADDD          lanes<>(SB), Z28, Z28; \
	VMOVDQU         (R10), X0;             \
	VMOVDQA64       Z0, Z26

// WIPE clears the registers that VZEROUPPER does not reach.
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
	VPXORQ Z31, Z31, Z31; \
	VZEROALL

// END leaves the hash where it was and ends such a function.
#define END \
	VMOVDQU64 X26, (R10); \
	WIPE;                 \
	RET

// REST begins a group in part: 64 bytes at a time, R11 the bytes left, R12 how many of them are in this step, and what
// else there is in a register is zero. BX goes to the power of the first block.
#define REST \
	START;                     \
	MOVQ bytes+48(FP), R11;    \
	LEAQ 15(R11), R13;         \
	ANDQ $~15, R13;            \
	ADDQ $512, BX;             \
	SUBQ R13, BX;              \
	VPXORQ Z23, Z23, Z23;      \
	VPXORQ Z24, Z24, Z24;      \
	VPXORQ Z25, Z25, Z25

#define ONE(at) \
	VBROADCASTI32X4 at(AX), Z31; \
	VAESENC         Z31, Z0, Z0

// STEP makes key stream in Z0 and loads data into Z1.
#define STEP \
	MOVQ    $64, R12;                \
	CMPQ    R11, R12;                \
	CMOVQLT R11, R12;                \
	MOVQ    $64, CX;                 \
	SUBQ    R12, CX;                 \
	MOVQ    $-1, R13;                \
	SHRQ    CX, R13;                 \
	KMOVQ   R13, K1;                 \
	VMOVDQU8.Z (SI), K1, Z1;         \
	VBROADCASTI32X4 (AX), Z31;       \
	NEXT(Z0);                        \
	ONE(16);                         \
	ONE(32);                         \
	ONE(48);                         \
	ONE(64);                         \
	ONE(80);                         \
	ONE(96);                         \
	ONE(112);                        \
	ONE(128);                        \
	ONE(144);                        \
	ONE(160);                        \
	ONE(176);                        \
	ONE(192);                        \
	ONE(208);                        \
	VBROADCASTI32X4 224(AX), Z31;    \
	VAESENCLAST     Z31, Z0, Z0;     \
	VPXORQ          Z1, Z0, Z0;      \
	VMOVDQU8        Z0, K1, (DI)

// TAKE hashes the ciphertext in z and goes on.
#define TAKE(z) \
	VPSHUFB   Z30, z, Z19;   \
	VPXORQ    Z26, Z19, Z19; \
	VPXORQ    Z26, Z26, Z26; \
	VMOVDQU64 (BX), Z18;     \
	PRODUCT;                 \
	SUM;                     \
	ADDQ $64, BX;            \
	ADDQ R12, SI;            \
	ADDQ R12, DI;            \
	SUBQ R12, R11

// func openVAES512(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, groups int)
TEXT ·openVAES512(SB), NOSPLIT, $0-56
	START
	MOVQ groups+48(FP), CX

group:
	MOVQ SI, R8
	BOTH
	DECQ CX
	JNZ  group
	END

// func sealVAES512(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, groups int)
TEXT ·sealVAES512(SB), NOSPLIT, $0-56
	START
	MOVQ groups+48(FP), CX
	MOVQ DI, R8
	ENCRYPT
	DECQ CX
	JZ   last

group:
	BOTH
	ADDQ $512, R8
	DECQ CX
	JNZ  group

last:
	HASHALL
	END

// func openRestVAES512(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, bytes int)
TEXT ·openRestVAES512(SB), NOSPLIT, $0-56
	REST

step:
	STEP
	TAKE(Z1)
	JNZ step
	REDUCE
	END

// func sealRestVAES512(keys *aes256.Schedule, powers *powers, hash, counter *[blockBytes]byte, dst, src *byte, bytes int)
TEXT ·sealRestVAES512(SB), NOSPLIT, $0-56
	REST

step:
	STEP
	VMOVDQU8.Z Z0, K1, Z1
	TAKE(Z1)
	JNZ step
	REDUCE
	END
