package state

import (
	"bytes"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/ssv"
)

var testSuite, _, _, _ = ssv.Choose([][]byte{{0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1}}, [][]byte{{0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42}})

func ops(list ...wire.Op) (b wire.Bitmap) {
	for _, op := range list {
		b.Set(wire.AttrNumber(op))
	}
	return b
}

// guarded is a peer with an SSV and a handle.
type guarded struct {
	*peer
	b      *bench
	seqid  uint32
	handle *Handle
	conn   Conn
}

func (b *bench) exchangeSSV(owner string, v byte, r *SSVRequest, proof *Handle) (ExchangeIDResult, wire.Status) {
	b.Helper()
	req := &ExchangeIDRequest{Owner: []byte(owner), Verifier: verifier(v), Principal: principal(1), SSV: r, Proof: proof}
	if proof != nil {
		req.Principal = Principal{Flavor: gssFlavor}
	}
	res, victim, s := b.m.ExchangeID(req)
	if victim != 0 {
		b.Fatalf("victim %d", victim)
	}
	return res, s
}

func (b *bench) newGuarded(owner string, enforce ...wire.Op) *guarded {
	b.Helper()
	res, s := b.exchangeSSV(owner, 1, &SSVRequest{Suite: testSuite, Enforce: ops(enforce...), Window: 2, Handles: 1}, nil)
	b.want(s, wire.NFS4_OK)
	if b.m.Handle(res.SSV.Handles[0], "") != nil {
		b.Error("a handle is good before its client is confirmed")
	}
	g := &guarded{b: b, seqid: res.Sequence, conn: new(int)}
	args := b.createArgs(res.ClientID, res.Sequence, 1)
	args.Conn = g.conn
	created, s := b.m.CreateSession(args)
	b.want(s, wire.NFS4_OK)
	g.peer = &peer{b: b, id: res.ClientID, session: created.Session}
	if g.handle = b.m.Handle(res.SSV.Handles[0], ""); g.handle == nil {
		b.Fatal("the handle is not good")
	}
	return g
}

// sequence is a SEQUENCE on slot 0 over a connection.
func (g *guarded) sequence(conn Conn, sequence uint32) (*Ticket, wire.Status) {
	var t Ticket
	_, s := g.b.m.Sequence(&SequenceRequest{Session: g.session, Conn: conn, Sequence: sequence, Operations: 2}, &t)
	return &t, s
}

// set gives g an SSV.
func (g *guarded) set(sequence uint32) {
	g.b.Helper()
	t, s := g.sequence(g.conn, sequence)
	g.b.want(s, wire.NFS4_OK)
	digest := ssv.New(testSuite, 1, ssv.Client).Digest([]byte("in"))
	_, s = g.b.m.SetSSV(t, bytes.Repeat([]byte{9}, testSuite.SSVBytes()), digest, []byte("in"), []byte("out"))
	g.b.want(s, wire.NFS4_OK)
	g.b.m.Finish(t, []byte("reply"), false)
}

// What is enforced, of whom, and from when on.
func TestEnforcement(t *testing.T) {
	const none, own, others = 0, 1, 2
	session := func(b *bench, g *guarded, op wire.Op, proof *Handle) wire.Status {
		ticket, s := g.sequence(g.conn, 1)
		if s != wire.NFS4_OK {
			ticket, s = g.sequence(g.conn, 2)
		}
		b.want(s, wire.NFS4_OK)
		defer b.m.Finish(ticket, nil, false)
		if ticket.Guarded() && ticket.Refuses(op, proof) {
			return wire.NFS4ERR_WRONG_CRED
		}
		return wire.NFS4_OK
	}
	bind := func(b *bench, g *guarded, _ wire.Op, proof *Handle) wire.Status {
		_, s := b.m.BindConn(g.session, "", new(int), true, proof)
		return s
	}
	destroy := func(b *bench, g *guarded, _ wire.Op, proof *Handle) wire.Status {
		return b.m.MayDestroySession(g.session, "", g.conn, proof)
	}
	create := func(b *bench, g *guarded, _ wire.Op, proof *Handle) wire.Status {
		args := b.createArgs(g.id, g.seqid+1, 2)
		args.Proof = proof
		_, s := b.m.CreateSession(args)
		return s
	}
	again := func(b *bench, g *guarded, _ wire.Op, proof *Handle) wire.Status {
		res, s := b.m.CreateSession(b.createArgs(g.id, g.seqid, 1))
		if s == wire.NFS4_OK && !res.Replayed {
			t.Error("the first session is created twice")
		}
		return s
	}
	second := func(b *bench, g *guarded, _ wire.Op, proof *Handle) wire.Status {
		args := b.createArgs(g.id, g.seqid+1, 1)
		args.Proof = g.handle
		_, s := b.m.CreateSession(args)
		b.want(s, wire.NFS4_OK)
		args.Proof = proof
		_, s = b.m.CreateSession(args)
		return s
	}
	forget := func(b *bench, g *guarded, _ wire.Op, proof *Handle) wire.Status {
		b.want(b.m.DestroySession(g.session, nil), wire.NFS4_OK)
		_, s := b.m.DestroyClientID(g.id, "", proof)
		return s
	}
	refused, done := wire.NFS4ERR_WRONG_CRED, wire.NFS4_OK
	for _, c := range []struct {
		name     string
		op       wire.Op
		do       func(*bench, *guarded, wire.Op, *Handle) wire.Status
		enforced bool
		set      bool // there is an SSV
		want     [3]wire.Status
	}{
		{"BACKCHANNEL_CTL", wire.OP_BACKCHANNEL_CTL, session, true, true, [3]wire.Status{none: refused, own: done, others: refused}},
		{"BACKCHANNEL_CTL, no SSV yet", wire.OP_BACKCHANNEL_CTL, session, true, false, [3]wire.Status{none: refused, own: done, others: refused}},
		{"BACKCHANNEL_CTL, not wanted", wire.OP_BACKCHANNEL_CTL, session, false, true, [3]wire.Status{none: done, own: done, others: done}},
		{"SET_SSV", wire.OP_SET_SSV, session, true, true, [3]wire.Status{none: refused, own: done, others: refused}},
		{"the first SET_SSV", wire.OP_SET_SSV, session, true, false, [3]wire.Status{none: done, own: done, others: done}},
		{"CREATE_SESSION", wire.OP_CREATE_SESSION, create, true, true, [3]wire.Status{none: refused, own: done, others: refused}},
		{"CREATE_SESSION, not wanted", wire.OP_CREATE_SESSION, create, false, true, [3]wire.Status{none: done, own: done, others: done}},
		{"the first CREATE_SESSION again", wire.OP_CREATE_SESSION, again, true, true, [3]wire.Status{none: done, own: done, others: done}},
		{"the second one again", wire.OP_CREATE_SESSION, second, true, true, [3]wire.Status{none: refused, own: done, others: refused}},
		{"BIND_CONN_TO_SESSION", wire.OP_BIND_CONN_TO_SESSION, bind, true, true, [3]wire.Status{none: refused, own: done, others: refused}},
		{"BIND_CONN_TO_SESSION, not wanted", wire.OP_BIND_CONN_TO_SESSION, bind, false, true, [3]wire.Status{none: refused, own: done, others: refused}},
		{"DESTROY_SESSION, not wanted", wire.OP_DESTROY_SESSION, destroy, false, true, [3]wire.Status{none: refused, own: done, others: refused}},
		{"DESTROY_CLIENTID", wire.OP_DESTROY_CLIENTID, forget, true, true, [3]wire.Status{none: refused, own: done, others: refused}},
		{"DESTROY_CLIENTID, not wanted", wire.OP_DESTROY_CLIENTID, forget, false, true, [3]wire.Status{none: done, own: done, others: done}},
	} {
		for who, want := range c.want {
			b := newBench(t, nil)
			enforce := []wire.Op{wire.OP_RENAME}
			if c.enforced {
				enforce = append(enforce, c.op)
			}
			g, other := b.newGuarded("g", enforce...), b.newGuarded("other", c.op)
			if c.set {
				g.set(1)
			}
			if got := c.do(b, g, c.op, []*Handle{nil, g.handle, other.handle}[who]); got != want {
				t.Errorf("%s, proof %d: %v, want %v", c.name, who, got, want)
			}
		}
	}
}

func TestBoundConnections(t *testing.T) {
	b := newBench(t, nil)
	g, stranger := b.newGuarded("g", wire.OP_BIND_CONN_TO_SESSION), Conn(new(int))
	_, s := g.sequence(stranger, 1)
	b.want(s, wire.NFS4ERR_CONN_NOT_BOUND_TO_SESSION)
	b.want(b.m.MayDestroySession(g.session, "", stranger, g.handle), wire.NFS4ERR_CONN_NOT_BOUND_TO_SESSION)
	bound, s := b.m.BindConn(g.session, "", stranger, false, g.handle) // to the backchannel alone
	if b.want(s, wire.NFS4_OK); bound {
		t.Error("the backchannel's connection is one of the fore channel")
	}
	_, s = g.sequence(stranger, 1)
	b.want(s, wire.NFS4ERR_CONN_NOT_BOUND_TO_SESSION)
	bound, s = b.m.BindConn(g.session, "", stranger, true, g.handle)
	if b.want(s, wire.NFS4_OK); !bound {
		t.Error("the connection is not bound")
	}
	ticket, s := g.sequence(stranger, 1) // the slot has not moved
	b.want(s, wire.NFS4_OK)
	b.m.Finish(ticket, nil, false)
	b.m.ForgetConn(stranger)
	_, s = g.sequence(stranger, 2)
	b.want(s, wire.NFS4ERR_CONN_NOT_BOUND_TO_SESSION)
	_, s = b.m.BindConn(g.session, "somebody", g.conn, true, g.handle)
	b.want(s, wire.NFS4ERR_BADSESSION)
	free := b.newGuarded("free", wire.OP_CREATE_SESSION)
	_, s = free.sequence(stranger, 1)
	b.want(s, wire.NFS4_OK)
}

// Who sends CREATE_SESSION once more, since its connection has ended without the answer, has the session over the new one: nobody
// but the client itself, which needs the SSV for that as soon as there is one.
func TestCreateSessionAgainIsBound(t *testing.T) {
	b := newBench(t, nil)
	g := b.newGuarded("g", wire.OP_BIND_CONN_TO_SESSION)
	again := func(uid uint32, proof *Handle) (conn Conn, bound bool) {
		args := b.createArgs(g.id, g.seqid, uid)
		args.Conn, args.Proof = new(int), proof
		res, s := b.m.CreateSession(args)
		b.want(s, wire.NFS4_OK)
		if res.Session != g.session || !res.Replayed || res.Bound != res.Joined {
			t.Errorf("got %+v", res)
		}
		return args.Conn, res.Bound
	}
	b.m.ForgetConn(g.conn)
	if _, bound := again(2, nil); bound {
		t.Error("somebody else's connection is bound")
	}
	g.conn, _ = again(1, nil)
	g.set(1)
	if _, bound := again(1, nil); bound {
		t.Error("bound without the SSV")
	}
	conn, _ := again(1, g.handle)
	ticket, s := g.sequence(conn, 2)
	b.want(s, wire.NFS4_OK)
	b.m.Finish(ticket, nil, false)
	b.want(b.m.DestroySession(g.session, nil), wire.NFS4_OK)
	if _, bound := again(1, g.handle); bound {
		t.Error("bound to a session that is gone")
	}
}

// There are never more handles than may be, and none of a client that is gone.
func TestHandles(t *testing.T) {
	b := newBench(t, nil)
	g := b.newGuarded("g", wire.OP_RENAME)
	ask := &SSVRequest{Suite: testSuite, Window: 1, Handles: maxHandles - 1}
	first, s := b.exchangeSSV("g", 1, ask, nil)
	b.want(s, wire.NFS4_OK)
	if b.m.Handle(g.handle.id[:], "") == nil {
		t.Error("the first handle goes while there is room")
	}
	ask.Handles = 1
	_, s = b.exchangeSSV("g", 1, ask, nil)
	b.want(s, wire.NFS4_OK)
	if b.m.Handle(g.handle.id[:], "") != nil || b.m.Handle(first.SSV.Handles[0], "") == nil {
		t.Error("not the oldest handle goes")
	}
	if n := b.m.Stats().SSV; n.Handles != maxHandles || n.Unknown != 2 {
		t.Errorf("counted %+v", n)
	}
	b.m.Handle(first.SSV.Handles[0], "").Destroy()
	g.handle.Destroy() // once more does no harm
	if n := b.m.Stats().SSV.Handles; n != maxHandles-1 {
		t.Errorf("%d handles are left", n)
	}
	for _, name := range [][]byte{nil, first.SSV.Handles[0], first.SSV.Handles[1][:15], append(bytes.Clone(first.SSV.Handles[1]), 0)} {
		if b.m.Handle(name, "") != nil {
			t.Errorf("%x is a handle", name)
		}
	}
	if b.m.Handle(first.SSV.Handles[1], "somebody") != nil {
		t.Error("a handle is somebody else's")
	}
	b.want(b.m.DestroySession(g.session, nil), wire.NFS4_OK)
	_, s = b.m.DestroyClientID(g.id, "", nil)
	b.want(s, wire.NFS4_OK)
	if n := b.m.Stats().SSV.Handles; n != 0 {
		t.Errorf("%d handles are left of nobody", n)
	}
}

// Who may say something of a record that has an SSV.
func TestExchangeIDOfProtected(t *testing.T) {
	ask := &SSVRequest{Suite: testSuite, Enforce: ops(wire.OP_EXCHANGE_ID), Window: 2, Handles: 1}
	for _, c := range []struct {
		name     string
		enforce  wire.Op
		set      bool
		verifier byte
		ask      *SSVRequest
		proof    bool
		want     wire.Status
	}{
		{"again, no SSV yet", wire.OP_EXCHANGE_ID, false, 1, ask, false, wire.NFS4_OK},
		{"again", wire.OP_EXCHANGE_ID, true, 1, ask, false, wire.NFS4ERR_PERM},
		{"again, under the SSV", wire.OP_EXCHANGE_ID, true, 1, ask, true, wire.NFS4_OK},
		{"again, not wanted", wire.OP_RENAME, true, 1, ask, false, wire.NFS4_OK},
		{"again, not allowed under the SSV", wire.OP_RENAME, true, 1, ask, true, wire.NFS4ERR_PERM},
		{"restarted", wire.OP_EXCHANGE_ID, true, 2, ask, false, wire.NFS4_OK},
		{"restarted without", wire.OP_EXCHANGE_ID, true, 2, nil, false, wire.NFS4_OK},
		{"no protection any more", wire.OP_EXCHANGE_ID, true, 1, nil, true, wire.NFS4ERR_INVAL},
	} {
		b := newBench(t, nil)
		g := b.newGuarded("g", c.enforce)
		if c.set {
			g.set(1)
		}
		var proof *Handle
		if c.proof {
			proof = g.handle
		}
		if _, got := b.exchangeSSV("g", c.verifier, c.ask, proof); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	b := newBench(t, nil)
	g := b.newGuarded("g", wire.OP_EXCHANGE_ID)
	_, s := b.exchangeSSV("nobody's", 1, ask, g.handle)
	b.want(s, wire.NFS4ERR_PERM)
}
