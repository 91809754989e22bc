package xts

import (
	"bytes"
	"testing"
)

// FuzzPaths compares every path with the generic one on any run, in both directions, with source
// and destination at any alignment. The data is src, repeated to length bytes.
func FuzzPaths(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), []byte("x"), uint32(16), uint16(16), uint64(0), uint64(0))
	f.Add([]byte{1}, []byte("words of any sort"), uint32(4096), uint16(4096), uint64(7), uint64(0))
	f.Add([]byte{2}, []byte{0xff}, uint32(5000), uint16(512), ^uint64(0), ^uint64(0))
	f.Add([]byte{3}, []byte{0, 1}, uint32(8*4096+17), uint16(4096), ^uint64(0)-3, uint64(5))
	f.Add([]byte{4}, []byte{9}, uint32(8*205), uint16(205), uint64(1)<<63, uint64(0))
	f.Fuzz(func(t *testing.T, seed, src []byte, length uint32, unit uint16, lo, hi uint64) {
		length %= 1 << 17
		unitBytes := max(int(unit), BlockBytes)
		tail := int(length) % unitBytes
		if len(src) == 0 || tail > 0 && tail < BlockBytes {
			return
		}
		data := bytes.Repeat(src, int(length)/len(src)+1)[:length]
		key := make([]byte, KeyBytes)
		copy(key, seed)
		key[KeyBytes-1] ^= 1
		g, err := newOnPath(key, pathGeneric)
		if err != nil {
			return
		}
		want := make([]byte, length)
		g.Encrypt(want, data, unitBytes, Unit{hi, lo})
		for p := pathGeneric; p < pathCount; p++ {
			if available(p) {
				comparePath(t, p, key, want, data, unitBytes, Unit{hi, lo})
			}
		}
	})
}

func comparePath(t *testing.T, p path, key, want, data []byte, unitBytes int, first Unit) {
	c := mustOpen(t, key, p)
	shift := len(data) % 17
	got := make([]byte, len(data)+shift+1)
	b := got[shift : shift+len(data)]
	c.Encrypt(b, data, unitBytes, first)
	if !bytes.Equal(b, want) {
		t.Fatalf("%s: %d bytes in units of %d: ciphertext differs", p, len(data), unitBytes)
	}
	c.Decrypt(b, b, unitBytes, first)
	if !bytes.Equal(b, data) {
		t.Fatalf("%s: %d bytes in units of %d: plaintext does not come back", p, len(data), unitBytes)
	}
	for i, x := range got {
		if x != 0 && (i < shift || i == len(got)-1) {
			t.Fatalf("%s: wrote outside the destination", p)
		}
	}
}
