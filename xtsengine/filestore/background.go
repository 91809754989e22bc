package filestore

import (
	"sync"
	"time"
)

// farFuture is later than every time of the clock.
var farFuture = time.Unix(1<<40, 0)

// background is the store's goroutines: the flusher makes old unstable data stable, the mover moves
// blocks from the journal to the volume, one tends the intent log, one tells the device of freed blocks, one reads ahead of readers.
// startBackground starts them, stopBackground waits for them.
type background struct {
	stop    chan struct{} // closed by stopBackground
	flusher chan struct{} // one slot: there is something to do
	mover   chan struct{}
	intent  chan struct{}
	discard chan struct{}
	ahead   chan aheadOrder
	running sync.WaitGroup
	// pause is held shared by each round of work and alone by Check.
	pause sync.RWMutex
}

func (b *background) init() {
	b.stop = make(chan struct{})
	b.flusher, b.mover = make(chan struct{}, 1), make(chan struct{}, 1)
	b.intent, b.discard = make(chan struct{}, 1), make(chan struct{}, 1)
	b.ahead = make(chan aheadOrder, maxAheadOrders)
}

func (s *Store) startBackground() {
	b := &s.background
	s.checkMetaSpace()
	every := max(min(maxTick, s.opts.UnstableAge/4, s.opts.JournalAge/4), minTick)
	b.running.Go(func() { b.loop(every, b.flusher, s.flushRound) })
	b.running.Go(func() { b.loop(every, b.mover, s.moveRound) })
	b.running.Go(func() { b.loop(every, b.intent, s.intentRound) })
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
		list := s.dirty.oldest(roundFiles, farFuture)
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
