package filestore

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// TestReapStops lets the reaper begin with a large file when the store is closed: it stops after a piece.
func TestReapStops(t *testing.T) {
	const number, blocks = 999, 3 * reapBatch
	r := newRig(t, 64<<20, nil)
	runs, err := r.pool.allocate(nil, blocks)
	if err != nil {
		t.Fatal(err)
	}
	b, file := r.db.NewBatch(), uint64(0)
	for _, run := range runs {
		for k := range run.Count {
			x := extent{file: file, count: 1, start: skip(run, k).Start}
			set(b, pairKey(tableExtent, number, file), appendExtent(nil, &x))
			file += 2
		}
	}
	if err := r.store(b); err != nil {
		t.Fatal(err)
	}
	from, to := pairKey(tableExtent, number, 0), pairKey(tableExtent, number+1, 0)
	it, err := r.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	close(stop)
	before := r.Stats().FreedBlocks
	r.clearRest(&grave{rest: it}, stop)
	if n := r.Stats().FreedBlocks - before; n != reapBatch {
		t.Errorf("%d blocks are freed after the stop", n)
	}
	b = r.db.NewBatch()
	delRange(b, from, to)
	if err := r.store(b); err != nil {
		t.Fatal(err)
	}
	if err := r.Store.Close(); err != nil { // what is left is used by nobody, until the next start
		t.Fatal(err)
	}
	r.drop()
	r.open()
}

// TestKillFails has the removal of a file fail that has many extents, at its extended attributes: nothing of it is left that the
// metadata store would complain of when it is closed.
func TestKillFails(t *testing.T) {
	r := newRig(t, 16<<20, nil)
	id := r.file("f")
	for k := range uint64(pointDeletes + 10) {
		r.write(id, 2*k*blockBytes, noise(k, blockBytes), vfs.Unstable)
	}
	if err := r.Commit(bg, id, 0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := r.SetXattr(bg, nil, id, "x", nil, vfs.XattrEither); err != nil {
		t.Fatal(err)
	}
	r.direct(xattrKey(id.Inode, "y"), []byte{1})
	if err := r.remove("f"); !errors.Is(err, vfs.ErrCorrupt) {
		t.Errorf("with a damaged attribute: %v", err)
	}
	r.direct(xattrKey(id.Inode, "y"), nil)
	r.reopen()
	if err := r.remove("f"); err != nil {
		t.Error(err)
	}
}
