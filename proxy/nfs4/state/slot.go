package state

import "github.com/nfseal/nfseal/proxy/nfs4/wire"

// slot is one request at a time of a session (RFC 8881 §2.10.6.1).
type slot struct {
	sequence    uint32 // of the last request that was finished
	running     bool   // sequence+1 is being executed
	used        bool   // a request was finished
	cached      bool   // reply is the one to that request
	reused      bool   // the session had it before, up to sequence
	told        uint32 // session.shrunk when the last reply was made
	signed      bool   // the reply has a digest of itself
	fingerprint uint64
	reply       []byte
}

// SequenceRequest is a SEQUENCE with what must be known of the request around it.
type SequenceRequest struct {
	Session   wire.SessionID
	Identity  string // of the connection: a session is for connections of its client's identity
	Conn      Conn
	Sequence  uint32
	Slot      uint32
	Highest   uint32
	CacheThis bool
	Guest     bool // it may not mount: its lease is not renewed
	// RequestBytes is the size of the whole request; ReplyBytes what the shortest reply that can
	// follow takes. Both count RPC headers, not the record mark.
	RequestBytes int
	ReplyBytes   int
	// Operations is how many the compound has, SEQUENCE included.
	Operations int
	// Fingerprint tells requests apart: two with the same slot and sequence are the same request
	// exactly if it is the same.
	Fingerprint uint64
}

// Verdict is what to do with a request.
type Verdict uint8

// The verdicts.
const (
	Refused  Verdict = iota // the status says why
	Execute                 // and call Finish
	Replayed                // Ticket.Reply is the answer
	Uncached                // a retry whose reply was not kept: NFS4ERR_RETRY_UNCACHED_REP
)

// Ticket is a request's right to be executed. It is filled by Sequence and used by one goroutine.
// While it is out, its session's client keeps its state.
type Ticket struct {
	session   *session
	slot      *slot
	slotID    uint32
	sequence  uint32
	print     uint64
	cacheThis bool
	solo      bool
	guest     bool
	signed    bool
	guard     *protection // the client's

	// MaxReplyBytes bounds the reply, and MaxCachedBytes does too if CacheThis was asked for;
	// RPC headers count.
	MaxReplyBytes  int
	MaxCachedBytes int
	// Slots is how many the session has, and Target how many of them the client is to use.
	Slots, Target uint32
	// Restarted says that the slot's sequence begins anew with this request: the session had the slot before.
	Restarted bool
	// Status is what the client is told besides (SEQ4_STATUS_).
	Status uint32
	// Reply is a copy of the first reply, when Sequence says Replayed. It begins where the bytes
	// given to Finish began.
	Reply []byte
}

// CacheThis says whether the reply was asked to be kept.
func (t *Ticket) CacheThis() bool { return t.cacheThis }

// client is whose request it is: nil for one of minor version 0 that names nobody.
func (t *Ticket) client() *client {
	if t.session == nil {
		return nil
	}
	return t.session.client
}

// Signed says that the reply to be repeated has a digest of itself, and must not be touched.
func (t *Ticket) Signed() bool { return t.signed }

// ClientID is the client that sent the request.
func (t *Ticket) ClientID() wire.ClientID { return t.session.client.id }

// Sequence serves SEQUENCE (RFC 8881 §18.46). It fills t unless the verdict is Refused.
func (m *Machine) Sequence(r *SequenceRequest, t *Ticket) (Verdict, wire.Status) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := m.sessions[r.Session]
	if s == nil || s.client.principal.Identity != r.Identity {
		return Refused, wire.NFS4ERR_BADSESSION
	}
	if s.bound != nil && !s.admits(r.Conn) {
		return Refused, wire.NFS4ERR_CONN_NOT_BOUND_TO_SESSION
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Slot >= uint32(len(s.slots)) {
		return Refused, wire.NFS4ERR_BADSLOT
	}
	sl := s.slots[r.Slot]
	restarted := sl.restarted(r.Sequence)
	if restarted {
		sl.sequence = 0
	}
	switch {
	case sl.running && r.Sequence == sl.sequence+1:
		return Refused, wire.NFS4ERR_DELAY // a retry of what is being executed
	case r.Sequence == sl.sequence && sl.used && !sl.running:
		return s.retry(sl, r, t)
	case sl.running || r.Sequence != sl.sequence+1:
		return Refused, wire.NFS4ERR_SEQ_MISORDERED
	}
	if st := s.admit(r); st != wire.NFS4_OK {
		return Refused, st
	}
	m.resizeLocked(s, sl, r)
	sl.running, sl.told = true, s.shrunk
	s.running++
	s.client.running.Add(1)
	m.renew(s.client, r.Guest)
	*t = s.ticket(sl, r)
	t.Restarted, t.signed = restarted, false
	return Execute, wire.NFS4_OK
}

// admit refuses requests that the session was not made for. The slot does not move then. The highest slot in use may be one that has
// gone meanwhile: requests over several connections overtake each other.
func (s *session) admit(r *SequenceRequest) wire.Status {
	switch {
	case r.Highest >= uint32(max(len(s.slots), len(s.retired))):
		return wire.NFS4ERR_BAD_HIGH_SLOT
	case r.RequestBytes > int(s.fore.MaxRequestBytes):
		return wire.NFS4ERR_REQ_TOO_BIG
	case r.Operations > int(s.fore.MaxOperations):
		return wire.NFS4ERR_TOO_MANY_OPS
	case r.ReplyBytes > int(s.fore.MaxResponseBytes):
		return wire.NFS4ERR_REP_TOO_BIG
	case r.CacheThis && r.ReplyBytes > int(s.fore.MaxCachedBytes):
		return wire.NFS4ERR_REP_TOO_BIG_TO_CACHE
	}
	return wire.NFS4_OK
}

// retry answers a request that was finished before. Nothing changes.
func (s *session) retry(sl *slot, r *SequenceRequest, t *Ticket) (Verdict, wire.Status) {
	if sl.fingerprint != r.Fingerprint {
		return Refused, wire.NFS4ERR_SEQ_FALSE_RETRY
	}
	*t = s.ticket(sl, r)
	if !sl.cached {
		return Uncached, wire.NFS4_OK
	}
	t.Reply = append([]byte(nil), sl.reply...)
	return Replayed, wire.NFS4_OK
}

func (s *session) ticket(sl *slot, r *SequenceRequest) Ticket {
	return Ticket{
		session:        s,
		slot:           sl,
		slotID:         r.Slot,
		sequence:       r.Sequence,
		print:          r.Fingerprint,
		cacheThis:      r.CacheThis,
		solo:           r.Operations == 1,
		guest:          r.Guest,
		signed:         sl.signed,
		guard:          s.client.ssv,
		MaxReplyBytes:  int(s.fore.MaxResponseBytes),
		MaxCachedBytes: int(s.fore.MaxCachedBytes),
		Slots:          uint32(len(s.slots)),
		Target:         uint32(s.target),
		Status:         s.statusLocked(),
	}
}

// Finish ends an Execute with its reply and gives the ticket back. The reply is copied if it is to
// be kept: because the client asked for it, because nothing but SEQUENCE was done, because it is
// a failure, which is short, or because the SSV was changed, which a client must be able to find out (RFC 8881 §18.34.4).
func (m *Machine) Finish(t *Ticket, reply []byte, failed bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s, sl := t.session, t.slot
	s.mu.Lock()
	defer s.mu.Unlock()
	sl.running = false
	sl.used = true
	sl.sequence++
	sl.fingerprint = t.print
	sl.signed = t.signed
	sl.cached = (t.cacheThis || t.solo || failed || t.signed) && len(reply) <= int(s.fore.MaxCachedBytes)
	if sl.cached {
		sl.reply = append(sl.reply[:0], reply...)
	}
	s.running--
	s.client.running.Add(-1)
	m.renew(s.client, t.guest)
	*t = Ticket{}
}
