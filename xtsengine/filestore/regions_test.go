package filestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/cryptfs"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// regionBytes is what each of those has who work on one file at once.
const regionBytes = 64 * blockBytes

// region is a part of a file that one worker changes, in the order of its versions. The last region ends with the file, and is as
// long as it likes.
type region struct {
	r    *rig
	w    *world
	rng  *rand.Rand
	id   vfs.FileID
	from int
	last bool
	// flaky is the device, if it fails now and then.
	flaky *flakyDevice

	versions [][]byte // the last one is what it should be now
}

func (g *region) now() []byte { return g.versions[len(g.versions)-1] }

// done ends a change to what v is. Without space it has changed nothing; if it is durable, nothing else may be found
// after a crash.
func (g *region) done(err error, durable bool) error {
	switch {
	case errors.Is(err, vfs.ErrNoSpace), errors.Is(err, vfs.ErrQuota):
		g.versions = g.versions[:len(g.versions)-1]
		return nil
	case errors.Is(err, vfs.ErrIO) && g.flaky != nil:
		return g.look()
	case err == nil && durable && g.w.alive():
		g.stable()
	}
	return err
}

// look finds out, after a failure of the device, whether the last change was made: a stable write that failed may be there.
func (g *region) look() (err error) {
	g.flaky.calmly(func() {
		if err = g.compare(); err != nil && len(g.versions) > 1 {
			g.versions = g.versions[:len(g.versions)-1]
			err = g.compare()
		}
	})
	return err
}

func (g *region) stable() { g.versions = g.versions[len(g.versions)-1:] }

// next begins a change, to at least so many bytes.
func (g *region) next(size int) []byte {
	v := make([]byte, max(size, len(g.now())))
	copy(v, g.now())
	g.versions = append(g.versions, v)
	return v
}

// piece is a random piece of the region, or beyond its end in the last one.
func (g *region) piece(longest int) (offset, length int) {
	limit := regionBytes
	if !g.last {
		limit = len(g.now())
	}
	offset = g.rng.IntN(limit - 1)
	return offset, 1 + g.rng.IntN(min(longest, limit-offset))
}

func (g *region) one(copyOf func() error) error {
	var out vfs.Attr
	switch n := g.rng.IntN(100); {
	case n < 40:
		return g.write(5000, vfs.FileSync)
	case n < 50:
		return g.write(30*blockBytes, vfs.FileSync)
	case n < 65:
		return g.write([]int{5000, 30 * blockBytes}[g.rng.IntN(2)], vfs.Unstable)
	case n < 72:
		err := g.r.Commit(bg, g.id, 0, 0)
		if err == nil && g.w.alive() {
			g.stable()
		}
		if errors.Is(err, vfs.ErrIO) && g.flaky != nil {
			return nil
		}
		return err
	case n < 78:
		offset, length := g.piece(20 * blockBytes)
		if offset+length > len(g.now()) && !g.last {
			return nil
		}
		g.next(offset + length)
		return g.done(g.r.Allocate(bg, nil, g.id, uint64(g.from+offset), uint64(length), &out), true)
	case n < 85:
		offset, length := g.piece(20 * blockBytes)
		v := g.next(0)
		clear(v[min(offset, len(v)):min(offset+length, len(v))])
		inside := offset < len(v) // else there is nothing to do, not even for what was written before
		return g.done(g.r.Deallocate(bg, nil, g.id, uint64(g.from+offset), uint64(length), &out), inside)
	case n < 92:
		return g.clone()
	case n < 96 && g.last:
		size := g.rng.IntN(regionBytes)
		v := append(bytes.Clone(g.now()), make([]byte, regionBytes)...)[:size]
		clear(v[min(len(g.now()), size):])
		g.versions = append(g.versions, v)
		return g.done(g.r.SetAttr(bg, nil, g.id, &vfs.SetAttr{Mask: vfs.SetSize, Size: uint64(g.from + size)}, &out), true)
	case n < 98:
		return copyOf()
	}
	if g.flaky != nil {
		return g.look()
	}
	return g.compare()
}

func (g *region) write(longest int, want vfs.Stability) error {
	offset, length := g.piece(longest)
	if g.rng.IntN(2) == 0 && offset+blockBytes < regionBytes {
		offset &^= blockBytes - 1
	}
	p := noise(g.rng.Uint64(), length)
	copy(g.next(offset + length)[offset:], p)
	_, err := g.r.Write(bg, nil, false, g.id, uint64(g.from+offset), p, want)
	return g.done(err, want != vfs.Unstable)
}

// clone clones some blocks of the region to others.
func (g *region) clone() error {
	blocks := len(g.now()) / blockBytes
	if blocks < 4 {
		return nil
	}
	n := 1 + g.rng.IntN(blocks/2)
	src, dst := g.rng.IntN(blocks-n+1), g.rng.IntN(blocks-n+1)
	if src < dst+n && dst < src+n {
		return nil
	}
	v := g.next(0)
	copy(v[dst*blockBytes:], v[src*blockBytes:(src+n)*blockBytes])
	var out vfs.Attr
	at := func(block int) uint64 { return uint64(g.from + block*blockBytes) }
	return g.done(g.r.Clone(bg, nil, g.id, g.id, at(src), at(dst), uint64(n*blockBytes), &out), true)
}

// compare reads the region, which nobody else changes.
func (g *region) compare() error {
	p := make([]byte, len(g.now()), len(g.now())+1)
	if g.last { // nothing is behind it
		p = p[:cap(p)]
	}
	n, _, err := g.r.Read(bg, nil, g.id, uint64(g.from), p)
	if err == nil && !bytes.Equal(p[:n], g.now()) {
		err = fmt.Errorf("from %d on: %s", g.from, difference(p[:n], g.now()))
	}
	return err
}

func (g *region) run(copyOf func() error) {
	for step := 0; g.w.alive() && step < 3000; step++ {
		if err := g.one(copyOf); err != nil {
			g.r.t.Errorf("step %d, from %d on: %v", step, g.from, err)
			return
		}
	}
}

// verify checks what is there after a crash.
func (g *region) verify() {
	p := make([]byte, 2*regionBytes)
	if !g.last {
		p = p[:regionBytes]
	}
	n, _, err := g.r.Read(bg, nil, g.id, uint64(g.from), p)
	if err != nil {
		g.r.t.Error(err)
		return
	}
	for _, v := range g.versions {
		if bytes.Equal(p[:n], v) {
			g.versions = [][]byte{v}
			return
		}
	}
	g.r.t.Errorf("from %d on it is none of %d versions; %s", g.from, len(g.versions), difference(p[:n], g.now()))
}

// TestRegionsCrash is TestCrash for several who change parts of one file at once, while the whole of it is cloned and the clone
// removed, on a volume that may be full, and perhaps under new keys.
func TestRegionsCrash(t *testing.T) { atPoints(t, 60, regionsCrashOnce) }

func regionsCrashOnce(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 11))
	w := newWorld([]int64{32 << 20, 10 << 20}[rng.IntN(2)], rng)
	oldKey, key := newMetaKey(t), newMetaKey(t)
	meta := encrypted(t, w.steps(), oldKey).(*cryptfs.FS)
	r := newRigOn(t, worldDevice{w.dev, w}, meta, func(o *Options) {
		crashOptions(o)
		intentOptions(o, rng)
		if rng.IntN(4) == 0 {
			o.QuotaBytes = 4 << 20
		}
	})
	id := r.file("shared")
	var regions []*region
	for n := range 4 {
		g := &region{r: r, w: w, rng: rand.New(rand.NewPCG(seed, uint64(20+n))), id: id, from: n * regionBytes, last: n == 3}
		g.versions = [][]byte{noise(rng.Uint64(), regionBytes)}
		r.put(id, uint64(g.from), g.now())
		regions = append(regions, g)
	}
	if r.vol.Stat().SizeBytes < 16<<20 && rng.IntN(2) == 0 {
		fillRegions(r)
	}
	w.arm(1 + rng.IntN(1500))
	ctx, cancel := context.WithCancel(bg)
	var moving, wait sync.WaitGroup
	rekeying := rng.IntN(2) == 0
	if rekeying {
		r.rekey(50)
		if err := meta.Rekey(key); err != nil {
			t.Fatal(err)
		}
		moving.Go(func() { r.rekeyUntil(ctx) })
	}
	var copying sync.Mutex
	have := false
	copyOf := func() (err error) {
		copying.Lock()
		defer copying.Unlock()
		if have {
			have = false
			return r.remove("copy")
		}
		var out vfs.CreateResult
		req := vfs.CreateRequest{Kind: vfs.Regular, Mode: vfs.Guarded}
		err = r.Create(bg, nil, r.Root(), "copy", &req, &out)
		if have = err == nil; have {
			err = r.Clone(bg, nil, id, out.Attr.ID, 0, 0, 0, new(vfs.Attr))
		}
		if errors.Is(err, vfs.ErrNoSpace) || errors.Is(err, vfs.ErrQuota) {
			return nil
		}
		return err
	}
	for _, g := range regions {
		wait.Go(func() { g.run(copyOf) })
	}
	wait.Wait()
	w.fail()
	cancel()
	moving.Wait()
	if err := r.Store.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	r.drop()

	survived := encrypted(t, w.crashed.meta, oldKey)
	if rekeying {
		survived = rekeyed(t, w.crashed.meta, key, oldKey)
	}
	after := r.afterCrash(w, survived)
	verify := func() {
		for _, g := range regions {
			g.r = after
			g.verify()
		}
	}
	verify()
	if rekeying && after.space.Rekeying() {
		freeRoom(after)
		after.moveAll()
		verify()
	}
	after.close()
}

// fillRegions takes most of what is free.
func fillRegions(r *rig) {
	r.t.Helper()
	limit := r.quota.limit.Load()
	err := r.SetQuota(0)
	r.fill()
	if err = errors.Join(err, r.SetQuota(limit)); err != nil {
		r.t.Fatal(err)
	}
}
