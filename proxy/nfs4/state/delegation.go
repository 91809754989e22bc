package state

import (
	"slices"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// delegation is a promise to a client about one file: to be asked before anybody else writes it or,
// for a write delegation, opens it (RFC 8881 §10.4).
//
// Anybody else is another client, and another open-owner of the same one: a client that knows of the delegation opens under
// it, and does not ask. Linux does ask for another mount of its own whose options differ, which shares neither data nor locks
// with the first. Where no open-owner is named, Own says what is in the way.
type delegation struct {
	token
	write bool
	owner string // the open-owner that got it
	times bool   // the client keeps the file's times (RFC 9754)

	recalled   bool
	recalledAt int64 // as Machine.now has it
	truncate   bool
	deferred   bool // the client was not ready to be asked for it
	revoked    bool // in the table until the client frees it

	granted    wire.ReferringCall
	hasGranted bool

	// For a write delegation: the change attribute that the client got with it, or unknownChange; and what the
	// client is known to have made of the file.
	original uint64
	change   uint64
	size     uint64
	since    Times // the file's as it got the delegation; zero if that was in another life of the server
}

// Times are a file's.
type Times struct{ Accessed, Modified wire.Time }

// unknownChange stands for the change attribute that a client got with a delegation in another life of the server.
const unknownChange = ^uint64(0)

// Delegation is what an OPEN gets besides (open_delegation4).
type Delegation struct {
	Type    wire.DelegationType
	Stateid wire.Stateid
	Recall  bool   // to be given back at once
	Why     uint32 // WND4_, if Type is OPEN_DELEGATE_NONE_EXT
}

// covers says whether d is good for all that an open with access and deny is: it denies nothing to others for good.
func (d *Delegation) covers(access, deny uint8) bool {
	switch d.Type {
	case wire.OPEN_DELEGATE_READ, wire.OPEN_DELEGATE_READ_ATTRS_DELEG:
		return deny == 0 && access == wire.OPEN4_SHARE_ACCESS_READ
	case wire.OPEN_DELEGATE_WRITE, wire.OPEN_DELEGATE_WRITE_ATTRS_DELEG:
		return deny == 0
	}
	return false
}

// DelegationWish is what an OPEN says of delegations.
type DelegationWish struct {
	Want  uint32 // OPEN4_SHARE_ACCESS_WANT_, of the mask
	Times bool   // OPEN4_SHARE_ACCESS_WANT_DELEG_TIMESTAMPS
	// Instead says that no open is wanted if there is a delegation
	// (OPEN4_SHARE_ACCESS_WANT_OPEN_XOR_DELEGATION).
	Instead bool
	// Reclaim is the kind that the client had before the restart, for a reclaim.
	Reclaim wire.DelegationType
	// Change, Size and Since are the file's.
	Change uint64
	Size   uint64
	Since  Times
}

// none is the refusal of a delegation. A client that said nothing about it is told nothing.
func (w *DelegationWish) none(why uint32) Delegation {
	if w.Want == wire.OPEN4_SHARE_ACCESS_WANT_NO_PREFERENCE {
		return Delegation{Type: wire.OPEN_DELEGATE_NONE}
	}
	return Delegation{Type: wire.OPEN_DELEGATE_NONE_EXT, Why: why}
}

// delegateLocked decides about a delegation of f for t's client, which r lets open it.
func (m *Machine) delegateLocked(t *Ticket, f *file, r *OpenRequest) Delegation {
	w, c := &r.Wish, t.client()
	if r.Reclaim {
		return m.redelegateLocked(t, f, r)
	}
	write := r.Access == wire.OPEN4_SHARE_ACCESS_BOTH && w.Want != wire.OPEN4_SHARE_ACCESS_WANT_READ_DELEG
	switch {
	case w.Want == wire.OPEN4_SHARE_ACCESS_WANT_NO_DELEG:
		return w.none(wire.WND4_NOT_WANTED)
	case w.Want == wire.OPEN4_SHARE_ACCESS_WANT_CANCEL:
		return w.none(wire.WND4_CANCELLED)
	case m.opt.Callbacks == nil || m.opt.NoDelegations || r.Access&wire.OPEN4_SHARE_ACCESS_READ == 0:
		return w.none(wire.WND4_RESOURCE)
	}
	if own := f.delegationOf(c); own != nil {
		if write && !own.write {
			return w.none(wire.WND4_NOT_SUPP_UPGRADE)
		}
		return w.none(wire.WND4_NOT_SUPP_DOWNGRADE)
	}
	switch {
	case m.contendedLocked(f.id) || f.contests(c, string(r.Owner), write):
		return w.none(wire.WND4_CONTENTION)
	case !c.reachableLocked(false) || !m.roomForDelegationLocked(c):
		return w.none(wire.WND4_RESOURCE)
	}
	return m.newDelegationLocked(t, f, r, write)
}

// redelegateLocked gives a client back the delegation that it had before the restart. Where that is not
// wise any more, it is to be returned at once (RFC 8881 §10.2.1).
func (m *Machine) redelegateLocked(t *Ticket, f *file, r *OpenRequest) Delegation {
	c, write := t.client(), false
	switch r.Wish.Reclaim {
	case wire.OPEN_DELEGATE_WRITE, wire.OPEN_DELEGATE_WRITE_ATTRS_DELEG:
		write = true
	case wire.OPEN_DELEGATE_READ, wire.OPEN_DELEGATE_READ_ATTRS_DELEG:
	default:
		return Delegation{Type: wire.OPEN_DELEGATE_NONE}
	}
	if c.v40 != nil || m.recovery.over {
		return Delegation{Type: wire.OPEN_DELEGATE_NONE}
	}
	if own := f.delegationOf(c); own != nil {
		return Delegation{Type: own.kind(), Stateid: m.stateidLocked(&own.token), Recall: own.recalled}
	}
	if f.contests(c, "", write) || c.nDelegs >= m.opt.Limits.DelegationsPerClient ||
		int(m.delegations.Load()) >= m.opt.Limits.Delegations {
		return Delegation{Type: wire.OPEN_DELEGATE_NONE}
	}
	r.Wish.Times = r.Wish.Reclaim >= wire.OPEN_DELEGATE_READ_ATTRS_DELEG
	got := m.newDelegationLocked(t, f, r, write)
	got.Recall = m.opt.Callbacks == nil || m.opt.NoDelegations || !c.reachableLocked(true)
	return got
}

// contests says whether somebody else than an open-owner of c has f in a way that a delegation must not promise away; owner
// "" is all of c's.
func (f *file) contests(c *client, owner string, write bool) bool {
	for o := range f.opens {
		other := o.client != c || owner != "" && o.owner.name != owner
		if other && (write || o.access&wire.OPEN4_SHARE_ACCESS_WRITE != 0) {
			return true
		}
	}
	for _, d := range f.delegs {
		if d.client != c && (write || d.write) {
			return true
		}
	}
	return false
}

// delegationOf is c's delegation of f, or nil.
func (f *file) delegationOf(c *client) *delegation {
	for _, d := range f.delegs {
		if d.client == c {
			return d
		}
	}
	return nil
}

func (m *Machine) newDelegationLocked(t *Ticket, f *file, r *OpenRequest, write bool) Delegation {
	c := t.client()
	d := &delegation{token: m.newTokenLocked(c, f), write: write, owner: string(r.Owner), times: r.Wish.Times,
		original: r.Wish.Change, change: r.Wish.Change, size: r.Wish.Size, since: r.Wish.Since}
	if r.Reclaim {
		d.original, d.since = unknownChange, Times{}
	}
	d.granted = wire.ReferringCall{Session: t.session.id, Sequence: t.sequence, Slot: t.slotID}
	d.hasGranted = true
	d.token.deleg = d
	m.tokens[d.number] = &d.token
	f.delegs = append(f.delegs, d)
	c.delegs[d] = struct{}{}
	c.nDelegs++
	m.countLocked(d, 1)
	m.delegated.grant(write)
	m.recovery.absent.note(f.id, use{locked: true}) // by the client itself, which need not tell
	return Delegation{Type: d.kind(), Stateid: m.stateidLocked(&d.token)}
}

// countLocked counts d, which is in effect from now on, or not any more.
func (m *Machine) countLocked(d *delegation, n int32) {
	m.delegations.Add(n)
	if d.write {
		m.writeDelegations.Add(n)
	}
}

// DelegationStats counts delegations since the start. Those granted less all that have ended are those in effect.
type DelegationStats struct {
	// ReadGranted and WriteGranted are those that were granted, the reclaimed ones of the recovery phase among them
	// (RFC 8881 §10.2.1).
	ReadGranted  uint64
	WriteGranted uint64

	Returned uint64 // with DELEGRETURN (RFC 8881 §18.6), recalled or not
	Revoked  uint64 // recalled, and not returned for a lease (RFC 8881 §10.4.5)
	Lost     uint64 // ended with their clients, whose leases ran out or who have started anew
	Undone   uint64 // never seen by their clients, since the OPEN failed in the end
}

func (s *DelegationStats) grant(write bool) {
	if write {
		s.WriteGranted++
		return
	}
	s.ReadGranted++
}

func (d *delegation) kind() wire.DelegationType {
	switch {
	case d.write && d.times:
		return wire.OPEN_DELEGATE_WRITE_ATTRS_DELEG
	case d.write:
		return wire.OPEN_DELEGATE_WRITE
	case d.times:
		return wire.OPEN_DELEGATE_READ_ATTRS_DELEG
	}
	return wire.OPEN_DELEGATE_READ
}

// lapseLocked takes d's effect away, and counts its end in ended; its stateid stays.
func (m *Machine) lapseLocked(d *delegation, ended *uint64) {
	f := d.file
	f.delegs = slices.DeleteFunc(f.delegs, func(o *delegation) bool { return o == d })
	delete(m.recalls, d)
	m.countLocked(d, -1)
	*ended++
	if f.ended != nil {
		m.ended = append(m.ended, f.ended)
		f.ended = nil
	}
	m.putFileLocked(f)
}

// removeDelegationLocked ends d, and counts that in ended. One that was revoked is counted already: ended may be nil.
func (m *Machine) removeDelegationLocked(d *delegation, ended *uint64) {
	if d.revoked {
		d.client.revoked--
	} else {
		m.lapseLocked(d, ended)
	}
	delete(m.tokens, d.number)
	delete(d.client.delegs, d)
	d.client.nDelegs--
}

// revokeLocked takes d from a client that did not give it back. The client learns it from SEQUENCE and
// frees the stateid (RFC 8881 §10.2.1, §18.38).
func (m *Machine) revokeLocked(d *delegation) {
	m.lapseLocked(d, &m.delegated.Revoked)
	d.revoked = true
	d.client.revoked++
}

// recallLocked asks for d back.
func (m *Machine) recallLocked(d *delegation, truncate bool) {
	d.recalled, d.recalledAt, d.truncate = true, m.now(), truncate
	m.recalls[d] = struct{}{}
	m.contendLocked(d.file.id)
	m.sendRecallLocked(d)
}

func (m *Machine) sendRecallLocked(d *delegation) {
	r := Recall{Client: d.client.id, Stateid: m.stateidLocked(&d.token), File: d.file.id, Truncate: d.truncate,
		Granted: d.granted, HasGranted: d.hasGranted && m.pendingLocked(&d.granted)}
	m.laterLocked(func(cb Callbacks) { cb.Recall(r) })
}

// pendingLocked says whether the client has not yet shown, by using the slot again, that it has the
// reply to the request.
func (m *Machine) pendingLocked(r *wire.ReferringCall) bool {
	s := m.sessions[r.Session]
	if s == nil || int(r.Slot) >= len(s.slots) {
		return false
	}
	sl := s.slots[r.Slot]
	return sl.sequence+1 == r.Sequence || sl.sequence == r.Sequence && !sl.running
}

// RecallDeferred says that the client of delegation id was not ready to be asked for it, though it was tried for a while: it will
// be asked again (RFC 8881 §15.1.1.3).
func (m *Machine) RecallDeferred(id *wire.Stateid) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if tk := m.tokens[tokenNumber(id)]; tk != nil && tk.deleg != nil {
		tk.deleg.deferred = true
	}
}

// recallAgainLocked asks for what clients were not ready to be asked for.
func (m *Machine) recallAgainLocked() {
	for d := range m.recalls {
		if d.deferred {
			d.deferred = false
			m.sendRecallLocked(d)
		}
	}
}

// overdueLocked says whether d's client had a lease's time to give it back.
func (m *Machine) overdueLocked(d *delegation) bool {
	return d.recalled && m.now()-d.recalledAt > int64(m.opt.Lease)
}

// mayRevokeLocked ends the copies under d, and says whether nothing is moved for them any more: others may have the file once d is
// revoked.
func (m *Machine) mayRevokeLocked(d *delegation) bool {
	return len(m.stopCopiesLocked(&d.token, 0)) == 0
}

// revokeOverdueLocked revokes what was recalled long ago.
func (m *Machine) revokeOverdueLocked() {
	for d := range m.recalls {
		if m.overdueLocked(d) && m.mayRevokeLocked(d) {
			m.revokeLocked(d)
		}
	}
}

// Own says which of a client's own delegations are in the way of what it does without naming an open-owner. A client gives
// them back before that if it knows of them, so those that are still there are another mount's.
type Own uint8

const (
	OwnStay Own = iota // none
	OwnRead            // those to read
	OwnAll
)

// passes says whether an OPEN of c is let through by delegation d of c's.
func (r *OpenRequest) passes(d *delegation) bool { return r.apart() == "" || r.apart() == d.owner }

// passes says whether an operation of c's is let through by delegation d of c's.
func (o Own) passes(d *delegation) bool { return o == OwnStay || o == OwnRead && d.write }

// clearLocked sees to it that no delegation of f is in the way of c, who changes it or only looks at it; own says which of its own
// are not. What is in the way is recalled, and what was recalled long ago revoked. blocked
// says that something is still in the way; victim, if not zero, that it belongs to an expired client; ended is closed when one that
// was in the way has ended, and nil if one is there whose client can't be called, or has had RecallWait.
func (m *Machine) clearLocked(f *file, c *client, own func(*delegation) bool, change, truncate bool) (victim wire.ClientID, ended <-chan struct{}, blocked bool) {
	soon := true
	for _, d := range slices.Clone(f.delegs) {
		switch {
		case d.client == c && own(d) || !change && !d.write:
			continue
		case m.replaceableLocked(d.client):
			return d.client.id, nil, true
		case m.overdueLocked(d) && m.mayRevokeLocked(d):
			m.revokeLocked(d)
			continue
		case !d.recalled:
			m.recallLocked(d, truncate)
		}
		blocked = true
		soon = soon && d.client.reachableLocked(false) && m.now()-d.recalledAt < int64(RecallWait)
	}
	if !blocked || !soon {
		return 0, nil, blocked
	}
	if f.ended == nil {
		f.ended = make(chan struct{})
	}
	return 0, f.ended, true
}

// Delegations is how many are out. It takes no lock.
func (m *Machine) Delegations() int { return int(m.delegations.Load()) }

// Clear makes way for an operation of t's client on file f that changes it or, with change false, only
// looks at its content; truncate says that it becomes empty, own which of its own delegations are in the way. NFS4ERR_DELAY:
// delegations are in the way and have been recalled; ended, if not nil, is closed when one of them has ended. victim, if not zero, is
// an expired client that is in the way: it must be condemned and buried, then the call repeated.
func (m *Machine) Clear(t *Ticket, f File, own Own, change, truncate bool) (victim wire.ClientID, ended <-chan struct{}, s wire.Status) {
	if m.delegations.Load() == 0 {
		return 0, nil, wire.NFS4_OK
	}
	m.mu.Lock()
	defer m.unlock()
	fl := m.files[f]
	if fl == nil {
		return 0, nil, wire.NFS4_OK
	}
	victim, ended, blocked := m.clearLocked(fl, t.client(), own.passes, change, truncate)
	if blocked {
		return victim, ended, wire.NFS4ERR_DELAY
	}
	return 0, nil, wire.NFS4_OK
}

// delegationLocked finds the delegation that stateid id names.
func (m *Machine) delegationLocked(t *Ticket, id *wire.Stateid, f File) (*delegation, wire.Status) {
	tk, s := m.findOnLocked(t.client(), id, f)
	switch {
	case s != wire.NFS4_OK:
		return nil, s
	case tk.deleg == nil:
		return nil, wire.NFS4ERR_BAD_STATEID
	}
	return tk.deleg, wire.NFS4_OK
}

// Return serves DELEGRETURN (RFC 8881 §18.6). Copies under the delegation end, as with Downgrade.
func (m *Machine) Return(t *Ticket, id *wire.Stateid, f File) (moving []wire.Stateid, s wire.Status) {
	m.mu.Lock()
	defer m.unlock()
	d, s := m.delegationLocked(t, id, f)
	if s != wire.NFS4_OK {
		return nil, s
	}
	if moving = m.stopCopiesLocked(&d.token, 0); len(moving) == 0 {
		m.removeDelegationLocked(d, &m.delegated.Returned)
	}
	return moving, wire.NFS4_OK
}

// KeepsTimes says whether stateid id is a delegation under which t's client keeps f's times, and writes
// it if write (RFC 9754 §5): NFS4_OK or why not. since are the times that the file had with it.
func (m *Machine) KeepsTimes(t *Ticket, id *wire.Stateid, f File, write bool) (since Times, s wire.Status) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	d, s := m.delegationLocked(t, id, f)
	switch {
	case s != wire.NFS4_OK:
		return since, s
	case !d.times:
		return since, wire.NFS4ERR_BAD_STATEID
	case write && !d.write:
		return since, wire.NFS4ERR_OPENMODE
	}
	return d.since, wire.NFS4_OK
}

// Query is a write delegation whose holder knows best how long the file is.
type Query struct {
	Client  wire.ClientID
	Stateid wire.Stateid
	File    File
	Times   bool  // the holder keeps the times too
	Since   Times // that the file had with the delegation
}

// QueryAttrs says whom to ask for f's size and change attribute, if not t's client itself (RFC 8881
// §10.4.3). It takes no lock where there is nobody.
func (m *Machine) QueryAttrs(t *Ticket, f File) (q Query, ok bool) {
	if m.writeDelegations.Load() == 0 {
		return q, false
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	fl := m.files[f]
	if fl == nil {
		return q, false
	}
	for _, d := range fl.delegs {
		if d.write && d.client != t.client() {
			return Query{Client: d.client.id, Stateid: m.stateidLocked(&d.token), File: f, Times: d.times, Since: d.since}, true
		}
	}
	return q, false
}

// Told takes down what the holder of a new delegation of f is told of it with that, which is later than what its OPEN found.
func (m *Machine) Told(t *Ticket, f File, change, size uint64, since Times) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fl := m.files[f]
	if fl == nil {
		return
	}
	d := fl.delegationOf(t.client())
	if d == nil {
		return
	}
	if d.original != unknownChange {
		d.original, d.since = change, since
	}
	d.change, d.size = change, size
}

// Answered takes down the holder's answer to q; stored is the size that the file has here. changed says that the holder has
// changed the file since it was asked before, or since the delegation, and has not written all of it back; ok, that the delegation
// is still there.
//
// A holder says that it has something to write back by a change attribute above the one that it got with the delegation. Linux
// goes back to that one when it has written everything, so that the lowest one it says is the one it got.
func (m *Machine) Answered(q *Query, change, size, stored uint64) (changed, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fl := m.files[q.File]
	if fl == nil {
		return false, false
	}
	for _, d := range fl.delegs {
		if d.client.id != q.Client || !d.write {
			continue
		}
		if size == stored {
			d.original = min(d.original, change)
		}
		changed = (d.change != change || d.size != size) && (d.original != change || stored != size)
		d.change, d.size = change, size
		return changed, true
	}
	return false, false
}
