//go:build !purego

#include "textflag.h"

// The doubling of a tweak: what leaves a 64-bit half goes into the other one, 0x87 for the upper.
DATA alpha<>+0(SB)/8, $0x87
DATA alpha<>+8(SB)/8, $1
GLOBL alpha<>(SB), RODATA|NOPTR, $16

// X0..X7 blocks, X15 tweak, X14 alpha, X12 first round key, X10 last round key, X11 round key,
// X9 and X13 scratch. AX schedule, DI destination, SI source, CX blocks, DX where the tweak is
// kept, R10 eight tweaks on the stack, each ⊕ the last round key.

#define DOUBLE \
	VPSHUFD $0x13, X15, X13; \
	VPADDQ  X15, X15, X15;   \
	VPSRAD  $31, X13, X13;   \
	VPAND   X14, X13, X13;   \
	VPXOR   X13, X15, X15

// LOAD whitens one block and moves the tweak on.
#define LOAD(at, x) \
	VPXOR   X15, X12, X9;     \
	VPXOR   at(SI), X9, x;    \
	VPXOR   X15, X10, X9;     \
	VMOVDQU X9, at(R10);      \
	DOUBLE

#define LOAD8 \
	LOAD(0, X0);  \
	LOAD(16, X1); \
	LOAD(32, X2); \
	LOAD(48, X3); \
	LOAD(64, X4); \
	LOAD(80, X5); \
	LOAD(96, X6); \
	LOAD(112, X7)

#define ROUND8(op, at) \
	VMOVDQU at(AX), X11; \
	op      X11, X0, X0; \
	op      X11, X1, X1; \
	op      X11, X2, X2; \
	op      X11, X3, X3; \
	op      X11, X4, X4; \
	op      X11, X5, X5; \
	op      X11, X6, X6; \
	op      X11, X7, X7

#define ROUNDS8(op) \
	ROUND8(op, 16);  \
	ROUND8(op, 32);  \
	ROUND8(op, 48);  \
	ROUND8(op, 64);  \
	ROUND8(op, 80);  \
	ROUND8(op, 96);  \
	ROUND8(op, 112); \
	ROUND8(op, 128); \
	ROUND8(op, 144); \
	ROUND8(op, 160); \
	ROUND8(op, 176); \
	ROUND8(op, 192); \
	ROUND8(op, 208)

#define ROUNDS1(op) \
	op 16(AX), X0, X0;  \
	op 32(AX), X0, X0;  \
	op 48(AX), X0, X0;  \
	op 64(AX), X0, X0;  \
	op 80(AX), X0, X0;  \
	op 96(AX), X0, X0;  \
	op 112(AX), X0, X0; \
	op 128(AX), X0, X0; \
	op 144(AX), X0, X0; \
	op 160(AX), X0, X0; \
	op 176(AX), X0, X0; \
	op 192(AX), X0, X0; \
	op 208(AX), X0, X0

// STORE ends one block: its last round whitens it too.
#define STORE(op, at, x) \
	op      at(R10), x, x; \
	VMOVDQU x, at(DI)

#define STORE8(op) \
	STORE(op, 0, X0);  \
	STORE(op, 16, X1); \
	STORE(op, 32, X2); \
	STORE(op, 48, X3); \
	STORE(op, 64, X4); \
	STORE(op, 80, X5); \
	STORE(op, 96, X6); \
	STORE(op, 112, X7)

#define WIPE8 \
	VPXOR   X0, X0, X0;    \
	VMOVDQU X0, 0(R10);    \
	VMOVDQU X0, 16(R10);   \
	VMOVDQU X0, 32(R10);   \
	VMOVDQU X0, 48(R10);   \
	VMOVDQU X0, 64(R10);   \
	VMOVDQU X0, 80(R10);   \
	VMOVDQU X0, 96(R10);   \
	VMOVDQU X0, 112(R10)

// RUN is the whole of a direction.
#define RUN(round, last) \
	MOVQ    keys+0(FP), AX;    \
	MOVQ    dst+8(FP), DI;     \
	MOVQ    src+16(FP), SI;    \
	MOVQ    blocks+24(FP), CX; \
	MOVQ    tweak+32(FP), DX;  \
	LEAQ    15(SP), R10;       \
	ANDQ    $~15, R10;         \
	VMOVDQU alpha<>(SB), X14;  \
	VMOVDQU (DX), X15;         \
	VMOVDQU (AX), X12;         \
	VMOVDQU 224(AX), X10;      \
	SUBQ    $8, CX;            \
	JB      tail;              \
loop: \
	LOAD8;                     \
	ROUNDS8(round);            \
	STORE8(last);              \
	ADDQ    $128, SI;          \
	ADDQ    $128, DI;          \
	SUBQ    $8, CX;            \
	JAE     loop;              \
	WIPE8;                     \
tail: \
	ADDQ    $8, CX;            \
	JZ      done;              \
single: \
	VPXOR   X15, X12, X0;      \
	VPXOR   (SI), X0, X0;      \
	ROUNDS1(round);            \
	VPXOR   X15, X10, X9;      \
	last    X9, X0, X0;        \
	VMOVDQU X0, (DI);          \
	DOUBLE;                    \
	ADDQ    $16, SI;           \
	ADDQ    $16, DI;           \
	DECQ    CX;                \
	JNZ     single;            \
done: \
	VMOVDQU X15, (DX);         \
	RET

// UNITS is the whole of a direction over units of whole groups of eight, each with its own first
// tweak at DX. The next unit's first blocks are begun while the last ones of this one are still
// going through their rounds.
#define UNITS(round, last) \
	MOVQ    keys+0(FP), AX;    \
	MOVQ    dst+8(FP), DI;     \
	MOVQ    src+16(FP), SI;    \
	MOVQ    blocks+24(FP), R8; \
	MOVQ    units+32(FP), R9;  \
	MOVQ    tweaks+40(FP), DX; \
	LEAQ    15(SP), R10;       \
	ANDQ    $~15, R10;         \
	VMOVDQU alpha<>(SB), X14;  \
	VMOVDQU (AX), X12;         \
	VMOVDQU 224(AX), X10;      \
unit: \
	VMOVDQU (DX), X15;         \
	MOVQ    R8, CX;            \
group: \
	LOAD8;                     \
	ROUNDS8(round);            \
	STORE8(last);              \
	ADDQ    $128, SI;          \
	ADDQ    $128, DI;          \
	SUBQ    $8, CX;            \
	JNZ     group;             \
	ADDQ    $16, DX;           \
	DECQ    R9;                \
	JNZ     unit;              \
	WIPE8;                     \
	RET

// func encryptAESNI(keys *aes256.Schedule, dst, src *byte, blocks int, tweak *[BlockBytes]byte)
TEXT ·encryptAESNI(SB), NOSPLIT, $144-40
	RUN(VAESENC, VAESENCLAST)

// func decryptAESNI(keys *aes256.Schedule, dst, src *byte, blocks int, tweak *[BlockBytes]byte)
TEXT ·decryptAESNI(SB), NOSPLIT, $144-40
	RUN(VAESDEC, VAESDECLAST)

// func encryptUnitsAESNI(keys *aes256.Schedule, dst, src *byte, blocks, units int, tweaks *[tweakBatch][BlockBytes]byte)
TEXT ·encryptUnitsAESNI(SB), NOSPLIT, $144-48
	UNITS(VAESENC, VAESENCLAST)

// func decryptUnitsAESNI(keys *aes256.Schedule, dst, src *byte, blocks, units int, tweaks *[tweakBatch][BlockBytes]byte)
TEXT ·decryptUnitsAESNI(SB), NOSPLIT, $144-48
	UNITS(VAESDEC, VAESDECLAST)

#define KEYED(at, x) \
	VPXOR at(DX), X12, x

#define ENDED(at, x) \
	VAESENCLAST X10, x, x; \
	VMOVDQU     x, at(DX)

// func tweaksAESNI(keys *aes256.Schedule, tweaks *[tweakBatch][BlockBytes]byte)
TEXT ·tweaksAESNI(SB), NOSPLIT, $0-16
	MOVQ    keys+0(FP), AX
	MOVQ    tweaks+8(FP), DX
	VMOVDQU (AX), X12
	VMOVDQU 224(AX), X10
	KEYED(0, X0)
	KEYED(16, X1)
	KEYED(32, X2)
	KEYED(48, X3)
	KEYED(64, X4)
	KEYED(80, X5)
	KEYED(96, X6)
	KEYED(112, X7)
	ROUNDS8(VAESENC)
	ENDED(0, X0)
	ENDED(16, X1)
	ENDED(32, X2)
	ENDED(48, X3)
	ENDED(64, X4)
	ENDED(80, X5)
	ENDED(96, X6)
	ENDED(112, X7)
	RET

#define INVERT(from, to) \
	VAESIMC from(SI), X0; \
	VMOVDQU X0, to(DI)

// func invertAESNI(keys, inverse *aes256.Schedule)
TEXT ·invertAESNI(SB), NOSPLIT, $0-16
	MOVQ    keys+0(FP), SI
	MOVQ    inverse+8(FP), DI
	VMOVDQU 224(SI), X0
	VMOVDQU X0, (DI)
	INVERT(208, 16)
	INVERT(192, 32)
	INVERT(176, 48)
	INVERT(160, 64)
	INVERT(144, 80)
	INVERT(128, 96)
	INVERT(112, 112)
	INVERT(96, 128)
	INVERT(80, 144)
	INVERT(64, 160)
	INVERT(48, 176)
	INVERT(32, 192)
	INVERT(16, 208)
	VMOVDQU (SI), X0
	VMOVDQU X0, 224(DI)
	RET
