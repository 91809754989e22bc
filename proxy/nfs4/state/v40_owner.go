package state

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// owner40 is an open owner or a lock owner of minor version 0: its requests come in a sequence, and
// the reply to the last one is kept for its repetition (RFC 7530 §9.1.7).
type owner40 struct {
	// turn is held by the request that is being executed. It is taken before Machine.mu, and an open
	// owner's before a lock owner's.
	turn sync.Mutex

	client *client
	name   string
	lock   bool // a lock owner
	users  int  // requests that have the turn or wait for it: while there are any, it stays

	begun     bool   // a request was finished
	confirmed bool   // of an open owner: OPEN_CONFIRM was done
	reclaims  bool   // of an open owner: it had something from before the restart again
	uid       uint32 // of whom the last OPEN was for that succeeded
	seqid     uint32
	print     uint64 // of the request with seqid
	reply     Reply
	used      time.Time
	closed    uint64 // the number of the stateid that the last request closed, or 0
}

// Reply is what is kept of a result in an owner's sequence.
type Reply struct {
	Status wire.Status
	Body   []byte // what follows the status
	File   File   // the current file after an OPEN
}

// Turn is a request's place in its owner's sequence. It is filled by the Begin methods and used by
// one goroutine, until End.
type Turn struct {
	owner *owner40
	lock  *owner40 // of a LOCK by a new lock owner
	seqid uint32
	// lockSeqid is that of lock.
	lockSeqid uint32
	print     uint64
	closed    uint64 // the number of the stateid that CLOSE ended, or 0
	opens     bool   // it is an OPEN, for uid
	uid       uint32

	// Reply is the answer, when Begin says Replayed.
	Reply Reply
}

// SeqidRequest is what the owner's sequence needs to know of a request.
type SeqidRequest struct {
	Seqid uint32
	// Fingerprint tells requests apart: two with the same seqid are the same exactly if it is the
	// same.
	Fingerprint uint64
	// UID is whom the request is for, Identity that of its connection: clients of others are not known to it.
	UID      uint32
	Identity string
}

// countsInSequence says whether a request that ended with s takes a seqid (RFC 7530 §9.1.7).
func countsInSequence(s wire.Status) bool {
	switch s {
	case wire.NFS4ERR_STALE_CLIENTID, wire.NFS4ERR_STALE_STATEID, wire.NFS4ERR_BAD_STATEID,
		wire.NFS4ERR_BAD_SEQID, wire.NFS4ERR_BADXDR, wire.NFS4ERR_RESOURCE, wire.NFS4ERR_NOFILEHANDLE,
		wire.NFS4ERR_MOVED:
		return false
	}
	return true
}

// BeginOpen takes the turn of an open owner for an OPEN (RFC 7530 §16.16). With Execute, End must
// follow; if the status is a failure then, it is the result of the OPEN. t is filled with Execute.
func (m *Machine) BeginOpen(id wire.ClientID, name []byte, r *SeqidRequest, t *Ticket, turn *Turn) (Verdict, wire.Status) {
	m.mu.Lock()
	defer m.unlock()
	c, s := m.client40Locked(id, r.Identity)
	if s != wire.NFS4_OK {
		return Refused, s
	}
	o, s := m.ownerLocked(c, name, false)
	if s != wire.NFS4_OK {
		return Refused, s
	}
	m.enterLocked(c, false, t)
	*turn = Turn{owner: o, seqid: r.Seqid, print: r.Fingerprint, opens: true, uid: r.UID}
	m.takeTurnLocked(o)
	switch {
	case o.begun && o.repeats(r):
		return m.replayLocked(t, turn)
	case o.begun && !o.confirmed:
		m.forgetOpensLocked(o) // the client has given them up
	case o.begun && !o.follows(r):
		return m.refuseLocked(t, turn, wire.NFS4ERR_BAD_SEQID)
	}
	return Execute, wire.NFS4_OK
}

// takeTurnLocked waits for o's turn, with mu released meanwhile.
func (m *Machine) takeTurnLocked(o *owner40) {
	o.users++
	m.mu.Unlock()
	o.turn.Lock()
	m.mu.Lock()
}

// repeats says whether r is the last request of o again.
func (o *owner40) repeats(r *SeqidRequest) bool {
	return r.Seqid == o.seqid && r.Fingerprint == o.print
}

// follows says whether r may be the next request of o. libnfs 4.0 (Debian 12, Ubuntu 22.04) counts no request that has failed: its next one
// has the same seqid, and is not the same. Linux counts one too many for a LOCK that it has begun before the restart of the server and sends after
// its lock owner was reclaimed (docs/conformance.md): it would hand its user an EIO.
func (o *owner40) follows(r *SeqidRequest) bool {
	switch r.Seqid - o.seqid {
	case 0:
		return o.reply.Status != wire.NFS4_OK
	case 1:
		return true
	case 2:
		return o.reclaims
	}
	return false
}

func (m *Machine) replayLocked(t *Ticket, turn *Turn) (Verdict, wire.Status) {
	reply := turn.owner.reply
	reply.Body = append([]byte(nil), reply.Body...)
	m.endTurnLocked(t, turn)
	turn.Reply = reply
	return Replayed, reply.Status
}

func (m *Machine) refuseLocked(t *Ticket, turn *Turn, s wire.Status) (Verdict, wire.Status) {
	m.endTurnLocked(t, turn)
	return Refused, s
}

// ownerLocked returns c's owner called name, a new one if need be.
func (m *Machine) ownerLocked(c *client, name []byte, lock bool) (*owner40, wire.Status) {
	owners := c.v40.owners(lock)
	if o := owners[string(name)]; o != nil {
		return o, wire.NFS4_OK
	}
	if len(owners) >= m.opt.Limits.OpensPerClient || m.owners40 >= m.opt.Limits.Opens {
		return nil, wire.NFS4ERR_RESOURCE
	}
	m.owners40++
	o := &owner40{client: c, name: string(name), lock: lock, used: m.opt.Now()}
	owners[o.name] = o
	return o, wire.NFS4_OK
}

func (v *client40) owners(lock bool) map[string]*owner40 {
	if lock {
		return v.lockOwners
	}
	return v.openOwners
}

// BeginOwn takes the turn of the owner that stateid id belongs to: an open owner for OPEN_CONFIRM
// (confirm), OPEN_DOWNGRADE and CLOSE, a lock owner (lock) for LOCKU and for LOCK with the owner's
// stateid. The rest is as with BeginOpen.
func (m *Machine) BeginOwn(id *wire.Stateid, r *SeqidRequest, lock, confirm bool, t *Ticket, turn *Turn) (Verdict, wire.Status) {
	m.mu.Lock()
	defer m.unlock()
	o, s := m.ownerOfLocked(id, r.Identity, lock)
	if s != wire.NFS4_OK {
		return Refused, s
	}
	m.enterLocked(o.client, false, t)
	*turn = Turn{owner: o, seqid: r.Seqid, print: r.Fingerprint}
	m.takeTurnLocked(o)
	switch {
	case o.begun && o.repeats(r):
		return m.replayLocked(t, turn)
	case !o.follows(r):
		return m.refuseLocked(t, turn, wire.NFS4ERR_BAD_SEQID)
	case !lock && o.confirmed == confirm:
		return m.refuseLocked(t, turn, wire.NFS4ERR_BAD_STATEID)
	}
	tk, s := m.token40Locked(id, r.Identity)
	if s == wire.NFS4_OK {
		s = tk.checkSeqid40(id.Seqid)
	}
	return Execute, s
}

// ownerOfLocked finds the owner of a stateid, which may be one that the owner's last request closed.
func (m *Machine) ownerOfLocked(id *wire.Stateid, identity string, lock bool) (*owner40, wire.Status) {
	tk, s := m.token40Locked(id, identity)
	if s == wire.NFS4ERR_BAD_STATEID && !lock && Classify(id) == Ordinary {
		o := m.closed[binary.BigEndian.Uint64(id.Other[4:])]
		if o != nil && !o.client.condemned && o.client.principal.Identity == identity {
			return o, wire.NFS4_OK
		}
	}
	if s != wire.NFS4_OK {
		return nil, s
	}
	var o *owner40
	switch {
	case lock != (tk.locks != nil):
	case lock:
		o = tk.client.v40.lockOwners[tk.locks.set.key.owner]
	default:
		o = tk.client.v40.openOwners[tk.open.owner.name]
	}
	if o == nil {
		return nil, wire.NFS4ERR_BAD_STATEID
	}
	return o, wire.NFS4_OK
}

// BeginLock takes the turn of the open owner of stateid id for a LOCK by the lock owner called name,
// which may be new (open_to_lock_owner4, RFC 7530 §16.10), and that owner's turn as well. The rest is
// as with BeginOpen.
//
// Who calls an owner new that is known, but holds nothing, has forgotten it: its sequence begins anew. A Linux client was
// seen to do so after a restart (docs/conformance.md), and hands its user an EIO if it is refused. A repetition is found by
// the open owner's sequence.
func (m *Machine) BeginLock(id *wire.Stateid, r *SeqidRequest, name []byte, lockSeqid uint32, t *Ticket, turn *Turn) (Verdict, wire.Status) {
	verdict, s := m.BeginOwn(id, r, false, false, t, turn)
	if verdict != Execute || s != wire.NFS4_OK {
		return verdict, s
	}
	m.mu.Lock()
	defer m.unlock()
	o, s := m.ownerLocked(t.session.client, name, true)
	if s != wire.NFS4_OK {
		return Execute, s
	}
	turn.lock, turn.lockSeqid = o, lockSeqid
	m.takeTurnLocked(o)
	if o.begun && lockSeqid != o.seqid+1 && o.client.holdsLocks(o.name) {
		return Execute, wire.NFS4ERR_BAD_SEQID
	}
	return Execute, wire.NFS4_OK
}

// holdsLocks says whether the lock owner called name holds any byte range.
func (c *client) holdsLocks(name string) bool {
	for side := range c.lockSides() {
		if side.set.key.owner == name && len(side.set.ranges) > 0 {
			return true
		}
	}
	return false
}

// End finishes an Execute with the result's status and what follows it, and gives turn and ticket
// back. file is the current file after an OPEN.
func (m *Machine) End(t *Ticket, turn *Turn, s wire.Status, body []byte, file File) {
	m.mu.Lock()
	defer m.unlock()
	if o := turn.owner; countsInSequence(s) {
		m.openAgainLocked(o)
		if turn.opens && s == wire.NFS4_OK {
			o.uid = turn.uid
		}
		if turn.closed != 0 {
			o.closed = turn.closed
			m.closed[o.closed] = o
		}
		o.advance(turn.seqid, turn.print, m.opt.Now())
		o.reply = Reply{Status: s, Body: append(o.reply.Body[:0], body...), File: file}
	}
	if lo := turn.lock; lo != nil && countsInSequence(s) && (lo.begun || s == wire.NFS4_OK) {
		lo.advance(turn.lockSeqid, 0, m.opt.Now())
		lo.reply = Reply{Status: s, Body: lo.reply.Body[:0]}
	}
	m.endTurnLocked(t, turn)
}

func (o *owner40) advance(seqid uint32, print uint64, now time.Time) {
	o.begun, o.seqid, o.print, o.used = true, seqid, print, now
}

// endTurnLocked gives back the turns and the ticket. Owners that came into being for nothing go.
func (m *Machine) endTurnLocked(t *Ticket, turn *Turn) {
	for _, o := range []*owner40{turn.lock, turn.owner} {
		if o == nil {
			continue
		}
		o.users--
		if !o.begun && o.users == 0 {
			m.dropOwnerLocked(o)
		}
		o.turn.Unlock()
	}
	*turn = Turn{}
	m.leaveLocked(t)
}

// openAgainLocked forgets which stateid o's last request closed.
func (m *Machine) openAgainLocked(o *owner40) {
	if o.closed == 0 {
		return
	}
	delete(m.closed, o.closed)
	o.closed = 0
}

func (m *Machine) dropOwnerLocked(o *owner40) {
	m.openAgainLocked(o)
	owners := o.client.v40.owners(o.lock)
	if owners[o.name] == o {
		delete(owners, o.name)
		m.owners40--
	}
}

// forgetOpensLocked ends what an open owner has open, and its sequence.
func (m *Machine) forgetOpensLocked(o *owner40) {
	if oo := o.client.opens[o.name]; oo != nil {
		for _, open := range oo.opens {
			m.removeOpenLocked(open)
		}
	}
	m.openAgainLocked(o)
	o.begun = false
}

// NeedsConfirm says whether the owner of an OPEN must send OPEN_CONFIRM; one that reclaims need not.
func (m *Machine) NeedsConfirm(turn *Turn, reclaim bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	turn.owner.confirmed, turn.owner.reclaims = turn.owner.confirmed || reclaim, turn.owner.reclaims || reclaim
	return !turn.owner.confirmed
}

// exempt is the open that is left aside when c wants more of the file: in minor version 0 not even its
// owner's own (RFC 7530 §9.9).
func (c *client) exempt(own *open) *open {
	if c.v40 != nil {
		return nil
	}
	return own
}

// ConfirmOpen serves OPEN_CONFIRM (RFC 7530 §16.18) in the turn of the owner.
func (m *Machine) ConfirmOpen(t *Ticket, turn *Turn, id *wire.Stateid, f File) (wire.Stateid, wire.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, s := m.openOfLocked(t, id, f)
	if s != wire.NFS4_OK {
		return wire.Stateid{}, s
	}
	turn.owner.confirmed = true
	o.bump()
	return m.stateidLocked(&o.token), wire.NFS4_OK
}

// CloseOwn is Close in the turn of the owner: the stateid, with its next seqid, is the result, and is
// remembered until the owner's next request.
func (m *Machine) CloseOwn(t *Ticket, turn *Turn, id *wire.Stateid, f File) (wire.Stateid, wire.Status) {
	_, s := m.Close(t, id, f) // there are no copies
	if s != wire.NFS4_OK {
		return wire.Stateid{}, s
	}
	turn.closed = binary.BigEndian.Uint64(id.Other[4:])
	next := *id
	next.Seqid++
	return next, wire.NFS4_OK
}

// ReleaseLockOwner serves RELEASE_LOCKOWNER (RFC 7530 §16.37): an owner that holds no lock is
// forgotten with its stateids.
func (m *Machine) ReleaseLockOwner(t *Ticket, name []byte) wire.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := t.session.client
	if c.holdsLocks(string(name)) {
		return wire.NFS4ERR_LOCKS_HELD
	}
	var idle []*lockSide
	for side := range c.lockSides() {
		if side.set.key.owner == string(name) {
			idle = append(idle, side)
		}
	}
	for _, side := range idle {
		m.removeSideLocked(side)
	}
	if o := c.v40.lockOwners[string(name)]; o != nil && o.users == 0 {
		m.dropOwnerLocked(o)
	}
	return wire.NFS4_OK
}

// lockSides yields c's lock stateids.
func (c *client) lockSides() func(yield func(*lockSide) bool) {
	return func(yield func(*lockSide) bool) {
		for _, oo := range c.opens {
			for _, o := range oo.opens {
				for side := range o.sides {
					if !yield(side) {
						return
					}
				}
			}
		}
	}
}

// sweepOwnersLocked forgets the owners that hold nothing, or were never confirmed, and were silent
// for a lease.
func (m *Machine) sweepOwnersLocked() {
	for _, c := range m.clients {
		if c.v40 == nil {
			continue
		}
		locking := make(map[string]bool)
		for side := range c.lockSides() {
			locking[side.set.key.owner] = true
		}
		for _, o := range c.v40.lockOwners {
			if !locking[o.name] && m.idleLocked(o) {
				m.dropOwnerLocked(o)
			}
		}
		for _, o := range c.v40.openOwners {
			if m.idleLocked(o) && (!o.confirmed || c.opens[o.name] == nil) {
				m.forgetOpensLocked(o)
				m.dropOwnerLocked(o)
			}
		}
	}
}

func (m *Machine) idleLocked(o *owner40) bool {
	return o.users == 0 && m.opt.Now().Sub(o.used) > m.opt.Lease
}

// releaseOwnersLocked forgets the owners of a client that goes.
func (m *Machine) releaseOwnersLocked(c *client) {
	if c.v40 == nil {
		return
	}
	for _, lock := range []bool{false, true} {
		for _, o := range c.v40.owners(lock) {
			m.dropOwnerLocked(o)
		}
	}
}
