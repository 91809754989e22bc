package wire

import (
	"errors"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// Operations on byte-range locks and stateids, and SECINFO.

// ErrBadUnion: an enum has a value that the protocol does not know, where it decides what follows.
var ErrBadUnion = errors.New("wire: value of an enum that does not exist")

// LockType is nfs_lock_type4.
type LockType uint32

// The types of byte-range locks.
const (
	READ_LT   LockType = 1
	WRITE_LT  LockType = 2
	READW_LT  LockType = 3 // blocking: the client will ask again
	WRITEW_LT LockType = 4
)

// IsWrite says whether the lock excludes all others.
func (t LockType) IsWrite() bool { return t == WRITE_LT || t == WRITEW_LT }

// Waits says whether the client would rather wait than be denied.
func (t LockType) Waits() bool { return t == READW_LT || t == WRITEW_LT }

func (t *LockType) decode(d *xdr.Decoder) {
	*t = LockType(d.Uint32())
	if *t < READ_LT || *t > WRITEW_LT {
		d.Fail(ErrBadUnion)
	}
}

// LockArgs is LOCK4args (RFC 8881 §18.10). Length is bytes; all ones: to the end of the file.
type LockArgs struct {
	Type    LockType
	Reclaim bool
	Offset  uint64
	Length  uint64

	NewOwner    bool
	OpenSeqid   uint32  // if NewOwner, of 4.0
	OpenStateid Stateid // if NewOwner
	LockSeqid   uint32  // of 4.0
	Owner       Owner   // if NewOwner
	LockStateid Stateid // if not NewOwner
}

// Decode reads the arguments.
func (a *LockArgs) Decode(d *xdr.Decoder) {
	*a = LockArgs{}
	a.Type.decode(d)
	a.Reclaim = d.Bool()
	a.Offset = d.Uint64()
	a.Length = d.Uint64()
	a.NewOwner = d.Bool()
	if a.NewOwner {
		a.OpenSeqid = d.Uint32()
		a.OpenStateid.Decode(d)
		a.LockSeqid = d.Uint32()
		a.Owner.Decode(d)
		return
	}
	a.LockStateid.Decode(d)
	a.LockSeqid = d.Uint32()
}

// Encode writes the arguments.
func (a *LockArgs) Encode(e *xdr.Encoder) {
	e.Uint32(uint32(a.Type))
	e.Bool(a.Reclaim)
	e.Uint64(a.Offset)
	e.Uint64(a.Length)
	e.Bool(a.NewOwner)
	if a.NewOwner {
		e.Uint32(a.OpenSeqid)
		a.OpenStateid.Encode(e)
		e.Uint32(a.LockSeqid)
		a.Owner.Encode(e)
		return
	}
	a.LockStateid.Encode(e)
	e.Uint32(a.LockSeqid)
}

// LockDenied is LOCK4denied: the body of the results of LOCK and LOCKT with NFS4ERR_DENIED.
type LockDenied struct {
	Offset uint64
	Length uint64
	Type   LockType
	Owner  Owner
}

// Decode reads the body.
func (l *LockDenied) Decode(d *xdr.Decoder) {
	l.Offset = d.Uint64()
	l.Length = d.Uint64()
	l.Type.decode(d)
	l.Owner.Decode(d)
}

// Encode writes the body.
func (l *LockDenied) Encode(e *xdr.Encoder) {
	e.Uint64(l.Offset)
	e.Uint64(l.Length)
	e.Uint32(uint32(l.Type))
	l.Owner.Encode(e)
}

// LockTArgs is LOCKT4args (RFC 8881 §18.11); its result has a body only with NFS4ERR_DENIED.
type LockTArgs struct {
	Type   LockType
	Offset uint64
	Length uint64
	Owner  Owner
}

// Decode reads the arguments.
func (a *LockTArgs) Decode(d *xdr.Decoder) {
	a.Type.decode(d)
	a.Offset = d.Uint64()
	a.Length = d.Uint64()
	a.Owner.Decode(d)
}

// Encode writes the arguments.
func (a *LockTArgs) Encode(e *xdr.Encoder) {
	e.Uint32(uint32(a.Type))
	e.Uint64(a.Offset)
	e.Uint64(a.Length)
	a.Owner.Encode(e)
}

// LockUArgs is LOCKU4args (RFC 8881 §18.12).
type LockUArgs struct {
	Type    LockType
	Seqid   uint32 // of 4.0
	Stateid Stateid
	Offset  uint64
	Length  uint64
}

// Decode reads the arguments.
func (a *LockUArgs) Decode(d *xdr.Decoder) {
	a.Type.decode(d)
	a.Seqid = d.Uint32()
	a.Stateid.Decode(d)
	a.Offset = d.Uint64()
	a.Length = d.Uint64()
}

// Encode writes the arguments.
func (a *LockUArgs) Encode(e *xdr.Encoder) {
	e.Uint32(uint32(a.Type))
	e.Uint32(a.Seqid)
	a.Stateid.Encode(e)
	e.Uint64(a.Offset)
	e.Uint64(a.Length)
}

// FreeStateidArgs is FREE_STATEID4args (RFC 8881 §18.38).
type FreeStateidArgs struct{ Stateid Stateid }

// Decode reads the arguments.
func (a *FreeStateidArgs) Decode(d *xdr.Decoder) { a.Stateid.Decode(d) }

// Encode writes the arguments.
func (a *FreeStateidArgs) Encode(e *xdr.Encoder) { a.Stateid.Encode(e) }

// TestStateidArgs is TEST_STATEID4args (RFC 8881 §18.48): stateids as they stand on the wire, one after
// the other, StateidBytes each.
type TestStateidArgs struct{ Raw []byte }

// Decode reads the arguments.
func (a *TestStateidArgs) Decode(d *xdr.Decoder) {
	n := d.Count(maxTextBytes/StateidBytes, StateidBytes)
	a.Raw = d.Fixed(n * StateidBytes)
}

// Encode writes the arguments.
func (a *TestStateidArgs) Encode(e *xdr.Encoder) {
	e.Uint32(uint32(a.Len()))
	e.Append(a.Raw[:a.Len()*StateidBytes])
}

// Add appends a stateid.
func (a *TestStateidArgs) Add(s Stateid) {
	var raw [StateidBytes]byte
	e := xdr.NewEncoder(raw[:])
	s.Encode(&e)
	a.Raw = append(a.Raw, raw[:]...)
}

// Len is the number of stateids.
func (a *TestStateidArgs) Len() int { return len(a.Raw) / StateidBytes }

// At returns stateid i, which is below Len.
func (a *TestStateidArgs) At(i int) (s Stateid) {
	d := xdr.NewDecoder(a.Raw[i*StateidBytes : (i+1)*StateidBytes])
	s.Decode(&d)
	return s
}

// TestStateidRes is TEST_STATEID4resok: one status for each stateid. A server may as well write the
// count and the statuses straight to the encoder.
type TestStateidRes struct{ Statuses []Status }

// Decode reads the result.
func (r *TestStateidRes) Decode(d *xdr.Decoder) {
	r.Statuses = make([]Status, d.Count(maxTextBytes/4, 4))
	for i := range r.Statuses {
		r.Statuses[i] = Status(d.Uint32())
	}
}

// Encode writes the result.
func (r *TestStateidRes) Encode(e *xdr.Encoder) {
	e.Uint32(uint32(len(r.Statuses)))
	for _, s := range r.Statuses {
		e.Uint32(uint32(s))
	}
}

// SecinfoArgs is SECINFO4args (RFC 8881 §18.29).
type SecinfoArgs struct{ Name []byte }

// Decode reads the arguments.
func (a *SecinfoArgs) Decode(d *xdr.Decoder) { a.Name = d.Opaque(maxTextBytes) }

// Encode writes the arguments.
func (a *SecinfoArgs) Encode(e *xdr.Encoder) { e.Opaque(a.Name) }

// secinfo_style4.
const (
	SECINFO_STYLE4_CURRENT_FH = 0
	SECINFO_STYLE4_PARENT     = 1
)

// SecinfoNoNameArgs is SECINFO_NO_NAME4args (RFC 8881 §18.45).
type SecinfoNoNameArgs struct{ Style uint32 }

// Decode reads the arguments.
func (a *SecinfoNoNameArgs) Decode(d *xdr.Decoder) {
	a.Style = d.Uint32()
	if a.Style > SECINFO_STYLE4_PARENT {
		d.Fail(ErrBadUnion)
	}
}

// Encode writes the arguments.
func (a *SecinfoNoNameArgs) Encode(e *xdr.Encoder) { e.Uint32(a.Style) }

// SecinfoRes is SECINFO4resok, for SECINFO_NO_NAME too: RPC flavours in the server's order of
// preference. RPCSEC_GSS (6) cannot be offered; its parameters are read over.
type SecinfoRes struct{ Flavors []uint32 }

// Decode reads the result.
func (r *SecinfoRes) Decode(d *xdr.Decoder) {
	r.Flavors = nil
	for range d.Count(maxSecParms, 4) {
		flavor := d.Uint32()
		if flavor == cbSecGSS {
			d.Opaque(MaxOpaqueBytes)
			d.Uint64()
		}
		r.Flavors = append(r.Flavors, flavor)
	}
}

// Encode writes the result.
func (r *SecinfoRes) Encode(e *xdr.Encoder) {
	e.Uint32(uint32(len(r.Flavors)))
	for _, f := range r.Flavors {
		if f == cbSecGSS {
			e.Fail(ErrBadUnion)
		}
		e.Uint32(f)
	}
}
