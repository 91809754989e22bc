package wire

import "github.com/nfseal/nfseal/proxy/xdr"

// Operations on extended attributes (RFC 8276 §8.4). Names have no prefix: they are all of the "user"
// kind.

// GetXattrArgs is GETXATTR4args (RFC 8276 §8.4.1) and REMOVEXATTR4args (§8.4.4).
type GetXattrArgs struct{ Name []byte }

// RemoveXattrArgs is REMOVEXATTR4args.
type RemoveXattrArgs = GetXattrArgs

// Decode reads the arguments.
func (a *GetXattrArgs) Decode(d *xdr.Decoder) { a.Name = d.Opaque(maxTextBytes) }

// Encode writes the arguments.
func (a *GetXattrArgs) Encode(e *xdr.Encoder) { e.Opaque(a.Name) }

// GetXattrRes is GETXATTR4resok.
type GetXattrRes struct{ Value []byte }

// Decode reads the result.
func (r *GetXattrRes) Decode(d *xdr.Decoder) { r.Value = d.Opaque(maxTextBytes) }

// Encode writes the result.
func (r *GetXattrRes) Encode(e *xdr.Encoder) { e.Opaque(r.Value) }

// SetXattrOption is setxattr_option4.
type SetXattrOption uint32

// What SETXATTR does with an attribute that is there, or is not.
const (
	SETXATTR4_EITHER  SetXattrOption = 0
	SETXATTR4_CREATE  SetXattrOption = 1
	SETXATTR4_REPLACE SetXattrOption = 2
)

// SetXattrArgs is SETXATTR4args (RFC 8276 §8.4.2).
type SetXattrArgs struct {
	Option SetXattrOption
	Name   []byte
	Value  []byte
}

// Decode reads the arguments.
func (a *SetXattrArgs) Decode(d *xdr.Decoder) {
	a.Option = SetXattrOption(d.Uint32())
	if a.Option > SETXATTR4_REPLACE {
		d.Fail(ErrBadUnion)
	}
	a.Name = d.Opaque(maxTextBytes)
	a.Value = d.Opaque(maxTextBytes)
}

// Encode writes the arguments.
func (a *SetXattrArgs) Encode(e *xdr.Encoder) {
	e.Uint32(uint32(a.Option))
	e.Opaque(a.Name)
	e.Opaque(a.Value)
}

// ChangeInfoRes is the result of SETXATTR and REMOVEXATTR: the file's change attribute around it.
type ChangeInfoRes struct{ Change ChangeInfo }

// Decode reads the result.
func (r *ChangeInfoRes) Decode(d *xdr.Decoder) { r.Change.Decode(d) }

// Encode writes the result.
func (r *ChangeInfoRes) Encode(e *xdr.Encoder) { r.Change.Encode(e) }

// ListXattrsArgs is LISTXATTRS4args (RFC 8276 §8.4.3).
type ListXattrsArgs struct {
	Cookie   uint64
	MaxCount uint32 // bytes of the whole LISTXATTRS4resok
}

// Decode reads the arguments.
func (a *ListXattrsArgs) Decode(d *xdr.Decoder) { a.Cookie, a.MaxCount = d.Uint64(), d.Uint32() }

// Encode writes the arguments.
func (a *ListXattrsArgs) Encode(e *xdr.Encoder) {
	e.Uint64(a.Cookie)
	e.Uint32(a.MaxCount)
}

// EmptyXattrsBytes are the cookie, the count and the eof flag.
const EmptyXattrsBytes = 16

// ListXattrsWriter writes a LISTXATTRS4resok name by name, within the client's count and the encoder's
// limit.
//
//	cookie | n | name | name | ... | eof
type ListXattrsWriter struct {
	e     *xdr.Encoder
	at    int
	max   int
	names uint32
}

// Begin makes room for the head. It says whether even an empty list fits.
func (w *ListXattrsWriter) Begin(e *xdr.Encoder, maxCount uint32) bool {
	*w = ListXattrsWriter{e: e, at: e.Len(), max: min(int(maxCount), e.Room())}
	e.Uint64(0)
	e.Uint32(0)
	return w.max >= EmptyXattrsBytes
}

// Extend goes on with the encoder's present limit, within maxCount: the name that did not fit is the next to be added.
func (w *ListXattrsWriter) Extend(maxCount uint32) {
	w.max = min(int(maxCount), w.e.Limit()-w.at)
}

// Add writes a name and says whether it fitted; after one that did not, none may be added.
func (w *ListXattrsWriter) Add(name string) bool {
	const lengthAndEOF = 8
	if w.e.Len()-w.at+(len(name)+3)&^3+lengthAndEOF > w.max {
		return false
	}
	w.e.String(name)
	w.names++
	return true
}

// Names is how many names were added.
func (w *ListXattrsWriter) Names() uint32 { return w.names }

// End writes the cookie to go on with and the end-of-file flag.
func (w *ListXattrsWriter) End(cookie uint64, eof bool) {
	w.e.PutUint32At(w.at, uint32(cookie>>32))
	w.e.PutUint32At(w.at+4, uint32(cookie))
	w.e.PutUint32At(w.at+8, w.names)
	w.e.Bool(eof)
}

// ListXattrsRes is LISTXATTRS4resok as a client has it.
type ListXattrsRes struct {
	Cookie uint64
	Names  [][]byte // point into the record
	EOF    bool
}

// Decode reads the result.
func (r *ListXattrsRes) Decode(d *xdr.Decoder) {
	*r = ListXattrsRes{Cookie: d.Uint64()}
	for range d.Count(maxTextBytes/4, 4) {
		r.Names = append(r.Names, d.Opaque(maxTextBytes))
	}
	r.EOF = d.Bool()
}

// Encode writes the result.
func (r *ListXattrsRes) Encode(e *xdr.Encoder) {
	e.Uint64(r.Cookie)
	e.Uint32(uint32(len(r.Names)))
	for _, name := range r.Names {
		e.Opaque(name)
	}
	e.Bool(r.EOF)
}
