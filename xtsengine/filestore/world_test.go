package filestore

import (
	cryptorand "crypto/rand"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/internal/crashfs"
	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/cryptfs"
	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// newMetaKey makes a key of metadata.
func newMetaKey(t testing.TB) *keyring.DataKey {
	t.Helper()
	key, err := keyring.NewDataKey(cryptorand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { key.Close() })
	return key
}

// encrypted lays encryption over a metadata file system, as it is in use.
func encrypted(t testing.TB, base pebblevfs.FS, key *keyring.DataKey) pebblevfs.FS {
	t.Helper()
	fs, err := cryptfs.New(base, key)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

// world is a volume's device and a metadata file system that lose power at one instant: after the
// at-th change of either of them, counted from arm.
type world struct {
	dev  *memdev.Device
	meta *pebblevfs.MemFS
	rng  *rand.Rand

	slow    time.Duration // what a sync of metadata takes, so that others can come in between
	lazy    time.Duration // what a large write to the device takes at most
	mu      sync.RWMutex  // held shared by every change, alone by the crash
	armed   bool
	left    int
	dead    bool
	crashed struct {
		dev  *memdev.Device
		meta *pebblevfs.MemFS
	}
}

func newWorld(deviceBytes int64, rng *rand.Rand) *world {
	return &world{dev: memdev.New(deviceBytes), meta: pebblevfs.NewCrashableMem(), rng: rng}
}

// arm lets power fail after a number of changes.
func (w *world) arm(changes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed, w.left = true, changes
}

// alive says whether power is still there. What returned before alive said so was acknowledged.
func (w *world) alive() bool {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return !w.dead
}

// fail lets power fail now, if it did not yet.
func (w *world) fail() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked()
}

func (w *world) failLocked() {
	if w.dead {
		return
	}
	policy := []memdev.Policy{memdev.Torn, memdev.LoseAll, memdev.KeepAll, memdev.Whole}[w.rng.IntN(4)]
	w.crashLocked(policy, []int{0, 0, 50, 100}[w.rng.IntN(4)])
}

// crashLocked lets power fail now: what was not synced is left as policy says on the device, and to so many percent of the
// metadata.
func (w *world) crashLocked(policy memdev.Policy, percent int) {
	w.dead = true
	w.crashed.dev = w.dev.CrashClone(policy, w.rng)
	w.crashed.meta = w.meta.CrashClone(pebblevfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: w.rng})
}

// step does one change.
func (w *world) step(change func() error) error {
	w.mu.RLock()
	err := change()
	w.mu.RUnlock()
	w.mu.Lock()
	if w.armed && !w.dead {
		if w.left--; w.left <= 0 {
			w.failLocked()
		}
	}
	w.mu.Unlock()
	return err
}

// worldDevice is the device, with a step for each request.
type worldDevice struct {
	*memdev.Device
	w *world
}

func (d worldDevice) Write(batch []blockdev.Request) error {
	for k := range batch {
		if d.w.lazy > 0 && len(batch[k].Buf) >= directUnstableBlocks*blockBytes {
			time.Sleep(time.Duration(rand.Int64N(int64(d.w.lazy))))
		}
		if err := d.w.step(func() error { return d.Device.Write(batch[k : k+1]) }); err != nil {
			return err
		}
	}
	return nil
}

func (d worldDevice) Sync() error { return d.w.step(d.Device.Sync) }

func (d worldDevice) Discard(offset, length int64) error {
	return d.w.step(func() error { return d.Device.Discard(offset, length) })
}

// steps is the metadata's file system, with a step for each change.
func (w *world) steps() pebblevfs.FS {
	return crashfs.FS{FS: w.meta, Step: w.step, BeforeSync: func() { time.Sleep(w.slow) }}
}
