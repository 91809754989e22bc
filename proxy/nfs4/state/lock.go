package state

import (
	"slices"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// lockKey is a lock_owner4 of a client.
type lockKey struct {
	client *client
	owner  string
}

// lockSet is what one lock owner has locked of one file. The ranges are sorted and disjoint.
type lockSet struct {
	key    lockKey
	file   *file
	ranges []lockRange
	sides  int
}

// lockSide is a lock stateid: a lock owner's locks on a file, as they were taken under one open.
type lockSide struct {
	token
	set *lockSet
}

// lockRange is a locked range of bytes, both ends included.
type lockRange struct {
	start, end uint64
	write      bool
	side       *lockSide
}

// Denied is the lock that is in the way of another (LOCK4denied).
type Denied struct {
	Offset   uint64
	Length   uint64 // all ones: to the end of the file
	Write    bool
	ClientID wire.ClientID
	Owner    string
}

// LockRequest is a LOCK.
type LockRequest struct {
	File    File
	Write   bool
	Reclaim bool
	Waits   bool // the client would like to be told when it can be had (READW_LT, WRITEW_LT)
	Offset  uint64
	Length  uint64 // all ones: to the end of the file
	// NewOwner says that Stateid is that of an open and Owner the lock owner; else Stateid is one
	// that Lock returned before.
	NewOwner bool
	Stateid  wire.Stateid
	Owner    []byte
}

// span turns offset and length into the first and the last byte.
func span(offset, length uint64) (start, end uint64, s wire.Status) {
	switch {
	case length == 0:
		return 0, 0, wire.NFS4ERR_INVAL
	case length == ^uint64(0):
		return offset, ^uint64(0), wire.NFS4_OK
	case offset+length-1 < offset:
		return 0, 0, wire.NFS4ERR_INVAL
	}
	return offset, offset + length - 1, wire.NFS4_OK
}

// Lock serves LOCK (RFC 8881 §18.10). With NFS4ERR_DENIED, denied says by whom. victim, if not zero,
// is an expired client that is in the way: it must be condemned and buried, then the call repeated.
func (m *Machine) Lock(t *Ticket, r *LockRequest) (id wire.Stateid, denied Denied, victim wire.ClientID, s wire.Status) {
	m.mu.Lock()
	defer m.unlock()
	c := t.session.client
	start, end, s := span(r.Offset, r.Length)
	if s != wire.NFS4_OK {
		return id, denied, 0, s
	}
	if s := m.mayObtainLocked(c, r.Reclaim); s != wire.NFS4_OK {
		return id, denied, 0, s
	}
	if r.Reclaim && m.recovery.absent.hadLock(r.File) {
		return id, denied, 0, wire.NFS4ERR_NO_GRACE
	}
	o, set, s := m.lockTargetLocked(t, r)
	if s != wire.NFS4_OK {
		return id, denied, 0, s
	}
	if other := m.lockConflictLocked(o.file, set, start, end, r.Write); other != nil {
		if m.replaceableLocked(other.side.client) {
			return id, denied, other.side.client.id, wire.NFS4_OK
		}
		if r.Reclaim {
			return id, denied, 0, wire.NFS4ERR_RECLAIM_CONFLICT
		}
		if r.Waits {
			owner := string(r.Owner)
			if set != nil {
				owner = set.key.owner
			}
			m.waitLocked(o.file, waiter{client: c, owner: owner, start: start, end: end, write: r.Write})
		}
		return id, other.denied(), 0, wire.NFS4ERR_DENIED
	}
	side := o.sideOf(set)
	if own, all := m.roomForLockLocked(c, side == nil); !own {
		return id, denied, 0, wire.NFS4ERR_DELAY
	} else if !all {
		return id, denied, m.longestExpiredLocked(func(c *client) bool { return c.nSides > 0 }), wire.NFS4ERR_DELAY
	}
	if r.Reclaim {
		m.recovery.goOn(m.opt.Now())
	} else {
		m.recovery.absent.note(r.File, use{locked: true})
	}
	if side != nil {
		side.bump()
	} else {
		side = m.newSideLocked(o, set, r)
	}
	m.replaceLocked(side.set, lockRange{start, end, r.Write, side}, true)
	if !r.Write {
		m.wakeLocked(o.file) // what the owner had locked for writing is shared now
	}
	return m.stateidLocked(&side.token), denied, 0, wire.NFS4_OK
}

// lockTargetLocked finds the open that a LOCK is under and the locks that its owner has already, if
// any.
func (m *Machine) lockTargetLocked(t *Ticket, r *LockRequest) (*open, *lockSet, wire.Status) {
	c := t.session.client
	tk, s := m.findOnLocked(c, &r.Stateid, r.File)
	switch {
	case s != wire.NFS4_OK:
		return nil, nil, s
	case tk.deleg != nil || r.NewOwner != (tk.locks == nil):
		return nil, nil, wire.NFS4ERR_BAD_STATEID
	}
	want := uint8(wire.OPEN4_SHARE_ACCESS_READ)
	if r.Write {
		want = wire.OPEN4_SHARE_ACCESS_WRITE
	}
	if tk.open.access&want == 0 {
		return nil, nil, wire.NFS4ERR_OPENMODE
	}
	if tk.locks != nil {
		return tk.open, tk.locks.set, wire.NFS4_OK
	}
	return tk.open, tk.file.locks[lockKey{c, string(r.Owner)}], wire.NFS4_OK
}

// sideOf is the lock stateid under o of the owner with set, or nil.
func (o *open) sideOf(set *lockSet) *lockSide {
	for side := range o.sides {
		if side.set == set {
			return side
		}
	}
	return nil
}

// holds says whether something is locked under the stateid.
func (side *lockSide) holds() bool {
	return slices.ContainsFunc(side.set.ranges, func(r lockRange) bool { return r.side == side })
}

// newSideLocked makes the lock stateid of r's owner under o. set is what the owner has locked under others, or nil.
func (m *Machine) newSideLocked(o *open, set *lockSet, r *LockRequest) *lockSide {
	if set == nil {
		set = &lockSet{key: lockKey{o.client, string(r.Owner)}, file: o.file}
		if o.file.locks == nil {
			o.file.locks = make(map[lockKey]*lockSet)
		}
		o.file.locks[set.key] = set
	}
	side := &lockSide{token: m.newTokenLocked(o.client, o.file), set: set}
	side.open, side.locks = o, side
	m.tokens[side.number] = &side.token
	set.sides++
	m.sides++
	o.client.nSides++
	if o.sides == nil {
		o.sides = make(map[*lockSide]struct{})
	}
	o.sides[side] = struct{}{}
	return side
}

// removeSideLocked ends a lock stateid and the locks that were taken with it.
func (m *Machine) removeSideLocked(side *lockSide) {
	set := side.set
	before := len(set.ranges)
	set.ranges = slices.DeleteFunc(set.ranges, func(r lockRange) bool { return r.side == side })
	m.countRangesLocked(set, before)
	set.sides--
	m.sides--
	set.key.client.nSides--
	if set.sides == 0 {
		delete(set.file.locks, set.key)
	}
	delete(side.open.sides, side)
	delete(m.tokens, side.number)
	m.wakeLocked(set.file)
}

func (m *Machine) countRangesLocked(set *lockSet, before int) {
	diff := len(set.ranges) - before
	m.ranges += diff
	set.key.client.nRanges += diff
}

// roomForLockLocked says whether there may be the up to two ranges that a LOCK or LOCKU can add, and a further lock stateid if
// fresh: as far as c itself goes, and all clients together. There are as many stateids as there may be locks, for one stays when all is
// unlocked, until the client frees it or closes the file.
func (m *Machine) roomForLockLocked(c *client, fresh bool) (own, all bool) {
	room := func(ranges, sides, limit int) bool { return ranges+2 <= limit && (!fresh || sides < limit) }
	return room(c.nRanges, c.nSides, m.opt.Limits.LocksPerClient), room(m.ranges, m.sides, m.opt.Limits.Locks)
}

// lockConflictLocked returns a lock of another owner than own's that is in the way of the range, one of an expired client only if no
// other is.
func (m *Machine) lockConflictLocked(f *file, own *lockSet, start, end uint64, write bool) (expired *lockRange) {
	for _, set := range f.locks {
		if set == own {
			continue
		}
		r := set.conflict(start, end, write)
		if r != nil && !m.replaceableLocked(set.key.client) {
			return r
		}
		if r != nil {
			expired = r
		}
	}
	return expired
}

// conflict returns a range of set's that is in the way of a lock of somebody else.
func (set *lockSet) conflict(start, end uint64, write bool) *lockRange {
	for i := set.firstTouching(start); i < len(set.ranges) && set.ranges[i].start <= end; i++ {
		if write || set.ranges[i].write {
			return &set.ranges[i]
		}
	}
	return nil
}

// firstTouching is the index of the first range that does not end before start.
func (set *lockSet) firstTouching(start uint64) int {
	i, _ := slices.BinarySearchFunc(set.ranges, start, func(r lockRange, at uint64) int {
		if r.end < at {
			return -1
		}
		return 1
	})
	return i
}

// splits says whether to unlock a range makes two of one.
func (set *lockSet) splits(start, end uint64) bool {
	i := set.firstTouching(start)
	return i < len(set.ranges) && set.ranges[i].start < start && set.ranges[i].end > end
}

// replaceLocked takes the bytes of n out of set's ranges, and puts n in if insert.
func (m *Machine) replaceLocked(set *lockSet, n lockRange, insert bool) {
	before := len(set.ranges)
	first := set.firstTouching(n.start)
	last := first
	var fresh []lockRange
	for ; last < len(set.ranges) && set.ranges[last].start <= n.end; last++ {
		r := set.ranges[last]
		if r.start < n.start {
			fresh = append(fresh, lockRange{r.start, n.start - 1, r.write, r.side})
		}
	}
	if insert {
		fresh = append(fresh, n)
	}
	if last > first {
		if r := set.ranges[last-1]; r.end > n.end {
			fresh = append(fresh, lockRange{n.end + 1, r.end, r.write, r.side})
		}
	}
	set.ranges = slices.Replace(set.ranges, first, last, fresh...)
	set.join(max(first-1, 0), first+len(fresh))
	m.countRangesLocked(set, before)
}

// join makes one range of neighbours that are alike, among those from index from to index to.
func (set *lockSet) join(from, to int) {
	to = min(to, len(set.ranges)-1)
	for i := to; i > from; i-- {
		a, b := &set.ranges[i-1], set.ranges[i]
		if a.end+1 == b.start && a.write == b.write && a.side == b.side {
			a.end = b.end
			set.ranges = slices.Delete(set.ranges, i, i+1)
		}
	}
}

func (r *lockRange) denied() Denied {
	d := Denied{Offset: r.start, Length: r.end - r.start + 1, Write: r.write,
		ClientID: r.side.client.id, Owner: r.side.set.key.owner}
	if r.end == ^uint64(0) {
		d.Length = ^uint64(0)
	}
	return d
}

// TestLock serves LOCKT (RFC 8881 §18.11): it says whether owner could lock the range.
func (m *Machine) TestLock(t *Ticket, r *LockRequest) (denied Denied, victim wire.ClientID, s wire.Status) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	start, end, s := span(r.Offset, r.Length)
	if s != wire.NFS4_OK {
		return denied, 0, s
	}
	if !m.recovery.over {
		return denied, 0, wire.NFS4ERR_GRACE
	}
	f := m.files[r.File]
	if f == nil {
		return denied, 0, wire.NFS4_OK
	}
	own := f.locks[lockKey{t.session.client, string(r.Owner)}]
	other := m.lockConflictLocked(f, own, start, end, r.Write)
	switch {
	case other == nil:
		return denied, 0, wire.NFS4_OK
	case m.replaceableLocked(other.side.client):
		return denied, other.side.client.id, wire.NFS4_OK
	}
	return other.denied(), 0, wire.NFS4ERR_DENIED
}

// Unlock serves LOCKU (RFC 8881 §18.12). Bytes that are not locked may be unlocked.
func (m *Machine) Unlock(t *Ticket, id *wire.Stateid, f File, offset, length uint64) (wire.Stateid, wire.Status) {
	m.mu.Lock()
	defer m.unlock()
	start, end, s := span(offset, length)
	if s != wire.NFS4_OK {
		return wire.Stateid{}, s
	}
	tk, s := m.findOnLocked(t.session.client, id, f)
	switch {
	case s != wire.NFS4_OK:
		return wire.Stateid{}, s
	case tk.locks == nil:
		return wire.Stateid{}, wire.NFS4ERR_BAD_STATEID
	}
	set := tk.locks.set
	if set.splits(start, end) {
		if own, all := m.roomForLockLocked(tk.client, false); !own || !all {
			return wire.Stateid{}, wire.NFS4ERR_DELAY
		}
	}
	m.replaceLocked(set, lockRange{start: start, end: end}, false)
	m.wakeLocked(set.file)
	tk.bump()
	return m.stateidLocked(tk), wire.NFS4_OK
}
