package filestore

import "testing"

// TestPinBeforeCreate pins a number before there is a file, as who comes with an identity that was guessed, or from a later state
// of the store: when that inode leaves the table, the one of the file made meanwhile stays.
func TestPinBeforeCreate(t *testing.T) {
	r := newRig(t, 16<<20, func(o *Options) { o.CachedInodes = shards })
	number := r.inodes.next.Load() + 1
	early := r.pin(number)
	if id := r.file("f"); id.Inode != number {
		t.Fatalf("the file is inode %d, not %d", id.Inode, number)
	}
	r.unpin(early)
	i := r.pin(number)
	defer r.unpin(i)
	for k := range uint64(10) { // in the same shard, which has room for one
		r.unpin(r.pin(number + (k+1)*shards))
	}
	again := r.pin(number)
	defer r.unpin(again)
	if again != i {
		t.Error("there are two inodes of one file")
	}
}
