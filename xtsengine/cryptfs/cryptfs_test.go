package cryptfs

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/nfseal/nfseal/xtsengine/keyring"
)

func newKey(t testing.TB) *keyring.DataKey {
	t.Helper()
	k, err := keyring.NewDataKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func newFS(t testing.TB, base vfs.FS, key *keyring.DataKey) *FS {
	t.Helper()
	fs, err := New(base, key)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

func writeFile(t testing.TB, fs vfs.FS, name string, content []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Clone(content)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestStoredForm looks at the bytes below: length, header, filler, and no plaintext.
func TestStoredForm(t *testing.T) {
	base, key := vfs.NewMem(), newKey(t)
	fs := newFS(t, base, key)
	for _, size := range []int{0, 1, 15, 16, 17, 4096, 70000} {
		content := bytes.Repeat([]byte("plaintext!"), size/10+1)[:size]
		writeFile(t, fs, "f", content)
		stored := readFile(t, base, "f")
		want := headerBytes + size + fillerBytes
		if size == 0 {
			want = headerBytes
		}
		if len(stored) != want {
			t.Fatalf("%d bytes are stored in %d, want %d", size, len(stored), want)
		}
		if string(stored[:len(magic)]) != magic || !isZero(stored[usedBytes:headerBytes]) {
			t.Fatalf("header %x", stored[:usedBytes])
		}
		end := headerBytes + int(roundUp(int64(size)))
		if !isZero(stored[min(end, len(stored)):]) {
			t.Fatalf("size %d: filler is not zero", size)
		}
		if bytes.Contains(stored, []byte("plain")) {
			t.Fatalf("size %d: plaintext is stored", size)
		}
		if got := readFile(t, fs, "f"); !bytes.Equal(got, content) {
			t.Fatalf("size %d: content differs", size)
		}
	}
}

// TestSameContentDiffers: two files, and one file made again, share no AES block.
func TestSameContentDiffers(t *testing.T) {
	base := vfs.NewMem()
	fs := newFS(t, base, newKey(t))
	content := make([]byte, 3*unitBytes)
	seen := map[string]bool{}
	for _, name := range []string{"a", "b", "a"} {
		writeFile(t, fs, name, content)
		stored := readFile(t, base, name)[headerBytes : headerBytes+len(content)]
		for i := 0; i < len(stored); i += aesBytes {
			block := string(stored[i : i+aesBytes])
			if seen[block] {
				t.Fatalf("block at %d of %s was seen before", i, name)
			}
			seen[block] = true
		}
	}
}

// TestAppendKeepsBlocks: an append changes no stored AES block but the last one.
func TestAppendKeepsBlocks(t *testing.T) {
	base := vfs.NewMem()
	fs := newFS(t, base, newKey(t))
	f, err := fs.Create("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var before []byte
	for n := 1; n < 300; n++ {
		if _, err := f.Write(bytes.Repeat([]byte{byte(n)}, n)); err != nil {
			t.Fatal(err)
		}
		after := readFile(t, base, "f")
		if before != nil {
			size := len(before) - headerBytes - fillerBytes
			whole := headerBytes + size/aesBytes*aesBytes
			if !bytes.Equal(before[:whole], after[:whole]) {
				t.Fatalf("append of %d bytes to %d changed what was whole", n, size)
			}
			if len(after)-len(before) != n {
				t.Fatalf("append of %d bytes made the file %d longer", n, len(after)-len(before))
			}
		}
		before = after
	}
}

// TestCutAnywhere truncates the stored file at every length: what is left is a prefix of the
// content, and grows with the length.
func TestCutAnywhere(t *testing.T) {
	base := vfs.NewMem()
	fs := newFS(t, base, newKey(t))
	content := make([]byte, 200)
	_, _ = rand.Read(content)
	writeFile(t, fs, "f", content)
	stored := readFile(t, base, "f")
	for n := headerBytes; n <= len(stored); n++ {
		writeFile(t, base, "cut", stored[:n])
		got := readFile(t, fs, "cut")
		if len(got) != max(0, n-headerBytes-fillerBytes) || !bytes.HasPrefix(content, got) {
			t.Fatalf("cut at %d: %d bytes, a prefix: %v", n, len(got), bytes.HasPrefix(content, got))
		}
	}
}

// TestHoles: what was never written reads as zeros, next to what was.
func TestHoles(t *testing.T) {
	fs := newFS(t, vfs.NewMem(), newKey(t))
	f, err := fs.OpenReadWrite("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, off := range []int64{5, 100000, 50001} {
		if _, err := f.WriteAt([]byte("island"), off); err != nil {
			t.Fatal(err)
		}
	}
	want := make([]byte, 100006)
	for _, off := range []int64{5, 100000, 50001} {
		copy(want[off:], "island")
	}
	if got := readFile(t, fs, "f"); !bytes.Equal(got, want) {
		t.Fatal("the sea is not zeros")
	}
}

// TestCutCreation opens what a crash in Create can leave, as an empty file that can be written.
func TestCutCreation(t *testing.T) {
	base := vfs.NewMem()
	fs := newFS(t, base, newKey(t))
	for _, size := range []int{0, headerBytes} {
		writeFile(t, base, "f", make([]byte, size))
		if got := readFile(t, fs, "f"); len(got) != 0 {
			t.Fatalf("%d zeros read as %d bytes", size, len(got))
		}
		f, err := fs.OpenReadWrite("f", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte("content")); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if got := readFile(t, fs, "f"); string(got) != "content" {
			t.Fatalf("got %q", got)
		}
	}
}

// TestCreateIsDurable: once Create returned, a crash does not take the header away.
func TestCreateIsDurable(t *testing.T) {
	base, key := vfs.NewCrashableMem(), newKey(t)
	fs := newFS(t, base, key)
	f, err := fs.Create("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir, err := fs.OpenDir("/")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		t.Fatal(err)
	}
	after := base.CrashClone(vfs.CrashCloneCfg{})
	if n := len(readFile(t, after, "f")); n != headerBytes {
		t.Fatalf("%d bytes after the crash", n)
	}
	if got := readFile(t, newFS(t, after, key), "f"); len(got) != 0 {
		t.Fatalf("content %q after the crash", got)
	}
}

// TestFailedCreate leaves no file, no inode and no open handle.
func TestFailedCreate(t *testing.T) {
	base := vfs.NewMem()
	for _, kind := range []errorfs.OpKind{errorfs.OpFileWriteAt, errorfs.OpFileSync} {
		failing := errorfs.Wrap(base, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == kind {
				return errorfs.ErrInjected
			}
			return nil
		}))
		fs := newFS(t, failing, newKey(t))
		_, err := fs.Create("f", vfs.WriteCategoryUnspecified)
		if !errors.Is(err, errorfs.ErrInjected) {
			t.Fatalf("got %v", err)
		}
		if names, _ := base.List("/"); len(names) != 0 || len(fs.inodes) != 0 {
			t.Fatalf("left files %q and %d inodes", names, len(fs.inodes))
		}
	}
}

// TestFailedWrite: an error from below comes back, and what was there before stays readable.
func TestFailedWrite(t *testing.T) {
	fail := false
	base := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fail && op.Kind == errorfs.OpFileWriteAt {
			return errorfs.ErrInjected
		}
		return nil
	}))
	fs := newFS(t, base, newKey(t))
	f, err := fs.Create("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write([]byte("before ")); err != nil {
		t.Fatal(err)
	}
	fail = true
	if n, err := f.Write([]byte("lost")); n != 0 || !errors.Is(err, errorfs.ErrInjected) {
		t.Fatalf("failing write: %d, %v", n, err)
	}
	fail = false
	if _, err := f.Write([]byte("after")); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, fs, "f"); string(got) != "before after" {
		t.Fatalf("got %q", got)
	}
}

func TestMisuse(t *testing.T) {
	fs := newFS(t, vfs.NewMem(), newKey(t))
	writeFile(t, fs, "f", []byte("content"))
	f, err := fs.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := fs.OpenReadWrite("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := f.Write([]byte("x")); !errors.Is(err, errReadOnly) {
		t.Errorf("Write to a file open for reading: %v", err)
	}
	if _, err := f.ReadAt(make([]byte, 1), -1); !errors.Is(err, errOffset) {
		t.Errorf("ReadAt -1: %v", err)
	}
	for _, off := range []int64{-1, maxBytes, maxBytes + 1, 1<<63 - 1} {
		if _, err := w.WriteAt([]byte("x"), off); !errors.Is(err, errOffset) {
			t.Errorf("WriteAt %d: %v", off, err)
		}
	}
	if n, err := f.ReadAt(make([]byte, 1), maxBytes); n != 0 || err != io.EOF {
		t.Errorf("ReadAt far out: %d, %v", n, err)
	}
	if got := readFile(t, fs, "f"); string(got) != "content" {
		t.Errorf("content is %q", got)
	}
}

// TestReuse: the old name is gone, and nothing of the old content is in the new file.
func TestReuse(t *testing.T) {
	base := vfs.NewMem()
	fs := newFS(t, base, newKey(t))
	writeFile(t, fs, "old", bytes.Repeat([]byte("old"), 5000))
	before := readFile(t, base, "old")
	f, err := fs.ReuseForWrite("old", "new", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Stat("old"); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("old file: %v", err)
	}
	after := readFile(t, base, "new")
	if len(after) != headerBytes || bytes.Equal(after[saltAt:checkAt], before[saltAt:checkAt]) {
		t.Fatal("the new file has content or the old salt")
	}
	if _, err := fs.ReuseForWrite("none", "new2", vfs.WriteCategoryUnspecified); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("reuse of no file: %v", err)
	}
}

// TestNames covers what only passes through, and the sizes that Stat tells.
func TestNames(t *testing.T) {
	for name, base := range map[string]vfs.FS{"memory": vfs.NewMem(), "disk": vfs.Default} {
		t.Run(name, func(t *testing.T) {
			fs := newFS(t, base, newKey(t))
			dir := fs.PathJoin(t.TempDir(), "a", "b")
			if err := fs.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			old, linked, moved := fs.PathJoin(dir, "f"), fs.PathJoin(dir, "g"), fs.PathJoin(dir, "h")
			writeFile(t, fs, old, []byte("content"))
			if err := errors.Join(fs.Link(old, linked), fs.Rename(old, moved)); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{linked, moved} {
				info, err := fs.Stat(name)
				if err != nil || info.Size() != 7 || info.IsDir() {
					t.Fatalf("%s: %v, %v", name, info, err)
				}
				if got := readFile(t, fs, name); string(got) != "content" {
					t.Fatalf("%s holds %q", name, got)
				}
			}
			if info, err := fs.Stat(dir); err != nil || !info.IsDir() {
				t.Fatalf("directory: %v, %v", info, err)
			}
			lock, err := fs.Lock(fs.PathJoin(dir, "LOCK"))
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			if info, err := fs.Stat(fs.PathJoin(dir, "LOCK")); err != nil || info.Size() != 0 {
				t.Fatalf("lock: %v, %v", info, err)
			}
			if names, err := fs.List(dir); err != nil || len(names) != 3 {
				t.Fatalf("list: %q, %v", names, err)
			}
			if err := errors.Join(fs.Remove(linked), fs.RemoveAll(dir)); err != nil {
				t.Fatal(err)
			}
			if fs.Unwrap() != base || fs.PathBase(moved) != "h" || fs.PathDir(moved) != dir {
				t.Fatal("a path function differs")
			}
		})
	}
}

// adviceRecorder notes the offsets that reach the file below.
type adviceRecorder struct {
	vfs.File
	calls []string
}

func (r *adviceRecorder) Preallocate(offset, length int64) error {
	r.calls = append(r.calls, fmt.Sprintf("preallocate %d %d", offset, length))
	return nil
}

func (r *adviceRecorder) Prefetch(offset, length int64) error {
	r.calls = append(r.calls, fmt.Sprintf("prefetch %d %d", offset, length))
	return nil
}

func (r *adviceRecorder) SyncTo(length int64) (bool, error) {
	r.calls = append(r.calls, fmt.Sprintf("sync to %d", length))
	return true, nil
}

// TestAdvice: what hints at ranges reaches the device moved behind the header.
func TestAdvice(t *testing.T) {
	fs := newFS(t, vfs.Default, newKey(t))
	f, err := fs.Create(filepath.Join(t.TempDir(), "f"), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Fd() == vfs.InvalidFd {
		t.Error("no descriptor for advice")
	}
	if err := errors.Join(f.SyncData(), f.Sync()); err != nil {
		t.Error(err)
	}
	r := &adviceRecorder{}
	over := &file{base: r}
	full, err := over.SyncTo(5000)
	if err := errors.Join(err, over.Preallocate(100, 200), over.Prefetch(300, 400)); err != nil || !full {
		t.Fatalf("%v, full sync %v", err, full)
	}
	want := []string{"sync to 9111", "preallocate 4196 200", "prefetch 4396 400"}
	if !slices.Equal(r.calls, want) {
		t.Fatalf("got %q, want %q", r.calls, want)
	}
}

// tearingFS is a file system whose writes are seen half done: eight bytes, then the next eight.
type tearingFS struct{ vfs.FS }

func (fs tearingFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := fs.FS.Create(name, c)
	return tearingFile{f}, err
}

type tearingFile struct{ vfs.File }

func (f tearingFile) WriteAt(p []byte, off int64) (int, error) {
	for i := 0; i < len(p); i += 8 {
		if _, err := f.File.WriteAt(p[i:min(i+8, len(p))], off+int64(i)); err != nil {
			return i, err
		}
		runtime.Gosched()
	}
	return len(p), nil
}

// TestReadersBesideWriter reads the whole file again and again while it grows: every byte seen must
// be right, those of the last AES block included.
func TestReadersBesideWriter(t *testing.T) {
	fs := newFS(t, tearingFS{vfs.NewMem()}, newKey(t))
	f, err := fs.Create("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 20000)
	_, _ = rand.Read(content)
	var readers sync.WaitGroup
	for i := range 3 {
		other, err := fs.Open("f")
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		handle := []vfs.File{f, other, other}[i]
		readers.Go(func() { followFile(t, handle, content) })
	}
	for at := 0; at < len(content); {
		n := min(1+at%37, len(content)-at)
		if _, err := f.Write(bytes.Clone(content[at : at+n])); err != nil {
			t.Error(err)
		}
		at += n
	}
	readers.Wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// followFile reads f until all of content is there.
func followFile(t *testing.T, f vfs.File, content []byte) {
	b := make([]byte, len(content))
	for n := 0; n < len(content); {
		got, err := f.ReadAt(b, 0)
		if err != nil && err != io.EOF {
			t.Error(err)
			return
		}
		if got < n || !bytes.Equal(b[:got], content[:got]) {
			t.Errorf("saw %d bytes after %d, right: %v", got, n, bytes.Equal(b[:got], content[:got]))
			return
		}
		n = got
	}
}

// TestKeyClosed: an open file goes on; nothing new is opened, created or left behind.
func TestKeyClosed(t *testing.T) {
	base, key := vfs.NewMem(), newKey(t)
	fs := newFS(t, base, key)
	f, err := fs.Create("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	writeFile(t, fs, "g", []byte("content"))
	if err := key.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("still")); err != nil {
		t.Errorf("write to an open file: %v", err)
	}
	if _, err := fs.Open("g"); !errors.Is(err, keyring.ErrClosed) {
		t.Errorf("Open: %v", err)
	}
	if _, err := fs.Create("h", vfs.WriteCategoryUnspecified); !errors.Is(err, keyring.ErrClosed) {
		t.Errorf("Create: %v", err)
	}
	if _, err := base.Stat("h"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that could not be created: %v", err)
	}
	if _, err := New(base, key); !errors.Is(err, keyring.ErrClosed) {
		t.Errorf("New: %v", err)
	}
}

func TestNoAllocation(t *testing.T) {
	fs := newFS(t, vfs.NewMem(), newKey(t))
	writeFile(t, fs, "f", make([]byte, 1<<20))
	f, err := fs.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 100000)
	n := testing.AllocsPerRun(50, func() {
		if _, err := f.ReadAt(p, 12345); err != nil {
			t.Fatal(err)
		}
	})
	if n >= 1 && !raceEnabled {
		t.Fatalf("%v allocations a read", n)
	}
}

func TestRedacted(t *testing.T) {
	fs := newFS(t, vfs.NewMem(), newKey(t))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if s := fmt.Sprintf(verb, fs); s != "cryptfs.FS" {
			t.Errorf("%s prints %q", verb, s)
		}
	}
	if j, err := json.Marshal(fs); err != nil || string(j) != `"cryptfs.FS"` {
		t.Errorf("JSON %s, %v", j, err)
	}
}
