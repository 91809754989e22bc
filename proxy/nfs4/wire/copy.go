package wire

import "github.com/nfseal/nfseal/proxy/xdr"

// Operations of minor version 2 that move data from file to file (RFC 7862 §15): from the saved file to
// the current one.

// CloneArgs is CLONE4args (RFC 7862 §15.13). Count 0: to the source's end.
type CloneArgs struct {
	Source       Stateid
	Target       Stateid
	SourceOffset uint64
	TargetOffset uint64
	Count        uint64
}

// Decode reads the arguments.
func (a *CloneArgs) Decode(d *xdr.Decoder) {
	a.Source.Decode(d)
	a.Target.Decode(d)
	a.SourceOffset = d.Uint64()
	a.TargetOffset = d.Uint64()
	a.Count = d.Uint64()
}

// Encode writes the arguments.
func (a *CloneArgs) Encode(e *xdr.Encoder) {
	a.Source.Encode(e)
	a.Target.Encode(e)
	e.Uint64(a.SourceOffset)
	e.Uint64(a.TargetOffset)
	e.Uint64(a.Count)
}

// netloc_type4.
const (
	netlocName = 1
	netlocURL  = 2
	netlocAddr = 3
)

// CopyArgs is COPY4args (RFC 7862 §15.2). Count 0: to the source's end.
type CopyArgs struct {
	CloneArgs
	Consecutive bool
	Synchronous bool
	// Servers is how many source servers are named: not none is a copy between servers. Their names
	// are read over.
	Servers int
}

// Decode reads the arguments.
func (a *CopyArgs) Decode(d *xdr.Decoder) {
	a.CloneArgs.Decode(d)
	a.Consecutive = d.Bool()
	a.Synchronous = d.Bool()
	a.Servers = d.Count(maxSecParms, 8)
	for range a.Servers {
		switch kind := d.Uint32(); kind {
		case netlocName, netlocURL:
			d.Opaque(maxTextBytes)
		case netlocAddr:
			var addr ClientAddr
			addr.Decode(d)
		default:
			d.Fail(ErrBadUnion)
		}
	}
}

// Encode writes the arguments; a copy between servers cannot be written.
func (a *CopyArgs) Encode(e *xdr.Encoder) {
	a.CloneArgs.Encode(e)
	e.Bool(a.Consecutive)
	e.Bool(a.Synchronous)
	if a.Servers != 0 {
		e.Fail(ErrBadUnion)
	}
	e.Uint32(0)
}

// WriteResponse is write_response4: what became of a COPY, in its result or, later, in CB_OFFLOAD.
type WriteResponse struct {
	Async     bool // CallbackID is there: the copy goes on
	Callback  Stateid
	Count     uint64
	Committed StableHow
	Verifier  Verifier
}

// Decode reads a response.
func (r *WriteResponse) Decode(d *xdr.Decoder) {
	*r = WriteResponse{Async: d.Count(1, StateidBytes) == 1}
	if r.Async {
		r.Callback.Decode(d)
	}
	r.Count = d.Uint64()
	r.Committed = StableHow(d.Uint32())
	r.Verifier.Decode(d)
}

// Encode writes a response.
func (r *WriteResponse) Encode(e *xdr.Encoder) {
	e.Bool(r.Async)
	if r.Async {
		r.Callback.Encode(e)
	}
	e.Uint64(r.Count)
	e.Uint32(uint32(r.Committed))
	r.Verifier.Encode(e)
}

// CopyRequirements is copy_requirements4: the body of COPY's result with NFS4ERR_OFFLOAD_NO_REQS.
type CopyRequirements struct{ Consecutive, Synchronous bool }

// Decode reads the requirements.
func (r *CopyRequirements) Decode(d *xdr.Decoder) { r.Consecutive, r.Synchronous = d.Bool(), d.Bool() }

// Encode writes the requirements.
func (r *CopyRequirements) Encode(e *xdr.Encoder) {
	e.Bool(r.Consecutive)
	e.Bool(r.Synchronous)
}

// CopyRes is COPY4resok.
type CopyRes struct {
	Response     WriteResponse
	Requirements CopyRequirements
}

// Decode reads the result.
func (r *CopyRes) Decode(d *xdr.Decoder) {
	r.Response.Decode(d)
	r.Requirements.Decode(d)
}

// Encode writes the result.
func (r *CopyRes) Encode(e *xdr.Encoder) {
	r.Response.Encode(e)
	r.Requirements.Encode(e)
}

// OffloadArgs is OFFLOAD_CANCEL4args and OFFLOAD_STATUS4args (RFC 7862 §15.8, §15.9).
type OffloadArgs struct{ Stateid Stateid }

// Decode reads the arguments.
func (a *OffloadArgs) Decode(d *xdr.Decoder) { a.Stateid.Decode(d) }

// Encode writes the arguments.
func (a *OffloadArgs) Encode(e *xdr.Encoder) { a.Stateid.Encode(e) }

// OffloadStatusRes is OFFLOAD_STATUS4resok.
type OffloadStatusRes struct {
	Count    uint64 // bytes copied so far
	Complete bool   // Status is there
	Status   Status
}

// Decode reads the result.
func (r *OffloadStatusRes) Decode(d *xdr.Decoder) {
	*r = OffloadStatusRes{Count: d.Uint64(), Complete: d.Count(1, 4) == 1}
	if r.Complete {
		r.Status = Status(d.Uint32())
	}
}

// Encode writes the result.
func (r *OffloadStatusRes) Encode(e *xdr.Encoder) {
	e.Uint64(r.Count)
	e.Bool(r.Complete)
	if r.Complete {
		e.Uint32(uint32(r.Status))
	}
}
