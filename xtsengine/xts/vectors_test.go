package xts

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vector is one published line: a single data unit.
type vector struct {
	key, plain, stored []byte
	unit               Unit
}

// TestVectors checks every path against what was published.
func TestVectors(t *testing.T) {
	for name, want := range map[string]int{"nist_cavp": 600, "ieee_1619": 5, "wycheproof": 41} {
		vectors := readVectors(t, name)
		if len(vectors) != want {
			t.Fatalf("%s has %d vectors, want %d", name, len(vectors), want)
		}
		t.Run(name, func(t *testing.T) {
			eachPath(t, func(t *testing.T, p path) {
				for i, v := range vectors {
					v.check(t, i, p)
				}
			})
		})
	}
}

func (v *vector) check(t *testing.T, i int, p path) {
	t.Helper()
	c := mustOpen(t, v.key, p)
	b := make([]byte, len(v.plain))
	c.Encrypt(b, v.plain, len(v.plain), v.unit)
	if !bytes.Equal(b, v.stored) {
		t.Errorf("vector %d: encrypted to %x, want %x", i, b, v.stored)
	}
	c.Decrypt(b, v.stored, len(v.plain), v.unit)
	if !bytes.Equal(b, v.plain) {
		t.Errorf("vector %d: decrypted to %x, want %x", i, b, v.plain)
	}
}

// readVectors reads a file of lines "key tweak plaintext ciphertext" in hexadecimal.
func readVectors(t *testing.T, name string) []vector {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		var b [4][]byte
		for i, field := range strings.Fields(line) {
			if b[i], err = hex.DecodeString(field); err != nil {
				t.Fatal(err)
			}
		}
		tweak := b[1]
		unit := Unit{
			Lo: binary.LittleEndian.Uint64(tweak[:8]),
			Hi: binary.LittleEndian.Uint64(tweak[8:]),
		}
		vectors = append(vectors, vector{key: b[0], plain: b[2], stored: b[3], unit: unit})
	}
	return vectors
}
