package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/ssv"
	"github.com/nfseal/nfseal/proxy/xdr"
)

var testSuite, _, _, _ = ssv.Choose([][]byte{{0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3}}, [][]byte{{0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42}})

// testContext is the server's end of a handle.
type testContext struct {
	*ssv.Context
	ssv.Window
	destroyed atomic.Bool
}

func (c *testContext) Destroy() { c.destroyed.Store(true) }

// gssTestHandler is a testHandler with one handle, "handle".
type gssTestHandler struct {
	testHandler
	context testContext
}

func (h *gssTestHandler) GSSContext(handle []byte) GSSContext {
	if string(handle) != "handle" || h.context.destroyed.Load() {
		return nil
	}
	return &h.context
}

func newGSSHandler(t testing.TB) (h *gssTestHandler, client *ssv.Context) {
	t.Helper()
	h, client = new(gssTestHandler), ssv.New(testSuite, 2, ssv.Client)
	h.context.Context = ssv.New(testSuite, 2, ssv.Server)
	change := bytes.Repeat([]byte{1}, testSuite.SSVBytes())
	if _, err := h.context.Set(change, nil, client.Digest(nil), nil); err != nil {
		t.Fatal(err)
	}
	if err := client.Change(change); err != nil {
		t.Fatal(err)
	}
	return h, client
}

// gssMessage is a call with RPCSEC_GSS; what is zero is put in by encode.
type gssMessage struct {
	procedure     uint32
	version, proc uint32
	sequence      uint32
	service       GSSService
	handle        string
	args          []byte
	verifier      uint32 // its flavour
	inner         uint32 // the sequence number beside the arguments
	spoil         func(message []byte)
}

func (m gssMessage) encode(c *ssv.Context) []byte {
	if m.version == 0 {
		m.version = gssVersion
	}
	if m.handle == "" {
		m.handle = "handle"
	}
	if m.verifier == 0 {
		m.verifier = uint32(AuthGSS)
	}
	if m.inner == 0 {
		m.inner = m.sequence
	}
	e := xdr.NewEncoder(make([]byte, 0, 2<<20))
	for _, v := range []uint32{5, msgCall, Version, testProgram, 3, m.procedure, uint32(AuthGSS), uint32(20 + (len(m.handle)+3)&^3),
		m.version, m.proc, m.sequence, uint32(m.service)} {
		e.Uint32(v)
	}
	e.String(m.handle)
	mic, _ := c.AppendMIC(nil, e.Bytes())
	e.Uint32(m.verifier)
	e.Opaque(mic)
	body := append(binary.BigEndian.AppendUint32(nil, m.inner), m.args...)
	switch m.service {
	case GSSIntegrity:
		token, _ := c.AppendMIC(nil, body)
		e.Opaque(body)
		e.Opaque(token)
	case GSSPrivacy:
		at, total := c.SealedBytes(len(body))
		token := make([]byte, total)
		copy(token[at:], body)
		c.Seal(token, len(body))
		e.Opaque(token)
	default:
		e.Append(m.args)
	}
	b := e.Bytes()
	if m.spoil != nil {
		m.spoil(b)
	}
	return b
}

// unwrap checks a successful reply to a call with RPCSEC_GSS and returns the results.
func (m gssMessage) unwrap(t *testing.T, c *ssv.Context, reply []byte) []byte {
	t.Helper()
	d := xdr.NewDecoder(reply)
	head := d.Fixed(12)
	flavor, verifier, stat := d.Uint32(), d.Opaque(MaxAuthBytes), d.Uint32()
	if !bytes.Equal(head, []byte{0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0}) || flavor != uint32(AuthGSS) || stat != 0 {
		t.Fatalf("reply %x", reply)
	}
	sequence := binary.BigEndian.AppendUint32(nil, m.sequence)
	if !c.VerifyMIC(sequence, verifier) {
		t.Fatal("the verifier is not of the sequence number")
	}
	body := d.Rest()
	switch m.service {
	case GSSIntegrity:
		body = d.Opaque(d.Remaining())
		if token := d.Opaque(MaxAuthBytes); !c.VerifyMIC(body, token) {
			t.Fatal("the checksum is not of the results")
		}
	case GSSPrivacy:
		body, _ = c.Unseal(d.Opaque(d.Remaining()))
	default:
		return body
	}
	if d.Err() != nil || d.Remaining() != 0 || !bytes.HasPrefix(body, sequence) {
		t.Fatalf("%v, %d bytes left, results %x", d.Err(), d.Remaining(), body)
	}
	return body[4:]
}

// serveGSS is serve with h.
func serveGSS(t *testing.T, h Handler, o Options) *served {
	client, server := tcpPair(t)
	s := &served{Conn: client, t: t, stats: new(Stats), done: make(chan error, 1)}
	o.Stats = s.stats
	go func() { s.done <- ServeConn(context.Background(), server, h, o) }()
	t.Cleanup(func() {
		client.Close()
		s.wait()
	})
	return s
}

func opaque(data []byte) []byte {
	e := xdr.NewEncoder(make([]byte, 0, len(data)+8))
	e.Opaque(data)
	return e.Bytes()
}

func TestGSS(t *testing.T) {
	h, client := newGSSHandler(t)
	s := serveGSS(t, h, Options{})
	sequence := uint32(7)
	for _, service := range []GSSService{GSSNone, GSSIntegrity, GSSPrivacy} {
		for _, n := range []int{0, 1, 15, 16, 100, 9000, 1 << 20} {
			sequence++
			m := gssMessage{procedure: procEcho, sequence: sequence, service: service, args: opaque(bytes.Repeat([]byte{'x'}, n))}
			s.send(record(m.encode(client), 1<<21))
			if got := m.unwrap(t, client, s.receive()); !bytes.Equal(got, m.args) {
				t.Errorf("service %d: %d bytes come back as %d", service, len(m.args), len(got))
			}
		}
	}
}

func TestGSSRefusals(t *testing.T) {
	accept := func(s AcceptStatus) *RejectedError { return &RejectedError{Accept: s} }
	deny := func(s AuthStatus) *RejectedError { return &RejectedError{Denied: true, Auth: s} }
	last := func(b []byte) { b[len(b)-1] ^= 1 }
	args := opaque([]byte("data"))
	for _, c := range []struct {
		name      string
		m         gssMessage
		want      *RejectedError
		destroyed bool
	}{
		{"RPCSEC_GSS_INIT", gssMessage{proc: 1, service: GSSNone}, deny(AuthBadCred), false},
		{"RPCSEC_GSS_CONTINUE_INIT", gssMessage{proc: 2, service: GSSNone}, deny(AuthBadCred), false},
		{"unknown control procedure", gssMessage{proc: 4, service: GSSNone}, deny(AuthBadCred), false},
		{"version 2", gssMessage{version: 2, service: GSSNone}, deny(AuthBadCred), false},
		{"service 0", gssMessage{procedure: procEcho, args: args}, deny(AuthBadCred), false},
		{"service 4", gssMessage{procedure: procEcho, args: args, service: 4}, deny(AuthBadCred), false},
		{"RPCSEC_GSS_DESTROY elsewhere", gssMessage{procedure: procEcho, proc: gssDestroy, service: GSSNone}, deny(AuthBadCred), false},
		{"another handle", gssMessage{procedure: procEcho, handle: "candle", service: GSSNone}, deny(AuthGSSCredProblem), false},
		{"no verifier", gssMessage{procedure: procEcho, service: GSSNone, verifier: 1}, deny(AuthGSSCredProblem), false},
		{"verifier of another call", gssMessage{procedure: procEcho, service: GSSNone, spoil: func(b []byte) { b[3]++ }},
			deny(AuthGSSCredProblem), false},
		{"sequence number too high", gssMessage{procedure: procEcho, service: GSSNone, sequence: gssMaxSequence + 1},
			deny(AuthGSSContextProblem), true},
		{"the highest sequence number", gssMessage{procedure: 99, service: GSSNone, sequence: gssMaxSequence}, accept(ProcUnavail), false},
		{"another sequence number beside the arguments", gssMessage{procedure: procEcho, args: args, service: GSSIntegrity, sequence: 3, inner: 4},
			accept(GarbageArgs), false},
		{"the same, sealed", gssMessage{procedure: procEcho, args: args, service: GSSPrivacy, sequence: 3, inner: 4}, accept(GarbageArgs), false},
		{"checksum", gssMessage{procedure: procEcho, args: args, service: GSSIntegrity, spoil: last}, accept(GarbageArgs), false},
		{"seal", gssMessage{procedure: procEcho, args: args, service: GSSPrivacy, spoil: last}, accept(GarbageArgs), false},
		{"handler fails", gssMessage{procedure: procFail, service: GSSPrivacy}, accept(SystemErr), false},
		{"reply over the limit", gssMessage{procedure: procBig, args: []byte{0, 1, 0, 0}, service: GSSPrivacy}, accept(SystemErr), false},
		{"reply that has no room for tokens", gssMessage{procedure: procBig, args: []byte{0, 0, 0xff, 0xe8}, service: GSSPrivacy}, accept(SystemErr), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, client := newGSSHandler(t)
			s := serveGSS(t, h, Options{MaxReplyBytes: 1 << 16})
			s.send(record(c.m.encode(client), 1<<20))
			reply := s.receive()
			xid, _, err := ParseReply(reply)
			var got *RejectedError
			wantXID := uint32(5)
			if c.name == "verifier of another call" {
				wantXID++
			}
			if !errors.As(err, &got) || *got != *c.want || xid != wantXID || h.context.destroyed.Load() != c.destroyed {
				t.Errorf("xid %d, %v, destroyed %v; want %v", xid, err, h.context.destroyed.Load(), c.want)
			}
			if d := xdr.NewDecoder(reply[verifierAt:]); !c.want.Denied &&
				(d.Uint32() != uint32(AuthGSS) || len(d.Opaque(MaxAuthBytes)) != client.MICBytes() || d.Remaining() != 4) {
				t.Errorf("accepted, but not with a verifier and a status alone: %x", reply)
			}
		})
	}
}

// Without a GSSHandler all calls with RPCSEC_GSS are refused, as those of other flavours are.
func TestGSSUnserved(t *testing.T) {
	_, client := newGSSHandler(t)
	s := serve(t, Options{})
	s.send(record(gssMessage{procedure: procEcho, service: GSSNone}.encode(client), 1<<20))
	var got *RejectedError
	if _, _, err := ParseReply(s.receive()); !errors.As(err, &got) || got.Auth != AuthBadCred || s.stats.Refused.Load() != 1 {
		t.Errorf("%v, %d counted", err, s.stats.Refused.Load())
	}
}

// A call that comes twice is not answered twice; the connection goes on.
func TestGSSReplay(t *testing.T) {
	h, client := newGSSHandler(t)
	s := serveGSS(t, h, Options{})
	first := gssMessage{procedure: procEcho, sequence: 300, service: GSSIntegrity, args: opaque([]byte("one"))}
	s.send(record(first.encode(client), 1<<20))
	first.unwrap(t, client, s.receive())
	s.send(record(first.encode(client), 1<<20))
	old := first
	old.sequence -= ssv.WindowLen
	s.send(record(old.encode(client), 1<<20))
	next := gssMessage{procedure: procEcho, sequence: 299, service: GSSIntegrity, args: opaque([]byte("two"))}
	s.send(record(next.encode(client), 1<<20))
	if got := next.unwrap(t, client, s.receive()); !bytes.Equal(got, next.args) {
		t.Errorf("the next answer is %q", got)
	}
}

func TestGSSDestroy(t *testing.T) {
	h, client := newGSSHandler(t)
	s := serveGSS(t, h, Options{})
	m := gssMessage{proc: gssDestroy, sequence: 9, service: GSSIntegrity}
	s.send(record(m.encode(client), 1<<20))
	m.service = GSSNone // of what has no results
	if got := m.unwrap(t, client, s.receive()); len(got) != 0 || !h.context.destroyed.Load() {
		t.Errorf("results %x, destroyed %v", got, h.context.destroyed.Load())
	}
	m = gssMessage{procedure: procEcho, sequence: 10, service: GSSIntegrity, args: opaque(nil)}
	s.send(record(m.encode(client), 1<<20))
	var rejected *RejectedError
	if _, _, err := ParseReply(s.receive()); !errors.As(err, &rejected) || rejected.Auth != AuthGSSCredProblem {
		t.Errorf("a handle that was destroyed: %v", err)
	}
}

// FuzzGSS parses, admits and unwraps arbitrary bytes behind the header of a call: what gets through is what a client has made.
func FuzzGSS(f *testing.F) {
	h, client := newGSSHandler(f)
	for _, service := range []GSSService{GSSNone, GSSIntegrity, GSSPrivacy} {
		f.Add(gssMessage{procedure: procEcho, sequence: 1, service: service, args: opaque([]byte("data"))}.encode(client))
	}
	f.Add(gssMessage{proc: gssDestroy, service: GSSNone}.encode(client))
	f.Add(gssMessage{proc: 1, service: GSSNone}.encode(client))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c Call
		data = bytes.Clone(data)
		if c.parse(data) != nil || c.Auth.Flavor != AuthGSS {
			return
		}
		if status, _ := c.admitGSS(h); status != AuthOK {
			return
		}
		if !bytes.Equal(c.gss.header, data[:len(c.gss.header)]) || !h.context.VerifyMIC(c.gss.header, c.gss.verifier) {
			t.Fatalf("%x is let in", data)
		}
		if c.unwrapGSS() && c.Args.Remaining() > len(data) {
			t.Fatalf("%d bytes of arguments in %d", c.Args.Remaining(), len(data))
		}
		h.context.destroyed.Store(false)
	})
}

// AUTH_SYS takes no notice of it all: TestServeAllocations holds, and nothing of another call stays in one.
func TestGSSLeavesNothing(t *testing.T) {
	h, client := newGSSHandler(t)
	s := serveGSS(t, h, Options{})
	m := gssMessage{procedure: procEcho, sequence: 1, service: GSSPrivacy, args: opaque([]byte("secret"))}
	s.send(record(m.encode(client), 1<<20))
	m.unwrap(t, client, s.receive())
	s.send(record(message(6, procEcho, []byte("plain")), 1<<20))
	s.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, d, err := ParseReply(s.receive()); err != nil || string(d.Opaque(100)) != "plain" {
		t.Errorf("AUTH_SYS after RPCSEC_GSS: %v", err)
	}
}
