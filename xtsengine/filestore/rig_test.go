package filestore

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/mac"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/vfs/vfstest"
	"github.com/nfseal/nfseal/xtsengine/volume"
	"github.com/nfseal/nfseal/xtsengine/xts"
)

var bg = context.Background()

// testID is the file system's id in tests.
var testID = volume.SpaceID{1, 2, 3}

// rig is a store with what it stands on.
type rig struct {
	t      testing.TB
	dev    blockdev.Device
	meta   pebblevfs.FS
	opts   Options
	cipher *xts.Cipher
	tags   *mac.Key
	old    *volume.SpaceKey // retired, if not nil

	vol   *volume.Volume
	space *volume.Space
	*Store
}

// newRig makes a store on a device in memory. change may adjust the options.
func newRig(t testing.TB, deviceBytes int64, change func(*Options)) *rig {
	t.Helper()
	return newRigOn(t, memdev.New(deviceBytes), pebblevfs.NewMem(), change)
}

func newRigOn(t testing.TB, dev blockdev.Device, meta pebblevfs.FS, change func(*Options)) *rig {
	t.Helper()
	c, k := testKeys(t)
	r := &rig{t: t, dev: dev, meta: meta, cipher: c, tags: k}
	r.opts = Options{ID: testID, Meta: meta, MetaDir: "meta", UnitUUID: [16]byte{9}, Epoch: 1,
		CacheBytes: 8 << 20, MemTableBytes: 4 << 20}
	if change != nil {
		change(&r.opts)
	}
	layout := volume.Options{UUID: volume.UUID{7}}
	if dev.SizeBytes() < 200<<20 {
		layout.ChunkBytes, layout.MaxChunks = 1<<20, 252
	}
	if err := volume.Format(dev, layout); err != nil {
		t.Fatal(err)
	}
	if err := Create(bg, r.opts); err != nil {
		t.Fatal(err)
	}
	r.open()
	t.Cleanup(r.close)
	return r
}

// testKeys are the keys of tests.
func testKeys(t testing.TB) (*xts.Cipher, *mac.Key) {
	t.Helper()
	key := make([]byte, xts.KeyBytes)
	for i := range key {
		key[i] = byte(i)
	}
	c, err := xts.New(key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := mac.New(key[:mac.KeyBytes])
	if err != nil {
		t.Fatal(err)
	}
	return c, k
}

// open starts the store on what is there.
func (r *rig) open() {
	r.t.Helper()
	if err := r.tryOpen(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) tryOpen() error {
	var err error
	if r.vol, err = volume.Open(r.dev, volume.Options{}); err != nil {
		return err
	}
	if r.space, err = r.openSpace(); err != nil {
		return err
	}
	r.opts.Space = r.space
	r.Store, err = Open(bg, r.opts)
	return err
}

// openSpace opens the space with the keys that there are.
func (r *rig) openSpace() (*volume.Space, error) {
	if r.opts.SpaceOwner == (volume.SpaceID{}) {
		r.opts.SpaceOwner = testID
	}
	if r.old == nil {
		return r.vol.OpenSpace(r.opts.SpaceOwner, r.cipher, r.tags)
	}
	return r.vol.OpenRekeyed(r.spaceKey(), *r.old)
}

func (r *rig) spaceKey() volume.SpaceKey {
	return volume.SpaceKey{Owner: r.opts.SpaceOwner, Cipher: r.cipher, Tags: r.tags}
}

// close stops the store and checks it first.
func (r *rig) close() {
	if r.Store == nil {
		return
	}
	r.t.Helper()
	if err := r.Store.failed(); err == nil {
		r.check()
		r.checkRecords()
	}
	if err := r.Store.Close(); err != nil {
		r.t.Errorf("close: %v", err)
	}
	r.drop()
}

// drop lets the volume go after the store.
func (r *rig) drop() {
	r.Store = nil
	if err := r.vol.Close(); err != nil {
		r.t.Errorf("closing the volume: %v", err)
	}
}

// reopen stops and starts the store.
func (r *rig) reopen() {
	r.t.Helper()
	r.close()
	r.open()
}

// check runs the store's own check.
func (r *rig) check() {
	r.t.Helper()
	report, err := r.Store.Check(bg)
	if err != nil {
		r.t.Fatalf("check: %v", err)
	}
	for _, problem := range report.Problems {
		r.t.Errorf("check: %s", problem)
	}
}

// checkRecords looks whether a file in memory has records of the intent log, and nothing that is unstable.
func (r *rig) checkRecords() {
	for k := range r.table.shards {
		sh := &r.table.shards[k]
		sh.mu.Lock()
		for _, i := range sh.ring {
			i.mu.RLock()
			if i.record > 0 && i.active.empty() {
				r.t.Errorf("inode %d: record %d of nothing", i.number, i.record)
			}
			i.mu.RUnlock()
		}
		sh.mu.Unlock()
	}
}

// awaitRound waits for what the background is about: the mover has blocks for copies, of files that may end meanwhile.
func (r *rig) awaitRound() {
	r.background.pause.Lock()
	defer r.background.pause.Unlock()
}

// TestContract runs the suite that every file system passes.
func TestContract(t *testing.T) {
	maker := func(t *testing.T, now func() vfs.Time) vfs.FileSystem {
		return newRig(t, 64<<20, func(o *Options) {
			o.Clock = func() time.Time { return time.Unix(now().Sec, int64(now().Nsec)) }
		})
	}
	vfstest.Run(t, maker)
	vfstest.RunRanges(t, maker)
}

// file makes a regular file in the root directory.
func (r *rig) file(name string) vfs.FileID {
	r.t.Helper()
	var out vfs.CreateResult
	req := vfs.CreateRequest{Kind: vfs.Regular, Mode: vfs.Guarded, Attr: vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o644}}
	if err := r.Create(bg, nil, r.Root(), name, &req, &out); err != nil {
		r.t.Fatal(err)
	}
	return out.Attr.ID
}

// noise is reproducible content without a zero.
func noise(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 77))
	p := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], rng.Uint64()|0x0101010101010101)
	}
	return p[:n]
}
