package mac

import (
	"crypto/aes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"testing"
)

// modelTag is doc.go's construction word for word, in numbers of any size.
func modelTag(t testing.TB, key, block []byte, number, generation uint64) []byte {
	t.Helper()
	derived, err := hkdf.Expand(sha256.New, key, "nfseal block tag 1", 4144+67*16+32)
	if err != nil {
		t.Fatal(err)
	}
	nhKey, factors, aesKey := derived[:4144], derived[4144:4144+67*16], derived[4144+67*16:]
	w := []*big.Int{word(number), word(generation), word(uint64(len(block)))}
	for len(block) > 0 {
		n := min(4096, len(block))
		w = append(w, modelNH(nhKey, block[:n])...)
		block = block[n:]
	}
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 127), big.NewInt(1))
	h := new(big.Int)
	for i, x := range w {
		k := littleEndian(factors[16*i:][:16])
		h.Add(h, k.SetBit(k, 127, 0).Mul(k, x))
	}
	h.Mod(h, p)
	c, err := aes.NewCipher(aesKey)
	if err != nil {
		t.Fatal(err)
	}
	tag := h.FillBytes(make([]byte, 16))
	reverse(tag)
	c.Encrypt(tag, tag)
	return tag
}

func modelNH(key, piece []byte) (w []*big.Int) {
	at := func(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	for pass := range 4 {
		s := new(big.Int)
		for i := 0; i < len(piece)/4; i += 2 {
			a := word(uint64(at(piece, i) + at(key, i+4*pass)))
			b := word(uint64(at(piece, i+1) + at(key, i+1+4*pass)))
			s.Add(s, a.Mul(a, b))
		}
		w = append(w, s.And(s, word(^uint64(0))))
	}
	return w
}

func word(x uint64) *big.Int { return new(big.Int).SetUint64(x) }

func littleEndian(b []byte) *big.Int {
	c := append([]byte(nil), b...)
	reverse(c)
	return new(big.Int).SetBytes(c)
}

func reverse(b []byte) {
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
}

// FuzzModel compares every path with the model for any key and block, and tries the tag on a changed block.
func FuzzModel(f *testing.F) {
	f.Add([]byte("key"), []byte("block"), uint16(64), uint64(0), uint64(0), uint16(0))
	f.Add([]byte{0xff}, []byte{0xff}, uint16(65535), ^uint64(0), ^uint64(0), uint16(9))
	f.Add([]byte{1}, []byte{0, 0, 0, 0x80}, uint16(4160), uint64(1)<<63, uint64(5), uint16(4100))
	f.Fuzz(func(t *testing.T, seed, pattern []byte, size uint16, number, generation uint64, change uint16) {
		block := make([]byte, (int(size)/BlockUnitBytes+1)*BlockUnitBytes)
		for at := 0; len(pattern) > 0 && at < len(block); {
			at += copy(block[at:], pattern)
		}
		key := make([]byte, KeyBytes)
		copy(key, seed)
		want := modelTag(t, key, block, number, generation)
		for p := pathGeneric; p < pathCount; p++ {
			if !available(p) {
				continue
			}
			k := mustOpenOn(t, key, p)
			if k.Verify(want, block, len(block), number, generation) != -1 {
				t.Fatalf("%s: the model's tag is refused", p)
			}
			block[int(change)%len(block)] ^= 1
			if k.Verify(want, block, len(block), number, generation) != 0 {
				t.Fatalf("%s: a changed block passes", p)
			}
			block[int(change)%len(block)] ^= 1
		}
	})
}
