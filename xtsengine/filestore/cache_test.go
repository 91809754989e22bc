package filestore

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// newCache returns a cache of limit blocks.
func newCache(t *testing.T, limit int64) ownCache {
	c, err := contentOf(&Options{CacheBytes: limit * blockBytes * metaCacheShare / (metaCacheShare - 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// TestContentCache does random things to a cache and checks that it never gives what was not put, and
// keeps to its limit.
func TestContentCache(t *testing.T) {
	const limit = 4 * cacheShards
	c := newCache(t, limit)
	rng := rand.New(rand.NewPCG(1, 2))
	model := map[volume.Block]byte{} // what a block holds, if it was put since it was freed
	hits := 0
	got := make([]byte, blockBytes)
	for range 50_000 {
		b := volume.Block(rng.IntN(300))
		switch rng.IntN(4) {
		case 0:
			if _, ok := model[b]; !ok {
				model[b] = byte(rng.Uint32())
			}
			c.put(b, bytes.Repeat([]byte{model[b]}, blockBytes))
		case 1:
			n := uint32(1 + rng.IntN(3))
			c.drop([]volume.Run{{Start: b, Count: n}})
			for k := range n {
				delete(model, b+volume.Block(k))
			}
		default:
			skip := rng.IntN(blockBytes)
			if c.get(b, skip, got[:blockBytes-skip]) == 0 {
				continue
			}
			hits++
			if want, ok := model[b]; !ok || got[0] != want || got[blockBytes-skip-1] != want {
				t.Fatalf("block %d: got %d, want %d, there %v", b, got[0], want, ok)
			}
		}
		if n := c.count(); n > limit {
			t.Fatalf("%d blocks, limit %d", n, limit)
		}
	}
	if hits < 1000 {
		t.Errorf("%d hits only", hits)
	}
	if c.wipe(); c.count() != 0 {
		t.Error("a wiped cache keeps something")
	}
	for k := range c.shared.shards {
		if len(trim(c.shared.shards[k].memory)) != 0 {
			t.Fatal("a wiped cache keeps plaintext")
		}
	}
}

// TestCacheRuns puts and reads many blocks at a time, in a cache in huge pages, and checks that a read
// ends at the first block that is not there.
func TestCacheRuns(t *testing.T) {
	c := newCache(t, minMappedCache/blockBytes)
	if c.shared.mapped == nil {
		t.Fatal("not in huge pages")
	}
	want := noise(1, 5*cacheRun*blockBytes)
	const first = 7
	c.put(first, want)
	for _, hole := range []int{2*cacheRun + 5, 1, cacheRun - first} {
		got := make([]byte, len(want))
		if n := c.get(first, 100, got[100:]); n != len(want)-100 || !bytes.Equal(got[100:], want[100:]) {
			t.Fatalf("%d bytes of %d", n, len(want)-100)
		}
		c.drop([]volume.Run{{Start: first + volume.Block(hole), Count: 1}})
		if n := c.get(first, 0, got); n != hole*blockBytes {
			t.Errorf("%d bytes before the hole at block %d", n, hole)
		}
		if n := c.get(first+volume.Block(hole), 0, got); n != 0 {
			t.Errorf("%d bytes of a block that was dropped", n)
		}
		c.put(first, want) // only what is missing
		if n := c.count(); n != int64(len(want)/blockBytes) {
			t.Errorf("%d blocks", n)
		}
	}
	if room := c.shared.room.Load(); room != (minMappedCache-int64(len(want)))/blockBytes {
		t.Errorf("room for %d blocks", room)
	}
}

// TestAbsent compares how many blocks a cache lacks, from each one on, with what it says of them one by one.
func TestAbsent(t *testing.T) {
	const blocks = 3 * cacheRun
	c := newCache(t, 64*cacheShards)
	rng := rand.New(rand.NewPCG(3, 4))
	for b := range volume.Block(blocks) {
		if rng.IntN(6) == 0 {
			c.put(b, make([]byte, blockBytes))
		}
	}
	for b := range volume.Block(blocks) {
		for limit := range blocks {
			n := c.absent(b, limit)
			for k := range n {
				if c.has(b + volume.Block(k)) {
					t.Fatalf("%d blocks from %d on are absent, it says, but %d is there", n, b, b+volume.Block(k))
				}
			}
			next := b + volume.Block(n)
			if n > limit || n < limit && next%cacheRun != 0 && !c.has(next) {
				t.Fatalf("%d of %d blocks from %d on are absent, it says, and so is the next one", n, limit, b)
			}
		}
	}
}

// TestScan checks that reading a lot once leaves what is read again and again.
func TestScan(t *testing.T) {
	const limit = 16 * cacheShards
	c := newCache(t, limit)
	p := make([]byte, blockBytes)
	read := func(b volume.Block) bool {
		if c.get(b, 0, p) > 0 {
			return true
		}
		c.put(b, p)
		return false
	}
	hot := func(n volume.Block) volume.Block { return n % (limit / 4) * cacheRun } // over all shards
	for range 3 {
		for n := range volume.Block(limit / 4) {
			read(hot(n))
		}
	}
	hits := 0
	for n := range volume.Block(20 * limit) {
		read(1_000_000 + n)
		if read(hot(n)) {
			hits++
		}
	}
	if hits < 19*limit {
		t.Errorf("%d of %d reads of hot blocks hit during a scan", hits, 20*limit)
	}
}

// TestCachedReads checks that a second read does not reach the device, in pieces and whole, and that
// what is overwritten is not read from the cache.
func TestCachedReads(t *testing.T) {
	r := newRig(t, 32<<20, nil)
	id := r.file("f")
	want := noise(1, 300<<10)
	r.write(id, 0, want, vfs.FileSync)
	r.reopen()
	r.wantContent(id, want)
	before := r.vol.Stats().Reads
	r.wantContent(id, want)
	for _, c := range [][2]int{{0, 1}, {4095, 2}, {5000, 9000}, {4096, 8192}} {
		p := make([]byte, c[1])
		if _, _, err := r.Read(bg, nil, id, uint64(c[0]), p); err != nil || !bytes.Equal(p, want[c[0]:c[0]+c[1]]) {
			t.Errorf("read of %d bytes at %d (%v)", c[1], c[0], err)
		}
	}
	if got := r.vol.Stats().Reads - before; got != 0 {
		t.Errorf("%d reads of the device", got)
	}
	for n := range 5 {
		copy(want[50<<10:], noise(uint64(n), 200<<10))
		r.write(id, 50<<10, want[50<<10:250<<10], vfs.FileSync)
		r.wantContent(id, want)
	}
}

// TestHitRates reads blocks that are wanted with a Zipf distribution, with and without somebody beside who reads others once
// each, and a file of one and a half times the cache again and again (docs/adr/0016-content-cache.md).
func TestHitRates(t *testing.T) {
	const limit = 16384
	c := newCache(t, limit)
	p := make([]byte, blockBytes)
	rng := rand.New(rand.NewPCG(1, 2))
	zipf := rand.NewZipf(rng, 1.1, 10, 200_000)
	read := func(name uint64) float64 {
		b := volume.Block(name * 0x9e3779b97f4a7c15 >> 20) // far from its neighbours
		if c.get(b, 0, p) > 0 {
			return 1
		}
		c.put(b, p)
		return 0
	}
	rate := func(least float64, what string, n int, one func(k int) float64) {
		t.Helper()
		hits := 0.0
		for k := range n {
			hits += one(k)
		}
		if hits /= float64(n); hits < least {
			t.Errorf("%s: %.3f, not %.3f", what, hits, least)
		} else {
			t.Logf("%s: %.3f", what, hits)
		}
	}
	const n = 100_000
	rate(0.71, "by themselves", n, func(int) float64 { return read(zipf.Uint64()) })
	rate(0.73, "beside a scan", n, func(k int) float64 {
		read(1<<30 + uint64(k))
		return read(zipf.Uint64())
	})
	ahead := make([]byte, cacheRun*blockBytes)
	rate(0.73, "beside a scan that is read ahead", n, func(k int) float64 {
		if k%cacheRun == 0 {
			c.putAhead(1<<40+volume.Block(k), ahead)
		}
		c.get(1<<40+volume.Block(k), 0, p)
		return read(zipf.Uint64())
	})
	rate(0.12, "again and again", 6*limit*3/2, func(k int) float64 { return read(1<<50 + uint64(k%(limit*3/2))) })
}
