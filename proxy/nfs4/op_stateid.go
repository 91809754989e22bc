package nfs4

import "github.com/nfseal/nfseal/proxy/nfs4/wire"

// opTestStateid serves TEST_STATEID (RFC 8881 §18.48).
func opTestStateid(c *compound) wire.Status {
	var a wire.TestStateidArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	c.out.Uint32(uint32(a.Len()))
	for i := range a.Len() {
		id := a.At(i)
		c.out.Uint32(uint32(c.s.state.TestStateid(&c.ticket, &id)))
	}
	return wire.NFS4_OK
}

// opFreeStateid serves FREE_STATEID (RFC 8881 §18.38).
func opFreeStateid(c *compound) wire.Status {
	var a wire.FreeStateidArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if st := c.resolve(&a.Stateid); st != wire.NFS4_OK {
		return st
	}
	return c.s.state.FreeStateid(&c.ticket, &a.Stateid)
}

// opOpenDowngrade serves OPEN_DOWNGRADE (RFC 8881 §18.18).
func opOpenDowngrade(c *compound) wire.Status {
	var a wire.OpenDowngradeArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	access := a.ShareAccess &^ wantMask
	if access == 0 || access > wire.OPEN4_SHARE_ACCESS_BOTH || a.ShareDeny > wire.OPEN4_SHARE_DENY_BOTH {
		return wire.NFS4ERR_INVAL
	}
	if st := c.resolve(&a.Stateid); st != wire.NFS4_OK {
		return st
	}
	return c.downgrade(&a.Stateid, access, a.ShareDeny)
}

// downgrade leaves an open what is given, and answers when nothing is copied any more that needed the rest.
func (c *compound) downgrade(id *wire.Stateid, access, deny uint32) wire.Status {
	var got wire.Stateid
	st := c.endCopies(func() (moving []wire.Stateid, st wire.Status) {
		got, moving, st = c.s.state.Downgrade(&c.ticket, id, c.file(), access, deny)
		return moving, st
	})
	return c.answerStateid(got, st)
}

// answerStateid writes a result that is a stateid and makes it the current one.
func (c *compound) answerStateid(id wire.Stateid, st wire.Status) wire.Status {
	if st != wire.NFS4_OK {
		return st
	}
	c.remember(id)
	id.Encode(c.out)
	return wire.NFS4_OK
}

// opClose serves CLOSE (RFC 8881 §18.2). Locks that were taken under the open go with it, as §18.2.3
// allows: clients cut short by a signal send CLOSE before LOCKU. The stateid of the result is the
// special one that is never valid.
func opClose(c *compound) wire.Status {
	var a wire.CloseArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if st := c.resolve(&a.Stateid); st != wire.NFS4_OK {
		return st
	}
	st := c.endCopies(func() ([]wire.Stateid, wire.Status) { return c.s.state.Close(&c.ticket, &a.Stateid, c.file()) })
	return c.answerStateid(wire.InvalidStateid, st)
}
