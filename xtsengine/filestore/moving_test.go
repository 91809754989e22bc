package filestore

import (
	"testing"
	"time"
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
	for end := time.Now().Add(30 * time.Second); r.muchJournaled(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d blocks are still in the journal", r.journaled.Load())
		}
	}
	if moved := r.Stats().MigratedBlocks; moved < blocks/2 {
		t.Errorf("%d of %d blocks were moved", moved, blocks)
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
