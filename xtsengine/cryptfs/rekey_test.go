package cryptfs

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// rewriteAll has every file of a store be under the present key, as the store goes on.
func rewriteAll(t testing.TB, fs *FS, db *pebble.DB, dir, temporary string) {
	t.Helper()
	for round := 0; ; round++ {
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
		names, _, err := fs.RetiredIn(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(names) == 0 {
			return
		}
		if round == 1000 {
			t.Fatalf("after %d rounds %q are under the old key", round, names)
		}
		for _, name := range names {
			if _, err := fs.Rewrite(name, temporary); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestRekeyPebble gives a store that is in use a new key, in memory and on disk, twice, and shows that the
// old ones open nothing of it any more.
func TestRekeyPebble(t *testing.T) {
	for name, base := range map[string]vfs.FS{"memory": vfs.NewMem(), "disk": vfs.Default} {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 0))
			keys := []*keyring.DataKey{newKey(t), newKey(t), newKey(t)}
			fs := newFS(t, base, keys[0])
			root := t.TempDir()
			if err := base.MkdirAll(root, 0o700); err != nil {
				t.Fatal(err)
			}
			dir, temporary := filepath.Join(root, "db"), filepath.Join(root, "rewriting")
			db, want := mustOpen(t, fs, dir), map[string]string{}
			fill(t, r, db, want, 300)
			for _, key := range keys[1:] {
				rekeyOnce(t, r, fs, db, key, want, dir, temporary)
			}
			compare(t, contents(t, db), want)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			for _, key := range keys[:2] {
				list, err := base.List(dir)
				if err != nil {
					t.Fatal(err)
				}
				old := newFS(t, base, key)
				for _, name := range list {
					if f, err := old.Open(filepath.Join(dir, name)); err == nil && name != "LOCK" {
						t.Errorf("an old key opens %s", name)
						f.Close()
					} else if err != nil && !errors.Is(err, ErrWrongKey) {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
			db = mustOpen(t, newFS(t, base, keys[2]), dir)
			compare(t, contents(t, db), want)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			searchPlaintext(t, base, dir)
		})
	}
}

// rekeyOnce does it while the store is written and read.
func rekeyOnce(t *testing.T, r *rand.Rand, fs *FS, db *pebble.DB, key *keyring.DataKey, want map[string]string, dir, temporary string) {
	t.Helper()
	if err := fs.Rekey(key); err != nil {
		t.Fatal(err)
	}
	if err := fs.Rekey(newKey(t)); err == nil {
		t.Fatal("a third key was taken")
	}
	if names, size, err := fs.RetiredIn(dir); err != nil || len(names) == 0 || size == 0 {
		t.Fatalf("%q with %d bytes are under the old key, %v", names, size, err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		fill(t, r, db, want, 300)
	})
	wait.Go(func() {
		for range 20 {
			contents(t, db)
		}
	})
	rewriteAll(t, fs, db, dir, temporary)
	wait.Wait()
	if names, _, err := fs.RetiredIn(dir); err != nil || len(names) > 0 {
		t.Fatalf("%q are under the old key again, %v", names, err)
	}
	fs.EndRekey()
	if _, err := fs.Stat(temporary); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary file: %v", err)
	}
}

// TestRekeyCrashes lets power fail during the rewriting of a store, and goes on with both keys: everything
// that was synced is there, until the new key does alone.
func TestRekeyCrashes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	count := 6
	if os.Getenv("NFSEAL_LONG") != "" {
		count = 200
	}
	for n := range count {
		r := rand.New(rand.NewPCG(seed, uint64(n)))
		base := vfs.NewCrashableMem()
		oldKey, key := newKey(t), newKey(t)
		fs := newFS(t, base, oldKey)
		if err := fs.MkdirAll("root", 0o700); err != nil {
			t.Fatal(err)
		}
		db, want := mustOpen(t, fs, "root/db"), map[string]string{}
		for _, dir := range []string{"", "root"} {
			d, err := base.OpenDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(d.Sync(), d.Close()); err != nil {
				t.Fatal(err)
			}
		}
		fill(t, r, db, want, 100)
		if err := fs.Rekey(key); err != nil {
			t.Fatal(err)
		}
		var crashed []*vfs.MemFS
		var wants []map[string]string
		for range 5 {
			names, _, err := fs.RetiredIn("root/db")
			if err != nil {
				t.Fatal(err)
			}
			r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			for _, name := range names[:min(len(names), 1+r.IntN(4))] {
				if _, err := fs.Rewrite(name, "root/new"); err != nil {
					t.Fatal(err)
				}
			}
			fill(t, r, db, want, r.IntN(30))
			if r.IntN(2) == 0 {
				if err := db.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			crashed = append(crashed, base.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[r.IntN(3)], RNG: r}))
			wants = append(wants, maps.Clone(want))
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		for k, base := range crashed {
			fs, err := NewRekeyed(base, key, oldKey)
			if err != nil {
				t.Fatal(err)
			}
			db := mustOpen(t, fs, "root/db")
			compare(t, contents(t, db), wants[k])
			rewriteAll(t, fs, db, "root/db", "root/new")
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = mustOpen(t, newFS(t, base, key), "root/db")
			compare(t, contents(t, db), wants[k])
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestRewrite does single files: their sizes, and who has them open.
func TestRewrite(t *testing.T) {
	base, key := vfs.NewMem(), newKey(t)
	fs := newFS(t, base, newKey(t))
	var contents [][]byte
	for n, size := range []int{0, 1, 15, 16, 17, 4096, chunkBytes - 1, 3*chunkBytes + 5} {
		contents = append(contents, bytes.Repeat([]byte{byte(n + 1)}, size))
		writeFile(t, fs, string(rune('a'+n)), contents[n])
	}
	if err := fs.Rekey(key); err != nil {
		t.Fatal(err)
	}
	for n, content := range contents {
		name := string(rune('a' + n))
		open, err := fs.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if done, err := fs.Rewrite(name, "new"); err != nil || !done {
			t.Fatal(done, err)
		}
		p := make([]byte, len(content)+1)
		if got, _ := open.ReadAt(p, 0); got != len(content) || !bytes.Equal(p[:got], content) {
			t.Errorf("%d bytes: an open handle reads something else", len(content))
		}
		if err := open.Close(); err != nil {
			t.Fatal(err)
		}
		if got := readFile(t, newFS(t, base, key), name); !bytes.Equal(got, content) {
			t.Errorf("%d bytes: the new key reads something else", len(content))
		}
		if retired, _, err := fs.Retired(name); retired || err != nil {
			t.Errorf("%d bytes: retired %v, %v", len(content), retired, err)
		}
	}
	if n := len(fs.inodes); n != 0 {
		t.Errorf("%d files are still open", n)
	}
	if done, err := fs.Rewrite("missing", "new"); err != nil || !done {
		t.Errorf("a missing file: %v, %v", done, err)
	}
}

// TestRewriteBusy: what is written goes on being written where its name is.
func TestRewriteBusy(t *testing.T) {
	base, key := vfs.NewMem(), newKey(t)
	fs := newFS(t, base, newKey(t))
	write := func(f vfs.File, text string) {
		t.Helper()
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]vfs.File{}
	for name, category := range map[string]vfs.DiskWriteCategory{
		"table": "", "log": logCategory, "list": manifestCategory,
	} {
		f, err := fs.Create(name, category)
		if err != nil {
			t.Fatal(err)
		}
		write(f, "before ")
		files[name] = f
	}
	if err := fs.Rekey(key); err != nil {
		t.Fatal(err)
	}
	for name, f := range files {
		if done, err := fs.Rewrite(name, "new"); err != nil || done != (name == "list") {
			t.Errorf("%s: %v, %v", name, done, err)
		}
		write(f, "after")
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if done, err := fs.Rewrite(name, "new"); err != nil || !done {
			t.Errorf("%s when it is closed: %v, %v", name, done, err)
		}
		got := readFile(t, newFS(t, base, key), name)
		if string(bytes.TrimRight(got, "\x00")) != "before after" {
			t.Errorf("%s holds %q", name, got)
		}
	}
}

// TestRewriteOvertaken: a file that gets another name, or goes, while it is written anew, does not come
// back.
func TestRewriteOvertaken(t *testing.T) {
	base := vfs.NewMem()
	fs := newFS(t, base, newKey(t))
	for _, overtake := range []func() error{
		func() error { return fs.Remove("f") },
		func() error { return fs.Rename("f", "g") },
		func() error { _, err := fs.ReuseForWrite("f", "g", logCategory); return err },
	} {
		writeFile(t, fs, "f", []byte("content"))
		if err := fs.Rekey(newKey(t)); err != nil {
			t.Fatal(err)
		}
		r := rewrite{fs: fs, name: "f", temporary: "new"}
		if ok, err := r.begin(); err != nil || !ok {
			t.Fatal(ok, err)
		}
		if err := overtake(); err != nil {
			t.Fatal(err)
		}
		if err := r.run(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"f", "new"} {
			if _, err := base.Stat(name); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is there again: %v", name, err)
			}
		}
		fs.EndRekey()
	}
}

// unsyncedFS can't make names durable.
type unsyncedFS struct{ vfs.FS }

func (unsyncedFS) OpenDir(string) (vfs.File, error) { return nil, errorfs.ErrInjected }

// fullFS can't make files.
type fullFS struct{ vfs.FS }

func (fullFS) Create(string, vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, errorfs.ErrInjected
}

// TestRewriteFails: an error says whether the file may be another one after a crash.
func TestRewriteFails(t *testing.T) {
	for name, test := range map[string]struct {
		base func(vfs.FS) vfs.FS
		done bool
	}{
		"no room":                   {func(base vfs.FS) vfs.FS { return fullFS{base} }, false},
		"its name can't be durable": {func(base vfs.FS) vfs.FS { return unsyncedFS{base} }, true},
	} {
		base, old := vfs.NewMem(), newKey(t)
		writeFile(t, newFS(t, base, old), "f", []byte("content"))
		fs, err := NewRekeyed(test.base(base), newKey(t), old)
		if err != nil {
			t.Fatal(err)
		}
		if done, err := fs.Rewrite("f", "new"); !errors.Is(err, errorfs.ErrInjected) || done != test.done {
			t.Errorf("%s: %v, %v", name, done, err)
		}
		if got := readFile(t, fs, "f"); string(got) != "content" {
			t.Errorf("%s: it holds %q", name, got)
		}
	}
}
