package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// slowDevice keeps large writes waiting while it is held, and says what came in which order.
type slowDevice struct {
	*memdev.Device
	gate sync.RWMutex // held alone: large writes wait

	writes atomic.Int64 // calls of them, and
	stored atomic.Int64 // those that have ended
	early  atomic.Int64 // calls of Sync that began while one was under way
}

func (d *slowDevice) Write(batch []blockdev.Request) error {
	bytes := 0
	for k := range batch {
		bytes += len(batch[k].Buf)
	}
	if bytes < directUnstableBlocks*blockBytes { // of the volume's own
		return d.Device.Write(batch)
	}
	d.writes.Add(1)
	defer d.stored.Add(1)
	d.gate.RLock()
	defer d.gate.RUnlock()
	return d.Device.Write(batch)
}

func (d *slowDevice) Sync() error {
	if d.stored.Load() < d.writes.Load() {
		d.early.Add(1)
	}
	return d.Device.Sync()
}

// newBehindRig makes a store on a slow device. The background flushes nothing by itself.
func newBehindRig(t *testing.T) (*rig, *slowDevice) {
	t.Helper()
	dev := &slowDevice{Device: memdev.New(160 << 20)}
	return newRigOn(t, dev, pebblevfs.NewMem(), nil), dev
}

// later runs f, which is to wait for the device, and returns what waits for its end.
func (d *slowDevice) later(t *testing.T, f func() error) (ends func()) {
	t.Helper()
	var ended atomic.Bool
	done := make(chan error, 1)
	go func() {
		err := f()
		ended.Store(true)
		done <- err
	}()
	return func() {
		t.Helper()
		if ended.Load() {
			t.Error("it did not wait for what is yet to be stored")
		}
		d.gate.Unlock()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestWriteBehind: an unstable write returns before the device has it. Who reads it, or commits it, waits, and the device is
// not flushed before it has all.
func TestWriteBehind(t *testing.T) {
	for name, use := range map[string]func(r *rig, id vfs.FileID, want []byte) error{
		"commit": func(r *rig, id vfs.FileID, _ []byte) error { return r.Commit(bg, id, 0, 0) },
		"stable write": func(r *rig, id vfs.FileID, want []byte) error {
			_, err := r.Write(bg, nil, false, id, 0, want[:10], vfs.FileSync)
			return err
		},
		"read": func(r *rig, id vfs.FileID, want []byte) error {
			got := make([]byte, 5000)
			n, _, err := r.Read(bg, nil, id, 100<<10, got)
			if err == nil && !bytes.Equal(got[:n], want[100<<10:][:5000]) {
				err = fmt.Errorf("read %d bytes that were not written", n)
			}
			return err
		},
		"write of a piece": func(r *rig, id vfs.FileID, want []byte) error {
			_, err := r.Write(bg, nil, false, id, 5, want[5:10], vfs.Unstable)
			return err
		},
		"clone": func(r *rig, id vfs.FileID, want []byte) error {
			to := r.file("clone")
			if err := r.Clone(bg, nil, id, to, 0, 0, uint64(len(want)), new(vfs.Attr)); err != nil {
				return err
			}
			r.wantContent(to, want)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, dev := newBehindRig(t)
			id, want := r.file("f"), noise(1, 300<<10)
			dev.gate.Lock()
			r.write(id, 0, want, vfs.Unstable)
			if n := r.Stats().BehindBytes; n != int64(len(want)) {
				t.Errorf("%d bytes are yet to be stored", n)
			}
			ends := dev.later(t, func() error { return use(r, id, want) })
			r.eventually("the device is given it", func() bool { return dev.writes.Load() > 0 })
			ends()
			r.behind.settle()
			if n := r.Stats().BehindBytes; n != 0 {
				t.Errorf("%d bytes are yet to be stored at the end", n)
			}
			if n := dev.early.Load(); n != 0 {
				t.Errorf("the device was flushed %d times before it had all", n)
			}
			r.wantContent(id, want)
			r.reopen()
			r.wantContent(id, want)
		})
	}
}

// TestFreedBehind gives blocks back that are yet to be stored: nobody gets them before.
func TestFreedBehind(t *testing.T) {
	const size = 64 << 10
	for name, free := range map[string]func(r *rig, id vfs.FileID) []byte{
		"overwrite": func(r *rig, id vfs.FileID) []byte {
			want := noise(2, 3*size)
			for k := range 8 {
				r.write(id, 0, noise(uint64(k), 3*size), vfs.Unstable)
			}
			r.write(id, 0, want, vfs.Unstable)
			return want
		},
		"overwrite of parts": func(r *rig, id vfs.FileID) []byte {
			want := noise(1, 3*size)
			for k := uint64(0); k < 2*size; k += 8 << 10 {
				part := noise(k, size)
				r.write(id, k, part, vfs.Unstable)
				copy(want[k:], part)
			}
			r.write(id, 9000, want[9000:9100], vfs.FileSync)
			return want
		},
		"truncate": func(r *rig, id vfs.FileID) []byte {
			r.truncate(id, 0)
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, dev := newBehindRig(t)
			id := r.file("f")
			r.write(id, 0, noise(9, 100), vfs.FileSync)
			dev.gate.Lock()
			var want []byte
			ends := dev.later(t, func() error {
				r.write(id, 0, noise(1, 3*size), vfs.Unstable)
				want = free(r, id)
				return r.Commit(bg, id, 0, 0)
			})
			r.eventually("the device is given something", func() bool { return dev.writes.Load() > 0 })
			ends()
			r.wantContent(id, want)
			r.check()
			r.reopen()
			r.wantContent(id, want)
			if err := r.remove("f"); err != nil {
				t.Fatal(err)
			}
			r.reopen()
			if used := r.space.Stat().Used - r.pool.counts().held; used != 0 {
				t.Errorf("%d blocks are in use", used)
			}
		})
	}
}

// TestHeldBehind looks at blocks that an overwrite has replaced while they were yet to be stored: they count as used until they are.
func TestHeldBehind(t *testing.T) {
	r, dev := newBehindRig(t)
	id := r.file("f")
	const blocks = 32
	r.write(id, 0, noise(1, blocks*blockBytes), vfs.FileSync)
	before := r.usedBlocks()
	dev.gate.Lock()
	for k := range uint64(4) {
		r.write(id, 0, noise(k, blocks*blockBytes), vfs.Unstable)
	}
	if n := r.behind.heldBlocks(); n != 3*blocks {
		t.Errorf("%d blocks are held", n)
	}
	if n := r.usedBlocks() - before; n != 4*blocks {
		t.Errorf("%d blocks more are in use while the device has none of them", n)
	}
	dev.gate.Unlock()
	r.behind.settle()
	if n := r.behind.heldBlocks(); n != 0 {
		t.Errorf("%d blocks are held at the end", n)
	}
	if n := r.usedBlocks() - before; n != blocks {
		t.Errorf("%d blocks more are in use when all are stored", n)
	}
}

// TestBehindFailure fails the device under what an unstable write has left: the commit says so, the data stays, other files have
// nothing of it, and when the device works again all is stable.
func TestBehindFailure(t *testing.T) {
	r, dev := newBehindRig(t)
	bad, good, other := r.file("bad"), r.file("good"), r.file("other")
	first, second := noise(1, 200<<10), noise(2, 200<<10)
	r.write(bad, 0, first, vfs.Unstable)
	r.behind.settle()
	before := dev.writes.Load()
	dev.gate.Lock()
	for k := range uint64(behindWorkers) {
		r.write(other, k<<20, first, vfs.Unstable)
		r.eventually("each is before the device alone", func() bool { return dev.writes.Load() == before+int64(k)+1 })
	}
	r.write(bad, 100<<10, first[100<<10:], vfs.Unstable)
	r.write(good, 0, second, vfs.Unstable)
	at := int64(r.pinned(t, bad.Inode).active.placed[len(r.pinned(t, bad.Inode).active.placed)-1].start) * blockBytes
	dev.Inject(memdev.Fault{Call: memdev.Write, Times: -1, Offset: at, Length: blockBytes, Err: errors.New("broken")})
	dev.gate.Unlock()
	r.behind.settle()
	if n := r.Stats().BehindBytes; n != 100<<10 {
		t.Errorf("%d bytes are yet to be stored of what failed", n)
	}
	if err := r.Commit(bg, good, 0, 0); err != nil {
		t.Errorf("commit of the other file: %v", err)
	}
	r.wantContent(good, second)
	for range 2 {
		if err := r.Commit(bg, bad, 0, 0); !errors.Is(err, vfs.ErrIO) {
			t.Errorf("commit: %v", err)
		}
	}
	if _, _, err := r.Read(bg, nil, bad, 150<<10, make([]byte, 50<<10)); !errors.Is(err, vfs.ErrIO) {
		t.Errorf("read: %v", err)
	}
	got := make([]byte, 100<<10)
	if _, _, err := r.Read(bg, nil, bad, 0, got); err != nil || !bytes.Equal(got, first[:100<<10]) {
		t.Errorf("reading what is stored: %v", err)
	}
	r.write(bad, 112<<10, first[112<<10:180<<10], vfs.Unstable) // a part of what failed is not needed any more
	r.check()
	if err := r.Commit(bg, bad, 0, 0); !errors.Is(err, vfs.ErrIO) {
		t.Errorf("commit: %v", err)
	}
	dev.ClearFaults()
	if err := r.Commit(bg, bad, 0, 0); err != nil {
		t.Errorf("commit when the device works again: %v", err)
	}
	if n := r.Stats().BehindBytes; n != 0 {
		t.Errorf("%d bytes are yet to be stored", n)
	}
	r.reopen()
	r.wantContent(bad, first)
	r.wantContent(good, second)
}

// TestBehindFailureOfMany has many read what can't be stored: they do not try one after the other, for each try can take long, and
// nobody can write to the file meanwhile.
func TestBehindFailureOfMany(t *testing.T) {
	r, dev := newBehindRig(t)
	id := r.file("f")
	r.write(id, 0, noise(1, 100), vfs.FileSync)
	content := int64(r.vol.Stat().HeaderChunks) * r.vol.Stat().ChunkBytes
	dev.Inject(memdev.Fault{Call: memdev.Write, Times: -1, Offset: content, Length: dev.SizeBytes(), Err: errMedium})
	r.write(id, 0, noise(2, 200<<10), vfs.Unstable)
	r.behind.settle()
	const readers = 16
	tries, reads := dev.writes.Load(), r.Stats().Reads
	dev.gate.Lock()
	var wait sync.WaitGroup
	for range readers {
		wait.Go(func() {
			if _, _, err := r.Read(bg, nil, id, 0, make([]byte, 10)); !errors.Is(err, vfs.ErrIO) {
				t.Errorf("read: %v", err)
			}
		})
	}
	r.eventually("all read", func() bool { return r.Stats().Reads == reads+readers && dev.writes.Load() == tries+1 })
	time.Sleep(20 * time.Millisecond) // and wait
	dev.gate.Unlock()
	wait.Wait()
	if n := dev.writes.Load() - tries; n > readers/2 {
		t.Errorf("%d readers tried %d times", readers, n)
	}
	dev.ClearFaults()
	r.wantContent(id, noise(2, 200<<10))
}

// TestBehindLost closes a store whose device has failed: Close says so, and the memory is given back.
func TestBehindLost(t *testing.T) {
	r, dev := newBehindRig(t)
	id := r.file("f")
	r.write(id, 0, noise(1, 200<<10), vfs.FileSync)
	dev.Inject(memdev.Fault{Call: memdev.Write, Times: -1, Err: errors.New("broken")})
	r.write(id, 0, noise(2, 200<<10), vfs.Unstable)
	store := r.Store
	if err := store.Close(); !errors.Is(err, vfs.ErrIO) {
		t.Errorf("close: %v", err)
	}
	if n := len(store.behind.places); n != 0 {
		t.Errorf("%d runs have their memory still", n)
	}
	dev.ClearFaults()
	r.drop()
	r.open()
	r.wantContent(id, noise(1, 200<<10))
}

// TestBehindBound: beyond the bound a write returns when it is stored.
func TestBehindBound(t *testing.T) {
	r, dev := newBehindRig(t)
	id, p := r.file("f"), noise(1, 1<<20)
	dev.gate.Lock()
	for k := range uint64(behindBytes / len(p)) {
		r.write(id, k<<20, p, vfs.Unstable)
	}
	r.eventually("as much as may be is before the device", func() bool { return dev.writes.Load() == behindWorkers })
	ends := dev.later(t, func() error {
		_, err := r.Write(bg, nil, false, id, behindBytes, p, vfs.Unstable)
		return err
	})
	r.eventually("the write itself is before the device", func() bool { return dev.writes.Load() == behindWorkers+1 })
	if n := r.Stats().BehindBytes; n != behindBytes {
		t.Errorf("%d bytes are yet to be stored", n)
	}
	ends()
	r.wantContent(id, bytes.Repeat(p, behindBytes/len(p)+1))
}

// TestGatheredBehind: what gathers while the device is busy goes to it together.
func TestGatheredBehind(t *testing.T) {
	r, dev := newBehindRig(t)
	const size, writes = 64 << 10, 64
	id, want := r.file("f"), noise(1, writes*size)
	dev.gate.Lock()
	for k := range writes {
		r.write(id, uint64(k*size), want[k*size:][:size], vfs.Unstable)
	}
	dev.gate.Unlock()
	r.behind.settle()
	if n := dev.writes.Load(); n > behindWorkers+writes*size/behindTransfer+1 {
		t.Errorf("%d writes became %d calls of the device", writes, n)
	}
	r.wantContent(id, want)
}

// TestHoldBehind gives runs back of which parts are yet to be stored: the others are free at once.
func TestHoldBehind(t *testing.T) {
	first := &behindWrite{runs: []volume.Run{{Start: 10, Count: 4}, {Start: 30, Count: 2}}}
	second := &behindWrite{runs: []volume.Run{{Start: 20, Count: 4}}}
	b := &writeBehind{places: []placeBehind{{first.runs[0], first}, {second.runs[0], second}, {first.runs[1], first}}}
	b.count.Store(2)
	got, over := b.hold([]volume.Run{{Start: 8, Count: 14}, {Start: 23, Count: 8}, {Start: 40, Count: 1}})
	if want := []volume.Run{{Start: 8, Count: 2}, {Start: 14, Count: 6}, {Start: 24, Count: 6}, {Start: 40, Count: 1}}; !slices.Equal(got, want) {
		t.Errorf("free at once: %v, want %v", got, want)
	}
	if want := []volume.Run{{Start: 10, Count: 4}, {Start: 30, Count: 1}}; !slices.Equal(first.freed, want) {
		t.Errorf("free with the first write: %v, want %v", first.freed, want)
	}
	if want := []volume.Run{{Start: 20, Count: 2}, {Start: 23, Count: 1}}; !slices.Equal(second.freed, want) {
		t.Errorf("free with the second write: %v, want %v", second.freed, want)
	}
	if n := b.heldBlocks(); n != 8 || len(over) != 0 {
		t.Errorf("%d blocks are held, %d writes are over", n, len(over))
	}
}

// TestBehindUnwanted gives back what could not be stored, or can't be in the end: nobody waits for it any more, so its memory and its
// blocks are free, and nothing is left under a retired key.
func TestBehindUnwanted(t *testing.T) {
	const size = 3 << 20
	for name, c := range map[string]struct {
		free  func(r *rig, id vfs.FileID) error
		after bool // it has failed before that
	}{
		"removed":         {func(r *rig, _ vfs.FileID) error { return r.remove("f") }, true},
		"removed at once": {func(r *rig, _ vfs.FileID) error { return r.remove("f") }, false},
		"overwritten": {func(r *rig, id vfs.FileID) error {
			dev := r.dev.(*slowDevice)
			dev.ClearFaults()
			for at := 0; at < size; at += 100 << 10 { // other pieces than those that failed
				r.write(id, uint64(at), noise(3, min(100<<10, size-at)), vfs.Unstable)
			}
			return r.remove("f")
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r, dev := newBehindRig(t)
			before := r.usedBlocks()
			id := r.file("f")
			dev.gate.Lock()
			for at := 0; at < size; at += 256 << 10 {
				r.write(id, uint64(at), noise(1, 256<<10), vfs.Unstable)
			}
			content := int64(r.vol.Stat().HeaderChunks) * r.vol.Stat().ChunkBytes
			dev.Inject(memdev.Fault{Call: memdev.Write, Times: -1, Offset: content, Length: dev.SizeBytes(), Err: errMedium})
			if c.after {
				dev.gate.Unlock()
				r.behind.settle()
			}
			if err := c.free(r, id); err != nil {
				t.Fatal(err)
			}
			if !c.after {
				dev.gate.Unlock()
			}
			r.behind.settle()
			if n := r.Stats().BehindBytes; n != 0 {
				t.Errorf("%d bytes of nothing are yet to be stored", n)
			}
			if n := r.usedBlocks(); n != before {
				t.Errorf("%d blocks of nothing are in use", n-before)
			}
			dev.ClearFaults()
			r.rekey(50)
			r.moveAll()
		})
	}
}

// TestCheckBehind checks while a round of the background stores what had failed: nothing is taken for a block of nobody that is yet to be
// freed.
func TestCheckBehind(t *testing.T) {
	r, dev := newBehindRig(t)
	id := r.file("f")
	content := int64(r.vol.Stat().HeaderChunks) * r.vol.Stat().ChunkBytes
	dev.Inject(memdev.Fault{Call: memdev.Write, Times: -1, Offset: content, Length: dev.SizeBytes(), Err: errMedium})
	r.write(id, 0, noise(1, 200<<10), vfs.Unstable)
	r.behind.settle()
	dev.ClearFaults()
	r.write(id, 0, noise(2, 100<<10), vfs.Unstable) // the rest of the first is needed
	r.behind.settle()

	r.background.pause.RLock()
	checked := make(chan *Report, 1)
	go func() {
		report, err := r.Store.Check(bg)
		if err != nil {
			t.Errorf("check: %v", err)
		}
		checked <- report
	}()
	r.eventually("the check waits for the round", func() bool {
		if r.background.pause.TryRLock() {
			r.background.pause.RUnlock()
			return false
		}
		return true
	})
	shards := &r.cache.shared.shards
	for k := range shards { // who frees blocks waits here
		shards[k].mu.Lock()
	}
	if err := r.flushAll(); err != nil {
		t.Errorf("flush: %v", err)
	}
	r.background.pause.RUnlock()
	var report *Report
	select {
	case report = <-checked:
	case <-time.After(50 * time.Millisecond):
	}
	for k := range shards {
		shards[k].mu.Unlock()
	}
	if report == nil {
		report = <-checked
	}
	for _, problem := range report.Problems {
		t.Errorf("check: %s", problem)
	}
	r.wantContent(id, append(noise(2, 100<<10), noise(1, 200<<10)[100<<10:]...))
}

// TestSettleBehind waits for what is yet to be stored while more and more comes: only for what was there.
func TestSettleBehind(t *testing.T) {
	r, dev := newBehindRig(t)
	id, p := r.file("f"), noise(1, 256<<10)
	dev.Inject(memdev.Fault{Call: memdev.Write, Times: -1, Delay: time.Millisecond})
	var settled atomic.Bool
	late := time.Now().Add(3 * time.Second)
	var wait sync.WaitGroup
	wait.Go(func() {
		for k := uint64(0); !settled.Load(); k = (k + 1) % 16 {
			r.write(id, k<<20, p, vfs.Unstable)
			if time.Now().After(late) {
				t.Error("it waits for what came later")
				return
			}
		}
	})
	r.eventually("much is yet to be stored", func() bool { return r.Stats().BehindBytes > 4<<20 })
	r.behind.settle()
	settled.Store(true)
	wait.Wait()
}

// TestAllocateBehind reserves, on a volume without other space, what a file had that was removed before it was stored: it waits until
// that is free.
func TestAllocateBehind(t *testing.T) {
	dev := &slowDevice{Device: memdev.New(16 << 20)}
	r := newRigOn(t, dev, pebblevfs.NewMem(), nil)
	const size = 3 << 20
	var st vfs.StatFS
	if err := r.StatFS(bg, &st); err != nil {
		t.Fatal(err)
	}
	var out vfs.Attr
	if err := r.Allocate(bg, nil, r.file("ballast"), 0, st.FreeBytes-size-1<<20, &out); err != nil {
		t.Fatal(err)
	}
	f, to := r.file("f"), r.file("to")
	dev.gate.Lock()
	for at := uint64(0); at < size; at += 256 << 10 {
		r.write(f, at, noise(at, 256<<10), vfs.Unstable)
	}
	if err := r.remove("f"); err != nil {
		t.Fatal(err)
	}
	ends := dev.later(t, func() error { return r.Allocate(bg, nil, to, 0, size, &out) })
	time.Sleep(50 * time.Millisecond)
	ends()
	if out.Size != size {
		t.Errorf("%d bytes", out.Size)
	}
}
