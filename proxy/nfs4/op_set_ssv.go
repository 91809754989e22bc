package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// sequenceArgsBytes is the length of SEQUENCE4args.
const sequenceArgsBytes = 32

// opSetSSV serves SET_SSV (RFC 8881 §18.47). The digests are over the arguments and the result of this request's SEQUENCE, with its
// status.
func opSetSSV(c *compound) wire.Status {
	var a wire.SetSSVArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	args := xdr.NewEncoder(make([]byte, 0, sequenceArgsBytes))
	c.a.sequence.Encode(&args)
	digest, st := c.s.state.SetSSV(&c.ticket, a.SSV, a.Digest, args.Bytes(), c.sequenceResult())
	if st != wire.NFS4_OK {
		return st
	}
	res := wire.SetSSVRes{Digest: digest}
	res.Encode(c.out)
	return wire.NFS4_OK
}
