package filestore

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// TestLargeDirectory lists 20,000 entries, 1,000,000 in a long run, while others create, remove and rename: every name that
// was there all the time is listed exactly once, and nothing that never was.
func TestLargeDirectory(t *testing.T) {
	entries := 20_000
	switch {
	case raceEnabled:
		entries = 5_000 // Pebble checks itself then, and takes a hundred times as long
	case long():
		entries = 1_000_000
	}
	r := newRig(t, 32<<20, func(o *Options) { o.CacheBytes, o.MemTableBytes = 64<<20, 16<<20 })
	fillDir(t, r, entries)
	if n := listAll(t, r, false, nil); n != entries {
		t.Fatalf("%d entries are listed", n)
	}
	const stable = 4 // one name in so many changes
	var stop atomic.Bool
	var wait sync.WaitGroup
	for g := range 3 {
		wait.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for n := 0; n < 10_000 && !stop.Load(); n++ {
				name := fmt.Sprintf("file-%06d", 1+rng.IntN(entries/stable)*stable)
				other := fmt.Sprintf("new-%d-%d", g, n)
				var err error
				switch rng.IntN(3) {
				case 0:
					err = r.remove(name)
				case 1:
					_, _, err = r.Rename(bg, nil, r.Root(), name, r.Root(), other, new(vfs.Attr))
				default:
					r.file(other)
				}
				if err != nil && !errors.Is(err, vfs.ErrNotFound) {
					t.Errorf("change: %v", err)
				}
			}
		})
	}
	for _, withAttr := range []bool{false, true} {
		seen := map[string]int{}
		listAll(t, r, withAttr, func(e *vfs.DirEntry) {
			seen[e.Name]++
			if withAttr && (e.Attr.Mode != 0o644 || e.Attr.Links != 1) {
				t.Errorf("%s: %+v", e.Name, e.Attr)
			}
		})
		for n := 1; n <= entries; n++ {
			if name := fmt.Sprintf("file-%06d", n); n%stable != 1 && seen[name] != 1 {
				t.Fatalf("%s is listed %d times", name, seen[name])
			}
		}
	}
	stop.Store(true)
	wait.Wait()
	model := map[string]bool{}
	listAll(t, r, false, func(e *vfs.DirEntry) {
		if model[e.Name] {
			t.Errorf("%s twice", e.Name)
		}
		model[e.Name] = true
		if len(model)%16 != 0 {
			return
		}
		if err := r.Lookup(bg, nil, r.Root(), e.Name, new(vfs.Attr)); err != nil {
			t.Errorf("%s is listed and not there: %v", e.Name, err)
		}
	})
	removeAll(t, r, slices.Collect(maps.Keys(model)))
}

// removeAll removes the names, which are all of the root directory, by sixteen callers at a time. Nothing is left of them, nor
// does the listing look for long. It returns how long the removing took.
func removeAll(t *testing.T, r *rig, names []string) (spent time.Duration) {
	t.Helper()
	start := time.Now()
	var wait sync.WaitGroup
	for part := range slices.Chunk(names, (len(names)+15)/16) {
		wait.Go(func() {
			for _, name := range part {
				if err := r.remove(name); err != nil {
					t.Errorf("remove %s: %v", name, err)
					return
				}
			}
		})
	}
	wait.Wait()
	spent = time.Since(start)
	r.reaper.wait()
	start = time.Now()
	if n := listAll(t, r, true, nil); n != 0 {
		t.Errorf("%d entries are listed", n)
	}
	t.Logf("removed %d files in %v, the empty directory is listed in %v", len(names), spent, time.Since(start))
	var a vfs.Attr
	if err := r.GetAttr(bg, r.Root(), &a); err != nil || a.Links != 2 {
		t.Errorf("the directory has %d links: %v", a.Links, err)
	}
	r.check()
	r.reopen()
	if n := listAll(t, r, true, nil); n != 0 {
		t.Errorf("%d entries are listed after a restart", n)
	}
	return spent
}

// TestFragmented makes a file of thousands of extents, cuts it, removes it, and looks that every
// block is free again: extents beyond a number go by range and in the background.
func TestFragmented(t *testing.T) {
	r := newRig(t, 100<<20, nil)
	id := r.file("f")
	const blocks = 3 * pointDeletes
	for n := range uint64(blocks) { // every other block: no two are one extent
		r.write(id, n*2*blockBytes, noise(n, blockBytes), vfs.Unstable)
		if n%100 == 99 {
			if err := r.Commit(bg, id, 0, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := r.Commit(bg, id, 0, 0); err != nil {
		t.Fatal(err)
	}
	var a vfs.Attr
	for _, keep := range []uint64{blocks - 10, blocks/4 + 1, 7} {
		set := vfs.SetAttr{Mask: vfs.SetSize, Size: keep*2*blockBytes - 100}
		if err := r.SetAttr(bg, nil, id, &set, &a); err != nil {
			t.Fatal(err)
		}
		if a.Used != keep*blockBytes {
			t.Errorf("%d bytes are used, want %d blocks", a.Used, keep)
		}
		r.check()
		p := make([]byte, blockBytes)
		for n := range keep {
			if _, _, err := r.Read(bg, nil, id, n*2*blockBytes, p); err != nil || p[50] != noise(n, blockBytes)[50] {
				t.Fatalf("block %d: %v", n, err)
			}
		}
	}
	for n := range uint64(blocks) {
		r.write(id, (blocks-n)*2*blockBytes, noise(n, blockBytes), vfs.Unstable)
		if n%500 == 499 {
			if err := r.Commit(bg, id, 0, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := r.Hold(id); err != nil {
		t.Fatal(err)
	}
	if err := r.remove("f"); err != nil {
		t.Fatal(err)
	}
	r.Drop(id)
	r.reaper.wait()
	r.check()
	if used := r.usedBlocks(); used != 0 {
		t.Errorf("%d blocks are in use", used)
	}
}

// usedBlocks is what StatFS says is in use.
func (r *rig) usedBlocks() uint64 {
	r.t.Helper()
	var stat vfs.StatFS
	if err := r.StatFS(bg, &stat); err != nil {
		r.t.Fatal(err)
	}
	return stat.UsedBytes / blockBytes
}

// TestUnstableGoesAtOnce: an unstable write of 64 KiB is not gathered in memory, a smaller one is; and it is content like any
// other when it is committed.
func TestUnstableGoesAtOnce(t *testing.T) {
	r := newRig(t, 32<<20, nil)
	for _, c := range []struct{ blocks, gathered int }{{directUnstableBlocks - 1, directUnstableBlocks - 1}, {directUnstableBlocks, 0}} {
		id := r.file(fmt.Sprint(c.blocks))
		content := noise(uint64(c.blocks), c.blocks*blockBytes)
		r.write(id, 0, content, vfs.Unstable)
		if got := r.Stats().DirtyBytes; got != int64(c.gathered*blockBytes) {
			t.Errorf("of %d blocks %d bytes are in memory, want %d", c.blocks, got, c.gathered*blockBytes)
		}
		if err := r.Commit(bg, id, 0, 0); err != nil {
			t.Fatal(err)
		}
		r.reopen()
		r.wantContent(id, content)
	}
}

// TestStreamGoesAtOnce: behind 64 KiB of unstable content writes of 16 KiB are not gathered in memory either, until it is committed;
// smaller ones are.
func TestStreamGoesAtOnce(t *testing.T) {
	r := newRig(t, 32<<20, nil)
	id := r.file("f")
	var content []byte
	write := func(blocks int, gathers bool) {
		t.Helper()
		before := r.Stats().DirtyBytes
		p := noise(uint64(len(content)), blocks*blockBytes)
		r.write(id, uint64(len(content)), p, vfs.Unstable)
		content = append(content, p...)
		want := int64(0)
		if gathers {
			want = int64(len(p))
		}
		if got := r.Stats().DirtyBytes - before; got != want {
			t.Errorf("of %d blocks %d bytes are in memory, want %d", blocks, got, want)
		}
	}
	for range 2 {
		for n := 0; n < directUnstableBlocks; n += directStreamBlocks {
			write(directStreamBlocks, true)
		}
		write(directStreamBlocks, false)
		write(directStreamBlocks-1, true)
		write(directStreamBlocks+1, false)
		if err := r.Commit(bg, id, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	r.reopen()
	r.wantContent(id, content)
}

// TestJournal follows small commits from the journal to the volume.
func TestJournal(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(1e9, 0)
	r := newRig(t, 32<<20, func(o *Options) {
		o.Clock = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	small, medium, large := r.file("small"), r.file("medium"), r.file("large")
	sizes := map[vfs.FileID]int{small: inlineBytes, medium: journalCommitBlocks * blockBytes, large: (journalCommitBlocks + 1) * blockBytes}
	syncs := r.vol.Stats().Syncs
	for id, size := range sizes {
		r.write(id, 0, noise(uint64(size), size), vfs.FileSync)
	}
	s := r.Stats()
	if s.InlineBlocks != 1 || s.JournaledBlocks != journalCommitBlocks || s.PlacedBlocks != journalCommitBlocks+1 {
		t.Errorf("after the commits: %+v", s)
	}
	if got := r.vol.Stats().Syncs - syncs; got != 1 {
		t.Errorf("the volume was flushed %d times", got)
	}
	r.reopen()
	if got := r.Stats().JournalBytes; got != journalCommitBlocks*blockBytes {
		t.Errorf("%d bytes are in the journal after a restart", got)
	}
	for id, size := range sizes {
		r.wantContent(id, noise(uint64(size), size))
	}
	mu.Lock()
	now = now.Add(time.Minute)
	mu.Unlock()
	r.eventually("the journal is empty and the move over", func() bool {
		s := r.Stats()
		return s.JournalBytes == 0 && s.MigratedBlocks > 0
	})
	if got := r.Stats().MigratedBlocks; got != journalCommitBlocks {
		t.Errorf("%d blocks were moved", got)
	}
	if used := r.usedBlocks(); used != 2*journalCommitBlocks+1 {
		t.Errorf("%d blocks of the volume are in use", used)
	}
	for id, size := range sizes {
		r.wantContent(id, noise(uint64(size), size))
	}
	r.check()
}

// TestEviction works on more files than the cache holds.
func TestEviction(t *testing.T) {
	r := newRig(t, 64<<20, func(o *Options) {
		o.CachedInodes, o.CachedExtents = shards, windowBlocks
		o.JournalBytes = 1 << 20 // files with blocks in the journal stay
	})
	var ids []vfs.FileID
	for n := range 1000 {
		id := r.file(fmt.Sprint(n))
		r.write(id, 0, noise(uint64(n), 20000), vfs.FileSync)
		ids = append(ids, id)
	}
	if got := r.Stats().CachedInodes; got > 3*shards {
		t.Errorf("%d inodes are in memory", got)
	}
	for _, n := range rand.Perm(len(ids)) {
		r.wantContent(ids[n], noise(uint64(n), 20000))
	}
	wide := r.file("wide")
	for n := range uint64(200) {
		r.write(wide, n*windowBlocks*blockBytes, noise(n, 100), vfs.Unstable)
	}
	for n := range uint64(200) {
		p := make([]byte, 100)
		if _, _, err := r.Read(bg, nil, wide, n*windowBlocks*blockBytes, p); err != nil || string(p) != string(noise(n, 100)) {
			t.Fatalf("window %d: %v", n, err)
		}
	}
	if got := r.Stats().CachedExtents; got > 2*windowBlocks {
		t.Errorf("%d extents are in memory", got)
	}
}

// TestParallelFile lets many goroutines write, read, cut and commit one file, each in its own part.
func TestParallelFile(t *testing.T) {
	r := newRig(t, 64<<20, func(o *Options) { o.DirtyBytes, o.UnstableBytes, o.JournalBytes = 1<<20, 1<<20, 1<<20 })
	id := r.file("f")
	const part = 1 << 20
	var wait sync.WaitGroup
	for g := range uint64(6) {
		wait.Go(func() {
			rng := rand.New(rand.NewPCG(g, 3))
			model := make([]byte, part)
			r.write(id, g*part, model, vfs.Unstable)
			for n := range uint64(150) {
				offset := rng.IntN(part - 1)
				length := 1 + rng.IntN(min(part-offset, 1+rng.IntN(100<<10)))
				p := noise(g*1000+n, length)
				copy(model[offset:], p)
				r.write(id, g*part+uint64(offset), p, vfs.Stability(rng.IntN(10)/8*2))
				if rng.IntN(10) == 0 {
					if err := r.Commit(bg, id, 0, 0); err != nil {
						t.Errorf("commit: %v", err)
					}
				}
				if rng.IntN(20) == 0 { // grows only
					set := vfs.SetAttr{Mask: vfs.SetSize, Size: 6*part + n + 1}
					if err := r.SetAttr(bg, nil, id, &set, new(vfs.Attr)); err != nil {
						t.Errorf("size: %v", err)
					}
				}
				got := make([]byte, length)
				if _, _, err := r.Read(bg, nil, id, g*part+uint64(offset), got); err != nil || string(got) != string(p) {
					t.Errorf("goroutine %d, step %d: read back something else (%v)", g, n, err)
					return
				}
			}
			got := make([]byte, part)
			if _, _, err := r.Read(bg, nil, id, g*part, got); err != nil || string(got) != string(model) {
				t.Errorf("goroutine %d: part differs at the end (%v)", g, err)
			}
		})
	}
	wait.Wait()
	r.check()
}
