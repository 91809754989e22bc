//go:build !purego

package aes256

import (
	"crypto/aes"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
)

// need skips where the processor lacks the instructions.
func need(t *testing.T) {
	t.Helper()
	if !Available() {
		t.Skip("runs on a processor with AES and AVX")
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestExpand has the words of FIPS 197, Appendix A.3.
func TestExpand(t *testing.T) {
	need(t)
	const words = "603deb10 15ca71be 2b73aef0 857d7781 1f352c07 3b6108d7 2d9810a3 0914dff4 " +
		"9ba35411 8e6925af a51a8b5f 2067fcde a8b09c1a 93d194cd be49846e b75d5b9a " +
		"d59aecb8 5bf3c917 fee94248 de8ebe96 b5a9328a 2678a647 98312229 2f6c79b3 " +
		"812c81ad dadf48ba 24360af2 fab8b464 98c5bfc9 bebd198e 268c3ba7 09e04214 " +
		"68007bac b2df3316 96e939e4 6c518d80 c814e204 76a9fb8a 5025c02d 59c58239 " +
		"de136967 6ccc5a71 fa256395 9674ee15 5886ca5d 2e2f31d7 7e0af1fa 27cf73c3 " +
		"749c47ab 18501dda e2757e4f 7401905a cafaaae3 e4d59b34 9adf6ace bd10190d " +
		"fe4890d1 e6188d0b 046df344 706c631e"
	want := Schedule(unhex(t, words))
	var got Schedule
	Expand((*[KeyBytes]byte)(want[:]), &got)
	if got != want {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

// TestEncrypt has the vectors of FIPS 197, Appendix C.3, and of NIST SP 800-38A, F.1.5.
func TestEncrypt(t *testing.T) {
	need(t)
	const bookKey = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"
	for _, v := range []struct{ key, plain, sealed string }{
		{"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "00112233445566778899aabbccddeeff", "8ea2b7ca516745bfeafc49904b496089"},
		{bookKey, "6bc1bee22e409f96e93d7e117393172a", "f3eed1bdb5d2a03c064b5a7e3db181f8"},
		{bookKey, "ae2d8a571e03ac9c9eb76fac45af8e51", "591ccb10d410ed26dc5ba74a31362870"},
		{bookKey, "30c81c46a35ce411e5fbc1191a0a52ef", "b6ed21b99ca6f4f9f153e7b1beafed1d"},
		{bookKey, "f69f2445df4f9b17ad2b417be66c3710", "23304b7a39f9f3ff067d8d8f9e24ecc7"},
	} {
		var keys Schedule
		Expand((*[KeyBytes]byte)(unhex(t, v.key)), &keys)
		var got [BlockBytes]byte
		Encrypt(&keys, &got, (*[BlockBytes]byte)(unhex(t, v.plain)))
		if hex.EncodeToString(got[:]) != v.sealed {
			t.Errorf("%s under %s is %x, want %s", v.plain, v.key, got, v.sealed)
		}
	}
}

// TestAgainstStandard compares keys and blocks of all kinds with crypto/aes, in place and apart.
func TestAgainstStandard(t *testing.T) {
	need(t)
	random := rand.NewChaCha8([32]byte{1})
	for range 2000 {
		var key [KeyBytes]byte
		var block, want, got [BlockBytes]byte
		random.Read(key[:])
		random.Read(block[:])
		standard, err := aes.NewCipher(key[:])
		if err != nil {
			t.Fatal(err)
		}
		standard.Encrypt(want[:], block[:])
		var keys Schedule
		Expand(&key, &keys)
		before := block
		Encrypt(&keys, &got, &block)
		if got != want || block != before {
			t.Fatalf("%x under %x is %x, want %x", before, key, got, want)
		}
		if Encrypt(&keys, &block, &block); block != want {
			t.Fatalf("%x under %x in place is %x, want %x", before, key, block, want)
		}
	}
}
