package nfs4

import "github.com/nfseal/nfseal/proxy/nfs4/wire"

// opRenew serves RENEW (RFC 7530 §16.28).
func opRenew(c *compound) wire.Status {
	var a wire.RenewArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	return c.s.state.EnterClient(a.ClientID, c.principal.Identity, !c.grant.Mount, &c.ticket) // left in result
}

// opReleaseLockOwner serves RELEASE_LOCKOWNER (RFC 7530 §16.37).
func opReleaseLockOwner(c *compound) wire.Status {
	var a wire.ReleaseLockOwnerArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if st := c.s.state.EnterClient(a.Owner.ClientID, c.principal.Identity, !c.grant.Mount, &c.ticket); st != wire.NFS4_OK {
		return st
	}
	return c.s.state.ReleaseLockOwner(&c.ticket, a.Owner.Owner)
}
