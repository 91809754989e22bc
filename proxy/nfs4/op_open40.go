package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// opOpen40 serves OPEN in minor version 0 (RFC 7530 §16.16), which gives no delegations.
func opOpen40(c *compound) wire.Status {
	from := c.args.Offset()
	a := &c.a.open
	a.Decode(&c.args)
	if c.malformed() || a.Claim > wire.CLAIM_DELEGATE_PREV || a.Create && a.CreateMode > wire.EXCLUSIVE4 {
		return wire.NFS4ERR_BADXDR
	}
	var turn state.Turn
	req := c.seqid(a.Seqid, from)
	verdict, st := c.s.state.BeginOpen(a.Owner.ClientID, a.Owner.Owner, &req, &c.ticket, &turn)
	return c.inTurn(&turn, verdict, st, func() wire.Status { return c.open40(&turn) })
}

// open40 carries out c.a.open in its turn.
func (c *compound) open40(turn *state.Turn) wire.Status {
	o := opening{a: &c.a.open, access: c.a.open.ShareAccess}
	if o.access&wantMask != 0 {
		return wire.NFS4ERR_INVAL
	}
	res, st := c.openFile(&o)
	if st != wire.NFS4_OK {
		return st
	}
	c.arrive()
	out := wire.OpenRes{
		Stateid: res.Stateid,
		Dir:     changed(o.dir),
		Flags:   wire.OPEN4_RESULT_LOCKTYPE_POSIX,
		Set:     o.done,
	}
	if c.s.state.NeedsConfirm(turn, o.a.Claim == wire.CLAIM_PREVIOUS) {
		out.Flags |= wire.OPEN4_RESULT_CONFIRM
	}
	out.Encode(c.out)
	return wire.NFS4_OK
}

// opOpenConfirm serves OPEN_CONFIRM (RFC 7530 §16.18).
func opOpenConfirm(c *compound) wire.Status {
	from := c.args.Offset()
	var a wire.OpenConfirmArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	return c.ownerTurn(&a.Stateid, a.Seqid, from, false, true, func(turn *state.Turn) wire.Status {
		return c.answerStateid(c.s.state.ConfirmOpen(&c.ticket, turn, &a.Stateid, c.file()))
	})
}

// opOpenDowngrade40 serves OPEN_DOWNGRADE in minor version 0 (RFC 7530 §16.19).
func opOpenDowngrade40(c *compound) wire.Status {
	from := c.args.Offset()
	var a wire.OpenDowngradeArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	return c.ownerTurn(&a.Stateid, a.Seqid, from, false, false, func(*state.Turn) wire.Status {
		if a.ShareAccess == 0 || a.ShareAccess > wire.OPEN4_SHARE_ACCESS_BOTH || a.ShareDeny > wire.OPEN4_SHARE_DENY_BOTH {
			return wire.NFS4ERR_INVAL
		}
		return c.downgrade(&a.Stateid, a.ShareAccess, a.ShareDeny)
	})
}

// opClose40 serves CLOSE in minor version 0 (RFC 7530 §16.2). Locks go with the open.
func opClose40(c *compound) wire.Status {
	from := c.args.Offset()
	var a wire.CloseArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	return c.ownerTurn(&a.Stateid, a.Seqid, from, false, false, func(turn *state.Turn) wire.Status {
		return c.answerStateid(c.s.state.CloseOwn(&c.ticket, turn, &a.Stateid, c.file()))
	})
}

// ownerTurn does something in the turn of the owner that stateid id belongs to. from is where the
// arguments begin; lock and confirming are as for state.Machine.BeginOwn.
func (c *compound) ownerTurn(id *wire.Stateid, seqid uint32, from int, lock, confirming bool,
	do func(turn *state.Turn) wire.Status) wire.Status {
	var turn state.Turn
	req := c.seqid(seqid, from)
	verdict, st := c.s.state.BeginOwn(id, &req, lock, confirming, &c.ticket, &turn)
	return c.inTurn(&turn, verdict, st, func() wire.Status { return do(&turn) })
}
