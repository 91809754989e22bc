package state

import (
	"encoding/binary"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// offload is a COPY that goes on after its answer (RFC 7862 §4): under way, or ended and kept until
// its client has heard of that.
type offload struct {
	number  uint64 // of its stateid
	client  *client
	request CopyRequest
	granted wire.ReferringCall

	moving    bool // a part is being moved
	cancelled bool
	stopped   bool // no part is moved any more
	copied    uint64
	ended     bool
	status    wire.Status // of one that has ended
	deferred  bool        // its client was not ready to be told of the end
}

// CopyRequest is a COPY that goes on after its answer: from one file to another, under ordinary
// stateids.
type CopyRequest struct {
	From, To       File
	Source, Target wire.Stateid
	Verifier       wire.Verifier // of writes, from before the copy
}

// CopyState is how far a copy has come.
type CopyState struct {
	Copied uint64 // bytes
	Ended  bool
	Status wire.Status // of one that has ended
}

// CopyNotice is a copy that has ended.
type CopyNotice struct {
	Client   wire.ClientID
	Stateid  wire.Stateid
	File     File          // that was written
	Verifier wire.Verifier // of the request
	CopyState
	// Granted is the request that the copy was for, if HasGranted: its reply may not have arrived
	// yet.
	Granted    wire.ReferringCall
	HasGranted bool
}

// BeginCopy makes the stateid of a copy. Until EndCopy or CancelCopy its caller moves parts, each
// between EnterPart and LeavePart. NFS4ERR_OFFLOAD_DENIED: there are as many as may be, or the client
// could not be told of the end.
func (m *Machine) BeginCopy(t *Ticket, r *CopyRequest) (wire.Stateid, wire.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := t.session.client
	if m.opt.Callbacks == nil || !c.reachableLocked(false) || !m.roomForCopyLocked(c) {
		return wire.Stateid{}, wire.NFS4ERR_OFFLOAD_DENIED
	}
	m.lastToken++
	o := &offload{number: m.lastToken, client: c, request: *r,
		granted: wire.ReferringCall{Session: t.session.id, Sequence: t.sequence, Slot: t.slotID}}
	m.copies[o.number] = o
	return m.copyStateidLocked(o), wire.NFS4_OK
}

// roomForCopyLocked says whether c may have one more copy; of those that have ended the oldest is
// forgotten for it.
func (m *Machine) roomForCopyLocked(c *client) bool {
	own, oldest := 0, (*offload)(nil)
	for _, o := range m.copies {
		if o.client != c {
			continue
		}
		own++
		if o.ended && (oldest == nil || o.number < oldest.number) {
			oldest = o
		}
	}
	if own < m.opt.Limits.CopiesPerClient && len(m.copies) < m.opt.Limits.Copies {
		return true
	}
	if oldest != nil {
		delete(m.copies, oldest.number)
	}
	return oldest != nil
}

func (m *Machine) copyStateidLocked(o *offload) wire.Stateid {
	return m.stateidLocked(&token{number: o.number, seqid: 1})
}

// copyLocked finds the copy that stateid id names: with the seqid that it was given out with, for none stands for the latest (RFC 7862 §4.8).
func (m *Machine) copyLocked(id *wire.Stateid) *offload {
	if Classify(id) != Ordinary || id.Seqid != 1 || binary.BigEndian.Uint32(id.Other[:]) != m.epoch32() {
		return nil
	}
	return m.copies[tokenNumber(id)]
}

// stopCopiesLocked ends the copies that need more access to tk's file than tk has left, and returns those of which a part is being moved:
// who takes that access away waits for them first, or they would write after somebody else has the file.
func (m *Machine) stopCopiesLocked(tk *token, left uint8) (moving []wire.Stateid) {
	for _, o := range m.copies {
		reads := left&wire.OPEN4_SHARE_ACCESS_READ == 0 && m.underLocked(&o.request.Source, tk)
		writes := left&wire.OPEN4_SHARE_ACCESS_WRITE == 0 && m.underLocked(&o.request.Target, tk)
		if !reads && !writes {
			continue
		}
		o.stopped = true
		if o.moving {
			moving = append(moving, m.copyStateidLocked(o))
		}
	}
	return moving
}

// underLocked says whether stateid id is that of tk, or of locks under it.
func (m *Machine) underLocked(id *wire.Stateid, tk *token) bool {
	of := m.tokens[tokenNumber(id)]
	return of != nil && (of == tk || of.open != nil && of.open == tk.open)
}

// EnterPart says whether copy id goes on. While a part is moved its client keeps what it has. A copy
// ends with its client's lease or when that has started anew, with the opens that it was asked for under, and when it was cancelled.
func (m *Machine) EnterPart(id *wire.Stateid) wire.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.copyLocked(id)
	switch {
	case o == nil || o.cancelled || o.stopped:
		return wire.NFS4ERR_BAD_STATEID
	case o.client.condemned || m.expiredLocked(o.client):
		return wire.NFS4ERR_EXPIRED
	}
	r := &o.request
	if s := m.mayCopyLocked(o.client, &r.Source, r.From, wire.OPEN4_SHARE_ACCESS_READ); s != wire.NFS4_OK {
		return s
	}
	if s := m.mayCopyLocked(o.client, &r.Target, r.To, wire.OPEN4_SHARE_ACCESS_WRITE); s != wire.NFS4_OK {
		return s
	}
	o.moving = true
	o.client.moving++
	return wire.NFS4_OK
}

// mayCopyLocked says whether c still has file f open under the stateid that a copy began with, which
// may have had successors since.
func (m *Machine) mayCopyLocked(c *client, id *wire.Stateid, f File, want uint8) wire.Status {
	latest := wire.Stateid{Other: id.Other}
	tk, s := m.findOnLocked(c, &latest, f)
	switch {
	case s != wire.NFS4_OK:
		return s
	case tk.access()&want == 0:
		return wire.NFS4ERR_OPENMODE
	case tk.deleg != nil && m.overdueLocked(tk.deleg):
		return wire.NFS4ERR_DELEG_REVOKED // as soon as no part is being moved: one copy after the other would keep it
	}
	return wire.NFS4_OK
}

// LeavePart ends what EnterPart began: n bytes more were copied.
func (m *Machine) LeavePart(id *wire.Stateid, n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.copyLocked(id)
	if o == nil || !o.moving {
		return
	}
	o.moving = false
	o.client.moving--
	o.copied += n
	if o.cancelled {
		delete(m.copies, o.number)
	}
}

// EndCopy says that nothing more is moved by copy id: all is done, or it ended early with s. Its
// client is called. A copy of which something was copied is a success: the client asks for the rest.
func (m *Machine) EndCopy(id *wire.Stateid, s wire.Status) {
	m.mu.Lock()
	defer m.unlock()
	o := m.copyLocked(id)
	switch {
	case o == nil || o.ended:
		return
	case o.client.condemned:
		delete(m.copies, o.number)
		return
	case o.copied > 0:
		s = wire.NFS4_OK
	}
	o.ended, o.status = true, s
	m.tellOfCopyLocked(o)
}

// tellOfCopyLocked has o's client told that it has ended.
func (m *Machine) tellOfCopyLocked(o *offload) {
	n := CopyNotice{Client: o.client.id, Stateid: m.copyStateidLocked(o), File: o.request.To,
		Verifier: o.request.Verifier, CopyState: o.state(), Granted: o.granted, HasGranted: m.pendingLocked(&o.granted)}
	m.laterLocked(func(cb Callbacks) { cb.Copied(n) })
}

func (o *offload) state() CopyState {
	return CopyState{Copied: o.copied, Ended: o.ended, Status: o.status}
}

// CopyDeferred says that the client of copy id was not ready to be told of its end, though it was tried for a while: it will be
// told again.
func (m *Machine) CopyDeferred(id *wire.Stateid) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.copyLocked(id); o != nil {
		o.deferred = true
	}
}

// tellAgainOfCopiesLocked tells clients of copies that they were not ready to be told of.
func (m *Machine) tellAgainOfCopiesLocked() {
	for _, o := range m.copies {
		if o.deferred {
			o.deferred = false
			m.tellOfCopyLocked(o)
		}
	}
}

// ToldOfCopy says that the client has heard of the end of copy id, which is forgotten.
func (m *Machine) ToldOfCopy(id *wire.Stateid) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o := m.copyLocked(id); o != nil && o.ended {
		delete(m.copies, o.number)
	}
}

// CopyProgress serves OFFLOAD_STATUS (RFC 7862 §15.9).
func (m *Machine) CopyProgress(t *Ticket, id *wire.Stateid) (CopyState, wire.Status) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	o := m.copyLocked(id)
	if o == nil || o.cancelled || o.client != t.session.client {
		return CopyState{}, wire.NFS4ERR_BAD_STATEID
	}
	return o.state(), wire.NFS4_OK
}

// CancelCopy serves OFFLOAD_CANCEL (RFC 7862 §15.8): nothing more is moved but the part that was
// entered, for which the caller waits before it answers.
func (m *Machine) CancelCopy(t *Ticket, id *wire.Stateid) wire.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.copyLocked(id)
	if o == nil || o.cancelled || o.client != t.session.client {
		return wire.NFS4ERR_BAD_STATEID
	}
	o.cancelled = true
	if !o.moving {
		delete(m.copies, o.number)
	}
	return wire.NFS4_OK
}

// tellOfCopiesLocked tells c once more of the copies whose end it has not acknowledged.
func (m *Machine) tellOfCopiesLocked(c *client) {
	for _, o := range m.copies {
		if o.client == c && o.ended {
			m.tellOfCopyLocked(o)
		}
	}
}

// forgetCopiesLocked drops the copies of c, of which no part is being moved.
func (m *Machine) forgetCopiesLocked(c *client) {
	for number, o := range m.copies {
		if o.client == c {
			delete(m.copies, number)
		}
	}
}
