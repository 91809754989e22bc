package nfs4

import (
	"errors"

	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/ssv"
)

// State protection with an SSV (RFC 8881 §2.10.8.3): docs/adr/0044-ssv.md says why it is as it is.

// SSVStats counts handles, and calls under them that were not let in.
type SSVStats = state.SSVStats

// GSSContext implements rpc.GSSHandler: the only handles are those of SSVs, of clients of this file system and of the
// connection's identity.
func (b *Binding) GSSContext(handle []byte) rpc.GSSContext {
	if h := b.s.state.Handle(handle, b.conn.Identity); h != nil {
		return h
	}
	return nil
}

// noteBound notes that the connection was bound to a session.
func (b *Binding) noteBound(bound bool) {
	if bound {
		b.enforced.Store(true)
	}
}

// enterGSS notes under whose SSV the call came. Only what protects the arguments proves anything.
func (c *compound) enterGSS() {
	context, service, bytes := c.call.GSS()
	c.requestLen, c.overhead = bytes, rpc.GSSOverheadBytes
	if service != rpc.GSSNone {
		c.proof, _ = context.(*state.Handle)
	}
}

// runGuarded is run for a client with an SSV: what it wants to be enforced must come under that. Operations that name their client
// themselves look to it by themselves.
func (c *compound) runGuarded() wire.Status {
	st := wire.NFS4_OK
	for ; c.index < c.head.Ops && st == wire.NFS4_OK; c.index++ {
		args := c.args
		op := wire.ReadOp(&args)
		def := c.lookupOp(op)
		if args.Err() == nil && op.In(c.head.MinorVersion) && !def.alone && c.ticket.Refuses(op, c.proof) {
			st = c.result(op, def, wire.NFS4ERR_WRONG_CRED)
		} else {
			st = c.step()
		}
	}
	c.out.SetLimit(c.limit)
	c.w.End(st)
	return st
}

// enforceable are the operations that may be wanted to come under the SSV alone: all but SEQUENCE, without which no first SSV could
// be set.
var enforceable = func() wire.Bitmap {
	var all wire.Bitmap
	for op := wire.OP_ACCESS; op <= lastOp; op++ {
		if op != wire.OP_SEQUENCE {
			all.Set(wire.AttrNumber(op))
		}
	}
	return all
}()

// allowable are those that may come under the SSV whoever owns the file: no mode is asked for them. All others are done as nobody.
var allowable = opsOf(wire.OP_BACKCHANNEL_CTL, wire.OP_BIND_CONN_TO_SESSION, wire.OP_CLOSE, wire.OP_CREATE_SESSION, wire.OP_DELEGRETURN,
	wire.OP_DESTROY_CLIENTID, wire.OP_DESTROY_SESSION, wire.OP_EXCHANGE_ID, wire.OP_FREE_STATEID, wire.OP_LOCKU, wire.OP_OFFLOAD_CANCEL,
	wire.OP_OFFLOAD_STATUS, wire.OP_OPEN_DOWNGRADE, wire.OP_PUTFH, wire.OP_PUTPUBFH, wire.OP_PUTROOTFH, wire.OP_RECLAIM_COMPLETE,
	wire.OP_RESTOREFH, wire.OP_SAVEFH, wire.OP_SEQUENCE, wire.OP_SET_SSV, wire.OP_TEST_STATEID)

func opsOf(ops ...wire.Op) wire.Bitmap {
	var b wire.Bitmap
	for _, op := range ops {
		b.Set(wire.AttrNumber(op))
	}
	return b
}

// protection is what can be had of the state protection that an EXCHANGE_ID asks for, nil for none, and the algorithms that were
// chosen.
func (c *compound) protection(a *wire.ExchangeIDArgs) (r *state.SSVRequest, chosen wire.SSVInfo, st wire.Status) {
	if a.Protect != wire.SP4_SSV {
		return nil, chosen, wire.NFS4_OK
	}
	p := &a.SSV
	if len(p.HashAlgs) == 0 || len(p.EncrAlgs) == 0 || p.Window == 0 || c.call.Auth.Flavor == rpc.AuthNone {
		return nil, chosen, wire.NFS4ERR_INVAL
	}
	suite, hash, encr, err := ssv.Choose(p.HashAlgs, p.EncrAlgs)
	switch {
	case errors.Is(err, ssv.ErrHash):
		return nil, chosen, wire.NFS4ERR_HASH_ALG_UNSUPP
	case err != nil:
		return nil, chosen, wire.NFS4ERR_ENCR_ALG_UNSUPP
	}
	chosen = wire.SSVInfo{HashAlg: uint32(hash), EncrAlg: uint32(encr), SSVLen: uint32(suite.SSVBytes())}
	return &state.SSVRequest{
		Suite:   suite,
		Enforce: a.Ops.MustEnforce.And(enforceable),
		Allow:   a.Ops.MustAllow.And(allowable),
		Window:  p.Window,
		Handles: p.NumHandles,
	}, chosen, wire.NFS4_OK
}

// tellProtection puts what was granted, with the algorithms that were chosen, into the result of an EXCHANGE_ID.
func tellProtection(res *wire.ExchangeIDRes, chosen wire.SSVInfo, got *state.SSVGrant) {
	if got == nil {
		return
	}
	res.Protect = wire.SP4_SSV
	res.Ops = wire.ProtectOps{MustEnforce: got.Enforce, MustAllow: got.Allow}
	chosen.Window, chosen.Handles = uint32(got.Window), got.Handles
	res.SSV = chosen
}
