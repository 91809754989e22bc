package wire

import "github.com/nfseal/nfseal/proxy/xdr"

// Operations of minor version 2 on the space of a file (RFC 7862 §15).

// AllocateArgs is ALLOCATE4args and DEALLOCATE4args (RFC 7862 §15.1, §15.4).
type AllocateArgs struct {
	Stateid Stateid
	Offset  uint64
	Length  uint64
}

// DeallocateArgs is DEALLOCATE4args.
type DeallocateArgs = AllocateArgs

// Decode reads the arguments.
func (a *AllocateArgs) Decode(d *xdr.Decoder) {
	a.Stateid.Decode(d)
	a.Offset = d.Uint64()
	a.Length = d.Uint64()
}

// Encode writes the arguments.
func (a *AllocateArgs) Encode(e *xdr.Encoder) {
	a.Stateid.Encode(e)
	e.Uint64(a.Offset)
	e.Uint64(a.Length)
}

// Content is data_content4: what a part of a file is.
type Content uint32

// The kinds of content.
const (
	NFS4_CONTENT_DATA Content = 0
	NFS4_CONTENT_HOLE Content = 1
)

// SeekArgs is SEEK4args (RFC 7862 §15.11).
type SeekArgs struct {
	Stateid Stateid
	Offset  uint64
	What    Content // one that the server does not know is NFS4ERR_UNION_NOTSUPP
}

// Decode reads the arguments.
func (a *SeekArgs) Decode(d *xdr.Decoder) {
	a.Stateid.Decode(d)
	a.Offset = d.Uint64()
	a.What = Content(d.Uint32())
}

// Encode writes the arguments.
func (a *SeekArgs) Encode(e *xdr.Encoder) {
	a.Stateid.Encode(e)
	e.Uint64(a.Offset)
	e.Uint32(uint32(a.What))
}

// SeekRes is seek_res4.
type SeekRes struct {
	EOF    bool
	Offset uint64
}

// Decode reads the result.
func (r *SeekRes) Decode(d *xdr.Decoder) { r.EOF, r.Offset = d.Bool(), d.Uint64() }

// Encode writes the result.
func (r *SeekRes) Encode(e *xdr.Encoder) {
	e.Bool(r.EOF)
	e.Uint64(r.Offset)
}

// ReadPlusArgs is READ_PLUS4args (RFC 7862 §15.10).
type ReadPlusArgs = ReadArgs

// ReadPlusWriter writes a read_plus_res4 segment by segment. Data is put in place after its room was
// made.
//
//	eof | n | 0 | offset | length | data | 1 | offset | length | ...
type ReadPlusWriter struct {
	e        *xdr.Encoder
	at       int // of the eof flag
	dataAt   int // of the opaque that is open
	segments uint32
}

// ReadPlusSegmentBytes is the most that a segment takes besides its data, and the end of the result.
const ReadPlusSegmentBytes = 4 + 8 + 4 + 3

// ReadPlusHeadBytes is what stands in front of the segments.
const ReadPlusHeadBytes = 8

// Begin writes the head.
func (w *ReadPlusWriter) Begin(e *xdr.Encoder) {
	*w = ReadPlusWriter{e: e, at: e.Len()}
	e.Bool(false)
	e.Uint32(0)
}

// Hole adds a hole of length bytes.
func (w *ReadPlusWriter) Hole(offset, length uint64) {
	w.segments++
	w.e.Uint32(uint32(NFS4_CONTENT_HOLE))
	w.e.Uint64(offset)
	w.e.Uint64(length)
}

// Data begins a segment of data with room for count bytes, which the caller fills from the start; nil if
// they do not fit. Nothing else may be written before EndData.
func (w *ReadPlusWriter) Data(offset uint64, count int) (p []byte) {
	w.segments++
	w.e.Uint32(uint32(NFS4_CONTENT_DATA))
	w.e.Uint64(offset)
	w.dataAt, p = w.e.ReserveOpaque(count)
	return p
}

// EndData keeps the first n bytes of the segment.
func (w *ReadPlusWriter) EndData(n int) { w.e.TrimOpaque(w.dataAt, n) }

// Lent adds a segment of n bytes of data that are sent from elsewhere: behind it nothing else is written.
func (w *ReadPlusWriter) Lent(offset uint64, n int) {
	w.segments++
	w.e.Uint32(uint32(NFS4_CONTENT_DATA))
	w.e.Uint64(offset)
	w.e.Uint32(uint32(n))
}

// End writes the end-of-file flag and the number of segments into the head.
func (w *ReadPlusWriter) End(eof bool) {
	if eof {
		w.e.PutUint32At(w.at, 1)
	}
	w.e.PutUint32At(w.at+4, w.segments)
}

// ReadPlusSegment is read_plus_content.
type ReadPlusSegment struct {
	Content Content
	Offset  uint64
	Length  uint64 // of a hole
	Data    []byte // points into the record
}

// ReadPlusReader reads a read_plus_res4 segment by segment.
type ReadPlusReader struct {
	EOF  bool
	Left int // segments
	d    *xdr.Decoder
}

// Begin reads the head.
func (r *ReadPlusReader) Begin(d *xdr.Decoder) {
	*r = ReadPlusReader{d: d}
	r.EOF = d.Bool()
	r.Left = d.Count(maxTextBytes/16, 16)
}

// Next reads a segment; false after the last one, or when the decoder is in error.
func (r *ReadPlusReader) Next(s *ReadPlusSegment) bool {
	if r.Left == 0 || r.d.Err() != nil {
		return false
	}
	r.Left--
	*s = ReadPlusSegment{Content: Content(r.d.Uint32()), Offset: r.d.Uint64()}
	switch s.Content {
	case NFS4_CONTENT_DATA:
		s.Data = r.d.Opaque(maxTextBytes)
	case NFS4_CONTENT_HOLE:
		s.Length = r.d.Uint64()
	default:
		r.d.Fail(ErrBadUnion)
	}
	return r.d.Err() == nil
}

// IO_ADVISE_type4: bits of IO_ADVISE's hints (RFC 7862 §15.5).
const (
	IO_ADVISE4_NORMAL                 = 0
	IO_ADVISE4_SEQUENTIAL             = 1
	IO_ADVISE4_SEQUENTIAL_BACKWARDS   = 2
	IO_ADVISE4_RANDOM                 = 3
	IO_ADVISE4_WILLNEED               = 4
	IO_ADVISE4_WILLNEED_OPPORTUNISTIC = 5
	IO_ADVISE4_DONTNEED               = 6
	IO_ADVISE4_NOREUSE                = 7
	IO_ADVISE4_READ                   = 8
	IO_ADVISE4_WRITE                  = 9
	IO_ADVISE4_INIT_PROXIMITY         = 10
)

// IOAdviseArgs is IO_ADVISE4args (RFC 7862 §15.5). Hints that Bitmap has no room for are gone: a server
// ignores those that it does not know.
type IOAdviseArgs struct {
	Stateid Stateid
	Offset  uint64
	Count   uint64
	Hints   Bitmap
}

// Decode reads the arguments.
func (a *IOAdviseArgs) Decode(d *xdr.Decoder) {
	a.Stateid.Decode(d)
	a.Offset = d.Uint64()
	a.Count = d.Uint64()
	a.Hints.Decode(d)
}

// Encode writes the arguments.
func (a *IOAdviseArgs) Encode(e *xdr.Encoder) {
	a.Stateid.Encode(e)
	e.Uint64(a.Offset)
	e.Uint64(a.Count)
	a.Hints.Encode(e)
}

// IOAdviseRes is IO_ADVISE4resok: the hints that the server follows.
type IOAdviseRes struct{ Hints Bitmap }

// Decode reads the result.
func (r *IOAdviseRes) Decode(d *xdr.Decoder) { r.Hints.Decode(d) }

// Encode writes the result.
func (r *IOAdviseRes) Encode(e *xdr.Encoder) { r.Hints.Encode(e) }
