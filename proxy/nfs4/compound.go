package nfs4

import (
	"context"

	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// place is what the current and the saved filehandle are: a file, and the stateid that goes with it
// (RFC 8881 §16.2.3.1).
type place struct {
	set        bool
	threshold  bool // threshold.go; it has no id
	id         vfs.FileID
	hasStateid bool
	stateid    wire.Stateid
}

// compound is a COMPOUND being executed. It is pooled, and all that an operation needs on its usual
// path is in it, so that nothing is allocated there. It belongs to one goroutine.
type compound struct {
	s    *Service
	b    *Binding
	ctx  context.Context
	call *rpc.Call
	args xdr.Decoder
	out  *xdr.Encoder
	w    wire.CompoundWriter
	head wire.CompoundArgs

	// Of a call with RPCSEC_GSS.
	proof    *state.Handle // that it came under, with integrity or privacy; else nil
	overhead int           // by how much the reply grows yet

	grant     Grant
	cred      vfs.Cred
	groups    [rpc.MaxGroups]uint32
	principal state.Principal

	op         wire.Op // being executed
	index      int     // its place in the COMPOUND
	at         int     // where its result begins
	inSession  bool
	ticket     state.Ticket
	replyStart int // where the COMPOUND begins in out, behind the RPC header
	requestLen int
	limit      int // of out's length
	tooBig     wire.Status

	current place
	saved   place
	// attr is the current file's attributes if fresh; an operation that changes the file, or goes
	// to another, says otherwise.
	attr  vfs.Attr
	fresh bool

	// Room for the operations' arguments and results.
	handle     handle
	entry      handle // of a directory entry
	setAttr    vfs.SetAttr
	statFS     vfs.StatFS
	outAttrs   wire.Attrs // its constants are filled in
	readWriter wire.ReadWriter
	plus       readingPlus

	// For requests in sessions that must not be carried out twice (marks.go).
	operations xdr.Decoder // at the operations behind SEQUENCE
	markKey    markKey
	marking    vfs.MarkContext
	carriedOut []carriedOut   // of this COMPOUND, those that left marks
	repeating  *formerRequest // not nil: this is a retry from before the start (again.go)

	// For requests of minor version 0 that may come twice (once.go).
	xid      uint32
	whole    xdr.Decoder // over all of the arguments
	first40  *onceEntry  // to be finished
	repeated []byte      // the reply, if there was one before
	sequence state.SequenceRequest
	a        arguments
}

// arguments is room for what the operations decode.
type arguments struct {
	sequence wire.SequenceArgs
	putFH    wire.PutFHArgs
	getAttr  wire.GetAttrArgs
	access   wire.AccessArgs
	read     wire.ReadArgs
	write    wire.WriteArgs
	setAttr  wire.SetAttrArgs
	open     wire.OpenArgs
	create   wire.CreateArgs
	verify   wire.VerifyArgs
	commit   wire.CommitArgs
}

func newCompound(s *Service) *compound {
	c := &compound{s: s, outAttrs: s.constants}
	c.outAttrs.ACL = make([]wire.ACE, 0, maxModeACEs)
	return c
}

// release gives c back to the pool without anything of the call.
func (c *compound) release() {
	c.b, c.ctx, c.call, c.out = nil, nil, nil, nil
	c.args, c.whole, c.operations = xdr.Decoder{}, xdr.Decoder{}, xdr.Decoder{}
	c.marking.Context = nil
	c.w = wire.CompoundWriter{}
	c.head = wire.CompoundArgs{}
	c.principal = state.Principal{}
	c.proof, c.overhead, c.sequence.Conn = nil, 0, nil
	c.a = arguments{}
	c.s.compounds.Put(c)
}

// serve executes one COMPOUND (RFC 8881 §16.2).
func (c *compound) serve(ctx context.Context, b *Binding, call *rpc.Call, out *xdr.Encoder) {
	c.b, c.ctx, c.call, c.out, c.args, c.grant = b, ctx, call, out, call.Args, *b.grant.Load()
	c.xid, c.whole = call.XID, call.Args
	c.requestLen = c.args.Offset() + c.args.Remaining()
	c.head.Decode(&c.args)
	if c.args.Err() != nil {
		call.GarbageArgs(out)
		return
	}
	c.identify(&call.Auth)
	if call.Auth.Flavor == rpc.AuthGSS {
		c.enterGSS()
	}
	c.current, c.saved, c.fresh = place{}, place{}, false
	c.inSession, c.index, c.carriedOut = false, 0, c.carriedOut[:0]
	c.limit, c.tooBig = out.Limit(), wire.NFS4ERR_REP_TOO_BIG
	call.Succeed(out)
	c.replyStart = out.Len()
	c.w.Begin(out, c.head.Tag)
	if c.head.MinorVersion > maxMinorVersion {
		c.w.End(wire.NFS4ERR_MINOR_VERS_MISMATCH)
		return
	}
	c.speak()
	switch {
	case c.head.Ops == 0:
		c.w.End(wire.NFS4_OK)
	case !c.is40():
		c.first()
	case c.overhead > 0: // an SSV is of a client with sessions
		c.w.End(wire.NFS4ERR_MINOR_VERS_MISMATCH)
	case c.head.Ops > c.s.opt.Limits.CompoundOps:
		c.w.End(wire.NFS4ERR_RESOURCE)
	default:
		c.tooBig = wire.NFS4ERR_RESOURCE
		c.run40()
	}
}

// first executes the operation that decides about the others: SEQUENCE, or one of the few that are
// allowed without a session and then alone (RFC 8881 §2.10.6.4).
func (c *compound) first() {
	args := c.args
	op := wire.ReadOp(&args)
	if op == wire.OP_SEQUENCE {
		c.args = args
		c.sequenceFirst()
		return
	}
	switch def := c.lookupOp(op); {
	case args.Err() != nil || !op.In(c.head.MinorVersion):
		c.run() // says so
	case !def.alone:
		c.refuse(op, wire.NFS4ERR_OP_NOT_IN_SESSION)
	case c.head.Ops != 1:
		c.refuse(op, wire.NFS4ERR_NOT_ONLY_OP)
	default:
		c.run()
	}
}

// refuse ends the compound with the failure of its first operation, unexecuted.
func (c *compound) refuse(op wire.Op, st wire.Status) {
	c.at = c.w.BeginOp(op)
	c.w.EndOp(c.at, st)
	c.w.End(st)
	c.s.counters[slotOf(op)].add(st)
}

// sequenceFirst executes SEQUENCE, and what follows it if it lets it.
func (c *compound) sequenceFirst() {
	c.at = c.w.BeginOp(wire.OP_SEQUENCE)
	verdict, st := c.enterSession()
	c.s.counters[slotOf(wire.OP_SEQUENCE)].add(st)
	switch verdict {
	case state.Execute:
		c.inSession = true
		c.index = 1
		if c.ticket.Restarted { // or a mark from before could pass for that of a request to come
			key := markKeyOf(c.a.sequence.SessionID, c.a.sequence.SlotID)
			c.s.forgetMarks(c.ctx, key[:])
		}
		if c.ticket.Guarded() {
			st = c.runGuarded()
		} else {
			st = c.run()
		}
		c.s.state.Finish(&c.ticket, c.out.Bytes()[c.replyStart:], st != wire.NFS4_OK)
	case state.Replayed:
		c.out.Truncate(c.replyStart)
		c.out.Append(c.ticket.Reply)
		if !c.ticket.Signed() {
			c.tellSlots(c.out.Bytes()[c.replyStart:])
		}
		c.ticket = state.Ticket{}
	case state.Uncached:
		c.uncached()
		c.ticket = state.Ticket{}
	default:
		if st == wire.NFS4ERR_BADSESSION && c.repeatFormer() {
			return
		}
		c.w.EndOp(c.at, st)
		c.w.End(st)
	}
}

// uncached answers a retry whose reply was not kept: SEQUENCE succeeds, and what follows it does not.
func (c *compound) uncached() {
	const st = wire.NFS4ERR_RETRY_UNCACHED_REP
	if c.head.Ops == 1 {
		c.w.Rewind(c.at)
		c.w.EndOp(c.at, st)
		c.w.End(st)
		return
	}
	c.w.EndOp(c.at, wire.NFS4_OK)
	op := wire.ReadOp(&c.args)
	c.at = c.w.BeginOp(op)
	c.w.EndOp(c.at, st)
	c.w.End(st)
}

// run executes operations until one fails, and returns its status.
func (c *compound) run() wire.Status {
	st := wire.NFS4_OK
	for ; c.index < c.head.Ops && st == wire.NFS4_OK; c.index++ {
		st = c.step()
	}
	c.out.SetLimit(c.limit)
	c.w.End(st)
	return st
}

// step executes one operation and writes its result.
func (c *compound) step() wire.Status {
	op := wire.ReadOp(&c.args)
	if c.malformed() {
		return c.result(wire.OP_ILLEGAL, c.lookupOp(wire.OP_ILLEGAL), wire.NFS4ERR_BADXDR)
	}
	def := c.lookupOp(op)
	switch {
	case !op.In(c.head.MinorVersion):
		return c.result(wire.OP_ILLEGAL, def, wire.NFS4ERR_OP_ILLEGAL)
	case def.run == nil:
		return c.result(op, def, wire.NFS4ERR_NOTSUPP)
	}
	return c.result(op, def, wire.NFS4_OK)
}

// result writes the result of op: of executing it if st is NFS4_OK, else of failing with st.
func (c *compound) result(op wire.Op, def *opDef, st wire.Status) wire.Status {
	c.op = op
	c.out.SetLimit(c.limit)
	c.at = c.w.BeginOp(op)
	if c.index < c.head.Ops-1 {
		c.out.SetLimit(c.limit - tailBytes)
	}
	if st == wire.NFS4_OK {
		st = c.execute(op, def)
	}
	if c.is40() {
		st = status40(st)
		c.s.state.Leave(&c.ticket)
	}
	if c.out.Err() != nil || c.out.Len() > c.out.Limit() {
		st = c.tooBig
		c.w.Rewind(c.at)
	} else if st != wire.NFS4_OK && !def.failureBody {
		c.w.Rewind(c.at)
	}
	if op == wire.OP_SETATTR && c.out.Len() == c.at+resultHeaderBytes {
		c.out.SetLimit(c.limit)
		wire.Bitmap{}.Encode(c.out) // attrsset is there whatever happens
	}
	c.w.EndOp(c.at, st)
	c.s.counters[slotOf(op)].add(st)
	return st
}

// resultHeaderBytes is the number and the status in front of a result.
const resultHeaderBytes = 8

// execute runs an operation that is served, or answers for one that was carried out before.
func (c *compound) execute(op wire.Op, def *opDef) wire.Status {
	if c.repeating != nil {
		return c.executeAgain(op, def)
	}
	if st := c.admit(def); st != wire.NFS4_OK {
		return st
	}
	st := def.run(c)
	if st == wire.NFS4_OK {
		c.noteMark()
	}
	return st
}

// admit says what is missing for an operation to be executed at all.
func (c *compound) admit(def *opDef) wire.Status {
	switch {
	case def.needs&needCurrent != 0 && !c.current.set:
		return wire.NFS4ERR_NOFILEHANDLE
	case def.needs&needSaved != 0 && !c.saved.set:
		return wire.NFS4ERR_NOFILEHANDLE
	case c.refusesThreshold(def):
		return wire.NFS4ERR_ACCESS
	case def.modifies && !c.grant.Write:
		return wire.NFS4ERR_ROFS
	case !c.out.Provide(def.resultBytes):
		return c.tooBig // before anything has happened
	case len(c.carriedOut) == maxMarks && repeats[c.op] != nil:
		return wire.NFS4ERR_TOO_MANY_OPS
	case c.is40():
		return c.admit40(def)
	}
	return wire.NFS4_OK
}

// malformed says whether the arguments could not be decoded.
func (c *compound) malformed() bool { return c.args.Err() != nil }

// fail translates an error of the file system, and reports it if it is one to be reported.
func (c *compound) fail(err error) wire.Status {
	st, sev := translate(err)
	if sev == expected {
		return st
	}
	return c.s.storageError(c.op.String(), err)
}
