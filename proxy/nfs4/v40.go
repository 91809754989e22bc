package nfs4

import (
	"hash/maphash"

	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// Minor version 0 (RFC 7530): no sessions; owners have sequences instead.

const (
	setClientIDResultBytes = 16
	lockDeniedBytes        = 8 + 8 + 4 + 8 + 4 + wire.MaxOpaqueBytes
)

// opTable40 is what minor version 0 does in another way than the others, or has alone.
var opTable40 = [opSlots]*opDef{
	wire.OP_CLOSE:               {run: opClose40, needs: needCurrent, resultBytes: wire.StateidBytes},
	wire.OP_LOCK:                {run: opLock40, needs: needCurrent, failureBody: true, resultBytes: lockDeniedBytes},
	wire.OP_LOCKT:               {run: opLockT40, needs: needCurrent, failureBody: true},
	wire.OP_LOCKU:               {run: opLockU40, needs: needCurrent, resultBytes: wire.StateidBytes},
	wire.OP_OPEN:                {run: opOpen40, needs: needCurrent, resultBytes: openResultBytes},
	wire.OP_OPEN_CONFIRM:        {run: opOpenConfirm, needs: needCurrent, resultBytes: wire.StateidBytes},
	wire.OP_OPEN_DOWNGRADE:      {run: opOpenDowngrade40, needs: needCurrent, resultBytes: wire.StateidBytes},
	wire.OP_RELEASE_LOCKOWNER:   {run: opReleaseLockOwner},
	wire.OP_RENEW:               {run: opRenew},
	wire.OP_RESTOREFH:           {run: opRestoreFH40},
	wire.OP_SECINFO:             {run: opSecinfo40, needs: needCurrent},
	wire.OP_SETCLIENTID:         {run: opSetClientID, failureBody: true, resultBytes: setClientIDResultBytes},
	wire.OP_SETCLIENTID_CONFIRM: {run: opSetClientIDConfirm},
}

// statuses40 has what minor version 0 says where the later ones have a status that it does not know.
var statuses40 = map[wire.Status]wire.Status{
	wire.NFS4ERR_WRONG_TYPE:  wire.NFS4ERR_INVAL,
	wire.NFS4ERR_REP_TOO_BIG: wire.NFS4ERR_RESOURCE,
}

// status40 translates st for a client of minor version 0.
func status40(st wire.Status) wire.Status {
	if older, ok := statuses40[st]; ok {
		return older
	}
	return st
}

// is40 says whether c is a COMPOUND of minor version 0.
func (c *compound) is40() bool { return c.head.MinorVersion == 0 }

// seqid is the place of the operation whose arguments are what was read since from, in its owner's
// sequence.
func (c *compound) seqid(n uint32, from int) state.SeqidRequest {
	who := [2]uint64{uint64(c.op), uint64(c.principal.UID)}
	return state.SeqidRequest{
		Seqid:       n,
		UID:         c.principal.UID,
		Identity:    c.principal.Identity,
		Fingerprint: maphash.Bytes(c.s.seed, c.args.Since(from)) ^ maphash.Comparable(c.s.seed, who),
	}
}

// inTurn answers an operation that has a place in a sequence, as one of state's Begin methods decided:
// a repetition gets its first answer, anything else is executed by run.
func (c *compound) inTurn(turn *state.Turn, verdict state.Verdict, st wire.Status, run func() wire.Status) wire.Status {
	switch verdict {
	case state.Refused:
		return st
	case state.Replayed:
		return c.repeat(&turn.Reply)
	}
	from := c.out.Len()
	if st == wire.NFS4_OK {
		st = status40(run())
	}
	body := c.out.Bytes()[from:]
	if st != wire.NFS4_OK && st != wire.NFS4ERR_DENIED {
		body = nil
	}
	c.s.state.End(&c.ticket, turn, st, body, c.file())
	return st
}

// repeat writes an answer that was given before. An OPEN made its file the current one.
func (c *compound) repeat(r *state.Reply) wire.Status {
	c.out.Append(r.Body)
	if c.op == wire.OP_OPEN && r.Status == wire.NFS4_OK {
		c.goTo(fileID(r.File))
	}
	return r.Status
}
