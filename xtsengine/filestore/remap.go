package filestore

import (
	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// allBlocks is behind every block of a file.
const allBlocks = 1 << 62

// remap is a change of where the content of a file is, made in one batch. Who makes one holds the
// file's gate alone and its flushing, and the file has no unstable data.
//
// It takes blocks away, lays extents over what is left, and stores blocks anew of which a part
// changes. Of a long range only the first and the last window are looked at; what is between goes as
// a range.
type remap struct {
	i       *inode
	from    *inode // which it takes references from, if not nil; its flushing is held
	fromID  vfs.FileID
	grave   grave
	windows []changedWindow
	hidden  extents // replaced blocks in the metadata store
	edges   []edge

	midLo, midHi uint64       // whole windows that lose everything
	keep         bool         // they don't: mid lies in their holes
	mid          extents      // what they get
	added        uint64       // blocks in mid
	adds         []volume.Run // further references that the change takes
}

// changedWindow is a window as it will be.
type changedWindow struct {
	index    uint64
	was, now extents
}

// edge is a block that is stored anew in the metadata store.
type edge struct {
	file  uint64
	b     *block
	where place
}

// release gives the memory of the edges back.
func (r *remap) release() {
	for k := range r.edges {
		freeBlock(r.edges[k].b)
	}
	r.edges = nil
}

// changed returns a window that is to change.
func (s *Store) changed(r *remap, index uint64) (*changedWindow, error) {
	for k := range r.windows {
		if r.windows[k].index == index {
			return &r.windows[k], nil
		}
	}
	e, err := s.window(r.i, index, false)
	if err != nil {
		return nil, err
	}
	r.windows = append(r.windows, changedWindow{index: index, was: e, now: e})
	return &r.windows[len(r.windows)-1], nil
}

// take notes a piece that is not referred to any more.
func (r *remap) take(x extent) {
	if x.place.hasRun() {
		r.grave.runs = append(r.grave.runs, x.run())
	} else {
		r.hidden = append(r.hidden, x)
	}
}

// drop takes the blocks from lo up to hi away; allBlocks is to the end. It comes first.
func (s *Store) drop(r *remap, lo, hi uint64) error {
	if lo >= hi {
		return nil
	}
	first, last := lo/windowBlocks, (hi-1)/windowBlocks
	if err := s.carveWindow(r, first, lo, min(hi, (first+1)*windowBlocks)); err != nil || first == last {
		return err
	}
	r.midLo, r.midHi = (first+1)*windowBlocks, hi
	if hi == allBlocks {
		return nil
	}
	r.midHi = last * windowBlocks
	return s.carveWindow(r, last, r.midHi, hi)
}

func (s *Store) carveWindow(r *remap, index, lo, hi uint64) error {
	w, err := s.changed(r, index)
	if err != nil {
		return err
	}
	w.now = carve(nil, w.now, lo, hi, r.take)
	return nil
}

// clearEdge stores one block anew with zeros from one byte up to another, if it is there and holds
// something in that part. size is that of the file afterwards.
func (s *Store) clearEdge(r *remap, file uint64, from, to int, size uint64) error {
	b := newBlock()
	r.i.mu.Lock()
	err := s.readBlock(r.i, file, b)
	r.i.mu.Unlock()
	if err != nil || len(trim(b[from:to])) == 0 {
		freeBlock(b)
		return err
	}
	clear(b[from:to])
	return s.storeEdge(r, edge{file: file, b: b, where: smallPlace(file, size)})
}

// smallPlace is where in the metadata store a block goes of a file of so many bytes.
func smallPlace(file, size uint64) place {
	if file == 0 && size <= inlineBytes {
		return inInode
	}
	return inJournal
}

// storeEdge takes an edge over.
func (s *Store) storeEdge(r *remap, e edge) error {
	r.edges = append(r.edges, e)
	w, err := s.changed(r, e.file/windowBlocks)
	if err != nil {
		return err
	}
	w.now = overlay(nil, w.now, extents{{file: e.file, count: 1, place: e.where}}, r.take)
	return nil
}

// lay lays extents over what drop left, which is nothing: they lie in the range that was dropped.
func (s *Store) lay(r *remap, over extents) error {
	return over.byWindow(func(index uint64, part extents) error {
		if at := index * windowBlocks; at >= r.midLo && at < r.midHi {
			r.mid = append(r.mid, part...)
			r.added += part.blocks()
			return nil
		}
		w, err := s.changed(r, index)
		if err != nil {
			return err
		}
		w.now = overlay(nil, w.now, part, r.take)
		return nil
	})
}

// put puts the change into a batch; the file's mu is held alone. After an error nothing is changed.
func (r *remap) put(s *Store, b *pebble.Batch) error {
	i := r.i
	if i.rec.blocks > 0 && r.midLo < r.midHi && !r.keep {
		if err := s.removeExtents(b, i.number, r.midLo, r.midHi, &r.grave); err != nil {
			return err
		}
	}
	for k := range r.windows {
		putWindow(b, i.number, r.windows[k].was, r.windows[k].now)
	}
	for k := range r.mid {
		putExtent(b, i.number, &r.mid[k])
	}
	for k := range r.hidden {
		delBlocks(b, i.number, &r.hidden[k])
	}
	for _, e := range r.edges {
		table := tableJournal
		if e.where == inInode {
			table = tableInline
		}
		set(b, pairKey(table, i.number, e.file), trim(e.b[:]))
	}
	return nil
}

// blocks is how many blocks the file has more, after put.
func (r *remap) blocks() int64 {
	n := int64(r.added) - int64(r.grave.blocks)
	for k := range r.windows {
		n += int64(r.windows[k].now.blocks()) - int64(r.windows[k].was.blocks())
	}
	return n
}

// finish follows when the batch has been applied; mu is still held.
func (r *remap) finish(s *Store) {
	i := r.i
	for index := range i.windows {
		if at := index * windowBlocks; at >= r.midLo && at < r.midHi {
			s.dropWindow(i, index)
		}
	}
	moved := int64(r.mid.blocksAt(inJournal)) - r.grave.journaled
	for k := range r.windows {
		w := &r.windows[k]
		s.setWindow(i, w.index, w.now)
		moved += int64(w.now.blocksAt(inJournal)) - int64(w.was.blocksAt(inJournal))
	}
	s.journaled.Add(moved)
	for _, e := range r.edges {
		if e.where == inJournal {
			s.noteJournaled(i, e.file)
		}
	}
}

// attrChange is a change of attributes, and perhaps content, on its way.
type attrChange struct {
	id  vfs.FileID
	out *vfs.Attr
	// change changes the attributes if that is allowed.
	change   func(a *vfs.Attr) error
	remap    *remap     // nil: the content stays
	admitted *admission // for more blocks; may be nil
	sized    bool       // the size may change; there is no unstable data
}

// reshape changes a file's content and attributes together. prepare gets what is to change, under the
// file's gate and flushing, without unstable data.
func (s *Store) reshape(i *inode, c *attrChange, prepare func() (*remap, error)) error {
	i.gate.Lock()
	defer i.gate.Unlock()
	i.flushing.Lock()
	defer i.flushing.Unlock()
	if err := s.flushAllOf(i); err != nil {
		return err
	}
	r, err := prepare()
	if r != nil {
		defer r.release()
	}
	if err != nil {
		return err
	}
	return s.changeContent(i, c, r)
}

// changeContent makes one change and gives back what it leaves.
func (s *Store) changeContent(i *inode, c *attrChange, r *remap) error {
	c.remap, c.sized = r, true
	if err := s.changeAttr(i, c); err != nil {
		return err
	}
	if r != nil {
		s.clear(&r.grave)
	}
	return nil
}

// flushAllOf makes everything stable that was written; flushing is held.
func (s *Store) flushAllOf(i *inode) error {
	i.mu.RLock()
	number := i.writes
	i.mu.RUnlock()
	return s.flushLocked(i, number)
}

// changeAttr checks and makes the change.
func (s *Store) changeAttr(i *inode, c *attrChange) error {
	b, err := s.applyAttr(i, c)
	if err != nil {
		return err
	}
	return s.settle(b)
}

// lock locks the file and the one that references come from, so that it does not end meanwhile.
func (c *attrChange) lock(i *inode) []*inode {
	if c.remap == nil {
		return lockAll(i)
	}
	return lockAll(i, c.remap.from)
}

// applyContent applies a batch with a remap in it, or none.
func (s *Store) applyContent(b *pebble.Batch, c *attrChange) error {
	r := c.remap
	if r == nil {
		return s.apply(b)
	}
	metered := usage{data: r.blocks() * blockBytes}
	s.meter(b, c.admitted, metered)
	free, err := s.applyShared(b, r.grave.runs, r.adds)
	if err != nil {
		s.unmeter(metered)
		return err
	}
	r.grave.runs = free
	r.finish(s)
	return nil
}

// applyAttr makes the change, visible but not durable.
func (s *Store) applyAttr(i *inode, c *attrChange) (*pebble.Batch, error) {
	locked := c.lock(i)
	defer unlockAll(locked)
	if err := i.check(c.id); err != nil {
		return nil, err
	}
	if c.remap != nil && c.remap.from != nil {
		if err := c.remap.from.check(c.remap.fromID); err != nil {
			return nil, err
		}
	}
	attr := i.rec.attr
	if err := c.change(&attr); err != nil {
		return nil, err
	}
	change, err := s.changes.take(s)
	if err != nil {
		return nil, err
	}
	b := s.db.NewBatch()
	if c.remap != nil {
		if err := c.remap.put(s, b); err != nil {
			return nil, err
		}
	}
	was, size := i.rec, i.size
	if c.remap != nil {
		i.rec.blocks = uint64(int64(i.rec.blocks) + c.remap.blocks())
	}
	i.rec.attr = attr
	i.rec.attr.Change = change
	if c.sized {
		i.size = attr.Size
	}
	i.put(b)
	if err := s.applyContent(b, c); err != nil {
		i.rec, i.size = was, size
		return nil, err
	}
	i.fill(c.out)
	return b, nil
}
