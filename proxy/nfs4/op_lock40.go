package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// opLock40 serves LOCK in minor version 0 (RFC 7530 §16.10). A lock that the client would wait for is
// answered like one that it would not: it asks again.
func opLock40(c *compound) wire.Status {
	from := c.args.Offset()
	var a wire.LockArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if !a.NewOwner {
		return c.ownerTurn(&a.LockStateid, a.LockSeqid, from, true, false, func(*state.Turn) wire.Status {
			return c.lock40(&a, a.LockStateid)
		})
	}
	var turn state.Turn
	req := c.seqid(a.OpenSeqid, from)
	verdict, st := c.s.state.BeginLock(&a.OpenStateid, &req, a.Owner.Owner, a.LockSeqid, &c.ticket, &turn)
	return c.inTurn(&turn, verdict, st, func() wire.Status { return c.lock40(&a, a.OpenStateid) })
}

// lock40 carries out a LOCK in its turn.
func (c *compound) lock40(a *wire.LockArgs, id wire.Stateid) wire.Status {
	if a.NewOwner && a.Owner.ClientID != c.ticket.ClientID() {
		return wire.NFS4ERR_BAD_STATEID
	}
	if st := c.mayLock(); st != wire.NFS4_OK {
		return st
	}
	req := state.LockRequest{
		File: c.file(), Write: a.Type.IsWrite(), Reclaim: a.Reclaim, Offset: a.Offset, Length: a.Length,
		NewOwner: a.NewOwner, Stateid: id, Owner: a.Owner.Owner,
	}
	return c.lock(&req)
}

// opLockT40 serves LOCKT in minor version 0 (RFC 7530 §16.11).
func opLockT40(c *compound) wire.Status {
	peek := c.args
	var a wire.LockTArgs
	a.Decode(&peek)
	if peek.Err() == nil {
		if st := c.s.state.EnterClient(a.Owner.ClientID, c.principal.Identity, !c.grant.Mount, &c.ticket); st != wire.NFS4_OK {
			return st
		}
	}
	return opLockT(c)
}

// opLockU40 serves LOCKU in minor version 0 (RFC 7530 §16.12).
func opLockU40(c *compound) wire.Status {
	from := c.args.Offset()
	var a wire.LockUArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	return c.ownerTurn(&a.Stateid, a.Seqid, from, true, false, func(*state.Turn) wire.Status {
		return c.answerStateid(c.s.state.Unlock(&c.ticket, &a.Stateid, c.file(), a.Offset, a.Length))
	})
}
