package tree

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func makeTree(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p := func(name string) string { return filepath.Join(root, name) }
	do(os.MkdirAll(p("a/b/c"), 0o755))
	do(os.WriteFile(p("a/one"), []byte("one"), 0o644))
	do(os.WriteFile(p("a/b/empty"), nil, 0o400))
	do(os.WriteFile(p("a/b/c/big"), bytes.Repeat([]byte("0123456789abcdef"), 200_000), 0o640))
	do(os.Link(p("a/one"), p("a/b/two")))
	do(os.Symlink("../one", p("a/b/link")))
	do(os.Symlink("nowhere", p("dangling")))
	do(unix.Mknod(p("fifo"), unix.S_IFIFO|0o622, 0))
	do(os.Chmod(p("a/b"), 0o1775))
	old := time.Unix(1_000_000_000, 123_456_789)
	do(os.Chtimes(p("a/one"), old, old))
	do(os.Chtimes(p("a"), old, old))
	return root
}

func scan(t *testing.T, root string) []Entry {
	t.Helper()
	entries, err := Scan(root, 3)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func TestCopyIsEqual(t *testing.T) {
	src, dst := makeTree(t), filepath.Join(t.TempDir(), "copy")
	var copied int64
	for range 2 { // the second time over the first
		if err := Copy(dst, src, CopyOptions{Workers: 1, Sync: true, Copied: func(_ string, n int64) { copied += n }}); err != nil {
			t.Fatal(err)
		}
		if diffs := Compare(scan(t, src), scan(t, dst), 10); diffs != nil {
			t.Fatalf("%s", strings.Join(diffs, "\n"))
		}
	}
	if want := int64(2 * (3 + 3_200_000)); copied != want {
		t.Fatalf("%d bytes were reported, want %d", copied, want)
	}
	if files, size := Summary(scan(t, dst)); files != 3 || size != 3_200_003 {
		t.Fatalf("summary: %d files, %d bytes", files, size)
	}
}

// A source that shows less than it is told to have, here a time, is copied as told.
func TestCopyAsDescribed(t *testing.T) {
	src, dst := makeTree(t), filepath.Join(t.TempDir(), "copy")
	want := scan(t, src)
	if err := os.Chtimes(filepath.Join(src, "a/one"), time.Unix(5, 0), time.Unix(5, 0)); err != nil {
		t.Fatal(err)
	}
	if err := Copy(dst, src, CopyOptions{Workers: 2, Entries: want}); err != nil {
		t.Fatal(err)
	}
	if diffs := Compare(want, scan(t, dst), 10); diffs != nil {
		t.Fatalf("%s", strings.Join(diffs, "\n"))
	}
}

func TestCompareSeesEveryDifference(t *testing.T) {
	for name, change := range map[string]func(root string) error{
		"byte": func(r string) error {
			f, err := os.OpenFile(r+"/a/b/c/big", os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				return err
			}
			if _, err := f.WriteAt([]byte("x"), 3_000_000); err != nil {
				return err
			}
			return os.Chtimes(f.Name(), info.ModTime(), info.ModTime())
		},
		"mode":      func(r string) error { return os.Chmod(r+"/a/one", 0o600) },
		"owner":     func(r string) error { return os.Chown(r+"/a/b/c", -1, os.Getgid()+1) },
		"time":      func(r string) error { return os.Chtimes(r+"/a", time.Now(), time.Unix(1, 1)) },
		"missing":   func(r string) error { return os.Remove(r + "/fifo") },
		"more":      func(r string) error { return os.WriteFile(r+"/more", nil, 0o644) },
		"target":    func(r string) error { return relink(r+"/dangling", "elsewhere") },
		"hard link": func(r string) error { return unlinkCopy(r + "/a/b/two") },
	} {
		t.Run(name, func(t *testing.T) {
			src, dst := makeTree(t), t.TempDir()
			if err := Copy(dst, src, CopyOptions{Workers: 2}); err != nil {
				t.Fatal(err)
			}
			if name == "owner" && os.Geteuid() != 0 {
				t.Skip("giving a file away needs root: runs in make test as root, as in .ci/run")
			}
			if err := change(dst); err != nil {
				t.Fatal(err)
			}
			if Compare(scan(t, src), scan(t, dst), 10) == nil {
				t.Fatal("no difference was seen")
			}
		})
	}
}

func relink(path, target string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return os.Symlink(target, path)
}

// unlinkCopy makes a hard link a file of its own, equal in all else.
func unlinkCopy(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	if err := os.WriteFile(path, text, info.Mode()); err != nil {
		return err
	}
	return os.Chtimes(path, info.ModTime(), info.ModTime())
}

func TestDescriptionTravels(t *testing.T) {
	want := scan(t, makeTree(t))
	var b bytes.Buffer
	if err := Write(&b, want); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diffs := Compare(want, got, 10); diffs != nil {
		t.Fatalf("%s", strings.Join(diffs, "\n"))
	}
	if _, err := Read(strings.NewReader("{\"Path\":1}")); err == nil {
		t.Fatal("a damaged description was read")
	}
}

func TestCompareStopsAtItsLimit(t *testing.T) {
	if got := Compare(scan(t, makeTree(t)), nil, 3); len(got) != 4 || !strings.HasPrefix(got[3], "and ") {
		t.Fatalf("got %q", got)
	}
}
