package wire

import "github.com/nfseal/nfseal/proxy/xdr"

// CompoundArgs is the head of COMPOUND4args (RFC 8881 §16.2). After it come Ops operations, each with
// its number in front: read that with ReadOp.
type CompoundArgs struct {
	Tag          []byte // points into the record; answered as it came
	MinorVersion uint32
	Ops          int
}

// Decode reads the head.
func (a *CompoundArgs) Decode(d *xdr.Decoder) {
	a.Tag = d.Opaque(MaxTagBytes)
	a.MinorVersion = d.Uint32()
	a.Ops = d.Count(MaxOps, 4)
}

// Encode writes the head.
func (a *CompoundArgs) Encode(e *xdr.Encoder) {
	e.Opaque(a.Tag)
	e.Uint32(a.MinorVersion)
	e.Uint32(uint32(a.Ops))
}

// ReadOp reads the number of the next operation.
func ReadOp(d *xdr.Decoder) Op { return Op(d.Uint32()) }

// CompoundRes is the head of COMPOUND4res. After it come Ops results, each with the operation's number
// and status in front.
type CompoundRes struct {
	Status Status
	Tag    []byte
	Ops    int
}

// Decode reads the head.
func (r *CompoundRes) Decode(d *xdr.Decoder) {
	r.Status = Status(d.Uint32())
	r.Tag = d.Opaque(MaxTagBytes)
	r.Ops = d.Count(MaxOps, 8)
}

// Encode writes the head.
func (r *CompoundRes) Encode(e *xdr.Encoder) {
	e.Uint32(uint32(r.Status))
	e.Opaque(r.Tag)
	e.Uint32(uint32(r.Ops))
}

// CompoundWriter writes a COMPOUND4res whose status and number of results are known only at its end.
//
//	w.Begin(e, tag)
//	at := w.BeginOp(OP_GETATTR)
//	...                         results, if any
//	w.EndOp(at, status)         sets the status in front of them
//	w.End(status)
type CompoundWriter struct {
	e        *xdr.Encoder
	statusAt int
	countAt  int
	ops      int
}

// Begin writes the head with room for status and count. A tag must be at most MaxTagBytes.
func (w *CompoundWriter) Begin(e *xdr.Encoder, tag []byte) {
	w.e, w.ops = e, 0
	w.statusAt = e.Len()
	e.Uint32(uint32(NFS4_OK))
	e.Opaque(tag)
	w.countAt = e.Len()
	e.Uint32(0)
}

// BeginOp starts the result of op and returns its place for EndOp and Rewind.
func (w *CompoundWriter) BeginOp(op Op) (at int) {
	at = w.e.Len()
	w.e.Uint32(uint32(op))
	w.e.Uint32(uint32(NFS4_OK))
	return at
}

// EndOp finishes the result that began at at.
func (w *CompoundWriter) EndOp(at int, s Status) {
	w.e.PutUint32At(at+4, uint32(s))
	w.ops++
}

// Rewind drops what was written for the result that began at at, except for number and status: for an
// operation that fails after it began to write, or whose result did not fit.
func (w *CompoundWriter) Rewind(at int) { w.e.Truncate(at + 8) }

// Ops is how many results have been finished.
func (w *CompoundWriter) Ops() int { return w.ops }

// End sets the status of the whole and the number of results.
func (w *CompoundWriter) End(s Status) {
	w.e.PutUint32At(w.statusAt, uint32(s))
	w.e.PutUint32At(w.countAt, uint32(w.ops))
}

// ReadResult reads number and status in front of a result.
func ReadResult(d *xdr.Decoder) (Op, Status) {
	op := Op(d.Uint32())
	return op, Status(d.Uint32())
}
