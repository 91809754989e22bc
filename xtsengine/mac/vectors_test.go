package mac

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"testing"
)

// TestNHVectors checks NH, on the generic path, with which the others are compared, against the vectors that were published with Adiantum. There a product is
// of the first and third word of sixteen bytes, or of the second and fourth; here of neighbours. So
// words 1 and 2 of message and key change places, and the sum stays what it is.
func TestNHVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/nh_adiantum.txt")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var b [3][]byte
		for i, field := range strings.Fields(line) {
			if b[i], err = hex.DecodeString(field); err != nil {
				t.Fatal(err)
			}
		}
		exchangeWords(b[0])
		exchangeWords(b[1])
		checkNH(t, b[0], b[1], b[2])
		count++
	}
	if count != 15 {
		t.Fatalf("%d vectors, want 15", count)
	}
}

func checkNH(t *testing.T, key, message, want []byte) {
	t.Helper()
	var k [nhKeyBytes]byte
	copy(k[:], key)
	var sum [passes]uint64
	nhGeneric(&sum, &k, message)
	got := make([]byte, 0, 32)
	for _, s := range sum {
		got = binary.LittleEndian.AppendUint64(got, s)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes: hash %x, want %x", len(message), got, want)
	}
}

func exchangeWords(b []byte) {
	for ; len(b) >= 16; b = b[16:] {
		swap(b[4:8], b[8:12])
	}
}
