package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// opSetClientID serves SETCLIENTID (RFC 7530 §16.33). Where the client wants to be called is kept and
// not used: in minor version 0 there are no delegations (docs/adr/0032), and nothing else to call for.
func opSetClientID(c *compound) wire.Status {
	var a wire.SetClientIDArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	req := state.SetClientIDRequest{
		ID:        c.b.clientOwner(a.ID),
		Verifier:  a.Verifier,
		Principal: c.principal,
		Callback: state.Callback{
			Program: a.CBProgram, Ident: a.CBIdent, NetID: string(a.CBAddr.NetID), Addr: string(a.CBAddr.Addr),
		},
		Guest: !c.grant.Mount,
	}
	var got state.SetClientIDResult
	st := c.unblock(func() (victim wire.ClientID, st wire.Status) {
		got, victim, st = c.s.state.SetClientID(&req)
		return victim, st
	})
	switch st {
	case wire.NFS4_OK:
		res := wire.SetClientIDRes{ClientID: got.ClientID, Confirm: got.Confirm}
		res.Encode(c.out)
	case wire.NFS4ERR_CLID_INUSE:
		using := wire.ClientAddr{NetID: []byte(got.Using.NetID), Addr: []byte(got.Using.Addr)}
		using.Encode(c.out)
	}
	return st
}

// opSetClientIDConfirm serves SETCLIENTID_CONFIRM (RFC 7530 §16.34). The client's record is durable
// before the client id is confirmed.
func opSetClientIDConfirm(c *compound) wire.Status {
	var a wire.SetClientIDConfirmArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	record, st := c.s.state.ConfirmClientID(a.ClientID, a.Confirm, c.principal)
	if record != nil {
		if err := c.s.storeRecord(c.ctx, a.ClientID, record); err != nil {
			return c.fail(err)
		}
		record, st = c.s.state.ConfirmClientID(a.ClientID, a.Confirm, c.principal)
	}
	if st == wire.NFS4_OK && record != nil {
		return wire.NFS4ERR_DELAY // the client was replaced meanwhile
	}
	return st
}
