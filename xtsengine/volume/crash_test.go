package volume

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
)

// crashRun is a random workload on a volume that is examined as a crash would leave it, after every
// single device event.
type crashRun struct {
	t      *testing.T
	rng    *rand.Rand
	dev    *memdev.Device
	volume *Volume
	spaces [3]*Space
	runs   [3][]Run
	// owners is what the volume promised by giving out blocks; it is weakened before a call that
	// may take a chunk away.
	owners map[Block]SpaceID
	epoch  uint64 // the last one that was returned
	chunks uint32 // the last size that was returned
	points int
	next   *memdev.Device // where the run goes on, if a crash was chosen
}

// start opens the volume on dev and loads what the run knows.
func (r *crashRun) start(dev *memdev.Device) {
	r.dev = dev
	r.volume = openVolume(r.t, dev)
	for i := range r.spaces {
		r.spaces[i] = openSpace(r.t, r.volume, byte(i+1))
		for _, run := range r.runs[i] {
			if err := r.spaces[i].MarkUsed(run); err != nil {
				r.t.Fatal(err)
			}
		}
		r.spaces[i].Loaded()
	}
	dev.OnEvent(func(memdev.Event) { r.examine() })
}

// examine opens the device as a crash leaves it and compares it with what was promised.
func (r *crashRun) examine() {
	r.points++
	clone := r.dev.CrashClone(memdev.Torn, r.rng)
	v, err := Open(clone, Options{})
	if err != nil {
		r.t.Fatalf("crash point %d: %v", r.points, err)
	}
	if got := v.Epoch(); got < r.epoch || got > r.epoch+1 {
		r.t.Fatalf("crash point %d: epoch %d, %d was returned", r.points, got, r.epoch)
	}
	if got := v.Stat().Chunks; got < r.chunks {
		r.t.Fatalf("crash point %d: %d chunks, %d were returned", r.points, got, r.chunks)
	}
	for block, owner := range r.owners {
		if got := v.owners[block/64]; got != owner {
			r.t.Fatalf("crash point %d: block %d was given to %v, now its chunk belongs to %v", r.points, block, owner, got)
		}
	}
	if r.rng.IntN(40) == 0 {
		r.next = clone
	}
}

// step does one random operation.
func (r *crashRun) step() {
	i := r.rng.IntN(len(r.spaces))
	s := r.spaces[i]
	var err error
	switch n := r.rng.IntN(20); {
	case n < 9:
		var run Run
		if run, err = s.Alloc(uint32(1 + r.rng.IntN(64))); err == nil {
			r.runs[i] = append(r.runs[i], run)
			for b := run.Start; b < run.end(); b++ {
				r.owners[b] = s.owner
			}
		} else if errors.Is(err, ErrNoSpace) {
			err = nil
		}
	case n < 16 && len(r.runs[i]) > 0:
		at := r.rng.IntN(len(r.runs[i]))
		run := r.runs[i][at]
		r.runs[i] = append(r.runs[i][:at], r.runs[i][at+1:]...)
		for b := run.Start; b < run.end(); b++ {
			delete(r.owners, b)
		}
		err = s.Free(run)
	case n == 16:
		_, err = s.Trim(r.rng.IntN(2))
	case n == 17:
		var epoch uint64
		if epoch, err = r.volume.BumpEpoch(); epoch <= r.epoch {
			r.t.Fatalf("epoch %d after %d", epoch, r.epoch)
		}
		r.epoch = epoch
	case n == 18 && r.rng.IntN(4) == 0:
		r.destroy(i)
	case n == 19 && r.chunks < 40 && r.rng.IntN(4) == 0:
		if err = r.volume.Grow(int64(r.chunks+1) * minChunkBytes); err == nil {
			r.chunks++
		}
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// destroy ends a space and begins it anew.
func (r *crashRun) destroy(i int) {
	id := r.spaces[i].owner
	for _, run := range r.runs[i] {
		for b := run.Start; b < run.end(); b++ {
			delete(r.owners, b)
		}
	}
	r.runs[i] = nil
	if err := errors.Join(r.spaces[i].Close(), r.volume.DestroySpace(id)); err != nil {
		r.t.Fatal(err)
	}
	r.spaces[i] = openSpace(r.t, r.volume, id[0])
	r.spaces[i].Loaded()
}

// TestCrashAtEveryWrite: leases, epochs and size survive a crash after every event of a random
// workload, torn and reordered, also when the run goes on from such a crash.
func TestCrashAtEveryWrite(t *testing.T) {
	want := 1500
	if os.Getenv("NFSEAL_LONG") != "" {
		want = 100000
	}
	r := &crashRun{t: t, rng: newRand(t), owners: map[Block]SpaceID{}, chunks: 14}
	_, dev := newVolume(t, int64(r.chunks))
	r.start(dev)
	crashes := 0
	for r.points < want {
		r.step()
		if r.next != nil {
			// The epoch and size found count as returned from here on.
			dev, r.next = r.next, nil
			r.dev.OnEvent(nil)
			v := openVolume(t, dev)
			r.epoch, r.chunks = v.Epoch(), v.Stat().Chunks
			r.keepWhatSurvived(v)
			r.start(dev)
			crashes++
		}
	}
	t.Logf("%d crash points, %d times gone on from one", r.points, crashes)
}

// keepWhatSurvived drops what was allocated after the crash that the run goes on from.
func (r *crashRun) keepWhatSurvived(v *Volume) {
	for i := range r.runs {
		kept := r.runs[i][:0]
		for _, run := range r.runs[i] {
			if chunk := run.Start / 64; int(chunk) < len(v.owners) && v.owners[chunk] == (SpaceID{byte(i + 1)}) {
				kept = append(kept, run)
				continue
			}
			for b := run.Start; b < run.end(); b++ {
				delete(r.owners, b)
			}
		}
		r.runs[i] = kept
	}
}

// TestUnsyncedMetadataIsMadeDurable: the last owner died between a write and its Sync; what the next
// one read and relied on must survive a power failure.
func TestUnsyncedMetadataIsMadeDurable(t *testing.T) {
	v, dev := newVolume(t, 4)
	var halfway *memdev.Device
	dev.OnEvent(func(e memdev.Event) {
		if halfway == nil {
			halfway = dev
			dev.Inject(memdev.Fault{Call: memdev.Sync, Err: io.ErrNoProgress})
		}
	})
	if _, err := v.BumpEpoch(); !errors.Is(err, io.ErrNoProgress) {
		t.Fatalf("BumpEpoch: %v", err)
	}
	// A device that was only written to, not synced, as another process finds it.
	_, found := newVolume(t, 4)
	b := readBlock(t, dev.CrashClone(memdev.KeepAll, nil), secondSuperblock)
	if err := found.Write(oneRequest(secondSuperblock, b)); err != nil {
		t.Fatal(err)
	}
	if got := openVolume(t, found).Epoch(); got != 1 {
		t.Fatalf("epoch %d is found, want the unsynced 1", got)
	}
	if got := openVolume(t, found.CrashClone(memdev.LoseAll, nil)).Epoch(); got != 1 {
		t.Errorf("epoch %d after a power failure, want 1", got)
	}
}

// TestFailedUpdateStopsUpdates: after an update of metadata that failed, data still moves, metadata
// does not change any more, and opening again finds a consistent volume.
func TestFailedUpdateStopsUpdates(t *testing.T) {
	for nth := 1; nth <= 2; nth++ {
		v, dev := newVolume(t, 6)
		s := openSpace(t, v, 1)
		s.Loaded()
		run, err := s.Alloc(64)
		if err != nil {
			t.Fatal(err)
		}
		dev.Inject(memdev.Fault{Call: memdev.Write, Nth: nth, Err: io.ErrNoProgress})
		if _, err := s.Alloc(1); !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("write %d fails: Alloc: %v", nth, err)
		}
		if _, err := s.Alloc(1); !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("write %d failed: a later Alloc: %v", nth, err)
		}
		if _, err := v.BumpEpoch(); !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("write %d failed: BumpEpoch: %v", nth, err)
		}
		if err := s.Write([]IO{tagged(run.Start, pattern(64, 3))}); err != nil {
			t.Errorf("write %d failed: data: %v", nth, err)
		}
		if v.Stats().Errors == 0 {
			t.Error("the error was not counted")
		}
		again := openVolume(t, dev)
		if again.owners[run.Start/64] != (SpaceID{1}) {
			t.Error("the lease is gone")
		}
		if e, err := again.BumpEpoch(); err != nil || e != 1 {
			t.Errorf("epoch %d, %v", e, err)
		}
	}
}
