package filestore

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// GetAttr implements vfs.FileSystem.
func (s *Store) GetAttr(ctx context.Context, id vfs.FileID, out *vfs.Attr) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	return s.getAttr(id, out)
}

func (s *Store) getAttr(id vfs.FileID, out *vfs.Attr) error {
	i := s.pin(id.Inode)
	defer s.unpin(i)
	i.mu.RLock()
	defer i.mu.RUnlock()
	if err := i.check(id); err != nil {
		return err
	}
	i.fill(out)
	return nil
}

// SetAttr implements vfs.FileSystem.
func (s *Store) SetAttr(ctx context.Context, cred *vfs.Cred, id vfs.FileID, set *vfs.SetAttr, out *vfs.Attr) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	s.stats.namespace.Add(1)
	i := s.pin(id.Inode)
	defer s.unpin(i)
	if set.Mask&vfs.SetSize != 0 {
		return s.setSize(i, cred, id, set, out)
	}
	c := attrChange{set: set, cred: cred, id: id, out: out}
	return s.changeAttr(i, &c)
}

// attrChange is a change of attributes on its way.
type attrChange struct {
	set  *vfs.SetAttr
	cred *vfs.Cred
	id   vfs.FileID
	out  *vfs.Attr
	cut  *cut // what a new size takes away; nil for nothing
}

// changeAttr checks and makes the change.
func (s *Store) changeAttr(i *inode, c *attrChange) error {
	b, err := s.applyAttr(i, c)
	if b == nil {
		return err
	}
	return s.settle(b)
}

// applyAttr makes the change, visible but not durable; a nil batch means that there is nothing to
// settle.
func (s *Store) applyAttr(i *inode, c *attrChange) (*pebble.Batch, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.check(c.id); err != nil {
		return nil, err
	}
	attr := i.rec.attr
	if err := c.set.Apply(&attr, c.cred, s.now()); err != nil {
		return nil, err
	}
	if c.set.Mask == 0 {
		i.fill(c.out)
		return nil, nil
	}
	change, err := s.changes.take(s)
	if err != nil {
		return nil, err
	}
	b := s.db.NewBatch()
	if c.cut != nil {
		if err := s.removeCut(b, i, c.cut); err != nil {
			return nil, err
		}
	}
	i.rec.attr = attr
	i.rec.attr.Change = change
	if c.set.Mask&vfs.SetSize != 0 {
		i.size = attr.Size
	}
	i.put(b)
	if err := s.apply(b); err != nil {
		return nil, err
	}
	if c.cut != nil {
		s.finishCut(i, c.cut)
	}
	i.fill(c.out)
	return b, nil
}

// setSize changes the size of a regular file. Writes wait; what they left unstable is made stable
// first, so that there is one version of the content to cut.
func (s *Store) setSize(i *inode, cred *vfs.Cred, id vfs.FileID, set *vfs.SetAttr, out *vfs.Attr) error {
	if err := s.checkAttr(i, cred, id, set); err != nil {
		return err
	}
	i.gate.Lock()
	defer i.gate.Unlock()
	i.flushing.Lock()
	defer i.flushing.Unlock()
	i.mu.RLock()
	number := i.writes
	i.mu.RUnlock()
	if err := s.flushLocked(i, number); err != nil {
		return err
	}
	c := attrChange{set: set, cred: cred, id: id, out: out}
	if set.Size < i.size {
		var err error
		if c.cut, err = s.prepareCut(i, set.Size); err != nil {
			return err
		}
		defer c.cut.release()
	}
	if err := s.changeAttr(i, &c); err != nil {
		return err
	}
	if c.cut != nil {
		s.clear(&c.cut.grave)
	}
	return nil
}

// checkAttr says early whether a change is allowed.
func (s *Store) checkAttr(i *inode, cred *vfs.Cred, id vfs.FileID, set *vfs.SetAttr) error {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if err := i.check(id); err != nil {
		return err
	}
	attr := i.rec.attr
	return set.Apply(&attr, cred, s.now())
}

// cut is the end of a file that a smaller size takes away. The block that the new size ends in is
// stored anew with zeros behind that: bytes beyond the size of a file are always zero.
type cut struct {
	grave grave
	from  uint64 // the first block that goes

	tail  *block // what block from-1 becomes; nil if it stays as it is
	where place
	last  changedWindow // that of block from
	prev  changedWindow // that of the tail, if it is another one

	hidden extents // replaced blocks in the metadata store
}

func (c *cut) release() {
	if c.tail != nil {
		freeBlock(c.tail)
	}
}

// prepareCut reads and computes everything that a cut at size needs; i.flushing is held, and there is
// no unstable data.
func (s *Store) prepareCut(i *inode, size uint64) (*cut, error) {
	c := &cut{from: (size + blockBytes - 1) / blockBytes}
	var err error
	if err = s.prepareTail(i, c, size); err != nil {
		return nil, err
	}
	c.last, err = s.loadChanged(i, c.from/windowBlocks)
	if err != nil {
		c.release()
		return nil, err
	}
	c.last.now = carve(nil, c.last.now, c.from, (c.last.index+1)*windowBlocks, func(x extent) {
		c.take(x)
		c.grave.blocks += uint64(x.count)
		if x.place == inJournal {
			c.grave.journaled += int64(x.count)
		}
	})
	if c.tail == nil {
		return c, nil
	}
	w := &c.last
	if (c.from-1)/windowBlocks != c.last.index {
		w = &c.prev
		if *w, err = s.loadChanged(i, c.last.index-1); err != nil {
			c.release()
			return nil, err
		}
	}
	over := extents{{file: c.from - 1, count: 1, place: c.where}}
	before := w.now.blocksAt(inJournal)
	w.now = overlay(nil, w.now, over, c.take)
	c.grave.journaled -= int64(w.now.blocksAt(inJournal)) - int64(before)
	return c, nil
}

// take notes a piece that is not referred to any more.
func (c *cut) take(x extent) {
	if x.place == onVolume {
		c.grave.runs = append(c.grave.runs, x.run())
	} else {
		c.hidden = append(c.hidden, x)
	}
}

func (s *Store) loadChanged(i *inode, index uint64) (changedWindow, error) {
	e, err := s.window(i, index, false)
	return changedWindow{index: index, was: e, now: e}, err
}

// prepareTail reads the block that the new size ends in, if there is something to clear in it.
func (s *Store) prepareTail(i *inode, c *cut, size uint64) error {
	keep := size % blockBytes
	if keep == 0 {
		return nil
	}
	b := newBlock()
	i.mu.Lock()
	err := s.readBlock(i, c.from-1, b)
	i.mu.Unlock()
	if err != nil || len(trim(b[:])) <= int(keep) {
		freeBlock(b)
		return err
	}
	clear(b[keep:])
	c.tail, c.where = b, inJournal
	if c.from == 1 && size <= inlineBytes {
		c.where = inInode
	}
	return nil
}

// removeCut puts a cut into a batch; i.mu is held alone.
func (s *Store) removeCut(b *pebble.Batch, i *inode, c *cut) error {
	if i.rec.blocks > 0 {
		if err := s.removeExtents(b, i.number, (c.last.index+1)*windowBlocks, &c.grave); err != nil {
			return err
		}
	}
	for _, w := range []changedWindow{c.last, c.prev} {
		putWindow(b, i.number, w.was, w.now)
	}
	for k := range c.hidden {
		delBlocks(b, i.number, &c.hidden[k])
	}
	if c.tail != nil {
		table := tableJournal
		if c.where == inInode {
			table = tableInline
		}
		set(b, pairKey(table, i.number, c.from-1), trim(c.tail[:]))
	}
	i.rec.blocks -= c.grave.blocks
	return nil
}

// finishCut follows removeCut when the batch has been applied.
func (s *Store) finishCut(i *inode, c *cut) {
	for index := range i.windows {
		if index > c.last.index {
			s.dropWindow(i, index)
		}
	}
	s.setWindow(i, c.last.index, c.last.now)
	if c.tail != nil && c.prev.now != nil {
		s.setWindow(i, c.prev.index, c.prev.now)
	}
	s.journaled.Add(-c.grave.journaled)
	if c.tail == nil || c.where != inJournal {
		return
	}
	if i.journal == nil {
		i.journal = map[uint64]struct{}{}
	}
	i.journal[c.from-1] = struct{}{}
	s.journal.add(i, s.opts.Clock())
}
