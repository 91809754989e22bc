package cryptfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// damages make a header wrong, each in one way.
var damages = []struct {
	name   string
	change func(h []byte) []byte
	want   error
}{
	{"one byte", func(h []byte) []byte { return h[:1] }, ErrFormat},
	{"half a header", func(h []byte) []byte { return h[:2048] }, ErrFormat},
	{"one byte less", func(h []byte) []byte { return h[:headerBytes-1] }, ErrFormat},
	{"no magic", func(h []byte) []byte { h[0] ^= 1; return h }, ErrFormat},
	{"a newer version", func(h []byte) []byte { h[11]++; return h }, ErrNewerFormat},
	{"version 0", func(h []byte) []byte { h[11] = 0; return h }, ErrFormat},
	{"damaged salt", func(h []byte) []byte { h[saltAt] ^= 1; return h }, ErrFormat},
	{"damaged check", func(h []byte) []byte { h[checkAt] ^= 1; return h }, ErrFormat},
	{"damaged CRC", func(h []byte) []byte { h[crcAt] ^= 1; return h }, ErrFormat},
	{"another salt", func(h []byte) []byte { h[saltAt] ^= 1; return withCRC(h) }, ErrWrongKey},
	{"zeros before data", func(h []byte) []byte { clear(h[:usedBytes]); return h }, ErrFormat},
}

func withCRC(h []byte) []byte {
	binary.BigEndian.PutUint32(h[crcAt:], crc32.Checksum(h[:crcAt], crcTable))
	return h
}

func TestDamagedHeaders(t *testing.T) {
	base := vfs.NewMem()
	fs := newFS(t, base, newKey(t))
	writeFile(t, fs, "f", []byte("content"))
	good := readFile(t, base, "f")
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			bad := d.change(bytes.Clone(good))
			writeFile(t, base, "bad", bad)
			_, err := fs.Open("bad")
			if !errors.Is(err, d.want) || !strings.Contains(err.Error(), "bad") {
				t.Fatalf("Open: %v, want %v with the file's name", err, d.want)
			}
			if _, err := fs.OpenReadWrite("bad", vfs.WriteCategoryUnspecified); !errors.Is(err, d.want) {
				t.Fatalf("OpenReadWrite: %v, want %v", err, d.want)
			}
			if !bytes.Equal(readFile(t, base, "bad"), bad) {
				t.Fatal("the damaged file was written to")
			}
		})
	}
	if len(fs.inodes) != 0 {
		t.Fatal("a refused file left an inode")
	}
}

// FuzzHeader decodes anything. What it takes must be exactly what this key encodes.
func FuzzHeader(f *testing.F) {
	key := checkKey{1, 2, 3}
	good := make([]byte, headerBytes)
	encodeHeader(good, &fileSalt{4, 5, 6}, &key)
	f.Add(good[:usedBytes])
	f.Add([]byte{})
	for _, d := range damages {
		f.Add(d.change(bytes.Clone(good)))
	}
	f.Fuzz(func(t *testing.T, h []byte) {
		salt, err := decodeHeader(h, &key)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrNewerFormat) && !errors.Is(err, ErrWrongKey) {
				t.Fatalf("unknown error %v", err)
			}
			return
		}
		again := make([]byte, headerBytes)
		encodeHeader(again, &salt, &key)
		if !bytes.Equal(again[:usedBytes], h[:usedBytes]) {
			t.Fatalf("decoded %x", h[:usedBytes])
		}
	})
}
