package filestore

import (
	"fmt"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// smallFile is one of several, and what it should hold.
type smallFile struct {
	id   vfs.FileID
	want []byte
}

// smallFiles makes files of up to three blocks by logged writes.
func (r *intentRig) smallFiles(n int) (list []smallFile) {
	r.t.Helper()
	for k := range n {
		f := smallFile{r.file(fmt.Sprint("small", k)), make([]byte, (k%3+1)*blockBytes)}
		r.overwrite(f.id, f.want, 0, len(f.want), true)
		list = append(list, f)
	}
	return list
}

func (r *intentRig) hold(list []smallFile) {
	r.t.Helper()
	for _, f := range list {
		r.holds(f.id, f.want)
	}
}

// TestTogether flushes many small files with one write of the volume and one flush of it, beside one that is so small that it
// stays with the metadata, and one that is large. A crash loses nothing, and carries nothing out again.
func TestTogether(t *testing.T) {
	r := newIntentRig(t, 64<<20, func(o *Options) { o.IntentBytes = 4 << 20 })
	largeID, large := r.large("f", 100)
	for file := range 20 {
		r.overwrite(largeID, large, file*blockBytes, blockBytes, true)
	}
	list := r.smallFiles(30)
	tiny := smallFile{r.file("tiny"), make([]byte, 100)}
	r.overwrite(tiny.id, tiny.want, 0, 100, true)
	list = append(list, tiny)

	before, syncs := r.Stats(), r.w.dev.Counters().Syncs
	if err := r.flushLogged(); err != nil {
		t.Fatal(err)
	}
	after := r.Stats()
	if n := after.Flushes - before.Flushes; n != 32 {
		t.Errorf("%d files were flushed, not 32", n)
	}
	if n := after.PlacedBlocks - before.PlacedBlocks; n != 20+60 {
		t.Errorf("%d blocks went to the volume, not 80", n)
	}
	if after.JournaledBlocks != before.JournaledBlocks || after.InlineBlocks != before.InlineBlocks+1 {
		t.Errorf("blocks in the metadata store: %+v, before %+v", after, before)
	}
	if n := r.w.dev.Counters().Syncs - syncs; n != 2 { // for the small ones, and for the large one
		t.Errorf("the volume was flushed %d times", n)
	}
	if after.DirtyBytes != 0 {
		t.Errorf("%d bytes are unstable", after.DirtyBytes)
	}
	if n := after.CachedBlocks - before.CachedBlocks; n != 20+60 {
		t.Errorf("%d blocks are in the cache that were not", n)
	}
	for _, f := range list {
		i := r.pin(f.id.Inode)
		if i.stable.Load() != i.writes {
			t.Errorf("%d writes, stable up to %d", i.writes, i.stable.Load())
		}
		r.unpin(i)
	}
	r.hold(list)
	r.crash()
	r.hold(list)
	r.holds(largeID, large)
}

// TestTogetherBusy: a file that somebody else flushes or changes is left to the caller, and is flushed when it is free. So is
// one that is removed.
func TestTogetherBusy(t *testing.T) {
	r := newIntentRig(t, 64<<20, func(o *Options) { o.IntentBytes = 4 << 20 })
	r.openLog()
	list := r.smallFiles(4)
	var pinned []*inode
	for _, f := range list {
		pinned = append(pinned, r.pin(f.id.Inode))
	}
	pinned[1].flushing.Lock()
	if !pinned[2].turns.try() || pinned[2].turns.try() {
		t.Fatal("a turn is not taken once")
	}
	if err := r.remove("small3"); err != nil {
		t.Fatal(err)
	}
	list = list[:3]
	flushes := r.Stats().Flushes
	rest := r.flushTogether(pinned)
	if len(rest) != 3 || rest[0] != pinned[1] || rest[1] != pinned[2] || rest[2] != pinned[3] {
		t.Fatalf("%d files are left", len(rest))
	}
	if n := r.Stats().Flushes - flushes; n != 1 {
		t.Errorf("%d files were flushed", n)
	}
	rest[0].flushing.Unlock()
	rest[1].turns.give()
	if err := r.flushEach(rest); err != nil {
		t.Fatal(err)
	}
	if n := r.Stats().DirtyBytes; n != 0 {
		t.Errorf("%d bytes are unstable at the end", n)
	}
	r.crash()
	r.hold(list)
}

// TestTogetherFails lets the write of a group fail: its files are flushed one by one, into the journal, and what was taken of the
// volume for them is given back.
func TestTogetherFails(t *testing.T) {
	r := newIntentRig(t, 64<<20, func(o *Options) { o.IntentBytes = 4 << 20 })
	r.openLog()
	list := r.smallFiles(12)
	before := r.Stats()
	r.w.dev.Inject(memdev.Fault{Call: memdev.Write, Err: errMedium, Times: -1})
	if err := r.flushLogged(); err != nil {
		t.Fatal(err)
	}
	after := r.Stats()
	if n := after.FlushFailures - before.FlushFailures; n != 12 {
		t.Errorf("%d flushes failed", n)
	}
	if n := after.JournaledBlocks - before.JournaledBlocks; n != 24 || after.DirtyBytes != 0 {
		t.Errorf("%d blocks are in the journal, %d bytes unstable", n, after.DirtyBytes)
	}
	r.hold(list)
	r.w.dev.ClearFaults()
	r.check()
	r.crash()
	r.hold(list)
}
