package filestore

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// lease hands out the values of a counter, each at most once in the life of the file system. What
// it may hand out before the next durable update, bound, is stored, so that a crash wastes values
// and repeats none.
type lease struct {
	counter byte
	step    uint64

	next  atomic.Uint64 // the last value handed out
	bound atomic.Uint64 // values below it may be handed out

	mu sync.Mutex // extends
}

// open continues after what earlier starts may have used.
func (l *lease) open(s *Store, counter byte, step uint64) error {
	l.counter, l.step = counter, step
	stored, err := s.readCounter(counter)
	if err != nil {
		return err
	}
	if stored == 0 || stored > maxCounter {
		return fmt.Errorf("filestore: counter %d is %d: %w", counter, stored, vfs.ErrCorrupt)
	}
	l.next.Store(stored - 1)
	l.bound.Store(stored)
	return nil
}

// take returns the next value.
func (l *lease) take(s *Store) (uint64, error) {
	v := l.next.Add(1)
	for v >= l.bound.Load() {
		if err := l.extend(s, v); err != nil {
			return 0, err
		}
	}
	return v, nil
}

// extend makes it durable that values up to v and some more may be used.
func (l *lease) extend(s *Store, v uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v < l.bound.Load() {
		return nil
	}
	bound := v + l.step
	b := s.db.NewBatch()
	set(b, counterKey(l.counter), be.AppendUint64(nil, bound))
	if err := s.store(b); err != nil {
		return err
	}
	l.bound.Store(bound)
	return nil
}

// readCounter reads a stored counter, which every store has.
func (s *Store) readCounter(counter byte) (uint64, error) {
	stored, found, err := s.findCounter(counter)
	if err == nil && !found {
		err = fmt.Errorf("filestore: counter %d is missing: %w", counter, vfs.ErrCorrupt)
	}
	return stored, err
}

// findCounter reads a counter that a store may not have: it is 0 then.
func (s *Store) findCounter(counter byte) (stored uint64, found bool, err error) {
	found, err = s.get(counterKey(counter), func(value []byte) error {
		if len(value) != 8 {
			return fmt.Errorf("filestore: counter %d: %w", counter, vfs.ErrCorrupt)
		}
		stored = be.Uint64(value)
		return nil
	})
	return stored, found, err
}
