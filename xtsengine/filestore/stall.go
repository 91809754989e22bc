package filestore

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// metaStall lets those wait who change metadata faster than Pebble writes it out. Pebble would do so
// itself, but who waits in there waits for ever once its files are frozen, and holds the locks of an
// operation. Here the wait ends when the store stops. Events of Pebble wake a goroutine that looks how far
// behind it is; openPebble starts it, closePebble waits for it.
type metaStall struct {
	look     chan struct{} // one slot: something has changed
	stop     chan struct{}
	watch    sync.WaitGroup
	failures atomic.Int32 // of Pebble's background work, since some of it succeeded

	on   atomic.Bool // changed under mu
	mu   sync.Mutex
	over sync.Cond
}

func (m *metaStall) init() {
	m.look, m.stop = make(chan struct{}, 1), make(chan struct{})
	m.over.L = &m.mu
}

// watchMeta looks at Pebble until closePebble says that it's enough.
func (s *Store) watchMeta() {
	m := &s.stall
	for {
		select {
		case <-m.stop:
			return
		case <-m.look:
		}
		p := s.db.Metrics()
		m.set(int64(p.MemTable.Size) >= metaStallTables*s.opts.MemTableBytes || p.Levels[0].Sublevels >= metaStallSublevels)
	}
}

func (m *metaStall) set(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on.Store(on)
	m.over.Broadcast()
}

// wakeAll lets everybody look whether the store has stopped.
func (m *metaStall) wakeAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over.Broadcast()
}

// awaitMeta waits while Pebble is too far behind, and returns why the store has stopped if it has.
func (s *Store) awaitMeta() error {
	m := &s.stall
	if !m.on.Load() {
		return s.failed()
	}
	s.stats.throttled.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.on.Load() && s.failed() == nil {
		m.over.Wait()
	}
	return s.failed()
}

// metaProgressed hears that Pebble has written something out.
func (s *Store) metaProgressed(err error) {
	if err == nil {
		s.stall.failures.Store(0)
	}
	wake(s.stall.look)
}

// metaBackgroundError hears of failures of Pebble's own work, which Pebble tries again. If operations wait
// for that work, and it fails again and again, the store stops: but for want of space only when it
// is to be closed. In a Pebble that was given up it ends the goroutine.
func (s *Store) metaBackgroundError(err error) {
	if s.metaGivenUp.Load() {
		runtime.Goexit()
	}
	if s.fence.frozen() {
		return // the store has stopped, and has said why
	}
	s.opts.Events.backgroundError(err)
	full := errors.Is(err, syscall.ENOSPC) && !s.closing.Load()
	if s.stall.failures.Add(1) >= maxMetaFailures && s.stall.on.Load() && !full {
		_ = s.failMeta(fmt.Errorf("%w: metadata store: %w", vfs.ErrIO, err))
	}
}

// stallEvents are the events of Pebble that change how far it is behind.
func (s *Store) stallEvents(l *pebble.EventListener) {
	l.WALCreated = func(pebble.WALCreateInfo) { wake(s.stall.look) }
	l.FlushBegin = func(pebble.FlushInfo) { wake(s.stall.look) }
	l.FlushEnd = func(info pebble.FlushInfo) { s.metaProgressed(info.Err) }
	l.CompactionEnd = func(info pebble.CompactionInfo) { s.metaProgressed(info.Err) }
}
