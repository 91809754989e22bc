package wire

import "github.com/nfseal/nfseal/proxy/xdr"

// Operations that only minor version 0 has (RFC 7530 §16).

// ClientAddr is clientaddr4: where a client listens for callbacks, as RFC 5665 writes addresses.
type ClientAddr struct{ NetID, Addr []byte }

// Decode reads an address.
func (a *ClientAddr) Decode(d *xdr.Decoder) {
	a.NetID = d.Opaque(MaxOpaqueBytes)
	a.Addr = d.Opaque(MaxOpaqueBytes)
}

// Encode writes an address.
func (a *ClientAddr) Encode(e *xdr.Encoder) {
	e.Opaque(a.NetID)
	e.Opaque(a.Addr)
}

// SetClientIDArgs is SETCLIENTID4args (RFC 7530 §16.33).
type SetClientIDArgs struct {
	Verifier  Verifier
	ID        []byte // at most MaxOpaqueBytes
	CBProgram uint32
	CBAddr    ClientAddr
	CBIdent   uint32
}

// Decode reads the arguments.
func (a *SetClientIDArgs) Decode(d *xdr.Decoder) {
	a.Verifier.Decode(d)
	a.ID = d.Opaque(MaxOpaqueBytes)
	a.CBProgram = d.Uint32()
	a.CBAddr.Decode(d)
	a.CBIdent = d.Uint32()
}

// Encode writes the arguments.
func (a *SetClientIDArgs) Encode(e *xdr.Encoder) {
	a.Verifier.Encode(e)
	e.Opaque(a.ID)
	e.Uint32(a.CBProgram)
	a.CBAddr.Encode(e)
	e.Uint32(a.CBIdent)
}

// SetClientIDRes is SETCLIENTID4resok. With NFS4ERR_CLID_INUSE the body is a ClientAddr instead.
type SetClientIDRes struct {
	ClientID ClientID
	Confirm  Verifier
}

// Decode reads the result.
func (r *SetClientIDRes) Decode(d *xdr.Decoder) {
	r.ClientID.Decode(d)
	r.Confirm.Decode(d)
}

// Encode writes the result.
func (r *SetClientIDRes) Encode(e *xdr.Encoder) {
	r.ClientID.Encode(e)
	r.Confirm.Encode(e)
}

// SetClientIDConfirmArgs is SETCLIENTID_CONFIRM4args (RFC 7530 §16.34).
type SetClientIDConfirmArgs = SetClientIDRes

// RenewArgs is RENEW4args (RFC 7530 §16.28).
type RenewArgs struct{ ClientID ClientID }

// Decode reads the arguments.
func (a *RenewArgs) Decode(d *xdr.Decoder) { a.ClientID.Decode(d) }

// Encode writes the arguments.
func (a *RenewArgs) Encode(e *xdr.Encoder) { a.ClientID.Encode(e) }

// OpenConfirmArgs is OPEN_CONFIRM4args (RFC 7530 §16.18).
type OpenConfirmArgs struct {
	Stateid Stateid
	Seqid   uint32
}

// Decode reads the arguments.
func (a *OpenConfirmArgs) Decode(d *xdr.Decoder) {
	a.Stateid.Decode(d)
	a.Seqid = d.Uint32()
}

// Encode writes the arguments.
func (a *OpenConfirmArgs) Encode(e *xdr.Encoder) {
	a.Stateid.Encode(e)
	e.Uint32(a.Seqid)
}

// OpenConfirmRes is OPEN_CONFIRM4resok.
type OpenConfirmRes = StateidRes

// ReleaseLockOwnerArgs is RELEASE_LOCKOWNER4args (RFC 7530 §16.37).
type ReleaseLockOwnerArgs struct{ Owner Owner }

// Decode reads the arguments.
func (a *ReleaseLockOwnerArgs) Decode(d *xdr.Decoder) { a.Owner.Decode(d) }

// Encode writes the arguments.
func (a *ReleaseLockOwnerArgs) Encode(e *xdr.Encoder) { a.Owner.Encode(e) }
