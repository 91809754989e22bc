package cryptfs

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// options make a small store that flushes, compacts and changes its log often.
func options(fs vfs.FS) *pebble.Options {
	return &pebble.Options{
		FS: fs, MemTableSize: 64 << 10, L0CompactionThreshold: 2, Logger: quiet{},
		FormatMajorVersion: pebble.FormatNewest,
	}
}

// quiet is a logger that says nothing and does not end the process.
type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(string, ...any)             {}
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func mustOpen(t testing.TB, fs vfs.FS, dir string) *pebble.DB {
	t.Helper()
	db, err := pebble.Open(dir, options(fs))
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return db
}

const marker = "known-plaintext"

// fill writes n random batches of keys, values and deletions to db and to want.
func fill(t testing.TB, r *rand.Rand, db *pebble.DB, want map[string]string, n int) {
	t.Helper()
	for range n {
		batch := db.NewBatch()
		for range 1 + r.IntN(8) {
			key := fmt.Sprintf("%s-key-%04d", marker, r.IntN(500))
			if r.IntN(6) == 0 {
				delete(want, key)
				if err := batch.Delete([]byte(key), nil); err != nil {
					t.Fatal(err)
				}
				continue
			}
			value := strings.Repeat(fmt.Sprintf("%s-value-%d ", marker, r.Uint32()), r.IntN(40))
			want[key] = value
			if err := batch.Set([]byte(key), []byte(value), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := batch.Commit(pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
}

// contents reads all of db.
func contents(t testing.TB, db *pebble.DB) map[string]string {
	t.Helper()
	got := map[string]string{}
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for it.First(); it.Valid(); it.Next() {
		got[string(it.Key())] = string(it.Value())
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return got
}

func compare(t testing.TB, got, want map[string]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d keys, want %d", len(got), len(want))
	}
	for k, v := range want {
		if got[k] != v {
			t.Fatalf("%s holds %.40q, want %.40q", k, got[k], v)
		}
	}
}

// TestPebble writes, closes, opens and compares, in memory and on disk, and then looks for
// plaintext in every file.
func TestPebble(t *testing.T) {
	for name, base := range map[string]vfs.FS{"memory": vfs.NewMem(), "disk": vfs.Default} {
		t.Run(name, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 0))
			fs := newFS(t, base, newKey(t))
			dir := filepath.Join(t.TempDir(), "db")
			want := map[string]string{}
			for range 3 {
				db := mustOpen(t, fs, dir)
				compare(t, contents(t, db), want)
				fill(t, r, db, want, 300)
				compare(t, contents(t, db), want)
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if len(fs.inodes) != 0 {
				t.Errorf("Pebble's Close left %d inodes", len(fs.inodes))
			}
			searchPlaintext(t, base, dir)
		})
	}
}

// searchPlaintext fails if a stored file holds something of what fill wrote, or of what Pebble
// writes by itself.
func searchPlaintext(t *testing.T, base vfs.FS, dir string) {
	t.Helper()
	names, err := base.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, name := range names {
		stored := readFile(t, base, base.PathJoin(dir, name))
		for _, s := range []string{marker, "-key-", "-value-", "pebble", "leveldb", "rocksdb", "comparer", "[Options]"} {
			if bytes.Contains(stored, []byte(s)) {
				t.Errorf("%s holds %q", name, s)
			}
		}
		kinds[strings.TrimLeft(strings.TrimLeft(filepath.Ext(name)+name, "0123456789"), ".")[:3]]++
	}
	if len(kinds) < 4 {
		t.Errorf("only %v were searched: no tables or no log", kinds)
	}
}

// TestPebbleCrash takes the store from under Pebble at random moments, with random parts of what was
// not synced, and opens what is left. Each committed batch was synced, so all of them must be there.
func TestPebbleCrash(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	key := newKey(t)
	base := vfs.NewCrashableMem()
	want := map[string]string{}
	reused := 0
	for round := range 60 {
		o := options(newFS(t, base, key))
		o.EventListener = &pebble.EventListener{WALCreated: func(info pebble.WALCreateInfo) {
			if info.RecycledFileNum != 0 {
				reused++
			}
		}}
		db, err := pebble.Open("db", o)
		if err != nil {
			t.Fatalf("round %d: open: %v", round, err)
		}
		compare(t, contents(t, db), want)
		fill(t, r, db, want, r.IntN([]int{30, 30, 250}[r.IntN(3)]))
		after := base.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
		if err := db.Close(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		base = after
	}
	if reused == 0 {
		t.Error("no log was reused")
	}
}

// TestPebbleCrashUnsynced crashes in the middle of commits that were not synced: what is left must
// be a prefix of them, behind all that was synced.
func TestPebbleCrashUnsynced(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	key := newKey(t)
	for range 40 {
		base := vfs.NewCrashableMem()
		db := mustOpen(t, newFS(t, base, key), "db")
		synced, n := 0, 20+r.IntN(400)
		for i := range n {
			sync := pebble.NoSync
			if r.IntN(15) == 0 {
				sync, synced = pebble.Sync, i+1
			}
			value := strings.Repeat("v", r.IntN(300))
			if err := db.Set(fmt.Appendf(nil, "%06d", i), []byte(value), sync); err != nil {
				t.Fatal(err)
			}
		}
		after := base.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = mustOpen(t, newFS(t, after, key), "db")
		kept := len(contents(t, db))
		for i := range kept {
			if _, c, err := db.Get(fmt.Appendf(nil, "%06d", i)); err != nil {
				t.Fatalf("%d of %d commits are left, but not number %d: %v", kept, n, i, err)
			} else if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if kept < synced {
			t.Fatalf("%d commits are left, %d were synced", kept, synced)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// snapshot returns every file below dir with its bytes.
func snapshot(t *testing.T, base vfs.FS, dir string) string {
	t.Helper()
	names, err := base.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(names)
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "%s %q\n", name, readFile(t, base, base.PathJoin(dir, name)))
	}
	return b.String()
}

// TestPebbleRefuses opens a store with the wrong key, and one of a newer format: the error says so,
// and not a byte of the store has changed.
func TestPebbleRefuses(t *testing.T) {
	base, key := vfs.NewMem(), newKey(t)
	db := mustOpen(t, newFS(t, base, key), "db")
	fill(t, rand.New(rand.NewPCG(1, 2)), db, map[string]string{}, 200)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	t.Run("wrong key", func(t *testing.T) {
		expectRefused(t, base, newKey(t), ErrWrongKey)
	})
	names, err := base.List("db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		stored := readFile(t, base, "db/"+name)
		if len(stored) < headerBytes {
			continue
		}
		stored[11]++
		writeFile(t, base, "db/"+name, stored)
	}
	t.Run("newer format", func(t *testing.T) { expectRefused(t, base, key, ErrNewerFormat) })
}

func expectRefused(t *testing.T, base vfs.FS, key *keyring.DataKey, want error) {
	t.Helper()
	before := snapshot(t, base, "db")
	db, err := pebble.Open("db", options(newFS(t, base, key)))
	if err == nil {
		_ = db.Close()
	}
	if !errors.Is(err, want) {
		t.Fatalf("open: %v, want %v", err, want)
	}
	if snapshot(t, base, "db") != before {
		t.Fatal("the refused store was written to")
	}
}

// TestPebbleCheckpoint copies a store while it is written to, which reads files that grow.
func TestPebbleCheckpoint(t *testing.T) {
	fs := newFS(t, vfs.NewMem(), newKey(t))
	db := mustOpen(t, fs, "db")
	r := rand.New(rand.NewPCG(3, 4))
	want := map[string]string{}
	fill(t, r, db, want, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 2000 {
			if err := db.Set(fmt.Appendf(nil, "later-%d", i), []byte("x"), pebble.NoSync); err != nil {
				t.Error(err)
			}
		}
	}()
	for i := range 10 {
		dir := fmt.Sprintf("checkpoint-%d", i)
		if err := db.Checkpoint(dir); err != nil {
			t.Fatal(err)
		}
		copied := mustOpen(t, fs, dir)
		got := contents(t, copied)
		for k := range got {
			if strings.HasPrefix(k, "later-") {
				delete(got, k)
			}
		}
		compare(t, got, want)
		if err := copied.Close(); err != nil {
			t.Fatal(err)
		}
	}
	<-done
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
