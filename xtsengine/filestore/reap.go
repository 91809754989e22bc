package filestore

import (
	"context"
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// grave gathers what a durable batch leaves behind: blocks that nothing refers to any more.
type grave struct {
	batch     *pebble.Batch // to be settled first, if not nil
	runs      []volume.Run
	rest      *pebble.Iterator // further extents, as they were before the batch
	unstable  layer            // never had anything to do with the batch
	blocks    uint64           // taken off the file
	journaled int64            // of them in the journal
	usage     usage            // what is metered less, but for names
	admitted  *admission       // for what is metered more; may be nil
	flushing  *inode           // the file, if it has ended while a flush was under way
}

// removeExtents deletes in a batch all of a file's extents from one block up to another, both borders
// of windows or the ends of the file. Many are deleted as a range, and their blocks found by the reaper,
// unless blocks are shared: then the batch has to say what becomes of each.
func (s *Store) removeExtents(b *pebble.Batch, number, from, to uint64, g *grave) error {
	lo, hi := pairKey(tableExtent, number, from), pairKey(tableExtent, number, to)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return metaErr(err)
	}
	var found extents
	many, sharing := false, s.shares.records.Load() > 0
	for ok := it.First(); ok; ok = it.Next() {
		x, err := extentAt(it, number)
		if err != nil {
			return errors.Join(err, it.Close())
		}
		g.blocks += uint64(x.count)
		if x.place == inJournal {
			g.journaled += int64(x.count)
		}
		if many = many || len(found) == pointDeletes; !many || sharing {
			found = append(found, x)
		}
	}
	if err := it.Error(); err != nil {
		return errors.Join(metaErr(err), it.Close())
	}
	if many {
		delRange(b, lo, hi)
		delRange(b, pairKey(tableTag, number, from), pairKey(tableTag, number, to))
		delRange(b, pairKey(tableJournal, number, from), pairKey(tableJournal, number, to))
		delRange(b, pairKey(tableInline, number, from), pairKey(tableInline, number, to))
		if !sharing {
			g.rest = it
			return nil
		}
	}
	for k := range found {
		collect(&g.runs)(found[k])
		if !many {
			delExtent(b, number, &found[k])
			delBlocks(b, number, &found[k])
		}
	}
	if err := it.Close(); err != nil {
		return metaErr(err)
	}
	return nil
}

// extentAt decodes where an iterator stands.
func extentAt(it *pebble.Iterator, number uint64) (extent, error) {
	_, file, ok := splitPair(it.Key())
	if !ok {
		return extent{}, damaged("extent key", number)
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return extent{}, metaErr(err)
	}
	return decodeExtent(number, file, value)
}

// kill puts the end of a file, whose mu is held alone, into a batch. After an error nothing is changed.
func (s *Store) kill(b *pebble.Batch, i *inode, g *grave) error {
	metered, err := s.killXattrs(b, i)
	if err != nil {
		return err
	}
	if i.rec.blocks > 0 { // last: it can leave an iterator in the grave
		if err := s.removeExtents(b, i.number, 0, allBlocks, g); err != nil {
			return err
		}
	}
	target := len(i.rec.target)
	g.usage = usage{data: -int64(i.rec.blocks) * blockBytes, meta: -int64(metered + vfs.MeteredFile(target))}
	del(b, numberKey(tableInode, i.number))
	del(b, numberKey(tableOrphan, i.number))
	return nil
}

// applyGrave applies the batch that leaves what is in a grave; names count so many bytes more with it.
func (s *Store) applyGrave(b *pebble.Batch, g *grave, names int64) (err error) {
	metered := usage{data: g.usage.data, meta: g.usage.meta + names}
	s.meter(b, g.admitted, metered)
	if g.runs, err = s.applyShared(b, g.runs, nil); err != nil {
		s.unmeter(metered)
	}
	return err
}

// bury follows kill when the batch has been applied; mu is still held. What a flush under way has
// sealed is freed by that flush.
func (s *Store) bury(i *inode, g *grave) {
	i.dead.Store(true)
	if i.sealed != nil {
		g.flushing = i
	}
	g.unstable, i.active = i.active, layer{}
	s.dirty.remove(i)
	s.journal.remove(i)
	s.journaled.Add(-g.journaled)
	s.forgetWindows(i)
}

// clear frees what is in the grave, whose batch is durable. Much of it goes to the reaper.
func (s *Store) clear(g *grave) {
	s.discard(&g.unstable)
	g.await()
	s.free(g.runs)
	g.runs = nil
	if g.rest != nil && !s.reaper.add(g) {
		s.clearRest(g, nil)
	}
}

// clearRest frees the extents that the iterator finds until the end or until stop is closed.
func (s *Store) clearRest(g *grave, stop <-chan struct{}) {
	var runs []volume.Run
	stopped := false
	for ok := g.rest.First(); ok && !stopped; ok = g.rest.Next() {
		x, err := extentAt(g.rest, 0)
		if err != nil {
			s.opts.Events.backgroundError(err)
			break
		}
		collect(&runs)(x)
		if len(runs) < reapBatch {
			continue
		}
		s.free(runs)
		runs = runs[:0]
		select {
		case <-stop:
			stopped = true
		default:
		}
	}
	s.free(runs)
	if err := g.rest.Close(); err != nil {
		s.opts.Events.backgroundError(metaErr(err))
	}
	g.rest = nil
}

// reaper empties graves in the background. The blocks of what it leaves at Close are free at the next
// start, for nothing refers to them.
type reaper struct {
	mu      sync.Mutex
	changed sync.Cond // on mu
	queue   []*grave
	busy    bool
	closed  bool
}

func (r *reaper) init() { r.changed.L = &r.mu }

// add puts a grave into the queue, if there is room.
func (r *reaper) add(g *grave) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.queue) >= maxReaps {
		return false
	}
	r.queue = append(r.queue, g)
	r.changed.Broadcast()
	return true
}

// wait returns when nothing is left to do.
func (r *reaper) wait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.busy || len(r.queue) > 0 {
		r.changed.Wait()
	}
}

// next returns a grave to empty; nil when there is none and there will be none.
func (r *reaper) next() *grave {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = false
	r.changed.Broadcast()
	for len(r.queue) == 0 && !r.closed {
		r.changed.Wait()
	}
	if len(r.queue) == 0 {
		return nil
	}
	g := r.queue[0]
	r.queue = r.queue[1:]
	r.busy = true
	return g
}

func (r *reaper) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.changed.Broadcast()
}

// reapLoop is the reaper's goroutine.
func (s *Store) reapLoop() {
	for g := s.reaper.next(); g != nil; g = s.reaper.next() {
		s.background.pause.RLock()
		s.reap(g)
		s.background.pause.RUnlock()
	}
}

func (s *Store) reap(g *grave) {
	if g.batch != nil {
		if s.settle(g.batch) != nil {
			return
		}
		g.await()
		s.free(g.runs)
	}
	if g.rest != nil {
		s.clearRest(g, s.background.stop)
	}
}

// Hold implements vfs.FileSystem.
func (s *Store) Hold(id vfs.FileID) error {
	if err := s.enter(context.Background()); err != nil {
		return err
	}
	defer s.life.RUnlock()
	i := s.pin(id.Inode)
	i.mu.Lock()
	err := i.check(id)
	if err == nil {
		i.holds++
	}
	i.mu.Unlock()
	if err != nil {
		s.unpin(i)
	}
	return err // the hold keeps the pin
}

// Drop implements vfs.FileSystem. The end of a file without names is in the metadata when it returns,
// and durable soon; a crash before that leaves it to EndRecovery.
func (s *Store) Drop(id vfs.FileID) {
	if s.enter(context.Background()) != nil {
		return
	}
	defer s.life.RUnlock()
	i := s.pin(id.Inode)
	defer s.unpin(i)
	i.mu.Lock()
	if i.check(id) != nil || i.holds == 0 {
		i.mu.Unlock()
		return
	}
	i.holds--
	var g *grave
	if i.holds == 0 && i.rec.attr.Links == 0 {
		g = s.end(i)
	}
	i.mu.Unlock()
	s.unpin(i)
	s.bequeath(g)
}

// end kills and buries a file without names and holders, whose mu is held alone. The grave's batch is
// not settled. If it fails, EndRecovery of the next start finds the file.
func (s *Store) end(i *inode) *grave {
	g := &grave{batch: s.db.NewBatch()}
	err := s.kill(g.batch, i, g)
	if err == nil {
		err = s.applyGrave(g.batch, g, 0)
	}
	if err != nil {
		s.opts.Events.backgroundError(err)
		return nil
	}
	s.bury(i, g)
	return g
}

// EndRecovery implements vfs.FileSystem.
func (s *Store) EndRecovery(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	var orphans []uint64
	err := s.scan([]byte{tableOrphan}, []byte{tableOrphan + 1}, func(key, _ []byte) error {
		number, ok := splitNumber(key)
		if !ok {
			return damaged("orphan key", 0)
		}
		orphans = append(orphans, number)
		return nil
	})
	if err != nil {
		return err
	}
	for _, number := range orphans {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.endOrphan(number)
	}
	return s.failed()
}

// endOrphan frees a file without names unless somebody holds it.
func (s *Store) endOrphan(number uint64) {
	i := s.pin(number)
	defer s.unpin(i)
	var g *grave
	i.mu.Lock()
	if i.loadErr == nil && !i.dead.Load() && i.holds == 0 && i.rec.attr.Links == 0 {
		g = s.end(i)
	}
	i.mu.Unlock()
	s.bequeath(g)
}

// bequeath leaves a grave (nil: there is none) to the reaper. What the file had unstable is dropped at once: a
// quota counts it for as long as it is there.
func (s *Store) bequeath(g *grave) {
	if g == nil {
		return
	}
	s.discard(&g.unstable)
	if !s.reaper.add(g) {
		s.reap(g)
	}
}
