package filestore

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// waitAhead returns when nothing of a file is being read ahead.
func (r *rig) waitAhead(id vfs.FileID) {
	i := r.pin(id.Inode)
	defer r.unpin(i)
	i.ahead.wait()
}

// readAll reads a file in calls of step bytes, and says how many blocks had been read ahead by then.
func (r *rig) readAll(t *testing.T, id vfs.FileID, want []byte, step int) uint64 {
	t.Helper()
	before := r.Stats().AheadBlocks
	got := make([]byte, step)
	for at := 0; at < len(want); at += step {
		n, eof, err := r.Read(bg, nil, id, uint64(at), got)
		if err != nil || !bytes.Equal(got[:n], want[at:min(at+step, len(want))]) || eof != (at+n == len(want)) {
			t.Fatalf("read of %d at %d: %d bytes, end %v, %v", step, at, n, eof, err)
		}
	}
	r.waitAhead(id)
	return r.Stats().AheadBlocks - before
}

// uncached forgets what the cache has of the store.
func (r *rig) uncached() { r.cache.wipe() }

// TestReadAhead reads a file in sequence, with whatever length of calls: most of it has been read ahead, no block
// twice, and what is in the cache is not read again.
func TestReadAhead(t *testing.T) {
	r := newRig(t, 64<<20, func(o *Options) { o.CacheBytes = 32 << 20 })
	id := r.file("f")
	want := noise(1, 9<<20+100)
	r.write(id, 0, want, vfs.FileSync)
	blocks := uint64(len(want)/blockBytes + 1)
	for _, step := range []int{4 << 10, 100_000, 128 << 10, 1 << 20, 4 << 20} {
		t.Run(strconv.Itoa(step), func(t *testing.T) {
			r.uncached()
			// What the first calls read is not, nor what a call that goes beyond an order reads by itself.
			first := uint64(max(2*step, aheadAfter) / blockBytes)
			if n := r.readAll(t, id, want, step); n > blocks || step <= maxAheadBytes && n < (blocks-first)*3/4 || n == 0 {
				t.Errorf("%d of %d blocks were read ahead", n, blocks)
			}
			if n := r.readAll(t, id, want, step); n > first+1 {
				t.Errorf("%d blocks were read ahead that had been read", n)
			}
		})
	}
}

// TestNoReadAhead: nothing is read ahead of one who reads here and there, or all of a file at once, or of several
// who read at the same time.
func TestNoReadAhead(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	id := r.file("f")
	r.write(id, 0, noise(1, 8<<20), vfs.FileSync)
	r.uncached()
	p := make([]byte, 16<<10)
	for k := range 400 {
		if _, _, err := r.Read(bg, nil, id, uint64(k*337%500)*(16<<10), p); err != nil {
			t.Fatal(err)
		}
	}
	small := r.file("small")
	r.write(small, 0, noise(2, 1<<20), vfs.FileSync)
	if _, _, err := r.Read(bg, nil, small, 0, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	other := r.file("other")
	r.write(other, 0, noise(3, 4<<20), vfs.FileSync)
	i := r.pin(other.Inode)
	i.ahead.reading.Add(aheadReaders)
	for at := uint64(0); at < 4<<20; at += 256 << 10 {
		if _, _, err := r.Read(bg, nil, other, at, make([]byte, 256<<10)); err != nil {
			t.Fatal(err)
		}
	}
	i.ahead.reading.Add(-aheadReaders)
	r.unpin(i)
	for _, f := range []vfs.FileID{id, small, other} {
		r.waitAhead(f)
	}
	if n := r.Stats().AheadBlocks; n != 0 {
		t.Errorf("%d blocks were read ahead", n)
	}
}

// TestReadAheadOfChanges overwrites, cuts and removes a file that is being read in sequence: what is read is always what
// was written last.
func TestReadAheadOfChanges(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	id := r.file("f")
	want := noise(1, 6<<20)
	r.write(id, 0, want, vfs.FileSync)
	got := make([]byte, 128<<10)
	for round := range 5 {
		r.uncached()
		for at := 0; at < len(want); at += len(got) {
			if at%(512<<10) == 0 { // just where it is being read ahead
				patch := noise(uint64(round*1000+at), 300<<10)
				lo := min(at+256<<10, len(want)-len(patch))
				r.write(id, uint64(lo), patch, vfs.FileSync)
				copy(want[lo:], patch)
			}
			if _, _, err := r.Read(bg, nil, id, uint64(at), got); err != nil || !bytes.Equal(got, want[at:at+len(got)]) {
				t.Fatalf("round %d at %d: %v", round, at, err)
			}
		}
	}
	if r.Stats().AheadBlocks == 0 {
		t.Error("nothing was read ahead")
	}
}

// TestScanAhead: a scan that is read ahead leaves what is read again and again, and its blocks that were read go first;
// one that is scanned often gets in.
func TestScanAhead(t *testing.T) {
	const limit = 16 * cacheShards * cacheRun
	c := newCache(t, limit)
	p := make([]byte, blockBytes)
	const hot = limit / 2
	for range 3 {
		for b := range volume.Block(hot) {
			if c.get(b, 0, p) == 0 {
				c.put(b, p)
			}
		}
	}
	for b := volume.Block(hot); b < 8*limit; b += cacheRun {
		c.putAhead(b, make([]byte, cacheRun*blockBytes))
		for k := range volume.Block(cacheRun) {
			if c.get(b+k, 0, p) == 0 {
				t.Fatalf("block %d was read ahead and is gone", b+k)
			}
		}
	}
	left := 0
	for b := range volume.Block(hot) {
		if c.has(b) {
			left++
		}
	}
	if left < hot*9/10 {
		t.Errorf("%d of %d hot blocks have survived a scan", left, hot)
	}
	if n := c.count(); n > limit {
		t.Errorf("%d blocks, limit %d", n, limit)
	}
}

// TestReadAheadLeavesNothing: memory that something was read ahead into is cleared before it is used for anything else.
func TestReadAheadLeavesNothing(t *testing.T) {
	r := newRig(t, 64<<20, func(o *Options) { o.CacheBytes = 32 << 20 })
	id := r.file("f")
	r.write(id, 0, bytes.Repeat([]byte("plaintext"), 1<<19), vfs.FileSync)
	r.uncached()
	i := r.pin(id.Inode)
	defer r.unpin(i)
	before := r.Stats().AheadBlocks
	i.ahead.busy.Lock()
	i.refs.Add(1)
	r.doAhead(aheadOrder{i: i, length: minAheadBytes})
	if r.Stats().AheadBlocks == before {
		t.Fatal("nothing was read ahead")
	}
	buf := blockdev.Alloc(minAheadBytes)
	defer blockdev.Free(buf)
	if bytes.Contains(buf, []byte("plaintext")) {
		t.Error("what was read is left in memory that is given out")
	}
}
