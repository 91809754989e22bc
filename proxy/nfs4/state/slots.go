package state

import "slices"

// How many slots a session has changes while it lives (RFC 8881 §2.10.6.1). The fuller the reply cache,
// the fewer a session may have (slotShareLocked). One that uses its last slot gets more, up to what it
// asked for; one that has too many is told a lower target, and loses those above it when the client has
// shown that it knows: a request came on a slot whose former reply named the target, and said that
// nothing is outstanding above it. So no reply is dropped that a client may still ask for. A reply that
// is repeated tells the numbers of now (Ticket), or it could raise the target that the client knows.

// resizeLocked gives s more slots, or takes some away, at a request r that sl is to execute.
// Machine.mu is held for reading, and s.mu.
func (m *Machine) resizeLocked(s *session, sl *slot, r *SequenceRequest) {
	switch n := s.target; {
	case n < len(s.slots) && sl.told == s.shrunk && int(r.Slot) < n && int(r.Highest) < n:
		m.retireLocked(s)
	case int(r.Slot) == len(s.slots)-1:
		m.growLocked(s)
	}
}

// growLocked gives s more slots if there is room.
func (m *Machine) growLocked(s *session) {
	n := min(s.most, int(m.slotShareLocked()))
	if s.target < len(s.slots) && n >= len(s.slots) {
		s.target = len(s.slots) // there is room again before the client has given any back
	}
	add := min(n-len(s.slots), max(len(s.slots)/slotGrowth, 1))
	if s.target < len(s.slots) || add < 1 {
		return
	}
	bytes := int64(add) * int64(s.fore.MaxCachedBytes)
	if m.cacheBytes.Add(bytes) > int64(m.opt.Limits.ReplyCacheBytes) {
		m.cacheBytes.Add(-bytes)
		return
	}
	for range add {
		sl := new(slot)
		if i := len(s.slots); i < len(s.retired) {
			sl.sequence, sl.reused = s.retired[i], true
		}
		s.slots = append(s.slots, sl)
	}
	s.target = len(s.slots)
}

// retireLocked takes the slots above the target away, which the client does not use any more.
func (m *Machine) retireLocked(s *session) {
	n := s.target
	for _, gone := range s.slots[n:] {
		if gone.running {
			return
		}
	}
	for len(s.retired) < len(s.slots) {
		s.retired = append(s.retired, 0)
	}
	for i, gone := range s.slots[n:] {
		s.retired[n+i] = gone.sequence
	}
	m.cacheBytes.Add(-int64(len(s.slots)-n) * int64(s.fore.MaxCachedBytes))
	s.slots = slices.Delete(s.slots, n, len(s.slots))
}

// recallSlotsLocked asks all sessions with more slots than may be now to give some back. It says
// whether any is about to.
func (m *Machine) recallSlotsLocked() (pending bool) {
	n := int(m.slotShareLocked())
	for _, s := range m.sessions {
		if s.fore.MaxCachedBytes > 0 && s.target > n {
			s.target = n
			s.shrunk++
			id, highest := s.id, uint32(n-1)
			m.laterLocked(func(cb Callbacks) { cb.RecallSlots(id, highest) })
		}
		pending = pending || s.target < len(s.slots) && !m.expiredLocked(s.client)
	}
	return pending
}

// pressedLocked says whether the reply cache is in its last quarter.
func (m *Machine) pressedLocked() bool {
	return m.cacheBytes.Load() >= int64(m.opt.Limits.ReplyCacheBytes)/4*3
}

// halfFullLocked says whether so much of the reply cache is taken that new sessions get few slots.
func (m *Machine) halfFullLocked() bool {
	return m.cacheBytes.Load() >= int64(m.opt.Limits.ReplyCacheBytes)/2
}

// slotShareLocked is how many slots a session may have at most: the fuller the reply cache, the fewer,
// so that late comers get some too.
func (m *Machine) slotShareLocked() uint32 {
	quarter := m.cacheBytes.Load() / max(int64(m.opt.Limits.ReplyCacheBytes/4), 1)
	return uint32(max(m.opt.Limits.Slots/slotShares[min(quarter, 3)], minSlots))
}

// restarted says whether sequence is where a client begins that has forgotten a slot which it had
// to give back: it may count on from there, or anew.
func (sl *slot) restarted(sequence uint32) bool { return sl.reused && !sl.used && sequence == 1 }
