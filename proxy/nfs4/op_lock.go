package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// deny writes who is in the way.
func (c *compound) deny(d *state.Denied) wire.Status {
	res := wire.LockDenied{
		Offset: d.Offset,
		Length: d.Length,
		Type:   wire.READ_LT,
		Owner:  wire.Owner{ClientID: d.ClientID, Owner: []byte(d.Owner)},
	}
	if d.Write {
		res.Type = wire.WRITE_LT
	}
	res.Encode(c.out)
	return wire.NFS4ERR_DENIED
}

// mayLock says whether the current file is one that has byte ranges.
func (c *compound) mayLock() wire.Status {
	if st := c.know(); st != wire.NFS4_OK {
		return st
	}
	return wantRegular(c.attr.Kind)
}

// opLock serves LOCK (RFC 8881 §18.10). A client that would wait for the lock is told by a callback when
// it may have it, if it can be reached; it asks again in any case.
func opLock(c *compound) wire.Status {
	var a wire.LockArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	id := a.LockStateid
	if a.NewOwner {
		id = a.OpenStateid
	}
	if st := c.resolve(&id); st != wire.NFS4_OK {
		return st
	}
	if st := c.mayLock(); st != wire.NFS4_OK {
		return st
	}
	req := state.LockRequest{
		File: c.file(), Write: a.Type.IsWrite(), Reclaim: a.Reclaim, Waits: a.Type.Waits(), Offset: a.Offset, Length: a.Length,
		NewOwner: a.NewOwner, Stateid: id, Owner: a.Owner.Owner,
	}
	return c.lock(&req)
}

// lock carries out a LOCK of any minor version and writes its result. What is known of the file is from before the lock.
func (c *compound) lock(req *state.LockRequest) wire.Status {
	var id wire.Stateid
	var denied state.Denied
	st := c.unblock(func() (victim wire.ClientID, st wire.Status) {
		id, denied, victim, st = c.s.state.Lock(&c.ticket, req)
		return victim, st
	})
	c.fresh = false
	if st == wire.NFS4ERR_DENIED {
		return c.deny(&denied)
	}
	return c.answerStateid(id, st)
}

// opLockT serves LOCKT (RFC 8881 §18.11).
func opLockT(c *compound) wire.Status {
	var a wire.LockTArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if st := c.mayLock(); st != wire.NFS4_OK {
		return st
	}
	req := state.LockRequest{
		File: c.file(), Write: a.Type.IsWrite(), Offset: a.Offset, Length: a.Length, Owner: a.Owner.Owner,
	}
	var denied state.Denied
	st := c.unblock(func() (victim wire.ClientID, st wire.Status) {
		denied, victim, st = c.s.state.TestLock(&c.ticket, &req)
		return victim, st
	})
	if st == wire.NFS4ERR_DENIED {
		return c.deny(&denied)
	}
	return st
}

// opLockU serves LOCKU (RFC 8881 §18.12).
func opLockU(c *compound) wire.Status {
	var a wire.LockUArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if st := c.resolve(&a.Stateid); st != wire.NFS4_OK {
		return st
	}
	return c.answerStateid(c.s.state.Unlock(&c.ticket, &a.Stateid, c.file(), a.Offset, a.Length))
}
