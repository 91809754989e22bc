package state

import (
	"encoding/binary"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// token is what a stateid's other field stands for: an open, a lock owner's locks on a
// file, or a delegation.
type token struct {
	number uint64
	seqid  uint32
	client *client
	file   *file
	open   *open       // the open itself, or the one that the locks were taken under
	locks  *lockSide   // nil for an open and a delegation
	deleg  *delegation // nil for an open and locks
}

// Class is what kind of stateid a request carries (RFC 8881 §8.2.3).
type Class uint8

// The classes.
const (
	Ordinary  Class = iota
	Anonymous       // all zeros: no state
	Bypass          // all ones: no state, and READ looks at no lock
	Current         // the compound's current stateid
	Invalid         // reserved
)

var onesOther = [12]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Classify says what kind of stateid id is.
func Classify(id *wire.Stateid) Class {
	switch id.Other {
	case [12]byte{}:
		switch id.Seqid {
		case 0:
			return Anonymous
		case 1:
			return Current
		}
		return Invalid
	case onesOther:
		if id.Seqid == ^uint32(0) {
			return Bypass
		}
		return Invalid
	}
	return Ordinary
}

// newTokenLocked enters a token under a number of its own, with seqid 1.
func (m *Machine) newTokenLocked(c *client, f *file) token {
	m.lastToken++
	return token{number: m.lastToken, seqid: 1, client: c, file: f}
}

func (m *Machine) stateidLocked(t *token) wire.Stateid {
	id := wire.Stateid{Seqid: t.seqid}
	binary.BigEndian.PutUint32(id.Other[:], m.epoch32())
	binary.BigEndian.PutUint64(id.Other[4:], t.number)
	return id
}

// tokenNumber is which token id names.
func tokenNumber(id *wire.Stateid) uint64 { return binary.BigEndian.Uint64(id.Other[4:]) }

// bump makes the next seqid; 0 is skipped (RFC 8881 §8.2.2).
func (t *token) bump() {
	t.seqid++
	if t.seqid == 0 {
		t.seqid = 1
	}
}

// access is what a token lets its client do with the content: READ, WRITE or both.
func (t *token) access() uint8 {
	switch {
	case t.deleg == nil:
		return t.open.access
	case t.deleg.write:
		return wire.OPEN4_SHARE_ACCESS_BOTH
	}
	return wire.OPEN4_SHARE_ACCESS_READ
}

// findLocked returns the token that id stands for, if it is c's and up to date. With
// NFS4ERR_DELEG_REVOKED it returns it too.
func (m *Machine) findLocked(c *client, id *wire.Stateid) (*token, wire.Status) {
	if Classify(id) != Ordinary || binary.BigEndian.Uint32(id.Other[:]) != m.epoch32() {
		return nil, wire.NFS4ERR_BAD_STATEID
	}
	t := m.tokens[tokenNumber(id)]
	switch {
	case t == nil || t.client != c:
		return nil, wire.NFS4ERR_BAD_STATEID
	case t.deleg != nil && t.deleg.revoked:
		return t, wire.NFS4ERR_DELEG_REVOKED
	}
	switch diff := int32(id.Seqid - t.seqid); {
	case id.Seqid == 0 || diff == 0:
		return t, wire.NFS4_OK
	case diff < 0:
		return nil, wire.NFS4ERR_OLD_STATEID
	}
	return nil, wire.NFS4ERR_BAD_STATEID
}

// findOnLocked is findLocked for a stateid that must be of file f.
func (m *Machine) findOnLocked(c *client, id *wire.Stateid, f File) (*token, wire.Status) {
	t, s := m.findLocked(c, id)
	if s == wire.NFS4_OK && t.file.id != f {
		return nil, wire.NFS4ERR_BAD_STATEID
	}
	return t, s
}

// CheckIO says whether stateid id lets its client read or write file f (RFC 8881 §8.2.4, §9.7).
func (m *Machine) CheckIO(t *Ticket, id *wire.Stateid, f File, write bool) wire.Status {
	m.mu.RLock()
	defer m.mu.RUnlock()
	tk, s := m.findOnLocked(t.session.client, id, f)
	if s != wire.NFS4_OK {
		return s
	}
	want := uint8(wire.OPEN4_SHARE_ACCESS_READ)
	if write {
		want = wire.OPEN4_SHARE_ACCESS_WRITE
	}
	if tk.access()&want == 0 {
		return wire.NFS4ERR_OPENMODE
	}
	return wire.NFS4_OK
}

// CheckAnonymous says whether file f may be read or written without a stateid: not in the recovery
// phase, when somebody may still reclaim a share reservation, and not against one. bypass reads
// against reservations too.
func (m *Machine) CheckAnonymous(f File, write, bypass bool) wire.Status {
	m.mu.RLock()
	s, absent := m.checkAnonymousLocked(f, write, bypass), m.recovery.absent.any()
	m.mu.RUnlock()
	if s != wire.NFS4_OK || !absent {
		return s
	}
	m.mu.Lock() // those who are away may have denied it to others
	defer m.mu.Unlock()
	if s = m.checkAnonymousLocked(f, write, bypass); s == wire.NFS4_OK {
		m.recovery.absent.note(f, anonymousUse(write))
	}
	return s
}

func (m *Machine) checkAnonymousLocked(f File, write, bypass bool) wire.Status {
	if !m.recovery.over {
		return wire.NFS4ERR_GRACE
	}
	fl := m.files[f]
	switch {
	case fl == nil:
		return wire.NFS4_OK
	case write && fl.denyWrite > 0:
		return wire.NFS4ERR_LOCKED
	case !write && !bypass && fl.denyRead > 0:
		return wire.NFS4ERR_LOCKED
	}
	return wire.NFS4_OK
}

// Denier is an expired client whose share reservation is in the way of reading or writing file f without a stateid, or 0: it must be
// condemned and buried, then the file be asked about again.
func (m *Machine) Denier(f File, write bool) wire.ClientID {
	m.mu.RLock()
	defer m.mu.RUnlock()
	fl := m.files[f]
	if fl == nil {
		return 0
	}
	use := anonymousUse(write)
	return m.conflictingOpenLocked(fl, nil, use.access, use.deny)
}

// TestStateid says whether id is valid for t's client (TEST_STATEID, RFC 8881 §18.48).
func (m *Machine) TestStateid(t *Ticket, id *wire.Stateid) wire.Status {
	m.mu.RLock()
	defer m.mu.RUnlock()
	_, s := m.findLocked(t.session.client, id)
	return s
}

// FreeStateid serves FREE_STATEID (RFC 8881 §18.38): a lock stateid without locks can go, and a
// delegation that was revoked; one with locks, an open and a good delegation are NFS4ERR_LOCKS_HELD.
func (m *Machine) FreeStateid(t *Ticket, id *wire.Stateid) wire.Status {
	m.mu.Lock()
	defer m.unlock()
	tk, s := m.findLocked(t.session.client, id)
	switch {
	case s == wire.NFS4ERR_DELEG_REVOKED:
		m.removeDelegationLocked(tk.deleg, nil)
		return wire.NFS4_OK
	case s != wire.NFS4_OK:
		return s
	case tk.locks == nil || tk.locks.holds():
		return wire.NFS4ERR_LOCKS_HELD
	}
	m.removeSideLocked(tk.locks)
	return wire.NFS4_OK
}
