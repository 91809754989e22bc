package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// restart lets power fail, if it did not yet, and starts again; change may spoil what is left.
func (r *intentRig) restart(change func()) error {
	r.t.Helper()
	r.powerFails()
	if err := r.Store.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.drop()
	r.w = &world{dev: r.w.crashed.dev, meta: r.w.crashed.meta, rng: r.w.rng}
	r.dev, r.meta = worldDevice{r.w.dev, r.w}, r.w.steps()
	r.opts.Meta = r.meta
	r.opts.Epoch++
	if change != nil {
		change()
	}
	return r.tryOpen()
}

// powerFails lets power fail, if it did not yet.
func (r *intentRig) powerFails() {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if !r.w.dead {
		r.w.crashLocked(memdev.LoseAll, 0)
	}
}

// TestIntentStale carries a write out in the metadata store, where nothing is left to be flushed, and then logs others from
// the first number on: what was written before must not count as flushed again.
func TestIntentStale(t *testing.T) {
	r := newIntentRig(t, 16<<20, nil)
	small, want := r.file("small"), noise(9, 200)
	r.Store.writeStable(t, small, 0, want)
	r.fill()
	r.pool.mu.Lock() // not even what is set aside, as in TestIntentFullStored
	r.pool.aside, r.pool.keep = 0, 0
	r.pool.mu.Unlock()
	// What replayIntent does with a log of one record.
	x := intentRecord{number: 1000, inode: small.Inode, offset: 50, change: 1 << 20, time: vfs.Time{Sec: 77}, mode: 0o600}
	copy(want[50:], "replayed")
	if err := (&intentReplay{s: r.Store, flushed: map[uint64]uint64{}}).do(&x, []byte("replayed")); err != nil {
		t.Fatal(err)
	}
	r.intent.begin(1000)
	if err := errors.Join(r.flushAll(), r.clearIntent()); err != nil {
		t.Fatal(err)
	}
	if err := r.remove("filler"); err != nil {
		t.Fatal(err)
	}
	r.write(small, 100, []byte("unstable"), vfs.Unstable)
	copy(want[100:], "unstable")
	if err := r.Commit(bg, small, 0, 0); err != nil {
		t.Fatal(err)
	}
	r.reopen() // in order
	r.openLog()
	r.overwrite(small, want, 10, 20, true) // acknowledged
	if err := r.restart(nil); err != nil {
		t.Fatal(err)
	}
	r.wantContent(small, want)
}

// TestIntentTornPiece flushes pieces while the log of a write fails that lies in two of them: after a crash it is there
// whole or not at all.
func TestIntentTornPiece(t *testing.T) {
	r := newIntentRig(t, 64<<20, func(o *Options) { o.IntentBytes = 8 << 20 })
	id, want := r.large("f", 400)
	for file := range 320 {
		if file < 250 || file >= 262 {
			r.overwrite(id, want, file*blockBytes, blockBytes, true)
		}
	}
	i := r.pin(id.Inode)
	// A stable write over the border of two pieces, whose writer is still waiting for the log, which fails.
	r.background.pause.Lock()
	p := noise(99, 12*blockBytes)
	_, record, err := r.Store.write(i, id, nil, nil, 250*blockBytes, p, vfs.FileSync, false)
	if err != nil || record == 0 {
		t.Fatal(record, err)
	}
	r.intent.fail(errMedium)
	err = r.flushPieces(i) // the flusher; power fails before the rest is flushed
	r.powerFails()
	r.background.pause.Unlock()
	r.unpin(i)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.restart(nil); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, _, err := r.Read(bg, nil, id, 0, got); err != nil {
		t.Fatal(err)
	}
	after := bytes.Clone(want)
	copy(after[250*blockBytes:], p)
	if !bytes.Equal(got, want) && !bytes.Equal(got, after) {
		t.Errorf("a part of a write is there; %s", difference(got, after))
	}
}

// TestIntentDamagedBlock damages a block that a logged write changes a part of: the start says so, and goes on.
func TestIntentDamagedBlock(t *testing.T) {
	var told []error
	r := newIntentRig(t, 64<<20, func(o *Options) {
		o.Events.BackgroundError = func(err error) { told = append(told, err) }
	})
	id, want := r.large("f", 100)
	r.overwrite(id, want, 5*blockBytes+100, 50, true)
	r.overwrite(id, want, 7*blockBytes, 50, true)
	e, err := r.readWindow(id.Inode, 0)
	if err != nil {
		t.Fatal(err)
	}
	src, ok := e.source(5, 1)
	if !ok || src.ext.place != onVolume {
		t.Fatal("not on the volume")
	}
	at := int64(src.ext.start) * blockBytes
	err = r.restart(func() {
		junk := blockdev.Alloc(blockBytes)
		for k := range junk {
			junk[k] = 0x55
		}
		defer blockdev.Free(junk)
		if err := r.w.dev.Write([]blockdev.Request{{Offset: at, Buf: junk}}); err != nil {
			t.Fatal(err)
		}
	})
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	if len(told) != 1 || !errors.Is(told[0], vfs.ErrCorrupt) {
		t.Errorf("told: %v", told)
	}
	got := make([]byte, blockBytes)
	if _, _, err := r.Read(bg, nil, id, 7*blockBytes, got); err != nil || !bytes.Equal(got, want[7*blockBytes:8*blockBytes]) {
		t.Errorf("the other write: %v", err)
	}
}

// TestIntentDamage changes the first record of the older half, and a later one: the start says that writes are lost, and goes on.
func TestIntentDamage(t *testing.T) {
	for name, at := range map[string]int64{"first": 10, "later": 60 << 10} {
		t.Run(name, func(t *testing.T) {
			var told []error
			r := newIntentRig(t, 64<<20, func(o *Options) {
				o.Events.BackgroundError = func(err error) { told = append(told, err) }
			})
			id, want := r.large("f", 64)
			r.background.pause.Lock() // nothing is retired
			for n := range 3 {
				r.overwrite(id, want, n*blockBytes, 50<<10, true)
			}
			r.powerFails()
			r.background.pause.Unlock()
			path := r.intentPath(0)
			err := r.restart(func() {
				f, err := r.w.meta.OpenReadWrite(path, pebblevfs.WriteCategoryUnspecified)
				if err != nil {
					t.Fatal(err)
				}
				_, err = f.WriteAt([]byte("damage"), at)
				if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
					t.Fatal(err)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(told) != 1 || !errors.Is(told[0], vfs.ErrCorrupt) {
				t.Errorf("told: %v", told)
			}
			if n := r.Stats().ReplayedWrites; n == 0 {
				t.Error("nothing was carried out")
			}
		})
	}
}

// failingLogs is a file system whose log files can't be written while fail is set.
type failingLogs struct {
	pebblevfs.FS
	fail *atomic.Bool
}

type failingLog struct {
	pebblevfs.File
	fail *atomic.Bool
}

func (fs failingLogs) ReuseForWrite(old, name string, c pebblevfs.DiskWriteCategory) (pebblevfs.File, error) {
	f, err := fs.FS.ReuseForWrite(old, name, c)
	if err != nil || !strings.HasPrefix(fs.PathBase(name), "intent-") {
		return f, err
	}
	return failingLog{f, fs.fail}, nil
}

func (f failingLog) SyncData() error {
	if f.fail.Load() {
		return errMedium
	}
	return f.File.SyncData()
}

// TestIntentWriteFails fails the log under a write that is in it: the write is committed, and there after a crash.
func TestIntentWriteFails(t *testing.T) {
	var fail atomic.Bool
	w := newWorld(64<<20, rand.New(rand.NewPCG(1, 1)))
	r := &intentRig{w: w, rig: newRigOn(t, worldDevice{w.dev, w}, failingLogs{w.steps(), &fail}, func(o *Options) {
		o.IntentBytes = minIntentBytes
		o.UnstableAge, o.JournalAge = time.Hour, time.Hour
	})}
	id, want := r.large("f", 40)
	r.background.pause.Lock() // the log is not made anew
	fail.Store(true)
	flushes := r.Stats().Flushes
	r.overwrite(id, want, 100, 50, true)
	if n := r.Stats().Flushes; n != flushes+1 {
		t.Errorf("%d flushes", n-flushes)
	}
	r.powerFails()
	r.background.pause.Unlock()
	if err := r.restart(nil); err != nil {
		t.Fatal(err)
	}
	r.wantContent(id, want)
}

// TestIntentFlushFails fails the flush of a logged write, and then overwrites it: the record must not undo that.
func TestIntentFlushFails(t *testing.T) {
	r := newIntentRig(t, 64<<20, nil)
	id, want := r.large("f", 40)
	r.overwrite(id, want, 5*blockBytes, 50, true)
	r.overwrite(id, want, 6*blockBytes, 17*blockBytes-100, false)
	r.overwrite(id, want, 5*blockBytes, 50, true)
	r.write(id, 20*blockBytes, want[:18*blockBytes], vfs.Unstable) // to the volume, by a commit
	copy(want[20*blockBytes:], want[:18*blockBytes])
	r.behind.settle()
	before := r.Stats().FlushFailures
	r.w.dev.Inject(memdev.Fault{Call: memdev.Write, Err: errMedium})
	err := r.Commit(bg, id, 0, 0)
	if err == nil || r.Stats().FlushFailures != before+1 {
		t.Fatalf("the flush did not fail: %v", err)
	}
	for range 2 {
		r.write(id, 5*blockBytes, noise(3, 60), vfs.Unstable)
		copy(want[5*blockBytes:], noise(3, 60))
		if err := r.Commit(bg, id, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	r.crash()
	r.wantContent(id, want)
}

// TestIntentRetireBesideFlush flushes a file while a half of the log is retired that had earlier records of it: what the flush
// says of its own record stays, so that the record does not undo what is written later.
func TestIntentRetireBesideFlush(t *testing.T) {
	r := newIntentRig(t, 32<<20, nil)
	id, want := r.large("f", 400)
	r.overwrite(id, want, 100, 50, true)
	if err := r.flushAll(); err != nil {
		t.Fatal(err)
	}
	r.overwrite(id, want, 100, 60, true)
	last := r.intent.end() - 1
	waiting := r.Stats().Throttled
	r.stall.set(true)
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := r.storeIntentStart(last); err != nil {
			t.Error(err)
		}
	})
	r.eventually("the retirement is under way", func() bool { return r.Stats().Throttled > waiting })
	r.stall.on.Store(false) // for the flush; the retirement has not heard of it
	flushed := make(chan struct{})
	wait.Go(func() {
		defer close(flushed)
		if err := r.flushAll(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-flushed:
	case <-time.After(200 * time.Millisecond): // it waits for its turn
	}
	r.stall.set(false)
	wait.Wait()
	r.overwrite(id, want, 0, 20*blockBytes, false)
	r.crash()
	r.wantContent(id, want)
}

// TestIntentBehind fails a start that has carried out a write of the log again, and not stored it: the start ends when that has, so that
// nobody uses the volume any more. The next start carries out all.
func TestIntentBehind(t *testing.T) {
	r := newIntentRig(t, 64<<20, nil)
	first, a := r.large("a", 40)
	second, b := r.large("b", 40)
	r.overwrite(first, a, 16*blockBytes, maxIntentBytes, true)
	r.overwrite(second, b, 10, 100, true)
	content := int64(r.vol.Stat().HeaderChunks) * r.vol.Stat().ChunkBytes
	r.powerFails()
	slow := &slowDevice{Device: r.w.crashed.dev}
	slow.Inject(memdev.Fault{Call: memdev.Read, Times: -1, Offset: content, Length: slow.SizeBytes(), Err: errMedium})
	slow.gate.Lock()
	ends := slow.later(t, func() error {
		if err := r.restart(func() { r.dev = slow }); !errors.Is(err, vfs.ErrIO) {
			return fmt.Errorf("start: %w", err)
		}
		return nil
	})
	r.eventually("the device is given the first write", func() bool { return slow.writes.Load() > 0 })
	time.Sleep(50 * time.Millisecond)
	ends()
	slow.ClearFaults()
	r.drop()
	r.open()
	r.wantContent(first, a)
	r.wantContent(second, b)
}
