package filestore

import (
	"math/rand/v2"
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
