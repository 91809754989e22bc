package state

import (
	"sync"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// Channel is what is negotiated of one direction of a session (channel_attrs4, RFC 8881 §18.36).
type Channel struct {
	MaxRequestBytes  uint32
	MaxResponseBytes uint32
	MaxCachedBytes   uint32
	MaxOperations    uint32
	MaxRequests      uint32 // slots
}

// session is one session (RFC 8881 §2.10).
type session struct {
	id     wire.SessionID
	client *client
	fore   Channel

	most int // slots that the client asked for, within the limit

	mu      sync.Mutex // with Machine.mu held for reading; not needed when that is held for writing
	slots   []*slot
	target  int      // how many of them the client is to use
	shrunk  uint32   // how often target was lowered
	retired []uint32 // sequence ids of former slots, by number, where there is no slot now
	running int      // requests being executed

	back  Back              // changes with Machine.mu held for writing
	bound map[Conn]struct{} // likewise; nil: requests may come over any connection
}

// createSlot is a client's own replay cache for CREATE_SESSION (RFC 8881 §18.36.4). A failure takes a sequence id too, and
// is not kept: nothing came of it, so that it may be tried again.
type createSlot struct {
	sequence uint32
	done     bool
	failed   bool
	confirms bool // it was the one that did
	result   CreateSessionResult
}

// CreateSessionRequest is a CREATE_SESSION whose flags have been looked at.
type CreateSessionRequest struct {
	ClientID  wire.ClientID
	Sequence  uint32
	Principal Principal
	Fore      Channel
	Back      Channel
	// Backchannel says that the connection which the request came on can be bound to the
	// backchannel, and that the client asks for it.
	Backchannel bool
	// Guest says that the client may not mount: one session is enough for it to hear that.
	Guest bool
	Conn  Conn
	Proof *Handle // that it came under, with integrity or privacy; else nil
}

// CreateSessionResult is what the client learns of its session.
type CreateSessionResult struct {
	Session  wire.SessionID
	Sequence uint32
	Fore     Channel
	Back     Channel
	// Backchannel says that it was granted.
	Backchannel bool
	// Replayed says that the session was created before.
	Replayed bool
	// Joined says that the connection is one of the session's. Bound says that it was bound to it, which ends with ForgetConn.
	Joined, Bound bool
}

// CreateSession serves CREATE_SESSION (RFC 8881 §18.36).
func (m *Machine) CreateSession(r *CreateSessionRequest) (res CreateSessionResult, s wire.Status) {
	m.mu.Lock()
	defer m.unlock()
	c := m.clients[r.ClientID]
	switch {
	case c == nil || c.v40 != nil:
		return res, wire.NFS4ERR_STALE_CLIENTID
	case c.principal.Identity != r.Principal.Identity:
		return res, wire.NFS4ERR_CLID_INUSE // what was answered before is nobody else's either
	case !c.permits(wire.OP_CREATE_SESSION, r.Proof) && !(c.create.confirms && r.Sequence == c.create.sequence):
		return res, wire.NFS4ERR_WRONG_CRED
	}
	if c.create.done && r.Sequence == c.create.sequence {
		return m.createdLocked(c, r), wire.NFS4_OK
	}
	if s := c.create.admit(c, r); s != wire.NFS4_OK {
		return res, s
	}
	if s := m.checkCreateLocked(c, r); s != wire.NFS4_OK {
		return res, c.create.fail(r.Sequence, s)
	}
	fore, s := m.grantLocked(&r.Fore)
	if s != wire.NFS4_OK {
		return res, c.create.fail(r.Sequence, s)
	}
	if s := m.supersedeLocked(c); s != wire.NFS4_OK {
		return res, c.create.fail(r.Sequence, s)
	}
	confirms := !c.confirmed
	m.confirmLocked(c)
	m.renew(c, r.Guest)
	most := min(r.Fore.MaxRequests, uint32(m.opt.Limits.Slots))
	id := m.newSessionLocked(c, fore, int(most), r.Backchannel)
	c.create = createSlot{sequence: r.Sequence, done: true, confirms: confirms,
		result: CreateSessionResult{Session: id, Sequence: r.Sequence, Fore: fore, Back: r.Back,
			Backchannel: r.Backchannel}}
	res = c.create.result
	res.Joined, res.Bound = true, m.sessions[id].bindLocked(r.Conn)
	return res, wire.NFS4_OK
}

// createdLocked answers r, which was carried out before: it comes over another connection if the one before has ended without the answer,
// and that is one of the session's then (RFC 8881 §18.36.3). With state protection it takes the SSV as soon as there is one.
func (m *Machine) createdLocked(c *client, r *CreateSessionRequest) CreateSessionResult {
	res := c.create.result
	res.Replayed = true
	s := m.sessions[res.Session]
	own := c.ssv == nil || r.Proof.proves(c) || c.principal == r.Principal && !c.ssv.context.Established()
	if s != nil && own {
		res.Joined, res.Bound = true, s.bindLocked(r.Conn)
	}
	return res
}

// admit refuses what has no place in the sequence of c, whose slot it is, or is somebody else's.
func (cs *createSlot) admit(c *client, r *CreateSessionRequest) wire.Status {
	switch {
	case r.Sequence != cs.sequence+1 && !(cs.failed && r.Sequence == cs.sequence):
		return wire.NFS4ERR_SEQ_MISORDERED
	case !c.confirmed && c.principal != r.Principal:
		return wire.NFS4ERR_CLID_INUSE
	}
	return wire.NFS4_OK
}

// fail notes that the CREATE_SESSION with a sequence id failed with s. NFS4ERR_DELAY takes none: the client sends the same
// again (RFC 8881 §15.1.1.3).
func (cs *createSlot) fail(sequence uint32, s wire.Status) wire.Status {
	if s != wire.NFS4ERR_DELAY {
		*cs = createSlot{sequence: sequence, failed: true}
	}
	return s
}

// checkCreateLocked refuses what cannot become a session.
func (m *Machine) checkCreateLocked(c *client, r *CreateSessionRequest) wire.Status {
	if !r.Guest {
		m.letInLocked(c)
	}
	if n := len(c.sessions); n >= m.opt.Limits.SessionsPerClient || c.guest && n > 0 {
		return wire.NFS4ERR_NOSPC
	}
	for _, ch := range []*Channel{&r.Fore, &r.Back} {
		if ch.MaxRequestBytes < minRequestBytes || ch.MaxResponseBytes < minResponseBytes ||
			ch.MaxOperations < minOps || ch.MaxRequests < minSlots {
			return wire.NFS4ERR_TOOSMALL
		}
	}
	return wire.NFS4_OK
}

// supersedeLocked makes way for c in the place of its former incarnation: what that asked for is done, but for the rest of its copies.
func (m *Machine) supersedeLocked(c *client) wire.Status {
	old := m.owners[c.owner].confirmed
	if old == nil || old == c || !old.busyLocked() {
		return wire.NFS4_OK
	}
	for _, o := range m.copies {
		o.stopped = o.stopped || o.client == old
	}
	return wire.NFS4ERR_DELAY
}

// grantLocked cuts what was asked for to what can be had.
func (m *Machine) grantLocked(ask *Channel) (Channel, wire.Status) {
	got := Channel{
		MaxRequestBytes:  min(ask.MaxRequestBytes, uint32(m.opt.MaxRequestBytes)),
		MaxResponseBytes: min(ask.MaxResponseBytes, uint32(m.opt.MaxReplyBytes)),
		MaxCachedBytes:   min(ask.MaxCachedBytes, MaxCachedReplyBytes, ask.MaxResponseBytes),
		MaxOperations:    min(ask.MaxOperations, uint32(m.opt.Limits.CompoundOps)),
		MaxRequests:      min(ask.MaxRequests, uint32(m.opt.Limits.Slots)),
	}
	if got.MaxCachedBytes > 0 {
		room := (m.opt.Limits.ReplyCacheBytes - int(m.cacheBytes.Load())) / int(got.MaxCachedBytes)
		got.MaxRequests = min(got.MaxRequests, uint32(max(room, 0)), m.slotShareLocked())
	}
	switch {
	case got.MaxRequests >= minSlots:
	case m.recallSlotsLocked():
		return Channel{}, wire.NFS4ERR_DELAY // until clients have given slots back
	default:
		return Channel{}, wire.NFS4ERR_NOSPC
	}
	return got, wire.NFS4_OK
}

// confirmLocked makes c its owner's confirmed record; a former incarnation goes with all it has.
func (m *Machine) confirmLocked(c *client) {
	if c.confirmed {
		return
	}
	c.renewed.Store(m.now())
	o := m.owners[c.owner]
	if o.confirmed != nil {
		m.removeClientLocked(o.confirmed)
	}
	o.confirmed, o.unconfirmed = c, nil
	c.confirmed = true
	if k := m.recovery.known[c.owner]; k != nil {
		k.returned = true
		c.recorded = c.recorded || !k.lost && m.recovery.mayReclaim(c)
		m.recovery.goOn(m.opt.Now())
	}
}

func (m *Machine) newSessionLocked(c *client, fore Channel, most int, back bool) wire.SessionID {
	s := &session{
		id:     m.newSessionIDLocked(),
		client: c,
		fore:   fore,
		most:   most,
		slots:  make([]*slot, fore.MaxRequests),
		target: int(fore.MaxRequests),
	}
	for i := range s.slots {
		s.slots[i] = new(slot)
	}
	if back {
		s.back = BackDown // until the caller says more
	}
	m.cacheBytes.Add(s.reserved())
	m.sessions[s.id] = s
	c.sessions[s.id] = s
	return s.id
}

// reserved is what s may take of the reply cache.
func (s *session) reserved() int64 { return int64(len(s.slots)) * int64(s.fore.MaxCachedBytes) }

func (m *Machine) removeSessionLocked(s *session) {
	m.cacheBytes.Add(-s.reserved())
	delete(m.sessions, s.id)
	delete(s.client.sessions, s.id)
	m.laterLocked(func(cb Callbacks) { cb.Gone(s.id) })
}

// Recorded says that the record of id is on stable storage.
func (m *Machine) Recorded(id wire.ClientID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.clients[id]; c != nil {
		c.recorded, c.completes = true, c.v40 == nil
	}
}

// DestroySession serves DESTROY_SESSION (RFC 8881 §18.37); own is the ticket of the request that
// asks, if it has one. A session that has other requests under way is NFS4ERR_DELAY.
func (m *Machine) DestroySession(id wire.SessionID, own *Ticket) wire.Status {
	m.mu.Lock()
	defer m.unlock()
	s := m.sessions[id]
	if s == nil {
		return wire.NFS4ERR_BADSESSION
	}
	running := s.running
	if own != nil && own.session == s {
		running--
	}
	if running > 0 {
		return wire.NFS4ERR_DELAY
	}
	m.removeSessionLocked(s)
	return wire.NFS4_OK
}

// KnowsSession says whether id names a session.
func (m *Machine) KnowsSession(id wire.SessionID) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.sessions[id] != nil
}
