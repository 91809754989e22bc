package wire

import (
	"strconv"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// Operations of the callback program, which the client serves and the server calls (RFC 8881 §20,
// RFC 7862 §16).

// CBOp is the number of an operation within a CB_COMPOUND (nfs_cb_opnum4).
type CBOp uint32

// The callback operations that are sent.
const (
	OP_CB_GETATTR     CBOp = 3
	OP_CB_RECALL      CBOp = 4
	OP_CB_RECALL_ANY  CBOp = 8
	OP_CB_RECALL_SLOT CBOp = 10
	OP_CB_SEQUENCE    CBOp = 11
	OP_CB_NOTIFY_LOCK CBOp = 13
	OP_CB_OFFLOAD     CBOp = 15
)

var cbNames = map[CBOp]string{
	OP_CB_GETATTR:     "CB_GETATTR",
	OP_CB_RECALL:      "CB_RECALL",
	OP_CB_RECALL_ANY:  "CB_RECALL_ANY",
	OP_CB_RECALL_SLOT: "CB_RECALL_SLOT",
	OP_CB_SEQUENCE:    "CB_SEQUENCE",
	OP_CB_NOTIFY_LOCK: "CB_NOTIFY_LOCK",
	OP_CB_OFFLOAD:     "CB_OFFLOAD",
}

// String returns the protocol's name of o, or its number.
func (o CBOp) String() string {
	if name := cbNames[o]; name != "" {
		return name
	}
	return "nfs_cb_opnum4(" + strconv.FormatUint(uint64(o), 10) + ")"
}

// The callback program: its number is the client's choice, its version and procedures are not.
const (
	CBVersion      = 1
	CBProcNull     = 0
	CBProcCompound = 1
)

// Types of recallable objects in CB_RECALL_ANY, as numbers of a Bitmap (RFC 8881 §20.6.3).
const (
	RCA4_TYPE_MASK_RDATA_DLG AttrNumber = 0
	RCA4_TYPE_MASK_WDATA_DLG AttrNumber = 1
)

// CBCompoundArgs is the head of CB_COMPOUND4args (RFC 8881 §20.2). After it come Ops operations, each
// with its number in front.
type CBCompoundArgs struct {
	Tag           []byte
	MinorVersion  uint32
	CallbackIdent uint32 // of 4.0
	Ops           int
}

// Decode reads the head.
func (a *CBCompoundArgs) Decode(d *xdr.Decoder) {
	a.Tag = d.Opaque(MaxTagBytes)
	a.MinorVersion = d.Uint32()
	a.CallbackIdent = d.Uint32()
	a.Ops = d.Count(MaxOps, 4)
}

// Encode writes the head.
func (a *CBCompoundArgs) Encode(e *xdr.Encoder) {
	e.Opaque(a.Tag)
	e.Uint32(a.MinorVersion)
	e.Uint32(a.CallbackIdent)
	e.Uint32(uint32(a.Ops))
}

// CBCompoundRes is the head of CB_COMPOUND4res. After it come Ops results, each with number and status
// in front: read those with ReadCBResult.
type CBCompoundRes = CompoundRes

// ReadCBResult reads number and status in front of a callback's result.
func ReadCBResult(d *xdr.Decoder) (CBOp, Status) {
	op := CBOp(d.Uint32())
	return op, Status(d.Uint32())
}

// ReferringCall names a request of the client's whose reply may be on its way, and which the callback
// has to do with (RFC 8881 §2.10.6.3).
type ReferringCall struct {
	Session  SessionID
	Sequence uint32
	Slot     uint32
}

// CBSequenceArgs is CB_SEQUENCE4args (RFC 8881 §20.9), with at most one referring call.
type CBSequenceArgs struct {
	SequenceArgs
	HasReferring bool
	Referring    ReferringCall
}

// Decode reads the arguments; of several referring calls the last one is kept.
func (a *CBSequenceArgs) Decode(d *xdr.Decoder) {
	a.SequenceArgs.Decode(d)
	a.HasReferring, a.Referring = false, ReferringCall{}
	for range d.Count(maxTextBytes/20, 20) {
		var session SessionID
		session.Decode(d)
		for range d.Count(maxTextBytes/8, 8) {
			a.HasReferring = true
			a.Referring = ReferringCall{Session: session, Sequence: d.Uint32(), Slot: d.Uint32()}
		}
	}
}

// Encode writes the arguments.
func (a *CBSequenceArgs) Encode(e *xdr.Encoder) {
	a.SequenceArgs.Encode(e)
	e.Bool(a.HasReferring)
	if a.HasReferring {
		a.Referring.Session.Encode(e)
		e.Uint32(1)
		e.Uint32(a.Referring.Sequence)
		e.Uint32(a.Referring.Slot)
	}
}

// CBSequenceRes is CB_SEQUENCE4resok.
type CBSequenceRes struct {
	SessionID         SessionID
	SequenceID        uint32
	SlotID            uint32
	HighestSlot       uint32
	TargetHighestSlot uint32
}

// Decode reads the result.
func (r *CBSequenceRes) Decode(d *xdr.Decoder) {
	r.SessionID.Decode(d)
	r.SequenceID, r.SlotID = d.Uint32(), d.Uint32()
	r.HighestSlot, r.TargetHighestSlot = d.Uint32(), d.Uint32()
}

// Encode writes the result.
func (r *CBSequenceRes) Encode(e *xdr.Encoder) {
	r.SessionID.Encode(e)
	e.Uint32(r.SequenceID)
	e.Uint32(r.SlotID)
	e.Uint32(r.HighestSlot)
	e.Uint32(r.TargetHighestSlot)
}

// CBRecallArgs is CB_RECALL4args (RFC 8881 §20.2); its result has no body.
type CBRecallArgs struct {
	Stateid  Stateid
	Truncate bool // the file is about to become empty
	Handle   []byte
}

// Decode reads the arguments.
func (a *CBRecallArgs) Decode(d *xdr.Decoder) {
	a.Stateid.Decode(d)
	a.Truncate = d.Bool()
	a.Handle = d.Opaque(MaxHandleBytes)
}

// Encode writes the arguments.
func (a *CBRecallArgs) Encode(e *xdr.Encoder) {
	a.Stateid.Encode(e)
	e.Bool(a.Truncate)
	e.Opaque(a.Handle)
}

// CBRecallAnyArgs is CB_RECALL_ANY4args (RFC 8881 §20.6): the client keeps as many objects of the types
// in Types (RCA4_) as Keep says. Its result has no body.
type CBRecallAnyArgs struct {
	Keep  uint32
	Types Bitmap
}

// Decode reads the arguments.
func (a *CBRecallAnyArgs) Decode(d *xdr.Decoder) {
	a.Keep = d.Uint32()
	a.Types.Decode(d)
}

// Encode writes the arguments.
func (a *CBRecallAnyArgs) Encode(e *xdr.Encoder) {
	e.Uint32(a.Keep)
	a.Types.Encode(e)
}

// CBRecallSlotArgs is CB_RECALL_SLOT4args (RFC 8881 §20.8): the client of the session is to use no slot
// above TargetHighestSlot. Its result has no body.
type CBRecallSlotArgs struct{ TargetHighestSlot uint32 }

// Decode reads the arguments.
func (a *CBRecallSlotArgs) Decode(d *xdr.Decoder) { a.TargetHighestSlot = d.Uint32() }

// Encode writes the arguments.
func (a *CBRecallSlotArgs) Encode(e *xdr.Encoder) { e.Uint32(a.TargetHighestSlot) }

// CBGetAttrArgs is CB_GETATTR4args (RFC 8881 §20.1).
type CBGetAttrArgs struct {
	Handle  []byte
	Request Bitmap
}

// Decode reads the arguments.
func (a *CBGetAttrArgs) Decode(d *xdr.Decoder) {
	a.Handle = d.Opaque(MaxHandleBytes)
	a.Request.Decode(d)
}

// Encode writes the arguments.
func (a *CBGetAttrArgs) Encode(e *xdr.Encoder) {
	e.Opaque(a.Handle)
	a.Request.Encode(e)
}

// CBGetAttrRes is CB_GETATTR4resok.
type CBGetAttrRes = GetAttrRes

// CBNotifyLockArgs is CB_NOTIFY_LOCK4args (RFC 8881 §20.11): a lock that Owner waits for may be had now.
// Its result has no body.
type CBNotifyLockArgs struct {
	Handle []byte
	Owner  Owner
}

// Decode reads the arguments.
func (a *CBNotifyLockArgs) Decode(d *xdr.Decoder) {
	a.Handle = d.Opaque(MaxHandleBytes)
	a.Owner.Decode(d)
}

// Encode writes the arguments.
func (a *CBNotifyLockArgs) Encode(e *xdr.Encoder) {
	e.Opaque(a.Handle)
	a.Owner.Encode(e)
}

// CBOffloadArgs is CB_OFFLOAD4args (RFC 7862 §16.1): what became of an asynchronous copy. Its result has
// no body.
type CBOffloadArgs struct {
	Handle  []byte // of the destination
	Stateid Stateid
	Status  Status
	Bytes   uint64 // copied

	// With NFS4_OK:
	Committed StableHow
	Verifier  Verifier
}

// Decode reads the arguments; the callback id that a write_response4 may have is read over.
func (a *CBOffloadArgs) Decode(d *xdr.Decoder) {
	a.Handle = d.Opaque(MaxHandleBytes)
	a.Stateid.Decode(d)
	a.Status = Status(d.Uint32())
	a.Committed, a.Verifier = 0, Verifier{}
	if a.Status != NFS4_OK {
		a.Bytes = d.Uint64()
		return
	}
	if d.Count(1, StateidBytes) == 1 {
		d.Fixed(StateidBytes)
	}
	a.Bytes = d.Uint64()
	a.Committed = StableHow(d.Uint32())
	a.Verifier.Decode(d)
}

// Encode writes the arguments.
func (a *CBOffloadArgs) Encode(e *xdr.Encoder) {
	e.Opaque(a.Handle)
	a.Stateid.Encode(e)
	e.Uint32(uint32(a.Status))
	if a.Status == NFS4_OK {
		e.Uint32(0)
	}
	e.Uint64(a.Bytes)
	if a.Status == NFS4_OK {
		e.Uint32(uint32(a.Committed))
		a.Verifier.Encode(e)
	}
}
