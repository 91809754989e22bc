package wire

import "github.com/nfseal/nfseal/proxy/xdr"

// Operations on filehandles, attributes and data. PUTROOTFH, PUTPUBFH, SAVEFH, RESTOREFH and LOOKUPP
// have neither arguments nor a body of results; GETFH and READLINK have no arguments.

// Bits of ACCESS (RFC 8881 §18.1, RFC 8276 §8.4.1).
const (
	ACCESS4_READ    = 0x01
	ACCESS4_LOOKUP  = 0x02
	ACCESS4_MODIFY  = 0x04
	ACCESS4_EXTEND  = 0x08
	ACCESS4_DELETE  = 0x10
	ACCESS4_EXECUTE = 0x20
	ACCESS4_XAREAD  = 0x40
	ACCESS4_XAWRITE = 0x80
	ACCESS4_XALIST  = 0x100
)

// PutFHArgs is PUTFH4args (RFC 8881 §18.19), and the body of GETFH's result (§18.8).
type PutFHArgs struct{ Handle []byte }

// GetFHRes is GETFH4resok.
type GetFHRes = PutFHArgs

// Decode reads a filehandle of at most MaxHandleBytes.
func (a *PutFHArgs) Decode(d *xdr.Decoder) { a.Handle = d.Opaque(MaxHandleBytes) }

// Encode writes a filehandle.
func (a *PutFHArgs) Encode(e *xdr.Encoder) { e.Opaque(a.Handle) }

// GetAttrArgs is GETATTR4args (RFC 8881 §18.7). Numbers that Bitmap has no room for are gone: a server
// would not answer them.
type GetAttrArgs struct{ Request Bitmap }

// Decode reads the arguments.
func (a *GetAttrArgs) Decode(d *xdr.Decoder) { a.Request.Decode(d) }

// Encode writes the arguments.
func (a *GetAttrArgs) Encode(e *xdr.Encoder) { a.Request.Encode(e) }

// GetAttrRes is GETATTR4resok.
type GetAttrRes struct{ Attrs Attrs }

// Decode reads the result.
func (r *GetAttrRes) Decode(d *xdr.Decoder) { r.Attrs.Decode(d) }

// Encode writes the result.
func (r *GetAttrRes) Encode(e *xdr.Encoder) { r.Attrs.Encode(e) }

// SetAttrArgs is SETATTR4args (RFC 8881 §18.30).
type SetAttrArgs struct {
	Stateid Stateid
	Attrs   Attrs
}

// Decode reads the arguments. Attrs.Unknown means NFS4ERR_ATTRNOTSUPP.
func (a *SetAttrArgs) Decode(d *xdr.Decoder) {
	a.Stateid.Decode(d)
	a.Attrs.Decode(d)
}

// Encode writes the arguments.
func (a *SetAttrArgs) Encode(e *xdr.Encoder) {
	a.Stateid.Encode(e)
	a.Attrs.Encode(e)
}

// SetAttrRes is the body of SETATTR4res, which is there whatever the status is.
type SetAttrRes struct{ Set Bitmap }

// Decode reads the result.
func (r *SetAttrRes) Decode(d *xdr.Decoder) { r.Set.Decode(d) }

// Encode writes the result.
func (r *SetAttrRes) Encode(e *xdr.Encoder) { r.Set.Encode(e) }

// VerifyArgs is VERIFY4args and NVERIFY4args (RFC 8881 §18.31, §18.15). Compare Attrs.Raw with the
// encoding of the server's own attributes for the same mask.
type VerifyArgs struct{ Attrs Attrs }

// Decode reads the arguments. Attrs.Unknown means NFS4ERR_ATTRNOTSUPP.
func (a *VerifyArgs) Decode(d *xdr.Decoder) { a.Attrs.Decode(d) }

// Encode writes the arguments.
func (a *VerifyArgs) Encode(e *xdr.Encoder) { a.Attrs.Encode(e) }

// AccessArgs is ACCESS4args (RFC 8881 §18.1).
type AccessArgs struct{ Access uint32 }

// Decode reads the arguments.
func (a *AccessArgs) Decode(d *xdr.Decoder) { a.Access = d.Uint32() }

// Encode writes the arguments.
func (a *AccessArgs) Encode(e *xdr.Encoder) { e.Uint32(a.Access) }

// AccessRes is ACCESS4resok.
type AccessRes struct{ Supported, Access uint32 }

// Decode reads the result.
func (r *AccessRes) Decode(d *xdr.Decoder) { r.Supported, r.Access = d.Uint32(), d.Uint32() }

// Encode writes the result.
func (r *AccessRes) Encode(e *xdr.Encoder) {
	e.Uint32(r.Supported)
	e.Uint32(r.Access)
}

// ReadArgs is READ4args (RFC 8881 §18.22).
type ReadArgs struct {
	Stateid Stateid
	Offset  uint64
	Count   uint32
}

// Decode reads the arguments.
func (a *ReadArgs) Decode(d *xdr.Decoder) {
	a.Stateid.Decode(d)
	a.Offset = d.Uint64()
	a.Count = d.Uint32()
}

// Encode writes the arguments.
func (a *ReadArgs) Encode(e *xdr.Encoder) {
	a.Stateid.Encode(e)
	e.Uint64(a.Offset)
	e.Uint32(a.Count)
}

// ReadRes is READ4resok. A server that has not got the data yet uses ReadWriter instead of Encode.
type ReadRes struct {
	EOF  bool
	Data []byte
}

// Decode reads the result; Data points into the record.
func (r *ReadRes) Decode(d *xdr.Decoder) {
	r.EOF = d.Bool()
	r.Data = d.Opaque(maxTextBytes)
}

// Encode writes the result.
func (r *ReadRes) Encode(e *xdr.Encoder) {
	e.Bool(r.EOF)
	e.Opaque(r.Data)
}

// ReadWriter writes a READ4resok whose data is put in place after its room was made.
type ReadWriter struct {
	e  *xdr.Encoder
	at int // of the eof flag
}

// Begin makes room for count bytes, which the caller fills from the start; nil if they do not fit, and
// e is in error then. Nothing else may be written to e before End.
func (w *ReadWriter) Begin(e *xdr.Encoder, count int) []byte {
	w.e, w.at = e, e.Len()
	e.Bool(false)
	_, p := e.ReserveOpaque(count)
	return p
}

// End keeps the first n bytes.
func (w *ReadWriter) End(n int, eof bool) {
	if eof {
		w.e.PutUint32At(w.at, 1)
	}
	w.e.TrimOpaque(w.at+4, n)
}

// Lent writes the result for n bytes that are sent from elsewhere: behind it nothing else is written.
func (w *ReadWriter) Lent(e *xdr.Encoder, n int, eof bool) {
	e.Bool(eof)
	e.Uint32(uint32(n))
}

// WriteArgs is WRITE4args (RFC 8881 §18.32).
type WriteArgs struct {
	Stateid Stateid
	Offset  uint64
	Stable  StableHow
	Data    []byte // points into the record
}

// Decode reads the arguments.
func (a *WriteArgs) Decode(d *xdr.Decoder) {
	a.Stateid.Decode(d)
	a.Offset = d.Uint64()
	a.Stable = StableHow(d.Uint32())
	if a.Stable > FILE_SYNC4 {
		d.Fail(ErrBadUnion)
	}
	a.Data = d.Opaque(maxTextBytes)
}

// Encode writes the arguments.
func (a *WriteArgs) Encode(e *xdr.Encoder) {
	a.Stateid.Encode(e)
	e.Uint64(a.Offset)
	e.Uint32(uint32(a.Stable))
	e.Opaque(a.Data)
}

// WriteRes is WRITE4resok.
type WriteRes struct {
	Count     uint32
	Committed StableHow
	Verifier  Verifier
}

// Decode reads the result.
func (r *WriteRes) Decode(d *xdr.Decoder) {
	r.Count = d.Uint32()
	r.Committed = StableHow(d.Uint32())
	r.Verifier.Decode(d)
}

// Encode writes the result.
func (r *WriteRes) Encode(e *xdr.Encoder) {
	e.Uint32(r.Count)
	e.Uint32(uint32(r.Committed))
	r.Verifier.Encode(e)
}

// CommitArgs is COMMIT4args (RFC 8881 §18.3).
type CommitArgs struct {
	Offset uint64
	Count  uint32
}

// Decode reads the arguments.
func (a *CommitArgs) Decode(d *xdr.Decoder) { a.Offset, a.Count = d.Uint64(), d.Uint32() }

// Encode writes the arguments.
func (a *CommitArgs) Encode(e *xdr.Encoder) {
	e.Uint64(a.Offset)
	e.Uint32(a.Count)
}

// CommitRes is COMMIT4resok.
type CommitRes struct{ Verifier Verifier }

// Decode reads the result.
func (r *CommitRes) Decode(d *xdr.Decoder) { r.Verifier.Decode(d) }

// Encode writes the result.
func (r *CommitRes) Encode(e *xdr.Encoder) { r.Verifier.Encode(e) }
