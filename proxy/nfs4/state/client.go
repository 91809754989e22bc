package state

import (
	"sync/atomic"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// client is one client record (RFC 8881 §2.4): one incarnation of one owner.
type client struct {
	id        wire.ClientID
	owner     string
	verifier  wire.Verifier
	principal Principal

	confirmed bool
	guest     bool // it may not mount
	recorded  bool // its record is on stable storage
	completes bool // the record was put there by itself, in a RECLAIM_COMPLETE that is under way or was carried out
	reclaimed bool // RECLAIM_COMPLETE was done
	condemned bool

	// May change while mu is held for reading.
	renewed atomic.Int64 // when its lease was last renewed, as Machine.now has it
	running atomic.Int32 // requests being executed

	sessions map[wire.SessionID]*session
	create   createSlot
	opens    map[string]*openOwner
	nOpens   int
	nRanges  int
	nSides   int
	v40      *client40                // nil: it has sessions
	ssv      *protection              // nil: SP4_NONE
	delegs   map[*delegation]struct{} // the revoked ones too
	nDelegs  int                      // len(delegs)
	revoked  int                      // of delegs
	moving   int                      // copies of which a part is being moved

	wasAsked  bool // to give delegations back, at askedBack
	askedBack int64
}

// ownership is what an owner string stands for: at most one confirmed record, and one that would
// take its place.
type ownership struct {
	confirmed   *client
	unconfirmed *client
}

// ExchangeIDRequest is an EXCHANGE_ID whose flags and state protection have been looked at.
type ExchangeIDRequest struct {
	Owner     []byte
	Verifier  wire.Verifier
	Principal Principal
	Update    bool        // EXCHGID4_FLAG_UPD_CONFIRMED_REC_A
	Guest     bool        // it may not mount: of these there are fewer
	SSV       *SSVRequest // nil: SP4_NONE
	Proof     *Handle     // that it came under, with integrity or privacy; else nil
}

// ExchangeIDResult is what a client learns of its record.
type ExchangeIDResult struct {
	ClientID  wire.ClientID
	Sequence  uint32 // for the next CREATE_SESSION
	Confirmed bool
	SSV       *SSVGrant // nil: SP4_NONE
}

// ExchangeID serves EXCHANGE_ID, all nine cases of RFC 8881 §18.35.5. victim, if not zero, must be
// condemned and buried first, then the call repeated.
func (m *Machine) ExchangeID(request *ExchangeIDRequest) (res ExchangeIDResult, victim wire.ClientID, s wire.Status) {
	m.mu.Lock()
	defer m.unlock()
	o, copied := m.owners[string(request.Owner)], *request
	r := &copied
	if s := r.speakForLocked(o); s != wire.NFS4_OK {
		return res, 0, s
	}
	if r.Update {
		res, s = m.updateLocked(o, r)
		return res, 0, s
	}
	if o != nil && o.confirmed != nil {
		c := o.confirmed
		switch {
		case c.collides(r) && (c.hasState() && !m.expiredLocked(c) || c.busyLocked()):
			return res, 0, wire.NFS4ERR_CLID_INUSE
		case c.collides(r):
			return res, c.id, wire.NFS4_OK // the old record goes first
		case c.verifier == r.Verifier:
			res, s = m.exchangeResultLocked(c, r)
			return res, 0, s
		}
	}
	if victim, s = m.makeRoomLocked(r.Guest); victim != 0 || s != wire.NFS4_OK {
		return res, victim, s
	}
	res, s = m.exchangeResultLocked(m.newClientLocked(r), r)
	return res, 0, s
}

// collides says whether r is somebody else's than c's: of another principal, or of a guest that would pass for c started anew.
func (c *client) collides(r *ExchangeIDRequest) bool {
	return c.principal != r.Principal || r.Guest && !c.guest && c.verifier != r.Verifier
}

// makeRoomLocked sees to it that one more client is within the limit, and a guest within that of guests, if need be at the cost
// of the oldest one that was never confirmed, which has nothing to lose, or of the expired one that was
// silent for longest, which is returned as the victim.
func (m *Machine) makeRoomLocked(guest bool) (victim wire.ClientID, s wire.Status) {
	crowded := guest && m.guests >= max(m.opt.Limits.Clients/guestShare, 1)
	if len(m.clients) < m.opt.Limits.Clients && !crowded {
		return 0, wire.NFS4_OK
	}
	var unconfirmed, expired *client
	for _, c := range m.clients {
		switch {
		case crowded && !c.guest:
		case !c.confirmed:
			unconfirmed = older(unconfirmed, c)
		case m.expiredLocked(c):
			expired = older(expired, c)
		}
	}
	switch {
	case unconfirmed != nil:
		m.removeClientLocked(unconfirmed)
		return 0, wire.NFS4_OK
	case expired != nil:
		return expired.id, wire.NFS4_OK
	}
	return 0, wire.NFS4ERR_DELAY
}

// older is which of a, which may be nil, and b was heard of less recently.
func older(a, b *client) *client {
	if a == nil || b.renewed.Load() < a.renewed.Load() {
		return b
	}
	return a
}

// updateLocked changes a confirmed record: there is nothing in it to change but the handles of its SSV.
func (m *Machine) updateLocked(o *ownership, r *ExchangeIDRequest) (ExchangeIDResult, wire.Status) {
	switch {
	case o == nil || o.confirmed == nil:
		return ExchangeIDResult{}, wire.NFS4ERR_NOENT
	case o.confirmed.principal != r.Principal:
		return ExchangeIDResult{}, wire.NFS4ERR_PERM
	case o.confirmed.verifier != r.Verifier:
		return ExchangeIDResult{}, wire.NFS4ERR_NOT_SAME
	}
	return m.exchangeResultLocked(o.confirmed, r)
}

// hasState says whether something would be lost with c.
func (c *client) hasState() bool { return len(c.sessions) > 0 || c.holds() }

// busyLocked says whether something is being done for c that relies on its state.
func (c *client) busyLocked() bool { return c.running.Load() > 0 || c.moving > 0 }

// confirmedClient is o's, if o is not nil and has one.
func (o *ownership) confirmedClient() *client {
	if o == nil {
		return nil
	}
	return o.confirmed
}

// holds says whether c keeps files.
func (c *client) holds() bool { return c.nOpens > 0 || c.nDelegs > 0 }

// newClientLocked makes an unconfirmed record, in place of the one that the owner may have.
func (m *Machine) newClientLocked(r *ExchangeIDRequest) *client {
	if o := m.owners[string(r.Owner)]; o != nil && o.unconfirmed != nil {
		m.removeClientLocked(o.unconfirmed)
	}
	o := m.owners[string(r.Owner)]
	c := &client{
		id:        m.newClientIDLocked(),
		owner:     string(r.Owner),
		verifier:  r.Verifier,
		principal: r.Principal,
		guest:     r.Guest,
		sessions:  make(map[wire.SessionID]*session),
		opens:     make(map[string]*openOwner),
		delegs:    make(map[*delegation]struct{}),
	}
	c.protect(r.SSV)
	c.renewed.Store(m.now())
	if o == nil {
		o = new(ownership)
		m.owners[c.owner] = o
	}
	o.unconfirmed = c
	m.clients[c.id] = c
	if c.guest {
		m.guests++
	}
	return c
}

// letInLocked notes that c may mount.
func (m *Machine) letInLocked(c *client) {
	if c.guest {
		c.guest = false
		m.guests--
	}
}

// sweepUnconfirmedLocked drops the records that were not confirmed within a lease.
func (m *Machine) sweepUnconfirmedLocked() {
	for _, c := range m.clients {
		if !c.confirmed && m.expiredLocked(c) {
			m.removeClientLocked(c)
		}
	}
}

// DestroyClientID serves DESTROY_CLIENTID (RFC 8881 §18.50). When it succeeds, the record of the
// owner that it returns may be deleted from stable storage if Forgettable says so. A client id of
// another identity is none.
func (m *Machine) DestroyClientID(id wire.ClientID, identity string, proof *Handle) (owner string, s wire.Status) {
	m.mu.Lock()
	defer m.unlock()
	c := m.clients[id]
	switch {
	case c == nil || c.v40 != nil || c.principal.Identity != identity:
		return "", wire.NFS4ERR_STALE_CLIENTID
	case !c.permits(wire.OP_DESTROY_CLIENTID, proof):
		return "", wire.NFS4ERR_WRONG_CRED
	case c.hasState() || c.busyLocked():
		return "", wire.NFS4ERR_CLIENTID_BUSY
	}
	if c.confirmed {
		m.recovery.complete(c.owner)
	}
	m.removeClientLocked(c)
	return c.owner, wire.NFS4_OK
}

// renew renews c's lease, but for a guest: who was let in once and may not mount any more can't give back what it holds, so that
// others can have it when the lease is over. mu is held for reading.
func (m *Machine) renew(c *client, guest bool) {
	if !guest {
		c.renewed.Store(m.now())
	}
}

// expiredLocked says whether c's lease has run out. One with a request under way has renewed it.
func (m *Machine) expiredLocked(c *client) bool {
	return c.running.Load() == 0 && m.silentLocked(c) > m.opt.Lease
}

// Lapsed are the clients that should be condemned and buried now: their leases have run out and
// they have nothing, or nothing but sessions whose place others could use, or nobody heard of them for very long, or their burial failed before.
// Unconfirmed records that are too old are dropped on the way, delegations revoked that were
// recalled long ago, clients called again that were not ready to be, and slots recalled if there is little room for
// replies.
func (m *Machine) Lapsed() []wire.ClientID {
	m.mu.Lock()
	defer m.unlock()
	m.sweepUnconfirmedLocked()
	m.recovery.absent.expire(m.now())
	m.sweepOwnersLocked()
	m.revokeOverdueLocked()
	m.recallAgainLocked()
	m.tellAgainOfCopiesLocked()
	if m.pressedLocked() {
		m.recallSlotsLocked()
	}
	var ids []wire.ClientID
	for id, c := range m.clients {
		if c.confirmed && m.lapsedLocked(c) {
			ids = append(ids, id)
		}
	}
	for id := range m.condemned {
		ids = append(ids, id)
	}
	return ids
}

func (m *Machine) lapsedLocked(c *client) bool {
	switch {
	case !m.expiredLocked(c):
		return false
	case !c.hasState(), m.silentLocked(c) > courtesyLeases*m.opt.Lease:
		return true
	}
	return !c.holds() && m.halfFullLocked()
}

// silentLocked is for how long nothing was heard of c.
func (m *Machine) silentLocked(c *client) time.Duration {
	return time.Duration(m.now() - c.renewed.Load())
}

// Condemn makes an expired client unreachable and returns its owner, whose stable record must be
// deleted (if Forgettable) before Bury. It does nothing to a client that has come back meanwhile,
// or that is replaced because it holds nothing.
func (m *Machine) Condemn(id wire.ClientID) (owner string, ok bool) {
	m.mu.Lock()
	defer m.unlock()
	if c := m.condemned[id]; c != nil {
		return c.owner, true
	}
	c := m.clients[id]
	if c == nil || c.moving > 0 || !m.expiredLocked(c) && (c.hasState() || c.busyLocked()) {
		return "", false
	}
	m.condemnLocked(c)
	return c.owner, true
}

// condemnLocked takes c out of everything that requests go through. Its opens, locks and delegations stay.
func (m *Machine) condemnLocked(c *client) {
	for _, s := range c.sessions {
		m.removeSessionLocked(s)
	}
	m.dropHandlesLocked(c)
	delete(m.clients, c.id)
	m.letInLocked(c) // it is not counted any more
	if o := m.owners[c.owner]; o != nil {
		if o.confirmed == c {
			o.confirmed = nil
			m.recovery.lose(c.owner)
			m.recovery.absent.forget(c.owner)
		}
		if o.unconfirmed == c {
			o.unconfirmed = nil
		}
		if o.confirmed == nil && o.unconfirmed == nil {
			delete(m.owners, c.owner)
		}
	}
	c.condemned = true
	m.condemned[c.id] = c
}

// Forgettable says whether the record of owner may be deleted from stable storage: no client that
// relies on it is known, nor one from before the restart that may still come back. The caller
// serialises it, and the deletion, with the storing of records.
func (m *Machine) Forgettable(owner string) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	o := m.owners[owner]
	if o == nil {
		return true
	}
	for _, c := range []*client{o.confirmed, o.unconfirmed} {
		if c != nil && c.recorded {
			return false
		}
	}
	return true
}

// Bury ends a condemned client's opens, locks and delegations.
func (m *Machine) Bury(id wire.ClientID) {
	m.mu.Lock()
	defer m.unlock()
	if c := m.condemned[id]; c != nil {
		m.expired.rememberLocked(c)
		m.releaseLocked(c)
		delete(m.condemned, id)
	}
}

// removeClientLocked takes c and all that it holds away at once.
func (m *Machine) removeClientLocked(c *client) {
	m.condemnLocked(c)
	m.expired.rememberTokensLocked(c)
	m.releaseLocked(c)
	delete(m.condemned, c.id)
}

// releaseLocked ends c's opens, locks and delegations.
func (m *Machine) releaseLocked(c *client) {
	m.forgetCopiesLocked(c)
	m.releaseOwnersLocked(c)
	for d := range c.delegs {
		m.removeDelegationLocked(d, &m.delegated.Lost)
	}
	for _, oo := range c.opens {
		for _, o := range oo.opens {
			m.removeOpenLocked(o)
		}
	}
}
