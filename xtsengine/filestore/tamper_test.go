package filestore

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// tamperRig is a store with one file of 100 blocks, written twice, and what the device held after the
// first time. Its cache is empty.
type tamperRig struct {
	*rig
	id      vfs.FileID
	content []byte
	blocks  []volume.Block // where each file block is
	old     map[volume.Block][]byte

	mu     sync.Mutex
	events []TamperedBlock
}

const tamperBlocks = 100

func newTamperRig(t *testing.T, dev blockdev.Device) *tamperRig {
	r := &tamperRig{old: map[volume.Block][]byte{}}
	r.rig = newRigOn(t, dev, pebblevfs.NewMem(), func(o *Options) {
		o.Events.Tampered = func(b TamperedBlock) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, b)
		}
	})
	r.id = r.file("f")
	r.write(r.id, 0, noise(1, tamperBlocks*blockBytes), vfs.FileSync)
	first := r.places()
	for _, at := range first {
		r.old[at] = r.raw(at)
	}
	// The second time goes elsewhere, the third where the first one was: copy on write reuses.
	r.write(r.id, 0, noise(2, tamperBlocks*blockBytes), vfs.FileSync)
	r.reopen()
	r.content = noise(3, tamperBlocks*blockBytes)
	r.write(r.id, 0, r.content, vfs.FileSync)
	r.blocks = r.places()
	r.reopen()
	if r.old[r.blocks[7]] == nil {
		t.Fatalf("block %d was not used before: there is nothing to replay", r.blocks[7])
	}
	return r
}

// places says where the file's blocks are.
func (r *tamperRig) places() []volume.Block {
	r.t.Helper()
	e, err := r.readWindow(r.id.Inode, 0)
	if err != nil || e.blocks() != tamperBlocks {
		r.t.Fatalf("%d blocks, %v", e.blocks(), err)
	}
	var list []volume.Block
	for k := range e {
		for n := range e[k].count {
			list = append(list, e[k].start+volume.Block(n))
		}
	}
	return list
}

// raw is what the device has in a block; spoil changes it.
func (r *tamperRig) raw(at volume.Block) []byte {
	r.t.Helper()
	b := blockdev.Alloc(blockBytes)
	defer blockdev.Free(b)
	if err := r.dev.Read([]blockdev.Request{{Offset: int64(at) * blockBytes, Buf: b}}); err != nil {
		r.t.Fatal(err)
	}
	return bytes.Clone(b)
}

func (r *tamperRig) spoil(at volume.Block, content []byte) {
	r.t.Helper()
	b := blockdev.Alloc(blockBytes)
	defer blockdev.Free(b)
	copy(b, content)
	if err := r.dev.Write([]blockdev.Request{{Offset: int64(at) * blockBytes, Buf: b}}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *tamperRig) flip(file, bit int) {
	b := r.raw(r.blocks[file])
	b[bit/8] ^= 1 << (bit % 8)
	r.spoil(r.blocks[file], b)
}

// tamperings say what is done to the device, and which file blocks are bad then.
var tamperings = map[string]struct {
	tamper func(r *tamperRig)
	bad    []int
}{
	"first bit":   {func(r *tamperRig) { r.flip(0, 0) }, []int{0}},
	"last bit":    {func(r *tamperRig) { r.flip(99, blockBytes*8-1) }, []int{99}},
	"bit 12345":   {func(r *tamperRig) { r.flip(50, 12345) }, []int{50}},
	"three bits":  {func(r *tamperRig) { r.flip(3, 77); r.flip(3, 78); r.flip(64, 4096) }, []int{3, 64}},
	"zeros":       {func(r *tamperRig) { r.spoil(r.blocks[33], nil) }, []int{33}},
	"replay":      {func(r *tamperRig) { r.spoil(r.blocks[7], r.old[r.blocks[7]]) }, []int{7}},
	"replay all":  {func(r *tamperRig) { r.replayAll(8, 12) }, []int{8, 9, 10, 11}},
	"of another":  {func(r *tamperRig) { r.spoil(r.blocks[20], r.raw(r.blocks[21])) }, []int{20}},
	"swapped":     {func(r *tamperRig) { r.swap(10, 90) }, []int{10, 90}},
	"neighbours":  {func(r *tamperRig) { r.swap(63, 64) }, []int{63, 64}},
	"plain bytes": {func(r *tamperRig) { r.spoil(r.blocks[1], r.content[blockBytes:2*blockBytes]) }, []int{1}},
}

func (r *tamperRig) swap(a, b int) {
	x, y := r.raw(r.blocks[a]), r.raw(r.blocks[b])
	r.spoil(r.blocks[a], y)
	r.spoil(r.blocks[b], x)
}

func (r *tamperRig) replayAll(from, to int) {
	for k := from; k < to; k++ {
		r.spoil(r.blocks[k], r.old[r.blocks[k]])
	}
}

// TestTampering changes the device behind the store, in memory and in a file: who reads a bad block gets
// ErrCorrupt and no data, it is counted and told, and everything else stays readable.
func TestTampering(t *testing.T) {
	devices := map[string]func(t *testing.T) blockdev.Device{
		"memory": func(*testing.T) blockdev.Device { return memdev.New(16 << 20) },
		"file": func(t *testing.T) blockdev.Device {
			dev, err := blockdev.CreateFile(filepath.Join(t.TempDir(), "volume"), 16<<20, blockdev.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { dev.Close() })
			return dev
		},
	}
	for where, open := range devices {
		for name, c := range tamperings {
			t.Run(where+"/"+name, func(t *testing.T) {
				r := newTamperRig(t, open(t))
				c.tamper(r)
				r.checkBlocks(c.bad)
				r.checkWhole(c.bad)
			})
		}
	}
}

// checkBlocks reads block by block.
func (r *tamperRig) checkBlocks(bad []int) {
	r.t.Helper()
	isBad := map[int]bool{}
	for _, k := range bad {
		isBad[k] = true
	}
	p := make([]byte, blockBytes)
	for k := range tamperBlocks {
		for i := range p {
			p[i] = 0xee
		}
		n, _, err := r.Read(bg, nil, r.id, uint64(k)*blockBytes, p)
		switch {
		case !isBad[k] && (err != nil || !bytes.Equal(p, r.content[k*blockBytes:(k+1)*blockBytes])):
			r.t.Errorf("block %d is whole: %v, or something else than was written", k, err)
		case isBad[k] && (!errors.Is(err, vfs.ErrCorrupt) || n != 0 || bytes.Count(p, []byte{0xee}) != blockBytes):
			r.t.Errorf("block %d is bad: %d bytes, %v", k, n, err)
		}
	}
	if got := r.Stats().Tampered; got != uint64(len(bad)) || len(r.events) != len(bad) {
		r.t.Errorf("%d counted, %d told, want %d", got, len(r.events), len(bad))
	}
	for _, e := range r.events {
		if !isBad[int(e.FileBlock)] || e.Inode != r.id.Inode || e.Block != r.blocks[e.FileBlock] {
			r.t.Errorf("told of %+v", e)
		}
	}
}

// checkWhole reads pieces, changes pieces and cuts the file where blocks are bad.
func (r *tamperRig) checkWhole(bad []int) {
	r.t.Helper()
	if n, _, err := r.Read(bg, nil, r.id, 0, make([]byte, tamperBlocks*blockBytes)); !errors.Is(err, vfs.ErrCorrupt) || n != 0 {
		r.t.Errorf("reading all: %d, %v", n, err)
	}
	for _, k := range bad {
		at := uint64(k) * blockBytes
		if n, _, err := r.Read(bg, nil, r.id, at+100, make([]byte, 50)); !errors.Is(err, vfs.ErrCorrupt) || n != 0 {
			r.t.Errorf("a piece of block %d: %d, %v", k, n, err)
		}
		if _, err := r.Write(bg, nil, false, r.id, at+10, []byte("piece"), vfs.FileSync); !errors.Is(err, vfs.ErrCorrupt) {
			r.t.Errorf("changing a piece of block %d: %v", k, err)
		}
		set := vfs.SetAttr{Mask: vfs.SetSize, Size: at + 10}
		if err := r.SetAttr(bg, nil, r.id, &set, new(vfs.Attr)); !errors.Is(err, vfs.ErrCorrupt) {
			r.t.Errorf("cutting within block %d: %v", k, err)
		}
	}
	for _, k := range bad { // who replaces it whole has it whole again
		r.write(r.id, uint64(k)*blockBytes, r.content[k*blockBytes:(k+1)*blockBytes], vfs.FileSync)
	}
	r.wantContent(r.id, r.content)
}

// TestTruncatedVolume cuts the file below a volume: it can't be opened, or not be read.
func TestTruncatedVolume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "volume")
	dev, err := blockdev.CreateFile(path, 16<<20, blockdev.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	r := newTamperRig(t, dev)
	if err := os.Truncate(path, int64(r.blocks[40])*blockBytes); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, blockBytes)
	for k := range tamperBlocks {
		_, _, err := r.Read(bg, nil, r.id, uint64(k)*blockBytes, p)
		whole := r.blocks[k] < r.blocks[40]
		if whole && (err != nil || !bytes.Equal(p, r.content[k*blockBytes:(k+1)*blockBytes])) {
			t.Errorf("block %d is there: %v", k, err)
		}
		if !whole && !errors.Is(err, vfs.ErrIO) && !errors.Is(err, vfs.ErrCorrupt) {
			t.Errorf("block %d is gone: %v", k, err)
		}
	}
	r.Store.Close()
	r.drop()
	if _, err := blockdev.OpenFile(path, blockdev.Options{}); err == nil {
		err = r.tryOpenOn(path)
		if !errors.Is(err, volume.ErrTruncated) {
			t.Errorf("opening the cut volume: %v", err)
		}
	}
}

func (r *tamperRig) tryOpenOn(path string) error {
	dev, err := blockdev.OpenFile(path, blockdev.Options{})
	if err != nil {
		return err
	}
	defer dev.Close()
	_, err = volume.Open(dev, volume.Options{})
	return err
}

// TestTagsInMetadata damages the records of tags: no data is read without the right ones.
func TestTagsInMetadata(t *testing.T) {
	for name, change := range map[string]func(value []byte) []byte{
		"another generation": func(v []byte) []byte { v[7] ^= 1; return v },
		"another tag":        func(v []byte) []byte { v[8] ^= 1; return v },
		"short":              func(v []byte) []byte { return v[:len(v)-1] },
		"none":               func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			r := newTamperRig(t, memdev.New(16<<20))
			key := pairKey(tableTag, r.id.Inode, 0)
			var value []byte
			if _, err := r.get(key, func(v []byte) error { value = bytes.Clone(v); return nil }); err != nil {
				t.Fatal(err)
			}
			was := bytes.Clone(value)
			b := r.db.NewBatch()
			if value = change(value); value == nil {
				del(b, key)
			} else {
				set(b, key, value)
			}
			if err := r.store(b); err != nil {
				t.Fatal(err)
			}
			if n, _, err := r.Read(bg, nil, r.id, 0, make([]byte, blockBytes)); !errors.Is(err, vfs.ErrCorrupt) || n != 0 {
				t.Errorf("%d bytes, %v", n, err)
			}
			b = r.db.NewBatch()
			set(b, key, was)
			if err := r.store(b); err != nil {
				t.Fatal(err)
			}
			r.reopen()
			r.wantContent(r.id, r.content)
		})
	}
}
