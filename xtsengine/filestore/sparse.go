package filestore

import (
	"context"
	"errors"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// written returns an attrChange that lets the file seem written by cred, who needs write access; the
// file is sizeAtLeast bytes long afterwards.
func (s *Store) written(cred *vfs.Cred, id vfs.FileID, sizeAtLeast uint64, out *vfs.Attr) attrChange {
	return attrChange{id: id, out: out, change: func(a *vfs.Attr) error {
		if !vfs.Permitted(a, cred, vfs.MayWrite) {
			return vfs.ErrAccess
		}
		a.Size = max(a.Size, sizeAtLeast)
		a.Written(cred, s.now())
		return nil
	}}
}

// checkFileNow is checkFile under the file's lock; it returns the size.
func (i *inode) checkFileNow(id vfs.FileID, cred *vfs.Cred, want vfs.Access) (uint64, error) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.rec.attr.Size, i.checkFile(id, cred, want)
}

// Deallocate implements vfs.FileSystem.
func (s *Store) Deallocate(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset, length uint64, out *vfs.Attr) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	s.stats.ranges.Add(1)
	i := s.pin(id.Inode)
	defer s.unpin(i)
	size, err := i.checkFileNow(id, cred, vfs.MayWrite)
	if err != nil {
		return err
	}
	if err := vfs.CheckRange(offset, length); err != nil {
		return err
	}
	if offset >= size {
		return s.getAttr(id, out)
	}
	c := s.written(cred, id, 0, out)
	return s.reshape(i, &c, func() (*remap, error) { return s.prepareHole(i, offset, offset+length) })
}

// prepareHole takes away the whole blocks of a range and clears the rest of it.
func (s *Store) prepareHole(i *inode, offset, end uint64) (*remap, error) {
	r := &remap{i: i}
	if end >= i.size {
		end = (i.size + blockBytes - 1) / blockBytes * blockBytes
	}
	if offset >= end {
		return r, nil
	}
	lo, hi := (offset+blockBytes-1)/blockBytes, end/blockBytes
	from, to := int(offset%blockBytes), int(end%blockBytes)
	if lo > hi { // all in one block
		return r, s.clearEdge(r, hi, from, to, i.size)
	}
	if err := s.drop(r, lo, hi); err != nil {
		return r, err
	}
	if from > 0 {
		if err := s.clearEdge(r, lo-1, from, blockBytes, i.size); err != nil {
			return r, err
		}
	}
	if to > 0 {
		return r, s.clearEdge(r, hi, 0, to, i.size)
	}
	return r, nil
}

// Allocate implements vfs.FileSystem. All blocks are found before anything changes; without space once more, when what can be
// freed was. A long range is recorded in steps, each with the size that goes with it.
func (s *Store) Allocate(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset, length uint64, out *vfs.Attr) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	s.stats.ranges.Add(1)
	i := s.pin(id.Inode)
	defer s.unpin(i)
	if _, err := i.checkFileNow(id, cred, vfs.MayWrite); err != nil {
		return err
	}
	if err := vfs.CheckRange(offset, length); err != nil {
		return err
	}
	if s.metaFull.Load() {
		return vfs.ErrNoSpace
	}
	allocate := func() error {
		a := allocation{i: i, lo: offset / blockBytes, hi: (offset+length-1)/blockBytes + 1, end: offset + length}
		defer s.dismiss(&a.admitted)
		return s.allocate(&a, cred, id, out)
	}
	err := s.withinQuota(allocate)
	if errors.Is(err, vfs.ErrNoSpace) {
		s.relieve()
		err = s.withinQuota(allocate)
	}
	return err
}

// allocate does it under the locks.
func (s *Store) allocate(a *allocation, cred *vfs.Cred, id vfs.FileID, out *vfs.Attr) error {
	a.i.gate.Lock()
	defer a.i.gate.Unlock()
	a.i.flushing.Lock()
	defer a.i.flushing.Unlock()
	if err := s.flushAllOf(a.i); err != nil {
		return err
	}
	if err := s.reserveHoles(a); err != nil {
		return err
	}
	return s.layReserved(a, cred, id, out)
}

// allocation is one Allocate on its way.
type allocation struct {
	i      *inode
	lo, hi uint64 // file blocks
	end    uint64 // in bytes
	fresh  extents

	admitted admission
}

// reserveHoles finds the holes of the range and blocks of the volume for them.
func (s *Store) reserveHoles(a *allocation) error {
	holes, blocks, err := s.holes(a)
	if err != nil {
		return err
	}
	if a.admitted, err = s.admit(blocks * blockBytes); err != nil {
		return err
	}
	runs, err := s.pool.allocate(nil, blocks)
	if err != nil {
		return s.spaceErr(err)
	}
	for _, hole := range holes {
		for hole.count > 0 {
			n := min(hole.count, uint64(runs[0].Count), windowBlocks-hole.file%windowBlocks)
			a.fresh = append(a.fresh, extent{file: hole.file, count: uint32(n), start: runs[0].Start, place: reserved})
			hole.file, hole.count = hole.file+n, hole.count-n
			runs[0] = skip(runs[0], uint32(n))
			if runs[0].Count == 0 {
				runs = runs[1:]
			}
		}
	}
	return nil
}

// hole is file blocks without an extent.
type hole struct{ file, count uint64 }

// holes returns the holes of the range and how many blocks they are; vfs.ErrNoSpace if there can't be
// so many.
func (s *Store) holes(a *allocation) (holes []hole, blocks uint64, err error) {
	space := s.opts.Space.Stat()
	free := space.Free + space.VolumeFree + s.pool.counts().idle
	if span := a.hi - a.lo; span > free && span-free > a.i.rec.blocks {
		return nil, 0, vfs.ErrNoSpace
	}
	at := a.lo
	err = s.eachExtent(a.i.number, a.lo, a.hi, func(x extent) error {
		if x.file > at {
			holes = append(holes, hole{at, x.file - at})
			blocks += x.file - at
		}
		at = x.end()
		return nil
	})
	if at < a.hi {
		holes = append(holes, hole{at, a.hi - at})
		blocks += a.hi - at
	}
	if err == nil && blocks > free {
		err = vfs.ErrNoSpace
	}
	return holes, blocks, err
}

// layReserved records what was found; what is not recorded after an error is free again.
func (s *Store) layReserved(a *allocation, cred *vfs.Cred, id vfs.FileID, out *vfs.Attr) error {
	for {
		step := a.fresh[:min(len(a.fresh), allocateExtents)]
		a.fresh = a.fresh[len(step):]
		end := a.end
		if len(a.fresh) > 0 {
			end = min(end, step[len(step)-1].end()*blockBytes)
		}
		r := &remap{i: a.i, mid: step, added: step.blocks(), midLo: a.lo / windowBlocks * windowBlocks,
			midHi: (a.hi + windowBlocks - 1) / windowBlocks * windowBlocks, keep: true}
		c := s.written(cred, id, end, out)
		c.admitted = &a.admitted
		if err := s.changeContent(a.i, &c, r); err != nil {
			if s.failed() == nil {
				s.free(step.runs(a.fresh.runs(nil)))
			}
			return err
		}
		if len(a.fresh) == 0 {
			return nil
		}
	}
}

// eachExtent calls visit with the committed extents of a file that have blocks from lo up to hi, without
// their tags. What is unstable doesn't show.
func (s *Store) eachExtent(number, lo, hi uint64, visit func(extent) error) error {
	from := pairKey(tableExtent, number, lo/windowBlocks*windowBlocks)
	return s.scan(from, pairKey(tableExtent, number, hi), func(key, value []byte) error {
		_, file, ok := splitPair(key)
		if !ok {
			return damaged("extent key", number)
		}
		x, err := decodeExtent(number, file, value)
		if err != nil || x.end() <= lo {
			return err
		}
		return visit(x)
	})
}
