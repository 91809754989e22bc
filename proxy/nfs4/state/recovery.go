package state

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// Record is what stable storage keeps of a client from when it may obtain state (RECLAIM_COMPLETE, or its
// confirmation in minor version 0) until its state is gone (RFC 8881 §8.4.2.1). Who did not get that
// far has no claim after the next restart: what it had before may have been somebody else's since.
type Record struct {
	Owner     string // co_ownerid: the key
	Verifier  wire.Verifier
	Principal Principal
}

// recordVersion is the first byte of a stored value:
//
//	version (1) | verifier (8) | flavour (4) | uid (4) | identity
const recordVersion = 1

const recordHeaderBytes = 17

// ErrRecord says that a stored client record cannot be read.
var ErrRecord = errors.New("state: damaged client record")

// Value is the stored form of r without its key.
func (r *Record) Value() []byte {
	b := make([]byte, recordHeaderBytes, recordHeaderBytes+len(r.Principal.Identity))
	b[0] = recordVersion
	copy(b[1:9], r.Verifier[:])
	binary.BigEndian.PutUint32(b[9:], r.Principal.Flavor)
	binary.BigEndian.PutUint32(b[13:], r.Principal.UID)
	return append(b, r.Principal.Identity...)
}

// ParseRecord reads what Value made.
func ParseRecord(key, value []byte) (Record, error) {
	if len(value) < recordHeaderBytes || value[0] != recordVersion || len(key) == 0 {
		return Record{}, ErrRecord
	}
	r := Record{Owner: string(key)}
	copy(r.Verifier[:], value[1:9])
	r.Principal.Flavor = binary.BigEndian.Uint32(value[9:])
	r.Principal.UID = binary.BigEndian.Uint32(value[13:])
	r.Principal.Identity = string(value[recordHeaderBytes:])
	return r, nil
}

// knownClient is a client that had state before the restart.
type knownClient struct {
	principal Principal
	returned  bool // has a confirmed client id again
	complete  bool // has reclaimed all that it wants, or can never do so
	lost      bool // its record from before the restart goes
}

// recovery is the grace period (RFC 8881 §8.4.2).
type recovery struct {
	known   map[string]*knownClient
	missing int // of known: not complete
	until   time.Time
	latest  time.Time // until may become
	over    bool
	absent  absence // once it is over
}

func newRecovery(known []Record, now time.Time, grace time.Duration) recovery {
	r := recovery{known: make(map[string]*knownClient, len(known)), until: now.Add(grace),
		latest: now.Add(graceStretch * grace)}
	for _, k := range known {
		r.known[k.Owner] = &knownClient{principal: k.Principal}
	}
	r.missing = len(r.known)
	r.over = r.missing == 0
	return r
}

// mayReclaim says whether c had state before the restart.
func (r *recovery) mayReclaim(c *client) bool {
	k := r.known[c.owner]
	return k != nil && k.principal == c.principal
}

// goOn notes that somebody is reclaiming: the recovery phase does not end in the midst of that, up to
// a limit.
func (r *recovery) goOn(now time.Time) {
	until := now.Add(reclaimPause)
	if until.After(r.latest) {
		until = r.latest
	}
	if until.After(r.until) {
		r.until = until
	}
}

// complete notes that owner has nothing more to reclaim.
func (r *recovery) complete(owner string) {
	if k := r.known[owner]; k != nil && !k.complete {
		k.complete = true
		r.missing--
	}
}

// lose notes that owner's record from before the restart goes, as its client does: who comes back is recorded anew.
func (r *recovery) lose(owner string) {
	if k := r.known[owner]; k != nil {
		k.lost = true
	}
}

// InGrace says whether the recovery phase is on: new opens and locks must wait.
func (m *Machine) InGrace() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return !m.recovery.over
}

// GraceDue says whether the recovery phase is on and should end: its time is up, or every client
// that was known is through. The caller then deletes the records of LostClients and calls EndGrace.
func (m *Machine) GraceDue() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r := &m.recovery
	return !r.over && (r.missing == 0 || !m.opt.Now().Before(r.until))
}

// LostClients are the owners that had state before the restart and did not come back, or not get
// through: their records must go before anybody else can have what they held. Those that complete
// their reclaims later are recorded anew.
func (m *Machine) LostClients() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var lost []string
	for owner, k := range m.recovery.known {
		c := m.owners[owner].confirmedClient()
		if k.complete || k.returned && c != nil && (c.v40 != nil || c.completes) {
			continue
		}
		if k.lost = true; c != nil {
			c.recorded = false
		}
		lost = append(lost, owner)
	}
	return lost
}

// EndGrace ends the recovery phase. It says whether it was on.
func (m *Machine) EndGrace() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.recovery.over {
		return false
	}
	m.recovery.over = true
	m.recovery.absent.begin(m.recovery.known, m.now()+courtesyLeases*int64(m.opt.Lease))
	m.recovery.known = nil
	return true
}

// ReclaimComplete serves RECLAIM_COMPLETE for all file systems (RFC 8881 §18.51). When pending is not
// nil, nothing has happened yet: the caller puts the record on stable storage, calls Recorded, and
// repeats the call.
func (m *Machine) ReclaimComplete(t *Ticket) (pending *Record, s wire.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := t.session.client
	switch {
	case c.reclaimed:
		return nil, wire.NFS4ERR_COMPLETE_ALREADY
	case !c.recorded:
		return &Record{Owner: c.owner, Verifier: c.verifier, Principal: c.principal}, wire.NFS4_OK
	}
	c.reclaimed = true
	m.recovery.complete(c.owner)
	m.recovery.absent.forget(c.owner)
	return nil, wire.NFS4_OK
}

// MayObtain says whether t's client may obtain opens and locks now, in the way of a reclaim or not:
// NFS4ERR_GRACE, NFS4ERR_NO_GRACE or NFS4ERR_RECLAIM_BAD if not.
func (m *Machine) MayObtain(t *Ticket, reclaim bool) wire.Status {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mayObtainLocked(t.session.client, reclaim)
}

func (m *Machine) mayObtainLocked(c *client, reclaim bool) wire.Status {
	switch {
	case !reclaim && (!m.recovery.over || !c.reclaimed && c.v40 == nil):
		return wire.NFS4ERR_GRACE
	case !reclaim:
		return wire.NFS4_OK
	case c.reclaimed || m.recovery.over && !m.recovery.absent.mayReclaim(c):
		return wire.NFS4ERR_NO_GRACE
	case m.recovery.over:
		return wire.NFS4_OK // if nobody had the file since
	case !m.recovery.mayReclaim(c):
		return wire.NFS4ERR_RECLAIM_BAD
	}
	return wire.NFS4_OK
}
