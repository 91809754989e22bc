package state

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// Callback is where a client of minor version 0 wants to be called (cb_client4, RFC 7530 §16.33).
type Callback struct {
	Program uint32
	Ident   uint32
	NetID   string
	Addr    string
}

// client40 is what a client of minor version 0 has besides what every client has.
type client40 struct {
	confirm  wire.Verifier // what SETCLIENTID_CONFIRM must bring, or brought
	callback Callback
	update   *callbackUpdate
	// stand is in the place of the session that there is none of, for the client's tickets.
	stand      session
	openOwners map[string]*owner40
	lockOwners map[string]*owner40
}

// callbackUpdate is a SETCLIENTID of a client that is confirmed already, before its confirmation.
type callbackUpdate struct {
	confirm  wire.Verifier
	callback Callback
}

// expired40 remembers, up to a limit, what expired clients of minor version 0 had: they are told so
// (NFS4ERR_EXPIRED) instead of that they were never known.
type expired40 struct {
	clients []wire.ClientID // the oldest first
	tokens  []uint64
	known   map[uint64]struct{} // tokens again
}

// OldOwnerPrefix is what the names of clients of minor version 0 begin with among the owners of all: the caller of ExchangeID sees to it
// that no other's does.
const OldOwnerPrefix = "nfs4.0 "

// ownerKey is the name of a client of minor version 0 among the owners of both minor versions. It is
// at most MaxOpaqueBytes long, as keys of stable storage are. A hash is marked by a byte that the caller of SetClientID lets no
// id begin with that is as long.
func ownerKey(id []byte) string {
	if len(OldOwnerPrefix)+len(id) <= wire.MaxOpaqueBytes {
		return OldOwnerPrefix + string(id)
	}
	sum := sha256.Sum256(id)
	return OldOwnerPrefix + "\x01" + hex.EncodeToString(sum[:])
}

// SetClientIDRequest is a SETCLIENTID.
type SetClientIDRequest struct {
	ID        []byte
	Verifier  wire.Verifier
	Principal Principal
	Callback  Callback
	Guest     bool // as in ExchangeIDRequest
}

// SetClientIDResult is what the client must confirm. With NFS4ERR_CLID_INUSE only Using counts: where
// the client that has the id wants to be called.
type SetClientIDResult struct {
	ClientID wire.ClientID
	Confirm  wire.Verifier
	Using    Callback
}

// SetClientID serves SETCLIENTID (RFC 7530 §16.33.5). victim, if not zero, must be condemned and
// buried first, then the call repeated.
func (m *Machine) SetClientID(r *SetClientIDRequest) (res SetClientIDResult, victim wire.ClientID, s wire.Status) {
	m.mu.Lock()
	defer m.unlock()
	key := ownerKey(r.ID)
	as := &ExchangeIDRequest{Owner: []byte(key), Verifier: r.Verifier, Principal: r.Principal, Guest: r.Guest}
	if o := m.owners[key]; o != nil && o.confirmed != nil && o.confirmed.v40 != nil {
		c := o.confirmed
		switch {
		case c.collides(as) && (c.hasState() && !m.expiredLocked(c) || c.busyLocked()):
			return SetClientIDResult{Using: c.v40.callback}, 0, wire.NFS4ERR_CLID_INUSE
		case c.collides(as):
			return res, c.id, wire.NFS4_OK
		case c.verifier == r.Verifier:
			return m.updateCallbackLocked(o, r), 0, wire.NFS4_OK
		}
	}
	if victim, s = m.makeRoomLocked(r.Guest); victim != 0 || s != wire.NFS4_OK {
		return res, victim, s
	}
	c := m.newClientLocked(as)
	c.v40 = &client40{
		confirm:    m.newVerifierLocked(),
		callback:   r.Callback,
		stand:      session{client: c},
		openOwners: make(map[string]*owner40),
		lockOwners: make(map[string]*owner40),
	}
	return SetClientIDResult{ClientID: c.id, Confirm: c.v40.confirm}, 0, wire.NFS4_OK
}

// updateCallbackLocked lets a confirmed client change where it is called, once it confirms that.
func (m *Machine) updateCallbackLocked(o *ownership, r *SetClientIDRequest) SetClientIDResult {
	c := o.confirmed
	if !r.Guest {
		m.letInLocked(c)
	}
	if o.unconfirmed != nil {
		m.removeClientLocked(o.unconfirmed)
	}
	c.v40.update = &callbackUpdate{confirm: m.newVerifierLocked(), callback: r.Callback}
	return SetClientIDResult{ClientID: c.id, Confirm: c.v40.update.confirm}
}

func (m *Machine) newVerifierLocked() (v wire.Verifier) {
	m.opt.Random(v[:])
	return v
}

// ConfirmClientID serves SETCLIENTID_CONFIRM (RFC 7530 §16.34.5). When pending is not nil, nothing
// has happened yet: the caller puts the record on stable storage, calls Recorded, and repeats the
// call.
func (m *Machine) ConfirmClientID(id wire.ClientID, confirm wire.Verifier, p Principal) (pending *Record, s wire.Status) {
	m.mu.Lock()
	defer m.unlock()
	c := m.clients[id]
	switch {
	case c == nil || c.v40 == nil:
		return nil, wire.NFS4ERR_STALE_CLIENTID
	case c.principal != p:
		return nil, wire.NFS4ERR_CLID_INUSE
	case c.confirmed:
		return nil, m.confirmAgainLocked(c, confirm)
	case c.v40.confirm != confirm:
		return nil, wire.NFS4ERR_STALE_CLIENTID
	}
	if old := m.owners[c.owner].confirmed; old != nil && old.busyLocked() {
		return nil, wire.NFS4ERR_DELAY // until what the former incarnation asked for is done
	}
	if !c.recorded {
		return &Record{Owner: c.owner, Verifier: c.verifier, Principal: c.principal}, wire.NFS4_OK
	}
	m.confirmLocked(c)
	return nil, wire.NFS4_OK
}

// confirmAgainLocked is a SETCLIENTID_CONFIRM for a confirmed client: of its new callback, or sent
// again.
func (m *Machine) confirmAgainLocked(c *client, confirm wire.Verifier) wire.Status {
	switch u := c.v40.update; {
	case u != nil && u.confirm == confirm:
		c.v40.confirm, c.v40.callback, c.v40.update = u.confirm, u.callback, nil
	case c.v40.confirm != confirm:
		return wire.NFS4ERR_STALE_CLIENTID
	}
	c.renewed.Store(m.now())
	return wire.NFS4_OK
}

// EnterClient begins a request of the minor version 0 client called id, over a connection of an identity, and renews
// its lease, unless that is a guest (RENEW, RFC 7530 §9.5). If it succeeds, t is filled, and Leave must follow.
func (m *Machine) EnterClient(id wire.ClientID, identity string, guest bool, t *Ticket) wire.Status {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c, s := m.client40Locked(id, identity)
	if s == wire.NFS4_OK {
		m.enterLocked(c, guest, t)
	}
	return s
}

// client40Locked finds a confirmed client of minor version 0. One of another identity is none, as with sessions.
func (m *Machine) client40Locked(id wire.ClientID, identity string) (*client, wire.Status) {
	c := m.clients[id]
	switch {
	case c != nil && c.principal.Identity != identity:
		return nil, wire.NFS4ERR_STALE_CLIENTID
	case c != nil && c.v40 != nil && c.confirmed:
		return c, wire.NFS4_OK
	case m.condemned[id] != nil || slices.Contains(m.expired.clients, id):
		return nil, wire.NFS4ERR_EXPIRED
	}
	return nil, wire.NFS4ERR_STALE_CLIENTID
}

func (m *Machine) enterLocked(c *client, guest bool, t *Ticket) {
	c.running.Add(1)
	m.renew(c, guest)
	*t = Ticket{session: &c.v40.stand, guest: guest}
}

// EnterStateid begins a request of p in minor version 0 that uses stateid id, which is no
// special one, and renews its client's lease. If it succeeds, t is filled, and Leave must follow; own
// says that the file was opened for the same user.
func (m *Machine) EnterStateid(id *wire.Stateid, p *Principal, t *Ticket) (own bool, s wire.Status) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	tk, s := m.token40Locked(id, p.Identity)
	if s != wire.NFS4_OK {
		return false, s
	}
	if s := tk.checkSeqid40(id.Seqid); s != wire.NFS4_OK {
		return false, s
	}
	o := tk.client.v40.openOwners[tk.open.owner.name]
	if o == nil || !o.confirmed {
		return false, wire.NFS4ERR_BAD_STATEID
	}
	m.enterLocked(tk.client, false, t)
	return o.uid == p.UID, wire.NFS4_OK
}

// token40Locked finds what id stands for, whatever its seqid is, for a connection of an identity.
func (m *Machine) token40Locked(id *wire.Stateid, identity string) (*token, wire.Status) {
	switch {
	case Classify(id) != Ordinary:
		return nil, wire.NFS4ERR_BAD_STATEID
	case binary.BigEndian.Uint32(id.Other[:]) != m.epoch32():
		return nil, wire.NFS4ERR_STALE_STATEID
	}
	number := binary.BigEndian.Uint64(id.Other[4:])
	tk := m.tokens[number]
	switch {
	case tk == nil:
		return nil, m.expired.statusOf(number)
	case tk.client.principal.Identity != identity:
		return nil, wire.NFS4ERR_BAD_STATEID
	case tk.client.condemned:
		return nil, wire.NFS4ERR_EXPIRED
	case tk.client.v40 == nil || tk.open == nil:
		return nil, wire.NFS4ERR_BAD_STATEID
	}
	return tk, wire.NFS4_OK
}

// checkSeqid40 compares seqids: in minor version 0 none stands for the latest.
func (t *token) checkSeqid40(seqid uint32) wire.Status {
	switch diff := int32(seqid - t.seqid); {
	case diff == 0:
		return wire.NFS4_OK
	case diff < 0:
		return wire.NFS4ERR_OLD_STATEID
	}
	return wire.NFS4ERR_BAD_STATEID
}

// Leave ends what EnterClient or EnterStateid began; it does nothing to a Ticket that is not filled.
func (m *Machine) Leave(t *Ticket) {
	if t.session == nil {
		return
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	m.leaveLocked(t)
}

func (m *Machine) leaveLocked(t *Ticket) {
	c := t.session.client
	c.running.Add(-1)
	m.renew(c, t.guest)
	*t = Ticket{}
}

// rememberLocked keeps what expired client c had.
func (e *expired40) rememberLocked(c *client) {
	if c.v40 == nil {
		return
	}
	e.clients = append(e.clients, c.id)
	if n := len(e.clients) - maxExpiredClients; n > 0 {
		e.clients = slices.Delete(e.clients, 0, n)
	}
	e.rememberTokensLocked(c)
}

// rememberTokensLocked keeps which stateids c had, which expired or started anew.
func (e *expired40) rememberTokensLocked(c *client) {
	if c.v40 == nil {
		return
	}
	for _, oo := range c.opens {
		for _, o := range oo.opens {
			e.add(o.number)
			for side := range o.sides {
				e.add(side.number)
			}
		}
	}
}

func (e *expired40) add(number uint64) {
	if e.known == nil {
		e.known = make(map[uint64]struct{})
	}
	if len(e.tokens) >= maxExpiredTokens {
		for _, old := range e.tokens[:maxExpiredTokens/2] {
			delete(e.known, old)
		}
		e.tokens = slices.Delete(e.tokens, 0, maxExpiredTokens/2)
	}
	e.tokens = append(e.tokens, number)
	e.known[number] = struct{}{}
}

func (e *expired40) statusOf(number uint64) wire.Status {
	if _, ok := e.known[number]; ok {
		return wire.NFS4ERR_EXPIRED
	}
	return wire.NFS4ERR_BAD_STATEID
}
