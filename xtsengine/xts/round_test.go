package xts

import (
	"crypto/aes"
	"math/bits"
	"math/rand/v2"
	"testing"

	"github.com/nfseal/nfseal/internal/aes256"
)

// The rounds of AES by the letter of FIPS 197 §5.1 and §5.3, without the round key, for what stands
// in for instructions.

var substitutes, inverseSubstitutes = substitutionBoxes()

// substitutionBoxes computes the S-box (FIPS 197 §5.1.1) and its inverse.
func substitutionBoxes() (box, inverse [256]byte) {
	for x := range 256 {
		y := byte(0)
		for c := 1; c < 256 && y == 0; c++ {
			if multiply(byte(x), byte(c)) == 1 {
				y = byte(c)
			}
		}
		s := y ^ bits.RotateLeft8(y, 1) ^ bits.RotateLeft8(y, 2) ^ bits.RotateLeft8(y, 3) ^ bits.RotateLeft8(y, 4) ^ 0x63
		box[x], inverse[s] = s, byte(x)
	}
	return box, inverse
}

// multiply is the product in GF(2^8) (FIPS 197 §4.2).
func multiply(a, b byte) (product byte) {
	for ; b > 0; b >>= 1 {
		product ^= a * (b & 1)
		a = a<<1 ^ a>>7*0x1b
	}
	return product
}

func encryptRound(b *[BlockBytes]byte, last bool) {
	from := *b
	for i := range b {
		b[i] = substitutes[from[(i+i%4*4)%16]]
	}
	if !last {
		mixColumns(b, [4]byte{2, 3, 1, 1})
	}
}

func decryptRound(b *[BlockBytes]byte, last bool) {
	from := *b
	for i := range b {
		b[(i+i%4*4)%16] = inverseSubstitutes[from[i]]
	}
	if !last {
		mixColumns(b, [4]byte{14, 11, 13, 9})
	}
}

func mixColumns(b *[BlockBytes]byte, factors [4]byte) {
	from := *b
	for i := range b {
		b[i] = 0
		for k, f := range factors {
			b[i] ^= multiply(from[i&^3+(i+k)%4], f)
		}
	}
}

// TestRounds holds the rounds against crypto/aes.
func TestRounds(t *testing.T) {
	r := rand.New(rand.NewPCG(25, 26))
	c := mustOpen(t, testKey(r), bestPath())
	if c.path == pathGeneric {
		t.Skip("runs on a processor with AES instructions, whose schedules it uses")
	}
	reference, err := aes.NewCipher(c.enc[:32])
	if err != nil {
		t.Fatal(err)
	}
	var plain, want, got [BlockBytes]byte
	copy(plain[:], randomBytes(r, BlockBytes))
	reference.Encrypt(want[:], plain[:])
	if got = allRounds(plain, &c.enc, encryptRound); got != want {
		t.Fatalf("encrypted to %x, want %x", got, want)
	}
	if got = allRounds(want, &c.dec, decryptRound); got != plain {
		t.Fatalf("decrypted to %x, want %x", got, plain)
	}
}

func allRounds(b [BlockBytes]byte, keys *aes256.Schedule, round func(*[BlockBytes]byte, bool)) [BlockBytes]byte {
	for n := range aes256.ScheduleBytes / BlockBytes {
		if n > 0 {
			round(&b, n == aes256.ScheduleBytes/BlockBytes-1)
		}
		for i := range b {
			b[i] ^= keys[n*BlockBytes+i]
		}
	}
	return b
}
