package rpc

import (
	"encoding/binary"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// What RFC 2203 §5 fixes of RPCSEC_GSS, version 1.
const (
	gssVersion = 1

	gssData    = 0 // of gss_proc; 1 and 2 make contexts, and are refused
	gssDestroy = 3

	gssMaxSequence = 0x80000000
)

// GSSService says how the arguments and results of a call are protected (rpc_gss_service_t).
type GSSService uint32

// The services.
const (
	GSSNone      GSSService = 1
	GSSIntegrity GSSService = 2
	GSSPrivacy   GSSService = 3
)

// GSSOverheadBytes is by how much a reply grows at most by being protected.
const GSSOverheadBytes = 256

// GSSContext makes and checks the tokens of a handle. Its methods may be called concurrently.
type GSSContext interface {
	// VerifyMIC says whether token is the client's MIC of message.
	VerifyMIC(message, token []byte) bool
	// AppendMIC appends the server's, of MICBytes. ok is false if there is no key for it.
	AppendMIC(dst, message []byte) (token []byte, ok bool)
	MICBytes() int
	// Unseal decrypts a token in its place and returns what was sealed.
	Unseal(token []byte) (message []byte, ok bool)
	// SealedBytes is how long a token is that seals n bytes, and where in it Seal wants them.
	SealedBytes(n int) (at, total int)
	// Seal makes the n bytes, which stand in token already, a token in its place.
	Seal(token []byte, n int) bool
	// Accept takes note of a sequence number. One that was used before, or may have been, is not accepted.
	Accept(number uint32) bool
	// Destroy ends the handle.
	Destroy()
}

// GSSHandler is a Handler whose clients may use RPCSEC_GSS, with handles that it has given them. Without it such calls are refused.
type GSSHandler interface {
	// GSSContext returns that of a handle; nil if there is none.
	GSSContext(handle []byte) GSSContext
}

// gssCall is what a call with RPCSEC_GSS has besides.
type gssCall struct {
	proc     uint32
	sequence uint32
	service  GSSService
	handle   []byte
	header   []byte // of the call, up to the verifier, which is over it
	verifier []byte
	bytes    int // of the whole call

	context GSSContext
}

// GSS returns the context that protects a call with RPCSEC_GSS and how: its arguments are what was unwrapped. bytes is how long
// the call is as it was sent.
func (c *Call) GSS() (context GSSContext, service GSSService, bytes int) {
	return c.gss.context, c.gss.service, c.gss.bytes
}

// parseGSS reads a credential (rpc_gss_cred_t). d stands behind the verifier.
func (c *Call) parseGSS(credential, header, verifier []byte, d *xdr.Decoder) error {
	p := xdr.NewDecoder(credential)
	version := p.Uint32()
	g := &gssCall{proc: p.Uint32(), sequence: p.Uint32(), service: GSSService(p.Uint32()), handle: p.Opaque(MaxAuthBytes),
		header: header, verifier: verifier, bytes: d.Offset() + d.Remaining()}
	known := g.proc == gssData || g.proc == gssDestroy && c.Procedure == 0
	if p.Err() != nil || p.Remaining() != 0 || version != gssVersion || !known || g.service < GSSNone || g.service > GSSPrivacy {
		return errBadCred
	}
	c.gss = g
	return nil
}

// enterGSS checks a call with RPCSEC_GSS and unwraps its arguments (RFC 2203 §5.3.3). It says whether the handler is to answer:
// if not, the answer is there, or there is to be none.
func (t *task) enterGSS() bool {
	c := &t.call
	c.attaches = false
	status, fresh := c.admitGSS(t.s.gss)
	switch {
	case status != AuthOK:
		t.s.o.Stats.Refused.Add(1)
		c.AuthError(&t.enc, status)
		return false
	case !fresh:
		return false // without a word (RFC 2203 §5.3.3.1)
	}
	t.enc.SetLimit(t.enc.Limit() - GSSOverheadBytes)
	switch {
	case c.gss.proc == gssDestroy:
		c.gss.context.Destroy()
		c.Succeed(&t.enc)
	case !c.unwrapGSS():
		c.GarbageArgs(&t.enc)
	default:
		return true
	}
	return false
}

// admitGSS finds the context and says why the credential is refused; if it is not, whether the sequence number is new.
func (c *Call) admitGSS(h GSSHandler) (s AuthStatus, fresh bool) {
	g := c.gss
	if h == nil {
		return AuthBadCred, false
	}
	g.context = h.GSSContext(g.handle)
	switch {
	case g.context == nil, !g.context.VerifyMIC(g.header, g.verifier):
		return AuthGSSCredProblem, false
	case g.sequence > gssMaxSequence:
		g.context.Destroy() // what a client makes use of (RFC 8881 §2.10.10)
		return AuthGSSContextProblem, false
	}
	return AuthOK, g.context.Accept(g.sequence)
}

// unwrapGSS points the arguments at what the service protects (RFC 2203 §5.3.2).
func (c *Call) unwrapGSS() bool {
	if c.gss.service == GSSNone {
		return true
	}
	body := c.Args.Opaque(c.Args.Remaining())
	ok := true
	if c.gss.service == GSSIntegrity {
		token := c.Args.Opaque(MaxAuthBytes)
		ok = c.Args.Err() == nil && c.gss.context.VerifyMIC(body, token)
	}
	if c.Args.Err() != nil || c.Args.Remaining() != 0 {
		return false
	}
	if c.gss.service == GSSPrivacy {
		body, ok = c.gss.context.Unseal(body)
	}
	if !ok {
		return false
	}
	c.Args = xdr.NewDecoder(body)
	return c.Args.Uint32() == c.gss.sequence && c.Args.Err() == nil
}

// The header of an accepted reply, whose verifier is still empty.
const (
	verifierAt = 12
	acceptAt   = 20
	resultsAt  = 24
)

// leaveGSS protects a reply that was accepted: its verifier is the MIC of the sequence number, and the results are wrapped as the
// arguments were (RFC 2203 §5.3.3.2). The tokens are made last, so with what SET_SSV may have changed (RFC 8881 §18.47.4).
func (t *task) leaveGSS() {
	g := t.call.gss
	t.call.gss = nil
	t.enc.SetLimit(t.s.o.MaxReplyBytes)
	n := t.enc.Len() - resultsAt
	if n < 0 || binary.BigEndian.Uint32(t.enc.Bytes()[8:]) != replyAccepted {
		return
	}
	stat := AcceptStatus(binary.BigEndian.Uint32(t.enc.Bytes()[acceptAt:]))
	if stat != Success || g.proc != gssData {
		g.service = GSSNone
	}
	t.enc.Reserve(GSSOverheadBytes)
	if t.enc.Err() != nil {
		t.enc.Truncate(0)
		return
	}
	end, ok := g.protect(t.enc.Bytes(), n, stat)
	if !ok {
		t.enc.Truncate(0)
		t.call.AuthError(&t.enc, AuthGSSContextProblem)
		return
	}
	t.enc.Truncate(end)
}

// protect rewrites a reply with n bytes of results, behind which there is room, and returns its length.
func (g *gssCall) protect(reply []byte, n int, stat AcceptStatus) (end int, ok bool) {
	put := binary.BigEndian.PutUint32
	mic := g.context.MICBytes()
	body := resultsAt + mic // where it begins
	results := body
	switch g.service {
	case GSSIntegrity:
		results += 8
	case GSSPrivacy:
		at, _ := g.context.SealedBytes(n + 4)
		results += 4 + at + 4
	}
	copy(reply[results:], reply[resultsAt:resultsAt+n])
	put(reply[verifierAt:], uint32(AuthGSS))
	put(reply[verifierAt+4:], uint32(mic))
	var sequence [4]byte
	put(sequence[:], g.sequence)
	if _, ok = g.context.AppendMIC(reply[:acceptAt], sequence[:]); !ok {
		return 0, false
	}
	put(reply[acceptAt+mic:], uint32(stat))
	switch g.service {
	case GSSIntegrity:
		put(reply[body:], uint32(n+4))
		copy(reply[body+4:], sequence[:])
		end = results + n
		put(reply[end:], uint32(mic))
		_, ok = g.context.AppendMIC(reply[:end+4], reply[body+4:end])
		return end + 4 + mic, ok
	case GSSPrivacy:
		copy(reply[results-4:], sequence[:])
		_, total := g.context.SealedBytes(n + 4)
		put(reply[body:], uint32(total))
		end = body + 4 + total
		return end, g.context.Seal(reply[body+4:end], n+4)
	}
	return results + n, true
}
