package state

// contention remembers the files whose delegations had to be recalled lately: one that two clients use
// is better not delegated again at once. It has two generations, of a lease each, and is bounded.
type contention struct {
	young, old map[File]struct{}
	since      int64 // of young, as Machine.now has it
}

// contendLocked notes that f is wanted by more than one.
func (m *Machine) contendLocked(f File) {
	m.ageContentionLocked()
	k := &m.contention
	if len(k.young) >= maxContended {
		k.old, k.young = k.young, nil
	}
	if k.young == nil {
		k.young = make(map[File]struct{})
	}
	k.young[f] = struct{}{}
}

func (m *Machine) contendedLocked(f File) bool {
	m.ageContentionLocked()
	_, young := m.contention.young[f]
	_, old := m.contention.old[f]
	return young || old
}

// ageContentionLocked forgets what was noted more than two leases ago, and keeps all of the last one.
func (m *Machine) ageContentionLocked() {
	k := &m.contention
	switch age := m.now() - k.since; {
	case age > 2*int64(m.opt.Lease):
		k.old, k.young, k.since = nil, nil, m.now()
	case age > int64(m.opt.Lease):
		k.old, k.young, k.since = k.young, nil, m.now()
	}
}

// roomForDelegationLocked says whether c may have one more delegation. At the limits, holders are asked
// to give some back.
func (m *Machine) roomForDelegationLocked(c *client) bool {
	l := &m.opt.Limits
	if c.nDelegs >= l.DelegationsPerClient {
		m.askBackLocked(c)
		return false
	}
	if int(m.delegations.Load()) < l.Delegations {
		return true
	}
	if m.now()-m.askedBack <= int64(m.opt.Lease)/recallAnyPerLease {
		return false
	}
	m.askedBack = m.now()
	most := c
	for _, other := range m.clients {
		if other.nDelegs > most.nDelegs {
			most = other
		}
	}
	m.askBackLocked(most)
	return false
}

// askBackLocked asks c to give back a quarter of its delegations, not more often than makes sense.
func (m *Machine) askBackLocked(c *client) {
	if c.wasAsked && m.now()-c.askedBack <= int64(m.opt.Lease)/recallAnyPerLease {
		return
	}
	c.wasAsked, c.askedBack = true, m.now()
	id, keep := c.id, uint32(c.nDelegs-c.nDelegs/4)
	m.laterLocked(func(cb Callbacks) { cb.RecallAny(id, keep) })
}
