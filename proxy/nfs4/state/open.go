package state

import "github.com/nfseal/nfseal/proxy/nfs4/wire"

// file is a file that somebody has open or delegated.
type file struct {
	id      File
	opens   map[*open]struct{}
	delegs  []*delegation // those in effect
	ended   chan struct{} // closed when one of them ends; nil if nobody waits for that
	waiters []waiter
	// How many opens read, write, deny reading, deny writing.
	read, write, denyRead, denyWrite int
	locks                            map[lockKey]*lockSet
}

// openOwner is an open_owner4 of a client.
type openOwner struct {
	client *client
	name   string
	opens  map[File]*open
}

// open is what one open owner has open of one file: all its OPENs of it together.
type open struct {
	token
	owner  *openOwner
	access uint8
	deny   uint8
	// Which values of access and deny OPENs had, as bits 1<<value: OPEN_DOWNGRADE may go back to
	// what some of them have together (RFC 8881 §18.18).
	accessSeen uint8
	denySeen   uint8
	sides      map[*lockSide]struct{}
}

// OpenRequest is an OPEN of a file that exists and that the caller holds.
type OpenRequest struct {
	File    File
	Owner   []byte
	Access  uint32 // OPEN4_SHARE_ACCESS_*, without wishes for delegations
	Deny    uint32
	Reclaim bool
	// Truncate says that the OPEN makes the file empty.
	Truncate bool
	Wish     DelegationWish
	// Under is the delegation that the client has opened the file under until now
	// (CLAIM_DELEGATE_CUR), or nil.
	Under *wire.Stateid
}

// apart is the open-owner, if it is apart from the client's others: who opens under a delegation, or reclaims, knows of
// what the client has.
func (r *OpenRequest) apart() string {
	if r.Under != nil || r.Reclaim {
		return ""
	}
	return string(r.Owner)
}

// OpenResult is what became of an OPEN.
type OpenResult struct {
	Stateid wire.Stateid
	// New says that the caller's hold is kept until Options.Drop; else the caller drops it.
	New bool
	// Delegation is what the client gets besides; or instead, if NoOpen.
	Delegation Delegation
	NoOpen     bool
	// Ended is closed when a delegation in the way has ended, with NFS4ERR_DELAY; nil if it is not worth waiting for.
	Ended <-chan struct{}

	deleg    *delegation // that it was granted; nil also where the client had it before
	open     *open
	opened   bool // there was none of the same owner
	previous open
}

// RoomToOpen says whether t's client may have one more open file: who asks before it makes the file does not have to say NFS4ERR_DELAY
// with the file made, which the repetition of an exclusive OPEN takes for somebody else's. victim is as with Open.
func (m *Machine) RoomToOpen(t *Ticket) (victim wire.ClientID, s wire.Status) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.roomLocked(t.session.client)
}

func (m *Machine) roomLocked(c *client) (victim wire.ClientID, s wire.Status) {
	switch {
	case c.nOpens >= m.opt.Limits.OpensPerClient:
		return 0, wire.NFS4ERR_DELAY
	case m.opens >= m.opt.Limits.Opens:
		return m.longestExpiredLocked(func(c *client) bool { return c.nOpens > 0 }), wire.NFS4ERR_DELAY
	}
	return 0, wire.NFS4_OK
}

// Open serves OPEN (RFC 8881 §18.16). victim, if not zero, is an expired client that is in the way:
// it must be condemned and buried, then the call repeated.
func (m *Machine) Open(t *Ticket, r *OpenRequest) (res OpenResult, victim wire.ClientID, s wire.Status) {
	m.mu.Lock()
	defer m.unlock()
	c := t.session.client
	if s := m.mayObtainLocked(c, r.Reclaim); s != wire.NFS4_OK {
		return res, 0, s
	}
	access, deny := uint8(r.Access), uint8(r.Deny)
	if r.Reclaim && m.recovery.absent.hadOpen(r.File, access, deny) {
		return res, 0, wire.NFS4ERR_NO_GRACE
	}
	if s := m.checkUnderLocked(t, r); s != wire.NFS4_OK {
		return res, 0, s
	}
	f, oo := m.files[r.File], c.opens[string(r.Owner)]
	var o *open
	if oo != nil {
		o = oo.opens[r.File]
	}
	uses := access
	if r.Truncate {
		uses |= wire.OPEN4_SHARE_ACCESS_WRITE // whatever it goes on to do
	}
	if f != nil && f.conflicts(c.exempt(o), uses, deny) {
		return res, m.conflictingOpenLocked(f, c.exempt(o), uses, deny), conflictStatus(r.Reclaim)
	}
	if f != nil {
		change := uses&wire.OPEN4_SHARE_ACCESS_WRITE != 0 || deny&wire.OPEN4_SHARE_DENY_READ != 0
		victim, ended, blocked := m.clearLocked(f, c, r.passes, change, r.Truncate)
		if blocked {
			res.Ended = ended
			return res, victim, wire.NFS4ERR_DELAY
		}
	}
	if o == nil {
		if victim, s := m.roomLocked(c); s != wire.NFS4_OK {
			return res, victim, s
		}
	}
	if r.Reclaim {
		m.recovery.goOn(m.opt.Now())
	} else {
		m.recovery.absent.note(r.File, use{access: uses, deny: deny})
	}
	res.New = m.files[r.File] == nil
	f = m.fileLocked(r.File)
	had := f.delegationOf(c)
	res.Delegation = m.delegateLocked(t, f, r)
	if had == nil {
		res.deleg = f.delegationOf(c)
	}
	if r.Wish.Instead && o == nil && !r.Reclaim && res.Delegation.covers(access, deny) {
		res.NoOpen, res.Stateid = true, wire.AnonymousStateid
		return res, 0, wire.NFS4_OK
	}
	if o != nil {
		res.open, res.previous = o, *o
		o.bump()
	} else {
		o = m.newOpenLocked(c, oo, f, r)
		res.open, res.opened = o, true
	}
	f.setShare(o, o.access|access, o.deny|deny)
	o.accessSeen |= 1 << access
	o.denySeen |= 1 << deny
	res.Stateid = m.stateidLocked(&o.token)
	return res, 0, wire.NFS4_OK
}

// checkUnderLocked says whether the delegation that an OPEN refers to is there and allows as much.
func (m *Machine) checkUnderLocked(t *Ticket, r *OpenRequest) wire.Status {
	if r.Under == nil {
		return wire.NFS4_OK
	}
	d, s := m.delegationLocked(t, r.Under, r.File)
	switch {
	case s != wire.NFS4_OK:
		return s
	case r.Access&^uint32(d.access()) != 0:
		return wire.NFS4ERR_OPENMODE
	}
	return wire.NFS4_OK
}

// fileLocked is what is known of file id, from now on if nothing was.
func (m *Machine) fileLocked(id File) *file {
	f := m.files[id]
	if f == nil {
		f = &file{id: id, opens: make(map[*open]struct{})}
		m.files[id] = f
	}
	return f
}

// putFileLocked forgets f if nobody has it any more.
func (m *Machine) putFileLocked(f *file) {
	if len(f.opens) == 0 && len(f.delegs) == 0 {
		delete(m.files, f.id)
		m.dropped = append(m.dropped, f.id)
	}
}

func conflictStatus(reclaim bool) wire.Status {
	if reclaim {
		return wire.NFS4ERR_RECLAIM_CONFLICT
	}
	return wire.NFS4ERR_SHARE_DENIED
}

// Rollback undoes an Open whose caller could not go through with it. It must follow the Open
// before the stateid was given to anyone. Where the same owner has opened the file once more since, what both have together stays.
func (m *Machine) Rollback(r *OpenResult) {
	m.mu.Lock()
	defer m.unlock()
	if d := r.deleg; d != nil && m.tokens[d.number] == &d.token {
		m.removeDelegationLocked(d, &m.delegated.Undone)
	}
	o := r.open
	if r.NoOpen || m.tokens[o.number] != &o.token || o.seqid != r.Stateid.Seqid {
		return // closed, expired or opened once more meanwhile
	}
	if r.opened {
		m.removeOpenLocked(o)
		return
	}
	o.file.setShare(o, r.previous.access, r.previous.deny)
	o.accessSeen, o.denySeen, o.seqid = r.previous.accessSeen, r.previous.denySeen, r.previous.seqid
}

// newOpenLocked makes an open without any access yet.
func (m *Machine) newOpenLocked(c *client, oo *openOwner, f *file, r *OpenRequest) *open {
	if oo == nil {
		oo = &openOwner{client: c, name: string(r.Owner), opens: make(map[File]*open)}
		c.opens[oo.name] = oo
	}
	o := &open{token: m.newTokenLocked(c, f), owner: oo}
	o.token.open = o
	m.tokens[o.number] = &o.token
	f.opens[o] = struct{}{}
	oo.opens[r.File] = o
	c.nOpens++
	m.opens++
	return o
}

// removeOpenLocked ends o and the locks that were taken under it.
func (m *Machine) removeOpenLocked(o *open) {
	for side := range o.sides {
		m.removeSideLocked(side)
	}
	f, c := o.file, o.client
	f.setShare(o, 0, 0)
	delete(f.opens, o)
	delete(o.owner.opens, f.id)
	if len(o.owner.opens) == 0 {
		delete(c.opens, o.owner.name)
	}
	delete(m.tokens, o.number)
	c.nOpens--
	m.opens--
	m.putFileLocked(f)
}

// setShare changes o's share reservation and keeps f's counts.
func (f *file) setShare(o *open, access, deny uint8) {
	for _, n := range []struct {
		count   *int
		was, is uint8
	}{
		{&f.read, o.access & wire.OPEN4_SHARE_ACCESS_READ, access & wire.OPEN4_SHARE_ACCESS_READ},
		{&f.write, o.access & wire.OPEN4_SHARE_ACCESS_WRITE, access & wire.OPEN4_SHARE_ACCESS_WRITE},
		{&f.denyRead, o.deny & wire.OPEN4_SHARE_DENY_READ, deny & wire.OPEN4_SHARE_DENY_READ},
		{&f.denyWrite, o.deny & wire.OPEN4_SHARE_DENY_WRITE, deny & wire.OPEN4_SHARE_DENY_WRITE},
	} {
		switch {
		case n.was == 0 && n.is != 0:
			*n.count++
		case n.was != 0 && n.is == 0:
			*n.count--
		}
	}
	o.access, o.deny = access, deny
}

// conflicts says whether a share reservation is in the way of access and deny, leaving aside that
// of own, which may be nil.
func (f *file) conflicts(own *open, access, deny uint8) bool {
	var mine open
	if own != nil {
		mine = open{access: own.access, deny: own.deny}
	}
	others := func(count int, bits, bit uint8) bool { return count > int(bits&bit/bit) }
	switch {
	case access&wire.OPEN4_SHARE_ACCESS_READ != 0 && others(f.denyRead, mine.deny, wire.OPEN4_SHARE_DENY_READ),
		access&wire.OPEN4_SHARE_ACCESS_WRITE != 0 && others(f.denyWrite, mine.deny, wire.OPEN4_SHARE_DENY_WRITE),
		deny&wire.OPEN4_SHARE_DENY_READ != 0 && others(f.read, mine.access, wire.OPEN4_SHARE_ACCESS_READ),
		deny&wire.OPEN4_SHARE_DENY_WRITE != 0 && others(f.write, mine.access, wire.OPEN4_SHARE_ACCESS_WRITE):
		return true
	}
	return false
}

// conflictingOpenLocked returns a client that is in the way and has expired, or 0: also if one that has not is in the way too, for
// then nothing would be gained.
func (m *Machine) conflictingOpenLocked(f *file, own *open, access, deny uint8) (victim wire.ClientID) {
	for o := range f.opens {
		switch {
		case o == own || o.access&deny == 0 && o.deny&access == 0:
		case !m.replaceableLocked(o.client):
			return 0
		default:
			victim = o.client.id
		}
	}
	return victim
}

// longestExpiredLocked returns the expired client that was silent for longest of those that have something, or 0. Where there is
// no room left, it makes some.
func (m *Machine) longestExpiredLocked(has func(*client) bool) wire.ClientID {
	var longest *client
	for _, c := range m.clients {
		if has(c) && m.expiredLocked(c) {
			longest = older(longest, c)
		}
	}
	if longest == nil {
		return 0
	}
	return longest.id
}

// replaceableLocked says whether c's state can be taken from it.
func (m *Machine) replaceableLocked(c *client) bool { return c.condemned || m.expiredLocked(c) }

// openOfLocked finds the open that stateid id names.
func (m *Machine) openOfLocked(t *Ticket, id *wire.Stateid, f File) (*open, wire.Status) {
	tk, s := m.findOnLocked(t.session.client, id, f)
	switch {
	case s != wire.NFS4_OK:
		return nil, s
	case tk.locks != nil || tk.deleg != nil:
		return nil, wire.NFS4ERR_BAD_STATEID
	}
	return tk.open, wire.NFS4_OK
}

// Downgrade serves OPEN_DOWNGRADE (RFC 8881 §18.18). Copies that need what it takes away end; while a part of some is moving, nothing
// else happens: the caller waits for those and calls again.
func (m *Machine) Downgrade(t *Ticket, id *wire.Stateid, f File, access, deny uint32) (got wire.Stateid, moving []wire.Stateid, s wire.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, s := m.openOfLocked(t, id, f)
	if s != wire.NFS4_OK {
		return got, nil, s
	}
	a, d := uint8(access), uint8(deny)
	if !composes(o.accessSeen, a) || !composes(o.denySeen, d) {
		return got, nil, wire.NFS4ERR_INVAL
	}
	if moving := m.stopCopiesLocked(&o.token, a); len(moving) > 0 {
		return got, moving, wire.NFS4_OK
	}
	o.file.setShare(o, a, d)
	o.accessSeen, o.denySeen = within(o.accessSeen, a), within(o.denySeen, d)
	o.bump()
	return m.stateidLocked(&o.token), nil, wire.NFS4_OK
}

// composes says whether v is what some of the values in seen have together.
func composes(seen, v uint8) bool {
	seen = within(seen, v)
	var together uint8
	for i := range uint8(4) {
		if seen&(1<<i) != 0 {
			together |= i
		}
	}
	return seen != 0 && together == v
}

// within leaves of the values in seen those that are part of v.
func within(seen, v uint8) uint8 {
	for i := range uint8(4) {
		if i&^v != 0 {
			seen &^= 1 << i
		}
	}
	return seen
}

// Close serves CLOSE (RFC 8881 §18.2). Copies that need the open end, as with Downgrade.
func (m *Machine) Close(t *Ticket, id *wire.Stateid, f File) (moving []wire.Stateid, s wire.Status) {
	m.mu.Lock()
	defer m.unlock()
	o, s := m.openOfLocked(t, id, f)
	if s != wire.NFS4_OK {
		return nil, s
	}
	if moving = m.stopCopiesLocked(&o.token, 0); len(moving) == 0 {
		m.removeOpenLocked(o)
	}
	return moving, wire.NFS4_OK
}
