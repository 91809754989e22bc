package filestore

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// newStoppingRig makes a store whose metadata can be made to fail, and to lose what is not durable.
func newStoppingRig(t *testing.T) (*rig, *heldFS, *pebblevfs.MemFS) {
	mem := pebblevfs.NewCrashableMem()
	fs := &heldFS{FS: mem}
	return newRigOn(t, memdev.New(32<<20), fs, nil), fs, mem
}

// failLog lets everything that is written to the metadata fail from now on, and stops the store by it.
func (r *rig) failLog(fs *heldFS) {
	r.t.Helper()
	fs.mu.Lock()
	fs.fail = errMedium
	fs.mu.Unlock()
	var out vfs.CreateResult
	if err := r.Create(bg, nil, r.Root(), "failing", &vfs.CreateRequest{Kind: vfs.Regular}, &out); !errors.Is(err, vfs.ErrIO) {
		r.t.Fatalf("create: %v", err)
	}
}

// heal ends that, for the next start.
func (fs *heldFS) heal() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.fail = nil
}

// TestCommitBehindFailure lets a Commit wait for a flush that fails: what that flush took is not in
// memory as unstable data any more, and not stable either.
func TestCommitBehindFailure(t *testing.T) {
	r, fs, _ := newStoppingRig(t)
	id := r.file("f")
	r.write(id, 0, noise(1, 5000), vfs.Unstable)
	i := r.pin(id.Inode)
	defer r.unpin(i)
	fs.mu.Lock()
	fs.fail = errMedium
	fs.mu.Unlock()
	for range 2 { // what Commit does when it gets the lock
		if err := r.commit(i, 1); !errors.Is(err, vfs.ErrIO) {
			t.Errorf("commit: %v", err)
		}
	}
	fs.heal()
	if err := r.Store.Close(); !errors.Is(err, vfs.ErrIO) {
		t.Errorf("close: %v", err)
	}
	r.drop()
}

// TestFrozenAfterFailure lets the log fail, and then what Pebble would do next: it must not store
// anything that relies on what it was not told has failed. Power fails, and everything stable is there.
func TestFrozenAfterFailure(t *testing.T) {
	r, fs, mem := newStoppingRig(t)
	want := noise(1, 5000)
	id := r.file("f")
	r.write(id, 0, want, vfs.FileSync)
	r.failLog(fs)
	fs.heal() // what comes next would work
	flushed, err := r.db.AsyncFlush()
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-flushed:
		t.Error("a table was stored after the failure")
	case <-time.After(20 * failureTime):
	}
	after := mem.CrashClone(pebblevfs.CrashCloneCfg{UnsyncedDataPercent: 0, RNG: rand.New(rand.NewPCG(1, 1))})
	if err := r.Store.Close(); !errors.Is(err, vfs.ErrIO) {
		t.Errorf("close: %v", err)
	}
	r.drop()
	r.opts.Meta = after
	r.open()
	r.wantContent(id, want)
}

// TestStoppedKeepsBlocks stops a store between applying a batch and looking whether that worked: the
// batch may be durable, so that its blocks are not given to others.
func TestStoppedKeepsBlocks(t *testing.T) {
	r, _, _ := newStoppingRig(t)
	id := r.file("f")
	r.write(id, 0, noise(1, 40*blockBytes), vfs.Unstable)
	r.write(id, 40*blockBytes, noise(2, 20), vfs.Unstable)
	i := r.pin(id.Inode)
	defer r.unpin(i)
	f, err := r.seal(i)
	if err != nil || f == nil {
		t.Fatalf("seal: %v, %v", f, err)
	}
	if err := r.placeBlocks(f); err != nil {
		t.Fatal(err)
	}
	before, freed := r.space.Stat(), r.Stats().FreedBlocks
	held := r.pool.counts().held
	_ = r.fail(vfs.ErrIO)
	placed := f.layer.placed.runs(nil)
	r.unseal(f)
	r.free(placed)
	if now := r.pool.counts().held; now != held || r.space.Stat() != before || r.Stats().FreedBlocks != freed {
		t.Errorf("blocks were given back: %d in the pool, %d before; %+v, %+v before", now, held, r.space.Stat(), before)
	}
	if err := r.Store.Close(); !errors.Is(err, vfs.ErrIO) {
		t.Errorf("close: %v", err)
	}
	r.drop()
	r.open()
}
