//go:build !purego

#include "textflag.h"

// Runs of whole data units, twenty-four blocks at a time in twelve ymm registers. Twelve is what it
// takes where two AES rounds begin in every cycle and each lasts four: with eight, every slot that
// something else takes from the AES units would be lost. For the same reason a group begins register
// by register as the one before it ends.
//
// The tweaks come from the integer units, which have nothing else to do: doubled one after the other
// and stored, for the group that comes next, beside the AES rounds. The vector units see three
// additions a register and no shift. Where a unit ends, the next unit's first tweak takes over, so
// that a group may span units. Only the first sixteen tweaks of a run are shifted in vector registers,
// since a chain of doublings would have the AES units wait.
//
// Y0…Y11 blocks, Y12, Y13 and Y14 the round keys 1, 0 and 14, Y15 another round key or a tweak. AX
// schedule, DI destination, SI source, R15 groups left. R8 and R9 the tweak that comes next, R13 63,
// CX and R12 scratch, BX octets of blocks left of the unit, DX where the first tweaks of the units behind it
// are. On the stack, 24 tweaks each: at R10 those of the group under way, at R11 those that are made
// for the next one.

// DOUBLE stores a tweak and makes the next one of it: what leaves the upper end comes back as
// α^7 + α^2 + α + 1.
#define DOUBLE(at) \
	MOVQ  R8, at(R11);     \
	MOVQ  R9, (at+8)(R11); \
	SARXQ R13, R9, CX;     \
	ANDL  $0x87, CX;       \
	ADDQ  R8, R8;          \
	ADCQ  R9, R9;          \
	XORQ  CX, R8

// OCTET counts eight tweaks. After a unit's last it goes to unit, where NEXT has the next unit's first
// tweak and comes back.
#define OCTET(unit, back) \
	DECQ BX;   \
	JEQ  unit; \
back:

#define NEXT(unit, back) \
unit: \
	MOVQ (DX), R8;            \
	MOVQ 8(DX), R9;           \
	ADDQ $16, DX;             \
	MOVQ perUnit+40(FP), BX;  \
	JMP  back

// MAKE8 makes eight tweaks, beside nothing.
#define MAKE8(at, unit, back) \
	DOUBLE(at);      \
	DOUBLE(at+16);   \
	DOUBLE(at+32);   \
	DOUBLE(at+48);   \
	DOUBLE(at+64);   \
	DOUBLE(at+80);   \
	DOUBLE(at+96);   \
	DOUBLE(at+112);  \
	OCTET(unit, back)

// REDUCE multiplies t, the bits that left the upper half, by α^7 + α^2 + α + 1 and adds them to y. It
// spoils t and u.
#define REDUCE(t, u, y) \
	VPXOR  t, y, y;  \
	VPADDQ t, t, u;  \
	VPXOR  u, y, y;  \
	VPSLLQ $2, t, u; \
	VPXOR  u, y, y;  \
	VPSLLQ $7, t, u; \
	VPXOR  u, y, y

// POWER sets y to x·α^k in both lanes; rest is 64 − k. It spoils t and u.
#define POWER(k, rest, x, y, t, u) \
	VPSRLQ  $rest, x, t; \
	VPSLLQ  $k, x, y;    \
	VPSLLDQ $8, t, u;    \
	VPXOR   u, y, y;     \
	VPSRLDQ $8, t, t;    \
	REDUCE(t, u, y)

// START makes sixteen tweaks of the one in X0, which is in R8 and R9 too, in the registers of the first
// sixteen blocks and on the stack. They do not wait for each other as doublings do. It leaves the
// seventeenth in R8 and R9.
#define START(unit, back) \
	VPSRLQ      $63, X0, X8;          \
	VPADDQ      X0, X0, X1;           \
	VPSLLDQ     $8, X8, X9;           \
	VPXOR       X9, X1, X1;           \
	VPSRLDQ     $8, X8, X8;           \
	REDUCE(X8, X9, X1);               \
	VINSERTI128 $1, X1, Y0, Y0;       \
	VMOVDQU     Y0, (R11);            \
	POWER(2, 62, Y0, Y1, Y8, Y9);     \
	VMOVDQU     Y1, 32(R11);          \
	POWER(4, 60, Y0, Y2, Y8, Y9);     \
	VMOVDQU     Y2, 64(R11);          \
	POWER(6, 58, Y0, Y3, Y8, Y9);     \
	VMOVDQU     Y3, 96(R11);          \
	POWER(8, 56, Y0, Y4, Y8, Y9);     \
	VMOVDQU     Y4, 128(R11);         \
	POWER(10, 54, Y0, Y5, Y8, Y9);    \
	VMOVDQU     Y5, 160(R11);         \
	POWER(12, 52, Y0, Y6, Y8, Y9);    \
	VMOVDQU     Y6, 192(R11);         \
	POWER(14, 50, Y0, Y7, Y8, Y9);    \
	VMOVDQU     Y7, 224(R11);         \
	MOVQ        R9, CX;               \
	SHRQ        $48, CX;              \
	SHLQ        $16, R9;              \
	MOVQ        R8, R12;              \
	SHRQ        $48, R12;             \
	ORQ         R12, R9;              \
	SHLQ        $16, R8;              \
	XORQ        CX, R8;               \
	ADDQ        CX, CX;               \
	XORQ        CX, R8;               \
	ADDQ        CX, CX;               \
	XORQ        CX, R8;               \
	SHLQ        $5, CX;               \
	XORQ        CX, R8;               \
	SUBQ        $2, BX;               \
	JEQ         unit;                 \
back:

// WHITEN begins a register of blocks whose tweaks are in it.
#define WHITEN(at, y) \
	VPXOR Y13, y, y; \
	VPXOR at(SI), y, y

// BEGIN whitens a register of the next group.
#define BEGIN(at, y) \
	VPXOR at(R11), Y13, y; \
	VPXOR at(SI), y, y

// END does the last round of a register, which whitens too.
#define END(last, at, y) \
	VPXOR   at(R10), Y14, Y15; \
	last    Y15, y, y;         \
	VMOVDQU y, at(DI)

// CHANGE ends a register of one group and begins it in the next.
#define CHANGE(last, at, y) \
	END(last, at, y); \
	BEGIN(at, y)

#define ROUND4(op, key, a, b, c, d) \
	op key, a, a; \
	op key, b, b; \
	op key, c, c; \
	op key, d, d

// ROUND is a round of a group.
#define ROUND(op, at) \
	VBROADCASTI128 at(AX), Y15;           \
	ROUND4(op, Y15, Y0, Y1, Y2, Y3);      \
	ROUND4(op, Y15, Y4, Y5, Y6, Y7);      \
	ROUND4(op, Y15, Y8, Y9, Y10, Y11)

// ROUNDS8 is three rounds of a group with eight tweaks made beside them.
#define ROUNDS8(op, at, t, unit, back) \
	VBROADCASTI128 at(AX), Y15;           \
	ROUND4(op, Y15, Y0, Y1, Y2, Y3);      \
	DOUBLE(t);                            \
	ROUND4(op, Y15, Y4, Y5, Y6, Y7);      \
	DOUBLE(t+16);                         \
	ROUND4(op, Y15, Y8, Y9, Y10, Y11);    \
	DOUBLE(t+32);                         \
	VBROADCASTI128 (at+16)(AX), Y15;      \
	ROUND4(op, Y15, Y0, Y1, Y2, Y3);      \
	DOUBLE(t+48);                         \
	ROUND4(op, Y15, Y4, Y5, Y6, Y7);      \
	DOUBLE(t+64);                         \
	ROUND4(op, Y15, Y8, Y9, Y10, Y11);    \
	DOUBLE(t+80);                         \
	VBROADCASTI128 (at+32)(AX), Y15;      \
	ROUND4(op, Y15, Y0, Y1, Y2, Y3);      \
	DOUBLE(t+96);                         \
	ROUND4(op, Y15, Y4, Y5, Y6, Y7);      \
	DOUBLE(t+112);                        \
	ROUND4(op, Y15, Y8, Y9, Y10, Y11);    \
	OCTET(unit, back)

// FOUR and EIGHT are a round of four and of eight registers.
#define FOUR(op, at) \
	VBROADCASTI128 at(AX), Y15; \
	ROUND4(op, Y15, Y0, Y1, Y2, Y3)

#define EIGHT(op, at) \
	FOUR(op, at); \
	ROUND4(op, Y15, Y4, Y5, Y6, Y7)

// MOST is all rounds but the last.
#define MOST(round, op) \
	round(op, 16);  \
	round(op, 32);  \
	round(op, 48);  \
	round(op, 64);  \
	round(op, 80);  \
	round(op, 96);  \
	round(op, 112); \
	round(op, 128); \
	round(op, 144); \
	round(op, 160); \
	round(op, 176); \
	round(op, 192); \
	round(op, 208)

// CLEAR clears the vector registers, of which VZEROUPPER does only half: keys, tweaks and blocks.
#define CLEAR \
	VPXOR X0, X0, X0;    \
	VPXOR X1, X1, X1;    \
	VPXOR X2, X2, X2;    \
	VPXOR X3, X3, X3;    \
	VPXOR X4, X4, X4;    \
	VPXOR X5, X5, X5;    \
	VPXOR X6, X6, X6;    \
	VPXOR X7, X7, X7;    \
	VPXOR X8, X8, X8;    \
	VPXOR X9, X9, X9;    \
	VPXOR X10, X10, X10; \
	VPXOR X11, X11, X11; \
	VPXOR X12, X12, X12; \
	VPXOR X13, X13, X13; \
	VPXOR X14, X14, X14; \
	VPXOR X15, X15, X15; \
	VZEROUPPER

// WIPE clears 256 bytes of tweaks with Y0, which is 0.
#define WIPE(at) \
	VMOVDQU Y0, (at+0)(R10);   \
	VMOVDQU Y0, (at+32)(R10);  \
	VMOVDQU Y0, (at+64)(R10);  \
	VMOVDQU Y0, (at+96)(R10);  \
	VMOVDQU Y0, (at+128)(R10); \
	VMOVDQU Y0, (at+160)(R10); \
	VMOVDQU Y0, (at+192)(R10); \
	VMOVDQU Y0, (at+224)(R10)

// NUMBERROUND is a round of a unit number.
#define NUMBERROUND(op, at) \
	op at(CX), X0, X0

// NUMBER encrypts the unit number at DX with the schedule at CX. Its halves come separately: a load of
// both would wait until their stores have left the processor's store queue.
#define NUMBER \
	VMOVQ       (DX), X0;          \
	VPINSRQ     $1, 8(DX), X0, X0; \
	VPXOR       (CX), X0, X0;      \
	MOST(NUMBERROUND, VAESENC);    \
	VAESENCLAST 224(CX), X0, X0;   \
	VMOVQ       X0, R8;            \
	VPEXTRQ     $1, X0, R9

// RUN is the whole of a direction.
#define RUN(op, last) \
	MOVQ           keys+0(FP), AX;       \
	MOVQ           dst+8(FP), DI;        \
	MOVQ           src+16(FP), SI;       \
	MOVQ           groups+24(FP), R15;   \
	MOVQ           perUnit+40(FP), BX;   \
	MOVQ           tweaks+48(FP), DX;    \
	MOVQ           $63, R13;             \
	LEAQ           63(SP), R10;          \
	ANDQ           $~63, R10;            \
	LEAQ           384(R10), R11;        \
	VBROADCASTI128 (AX), Y13;            \
	VBROADCASTI128 16(AX), Y12;          \
	VBROADCASTI128 224(AX), Y14;         \
	MOVQ           tweak+56(FP), CX;     \
	TESTQ          CX, CX;               \
	JEQ            given;                \
	NUMBER;                              \
	JMP            first;                \
given: \
	VMOVDQU        (DX), X0;             \
	MOVQ           (DX), R8;             \
	MOVQ           8(DX), R9;            \
first: \
	ADDQ           $16, DX;              \
	START(unit1, back1);                 \
	TESTQ          R15, R15;             \
	JEQ            short;                \
	WHITEN(0, Y0);                       \
	WHITEN(32, Y1);                      \
	WHITEN(64, Y2);                      \
	WHITEN(96, Y3);                      \
	WHITEN(128, Y4);                     \
	WHITEN(160, Y5);                     \
	WHITEN(192, Y6);                     \
	WHITEN(224, Y7);                     \
	ROUND4(op, Y12, Y0, Y1, Y2, Y3);     \
	ROUND4(op, Y12, Y4, Y5, Y6, Y7);     \
	MAKE8(256, unit3, back3);            \
	BEGIN(256, Y8);                      \
	BEGIN(288, Y9);                      \
	BEGIN(320, Y10);                     \
	BEGIN(352, Y11);                     \
	ROUND4(op, Y12, Y8, Y9, Y10, Y11);   \
	JMP            middle;               \
short: \
	MAKE8(256, unit2, back2);            \
	JMP            tail;                 \
group: \
	CHANGE(last, 0, Y0);                 \
	CHANGE(last, 32, Y1);                \
	CHANGE(last, 64, Y2);                \
	CHANGE(last, 96, Y3);                \
	op             Y12, Y0, Y0;          \
	CHANGE(last, 128, Y4);               \
	op             Y12, Y1, Y1;          \
	CHANGE(last, 160, Y5);               \
	op             Y12, Y2, Y2;          \
	CHANGE(last, 192, Y6);               \
	op             Y12, Y3, Y3;          \
	CHANGE(last, 224, Y7);               \
	op             Y12, Y4, Y4;          \
	CHANGE(last, 256, Y8);               \
	op             Y12, Y5, Y5;          \
	CHANGE(last, 288, Y9);               \
	op             Y12, Y6, Y6;          \
	CHANGE(last, 320, Y10);              \
	op             Y12, Y7, Y7;          \
	CHANGE(last, 352, Y11);              \
	ROUND4(op, Y12, Y8, Y9, Y10, Y11);   \
	ADDQ           $384, DI;             \
middle: \
	ADDQ           $384, SI;             \
	XCHGQ          R10, R11;             \
	ROUNDS8(op, 32, 0, unit4, back4);    \
	ROUNDS8(op, 80, 128, unit5, back5);  \
	ROUNDS8(op, 128, 256, unit6, back6); \
	ROUND(op, 176);                      \
	ROUND(op, 192);                      \
	ROUND(op, 208);                      \
	DECQ           R15;                  \
	JNE            group;                \
	END(last, 0, Y0);                    \
	END(last, 32, Y1);                   \
	END(last, 64, Y2);                   \
	END(last, 96, Y3);                   \
	END(last, 128, Y4);                  \
	END(last, 160, Y5);                  \
	END(last, 192, Y6);                  \
	END(last, 224, Y7);                  \
	END(last, 256, Y8);                  \
	END(last, 288, Y9);                  \
	END(last, 320, Y10);                 \
	END(last, 352, Y11);                 \
	ADDQ           $384, DI;             \
tail: \
	CMPQ           rest+32(FP), $1;      \
	JLT            done;                 \
	BEGIN(0, Y0);                        \
	BEGIN(32, Y1);                       \
	BEGIN(64, Y2);                       \
	BEGIN(96, Y3);                       \
	JEQ            four;                 \
	BEGIN(128, Y4);                      \
	BEGIN(160, Y5);                      \
	BEGIN(192, Y6);                      \
	BEGIN(224, Y7);                      \
	MOST(EIGHT, op);                     \
	MOVQ           R11, R10;             \
	END(last, 0, Y0);                    \
	END(last, 32, Y1);                   \
	END(last, 64, Y2);                   \
	END(last, 96, Y3);                   \
	END(last, 128, Y4);                  \
	END(last, 160, Y5);                  \
	END(last, 192, Y6);                  \
	END(last, 224, Y7);                  \
	ADDQ           $256, R11;            \
	JMP            done;                 \
four: \
	MOST(FOUR, op);                      \
	MOVQ           R11, R10;             \
	END(last, 0, Y0);                    \
	END(last, 32, Y1);                   \
	END(last, 64, Y2);                   \
	END(last, 96, Y3);                   \
	ADDQ           $128, R11;            \
done: \
	MOVQ           tweaks+48(FP), DX;    \
	MOVQ           (R11), R8;            \
	MOVQ           8(R11), R9;           \
	MOVQ           R8, (DX);             \
	MOVQ           R9, 8(DX);            \
	XORL           R8, R8;               \
	XORL           R9, R9;               \
	XORL           R12, R12;             \
	XORL           CX, CX;               \
	LEAQ           63(SP), R10;          \
	ANDQ           $~63, R10;            \
	CLEAR;                               \
	WIPE(0);                             \
	WIPE(256);                           \
	WIPE(512);                           \
	RET;                                 \
	NEXT(unit1, back1);                  \
	NEXT(unit2, back2);                  \
	NEXT(unit3, back3);                  \
	NEXT(unit4, back4);                  \
	NEXT(unit5, back5);                  \
	NEXT(unit6, back6)

// func encryptVAES(keys *aes256.Schedule, dst, src *byte, groups, rest, perUnit int, tweaks *[BlockBytes]byte, tweak *aes256.Schedule)
TEXT ·encryptVAES(SB), 0, $832-64
	RUN(VAESENC, VAESENCLAST)

// func decryptVAES(keys *aes256.Schedule, dst, src *byte, groups, rest, perUnit int, tweaks *[BlockBytes]byte, tweak *aes256.Schedule)
TEXT ·decryptVAES(SB), 0, $832-64
	RUN(VAESDEC, VAESDECLAST)

// NUMBERS puts a pair of unit numbers into a register.
#define NUMBERS(at, y) \
	VPXOR at(DX), Y12, y

// TWEAKS ends a pair of first tweaks.
#define TWEAKS(at, y) \
	VAESENCLAST Y14, y, y; \
	VMOVDQU     y, at(DX)

// func tweaksVAES(keys *aes256.Schedule, tweaks *[BlockBytes]byte, batches int)
TEXT ·tweaksVAES(SB), NOSPLIT, $0-24
	MOVQ           keys+0(FP), AX
	MOVQ           tweaks+8(FP), DX
	MOVQ           batches+16(FP), CX
	VBROADCASTI128 (AX), Y12
	VBROADCASTI128 224(AX), Y14

batch:
	NUMBERS(0, Y0)
	NUMBERS(32, Y1)
	NUMBERS(64, Y2)
	NUMBERS(96, Y3)
	NUMBERS(128, Y4)
	NUMBERS(160, Y5)
	NUMBERS(192, Y6)
	NUMBERS(224, Y7)
	MOST(EIGHT, VAESENC)
	TWEAKS(0, Y0)
	TWEAKS(32, Y1)
	TWEAKS(64, Y2)
	TWEAKS(96, Y3)
	TWEAKS(128, Y4)
	TWEAKS(160, Y5)
	TWEAKS(192, Y6)
	TWEAKS(224, Y7)
	ADDQ           $256, DX
	DECQ           CX
	JNE            batch
	CLEAR
	RET

// func fetch(p *byte, bytes int)
TEXT ·fetch(SB), NOSPLIT, $0-16
	MOVQ p+0(FP), SI
	MOVQ bytes+8(FP), CX
	ADDQ SI, CX

line:
	PREFETCHT0 (SI)
	ADDQ $64, SI
	CMPQ SI, CX
	JB   line
	RET
