package cryptfs

import (
	"bytes"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// newDirectLog makes a log on the disk that is written past the page cache, where the disk lets it.
func newDirectLog(t *testing.T) (fs *FS, f *logFile, name string) {
	t.Helper()
	fs = newFS(t, vfs.Default, newKey(t))
	name = filepath.Join(t.TempDir(), "log")
	f = newLog(t, fs, name).(*logFile)
	if f.direct == nil {
		f.Close()
		t.Skip("runs where the file system says how to write past the page cache: ext4 or XFS, Linux 6.1")
	}
	return fs, f, name
}

// holds compares the beginning of a log with what was appended.
func holds(t *testing.T, fs *FS, name string, want []byte) {
	t.Helper()
	if got := readFile(t, fs, name); !bytes.HasPrefix(got, want) || !isZero(got[len(want):]) {
		t.Fatalf("the log differs from %d bytes that were appended, with zeros behind them", len(want))
	}
}

// TestDirectLog: what was synced is in the file, however much came at once.
func TestDirectLog(t *testing.T) {
	fs, f, name := newDirectLog(t)
	defer f.Close()
	r := rand.New(rand.NewPCG(2, 2))
	var want []byte
	for n := range 300 {
		p := randomBytes(r, 1+r.IntN(9000))
		if n%50 == 49 {
			p = randomBytes(r, maxDirectBytes-3000+r.IntN(6000))
		}
		if n, err := f.Write(bytes.Clone(p)); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
		want = append(want, p...)
		if r.IntN(3) > 0 && n < 299 {
			continue
		}
		if err := f.SyncData(); err != nil {
			t.Fatal(err)
		}
		if f.direct.dirty || f.direct.loose {
			t.Fatal("something is left after a sync")
		}
		holds(t, fs, name, want)
	}
	if f.direct == nil {
		t.Error("the log goes through the page cache")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	holds(t, fs, name, want)
}

// TestDirectLogRefused: a log goes on through the page cache where the kernel takes no write past it after all.
func TestDirectLogRefused(t *testing.T) {
	for _, at := range []int{0, 1, 2} {
		fs, f, name := newDirectLog(t)
		var want []byte
		for n := range 4 {
			if n == at {
				f.direct.align = aesBytes // less than any disk takes
			}
			p := bytes.Repeat([]byte{byte(n + 1)}, 5000+n)
			if n == 2 {
				p = bytes.Repeat(p, maxDirectBytes/len(p)+1)
			}
			if _, err := f.Write(bytes.Clone(p)); err != nil {
				t.Fatal(err)
			}
			if err := f.SyncData(); err != nil {
				t.Fatal(err)
			}
			want = append(want, p...)
			holds(t, fs, name, want)
		}
		if f.direct != nil {
			t.Error("the log still goes past the page cache")
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		holds(t, fs, name, want)
	}
}

// TestDirectLogReused: so is a log that is used again. What was not synced can be read.
func TestDirectLogReused(t *testing.T) {
	fs, f, name := newDirectLog(t)
	if _, err := f.Write(bytes.Repeat([]byte("old"), 50_000)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again := filepath.Join(filepath.Dir(name), "again")
	g, err := fs.ReuseForWrite(name, again, logCategory)
	if err != nil {
		t.Fatal(err)
	}
	if g.(*logFile).direct == nil {
		t.Error("the log goes through the page cache")
	}
	want := bytes.Repeat([]byte("new records "), 1000)
	if _, err := g.Write(bytes.Clone(want)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := g.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what is not synced reads as something else (%v)", err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, fs, again); !bytes.HasPrefix(got, want) {
		t.Error("the log differs from what was appended")
	}
}

// TestDirectLogClosed: a log that is closed without a sync writes nothing any more.
func TestDirectLogClosed(t *testing.T) {
	_, f, name := newDirectLog(t)
	if _, err := f.Write(bytes.Repeat([]byte("synced"), 1000)); err != nil {
		t.Fatal(err)
	}
	if err := f.SyncData(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Repeat([]byte("late"), 1000)); err != nil {
		t.Fatal(err)
	}
	before := readFile(t, vfs.Default, name)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(readFile(t, vfs.Default, name), before) {
		t.Error("Close wrote to the file")
	}
}
