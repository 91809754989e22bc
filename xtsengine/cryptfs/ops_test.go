package cryptfs

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// model is a plain file: what an encrypted one must look like.
type model []byte

func (m *model) writeAt(p []byte, off int64) {
	if end := int(off) + len(p); end > len(*m) && len(p) > 0 {
		*m = append(*m, make([]byte, end-len(*m))...)
	}
	if len(p) > 0 {
		copy((*m)[off:], p)
	}
}

// compare reads file whole and in random pieces.
func (m model) compare(t *testing.T, r *rand.Rand, f vfs.File) {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != int64(len(m)) {
		t.Fatalf("size %d, want %d", info.Size(), len(m))
	}
	all := make([]byte, len(m)+100)
	n, err := f.ReadAt(all, 0)
	if err != io.EOF || n != len(m) {
		t.Fatalf("read of all: %d bytes, %v; want %d, EOF", n, err, len(m))
	}
	if !bytes.Equal(all[:n], m) {
		t.Fatalf("content of %d bytes differs", n)
	}
	for range 3 {
		off := r.IntN(len(m) + 1)
		p := make([]byte, r.IntN(len(m)-off+1))
		if n, err := f.ReadAt(p, int64(off)); err != nil || n != len(p) {
			t.Fatalf("read of %d at %d: %d, %v", len(p), off, n, err)
		}
		if !bytes.Equal(p, m[off:][:len(p)]) {
			t.Fatalf("read of %d at %d differs", len(p), off)
		}
	}
}

func TestRandomOperations(t *testing.T) {
	for _, appendOnly := range []bool{true, false} {
		seed := rand.Uint64()
		t.Logf("seed %d, append only %v", seed, appendOnly)
		r := rand.New(rand.NewPCG(seed, 0))
		fs := newFS(t, vfs.NewMem(), newKey(t))
		for range 5 {
			randomFile(t, r, fs, appendOnly)
		}
		if len(fs.inodes) != 0 {
			t.Fatalf("%d inodes left after all files were closed", len(fs.inodes))
		}
	}
}

func randomFile(t *testing.T, r *rand.Rand, fs *FS, appendOnly bool) {
	f, err := fs.Create("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	other, err := fs.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	var m model
	for range 40 {
		p := randomBytes(r, randomLength(r))
		off := int64(len(m))
		var n int
		if appendOnly {
			n, err = f.Write(bytes.Clone(p))
		} else {
			off = r.Int64N(int64(len(m)) + 9000)
			n, err = f.WriteAt(bytes.Clone(p), off)
		}
		if err != nil || n != len(p) {
			t.Fatalf("write of %d at %d: %d, %v", len(p), off, n, err)
		}
		m.writeAt(p, off)
		m.compare(t, r, f)
		m.compare(t, r, other)
	}
	if err := errors.Join(f.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
	if f, err = fs.Open("f"); err != nil {
		t.Fatal(err)
	}
	m.compare(t, r, f)
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, m) {
		t.Fatalf("sequential read: %d bytes, %v", len(got), err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// randomLength is small, around the size of an AES block, of a data unit or of a transfer.
func randomLength(r *rand.Rand) int {
	switch r.IntN(10) {
	case 0:
		return 0
	case 1, 2, 3:
		return 1 + r.IntN(40)
	case 4:
		return chunkBytes - 20 + r.IntN(2*unitBytes)
	default:
		return 1 + r.IntN(5000)
	}
}

func randomBytes(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// TestManifestNameIsDurable: the name of a list of Pebble's files outlives a crash before anything else does, and
// the header below it.
func TestManifestNameIsDurable(t *testing.T) {
	base, key := vfs.NewCrashableMem(), newKey(t)
	if err := base.MkdirAll("db", 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := base.OpenDir("")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(root.Sync(), root.Close()); err != nil {
		t.Fatal(err)
	}
	f, err := newFS(t, base, key).Create("db/MANIFEST-000001", manifestCategory)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	after := newFS(t, base.CrashClone(vfs.CrashCloneCfg{}), key)
	if got := readFile(t, after, "db/MANIFEST-000001"); len(got) != 0 {
		t.Errorf("%d bytes in a file that nothing was written to", len(got))
	}
}
