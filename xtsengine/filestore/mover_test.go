package filestore

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// TestJournalKeepsOutOfTables writes small durable pieces, as many as a memtable has room for, and lets the mover
// take them to the volume: what Pebble writes out then is without their content.
func TestJournalKeepsOutOfTables(t *testing.T) {
	r := newRig(t, 64<<20, func(o *Options) { o.JournalAge = time.Hour })
	id := r.file("a")
	for range 5 { // Pebble's memtables double, one after the other, until they are as large as they are to be
		r.put(id, 0, []byte{1})
		r.flushMeta()
	}
	before := r.db.Metrics().Levels[0].TableBytesFlushed
	const blocks = 2 * minMoveBytes / blockBytes // half of the memtable's 4 MiB
	p := noise(1, blocks*blockBytes)
	for k := range blocks {
		off := k * 2 % blocks * blockBytes // no neighbour follows
		if k >= blocks/2 {
			off += blockBytes
		}
		r.put(id, uint64(off), p[off:off+blockBytes])
	}
	for end := time.Now().Add(30 * time.Second); r.Stats().MigratedBlocks < blocks/2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d blocks are still in the journal", r.journaled.Load())
		}
	}
	r.flushMeta()
	left := r.journaled.Load() * blockBytes
	if written := int64(r.db.Metrics().Levels[0].TableBytesFlushed - before); written > left+blocks*blockBytes/4 {
		t.Errorf("%d bytes of tables for %d bytes, of which %d are in the journal", written, len(p), left)
	}
	r.holds(id, p)
}

func (r *rig) flushMeta() {
	r.t.Helper()
	if err := r.db.Flush(); err != nil {
		r.t.Fatal(err)
	}
}

// TestMoverKeepsWhatCameMeanwhile changes a file while its blocks are being copied out of the journal: what was
// written, cut off and removed then is not undone by the switch to the copies.
func TestMoverKeepsWhatCameMeanwhile(t *testing.T) {
	const blocks = 8
	old, late := noise(1, blocks*blockBytes), noise(2, blockBytes)
	changes := map[string]struct {
		change func(r *rig, id vfs.FileID)
		want   []byte
		moved  int // blocks
	}{
		"nothing": {func(*rig, vfs.FileID) {}, old, blocks},
		"a block again": {func(r *rig, id vfs.FileID) { r.put(id, 3*blockBytes, late) },
			slices.Concat(old[:3*blockBytes], late, old[4*blockBytes:]), blocks - 1},
		"the same again": {func(r *rig, id vfs.FileID) { r.put(id, 0, old[:blockBytes]) }, old, blocks - 1},
		"shorter":        {func(r *rig, id vfs.FileID) { r.truncate(id, 5*blockBytes) }, old[:5*blockBytes], 5},
		"shorter and longer": {func(r *rig, id vfs.FileID) {
			r.truncate(id, 5*blockBytes)
			r.truncate(id, blocks*blockBytes)
		}, slices.Concat(old[:5*blockBytes], make([]byte, 3*blockBytes)), 5},
		"elsewhere": {func(r *rig, id vfs.FileID) { r.put(id, blocks*blockBytes, late) }, slices.Concat(old, late), blocks},
		"all from another file": {func(r *rig, id vfs.FileID) {
			other := r.file("other")
			r.put(other, 0, bytes.Repeat(late, blocks))
			r.cloneAll(other, id)
		}, bytes.Repeat(late, blocks), 0},
	}
	for name, c := range changes {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 32<<20, func(o *Options) { o.JournalAge = time.Hour })
			id := r.file("a")
			r.put(id, 0, old)
			i := r.pin(id.Inode)
			f, err := r.readJournaled(i, r.pickJournaled(i, blocks))
			if err != nil || len(f.files) != blocks {
				t.Fatalf("%v, read: %v", err, f)
			}
			if err := r.writeTogether([]*flush{f}); err != nil {
				t.Fatal(err)
			}
			c.change(r, id)
			r.holds(id, c.want)
			i.flushing.Lock()
			err = r.switchMove(f, true)
			i.flushing.Unlock()
			done, e := r.finishMove(f)
			if err = errors.Join(err, e); err != nil || done != (c.moved > 0) || len(f.files) != c.moved {
				t.Errorf("%v, done %v, %d blocks were moved, not %d", err, done, len(f.files), c.moved)
			}
			r.unpin(i)
			r.holds(id, c.want)
			r.check()
			r.reopen()
			r.holds(id, c.want)
		})
	}
}

// TestMoverSwitchesInPieces moves more of one file than is switched at a time. What was moved is in the cache.
func TestMoverSwitchesInPieces(t *testing.T) {
	r := newRig(t, 32<<20, func(o *Options) { o.JournalAge = time.Hour })
	id := r.file("a")
	const blocks = 3*switchBlocks + 5
	want := noise(1, blocks*blockBytes)
	for file := range blocks {
		r.write(id, uint64(file)*blockBytes, want[file*blockBytes:(file+1)*blockBytes], vfs.FileSync)
	}
	i := r.pin(id.Inode)
	flushes, err := r.readMoves([]*inode{i})
	if err != nil || len(flushes) != 4 {
		t.Fatalf("%v, %d pieces", err, len(flushes))
	}
	read := 0
	for _, f := range flushes {
		read += len(f.files)
		if len(f.files) > switchBlocks {
			t.Errorf("a piece of %d blocks", len(f.files))
		}
		r.unseal(f)
	}
	if read != blocks {
		t.Errorf("%d blocks were read", read)
	}
	if moved, err := r.move([]*inode{i}); err != nil || moved != 4 || r.Stats().MigratedBlocks != blocks {
		t.Errorf("%v, %d pieces, %d blocks were moved", err, moved, r.Stats().MigratedBlocks)
	}
	if at := i.windows[0][0].start; !r.cache.has(at) {
		t.Error("a block that was moved is not in the cache")
	}
	r.holds(id, want)
	r.check()
}

// TestMoverOfRemovedFile removes a file while its blocks are being copied: their copies are free again.
func TestMoverOfRemovedFile(t *testing.T) {
	r := newRig(t, 32<<20, func(o *Options) { o.JournalAge = time.Hour })
	id := r.file("a")
	r.put(id, 0, noise(1, 8*blockBytes))
	i := r.pin(id.Inode)
	f, err := r.readJournaled(i, r.pickJournaled(i, 8))
	if err == nil {
		err = r.writeTogether([]*flush{f})
	}
	if err != nil {
		t.Fatal(err)
	}
	var out vfs.Attr
	if _, err := r.Remove(bg, nil, r.Root(), "a", &out); err != nil {
		t.Fatal(err)
	}
	i.flushing.Lock()
	err = r.switchMove(f, true)
	i.flushing.Unlock()
	if done, e := r.finishMove(f); err != nil || e != nil || done {
		t.Errorf("%v, %v, done %v", err, e, done)
	}
	r.unpin(i)
	if got := r.report(); got.VolumeBlocks != 0 {
		t.Errorf("%d blocks are left of nothing", got.VolumeBlocks)
	}
}

// TestMissingJournalBlock loses a block that the metadata say is in the journal: the mover says so, and moves
// nothing.
func TestMissingJournalBlock(t *testing.T) {
	r := newRig(t, 32<<20, func(o *Options) { o.JournalAge = time.Hour })
	id := r.file("a")
	p := noise(1, 4*blockBytes)
	r.put(id, 0, p)
	i := r.pin(id.Inode)
	key := pairKey(tableJournal, id.Inode, 2)
	b := r.db.NewBatch()
	del(b, key)
	if err := r.store(b); err != nil {
		t.Fatal(err)
	}
	if _, err := r.move([]*inode{i}); !errors.Is(err, vfs.ErrCorrupt) {
		t.Errorf("moved: %v", err)
	}
	b = r.db.NewBatch()
	set(b, key, p[2*blockBytes:3*blockBytes])
	if err := r.store(b); err != nil {
		t.Fatal(err)
	}
	r.holds(id, p)
}

// TestTurns lets one of those who commit have the turn: when it ends, one of the others takes the next, and the
// rest find that theirs is done.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns turns
		var stable atomic.Uint64
		var taken, shared atomic.Int32
		var all sync.WaitGroup
		commit := func(number, makes uint64) {
			if !turns.take(func() bool { return stable.Load() >= number }) {
				shared.Add(1)
				return
			}
			taken.Add(1)
			time.Sleep(time.Second) // the flush
			stable.Store(makes)
			turns.give()
		}
		all.Go(func() { commit(1, 1) })
		synctest.Wait()
		for number := range uint64(10) {
			all.Go(func() { commit(number+2, 11) })
		}
		all.Wait()
		if taken.Load() != 2 || shared.Load() != 9 {
			t.Errorf("%d flushes, %d shared one", taken.Load(), shared.Load())
		}
	})
}

// TestTurnsAfterFailure: who waited for a flush that failed does one itself.
func TestTurnsAfterFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var turns turns
		var tries atomic.Int32
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if turns.take(func() bool { return false }) {
					tries.Add(1)
					time.Sleep(time.Second)
					turns.give()
				}
			})
		}
		all.Wait()
		if tries.Load() != 5 {
			t.Errorf("%d tries", tries.Load())
		}
	})
}

func (r *rig) truncate(id vfs.FileID, size uint64) {
	r.t.Helper()
	if err := r.SetAttr(bg, nil, id, &vfs.SetAttr{Mask: vfs.SetSize, Size: size}, new(vfs.Attr)); err != nil {
		r.t.Fatal(err)
	}
}

// TestWritesGoOnBesideTheMover writes to a file, durably, while the mover waits for the device.
func TestWritesGoOnBesideTheMover(t *testing.T) {
	d := &heldDevice{Device: memdev.New(32 << 20), arrived: make(chan struct{}), proceed: make(chan struct{})}
	r := newRigOn(t, d, pebblevfs.NewMem(), func(o *Options) { o.JournalAge = time.Hour })
	id := r.file("a")
	p := noise(1, 8*blockBytes)
	r.put(id, 0, p)
	d.hold = true
	moved := make(chan error, 1)
	go func() {
		_, err := r.move([]*inode{r.pin(id.Inode)})
		moved <- err
	}()
	<-d.arrived
	written := make(chan error, 1)
	late := noise(2, blockBytes)
	go func() {
		_, err := r.Write(bg, nil, false, id, 2*blockBytes, late, vfs.FileSync)
		written <- err
	}()
	select {
	case err := <-written:
		if err != nil {
			t.Error(err)
		}
		copy(p[2*blockBytes:], late)
		close(d.proceed)
	case <-time.After(20 * time.Second):
		t.Error("the write waits for the mover")
		close(d.proceed)
		<-written
		copy(p[2*blockBytes:], late)
	}
	if err := <-moved; err != nil {
		t.Error(err)
	}
	r.holds(id, p)
	r.reopen()
	r.holds(id, p)
}
