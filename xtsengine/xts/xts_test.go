package xts

import (
	"bytes"
	"math/rand/v2"
	"testing"

	reference "golang.org/x/crypto/xts"

	"crypto/aes"
)

func testKey(r *rand.Rand) []byte {
	k := make([]byte, KeyBytes)
	for i := range k {
		k[i] = byte(r.Uint32())
	}
	return k
}

func TestAgainstReference(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	key := testKey(r)
	ref, err := reference.NewCipher(aes.NewCipher, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(key)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, unitBytes := range []int{512, 4096, 65536} {
		src := make([]byte, 5*unitBytes)
		for i := range src {
			src[i] = byte(r.Uint32())
		}
		want := make([]byte, len(src))
		for i := range 5 {
			ref.Encrypt(want[i*unitBytes:][:unitBytes], src[i*unitBytes:][:unitBytes], uint64(7+i))
		}
		got := make([]byte, len(src))
		c.Encrypt(got, src, unitBytes, UnitOf(7))
		if !bytes.Equal(got, want) {
			t.Fatalf("unit of %d bytes: ciphertext differs from the reference", unitBytes)
		}
		c.Decrypt(got, got, unitBytes, UnitOf(7))
		if !bytes.Equal(got, src) {
			t.Fatalf("unit of %d bytes: decrypted in place differs", unitBytes)
		}
	}
}
