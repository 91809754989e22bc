package wire

import "github.com/nfseal/nfseal/proxy/xdr"

// Operations on directories and names.

// LookupArgs is LOOKUP4args (RFC 8881 §18.13).
type LookupArgs struct{ Name []byte }

// Decode reads the arguments. CheckComponent says whether the name is one.
func (a *LookupArgs) Decode(d *xdr.Decoder) { a.Name = d.Opaque(maxTextBytes) }

// Encode writes the arguments.
func (a *LookupArgs) Encode(e *xdr.Encoder) { e.Opaque(a.Name) }

// CreateArgs is CREATE4args (RFC 8881 §18.4). Target is there for NF4LNK, Device for NF4BLK and NF4CHR.
type CreateArgs struct {
	Type   FileType
	Target []byte
	Device Specdata
	Name   []byte
	Attrs  Attrs
}

// Decode reads the arguments. An unknown type has no body, and is the server's to refuse
// (NFS4ERR_BADTYPE).
func (a *CreateArgs) Decode(d *xdr.Decoder) {
	a.Type = FileType(d.Uint32())
	a.Target, a.Device = nil, Specdata{}
	switch a.Type {
	case NF4LNK:
		a.Target = d.Opaque(maxTextBytes)
	case NF4BLK, NF4CHR:
		a.Device.Decode(d)
	}
	a.Name = d.Opaque(maxTextBytes)
	a.Attrs.Decode(d)
}

// Encode writes the arguments.
func (a *CreateArgs) Encode(e *xdr.Encoder) {
	e.Uint32(uint32(a.Type))
	switch a.Type {
	case NF4LNK:
		e.Opaque(a.Target)
	case NF4BLK, NF4CHR:
		a.Device.Encode(e)
	}
	e.Opaque(a.Name)
	a.Attrs.Encode(e)
}

// CreateRes is CREATE4resok.
type CreateRes struct {
	Dir ChangeInfo
	Set Bitmap
}

// Decode reads the result.
func (r *CreateRes) Decode(d *xdr.Decoder) {
	r.Dir.Decode(d)
	r.Set.Decode(d)
}

// Encode writes the result.
func (r *CreateRes) Encode(e *xdr.Encoder) {
	r.Dir.Encode(e)
	r.Set.Encode(e)
}

// LinkArgs is LINK4args (RFC 8881 §18.9): the saved file gets a name in the current directory.
type LinkArgs struct{ Name []byte }

// Decode reads the arguments.
func (a *LinkArgs) Decode(d *xdr.Decoder) { a.Name = d.Opaque(maxTextBytes) }

// Encode writes the arguments.
func (a *LinkArgs) Encode(e *xdr.Encoder) { e.Opaque(a.Name) }

// LinkRes is LINK4resok.
type LinkRes struct{ Dir ChangeInfo }

// Decode reads the result.
func (r *LinkRes) Decode(d *xdr.Decoder) { r.Dir.Decode(d) }

// Encode writes the result.
func (r *LinkRes) Encode(e *xdr.Encoder) { r.Dir.Encode(e) }

// RemoveArgs is REMOVE4args (RFC 8881 §18.25).
type RemoveArgs struct{ Name []byte }

// Decode reads the arguments.
func (a *RemoveArgs) Decode(d *xdr.Decoder) { a.Name = d.Opaque(maxTextBytes) }

// Encode writes the arguments.
func (a *RemoveArgs) Encode(e *xdr.Encoder) { e.Opaque(a.Name) }

// RemoveRes is REMOVE4resok.
type RemoveRes struct{ Dir ChangeInfo }

// Decode reads the result.
func (r *RemoveRes) Decode(d *xdr.Decoder) { r.Dir.Decode(d) }

// Encode writes the result.
func (r *RemoveRes) Encode(e *xdr.Encoder) { r.Dir.Encode(e) }

// RenameArgs is RENAME4args (RFC 8881 §18.26): from the saved directory to the current one.
type RenameArgs struct{ OldName, NewName []byte }

// Decode reads the arguments.
func (a *RenameArgs) Decode(d *xdr.Decoder) {
	a.OldName = d.Opaque(maxTextBytes)
	a.NewName = d.Opaque(maxTextBytes)
}

// Encode writes the arguments.
func (a *RenameArgs) Encode(e *xdr.Encoder) {
	e.Opaque(a.OldName)
	e.Opaque(a.NewName)
}

// RenameRes is RENAME4resok.
type RenameRes struct{ Source, Target ChangeInfo }

// Decode reads the result.
func (r *RenameRes) Decode(d *xdr.Decoder) {
	r.Source.Decode(d)
	r.Target.Decode(d)
}

// Encode writes the result.
func (r *RenameRes) Encode(e *xdr.Encoder) {
	r.Source.Encode(e)
	r.Target.Encode(e)
}

// ReadlinkRes is READLINK4resok (RFC 8881 §18.24).
type ReadlinkRes struct{ Target []byte }

// Decode reads the result.
func (r *ReadlinkRes) Decode(d *xdr.Decoder) { r.Target = d.Opaque(maxTextBytes) }

// Encode writes the result.
func (r *ReadlinkRes) Encode(e *xdr.Encoder) { e.Opaque(r.Target) }

// ReaddirArgs is READDIR4args (RFC 8881 §18.23).
type ReaddirArgs struct {
	Cookie   uint64
	Verifier Verifier
	DirCount uint32 // hint: bytes of cookies and names
	MaxCount uint32 // bytes of the whole READDIR4resok
	Request  Bitmap
}

// Decode reads the arguments.
func (a *ReaddirArgs) Decode(d *xdr.Decoder) {
	a.Cookie = d.Uint64()
	a.Verifier.Decode(d)
	a.DirCount = d.Uint32()
	a.MaxCount = d.Uint32()
	a.Request.Decode(d)
}

// Encode writes the arguments.
func (a *ReaddirArgs) Encode(e *xdr.Encoder) {
	e.Uint64(a.Cookie)
	a.Verifier.Encode(e)
	e.Uint32(a.DirCount)
	e.Uint32(a.MaxCount)
	a.Request.Encode(e)
}

// ReaddirWriter writes a READDIR4resok entry by entry, within the client's two counts and the
// encoder's own limit.
//
//	verifier | 1 | cookie | name | fattr4 | 1 | cookie | name | fattr4 | ... | 0 | eof
type ReaddirWriter struct {
	e         *xdr.Encoder
	start     int
	max       int // bytes of the whole result
	dirCount  int // 0: no such limit
	nameBytes int
	entries   int
	short     bool // the last entry was too long for what is left
}

// readdirTail is the end of the list and the eof flag, EmptyListBytes a READDIR4resok without entries.
const (
	readdirTail    = 8
	EmptyListBytes = 8 + readdirTail
)

// Begin writes the verifier. dirCount 0 means that the client does not care.
func (w *ReaddirWriter) Begin(e *xdr.Encoder, verifier Verifier, dirCount, maxCount uint32) {
	*w = ReaddirWriter{e: e, start: e.Len(), dirCount: int(dirCount), max: int(maxCount)}
	w.max = min(w.max, e.Room())
	verifier.Encode(e)
}

// Extend goes on with the encoder's present limit, within maxCount, if it was for want of bytes that the last entry did not fit. That
// entry is the next to be added then.
func (w *ReaddirWriter) Extend(maxCount uint32) bool {
	if !w.short {
		return false
	}
	w.max = min(int(maxCount), w.e.Limit()-w.start)
	return true
}

// Add writes one entry and says whether it fitted; if not, nothing of it is left and no later entry may
// be added. The first entry is not held against dirCount.
func (w *ReaddirWriter) Add(cookie uint64, name string, attrs *Attrs) bool {
	nameBytes := 8 + 4 + (len(name)+3)&^3
	if w.dirCount != 0 && w.entries > 0 && w.nameBytes+nameBytes > w.dirCount {
		return false
	}
	at := w.e.Len()
	w.e.Bool(true)
	w.e.Uint64(cookie)
	w.e.String(name)
	attrs.Encode(w.e)
	if w.short = w.e.Err() != nil || w.e.Len()-w.start+readdirTail > w.max; w.short {
		w.e.Truncate(at)
		return false
	}
	w.nameBytes += nameBytes
	w.entries++
	return true
}

// Entries is how many entries were added.
func (w *ReaddirWriter) Entries() int { return w.entries }

// End writes the end of the list. eof says that the last entry of the directory was added, or that there
// was none. Without eof and without an entry the client's counts are too small: NFS4ERR_TOOSMALL.
func (w *ReaddirWriter) End(eof bool) Status {
	if w.entries == 0 && !eof || w.max < w.e.Len()-w.start+readdirTail {
		return NFS4ERR_TOOSMALL
	}
	w.e.Bool(false)
	w.e.Bool(eof)
	return NFS4_OK
}

// ReaddirReader reads a READDIR4resok entry by entry.
type ReaddirReader struct {
	Verifier Verifier
	EOF      bool // valid when Next has returned false
	d        *xdr.Decoder
}

// DirEntry is entry4. Name and the slices of Attrs point into the record.
type DirEntry struct {
	Cookie uint64
	Name   []byte
	Attrs  Attrs
}

// Begin reads the verifier.
func (r *ReaddirReader) Begin(d *xdr.Decoder) {
	*r = ReaddirReader{d: d}
	r.Verifier.Decode(d)
}

// Next reads an entry; false at the end of the list, or when the decoder is in error.
func (r *ReaddirReader) Next(entry *DirEntry) bool {
	if !r.d.Bool() {
		r.EOF = r.d.Bool()
		return false
	}
	entry.Cookie = r.d.Uint64()
	entry.Name = r.d.Opaque(maxTextBytes)
	entry.Attrs.Decode(r.d)
	return r.d.Err() == nil
}
