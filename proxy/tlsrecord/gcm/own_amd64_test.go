//go:build !purego

package gcm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"testing"
)

func mustMakeOwn(t *testing.T, key []byte, p path) *own {
	t.Helper()
	return mustMake(t, key, p).(*own)
}

// TestSelfTest: every path passes, and not with a wrong bit in what it has of the key.
func TestSelfTest(t *testing.T) {
	eachOwn(t, func(t *testing.T, p path) {
		if !selfTest(p) {
			t.Fatal("refused")
		}
		g, standard := mustMakeOwn(t, testKey(9), p), mustMake(t, testKey(9), pathStandard)
		parts := map[string]*byte{"round key": &g.keys[100], "power": &g.powers.of[40]}
		if p == pathVAES {
			parts["sum"] = &g.powers.sums[35]
		}
		for name, part := range parts {
			*part ^= 1
			if sameAnswers(g, standard) {
				t.Errorf("a wrong bit in a %s went unnoticed", name)
			}
			*part ^= 1
		}
		if !sameAnswers(g, standard) {
			t.Error("a right path was refused")
		}
	})
}

// TestCounters has counters that carry into each of their bytes within a group, between groups and in the rest, as those of
// long messages do, against counter mode of crypto/cipher.
func TestCounters(t *testing.T) {
	key := testKey(10)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	eachOwn(t, func(t *testing.T, p path) {
		g := mustMakeOwn(t, key, p)
		for _, carry := range []uint32{1 << 8, 1 << 16, 1 << 24, 3 << 24, 1<<32 - 128} {
			for before := uint32(0); before <= 112; before += 16 {
				var m message
				m.start(testKey(11)[:NonceBytes])
				binary.BigEndian.PutUint32(m.counter[NonceBytes:], carry-before+2)
				got, want := make([]byte, 3*groupBytes+300), make([]byte, 3*groupBytes+300)
				cipher.NewCTR(block, m.counter[:]).XORKeyStream(want, want)
				if g.through(&m, got, got, false); !bytes.Equal(got, want) {
					t.Fatalf("%d before %#x: another key stream", before, carry)
				}
			}
		}
	})
}
