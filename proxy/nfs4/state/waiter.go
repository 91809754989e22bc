package state

// waiter is a lock that a client was denied and would wait for.
type waiter struct {
	client     *client
	owner      string
	start, end uint64
	write      bool
	since      int64 // as Machine.now has it
}

// waitLocked notes that c waits for a lock of f. One owner waits for one lock of a file at a time; notes that are old go, for clients
// that wait ask again from time to time.
func (m *Machine) waitLocked(f *file, w waiter) {
	if m.opt.Callbacks == nil || !w.client.reachableLocked(false) {
		return
	}
	w.since = m.now()
	oldest := w.since - int64(max(m.opt.Lease, waiterPause))
	kept := f.waiters[:0]
	for _, o := range f.waiters {
		if (o.client != w.client || o.owner != w.owner) && o.since >= oldest {
			kept = append(kept, o)
		}
	}
	clear(f.waiters[len(kept):])
	f.waiters = kept
	if len(f.waiters) < maxWaiters {
		f.waiters = append(f.waiters, w)
	}
}

// wakeLocked tells those who wait for locks of f that they may have them now.
func (m *Machine) wakeLocked(f *file) {
	kept := f.waiters[:0]
	for _, w := range f.waiters {
		if w.client.condemned {
			continue
		}
		if m.lockConflictLocked(f, f.locks[lockKey{w.client, w.owner}], w.start, w.end, w.write) != nil {
			kept = append(kept, w)
			continue
		}
		n := LockNotice{Client: w.client.id, File: f.id, Owner: w.owner}
		m.laterLocked(func(cb Callbacks) { cb.NotifyLock(n) })
	}
	clear(f.waiters[len(kept):])
	f.waiters = kept
}

// MayNotifyLock says whether t's client can be told when a lock that it waits for comes free
// (OPEN4_RESULT_MAY_NOTIFY_LOCK).
func (m *Machine) MayNotifyLock(t *Ticket) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.opt.Callbacks != nil && t.session.client.reachableLocked(false)
}
