package rpc

import (
	"errors"
	"fmt"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// accepted begins a reply with accept status s.
func (c *Call) accepted(e *xdr.Encoder, s AcceptStatus) {
	e.Uint32(c.XID)
	e.Uint32(msgReply)
	e.Uint32(replyAccepted)
	appendNone(e)
	e.Uint32(uint32(s))
}

// Succeed begins a successful reply; the procedure's results follow.
func (c *Call) Succeed(e *xdr.Encoder) { c.accepted(e, Success) }

// ProgUnavail answers that the program is not served here.
func (c *Call) ProgUnavail(e *xdr.Encoder) { c.accepted(e, ProgUnavail) }

// ProgMismatch answers that of the program only versions low to high are served.
func (c *Call) ProgMismatch(e *xdr.Encoder, low, high uint32) {
	c.accepted(e, ProgMismatch)
	e.Uint32(low)
	e.Uint32(high)
}

// ProcUnavail answers that the program has no such procedure.
func (c *Call) ProcUnavail(e *xdr.Encoder) { c.accepted(e, ProcUnavail) }

// GarbageArgs answers that the arguments could not be decoded.
func (c *Call) GarbageArgs(e *xdr.Encoder) { c.accepted(e, GarbageArgs) }

// SystemErr answers that the server could not serve the call.
func (c *Call) SystemErr(e *xdr.Encoder) { c.accepted(e, SystemErr) }

// AuthError refuses the call's credential.
func (c *Call) AuthError(e *xdr.Encoder, s AuthStatus) {
	e.Uint32(c.XID)
	e.Uint32(msgReply)
	e.Uint32(replyDenied)
	e.Uint32(rejectAuth)
	e.Uint32(uint32(s))
}

// versionMismatch refuses a call of another RPC version.
func (c *Call) versionMismatch(e *xdr.Encoder) {
	e.Uint32(c.XID)
	e.Uint32(msgReply)
	e.Uint32(replyDenied)
	e.Uint32(rejectMismatch)
	e.Uint32(Version)
	e.Uint32(Version)
}

// ErrReply: a record is not a well-formed reply.
var ErrReply = errors.New("rpc: malformed reply")

// RejectedError says that the server did not execute a call.
type RejectedError struct {
	Denied bool         // refused before it reached the program
	Accept AcceptStatus // if not Denied
	Auth   AuthStatus   // if Denied for its credential, else AuthOK: RPC version mismatch
}

// Error implements error.
func (e *RejectedError) Error() string {
	switch {
	case !e.Denied:
		return fmt.Sprintf("rpc: call not executed, accept status %d", e.Accept)
	case e.Auth != AuthOK:
		return fmt.Sprintf("rpc: call denied, auth status %d", e.Auth)
	}
	return "rpc: call denied, RPC version mismatch"
}

// ParseReply reads the header of a reply and returns its xid and a decoder at the results. For a reply
// that says the call was not executed the error is a *RejectedError and xid is valid; for anything else
// that is wrong it is ErrReply.
func ParseReply(record []byte) (xid uint32, results xdr.Decoder, err error) {
	d := xdr.NewDecoder(record)
	xid = d.Uint32()
	kind, stat := d.Uint32(), d.Uint32()
	if d.Err() != nil || kind != msgReply || stat > replyDenied {
		return 0, xdr.Decoder{}, ErrReply
	}
	if stat == replyDenied {
		return xid, xdr.Decoder{}, parseDenied(&d)
	}
	d.Uint32()
	d.Opaque(MaxAuthBytes)
	accept := AcceptStatus(d.Uint32())
	switch {
	case d.Err() != nil:
		return 0, xdr.Decoder{}, ErrReply
	case accept != Success:
		return xid, xdr.Decoder{}, &RejectedError{Accept: accept}
	}
	return xid, d, nil
}

func parseDenied(d *xdr.Decoder) error {
	reject := d.Uint32()
	first := d.Uint32()
	switch {
	case d.Err() != nil || reject > rejectAuth:
		return ErrReply
	case reject == rejectMismatch:
		return &RejectedError{Denied: true}
	}
	return &RejectedError{Denied: true, Auth: AuthStatus(first)}
}
