package filestore

import (
	"bytes"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// newCaches makes caches that are closed after the test, whose stores have to be closed by then.
func newCaches(t *testing.T, bytes int64) *Caches {
	t.Helper()
	caches, err := NewCaches(bytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caches.Close(); err != nil {
			t.Error(err)
		}
	})
	return caches
}

// TestSharedCaches lets two stores share caches: together they keep to one bound, each reads its own
// content, though the blocks have the same numbers, and what one had is gone when it is closed.
func TestSharedCaches(t *testing.T) {
	const bound = 8 << 20
	caches := newCaches(t, bound)
	share := func(o *Options) { o.Caches, o.MemTableBytes = caches, 1<<20 }
	var rigs [2]*rig
	var ids [2]vfs.FileID
	var want [2][]byte
	for k := range rigs {
		rigs[k] = newRig(t, 64<<20, share)
		ids[k] = rigs[k].file("f")
		want[k] = noise(uint64(k), 7<<20-k*(6<<20)) // the second one fits
		rigs[k].write(ids[k], 0, want[k], vfs.FileSync)
	}
	for range 12 {
		for k, r := range rigs {
			got := make([]byte, 100<<10)
			for at := 0; at+len(got) < len(want[k]); at += len(got) {
				if _, _, err := r.Read(bg, nil, ids[k], uint64(at), got); err != nil || !bytes.Equal(got, want[k][at:at+len(got)]) {
					t.Fatalf("store %d at %d: %v", k, at, err)
				}
			}
		}
		for k, r := range rigs { // blocks change hands between the two counts otherwise
			r.waitAhead(ids[k])
		}
		a, b := rigs[0].Stats().CachedBlocks, rigs[1].Stats().CachedBlocks
		if limit := ContentBytes(bound); (a+b)*blockBytes > limit {
			t.Fatalf("%d and %d blocks, more than %d bytes", a, b, limit)
		}
	}
	a := rigs[1].Stats().CachedBlocks
	rigs[0].close()
	if n := caches.content.count(rigs[1].cache.owner); a == 0 || n != a {
		t.Errorf("the one has %d blocks, and had %d before the other was closed", n, a)
	}
	total := 0
	for k := range caches.content.shards {
		for _, run := range caches.content.shards[k].index {
			total += run.used
		}
	}
	if int64(total) != a {
		t.Errorf("%d blocks are in the cache, of which %d are in use", total, a)
	}
	if caches, err := NewCaches(minCacheBytes - 1); err == nil {
		caches.Close()
		t.Error("caches of too little memory")
	}
}
