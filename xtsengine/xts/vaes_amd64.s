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
// that a group may span units.
//
// Y0…Y11 blocks, Y12, Y13 and Y14 the round keys 1, 0 and 14, Y15 another round key or a tweak. AX
// schedule, DI destination, SI source, R15 groups left. R8 and R9 the tweak that comes next, R13 63,
// CX scratch, BX octets of blocks left of the unit, DX where the first tweaks of the units behind it
// are. On the stack, 24 tweaks each: at R10 the older group's, at R11 the younger one's, at R12
// those that are being made.

// DOUBLE stores a tweak and makes the next one of it: what leaves the upper end comes back as
// α^7 + α^2 + α + 1.
#define DOUBLE(at) \
	MOVQ  R8, at(R12);     \
	MOVQ  R9, (at+8)(R12); \
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

// BEGIN whitens a register of the younger group.
#define BEGIN(at, y) \
	VPXOR at(R11), Y13, y; \
	VPXOR at(SI), y, y

// END does the last round of a register of the older group, which whitens too.
#define END(last, at, y) \
	VPXOR   at(R10), Y14, Y15; \
	last    Y15, y, y;         \
	VMOVDQU y, at(DI)

// CHANGE ends a register of the older group and begins it in the younger one.
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

// TURN makes the younger group the older one and the tweaks that were made the younger one's.
#define TURN \
	MOVQ R10, CX;  \
	MOVQ R11, R10; \
	MOVQ R12, R11; \
	MOVQ CX, R12

// TAILROUND is a round of four registers.
#define TAILROUND(op, at) \
	VBROADCASTI128 at(AX), Y15; \
	ROUND4(op, Y15, Y0, Y1, Y2, Y3)

// WIPE clears 256 bytes of tweaks.
#define WIPE(at) \
	VMOVDQU Y0, (at+0)(R10);   \
	VMOVDQU Y0, (at+32)(R10);  \
	VMOVDQU Y0, (at+64)(R10);  \
	VMOVDQU Y0, (at+96)(R10);  \
	VMOVDQU Y0, (at+128)(R10); \
	VMOVDQU Y0, (at+160)(R10); \
	VMOVDQU Y0, (at+192)(R10); \
	VMOVDQU Y0, (at+224)(R10)

// RUN is the whole of a direction.
#define RUN(op, last) \
	MOVQ           keys+0(FP), AX;       \
	MOVQ           dst+8(FP), DI;        \
	MOVQ           src+16(FP), SI;       \
	MOVQ           groups+24(FP), R15;   \
	MOVQ           perUnit+40(FP), BX;   \
	MOVQ           tweaks+48(FP), DX;    \
	MOVQ           (DX), R8;             \
	MOVQ           8(DX), R9;            \
	ADDQ           $16, DX;              \
	MOVQ           $63, R13;             \
	LEAQ           31(SP), R10;          \
	ANDQ           $~31, R10;            \
	LEAQ           384(R10), R11;        \
	LEAQ           768(R10), R12;        \
	MAKE8(0, unit1, back1);              \
	MAKE8(128, unit2, back2);            \
	MAKE8(256, unit3, back3);            \
	TURN;                                \
	VBROADCASTI128 (AX), Y13;            \
	VBROADCASTI128 16(AX), Y12;          \
	VBROADCASTI128 224(AX), Y14;         \
	TESTQ          R15, R15;             \
	JEQ            tail;                 \
	BEGIN(0, Y0);                        \
	BEGIN(32, Y1);                       \
	BEGIN(64, Y2);                       \
	BEGIN(96, Y3);                       \
	BEGIN(128, Y4);                      \
	BEGIN(160, Y5);                      \
	BEGIN(192, Y6);                      \
	BEGIN(224, Y7);                      \
	BEGIN(256, Y8);                      \
	BEGIN(288, Y9);                      \
	BEGIN(320, Y10);                     \
	BEGIN(352, Y11);                     \
	ROUND(op, 16);                       \
	JMP            middle;               \
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
	ROUNDS8(op, 32, 0, unit4, back4);    \
	ROUNDS8(op, 80, 128, unit5, back5);  \
	ROUNDS8(op, 128, 256, unit6, back6); \
	ROUND(op, 176);                      \
	ROUND(op, 192);                      \
	ROUND(op, 208);                      \
	TURN;                                \
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
	MOVQ           rest+32(FP), R15;     \
	TESTQ          R15, R15;             \
	JEQ            done;                 \
octet: \
	BEGIN(0, Y0);                        \
	BEGIN(32, Y1);                       \
	BEGIN(64, Y2);                       \
	BEGIN(96, Y3);                       \
	TAILROUND(op, 16);                   \
	TAILROUND(op, 32);                   \
	TAILROUND(op, 48);                   \
	TAILROUND(op, 64);                   \
	TAILROUND(op, 80);                   \
	TAILROUND(op, 96);                   \
	TAILROUND(op, 112);                  \
	TAILROUND(op, 128);                  \
	TAILROUND(op, 144);                  \
	TAILROUND(op, 160);                  \
	TAILROUND(op, 176);                  \
	TAILROUND(op, 192);                  \
	TAILROUND(op, 208);                  \
	MOVQ           R11, R10;             \
	END(last, 0, Y0);                    \
	END(last, 32, Y1);                   \
	END(last, 64, Y2);                   \
	END(last, 96, Y3);                   \
	ADDQ           $128, SI;             \
	ADDQ           $128, DI;             \
	ADDQ           $128, R11;            \
	DECQ           R15;                  \
	JNE            octet;                \
done: \
	MOVQ           tweaks+48(FP), DX;    \
	MOVQ           (R11), R8;            \
	MOVQ           8(R11), R9;           \
	MOVQ           R8, (DX);             \
	MOVQ           R9, 8(DX);            \
	XORL           R8, R8;               \
	XORL           R9, R9;               \
	LEAQ           31(SP), R10;          \
	ANDQ           $~31, R10;            \
	VPXOR          X0, X0, X0;           \
	WIPE(0);                             \
	WIPE(256);                           \
	WIPE(512);                           \
	WIPE(768);                           \
	VMOVDQU        Y0, 1024(R10);        \
	VMOVDQU        Y0, 1056(R10);        \
	VMOVDQU        Y0, 1088(R10);        \
	VMOVDQU        Y0, 1120(R10);        \
	VPXOR          X12, X12, X12;        \
	VPXOR          X13, X13, X13;        \
	VPXOR          X14, X14, X14;        \
	VPXOR          X15, X15, X15;        \
	VZEROUPPER;                          \
	RET;                                 \
	NEXT(unit1, back1);                  \
	NEXT(unit2, back2);                  \
	NEXT(unit3, back3);                  \
	NEXT(unit4, back4);                  \
	NEXT(unit5, back5);                  \
	NEXT(unit6, back6)

// func encryptVAES(keys *[scheduleBytes]byte, dst, src *byte, groups, rest, perUnit int, tweaks *[BlockBytes]byte)
TEXT ·encryptVAES(SB), 0, $1184-56
	RUN(VAESENC, VAESENCLAST)

// func decryptVAES(keys *[scheduleBytes]byte, dst, src *byte, groups, rest, perUnit int, tweaks *[BlockBytes]byte)
TEXT ·decryptVAES(SB), 0, $1184-56
	RUN(VAESDEC, VAESDECLAST)

// NUMBERS puts a pair of unit numbers into a register.
#define NUMBERS(at, y) \
	VPXOR at(DX), Y12, y

// TWEAKS ends a pair of first tweaks.
#define TWEAKS(at, y) \
	VAESENCLAST Y14, y, y; \
	VMOVDQU     y, at(DX)

#define TWEAKROUND(at) \
	VBROADCASTI128 at(AX), Y15;           \
	ROUND4(VAESENC, Y15, Y0, Y1, Y2, Y3); \
	ROUND4(VAESENC, Y15, Y4, Y5, Y6, Y7)

// func tweaksVAES(keys *[scheduleBytes]byte, tweaks *[BlockBytes]byte, batches int)
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
	TWEAKROUND(16)
	TWEAKROUND(32)
	TWEAKROUND(48)
	TWEAKROUND(64)
	TWEAKROUND(80)
	TWEAKROUND(96)
	TWEAKROUND(112)
	TWEAKROUND(128)
	TWEAKROUND(144)
	TWEAKROUND(160)
	TWEAKROUND(176)
	TWEAKROUND(192)
	TWEAKROUND(208)
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
	VPXOR          X12, X12, X12
	VPXOR          X14, X14, X14
	VPXOR          X15, X15, X15
	VZEROUPPER
	RET

// func cpuidLeaf7() (ecx uint32)
TEXT ·cpuidLeaf7(SB), NOSPLIT, $0-4
	MOVL $7, AX
	XORL CX, CX
	CPUID
	MOVL CX, ecx+0(FP)
	RET
