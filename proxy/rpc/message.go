package rpc

import (
	"errors"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// Message types (msg_type, RFC 5531 §9).
const (
	msgCall  = 0
	msgReply = 1
)

// reply_stat and reject_stat (RFC 5531 §9).
const (
	replyAccepted = 0
	replyDenied   = 1

	rejectMismatch = 0
	rejectAuth     = 1
)

// AcceptStatus is accept_stat: what became of a call that was let in (RFC 5531 §9).
type AcceptStatus uint32

// The values of AcceptStatus.
const (
	Success      AcceptStatus = 0
	ProgUnavail  AcceptStatus = 1
	ProgMismatch AcceptStatus = 2
	ProcUnavail  AcceptStatus = 3
	GarbageArgs  AcceptStatus = 4
	SystemErr    AcceptStatus = 5
)

// AuthStatus is auth_stat: why a credential was refused (RFC 5531 §9).
type AuthStatus uint32

// The values of AuthStatus that are given.
const (
	AuthOK           AuthStatus = 0
	AuthBadCred      AuthStatus = 1
	AuthRejectedCred AuthStatus = 2
	AuthBadVerf      AuthStatus = 3
	AuthRejectedVerf AuthStatus = 4
	AuthTooWeak      AuthStatus = 5

	AuthGSSCredProblem    AuthStatus = 13 // RPCSEC_GSS_CREDPROBLEM, RFC 2203 §5.3.3.3
	AuthGSSContextProblem AuthStatus = 14 // RPCSEC_GSS_CTXPROBLEM
)

// Flavor is the kind of a credential (auth_flavor, RFC 5531 §8.2).
type Flavor uint32

// The flavours that are known by name.
const (
	AuthNone Flavor = 0
	AuthSys  Flavor = 1
	AuthGSS  Flavor = 6
	AuthTLS  Flavor = 7 // RFC 9289 §4.1
)

// Auth is a credential that was understood. Its slices live as long as the call's record.
type Auth struct {
	Flavor  Flavor
	Stamp   uint32
	Machine []byte
	UID     uint32
	GID     uint32
	GIDs    []uint32 // at most MaxGroups
}

// Call is one call as it arrived. It and all it points to are valid until Handle returns.
type Call struct {
	XID       uint32
	Program   uint32
	Version   uint32
	Procedure uint32
	Auth      Auth
	Args      xdr.Decoder // stands at the procedure's arguments

	groups [MaxGroups]uint32
	gss    *gssCall // with AuthGSS alone

	attaches      bool // the connection can send what is attached
	attached      Attachment
	attachedBytes int
}

// Why a record is no call that a handler sees.
var (
	errNotCall  = errors.New("rpc: message is not a call")
	errVersion  = errors.New("rpc: RPC version is not 2")
	errBadCred  = errors.New("rpc: bad credential")
	errBadVerf  = errors.New("rpc: bad verifier")
	errGarbled  = errors.New("rpc: header cut short")
	errIsAReply = errors.New("rpc: message is a reply")
)

// parse reads the header of record into c. Only for errGarbled, errNotCall and errIsAReply is there
// nothing to answer.
func (c *Call) parse(record []byte) error {
	d := xdr.NewDecoder(record)
	c.XID = d.Uint32()
	kind, version := d.Uint32(), uint32(Version)
	if kind == msgCall {
		version = d.Uint32()
	}
	switch {
	case d.Err() != nil:
		return errGarbled
	case kind == msgReply:
		return errIsAReply
	case kind != msgCall:
		return errNotCall
	case version != Version:
		return errVersion
	}
	c.Program, c.Version, c.Procedure = d.Uint32(), d.Uint32(), d.Uint32()
	if d.Err() != nil {
		return errGarbled
	}
	if err := c.parseAuth(&d); err != nil {
		return err
	}
	c.Args = d
	return nil
}

// parseAuth reads credential and verifier.
func (c *Call) parseAuth(d *xdr.Decoder) error {
	c.Auth = Auth{Flavor: Flavor(d.Uint32())}
	body := d.Opaque(MaxAuthBytes)
	if d.Err() != nil {
		return errBadCred
	}
	at := d.Offset()
	flavor := Flavor(d.Uint32()) // says nothing with AUTH_NONE and AUTH_SYS
	verifier := d.Opaque(MaxAuthBytes)
	if d.Err() != nil {
		return errBadVerf
	}
	switch c.Auth.Flavor {
	case AuthNone:
		return nil
	case AuthSys:
		return c.parseAuthSys(body)
	case AuthGSS:
		if flavor != AuthGSS {
			verifier = nil
		}
		return c.parseGSS(body, d.Since(0)[:at], verifier, d)
	}
	return errBadCred
}

// parseAuthSys reads the body of an AUTH_SYS credential (authsys_parms, RFC 5531 appendix A), to its
// very end.
func (c *Call) parseAuthSys(body []byte) error {
	d := xdr.NewDecoder(body)
	c.Auth.Stamp = d.Uint32()
	c.Auth.Machine = d.String(MaxMachineBytes)
	c.Auth.UID = d.Uint32()
	c.Auth.GID = d.Uint32()
	n := d.Count(MaxGroups, 4)
	for i := range n {
		c.groups[i] = d.Uint32()
	}
	if d.Err() != nil || d.Remaining() != 0 {
		return errBadCred
	}
	c.Auth.GIDs = c.groups[:n:n]
	return nil
}

// AppendCall writes the header of a call; the arguments follow. With AuthSys the credential is taken
// from auth, with AuthNone and AuthTLS it has no body.
func AppendCall(e *xdr.Encoder, xid, program, version, procedure uint32, auth *Auth) {
	e.Uint32(xid)
	e.Uint32(msgCall)
	e.Uint32(Version)
	e.Uint32(program)
	e.Uint32(version)
	e.Uint32(procedure)
	e.Uint32(uint32(auth.Flavor))
	at := e.Len()
	e.Uint32(0)
	if auth.Flavor == AuthSys {
		appendAuthSys(e, auth)
	}
	e.PutUint32At(at, uint32(e.Len()-at-4))
	appendNone(e)
}

func appendAuthSys(e *xdr.Encoder, auth *Auth) {
	e.Uint32(auth.Stamp)
	e.Opaque(auth.Machine)
	e.Uint32(auth.UID)
	e.Uint32(auth.GID)
	e.Uint32(uint32(len(auth.GIDs)))
	for _, g := range auth.GIDs {
		e.Uint32(g)
	}
}

// appendNone writes a verifier of AUTH_NONE.
func appendNone(e *xdr.Encoder) {
	e.Uint32(uint32(AuthNone))
	e.Uint32(0)
}
