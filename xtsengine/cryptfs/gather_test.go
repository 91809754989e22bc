package cryptfs

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// newTable makes a file as Pebble makes its tables.
func newTable(t testing.TB, fs *FS, name string) vfs.File {
	t.Helper()
	f, err := fs.Create(name, "pebble-memtable-flush")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestTablesAreGathered: a table that comes in pieces is written by whole chunks, nothing is read back for it, and
// others find what was synced.
func TestTablesAreGathered(t *testing.T) {
	reads, writes := 0, 0
	base := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileReadAt:
			reads++
		case errorfs.OpFileWriteAt:
			writes++
		}
		return nil
	}))
	fs := newFS(t, base, newKey(t))
	f := newTable(t, fs, "table")
	r := rand.New(rand.NewPCG(3, 1))
	writes = 0 // the header
	var want []byte
	for len(want) < 20*chunkBytes {
		p := randomBytes(r, 1+r.IntN(9000))
		if n, err := f.Write(bytes.Clone(p)); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
		want = append(want, p...)
	}
	if most := len(want) / chunkBytes; writes > most || reads > 0 {
		t.Errorf("%d writes of %d chunks, %d reads", writes, most, reads)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, fs, "table"); !bytes.Equal(got, want) {
		t.Error("what was synced is not what was written")
	}
	p := randomBytes(r, 100) // goes on within an AES block
	if _, err := f.Write(bytes.Clone(p)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, fs, "table"); !bytes.Equal(got, append(want, p...)) {
		t.Error("what was closed is not what was written")
	}
}

// TestGatheredIsSeen: whatever the handle is asked for takes what is gathered into account.
func TestGatheredIsSeen(t *testing.T) {
	fs := newFS(t, vfs.NewMem(), newKey(t))
	f := newTable(t, fs, "table")
	want := randomBytes(rand.New(rand.NewPCG(3, 2)), 1000)
	for at, ask := range []func() error{
		func() error { _, err := f.WriteAt([]byte("abc"), 5); copy(want[5:], "abc"); return err },
		f.SyncData,
		func() error { _, err := f.SyncTo(350); return err },
		func() error {
			info, err := f.Stat()
			if err == nil && info.Size() != 400 {
				t.Errorf("%d bytes of 400", info.Size())
			}
			return err
		},
		func() error {
			got := make([]byte, 500)
			if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want[:500]) {
				t.Errorf("read what was not written: %v", err)
			}
			return nil
		},
	} {
		if _, err := f.Write(want[100*at : 100*at+100]); err != nil {
			t.Fatal(err)
		}
		if err := ask(); err != nil {
			t.Fatal(err)
		}
		if got := readFile(t, fs, "table"); !bytes.Equal(got, want[:100*at+100]) {
			t.Errorf("call %d leaves something behind", at)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestGatherFails: what could not be written is an error of the call that asks for it, and is there when that is
// tried again.
func TestGatherFails(t *testing.T) {
	fails := errors.New("no")
	broken := false
	base := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken && op.Kind == errorfs.OpFileWriteAt {
			return fails
		}
		return nil
	}))
	fs := newFS(t, base, newKey(t))
	f := newTable(t, fs, "table")
	want := randomBytes(rand.New(rand.NewPCG(3, 3)), 3*chunkBytes/2)
	broken = true
	if _, err := f.Write(want[:100]); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); !errors.Is(err, fails) {
		t.Errorf("sync: %v", err)
	}
	if n, err := f.Write(want[100:]); !errors.Is(err, fails) || n != chunkBytes-100 {
		t.Errorf("write of a chunk: %d, %v", n, err)
	}
	broken = false
	if _, err := f.Write(want[chunkBytes:]); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, fs, "table"); !bytes.Equal(got, want) {
		t.Error("what was written again is not there")
	}
	g := newTable(t, fs, "other")
	if _, err := g.Write(want[:100]); err != nil {
		t.Fatal(err)
	}
	broken = true
	if err := g.Close(); !errors.Is(err, fails) {
		t.Errorf("close: %v", err)
	}
}
