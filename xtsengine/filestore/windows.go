package filestore

import (
	"bytes"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// Long lists of extents are recycled: a file that was written at random has a thousand in a window.
const recycledExtents = 128

var extentPool sync.Pool // of *extents

// newExtents returns an empty list with room for n.
func newExtents(n int) extents {
	if n >= recycledExtents {
		if e, ok := extentPool.Get().(*extents); ok && cap(*e) >= n {
			return (*e)[:0]
		}
		n = max(n, windowBlocks)
	}
	return make(extents, 0, n)
}

// freeExtents recycles a list that nobody uses any more.
func freeExtents(e extents) {
	if cap(e) >= recycledExtents {
		clear(e) // it would keep tags
		extentPool.Put(&e)
	}
}

// window returns the committed extents of one window of i. The caller holds i.mu alone or
// i.flushing, with mu free; locked says which.
func (s *Store) window(i *inode, index uint64, locked bool) (extents, error) {
	if !locked {
		i.mu.RLock()
	}
	e, ok := i.windows[index]
	empty := i.rec.blocks == 0
	if !locked {
		i.mu.RUnlock()
	}
	if ok || empty {
		return e, nil
	}
	e, err := s.readWindow(i.number, index)
	if err != nil {
		return nil, err
	}
	if !locked {
		i.mu.Lock()
		defer i.mu.Unlock()
	}
	s.setWindow(i, index, e)
	return e, nil
}

// readWindow reads one window from the metadata store.
func (s *Store) readWindow(number, index uint64) (extents, error) {
	s.stats.extentLoads.Add(1)
	return readExtents(s.db, number, index*windowBlocks, (index+1)*windowBlocks)
}

// is says whether two are one list in memory.
func (e extents) is(o extents) bool {
	return len(e) == len(o) && cap(e) == cap(o) && (cap(e) == 0 || &e[:1][0] == &o[:1][0])
}

// weight is how much a window counts against Options.CachedExtents: room for more counts as well.
func (e extents) weight() int64 { return int64(cap(e)) + 1 + e.tagWeight() }

// tagWeight is what the tags have of it.
func (e extents) tagWeight() int64 {
	n := int64(0)
	for k := range e {
		n += int64(len(e[k].tags) / extentWeight)
	}
	return n
}

// setWindow keeps a window in memory; i.mu is held alone.
func (s *Store) setWindow(i *inode, index uint64, e extents) {
	s.dropWindow(i, index)
	if i.windows == nil {
		i.windows = map[uint64]extents{}
	}
	i.windows[index] = e
	s.addExtents(e.weight())
	s.limitExtents(i, index)
}

// limitExtents sees to it that there are not too many extents in memory, after a window came or grew; i.mu is held alone.
// Those of the file's other windows go, but for its neighbours, and then those of other files.
func (s *Store) limitExtents(i *inode, index uint64) {
	if !s.tooManyExtents() {
		return
	}
	for other := range i.windows {
		if other+1 < index || other > index+1 {
			s.dropWindow(i, other)
		}
	}
	if s.tooManyExtents() {
		s.relieveExtents()
	}
}

// splice is a change of a window: part in place of the extents from lo up to hi.
type splice struct {
	index  uint64
	was    extents
	lo, hi int
	part   extents
}

// result is the list with the change, made in the list's own memory if there is room.
func (w *splice) result() extents {
	n := len(w.was) + len(w.part) - (w.hi - w.lo)
	if n <= cap(w.was) {
		return slices.Replace(w.was, w.lo, w.hi, w.part...)
	}
	now := newExtents(n + n/4)
	now = append(append(append(now, w.was[:w.lo]...), w.part...), w.was[w.hi:]...)
	freeExtents(w.was)
	return now
}

// spliceWindow makes a change that is in the metadata store; i.mu is held alone, so that nobody else looks at the list. It
// costs what is near the change, where the list needs no more memory: an overwrite copies no list.
func (s *Store) spliceWindow(i *inode, w *splice) {
	kept, ok := i.windows[w.index]
	same := ok && kept.is(w.was)
	before := w.was[w.lo:w.hi].tagWeight() + int64(cap(w.was))
	now := w.result()
	if !same { // the list was dropped meanwhile, and perhaps read anew
		s.setWindow(i, w.index, now)
		return
	}
	i.windows[w.index] = now
	s.addExtents(w.part.tagWeight() + int64(cap(now)) - before)
	s.limitExtents(i, w.index)
}

// tooManyExtents says whether files should do without some. Where inodes have filled the memory that they share, those give way
// (insertLocked), for as long as extents have less than one part in extentShare of it.
func (s *Store) tooManyExtents() bool {
	n := s.extents.Load()
	return n > int64(s.opts.CachedExtents) || s.nodes.over() && n*extentBytes > s.nodes.load()/extentShare
}

func (s *Store) addExtents(n int64) {
	s.extents.Add(n)
	s.nodes.add(n * extentBytes)
}

// relieveExtents drops windows of files that were not used lately, until there are no longer too many, relieveSteps files
// were looked at, or each shard had its turn twice. Locks are only tried, for the caller has some.
func (s *Store) relieveExtents() { s.relieveAll(s.tooManyExtents, s.forgetWindows) }

// relieveAll does so, with what there are too many of and how a file's are dropped.
func (s *Store) relieveAll(tooMany func() bool, forget func(*inode)) {
	left := relieveSteps
	for range 2 * shards {
		left -= s.relieveShard(&s.table.shards[s.table.relieved.Add(1)%shards], forget)
		if left <= 0 || !tooMany() {
			return
		}
	}
}

// relieveShard says how many files it looked at.
func (s *Store) relieveShard(sh *shard, forget func(*inode)) (steps int) {
	if !sh.mu.TryLock() {
		return 0
	}
	defer sh.mu.Unlock()
	steps = min(evictSteps, len(sh.ring))
	for range steps {
		sh.hand = (sh.hand + 1) % len(sh.ring)
		old := sh.ring[sh.hand]
		if old.touched.Swap(false) || !old.mu.TryLock() {
			continue
		}
		forget(old)
		old.mu.Unlock()
	}
	return steps
}

func (s *Store) dropWindow(i *inode, index uint64) {
	if e, ok := i.windows[index]; ok {
		delete(i.windows, index)
		s.addExtents(-e.weight())
	}
}

// forgetWindows drops all of them, and a directory's names, which count as they do.
func (s *Store) forgetWindows(i *inode) {
	s.forgetNames(i)
	for index := range i.windows {
		s.dropWindow(i, index)
	}
}

// putWindow stores in a batch what makes was into now. The extents of now that are new get memory of
// their own for their tags, so that a window keeps alive what it has and no more.
func putWindow(b *pebble.Batch, number uint64, was, now extents) {
	k := 0
	for n := range was {
		x := &was[n]
		for ; k < len(now) && now[k].file < x.file; k++ {
			putExtent(b, number, &now[k])
		}
		if k == len(now) || now[k].file > x.file {
			delExtent(b, number, x)
			continue
		}
		if !now[k].same(x) {
			if x.place == onVolume && now[k].place != onVolume {
				del(b, pairKey(tableTag, number, x.file))
			}
			putExtent(b, number, &now[k])
		}
		k++
	}
	for ; k < len(now); k++ {
		putExtent(b, number, &now[k])
	}
}

// putExtent stores an extent and, if it is on the volume, its tags.
func putExtent(b *pebble.Batch, number uint64, x *extent) {
	set(b, pairKey(tableExtent, number, x.file), appendExtent(make([]byte, 0, 14), x))
	if x.place != onVolume {
		return
	}
	x.tags = bytes.Clone(x.tags)
	set(b, pairKey(tableTag, number, x.file), appendTags(make([]byte, 0, 8+len(x.tags)), x))
}

// delExtent deletes what putExtent stored.
func delExtent(b *pebble.Batch, number uint64, x *extent) {
	del(b, pairKey(tableExtent, number, x.file))
	if x.place == onVolume {
		del(b, pairKey(tableTag, number, x.file))
	}
}

// delBlocks deletes from a batch's store the contents of blocks that x has in the metadata store.
func delBlocks(b *pebble.Batch, number uint64, x *extent) {
	table := tableJournal
	switch x.place {
	case onVolume, reserved:
		return
	case inInode:
		table = tableInline
	}
	for file := x.file; file < x.end(); file++ {
		del(b, pairKey(table, number, file))
	}
}
