package nfs4

import "github.com/nfseal/nfseal/proxy/nfs4/wire"

// opDestroySession serves DESTROY_SESSION (RFC 8881 §18.37). The session that the request itself
// uses can only be destroyed by the last operation.
func opDestroySession(c *compound) wire.Status {
	var a wire.DestroySessionArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if st := c.s.state.MayDestroySession(a.SessionID, c.principal.Identity, c.b, c.proof); st != wire.NFS4_OK {
		return st
	}
	if !c.inSession {
		return c.s.state.DestroySession(a.SessionID, nil)
	}
	if a.SessionID == c.a.sequence.SessionID && c.index != c.head.Ops-1 {
		return wire.NFS4ERR_NOT_ONLY_OP
	}
	return c.s.state.DestroySession(a.SessionID, &c.ticket)
}

// opDestroyClientID serves DESTROY_CLIENTID (RFC 8881 §18.50).
func opDestroyClientID(c *compound) wire.Status {
	var a wire.DestroyClientIDArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	owner, st := c.s.state.DestroyClientID(a.ClientID, c.principal.Identity, c.proof)
	if st != wire.NFS4_OK {
		return st
	}
	// A record too many does no harm but to keep the next recovery phase waiting: the client is
	// gone whether it can be deleted or not.
	if err := c.s.forget(c.ctx, owner); err != nil {
		c.fail(err)
	}
	return wire.NFS4_OK
}

// opBindConnToSession serves BIND_CONN_TO_SESSION (RFC 8881 §18.34). Without state protection any
// connection of an identity may use any session of the same, and be bound to its backchannel; with it that takes the SSV.
func opBindConnToSession(c *compound) wire.Status {
	var a wire.BindConnToSessionArgs
	a.Decode(&c.args)
	switch {
	case c.malformed():
		return wire.NFS4ERR_BADXDR
	case c.inSession:
		return wire.NFS4ERR_NOT_ONLY_OP
	case a.Dir != wire.CDFC4_FORE && a.Dir != wire.CDFC4_FORE_OR_BOTH &&
		a.Dir != wire.CDFC4_BACK && a.Dir != wire.CDFC4_BACK_OR_BOTH:
		return wire.NFS4ERR_BADXDR
	}
	bound, st := c.s.state.BindConn(a.SessionID, c.principal.Identity, c.b, a.Dir != wire.CDFC4_BACK, c.proof)
	if st != wire.NFS4_OK {
		return st
	}
	c.b.noteBound(bound)
	res := wire.BindConnToSessionRes{SessionID: a.SessionID, Dir: wire.CDFS4_FORE}
	if a.Dir != wire.CDFC4_FORE {
		back := c.s.callbacks.backchannelOf(a.SessionID)
		switch {
		case back != nil && c.b.caller != nil:
			if !back.bind(c.b) {
				return wire.NFS4ERR_BADSESSION
			}
			res.Dir = wire.CDFS4_BOTH
		case a.Dir == wire.CDFC4_BACK:
			return wire.NFS4ERR_INVAL
		}
	}
	if a.Dir == wire.CDFC4_BACK {
		res.Dir = wire.CDFS4_BACK
	}
	res.Encode(c.out)
	return wire.NFS4_OK
}

// opBackchannelCtl serves BACKCHANNEL_CTL (RFC 8881 §18.33) for the session that it comes in.
func opBackchannelCtl(c *compound) wire.Status {
	var a wire.BackchannelCtlArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	auth, known := callbackAuth(a.Sec)
	if !known {
		return wire.NFS4ERR_NOENT // no security context that could be used is there
	}
	if back := c.s.callbacks.backchannelOf(c.a.sequence.SessionID); back != nil {
		back.change(a.CBProgram, auth)
	}
	return wire.NFS4_OK
}

// opReclaimComplete serves RECLAIM_COMPLETE (RFC 8881 §18.51). The client's record is durable before
// the answer, and so before it can obtain anything. For one file system it says nothing that matters:
// none moves here.
func opReclaimComplete(c *compound) wire.Status {
	var a wire.ReclaimCompleteArgs
	a.Decode(&c.args)
	switch {
	case c.malformed():
		return wire.NFS4ERR_BADXDR
	case a.OneFS && !c.current.set:
		return wire.NFS4ERR_NOFILEHANDLE
	case a.OneFS:
		return wire.NFS4_OK
	}
	record, st := c.s.state.ReclaimComplete(&c.ticket)
	if record != nil {
		if err := c.s.storeRecord(c.ctx, c.ticket.ClientID(), record); err != nil {
			return c.fail(err)
		}
		_, st = c.s.state.ReclaimComplete(&c.ticket)
	}
	c.s.endGraceIfDue(c.ctx)
	return st
}
