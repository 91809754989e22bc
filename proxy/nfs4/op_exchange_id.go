package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// exchangeFlags are what each minor version lets a client set in EXCHANGE_ID: SUPP_FENCE_OPS is of minor version 2 (RFC 7862
// §14.1), and does not show in the answer, as there are no layouts to fence.
var exchangeFlags = [maxMinorVersion + 1]uint32{
	1: wire.EXCHGID4_FLAG_MASK_A &^ wire.EXCHGID4_FLAG_SUPP_FENCE_OPS,
	2: wire.EXCHGID4_FLAG_MASK_A,
}

// opExchangeID serves EXCHANGE_ID (RFC 8881 §18.35).
func opExchangeID(c *compound) wire.Status {
	var a wire.ExchangeIDArgs
	a.Decode(&c.args)
	switch {
	case c.malformed():
		return wire.NFS4ERR_BADXDR
	case a.Flags&^exchangeFlags[c.head.MinorVersion] != 0 || len(a.OwnerID) == 0:
		return wire.NFS4ERR_INVAL
	case a.Protect == wire.SP4_MACH_CRED:
		return wire.NFS4ERR_INVAL // needs RPCSEC_GSS
	}
	protection, chosen, st := c.protection(&a)
	if st != wire.NFS4_OK {
		return st
	}
	req := state.ExchangeIDRequest{
		Owner:     c.b.clientOwner(a.OwnerID),
		Verifier:  a.Verifier,
		Principal: c.principal,
		Update:    a.Flags&wire.EXCHGID4_FLAG_UPD_CONFIRMED_REC_A != 0,
		Guest:     !c.grant.Mount,
		SSV:       protection,
		Proof:     c.proof,
	}
	var got state.ExchangeIDResult
	st = c.unblock(func() (victim wire.ClientID, st wire.Status) {
		got, victim, st = c.s.state.ExchangeID(&req)
		return victim, st
	})
	if st != wire.NFS4_OK {
		return st
	}
	res := wire.ExchangeIDRes{
		ClientID:    got.ClientID,
		SequenceID:  got.Sequence,
		Flags:       wire.EXCHGID4_FLAG_USE_NON_PNFS,
		ServerMajor: c.b.serverOwner,
		ServerScope: c.s.opt.ServerScope,
	}
	if got.Confirmed {
		res.Flags |= wire.EXCHGID4_FLAG_CONFIRMED_R
	}
	tellProtection(&res, chosen, got.SSV)
	res.Encode(c.out)
	return wire.NFS4_OK
}
