package filestore

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// usage is what is metered, in bytes, or a change of it.
type usage struct{ data, meta int64 }

// appendUsage encodes one; changes are merged with what is stored by adding them (sum).
func appendUsage(b []byte, u usage) []byte {
	return be.AppendUint64(be.AppendUint64(b, uint64(u.data)), uint64(u.meta))
}

func decodeUsage(b []byte) (usage, error) {
	if len(b) != 16 {
		return usage{}, fmt.Errorf("filestore: metered bytes: %w", vfs.ErrCorrupt)
	}
	return usage{int64(be.Uint64(b)), int64(be.Uint64(b[8:]))}, nil
}

// quota bounds what is metered. What is stable is counted in the metadata store, in the batch of each
// change; what is unstable counts with all of its blocks, whatever it replaces, until it is stable.
type quota struct {
	limit      atomic.Uint64 // 0: there is none
	data, meta atomic.Int64  // as stored, with every batch that has been applied
	// finishing is held shared by a flush from the moment that its blocks are counted as stable until
	// they are no longer counted as unstable.
	finishing sync.RWMutex

	mu      sync.Mutex // held while something is admitted, and while it is counted
	pending uint64     // admitted and not counted yet
}

// SetQuota bounds what is metered, data and metadata, to so many bytes from now on; 0: nothing does.
// What is there already stays. The quota is not stored: Options.QuotaBytes is that of the next Open.
func (s *Store) SetQuota(quotaBytes uint64) error {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return vfs.ErrClosed
	}
	s.quota.limit.Store(quotaBytes)
	return nil
}

// admission is a number of bytes that may be metered.
type admission uint64

// admit lets so many bytes more be metered, or says vfs.ErrQuota. The caller meters or dismisses them.
func (s *Store) admit(bytes uint64) (admission, error) {
	q := &s.quota
	limit := q.limit.Load()
	if limit == 0 || bytes == 0 {
		return 0, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	used := uint64(q.data.Load()+q.meta.Load()+s.dirtyMem.load()+s.unstable.load()) + q.pending
	if used > limit || bytes > limit-used {
		return 0, vfs.ErrQuota
	}
	q.pending += bytes
	return admission(bytes), nil
}

// dismiss gives back what is left of an admission.
func (s *Store) dismiss(a *admission) {
	if *a == 0 {
		return
	}
	s.quota.mu.Lock()
	s.quota.pending -= uint64(*a)
	s.quota.mu.Unlock()
	*a = 0
}

// meter counts a change, in a batch that is about to be applied and in memory, and uses up an admission
// (nil: there was nothing to admit).
func (s *Store) meter(b *pebble.Batch, a *admission, change usage) {
	if change == (usage{}) {
		return
	}
	if err := b.Merge(counterKey(counterUsage), appendUsage(make([]byte, 0, 16), change), nil); err != nil {
		panic(fmt.Sprintf("filestore: batch: %v", err))
	}
	q := &s.quota
	if a != nil && *a != 0 {
		q.mu.Lock()
		defer q.mu.Unlock()
		counted := min(*a, admission(max(change.data+change.meta, 0)))
		q.pending -= uint64(counted)
		*a -= counted
	}
	q.data.Add(change.data)
	q.meta.Add(change.meta)
}

// unmeter undoes what meter counted in memory, for a batch that was not applied.
func (s *Store) unmeter(change usage) {
	s.quota.data.Add(-change.data)
	s.quota.meta.Add(-change.meta)
}

// withinQuota calls op, and if it fails for the quota once more, when everything that is unstable
// counts for no more than it needs. Nothing is locked.
func (s *Store) withinQuota(op func() error) error {
	err := op()
	if !errors.Is(err, vfs.ErrQuota) || s.dirtyMem.load()+s.unstable.load() == 0 {
		return err
	}
	if err := s.settleAll(); err != nil {
		return err
	}
	return op()
}

// settleAll makes all unstable data stable, and waits until it is not counted twice any more.
func (s *Store) settleAll() error {
	err := s.flushAll()
	s.quota.finishing.Lock()
	defer s.quota.finishing.Unlock()
	return err
}

// openUsage reads what is metered.
func (s *Store) openUsage() error {
	found, err := s.get(counterKey(counterUsage), func(value []byte) error {
		u, err := decodeUsage(value)
		s.quota.data.Store(u.data)
		s.quota.meta.Store(u.meta)
		return err
	})
	if err == nil && !found {
		err = fmt.Errorf("filestore: metered bytes are missing: %w", vfs.ErrCorrupt)
	}
	return err
}

// sum is Pebble's merge operator: it adds changes of usage up.
type sum struct{ total usage }

// newMerger returns the merge operator, by the name under which the store knows it.
func newMerger() *pebble.Merger {
	return &pebble.Merger{Name: "nfseal.sum", Merge: func(_, value []byte) (pebble.ValueMerger, error) {
		m := new(sum)
		return m, m.MergeNewer(value)
	}}
}

// MergeNewer implements pebble.ValueMerger.
func (m *sum) MergeNewer(value []byte) error {
	u, err := decodeUsage(value)
	m.total.data += u.data
	m.total.meta += u.meta
	return err
}

// MergeOlder implements pebble.ValueMerger.
func (m *sum) MergeOlder(value []byte) error { return m.MergeNewer(value) }

// Finish implements pebble.ValueMerger.
func (m *sum) Finish(bool) ([]byte, io.Closer, error) { return appendUsage(nil, m.total), nil, nil }
