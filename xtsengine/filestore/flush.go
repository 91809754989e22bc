package filestore

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// flush is one passage of a file's unstable data to stable storage, or of journalled blocks to the
// volume. All of the file's writes up to one go together, so that none is ever there in part.
type flush struct {
	i      *inode
	layer  *layer
	moving bool        // from the journal: nothing of the record changes
	picks  []journaled // what is moved: files, and what could not be read, for the reasons in
	unread error
	size   uint64 // of the file with these writes
	number uint64 // the last write
	record uint64 // the last record of the intent log among them, or 0

	files      []uint64       // the dirty blocks, in order
	where      place          // where they go
	homes      extents        // of those among them that go to what is reserved for them
	runs       []volume.Run   // for the others
	at         []volume.Block // where each goes
	tags       []byte         // of the dirty blocks
	generation uint64
	over       extents // what the flush lays over the committed extents
	windows    []splice
	gone       []volume.Run // replaced blocks of the volume
	hidden     extents      // replaced blocks in the metadata store
	adds       []volume.Run // further references that are taken, and
	entries    []movedRun   // what is put into the table of moved runs: see contentMove
	batch      *pebble.Batch
	delta      int64 // change of the number of blocks
	moved      int64 // change of the number of journalled blocks
}

// Commit implements vfs.FileSystem: it makes all of the file's writes durable. If all are in the intent log they are.
func (s *Store) Commit(ctx context.Context, id vfs.FileID, _, _ uint64) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	s.stats.commits.Add(1)
	i := s.pin(id.Inode)
	defer s.unpin(i)
	i.mu.RLock()
	err := i.checkFile(id, nil, 0)
	number, record := i.writes, uint64(0)
	if i.loggedTo == number {
		record = i.lastRecord
	}
	i.mu.RUnlock()
	if err != nil {
		return err
	}
	if s.awaitLogged(record) {
		return nil
	}
	return s.commit(i, number)
}

// turns lets those who commit a file at the same time share a flush: while one has the turn the others wait, and
// all that they wrote goes with the next. A mutex alone would pass from each to the next, through all whose
// writes are durable by then.
type turns struct {
	mu    sync.Mutex
	over  sync.Cond
	taken bool
}

// take waits for the turn, or until done says that it is not needed any more; ok says which.
func (t *turns) take(done func() bool) (ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over.L = &t.mu
	for !done() {
		if !t.taken {
			t.taken = true
			return true
		}
		t.over.Wait()
	}
	return false
}

// try takes the turn if it is free.
func (t *turns) try() (ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ok = !t.taken
	t.taken = true
	return ok
}

// give ends the turn.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken = false
	t.over.Broadcast()
}

// commit makes the file's writes durable up to a number.
func (s *Store) commit(i *inode, number uint64) error {
	if !i.turns.take(func() bool { return i.stable.Load() >= number }) {
		return nil
	}
	defer i.turns.give()
	i.flushing.Lock()
	defer i.flushing.Unlock()
	return s.flushLocked(i, number)
}

// flushLocked is commit for who holds i.flushing.
func (s *Store) flushLocked(i *inode, number uint64) error {
	if i.stable.Load() >= number {
		return nil
	}
	f, err := s.seal(i)
	if err != nil {
		return err
	}
	if f == nil { // somebody made it stable, or the store stopped before it was
		return s.failed()
	}
	s.stats.flushes.Add(1)
	if err := s.flush(f); err != nil {
		s.stats.flushFailures.Add(1)
		return err
	}
	i.stable.Store(f.number)
	return nil
}

// seal takes the file's unstable data for a flush; nil if there is none.
func (s *Store) seal(i *inode) (*flush, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dead.Load() {
		return nil, vfs.ErrStale
	}
	if i.active.empty() {
		return nil, nil
	}
	return i.seal(), nil
}

// seal does it; mu is held alone.
func (i *inode) seal() *flush {
	l := i.active
	f := &flush{i: i, layer: &l, size: i.rec.attr.Size, number: i.writes, record: i.record}
	i.active, i.sealed, i.record = layer{}, &l, 0
	i.streamed.Store(false)
	return f
}

// flush does one; after an error the data is unstable as before.
func (s *Store) flush(f *flush) error {
	err := s.placeBlocks(f)
	s.quota.finishing.RLock()
	defer s.quota.finishing.RUnlock()
	if err == nil {
		err = s.switchOver(f)
	}
	if err != nil {
		s.unseal(f)
		return err
	}
	if err := s.settle(f.batch); err != nil {
		return err
	}
	s.finish(f)
	return nil
}

// placeBlocks decides where the dirty blocks go and writes those for the volume, durably.
func (s *Store) placeBlocks(f *flush) error {
	f.files = f.layer.sorted(make([]uint64, 0, len(f.layer.dirty)))
	if err := s.findHomes(f); err != nil {
		return err
	}
	f.where = s.choose(f)
	if f.where == onVolume {
		for _, run := range f.layer.runs(nil) {
			if err := s.awaitStored(run); err != nil {
				return s.spaceErr(err)
			}
		}
		if err := s.writeDirty(f); err != nil {
			return err
		}
		if err := s.opts.Space.Sync(); err != nil {
			return s.spaceErr(err)
		}
		s.keep(f)
	}
	f.over = overlay(nil, f.layer.placed, f.dirtyExtents(), func(extent) {})
	return nil
}

// choose says where the dirty blocks go. A few of them, alone and without homes, ride in the metadata batch,
// unless space is scarce: from there they need it once more. Nobody waits for what is in the intent log, so that goes to the
// volume before it is full.
func (s *Store) choose(f *flush) place {
	switch n := len(f.files); {
	case len(f.homes) > 0 || len(f.layer.placed) > 0 || f.layer.scarce || n > journalCommitBlocks:
		return onVolume
	case n == 1 && f.files[0] == 0 && f.size <= inlineBytes:
		return inInode
	case f.record > 0 && s.nearlyFull():
		return onVolume
	case (s.journaled.Load()+int64(n))*blockBytes > s.opts.JournalBytes:
		return onVolume
	}
	return inJournal
}

// nearlyFull says whether the volume has little more than what file systems set aside.
func (s *Store) nearlyFull() bool {
	space := s.opts.Space.Stat()
	return space.Free+space.VolumeFree < nearlyFullBlocks
}

// writeDirty turns the promises of the dirty blocks that have no homes into blocks of the volume, and
// writes all.
func (s *Store) writeDirty(f *flush) error {
	if len(f.files) == 0 {
		return nil
	}
	s.assign(f)
	ios := make([]volume.IO, 0, min(len(f.files), transferBlocks))
	for k := range f.files {
		ios = append(ios, f.io(k))
		if len(ios) < transferBlocks && k+1 < len(f.files) {
			continue
		}
		if err := s.opts.Space.Write(ios); err != nil {
			return s.spaceErr(err)
		}
		ios = ios[:0]
	}
	return nil
}

// assign says where each dirty block goes, for which it takes blocks of the volume.
func (s *Store) assign(f *flush) {
	f.runs = s.pool.take(nil, uint64(len(f.files))-f.homes.blocks())
	f.spread()
	f.tags, f.generation = make([]byte, len(f.files)*tagBytes), s.tagGeneration
}

// io writes the k-th dirty block.
func (f *flush) io(k int) volume.IO {
	return volume.IO{Block: f.at[k], Buf: f.layer.dirty[f.files[k]][:], Tags: f.tagsOf(k), Generation: f.generation}
}

// tagsOf is the tag of the k-th dirty block.
func (f *flush) tagsOf(k int) []byte { return f.tags[k*tagBytes : (k+1)*tagBytes] }

// dirtyExtents says where the dirty blocks are.
func (f *flush) dirtyExtents() extents {
	var e extents
	if f.where != onVolume {
		for _, file := range f.files {
			e = e.add(extent{file: file, count: 1, place: f.where})
		}
		return e
	}
	for k, file := range f.files {
		e = e.add(extent{file: file, count: 1, start: f.at[k], tags: f.tagsOf(k), generation: f.generation})
	}
	return e
}

// switchOver makes the metadata refer to the new blocks, and memory with them.
func (s *Store) switchOver(f *flush) error {
	f.batch = s.db.NewBatch()
	if err := f.over.byWindow(func(index uint64, part extents) error { return s.changeWindow(f, index, part) }); err != nil {
		return err
	}
	for k := range f.hidden {
		delBlocks(f.batch, f.i.number, &f.hidden[k])
	}
	f.putBlocks()
	putMoved(f.batch, f.entries)
	i := f.i
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dead.Load() {
		return vfs.ErrStale
	}
	was := i.rec.blocks
	i.rec.blocks = uint64(int64(was) + f.delta)
	if !f.moving {
		size := i.size
		i.size = f.size
		i.put(f.batch)
		i.size = size
	}
	s.intent.covering.RLock()
	defer s.intent.covering.RUnlock()
	s.putFlushed(f.batch, i.number, f.record)
	metered := usage{data: f.delta * blockBytes}
	s.meter(f.batch, nil, metered)
	gone, err := s.applyShared(f.batch, f.gone, f.adds)
	if err != nil {
		i.rec.blocks = was
		s.unmeter(metered)
		return err
	}
	f.gone = gone
	if !f.moving {
		i.size, i.sealed = f.size, nil
		if i.active.empty() {
			s.dirty.remove(i)
		}
	}
	for k := range f.windows {
		s.spliceWindow(i, &f.windows[k])
	}
	s.journaled.Add(f.moved)
	return nil
}

// changeWindow lays the flush's extents in one window over what is there.
func (s *Store) changeWindow(f *flush, index uint64, part extents) error {
	was, err := s.window(f.i, index, false)
	if err != nil {
		return err
	}
	lo, hi := was.around(part[0].file, part[len(part)-1].end())
	old := was[lo:hi]
	changed := overlay(make(extents, 0, len(old)+2*len(part)), old, part, f.lose)
	putWindow(f.batch, f.i.number, old, changed)
	f.windows = append(f.windows, splice{index: index, was: was, lo: lo, hi: hi, part: changed})
	f.delta += int64(changed.blocks()) - int64(old.blocks())
	f.moved += int64(changed.blocksAt(inJournal)) - int64(old.blocksAt(inJournal))
	return nil
}

// putBlocks puts dirty blocks that stay in the metadata store into the batch.
func (f *flush) putBlocks() {
	table := tableJournal
	switch f.where {
	case onVolume:
		return
	case inInode:
		table = tableInline
	}
	for _, file := range f.files {
		set(f.batch, pairKey(table, f.i.number, file), trim(f.layer.dirty[file][:]))
	}
}

// finish gives back what a durable flush has replaced.
func (s *Store) finish(f *flush) {
	s.free(f.gone)
	n := uint64(len(f.files))
	switch f.where {
	case inJournal:
		s.unpromise(n)
		s.stats.journaledBlocks.Add(n)
		for _, file := range f.files {
			s.noteJournaled(f.i, file)
		}
		if s.muchJournaled() {
			s.background.wakeMover()
		}
	case inInode:
		s.unpromise(n)
		s.stats.inlineBlocks.Add(n)
	case onVolume:
		s.stats.placedBlocks.Add(n + f.layer.onVol)
		s.unpromise(f.layer.promised() + f.homes.blocks() - n)
	}
	s.dropLayer(f)
}

// keep puts blocks that were in memory into the cache, before anybody else knows where they are on the
// volume: what was written lately is read soon. Who gives the blocks back drops them.
func (s *Store) keep(f *flush) {
	for k, file := range f.files {
		s.cache.put(f.at[k], f.layer.dirty[file][:])
	}
}

// dropLayer gives the memory of a layer back that nobody sees any more.
func (s *Store) dropLayer(f *flush) {
	for _, file := range f.files {
		freeBlock(f.layer.dirty[file])
	}
	if f.moving {
		return
	}
	s.dirtyMem.add(-int64(len(f.files)) * blockBytes)
	s.unstable.add(-int64(f.layer.onVol) * blockBytes)
	s.wakeWriters()
}

// unseal undoes a flush that failed: its data is unstable again, under what was written since. If the
// file is no more, its blocks are freed. If the store has stopped, the flush's batch may be durable or
// not, so that nothing else may get its blocks.
func (s *Store) unseal(f *flush) {
	if s.failed() != nil {
		return
	}
	if f.moving {
		s.free(f.runs)
		s.dropLayer(f)
		return
	}
	s.cache.drop(f.homes.runs(f.runs))
	s.pool.untake(f.runs)
	i := f.i
	i.mu.Lock()
	i.sealed = nil
	if i.dead.Load() {
		i.mu.Unlock()
		s.discard(f.layer)
		return
	}
	var freed []volume.Run
	dropped, promises := i.active.under(f.layer, &freed)
	i.record = max(i.record, f.record)
	i.mu.Unlock()
	s.dirtyMem.add(-int64(dropped) * blockBytes)
	s.unstable.add(-blocksOf(freed) * blockBytes)
	s.unpromise(promises)
	s.free(freed)
}

// discard drops unstable data that nobody sees any more.
func (s *Store) discard(l *layer) {
	for _, b := range l.dirty {
		freeBlock(b)
	}
	s.dirtyMem.add(-int64(len(l.dirty)) * blockBytes)
	s.unstable.add(-int64(l.onVol) * blockBytes)
	s.unpromise(l.promised())
	s.free(l.runs(nil))
	*l = layer{}
	s.wakeWriters()
}

// flushAll makes the unstable data of all files stable that have any now.
func (s *Store) flushAll() error {
	return s.flushEach(s.dirty.oldest(1<<30, farFuture))
}

// flushEach flushes pinned files, small ones together, others several at a time, and unpins them. It returns the first error.
func (s *Store) flushEach(list []*inode) error {
	list = s.flushTogether(list)
	var wait sync.WaitGroup
	var mu sync.Mutex
	var first error
	for part := range slices.Chunk(list, max(1, (len(list)+flushers-1)/flushers)) {
		wait.Go(func() {
			for _, i := range part {
				err := s.flushOne(i)
				mu.Lock()
				if err != nil && first == nil {
					first = err
				}
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	return first
}

// flushOne flushes a pinned file and unpins it; one that is no more has nothing to flush.
func (s *Store) flushOne(i *inode) error {
	defer s.unpin(i)
	i.mu.RLock()
	number := i.writes
	i.mu.RUnlock()
	err := s.flushPieces(i)
	if err == nil {
		err = s.commit(i, number)
	}
	if errors.Is(err, vfs.ErrStale) {
		return nil
	}
	return err
}
