package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
)

const createSessionFlags = wire.CREATE_SESSION4_FLAG_PERSIST | wire.CREATE_SESSION4_FLAG_CONN_BACK_CHAN |
	wire.CREATE_SESSION4_FLAG_CONN_RDMA

// opCreateSession serves CREATE_SESSION (RFC 8881 §18.36). The backchannel is granted if the connection can carry it and the server may
// identify itself in a way that it knows.
func opCreateSession(c *compound) wire.Status {
	var a wire.CreateSessionArgs
	a.Decode(&c.args)
	switch {
	case c.malformed():
		return wire.NFS4ERR_BADXDR
	case a.Flags&^createSessionFlags != 0:
		return wire.NFS4ERR_INVAL
	}
	auth, known := callbackAuth(a.Sec)
	req := state.CreateSessionRequest{
		ClientID:    a.ClientID,
		Sequence:    a.SequenceID,
		Principal:   c.principal,
		Fore:        channelOf(&a.Fore),
		Back:        channelOf(&a.Back),
		Backchannel: a.Flags&wire.CREATE_SESSION4_FLAG_CONN_BACK_CHAN != 0 && known && c.b.caller != nil,
		Guest:       !c.grant.Mount,
		Conn:        c.b,
		Proof:       c.proof,
	}
	res, st := c.s.state.CreateSession(&req)
	if st != wire.NFS4_OK {
		return st
	}
	c.b.noteBound(res.Bound)
	c.openBackchannel(&a, &res, auth)
	out := wire.CreateSessionRes{
		SessionID:  res.Session,
		SequenceID: res.Sequence,
		Fore:       channelAttrs(&res.Fore),
		Back:       channelAttrs(&res.Back),
	}
	if res.Backchannel {
		out.Flags = wire.CREATE_SESSION4_FLAG_CONN_BACK_CHAN
	}
	out.Encode(c.out)
	return wire.NFS4_OK
}

// openBackchannel makes the backchannel of a session, unless its creation is told once more, and binds the connection to it.
func (c *compound) openBackchannel(a *wire.CreateSessionArgs, res *state.CreateSessionResult, auth rpc.Auth) {
	var back *backchannel
	if res.Replayed {
		back = c.s.callbacks.backchannelOf(res.Session)
	} else {
		back = c.s.callbacks.openSession(res.Session, a.ClientID, c.head.MinorVersion, a, auth)
	}
	if back != nil && res.Backchannel && res.Joined && c.b.caller != nil {
		back.bind(c.b)
	}
}

func channelOf(a *wire.ChannelAttrs) state.Channel {
	return state.Channel{
		MaxRequestBytes:  a.MaxRequestSize,
		MaxResponseBytes: a.MaxResponseSize,
		MaxCachedBytes:   a.MaxResponseSizeCached,
		MaxOperations:    a.MaxOperations,
		MaxRequests:      a.MaxRequests,
	}
}

func channelAttrs(c *state.Channel) wire.ChannelAttrs {
	return wire.ChannelAttrs{
		MaxRequestSize:        c.MaxRequestBytes,
		MaxResponseSize:       c.MaxResponseBytes,
		MaxResponseSizeCached: c.MaxCachedBytes,
		MaxOperations:         c.MaxOperations,
		MaxRequests:           c.MaxRequests,
	}
}
