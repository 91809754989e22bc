package filestore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// TestAccount checks who is over when: the first half is for whoever comes, the second is divided.
func TestAccount(t *testing.T) {
	a := account{limitBytes: 100}
	a.stores.Store(5) // 10 are everybody's own
	for _, test := range []struct {
		used, own  int64
		over, high bool
	}{
		{used: 20, own: 20},
		{used: 26, own: 26, high: true},
		{used: 26, own: 5},
		{used: 26, own: 6, high: true},
		{used: 50, own: 50, high: true},
		{used: 51, own: 51, over: true, high: true},
		{used: 51, own: 11, over: true, high: true},
		{used: 99, own: 10, high: true},
		{used: 99, own: 0},
	} {
		a.used.Store(test.used)
		if over, high := a.over(test.own), a.high(test.own); over != test.over || high != test.high {
			t.Errorf("%d of %d: over %v, high %v", test.own, test.used, over, high)
		}
	}
	var none account
	none.stores.Store(1)
	none.used.Store(1 << 60)
	if none.over(1<<60) || none.high(1<<60) {
		t.Error("an account without a limit has one")
	}
}

// TestTake has several take what is enough for one at a time.
func TestTake(t *testing.T) {
	var a account
	var h held
	h.open(&a)
	var having, most atomic.Int64
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 200_000 {
				if !h.take(3, 5) {
					continue
				}
				if n := having.Add(1); n > 1 {
					most.Store(n)
				}
				having.Add(-1)
				h.add(-3)
			}
		})
	}
	wait.Wait()
	if n := most.Load(); n != 0 || h.load() != 0 || a.used.Load() != 0 {
		t.Errorf("%d had it at once, %d bytes are held", n, h.load())
	}
	a.limitBytes = 10
	h.add(6)
	if h.take(1, 100) {
		t.Error("who is over has taken more")
	}
}

// TestSharedDirty lets one store's flusher stand still. Its writers wait, and no others do; when it goes on,
// they finish.
func TestSharedDirty(t *testing.T) {
	caches := newCaches(t, 32<<20)
	share := func(o *Options) { o.Caches = caches }
	slow, quick := newRig(t, 64<<20, share), newRig(t, 64<<20, share)
	const piece = (directStreamBlocks - 1) * blockBytes // what is gathered in memory
	fill := func(r *rig, id vfs.FileID) {
		for n := range uint64(512) {
			r.write(id, n*piece, noise(n, piece), vfs.Unstable)
		}
	}
	slowID, quickID := slow.file("f"), quick.file("f")

	slow.background.pause.Lock()
	var wait sync.WaitGroup
	wait.Go(func() { fill(slow, slowID) })
	slow.eventually("writers wait", func() bool { return slow.Stats().Throttled > 0 })
	for range 4 {
		fill(quick, quickID)
	}
	if used := caches.dirty.used.Load(); used > caches.dirty.limitBytes+2*piece {
		t.Errorf("%d bytes of unstable data, the limit is %d", used, caches.dirty.limitBytes)
	}
	slow.background.pause.Unlock()
	wait.Wait()
	for _, r := range []*rig{slow, quick} {
		r.close()
	}
	for name, a := range map[string]*account{"dirty": &caches.dirty, "unstable": &caches.unstable, "nodes": &caches.nodes} {
		if used, stores := a.used.Load(), a.stores.Load(); used != 0 || stores != 0 {
			t.Errorf("%s: %d bytes of %d stores are left", name, used, stores)
		}
	}
	if want := int64(32<<20) / memTablesShare; caches.memTable != want {
		t.Errorf("%d bytes for memtables, want %d", caches.memTable, want)
	}
}

// TestSharedNodes uses more files and extents than there is memory for, in two stores: they stay within it,
// though one of them has all of its files pinned.
func TestSharedNodes(t *testing.T) {
	caches := newCaches(t, 16<<20)
	share := func(o *Options) { o.Caches, o.JournalBytes = caches, 1<<20 }
	pinned, free := newRig(t, 256<<20, share), newRig(t, 256<<20, share)
	p := noise(1, blockBytes)
	for n := range 120 {
		for k, r := range []*rig{pinned, free} {
			id := r.file(fmt.Sprint(n))
			if k == 0 {
				if err := r.Hold(id); err != nil {
					t.Fatal(err)
				}
			}
			for b := range uint64(256) { // each of them an extent
				r.write(id, 2*b*blockBytes, p, vfs.Unstable)
			}
			if err := r.Commit(bg, id, 0, 0); err != nil {
				t.Fatal(err)
			}
			if _, _, err := r.Read(bg, nil, id, 0, make([]byte, blockBytes)); err != nil {
				t.Fatal(err)
			}
		}
	}
	slack := int64(2 * (windowBlocks*extentBytes + inodeBytes))
	if used := caches.nodes.used.Load(); used > caches.nodes.limitBytes+slack {
		t.Errorf("%d bytes of inodes and extents, the limit is %d", used, caches.nodes.limitBytes)
	}
	if used := caches.nodes.used.Load(); used < caches.nodes.limitBytes/4 {
		t.Errorf("%d bytes of inodes and extents only, the limit is %d", used, caches.nodes.limitBytes)
	}
}
