package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

var _ rpc.QuickHandler = (*Binding)(nil)

// maxQuickRead is the longest READ that is handled before anything else is looked at.
const maxQuickRead = 16 << 10

// Quick implements rpc.QuickHandler: it knows the requests that clients send most, whose answers are
// usually in memory. They are SEQUENCE, PUTFH and then something that changes nothing.
func (b *Binding) Quick(call *rpc.Call) bool {
	if call.Program != wire.Program || call.Procedure != wire.ProcCompound {
		return call.Procedure == wire.ProcNull
	}
	args := call.Args // a copy: the cursor of the call stays where it is
	var head wire.CompoundArgs
	head.Decode(&args)
	if args.Err() != nil || head.Ops == 0 {
		return false
	}
	left := head.Ops
	op := wire.ReadOp(&args)
	if op == wire.OP_SEQUENCE {
		var sequence wire.SequenceArgs
		sequence.Decode(&args)
		if left--; left == 0 {
			return true
		}
		op = wire.ReadOp(&args)
	}
	if op == wire.OP_PUTFH && left > 1 {
		var file wire.PutFHArgs
		file.Decode(&args)
		op = wire.ReadOp(&args)
	}
	return args.Err() == nil && quickOp(op, &args)
}

// quickOp says whether op, whose arguments come next, is a quick one.
func quickOp(op wire.Op, args *xdr.Decoder) bool {
	switch op {
	case wire.OP_GETATTR, wire.OP_ACCESS, wire.OP_LOOKUP, wire.OP_GETFH, wire.OP_VERIFY, wire.OP_NVERIFY:
		return true
	case wire.OP_READ:
		var read wire.ReadArgs
		read.Decode(args)
		return args.Err() == nil && read.Count <= maxQuickRead
	}
	return false
}
