package filestore

import (
	"errors"
	"sync"
	"time"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// farFuture is later than every time of the clock.
var farFuture = time.Unix(1<<40, 0)

// background is the store's goroutines: the flusher makes old unstable data stable, the mover moves
// blocks from the journal to the volume, one tells the device of freed blocks, one reads ahead of readers.
// startBackground starts them, stopBackground waits for them.
type background struct {
	stop    chan struct{} // closed by stopBackground
	flusher chan struct{} // one slot: there is something to do
	mover   chan struct{}
	discard chan struct{}
	ahead   chan aheadOrder
	running sync.WaitGroup
	// pause is held shared by each round of work and alone by Check.
	pause sync.RWMutex
}

func (b *background) init() {
	b.stop = make(chan struct{})
	b.flusher, b.mover, b.discard = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	b.ahead = make(chan aheadOrder, maxAheadOrders)
}

func (s *Store) startBackground() {
	b := &s.background
	s.checkMetaSpace()
	every := max(min(maxTick, s.opts.UnstableAge/4, s.opts.JournalAge/4), minTick)
	b.running.Go(func() { b.loop(every, b.flusher, s.flushRound) })
	b.running.Go(func() { b.loop(every, b.mover, s.moveRound) })
	b.running.Go(func() { b.loop(s.opts.DiscardEvery, b.discard, s.discardRound) })
	b.running.Go(s.reapLoop)
	b.running.Go(s.aheadLoop)
}

func (s *Store) stopBackground() {
	close(s.background.stop)
	s.reaper.close()
	s.background.running.Wait()
}

// loop calls round now and then, and when it is woken, until it is stopped.
func (b *background) loop(every time.Duration, wake chan struct{}, round func()) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-wake:
		case <-ticker.C:
		}
		b.pause.RLock()
		round()
		b.pause.RUnlock()
	}
}

func (b *background) wakeFlusher() { wake(b.flusher) }

func (b *background) wakeMover() { wake(b.mover) }

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// flushRound flushes what is old, and the oldest until what is left is within the bounds.
func (s *Store) flushRound() {
	if s.failed() != nil {
		return
	}
	s.checkMetaSpace()
	err := s.flushEach(s.dirty.oldest(1<<30, s.opts.Clock().Add(-s.opts.UnstableAge)))
	for err == nil && s.muchUnstable() {
		list := s.dirty.oldest(flushers, farFuture)
		if len(list) == 0 {
			break
		}
		err = s.flushEach(list)
	}
	if err != nil {
		s.opts.Events.backgroundError(err)
	}
	s.throttle.report(err)
}

// muchUnstable says whether unstable data has to be made stable before it is old.
func (s *Store) muchUnstable() bool {
	return s.dirtyMem.load() > s.opts.DirtyBytes/2 || s.dirtyMem.high() ||
		s.unstable.load() > s.opts.UnstableBytes || s.unstable.high()
}

// checkMetaSpace looks how much room the metadata have left to grow.
func (s *Store) checkMetaSpace() {
	usage, err := s.opts.Meta.GetDiskUsage(s.opts.MetaDir)
	if err != nil {
		return // a file system that can't tell
	}
	s.metaFull.Store(usage.AvailBytes < uint64(s.opts.MetaReserveBytes))
}

// moveRound moves blocks from the journal to the volume: those of old files, and the oldest while
// there are too many.
func (s *Store) moveRound() {
	for s.failed() == nil {
		list := s.journal.oldest(migrateInodes, s.opts.Clock().Add(-s.opts.JournalAge))
		if len(list) == 0 && s.muchJournaled() {
			list = s.journal.oldest(migrateInodes, farFuture)
		}
		if len(list) == 0 {
			return
		}
		moved, err := s.move(list)
		if err != nil && !errors.Is(err, vfs.ErrNoSpace) { // without space, the journal is the place
			s.opts.Events.backgroundError(err)
		}
		if err != nil || moved == 0 {
			return
		}
	}
}

// muchJournaled says whether blocks have to leave the journal before they are old: so early that most are gone
// before Pebble writes out the memtable that they are in, and so never get into a table of its.
func (s *Store) muchJournaled() bool {
	bound := min(s.opts.JournalBytes/8, max(s.opts.MemTableBytes/4, minMoveBytes))
	return s.journaled.Load()*blockBytes > bound
}

// discardRound lets the device forget blocks that were freed, and wakes itself while there are more.
func (s *Store) discardRound() {
	if s.failed() != nil {
		return
	}
	more, err := s.opts.Space.DiscardFreed(discardRuns)
	if err != nil {
		s.opts.Events.backgroundError(err)
	}
	if more {
		wake(s.background.discard)
	}
}

// move moves the journalled blocks of pinned files to the volume, unpins them and returns how many
// files it did. It holds flushing of several files at once, as nobody else does; a file whose flushing
// is taken is left for later.
func (s *Store) move(list []*inode) (moved int, err error) {
	var flushes []*flush
	budget := migrateBlocks
	for _, i := range list {
		if budget <= 0 || err != nil || !i.flushing.TryLock() {
			s.unpin(i)
			continue
		}
		var f *flush
		if f, err = s.loadMove(i); f == nil {
			i.flushing.Unlock()
			s.unpin(i)
			continue
		}
		budget -= len(f.files)
		flushes = append(flushes, f)
	}
	if err == nil && len(flushes) > 0 {
		if e := s.opts.Space.Sync(); e != nil {
			err = s.spaceErr(e)
		}
	}
	for _, f := range flushes { // apply all before waiting: they share a flush of the log
		if e := s.switchMove(f, err == nil); e != nil && err == nil {
			err = e
		}
	}
	for _, f := range flushes {
		if e := s.finishMove(f); e != nil && err == nil {
			err = e
		}
		f.i.flushing.Unlock()
		s.unpin(f.i)
	}
	return len(flushes), err
}

// loadMove writes the journalled blocks of a file to the volume; nil if there are none. flushing is
// held.
func (s *Store) loadMove(i *inode) (*flush, error) {
	f := &flush{i: i, layer: &layer{dirty: map[uint64]*block{}}, moving: true}
	for file := range i.journal {
		ok, err := s.loadJournaled(i, file, f.layer)
		if err != nil {
			f.files = f.layer.sorted(nil)
			s.dropLayer(f)
			return nil, err
		}
		if !ok {
			delete(i.journal, file)
		}
		if len(f.layer.dirty) >= migrateBlocks {
			break
		}
	}
	if len(f.layer.dirty) == 0 {
		s.journal.remove(i)
		return nil, nil
	}
	f.files = f.layer.sorted(nil)
	err := s.pool.reserve(uint64(len(f.files)))
	if err != nil {
		s.dropLayer(f)
		return nil, s.spaceErr(err)
	}
	if err := s.writeDirty(f); err != nil {
		s.unseal(f)
		return nil, err
	}
	f.over = f.dirtyExtents()
	return f, nil
}

// loadJournaled reads one block that may be in the journal; ok says that it is.
func (s *Store) loadJournaled(i *inode, file uint64, l *layer) (ok bool, err error) {
	e, err := s.window(i, file/windowBlocks, false)
	if err != nil {
		return false, err
	}
	src, ok := e.source(file, 1)
	if !ok || src.ext.place != inJournal {
		return false, nil
	}
	b := newBlock()
	if err := s.readStored(i.number, file, inJournal, b); err != nil {
		freeBlock(b)
		i.mu.RLock()
		dead := i.dead.Load()
		i.mu.RUnlock()
		if dead {
			return false, nil
		}
		return false, err
	}
	l.dirty[file] = b
	return true, nil
}

// switchMove lets the metadata refer to the volume if the blocks there are durable. f.batch is nil
// afterwards if it did not.
func (s *Store) switchMove(f *flush, durable bool) error {
	if !durable {
		s.unseal(f)
		return nil
	}
	s.keep(f)
	err := s.switchOver(f)
	if err == nil {
		return nil
	}
	f.batch = nil
	s.unseal(f)
	if f.i.dead.Load() {
		s.journal.remove(f.i)
		return nil
	}
	return err
}

// finishMove waits until what switchMove did is durable.
func (s *Store) finishMove(f *flush) error {
	if f.batch == nil {
		return nil
	}
	if err := s.settle(f.batch); err != nil {
		return err
	}
	for _, file := range f.files {
		delete(f.i.journal, file)
	}
	s.stats.migratedBlocks.Add(uint64(len(f.files)))
	s.dropLayer(f)
	f.recycle()
	if len(f.i.journal) == 0 {
		s.journal.remove(f.i)
	}
	return nil
}

// loadJournal finds the blocks that an earlier start left in the journal.
func (s *Store) loadJournal() error {
	return s.scan([]byte{tableJournal}, []byte{tableJournal + 1}, func(key, _ []byte) error {
		number, file, ok := splitPair(key)
		if !ok {
			return damaged("journal key", 0)
		}
		i := s.pin(number)
		defer s.unpin(i)
		if i.loadErr != nil || i.dead.Load() {
			return damaged("journalled block", number)
		}
		if i.journal == nil {
			i.journal = map[uint64]struct{}{}
		}
		i.journal[file] = struct{}{}
		s.journaled.Add(1)
		s.journal.add(i, s.opts.Clock())
		return nil
	})
}
