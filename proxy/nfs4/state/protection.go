package state

import (
	"encoding/binary"
	"slices"
	"sync/atomic"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/ssv"
)

// gssFlavor is RPCSEC_GSS in a Principal: who sends under a handle of an SSV, and is no principal of its own.
const gssFlavor = 6

// SSVRequest is what an EXCHANGE_ID with SP4_SSV asks for, as far as it can be had.
type SSVRequest struct {
	Suite   ssv.Suite
	Enforce wire.Bitmap // of operations: only under the SSV
	Allow   wire.Bitmap // under the SSV too
	Window  uint32      // versions to keep, at least 1
	Handles uint32      // to be made
}

// SSVGrant is what it got.
type SSVGrant struct {
	Enforce, Allow wire.Bitmap
	Window         int
	Handles        [][]byte
}

// protection is the state protection of a client (RFC 8881 §2.10.8.3). Only the handles change.
type protection struct {
	enforce, allow wire.Bitmap
	context        *ssv.Context
	handles        []*Handle // the oldest first
}

// enforces says whether op must come under the SSV. What changes the SSV may come without it as long as there is none.
func (p *protection) enforces(op wire.Op) bool {
	return p.enforce.Has(wire.AttrNumber(op)) && (op != wire.OP_SET_SSV || p.context.Established())
}

// authorises says whether who comes under the SSV may do what is the machine's to do.
func (p *protection) authorises(op wire.Op) bool {
	return p.enforce.Or(p.allow).Has(wire.AttrNumber(op))
}

// proves says whether h, under which a request came with integrity or privacy, is c's.
func (h *Handle) proves(c *client) bool { return h != nil && h.client == c }

// permits says whether op on c may come with proof, a handle or nil. A client that is not confirmed has no SSV yet.
func (c *client) permits(op wire.Op, proof *Handle) bool {
	return c.ssv == nil || !c.confirmed || proof.proves(c) || !c.ssv.enforces(op)
}

// handleID is the name of a Handle: epoch (4), number (4), random (8). None is given out twice (RFC 8881 §2.10.10).
type handleID [16]byte

// Handle is an RPCSEC_GSS handle for the SSV of a client. Its methods may be called concurrently.
type Handle struct {
	*ssv.Context
	m      *Machine
	id     handleID
	client *client
	window ssv.Window
}

// ssvCounts are of all handles since the start.
type ssvCounts struct {
	unknown, refused, replayed atomic.Uint64
}

// SSVStats counts handles of SSVs, and since the start the calls that were not let in.
type SSVStats struct {
	Handles  int
	Bound    int    // connections to sessions that take no others
	Unknown  uint64 // under a handle that there is not
	Refused  uint64 // with a token that is none, of an SSV that is not good any more, or of another message
	Replayed uint64 // with a sequence number that was used before
}

// VerifyMIC is the context's.
func (h *Handle) VerifyMIC(message, token []byte) bool {
	ok := h.Context.VerifyMIC(message, token)
	if !ok {
		h.m.ssv.refused.Add(1)
	}
	return ok
}

// Unseal is the context's.
func (h *Handle) Unseal(token []byte) (message []byte, ok bool) {
	message, ok = h.Context.Unseal(token)
	if !ok {
		h.m.ssv.refused.Add(1)
	}
	return message, ok
}

// Accept says whether a sequence number is new.
func (h *Handle) Accept(number uint32) bool {
	ok := h.window.Accept(number)
	if !ok {
		h.m.ssv.replayed.Add(1)
	}
	return ok
}

// Destroy takes the handle away; the SSV stays.
func (h *Handle) Destroy() {
	h.m.mu.Lock()
	defer h.m.unlock()
	delete(h.m.handles, h.id)
	p := h.client.ssv
	p.handles = slices.DeleteFunc(p.handles, func(o *Handle) bool { return o == h })
}

// Handle returns the handle that a connection of an identity may use under a name, or nil. It is good once its client is
// confirmed.
func (m *Machine) Handle(name []byte, identity string) *Handle {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var h *Handle
	if len(name) == len(handleID{}) {
		h = m.handles[handleID(name)]
	}
	if h == nil || !h.client.confirmed || h.client.principal.Identity != identity {
		m.ssv.unknown.Add(1)
		return nil
	}
	return h
}

// protect gives c, which is new, the protection that is asked for.
func (c *client) protect(r *SSVRequest) {
	if r == nil {
		return
	}
	window := int(min(r.Window, ssv.MaxWindow))
	c.ssv = &protection{enforce: r.Enforce, allow: r.Allow, context: ssv.New(r.Suite, window, ssv.Server)}
}

// grantHandlesLocked makes n handles for c. Where it has too many the oldest ones go (RFC 8881 §2.10.9).
func (m *Machine) grantHandlesLocked(c *client, n uint32) [][]byte {
	p := c.ssv
	var names [][]byte
	for range min(n, maxHandles) {
		if len(p.handles) == maxHandles {
			delete(m.handles, p.handles[0].id)
			p.handles = slices.Delete(p.handles, 0, 1)
		}
		m.lastHandle++
		h := &Handle{Context: p.context, m: m, client: c}
		binary.BigEndian.PutUint32(h.id[:], m.epoch32())
		binary.BigEndian.PutUint32(h.id[4:], m.lastHandle)
		m.opt.Random(h.id[8:])
		m.handles[h.id] = h
		p.handles = append(p.handles, h)
		names = append(names, h.id[:])
	}
	return names
}

// dropHandlesLocked takes all of c's handles away.
func (m *Machine) dropHandlesLocked(c *client) {
	if c.ssv == nil {
		return
	}
	for _, h := range c.ssv.handles {
		delete(m.handles, h.id)
	}
	c.ssv.handles = nil
}

// speakForLocked makes the principal of r that of the client whose record it is about, if it comes under its SSV, and refuses what must
// come so and does not: what is said of a record in this incarnation. One that has restarted does not know the SSV any more.
func (r *ExchangeIDRequest) speakForLocked(o *ownership) wire.Status {
	c := o.confirmedClient()
	if r.Principal.Flavor == gssFlavor {
		if c == nil || !r.Proof.proves(c) || !c.ssv.authorises(wire.OP_EXCHANGE_ID) {
			return wire.NFS4ERR_PERM
		}
		r.Principal = c.principal
		return wire.NFS4_OK
	}
	if c != nil && c.ssv != nil && c.verifier == r.Verifier && c.ssv.context.Established() && !c.permits(wire.OP_EXCHANGE_ID, nil) {
		return wire.NFS4ERR_PERM
	}
	return wire.NFS4_OK
}

// exchangeResultLocked tells of c, and gives it further handles. What was agreed on stays so (RFC 8881 §18.35.3): who asks for
// something else could not be told what it is in words of its own.
func (m *Machine) exchangeResultLocked(c *client, r *ExchangeIDRequest) (ExchangeIDResult, wire.Status) {
	res := ExchangeIDResult{ClientID: c.id, Sequence: c.create.sequence + 1, Confirmed: c.confirmed}
	switch {
	case c.ssv == nil:
		return res, wire.NFS4_OK
	case r.SSV == nil || r.SSV.Suite != c.ssv.context.Suite():
		return ExchangeIDResult{}, wire.NFS4ERR_INVAL
	}
	res.SSV = &SSVGrant{Enforce: c.ssv.enforce, Allow: c.ssv.allow, Window: c.ssv.context.Window(),
		Handles: m.grantHandlesLocked(c, r.SSV.Handles)}
	return res, wire.NFS4_OK
}

// ssvStatsLocked counts.
func (m *Machine) ssvStatsLocked() SSVStats {
	n := SSVStats{Handles: len(m.handles), Unknown: m.ssv.unknown.Load(), Refused: m.ssv.refused.Load(), Replayed: m.ssv.replayed.Load()}
	for _, s := range m.sessions {
		n.Bound += len(s.bound)
	}
	return n
}

// SetSSV serves SET_SSV (RFC 8881 §18.47): input and result are the arguments and the result of SEQUENCE. The reply is kept for a
// retry as it is, since the digest is over it.
func (m *Machine) SetSSV(t *Ticket, change, digest, input, result []byte) (answer []byte, s wire.Status) {
	p := t.session.client.ssv
	if p == nil {
		return nil, wire.NFS4ERR_INVAL
	}
	answer, err := p.context.Set(change, input, digest, result)
	switch err {
	case nil:
		t.signed = true
		return answer, wire.NFS4_OK
	case ssv.ErrDigest:
		return nil, wire.NFS4ERR_BAD_SESSION_DIGEST
	}
	return nil, wire.NFS4ERR_INVAL
}

// Guarded says whether some operations of the request may have to come under the SSV of its client.
func (t *Ticket) Guarded() bool { return t.guard != nil }

// Refuses says whether op must come under the SSV of the request's client, and does not.
func (t *Ticket) Refuses(op wire.Op, proof *Handle) bool {
	return !t.session.client.permits(op, proof)
}

// Conn is a connection, of which it is only known that it is another than others are.
type Conn any

// bindLocked associates a connection with the fore channel of s, where that is enforced.
func (s *session) bindLocked(conn Conn) (enforced bool) {
	p := s.client.ssv
	if p == nil || !p.enforce.Has(wire.AttrNumber(wire.OP_BIND_CONN_TO_SESSION)) {
		return false
	}
	if s.bound == nil {
		s.bound = make(map[Conn]struct{})
	}
	s.bound[conn] = struct{}{}
	return true
}

// admits says whether requests may come over conn.
func (s *session) admits(conn Conn) bool {
	_, bound := s.bound[conn]
	return s.bound == nil || bound
}

// BindConn serves BIND_CONN_TO_SESSION for conn (RFC 8881 §18.34): enforced says that the caller must call ForgetConn for it one
// day. Without state protection each connection of an identity may use each session of the same.
func (m *Machine) BindConn(id wire.SessionID, identity string, conn Conn, fore bool, proof *Handle) (enforced bool, st wire.Status) {
	m.mu.Lock()
	defer m.unlock()
	s := m.sessions[id]
	switch {
	case s == nil || s.client.principal.Identity != identity:
		return false, wire.NFS4ERR_BADSESSION
	case s.client.ssv != nil && !proof.proves(s.client):
		return false, wire.NFS4ERR_WRONG_CRED
	}
	return fore && s.bindLocked(conn), wire.NFS4_OK
}

// ForgetConn says that a connection is gone.
func (m *Machine) ForgetConn(conn Conn) {
	m.mu.Lock()
	defer m.unlock()
	for _, s := range m.sessions {
		delete(s.bound, conn)
	}
}

// MayDestroySession says whether a request over conn may destroy a session (RFC 8881 §18.37).
func (m *Machine) MayDestroySession(id wire.SessionID, identity string, conn Conn, proof *Handle) wire.Status {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s := m.sessions[id]
	switch {
	case s == nil || s.client.principal.Identity != identity:
		return wire.NFS4ERR_BADSESSION
	case s.client.ssv != nil && !proof.proves(s.client):
		return wire.NFS4ERR_WRONG_CRED
	case !s.admits(conn):
		return wire.NFS4ERR_CONN_NOT_BOUND_TO_SESSION
	}
	return wire.NFS4_OK
}
