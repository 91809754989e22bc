package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// errMedium is the error of a device.
var errMedium = errors.New("input/output error")

// faultAt fails one call of those to the device and to the metadata's file system: the at-th.
type faultAt struct {
	at    atomic.Int64
	calls atomic.Int64
	fired atomic.Bool
	what  atomic.Value // of string
}

// hit counts a call and says whether it is the one.
func (f *faultAt) hit(what string) bool {
	if f.calls.Add(1) != f.at.Load() {
		return false
	}
	f.what.Store(what)
	f.fired.Store(true)
	return true
}

// MaybeError implements errorfs.Injector for the metadata.
func (f *faultAt) MaybeError(op errorfs.Op) error {
	if f.hit(fmt.Sprintf("metadata %d %s", op.Kind, op.Path)) {
		return errMedium
	}
	return nil
}

func (f *faultAt) String() string { return "faultAt" }

// faultFS passes the files of used logs through the faults too, which errorfs does not.
type faultFS struct {
	*errorfs.FS
	f *faultAt
}

func (fs faultFS) ReuseForWrite(old, name string, c pebblevfs.DiskWriteCategory) (pebblevfs.File, error) {
	file, err := fs.FS.ReuseForWrite(old, name, c)
	if err != nil {
		return nil, err
	}
	return errorfs.WrapFile(file, fs.f), nil
}

// faultDevice lets the device itself fail the call, with all that follows from that.
type faultDevice struct {
	*memdev.Device
	f *faultAt
}

func (d faultDevice) arm(call memdev.Call, what string) {
	if d.f.hit(what) {
		d.Inject(memdev.Fault{Call: call, Err: errMedium})
	}
}

func (d faultDevice) Read(batch []blockdev.Request) error {
	d.arm(memdev.Read, "device read")
	return d.Device.Read(batch)
}

func (d faultDevice) Write(batch []blockdev.Request) error {
	d.arm(memdev.Write, "device write")
	return d.Device.Write(batch)
}

func (d faultDevice) Sync() error {
	d.arm(memdev.Sync, "device sync")
	return d.Device.Sync()
}

func (d faultDevice) Discard(offset, length int64) error {
	d.arm(memdev.Discard, "device discard")
	return d.Device.Discard(offset, length)
}

// faultPoints are the calls that fail, each in a run of its own: some in `make test`, the first 10,000
// in a long run, unless NFSEAL_POINTS=FIRST or FIRST-LAST says otherwise.
func faultPoints(t *testing.T) (points []int64) {
	var first, last int64
	if n, _ := fmt.Sscanf(os.Getenv("NFSEAL_POINTS"), "%d-%d", &first, &last); n == 1 {
		return []int64{first}
	} else if n == 2 || long() {
		if n != 2 {
			first, last = 1, 10_000
		}
		for at := first; at <= last; at++ {
			points = append(points, at)
		}
		return points
	}
	for at := int64(1); at <= 10_000; at += 1 + at/6 {
		points = append(points, at)
	}
	t.Logf("%d points", len(points))
	return points
}

// TestFaults fails one call to the device or to the metadata's files, each of the first ones in turn:
// the operation answers with an error or correctly, no data is wrong, nothing hangs, and what was
// acknowledged as stable is there after another start, whatever the failed device lost.
func TestFaults(t *testing.T) {
	first, points := seed(t), faultPoints(t)
	inBatches(t, len(points), func(n int) string { return strconv.FormatInt(points[n], 10) }, func(t *testing.T, n int) {
		at := points[n]
		hang := time.AfterFunc(2*time.Minute, func() { panic(fmt.Sprintf("hangs: NFSEAL_SEED=%d, call %d", first, at)) })
		defer hang.Stop()
		faultOnce(t, first, at)
	})
}

// faultRun is one run of a workload with a fault.
type faultRun struct {
	*crashWorker
	t     *testing.T
	fault *faultAt
	dev   *memdev.Device
	meta  *pebblevfs.MemFS
	layer func(*pebblevfs.MemFS) pebblevfs.FS
	rng   *rand.Rand
}

func faultOnce(t *testing.T, seed uint64, at int64) {
	rng := rand.New(rand.NewPCG(seed, uint64(at)))
	key := newMetaKey(t)
	fault := &faultAt{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("NFSEAL_SEED=%d, call %d: %v", seed, at, fault.what.Load())
		}
	})
	f := &faultRun{t: t, fault: fault, dev: memdev.New(24 << 20), meta: pebblevfs.NewCrashableMem(), rng: rng}
	f.layer = func(m *pebblevfs.MemFS) pebblevfs.FS {
		return encrypted(t, faultFS{errorfs.Wrap(m, f.fault), f.fault}, key)
	}
	r := newRigOn(t, faultDevice{f.dev, f.fault}, f.layer(f.meta), func(o *Options) {
		crashOptions(o)
		intentOptions(o, rng)
	})
	f.crashWorker = newCrashWorker(r, newWorld(blockdev.BlockBytes, rng), 0, seed)
	f.overwrites = r.opts.IntentBytes > 0
	f.fault.at.Store(f.fault.calls.Load() + at)
	f.work()
	f.finish()
}

// work runs until the fault was, and a little longer.
func (f *faultRun) work() {
	for after := 0; after < 25 && f.r.Store.failed() == nil; {
		if f.fault.fired.Load() {
			after++
		}
		if err := f.one(); err != nil {
			f.settle(err)
		}
		if f.rng.IntN(400) == 0 && !f.restart() {
			return
		}
	}
}

// settle is called after an operation failed. A store that goes on has either done it or not: which of
// them can be seen.
func (f *faultRun) settle(err error) {
	if !f.fault.fired.Load() {
		f.t.Fatalf("an error without a fault: %v", err)
	}
	if f.r.Store.failed() != nil {
		return
	}
	found := map[crashName]vfs.Attr{}
	if err := f.list(found); err != nil {
		f.t.Fatalf("listing after %v: %v", err, err)
	}
	if sameNames(found, f.prev) {
		f.names = f.prev
	}
	f.prev = f.names
	if !sameNames(found, f.names) {
		f.t.Errorf("names after a failure: %v, want %v", found, f.names)
		return
	}
	for name, file := range f.names {
		f.look(file, found[name])
	}
}

// look finds out what a file holds now.
func (f *faultRun) look(file *crashFile, a vfs.Attr) {
	if a.Mode != file.mode && a.Mode != file.oldMode {
		f.t.Errorf("mode of %v is %o, want %o or %o", a.ID, a.Mode, file.mode, file.oldMode)
	}
	file.mode, file.oldMode, file.id = a.Mode, a.Mode, a.ID
	if file.dir {
		return
	}
	got, err := f.content(a.ID)
	if err != nil {
		f.t.Errorf("reading after a failure: %v", err)
		return
	}
	if n := len(file.versions); !bytes.Equal(got, file.now()) && n > 1 {
		file.versions = file.versions[:n-1]
	}
	if !bytes.Equal(got, file.now()) {
		f.t.Errorf("%d bytes of %v are neither what was there nor what was written", len(got), a.ID)
	}
}

// restart stops the store and starts it again; false if it failed in that.
func (f *faultRun) restart() bool {
	if f.r.Store.Close() != nil {
		return false
	}
	f.r.drop()
	for _, file := range f.names {
		file.stable()
	}
	f.held = nil // not reclaimed: gone with the end of recovery
	err := f.r.tryOpen()
	if err == nil {
		err = f.r.EndRecovery(bg)
	}
	if err != nil && !f.fault.fired.Load() {
		f.t.Fatalf("start: %v", err)
	}
	return err == nil
}

// finish stops what is left, lets the failed device lose what it may, starts again and compares.
func (f *faultRun) finish() {
	if f.r.Store != nil && f.r.Store.Close() == nil {
		for _, file := range f.names {
			file.stable()
		}
	}
	if f.r.vol != nil {
		_ = f.r.vol.Close() // it may have failed
	}
	f.r.Store = nil
	keep := []int{0, 50, 100}[f.rng.IntN(3)]
	policy := []memdev.Policy{memdev.LoseAll, memdev.Torn, memdev.KeepAll}[f.rng.IntN(3)]
	f.meta = f.meta.CrashClone(pebblevfs.CrashCloneCfg{UnsyncedDataPercent: keep, RNG: f.rng})
	r := f.r
	f.r = &rig{t: f.t, dev: f.dev.CrashClone(policy, f.rng), opts: r.opts, cipher: r.cipher, tags: r.tags}
	f.fault.at.Store(0)
	f.r.meta = f.layer(f.meta)
	f.r.opts.Meta = f.r.meta
	f.r.opts.Epoch++
	f.r.open()
	f.r.check()
	f.verify()
	if err := f.r.EndRecovery(bg); err != nil {
		f.t.Errorf("end of recovery: %v", err)
	}
	f.r.close()
}
