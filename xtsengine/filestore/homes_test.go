package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// fill takes every block of the volume that is free.
func (r *rig) fill() {
	r.t.Helper()
	id := r.file("filler")
	for at, step := uint64(0), uint64(1<<20); step >= blockBytes; {
		_, err := r.Write(bg, nil, false, id, at, noise(at, int(step)), vfs.FileSync)
		switch {
		case errors.Is(err, vfs.ErrNoSpace):
			step /= 2
		case err != nil:
			r.t.Fatal(err)
		default:
			at += step
		}
	}
}

// runsOf returns the blocks of the volume that a file has, in the order of the file.
func (r *rig) runsOf(id vfs.FileID) (list []volume.Block) {
	r.t.Helper()
	err := r.eachExtent(id.Inode, 0, allBlocks, func(x extent) error {
		for n := range x.count {
			list = append(list, x.start+volume.Block(n))
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

// TestReservedFull writes into a reservation on a full volume: that succeeds, in blocks that were
// reserved, and what is not reserved finds no space.
func TestReservedFull(t *testing.T) {
	const size = 2 << 20
	small := func(n int) int { return []int{100, 5000, blockBytes, 3 * blockBytes}[n%4] }
	large := func(int) int { return 256 << 10 }
	for name, test := range map[string]struct {
		piece func(n int) int
		how   vfs.Stability
		first int // where the first piece begins
	}{
		"large and unstable": {large, vfs.Unstable, 0},
		"large and stable":   {large, vfs.FileSync, 0},
		"large and crooked":  {large, vfs.Unstable, 777},
		"small and unstable": {small, vfs.Unstable, 0},
		"one at a time":      {func(int) int { return blockBytes }, vfs.FileSync, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 8<<20, nil)
			id, other := r.file("f"), r.file("other")
			var a vfs.Attr
			if err := r.Allocate(bg, nil, id, 0, size, &a); err != nil {
				t.Fatal(err)
			}
			home := r.runsOf(id)
			r.fill()
			want := make([]byte, size)
			for n, at := 0, test.first; at < size; n++ {
				p := noise(uint64(n), min(test.piece(n), size-at))
				copy(want[at:], p)
				r.write(id, uint64(at), p, test.how)
				at += len(p)
			}
			if _, err := r.Write(bg, nil, false, other, 0, noise(1, blockBytes), vfs.Unstable); !errors.Is(err, vfs.ErrNoSpace) {
				t.Errorf("a write to what was not reserved: %v", err)
			}
			if err := r.Commit(bg, id, 0, 0); err != nil {
				t.Fatal(err)
			}
			r.wantContent(id, want)
			if got := r.runsOf(id); !slices.Equal(got, home) {
				t.Errorf("it is in other blocks than those that were reserved")
			}
			report, err := r.Check(bg)
			if err != nil || (report.ReservedBlocks != 0 && test.first == 0) {
				t.Errorf("%v, %d blocks are still reserved", err, report.ReservedBlocks)
			}
			r.reopen()
			r.wantContent(id, want)
		})
	}
}

// TestReservedInPlace checks that what is reserved is used when there is space too, also by a small stable
// write, and that the rest of it stays.
func TestReservedInPlace(t *testing.T) {
	r := newRig(t, 32<<20, nil)
	id := r.file("f")
	var a vfs.Attr
	if err := r.Allocate(bg, nil, id, 0, 1<<20, &a); err != nil {
		t.Fatal(err)
	}
	home := r.runsOf(id)
	r.reopen() // no window is in memory
	want := make([]byte, 1<<20)
	for n, piece := range []struct {
		at, length int
		how        vfs.Stability
	}{{blockBytes, 100, vfs.FileSync}, {200 << 10, 300 << 10, vfs.Unstable}, {600 << 10, 3 * blockBytes, vfs.DataSync}} {
		p := noise(uint64(n), piece.length)
		copy(want[piece.at:], p)
		r.write(id, uint64(piece.at), p, piece.how)
	}
	if err := r.Commit(bg, id, 0, 0); err != nil {
		t.Fatal(err)
	}
	r.wantContent(id, want)
	if got := r.runsOf(id); !slices.Equal(got, home) {
		t.Error("it is in other blocks than those that were reserved")
	}
	if report, err := r.Check(bg); err != nil || report.ReservedBlocks != 256-1-75-3 || report.JournalBlocks != 0 {
		t.Errorf("%v, %+v", err, report)
	}
	r.reopen()
	r.wantContent(id, want)
}

// TestReservedClone checks that a clone has a hole where the source has a reservation, so that what is
// written to the source afterwards is not seen in it.
func TestReservedClone(t *testing.T) {
	r := newRig(t, 8<<20, nil)
	src, dst := r.file("src"), r.file("dst")
	var a vfs.Attr
	if err := r.Allocate(bg, nil, src, 0, 1<<20, &a); err != nil {
		t.Fatal(err)
	}
	p := noise(1, 256<<10)
	r.write(src, 0, p, vfs.FileSync)
	if err := r.Clone(bg, nil, src, dst, 0, 0, 0, &a); err != nil {
		t.Fatal(err)
	}
	r.fill()
	r.write(src, 512<<10, p, vfs.FileSync)
	want := make([]byte, 1<<20)
	copy(want, p)
	r.wantContent(dst, want)
	copy(want[512<<10:], p)
	r.wantContent(src, want)
	if _, err := r.Write(bg, nil, false, dst, 512<<10, p, vfs.Unstable); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("a write to the clone's hole: %v", err)
	}
}

// TestReservedEnds takes a reservation away after unstable writes to it: by a hole, by a new size, and by
// the end of the file. Every block is free again.
func TestReservedEnds(t *testing.T) {
	for name, end := range map[string]func(r *rig, id vfs.FileID) error{
		"hole": func(r *rig, id vfs.FileID) error {
			return r.Deallocate(bg, nil, id, 0, 1<<20, new(vfs.Attr))
		},
		"size": func(r *rig, id vfs.FileID) error {
			return r.SetAttr(bg, nil, id, &vfs.SetAttr{Mask: vfs.SetSize}, new(vfs.Attr))
		},
		"remove": func(r *rig, id vfs.FileID) error { return r.remove("f") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 8<<20, nil)
			id := r.file("f")
			if err := r.Allocate(bg, nil, id, 0, 1<<20, new(vfs.Attr)); err != nil {
				t.Fatal(err)
			}
			r.fill()
			for n := range 4 {
				r.write(id, uint64(n)<<16, noise(uint64(n), 5000), vfs.Unstable)
			}
			if err := end(r, id); err != nil {
				t.Fatal(err)
			}
			r.check()
			if err := r.remove("filler"); err != nil {
				t.Fatal(err)
			}
			r.reaper.wait()
			r.check()
			if used := r.usedBlocks(); used != 0 {
				t.Errorf("%d blocks are in use", used)
			}
		})
	}
}

// heldDevice lets one sync of the device wait.
type heldDevice struct {
	*memdev.Device
	arrived, proceed chan struct{}
	hold             bool
}

func (d *heldDevice) Sync() error {
	if d.hold {
		d.hold = false
		close(d.arrived)
		<-d.proceed
	}
	return d.Device.Sync()
}

// TestReservedRemovedInFlush removes a file while a flush writes to what was reserved for it: nobody else
// gets those blocks before the flush has ended.
func TestReservedRemovedInFlush(t *testing.T) {
	d := &heldDevice{Device: memdev.New(8 << 20), arrived: make(chan struct{}), proceed: make(chan struct{})}
	r := newRigOn(t, blockdev.Device(d), pebblevfs.NewMem(), nil)
	id := r.file("f")
	if err := r.Allocate(bg, nil, id, 0, 1<<20, new(vfs.Attr)); err != nil {
		t.Fatal(err)
	}
	r.fill()
	used := r.usedBlocks()
	r.write(id, 0, noise(1, 1<<20), vfs.Unstable)
	d.hold = true
	results := make(chan error, 2)
	go func() { results <- r.Commit(bg, id, 0, 0) }()
	<-d.arrived
	go func() { results <- r.remove("f") }()
	for r.GetAttr(bg, id, new(vfs.Attr)) == nil {
	}
	if now := r.usedBlocks(); now != used {
		t.Errorf("%d blocks are used while the flush writes, %d before", now, used)
	}
	close(d.proceed)
	for range 2 {
		if err := <-results; err != nil && !errors.Is(err, vfs.ErrStale) {
			t.Error(err)
		}
	}
	if now := r.usedBlocks(); now != used-256 {
		t.Errorf("%d blocks are used at the end, want %d", now, used-256)
	}
}

// TestReservedFlushFailure lets the device fail a flush to what is reserved: the data stays unstable, and
// the next flush has its blocks still.
func TestReservedFlushFailure(t *testing.T) {
	dev := memdev.New(8 << 20)
	r := newRigOn(t, dev, pebblevfs.NewMem(), nil)
	id := r.file("f")
	if err := r.Allocate(bg, nil, id, 0, 1<<20, new(vfs.Attr)); err != nil {
		t.Fatal(err)
	}
	r.fill()
	want := noise(3, 1<<20)
	r.write(id, 0, want[:512<<10], vfs.Unstable)
	dev.Inject(memdev.Fault{Call: memdev.Write, Err: errMedium})
	if err := r.Commit(bg, id, 0, 0); !errors.Is(err, errMedium) {
		t.Fatalf("the flush: %v", err)
	}
	r.check()
	r.write(id, 256<<10, want[256<<10:], vfs.Unstable)
	r.wantContent(id, want)
	if err := r.Commit(bg, id, 0, 0); err != nil {
		t.Fatal(err)
	}
	r.reopen()
	r.wantContent(id, want)
}

// TestReservedShared checks that Check finds a reservation whose blocks another extent has too, though it
// is counted.
func TestReservedShared(t *testing.T) {
	r := newRig(t, 8<<20, nil)
	src, dst := r.file("src"), r.file("dst")
	r.write(src, 0, noise(1, 256<<10), vfs.FileSync)
	if err := r.Clone(bg, nil, src, dst, 0, 0, 0, new(vfs.Attr)); err != nil {
		t.Fatal(err)
	}
	e, err := readExtents(r.db, dst.Inode, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	b := r.db.NewBatch()
	was := e[0]
	delExtent(b, dst.Inode, &was)
	e[0].place, e[0].tags, e[0].generation = reserved, nil, 0
	putExtent(b, dst.Inode, &e[0])
	if err := r.apply(b); err != nil {
		t.Fatal(err)
	}
	report, err := r.Check(bg)
	if err != nil || len(report.Problems) == 0 || !strings.Contains(strings.Join(report.Problems, "\n"), "is reserved") {
		t.Errorf("%v, %+v", err, report)
	}
	b = r.db.NewBatch()
	delExtent(b, dst.Inode, &e[0])
	putExtent(b, dst.Inode, &was)
	if err := r.apply(b); err != nil {
		t.Fatal(err)
	}
}

// TestReservedCrash lets power fail at points of a write to what is reserved, in blocks that held something
// before: afterwards there are zeros or the data, and nothing else.
func TestReservedCrash(t *testing.T) {
	first := seed(t)
	for n := range 20 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			reservedCrash(t, rand.New(rand.NewPCG(first, uint64(n))), 1+4*n)
		})
	}
}

func reservedCrash(t *testing.T, rng *rand.Rand, point int) {
	const size = 300 << 10
	w := newWorld(6<<20, rng)
	key := newMetaKey(t)
	r := newRigOn(t, worldDevice{w.dev, w}, encrypted(t, w.steps(), key), nil)
	old := r.file("old") // most blocks have held something
	r.write(old, 0, noise(5, 4<<20), vfs.FileSync)
	if err := r.remove("old"); err != nil {
		t.Fatal(err)
	}
	r.reaper.wait()
	id := r.file("f")
	if err := r.Allocate(bg, nil, id, 0, size, new(vfs.Attr)); err != nil {
		t.Fatal(err)
	}
	w.arm(point)
	data := noise(7, size)
	r.write(id, 0, data, vfs.Unstable)
	acknowledged := r.Commit(bg, id, 0, 0) == nil && w.alive()
	w.fail()
	if err := r.Store.Close(); err != nil {
		t.Fatal(err)
	}
	r.drop()
	after := &rig{t: t, dev: w.crashed.dev, meta: encrypted(t, w.crashed.meta, key), opts: r.opts, cipher: r.cipher, tags: r.tags}
	after.opts.Meta = after.meta
	after.open()
	got := make([]byte, size)
	if _, _, err := after.Read(bg, nil, id, 0, got); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(got, data) && (acknowledged || len(trim(got)) != 0) {
		t.Errorf("neither zeros nor the data, or not the data that was acknowledged (%v)", acknowledged)
	}
	after.close()
}
