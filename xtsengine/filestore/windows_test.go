package filestore

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// TestSplice overwrites a file's blocks at random: what is counted of extents in memory is what is there, and an overwrite
// of what had an extent of its own leaves the list where it is.
func TestSplice(t *testing.T) {
	r := newRig(t, 32<<20, func(o *Options) { o.JournalAge = time.Hour })
	id := r.file("a")
	const blocks = 256
	r.put(id, 0, noise(1, blocks*blockBytes))
	i := r.pin(id.Inode)
	defer r.unpin(i)
	list := func() extents {
		i.mu.RLock()
		defer i.mu.RUnlock()
		return i.windows[0]
	}
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 400 {
		file := random.Uint64N(blocks)
		r.write(id, file*blockBytes, noise(uint64(n), blockBytes), vfs.FileSync)
		if got, want := r.extents.Load(), list().weight(); got != want {
			t.Fatalf("after %d writes extents count %d, and weigh %d", n+1, got, want)
		}
	}
	r.write(id, 0, noise(9, blockBytes), vfs.FileSync)
	before := list()
	r.write(id, 0, noise(10, blockBytes), vfs.FileSync)
	if !list().is(before) {
		t.Error("an overwrite copied the list of extents")
	}
	r.check()
}

// TestRelieveIsBounded: where inodes that can't leave have filled the memory that extents share with them, a write does not look
// through all of them for extents to drop; where extents have filled it, through a few.
func TestRelieveIsBounded(t *testing.T) {
	caches := newCaches(t, 16<<20) // with one store, room for 512 inodes
	r := newRig(t, 64<<20, func(o *Options) { o.Caches, o.JournalAge = caches, time.Hour })
	var pinned []*inode
	for k := range 2000 {
		pinned = append(pinned, r.pin(r.file(strconv.Itoa(k)).Inode))
	}
	if !r.nodes.over() {
		t.Fatal("the memory is not full")
	}
	id := r.file("f")
	looked := func(writes int) uint64 {
		before := r.table.relieved.Load()
		for k := range writes {
			r.write(id, uint64(k)*blockBytes, []byte{1}, vfs.FileSync)
		}
		return r.table.relieved.Load() - before
	}
	if n := looked(20); n != 0 {
		t.Errorf("%d looks for extents where there are none", n)
	}
	r.addExtents(1 << 20) // as if others had them
	if n, most := looked(20), 20*2*(relieveSteps/(2000/shards)+2); n == 0 || n > uint64(most) {
		t.Errorf("%d looks for extents in 20 writes", n)
	}
	r.addExtents(-1 << 20)
	for _, i := range pinned {
		r.unpin(i)
	}
}
