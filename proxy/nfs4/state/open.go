package state

import "github.com/nfseal/nfseal/proxy/nfs4/wire"

// file is a file that somebody has open.
type file struct {
	id    File
	opens map[*open]struct{}
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
	// one of those alone (RFC 8881 §18.18).
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
}

// OpenResult is what became of an OPEN.
type OpenResult struct {
	Stateid wire.Stateid
	// New says that the caller's hold is kept until Options.Drop; else the caller drops it.
	New bool

	open     *open
	previous open
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
	f, oo := m.files[r.File], c.opens[string(r.Owner)]
	var o *open
	if oo != nil {
		o = oo.opens[r.File]
	}
	if f != nil && f.conflicts(o, access, deny) {
		return res, m.conflictingOpenLocked(f, o, access, deny), conflictStatus(r.Reclaim)
	}
	if o != nil {
		res = OpenResult{open: o, previous: *o}
		o.bump()
	} else {
		if m.opens >= m.opt.Limits.Opens || c.nOpens >= m.opt.Limits.OpensPerClient {
			return res, 0, wire.NFS4ERR_DELAY
		}
		o = m.newOpenLocked(c, oo, r)
		res = OpenResult{open: o, New: true}
	}
	f = o.file
	f.setShare(o, o.access|access, o.deny|deny)
	o.accessSeen |= 1 << access
	o.denySeen |= 1 << deny
	res.Stateid = m.stateidLocked(&o.token)
	return res, 0, wire.NFS4_OK
}

func conflictStatus(reclaim bool) wire.Status {
	if reclaim {
		return wire.NFS4ERR_RECLAIM_CONFLICT
	}
	return wire.NFS4ERR_SHARE_DENIED
}

// Rollback undoes an Open whose caller could not go through with it. It must follow the Open
// before the stateid was given to anyone.
func (m *Machine) Rollback(r *OpenResult) {
	m.mu.Lock()
	defer m.unlock()
	o := r.open
	if m.tokens[o.number] != &o.token {
		return // closed or expired meanwhile
	}
	if r.New {
		m.removeOpenLocked(o)
		return
	}
	o.file.setShare(o, r.previous.access, r.previous.deny)
	o.accessSeen, o.denySeen, o.seqid = r.previous.accessSeen, r.previous.denySeen, r.previous.seqid
}

// newOpenLocked makes an open without any access yet.
func (m *Machine) newOpenLocked(c *client, oo *openOwner, r *OpenRequest) *open {
	if oo == nil {
		oo = &openOwner{client: c, name: string(r.Owner), opens: make(map[File]*open)}
		c.opens[oo.name] = oo
	}
	f := m.files[r.File]
	if f == nil {
		f = &file{id: r.File, opens: make(map[*open]struct{})}
		m.files[r.File] = f
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
	if len(f.opens) == 0 {
		delete(m.files, f.id)
	}
	delete(o.owner.opens, f.id)
	if len(o.owner.opens) == 0 {
		delete(c.opens, o.owner.name)
	}
	delete(m.tokens, o.number)
	c.nOpens--
	m.opens--
	m.dropped = append(m.dropped, f.id)
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

// conflictingOpenLocked returns a client that is in the way and has expired, or 0.
func (m *Machine) conflictingOpenLocked(f *file, own *open, access, deny uint8) wire.ClientID {
	for o := range f.opens {
		if o != own && (o.access&deny != 0 || o.deny&access != 0) && m.replaceableLocked(o.client) {
			return o.client.id
		}
	}
	return 0
}

// replaceableLocked says whether c's state can be taken from it.
func (m *Machine) replaceableLocked(c *client) bool { return c.condemned || m.expiredLocked(c) }

// openOfLocked finds the open that stateid id names.
func (m *Machine) openOfLocked(t *Ticket, id *wire.Stateid, f File) (*open, wire.Status) {
	tk, s := m.findOnLocked(t.session.client, id, f)
	switch {
	case s != wire.NFS4_OK:
		return nil, s
	case tk.locks != nil:
		return nil, wire.NFS4ERR_BAD_STATEID
	}
	return tk.open, wire.NFS4_OK
}

// Downgrade serves OPEN_DOWNGRADE (RFC 8881 §18.18).
func (m *Machine) Downgrade(t *Ticket, id *wire.Stateid, f File, access, deny uint32) (wire.Stateid, wire.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, s := m.openOfLocked(t, id, f)
	if s != wire.NFS4_OK {
		return wire.Stateid{}, s
	}
	a, d := uint8(access), uint8(deny)
	if o.accessSeen&(1<<a) == 0 || o.denySeen&(1<<d) == 0 {
		return wire.Stateid{}, wire.NFS4ERR_INVAL
	}
	o.file.setShare(o, a, d)
	o.accessSeen, o.denySeen = within(o.accessSeen, a), within(o.denySeen, d)
	o.bump()
	return m.stateidLocked(&o.token), wire.NFS4_OK
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

// Close serves CLOSE (RFC 8881 §18.2).
func (m *Machine) Close(t *Ticket, id *wire.Stateid, f File) wire.Status {
	m.mu.Lock()
	defer m.unlock()
	o, s := m.openOfLocked(t, id, f)
	if s == wire.NFS4_OK {
		m.removeOpenLocked(o)
	}
	return s
}
