package filestore

import (
	"context"
	"errors"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// cloning is one Clone on its way.
type cloning struct {
	cred     *vfs.Cred
	src, dst vfs.FileID
	out      *vfs.Attr

	from, to *inode
	// In bytes: what is left to do.
	srcOffset, dstOffset, length uint64

	admitted *admission
}

// Clone implements vfs.FileSystem. Blocks on the volume are shared; the few in the metadata store are
// copied there. What is reserved is a hole of the clone. A long range is done in steps.
func (s *Store) Clone(ctx context.Context, cred *vfs.Cred, src, dst vfs.FileID, srcOffset, dstOffset, length uint64,
	out *vfs.Attr) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	s.stats.ranges.Add(1)
	c := cloning{cred: cred, src: src, dst: dst, out: out, srcOffset: srcOffset, dstOffset: dstOffset, length: length,
		admitted: new(admission)}
	c.from, c.to = s.pin(src.Inode), s.pin(dst.Inode)
	defer s.unpin(c.from)
	defer s.unpin(c.to)
	if err := c.checkAccess(); err != nil {
		return err
	}
	if s.metaFull.Load() {
		return vfs.ErrNoSpace
	}
	return s.withinQuota(func() error {
		defer s.dismiss(c.admitted)
		return s.clone(ctx, c)
	})
}

// checkAccess checks both files.
func (c *cloning) checkAccess() error {
	if _, err := c.from.checkFileNow(c.src, c.cred, vfs.MayRead); err != nil {
		return err
	}
	_, err := c.to.checkFileNow(c.dst, c.cred, vfs.MayWrite)
	return err
}

// lockFlushing locks flushing of two files, which may be one, in the order of their numbers.
func lockFlushing(a, b *inode) (unlock func()) {
	if a == b {
		a.flushing.Lock()
		return a.flushing.Unlock
	}
	if a.number > b.number {
		a, b = b, a
	}
	a.flushing.Lock()
	b.flushing.Lock()
	return func() {
		b.flushing.Unlock()
		a.flushing.Unlock()
	}
}

// clone does it under the locks.
func (s *Store) clone(ctx context.Context, c cloning) error {
	c.to.gate.Lock()
	defer c.to.gate.Unlock()
	unlock := lockFlushing(c.from, c.to)
	defer unlock()
	if err := s.drainJournal(c.from); err != nil {
		return err
	}
	if err := s.flushAllOf(c.to); err != nil {
		return err
	}
	if err := c.measure(); err != nil {
		return err
	}
	if c.length == 0 {
		return s.getAttr(c.dst, c.out)
	}
	if err := s.admitClone(&c); err != nil {
		return err
	}
	for c.length > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.skipHoles(&c); err != nil {
			return err
		}
		if err := s.cloneStep(&c, min(c.length, cloneBlocks*blockBytes)); err != nil {
			return err
		}
	}
	return nil
}

// measure checks the range, with sizes that hold as long as the locks do. The source's is that of
// what is stable, of now.
func (c *cloning) measure() error {
	locked := lockAll(c.from, c.to)
	defer unlockAll(locked)
	if err := c.from.check(c.src); err != nil {
		return err
	}
	if err := c.to.check(c.dst); err != nil {
		return err
	}
	src := c.from.rec.attr
	src.Size = c.from.size
	length, err := vfs.CloneRange(&src, &c.to.rec.attr, c.srcOffset, c.dstOffset, c.length)
	c.length = length
	return err
}

// drainJournal makes what was written to a file stable, and moves its blocks from the journal to the
// volume; its flushing is held.
func (s *Store) drainJournal(i *inode) error {
	if err := s.flushAllOf(i); err != nil {
		return err
	}
	for len(i.journal) > 0 {
		f, err := s.readJournaled(i, i.someJournaled(migrateBlocks))
		if err != nil {
			return err
		}
		err = s.writeTogether([]*flush{f})
		if e := s.switchMove(f, err == nil); err == nil {
			err = e
		}
		if _, e := s.finishMove(f); err == nil {
			err = e
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// admitClone sees to the quota for the blocks that the file gets.
func (s *Store) admitClone(c *cloning) (err error) {
	if s.quota.limit.Load() == 0 {
		return nil
	}
	blocks := (c.length + blockBytes - 1) / blockBytes
	more, err := s.countBlocks(c.src.Inode, c.srcOffset/blockBytes, blocks, false)
	if err != nil {
		return err
	}
	less, err := s.countBlocks(c.dst.Inode, c.dstOffset/blockBytes, blocks, true)
	if err != nil || more <= less {
		return err
	}
	*c.admitted, err = s.admit((more - less) * blockBytes)
	return err
}

// countBlocks counts the stable blocks of a range, those that are only reserved too if asked for.
func (s *Store) countBlocks(number, lo, count uint64, all bool) (n uint64, err error) {
	err = s.eachExtent(number, lo, lo+count, func(x extent) error {
		if all || x.place != reserved {
			n += min(x.end(), lo+count) - max(x.file, lo)
		}
		return nil
	})
	return n, err
}

// skipHoles passes over what is a hole in both files and longer than a step, but for the last block of the range: with that the file
// gets its size.
func (s *Store) skipHoles(c *cloning) error {
	hole := (c.length + blockBytes - 1) / blockBytes
	if hole <= cloneBlocks {
		return nil
	}
	hole, err := s.holeAt(c.src.Inode, c.srcOffset/blockBytes, hole-1)
	if err != nil {
		return err
	}
	hole, err = s.holeAt(c.dst.Inode, c.dstOffset/blockBytes, hole)
	if err != nil || hole <= cloneBlocks {
		return err
	}
	passed := hole * blockBytes
	c.srcOffset, c.dstOffset, c.length = c.srcOffset+passed, c.dstOffset+passed, c.length-passed
	return nil
}

// holeAt returns how many of so many blocks of a file are before its first stable one.
func (s *Store) holeAt(number, first, blocks uint64) (uint64, error) {
	err := s.eachExtent(number, first, first+blocks, func(x extent) error {
		blocks = max(x.file, first) - first
		return errEnough
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return blocks, err
}

// cloneStep clones the next bytes.
func (s *Store) cloneStep(c *cloning, length uint64) error {
	r := &remap{i: c.to, from: c.from, fromID: c.src}
	defer r.release()
	first, blocks := c.srcOffset/blockBytes, (length+blockBytes-1)/blockBytes
	to := c.dstOffset / blockBytes
	if err := s.drop(r, to, to+blocks); err != nil {
		return err
	}
	size := max(c.to.size, c.dstOffset+length)
	over, err := s.shareExtents(c, r, first, first+blocks, size)
	if err != nil {
		return err
	}
	if err := s.lay(r, over); err != nil {
		return err
	}
	w := s.written(c.cred, c.dst, size, c.out)
	w.admitted = c.admitted
	if err := s.changeContent(c.to, &w, r); err != nil {
		return err
	}
	c.srcOffset, c.dstOffset, c.length = c.srcOffset+length, c.dstOffset+length, c.length-length
	return nil
}

// shareExtents returns the source's extents from one block up to another as the clone has them, which
// will be of a size. What they share goes to r.adds, what is copied to r.edges.
func (s *Store) shareExtents(c *cloning, r *remap, lo, hi, size uint64) (extents, error) {
	found, err := readExtents(s.db, c.src.Inode, lo/extentBlocks*extentBlocks, hi)
	if err != nil {
		return nil, err
	}
	shift := c.dstOffset/blockBytes - lo
	var over extents
	for k := range found {
		x := &found[k]
		if x.place == reserved || x.end() <= lo {
			continue
		}
		p := x.part(max(x.file, lo), min(x.end(), hi))
		p.file += shift
		if p.place == onVolume {
			r.adds = append(r.adds, p.run())
			over = over.add(p)
			continue
		}
		if over, err = s.copyStored(c, r, over, x, &p, size); err != nil {
			return nil, err
		}
	}
	return over, nil
}

// copyStored copies blocks that are in the metadata store: p is what the clone has of the source's x.
func (s *Store) copyStored(c *cloning, r *remap, over extents, x, p *extent, size uint64) (extents, error) {
	from := p.file + c.srcOffset/blockBytes - c.dstOffset/blockBytes
	for n := range uint64(p.count) {
		b := newBlock()
		if err := s.readStored(c.src.Inode, from+n, x.place, b); err != nil {
			freeBlock(b)
			return nil, err
		}
		e := edge{file: p.file + n, b: b, where: smallPlace(p.file+n, size)}
		r.edges = append(r.edges, e)
		over = over.add(extent{file: e.file, count: 1, place: e.where})
	}
	return over, nil
}
