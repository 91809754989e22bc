package filestore

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// flakyDevice takes a while for writes of content, and fails some of them, half done.
type flakyDevice struct {
	*memdev.Device
	content int64        // where it begins, in bytes
	odds    atomic.Int64 // one write in so many fails; 0: none
	calm    atomic.Int64 // while it is above 0 none fails
	failed  atomic.Int64
}

func (d *flakyDevice) Write(batch []blockdev.Request) error {
	if batch[0].Offset < d.content {
		return d.Device.Write(batch)
	}
	time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
	if odds := d.odds.Load(); odds > 0 && d.calm.Load() == 0 && rand.Int64N(odds) == 0 {
		d.failed.Add(1)
		return errors.Join(errMedium, d.Device.Write(batch[:rand.IntN(len(batch))]))
	}
	return d.Device.Write(batch)
}

// calmly calls f while no write fails.
func (d *flakyDevice) calmly(f func()) {
	d.calm.Add(1)
	defer d.calm.Add(-1)
	f()
}

// neighbour makes another store on the volume of r.
func (r *rig) neighbour() *rig {
	r.t.Helper()
	k := nextKey(r.t, 200)
	n := &rig{t: r.t, dev: r.dev, meta: r.meta, opts: r.opts, cipher: k.Cipher, tags: k.Tags, vol: r.vol}
	n.opts.ID, n.opts.SpaceOwner, n.opts.MetaDir = k.Owner, k.Owner, "neighbour"
	err := Create(bg, n.opts)
	if err == nil {
		n.space, err = r.vol.OpenSpace(k.Owner, k.Cipher, k.Tags)
	}
	if err == nil {
		n.opts.Space = n.space
		n.Store, err = Open(bg, n.opts)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// TestStorm has two file systems of one volume written to by several at once, while the device is slow and fails now and then, and
// new data keys come: nothing is wrong, and in the end nothing is left over.
func TestStorm(t *testing.T) { atPoints(t, 10, stormOnce) }

func stormOnce(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 31))
	dev := &flakyDevice{Device: memdev.New([]int64{48 << 20, 20 << 20}[rng.IntN(2)])}
	r := newRigOn(t, dev, pebblevfs.NewMem(), func(o *Options) {
		crashOptions(o)
		intentOptions(o, rng)
		o.UnstableBytes = 8 << 20
		if rng.IntN(2) == 0 {
			o.UnstableAge = time.Hour
		}
	})
	dev.content = int64(r.vol.Stat().HeaderChunks) * r.vol.Stat().ChunkBytes
	n := r.neighbour()
	var storms []*storm
	for k, one := range []*rig{r, n} {
		storms = append(storms, newStorm(one, dev, seed+uint64(k)))
	}
	if rng.IntN(3) > 0 {
		dev.odds.Store(int64(2 + rng.IntN(30)))
	}
	ctx, cancel := context.WithCancel(bg)
	var beside, wait sync.WaitGroup
	beside.Go(func() { storms[0].look(ctx) })
	rekeying := rng.IntN(2) == 0
	if rekeying {
		beside.Go(func() { storms[0].newKeys(ctx) })
	}
	steps := 40 + rng.IntN(150)
	for _, s := range storms {
		s.run(&wait, steps)
	}
	wait.Wait()
	cancel()
	beside.Wait()
	dev.odds.Store(0)
	for _, s := range storms {
		s.end()
	}
	t.Logf("%d writes of the device failed", dev.failed.Load())
	if err := n.Store.Close(); err != nil {
		t.Error(err)
	}
}

// storm is several who change one file at once, and clone it.
type storm struct {
	r       *rig
	dev     *flakyDevice
	rng     *rand.Rand
	regions []*region

	copying sync.Mutex
	copied  bool
}

func newStorm(r *rig, dev *flakyDevice, seed uint64) *storm {
	s := &storm{r: r, dev: dev, rng: rand.New(rand.NewPCG(seed, 32))}
	id := r.file("shared")
	w := newWorld(blockdev.BlockBytes, s.rng)
	for n := range 4 {
		g := &region{r: r, w: w, rng: rand.New(rand.NewPCG(seed, uint64(40+n))), id: id, from: n * regionBytes, last: n == 3, flaky: dev}
		g.versions = [][]byte{noise(s.rng.Uint64(), regionBytes)}
		r.put(id, uint64(g.from), g.now())
		s.regions = append(s.regions, g)
	}
	return s
}

// run has each work for so many steps.
func (s *storm) run(wait *sync.WaitGroup, steps int) {
	for _, g := range s.regions {
		wait.Go(func() {
			for step := range steps {
				if err := g.stormy(s.copyOf); err != nil {
					g.r.t.Errorf("step %d, from %d on: %v", step, g.from, err)
					return
				}
				g.stable()
			}
		})
	}
}

// stormy is one, with more large writes.
func (g *region) stormy(copyOf func() error) error {
	if g.rng.IntN(2) == 0 {
		return g.one(copyOf)
	}
	return g.write(regionBytes, vfs.Unstable)
}

// copyOf clones the whole file, or removes the clone.
func (s *storm) copyOf() (err error) {
	s.copying.Lock()
	defer s.copying.Unlock()
	if s.copied {
		s.copied = false
		return s.r.remove("copy")
	}
	var out vfs.CreateResult
	req := vfs.CreateRequest{Kind: vfs.Regular, Mode: vfs.Guarded}
	err = s.r.Create(bg, nil, s.r.Root(), "copy", &req, &out)
	if s.copied = err == nil; s.copied {
		err = s.r.Clone(bg, nil, s.regions[0].id, out.Attr.ID, 0, 0, 0, new(vfs.Attr))
	}
	if err == nil && s.rng.IntN(2) == 0 { // what is written is removed before it is stable
		_, err = s.r.Write(bg, nil, false, out.Attr.ID, 5000, noise(1, 200<<10), vfs.Unstable)
	}
	if errors.Is(err, vfs.ErrNoSpace) || errors.Is(err, vfs.ErrIO) {
		return nil
	}
	return err
}

// look checks and scrubs until it is told to stop.
func (s *storm) look(ctx context.Context) {
	for ctx.Err() == nil {
		s.r.check()
		report, err := s.r.CheckOnline(bg)
		if err != nil || report.Found > 0 {
			s.r.t.Errorf("checking beside: %v, %+v", err, report)
		}
		if _, err := s.r.Scrub(bg, ScrubPosition{}, func(ScrubProgress) error { return nil }, func(b BadBlock) {
			s.r.t.Errorf("a scrub found %+v", b)
		}); err != nil {
			s.r.t.Errorf("scrub: %v", err)
		}
		time.Sleep(30 * time.Millisecond)
	}
}

// newKeys moves the content to one key after the other, until it is told to stop.
func (s *storm) newKeys(ctx context.Context) {
	for number := byte(50); ctx.Err() == nil && number < 150; {
		if s.r.old == nil {
			s.r.rekey(number)
			number++
		}
		switch err := s.r.MoveContent(ctx, steady); {
		case err == nil:
			s.r.old = nil
		case errors.Is(err, context.Canceled), errors.Is(err, vfs.ErrIO):
		default:
			s.r.t.Errorf("moving: %v", err)
			return
		}
	}
}

// end compares, and looks whether anything is left over.
func (s *storm) end() {
	r := s.r
	for _, g := range s.regions {
		if err := g.compare(); err != nil {
			r.t.Error(err)
		}
	}
	if err := r.Commit(bg, s.regions[0].id, 0, 0); err != nil {
		r.t.Errorf("commit: %v", err)
	}
	r.check()
	if r.old != nil {
		if err := r.vol.Grow(r.dev.SizeBytes() + 8<<20); err != nil {
			r.t.Fatal(err)
		}
		r.moveAll()
	}
	for _, g := range s.regions {
		if err := g.compare(); err != nil {
			r.t.Error(err)
		}
	}
	if s.copied {
		if err := r.remove("copy"); err != nil {
			r.t.Error(err)
		}
	}
	if err := r.remove("shared"); err != nil {
		r.t.Error(err)
	}
	r.awaitRound()
	r.reaper.wait()
	r.behind.settle()
	if used := r.usedBlocks(); used != 0 {
		r.t.Errorf("%d blocks are in use in the end", used)
	}
	if st := r.Stats(); st.BehindBytes != 0 || st.DirtyBytes != 0 || st.UnstableBytes != 0 {
		r.t.Errorf("memory of nothing: %+v", st)
	}
}
