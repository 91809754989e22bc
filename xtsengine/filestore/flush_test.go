package filestore

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// gatheringDevice holds up each sync until gathered says that it may go on.
type gatheringDevice struct {
	*memdev.Device
	gathered atomic.Pointer[func() bool] // nil: at once
	late     atomic.Bool                 // a sync waited in vain
}

func (d *gatheringDevice) Sync() error {
	if gathered := d.gathered.Load(); gathered != nil {
		for end := time.Now().Add(10 * time.Second); !(*gathered)() && !d.late.Load(); time.Sleep(50 * time.Microsecond) {
			if time.Now().After(end) {
				d.late.Store(true)
			}
		}
	}
	return d.Device.Sync()
}

// TestCommittersShareFlushes lets many write to a file durably, again and again, on a device that ends no flush
// before all of them have a write that is not durable yet. So whoever's write is must not wait for anybody
// else's flush, and two flushes in a row carry a write of each.
func TestCommittersShareFlushes(t *testing.T) {
	const writers, rounds = 16, 25
	d := &gatheringDevice{Device: memdev.New(32 << 20)}
	r := newRigOn(t, d, pebblevfs.NewMem(), nil)
	id := r.file("a")
	// What is reserved is written in its place: each flush needs the device, and nothing else does.
	if err := r.Allocate(bg, nil, id, 0, writers*rounds*blockBytes, new(vfs.Attr)); err != nil {
		t.Fatal(err)
	}
	i := r.pin(id.Inode)
	defer r.unpin(i)
	var active atomic.Int64
	active.Store(writers)
	gathered := func() bool {
		i.mu.RLock()
		defer i.mu.RUnlock()
		return int64(i.writes-i.stable.Load()) >= active.Load()
	}
	d.gathered.Store(&gathered)
	before := r.Stats().Flushes
	var wait sync.WaitGroup
	for w := range uint64(writers) {
		wait.Go(func() {
			defer active.Add(-1)
			for round := range uint64(rounds) {
				if _, err := r.Write(bg, nil, false, id, (w*rounds+round)*blockBytes, noise(w, blockBytes), vfs.FileSync); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	d.gathered.Store(nil)
	if d.late.Load() {
		t.Error("somebody whose write is durable waits for another's flush")
	}
	if n := r.Stats().Flushes - before; n > 2*rounds+2 {
		t.Errorf("%d flushes for %d writes of each of %d writers", n, rounds, writers)
	}
}
