package nfs4_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/ssv"
	"github.com/nfseal/nfseal/proxy/xdr"
)

var (
	oidSHA256 = []byte{6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1}
	oidAES256 = []byte{6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42}
)

// wired is a connection to a Service with all of RPC.
type wired struct {
	t    testing.TB
	conn net.Conn
	from *rpc.RecordReader
	end  func()
}

func dial(t testing.TB, s *nfs4.Service, identity string) *wired {
	near, far := net.Pipe()
	b := s.Bind(nfs4.ConnInfo{Grant: everything, Identity: identity})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = rpc.ServeConn(context.Background(), far, b, rpc.Options{}) // ends with the client
		b.Close()
	})
	w := &wired{t: t, conn: near, from: rpc.NewRecordReader(near, 2<<20)}
	w.end = sync.OnceFunc(func() {
		near.Close()
		wg.Wait()
	})
	t.Cleanup(w.end)
	return w
}

func (w *wired) send(record []byte) {
	w.t.Helper()
	mark := binary.BigEndian.AppendUint32(nil, 1<<31|uint32(len(record)))
	if _, err := w.conn.Write(append(mark, record...)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wired) receive() []byte {
	w.t.Helper()
	record, err := w.from.Next(nil)
	if err != nil && err != io.EOF {
		w.t.Fatal(err)
	}
	return record
}

// bySys sends the arguments of a COMPOUND with AUTH_SYS of uid 0.
func (w *wired) bySys(args []byte) *answer {
	w.t.Helper()
	auth := sysAuth(0, 0)
	e := xdr.NewEncoder(make([]byte, 0, len(args)+200))
	rpc.AppendCall(&e, lastXID.Add(1), wire.Program, wire.RPCVersion, wire.ProcCompound, &auth)
	e.Append(args)
	w.send(e.Bytes())
	return parseAnswer(w.receive())
}

// gss is how a call is protected.
type gss struct {
	context  *ssv.Context
	handle   []byte
	sequence uint32
	service  rpc.GSSService
}

// encode is a call of a procedure.
func (g *gss) encode(procedure, control uint32, args []byte) []byte {
	e := xdr.NewEncoder(make([]byte, 0, len(args)+1000))
	for _, v := range []uint32{lastXID.Add(1), 0, 2, wire.Program, wire.RPCVersion, procedure, 6, uint32(20 + len(g.handle)),
		1, control, g.sequence, uint32(g.service)} {
		e.Uint32(v)
	}
	e.Opaque(g.handle)
	mic, _ := g.context.AppendMIC(nil, e.Bytes())
	e.Uint32(6)
	e.Opaque(mic)
	body := append(binary.BigEndian.AppendUint32(nil, g.sequence), args...)
	switch g.service {
	case rpc.GSSIntegrity:
		token, _ := g.context.AppendMIC(nil, body)
		e.Opaque(body)
		e.Opaque(token)
	case rpc.GSSPrivacy:
		at, total := g.context.SealedBytes(len(body))
		token := make([]byte, total)
		copy(token[at:], body)
		g.context.Seal(token, len(body))
		e.Opaque(token)
	default:
		e.Append(args)
	}
	return e.Bytes()
}

// decode checks a reply with context, and gives it back as one without protection.
func (g *gss) decode(t testing.TB, context *ssv.Context, reply []byte) (plain []byte, err error) {
	t.Helper()
	if _, _, err := rpc.ParseReply(reply); err != nil {
		return nil, err
	}
	d := xdr.NewDecoder(reply[16:])
	sequence := binary.BigEndian.AppendUint32(nil, g.sequence)
	if verifier := d.Opaque(400); !context.VerifyMIC(sequence, verifier) {
		t.Fatal("the verifier is not of the sequence number")
	}
	d.Uint32()
	body := d.Rest()
	switch g.service {
	case rpc.GSSIntegrity:
		body = d.Opaque(d.Remaining())
		if !context.VerifyMIC(body, d.Opaque(400)) {
			t.Fatal("the checksum is not of the results")
		}
	case rpc.GSSPrivacy:
		body, _ = context.Unseal(d.Opaque(d.Remaining()))
	}
	if g.service != rpc.GSSNone {
		if !bytes.HasPrefix(body, sequence) {
			t.Fatalf("results %x", body)
		}
		body = body[4:]
	}
	return append(append(bytes.Clone(reply[:12]), make([]byte, 12)...), body...), nil
}

// by sends the arguments of a COMPOUND under g.
func (w *wired) by(g *gss, args []byte) (*answer, error) {
	w.t.Helper()
	g.sequence++
	w.send(g.encode(wire.ProcCompound, 0, args))
	plain, err := g.decode(w.t, g.context, w.receive())
	if err != nil {
		return nil, err
	}
	return parseAnswer(plain), nil
}

// ssvPeer is a client with an SSV, its session, and a connection.
type ssvPeer struct {
	*session
	w      *wired
	gss    gss
	more   [][]byte // handles
	seqid  uint32   // for CREATE_SESSION
	total  []byte   // all that was sent in SET_SSV, XORed: the SSV
	result wire.ExchangeIDRes
}

// usual is what pynfs has enforced, and EXCHANGE_ID and SET_SSV.
var usual = []wire.Op{wire.OP_BACKCHANNEL_CTL, wire.OP_BIND_CONN_TO_SESSION, wire.OP_CREATE_SESSION, wire.OP_DESTROY_CLIENTID,
	wire.OP_DESTROY_SESSION, wire.OP_EXCHANGE_ID, wire.OP_SET_SSV}

func bitmap(ops ...wire.Op) (b wire.Bitmap) {
	for _, op := range ops {
		b.Set(wire.AttrNumber(op))
	}
	return b
}

func exchangeSSV(owner string, verifier byte, handles uint32, enforce ...wire.Op) *wire.ExchangeIDArgs {
	return &wire.ExchangeIDArgs{OwnerID: []byte(owner), Verifier: wire.Verifier{verifier}, Protect: wire.SP4_SSV,
		Ops: wire.ProtectOps{MustEnforce: bitmap(enforce...), MustAllow: bitmap(wire.OP_CLOSE, wire.OP_WRITE)},
		SSV: wire.SSVParms{HashAlgs: [][]byte{oidSHA256}, EncrAlgs: [][]byte{oidAES256}, Window: 2, NumHandles: handles}}
}

// newGuarded makes a client whose SSV is still zero.
func (r *rig) newGuarded(owner string, enforce ...wire.Op) *ssvPeer {
	r.t.Helper()
	w := dial(r.t, r.s, "")
	a := w.bySys(encodeCompound("", 1, call{wire.OP_EXCHANGE_ID, exchangeSSV(owner, 1, 2, enforce...)}))
	wantStatus(r.t, a, wire.NFS4_OK)
	ex := last[wire.ExchangeIDRes](r.t, a)
	suite, _, _, _ := ssv.Choose([][]byte{oidSHA256}, [][]byte{oidAES256})
	p := &ssvPeer{w: w, result: *ex, more: ex.SSV.Handles, seqid: ex.SequenceID}
	p.session = &session{r: r, minor: 1, auth: sysAuth(0, 0), clientID: ex.ClientID}
	p.gss = gss{ssv.New(suite, 2, ssv.Client), ex.SSV.Handles[0], 0, rpc.GSSPrivacy}
	a = w.bySys(p.create())
	wantStatus(r.t, a, wire.NFS4_OK)
	p.id = last[wire.CreateSessionRes](r.t, a).SessionID
	return p
}

// create is the next CREATE_SESSION.
func (p *ssvPeer) create() []byte {
	p.seqid++
	return encodeCompound("", 1, call{wire.OP_CREATE_SESSION,
		&wire.CreateSessionArgs{ClientID: p.clientID, SequenceID: p.seqid - 1, Fore: wide, Back: wide}})
}

// setSSV is the next request, with SET_SSV, and what it changes.
func (p *ssvPeer) setSSV(n byte) (args, change []byte) {
	change = bytes.Repeat([]byte{n}, p.gss.context.Suite().SSVBytes())
	change[0], change[1] = n^0x80, byte(p.clientID)<<4
	p.seq++
	e := xdr.NewEncoder(make([]byte, 0, 100))
	p.sequence().args.Encode(&e)
	return encodeCompound("t", p.minor, p.sequence(), call{wire.OP_SET_SSV, &wire.SetSSVArgs{SSV: change, Digest: p.gss.context.Digest(e.Bytes())}}), change
}

// change takes part in a SET_SSV that was answered with a.
func (p *ssvPeer) change(a *answer, change []byte) {
	p.r.t.Helper()
	wantStatus(p.r.t, a, wire.NFS4_OK)
	if err := p.gss.context.Change(change); err != nil {
		p.r.t.Fatal(err)
	}
	e := xdr.NewEncoder(make([]byte, 0, 100))
	e.Uint32(0)
	at[wire.SequenceRes](p.r.t, a, 0).Encode(&e)
	server := ssv.New(p.gss.context.Suite(), 1, ssv.Server) // of the same secret, to tell what it signs
	_ = server.Change(p.secret(change))
	if got := last[wire.SetSSVRes](p.r.t, a).Digest; !bytes.Equal(got, server.Digest(e.Bytes())) {
		p.r.t.Errorf("the digest of the result is %x", got)
	}
}

// secret is the SSV after change, of those before, which setSSV has made of n and n^0x80.
func (p *ssvPeer) secret(change []byte) []byte {
	if p.total == nil {
		p.total = make([]byte, len(change))
	}
	for i := range change {
		p.total[i] ^= change[i]
	}
	return p.total
}

// establish sends the first SET_SSV.
func (p *ssvPeer) establish() *ssvPeer {
	p.r.t.Helper()
	args, change := p.setSSV(1)
	p.change(p.w.bySys(args), change)
	return p
}

// sys sends the next request with AUTH_SYS, and under does under the SSV.
func (p *ssvPeer) sys(want wire.Status, ops ...call) *answer {
	p.r.t.Helper()
	a := p.w.bySys(p.encode(ops...))
	wantStatus(p.r.t, a, want)
	return a
}

func (p *ssvPeer) under(want wire.Status, ops ...call) *answer {
	p.r.t.Helper()
	a, err := p.w.by(&p.gss, p.encode(ops...))
	if err != nil {
		p.r.t.Fatal(err)
	}
	wantStatus(p.r.t, a, want)
	return a
}

// alone sends an operation without a session, with AUTH_SYS, which must fail with refused, then under the SSV.
func (p *ssvPeer) alone(refused, want wire.Status, op call) *answer {
	p.r.t.Helper()
	args := encodeCompound("", 1, op)
	wantStatus(p.r.t, p.w.bySys(args), refused)
	a, err := p.w.by(&p.gss, args)
	if err != nil {
		p.r.t.Fatal(err)
	}
	wantStatus(p.r.t, a, want)
	return a
}

func denied(t testing.TB, err error, want rpc.AuthStatus) {
	t.Helper()
	var rejected *rpc.RejectedError
	if !errors.As(err, &rejected) || !rejected.Denied || rejected.Auth != want {
		t.Errorf("got %v, want auth status %d", err, want)
	}
}

// The life of a client with an SSV: what is enforced is refused without it, and done with it.
func TestSSV(t *testing.T) {
	for _, service := range []rpc.GSSService{rpc.GSSIntegrity, rpc.GSSPrivacy} {
		r := newRig(t, nil)
		p := r.newGuarded("c", append(usual, wire.OP_SEQUENCE)...)
		p.gss.service = service
		if got := p.result; got.Protect != wire.SP4_SSV || got.Ops.MustEnforce != bitmap(usual...) || got.Ops.MustAllow != bitmap(wire.OP_CLOSE) ||
			got.SSV.SSVLen != 32 || got.SSV.Window != 2 || len(got.SSV.Handles) != 2 {
			t.Fatalf("granted %+v", got)
		}
		backchannel := call{wire.OP_BACKCHANNEL_CTL, &wire.BackchannelCtlArgs{}}
		_, err := p.w.by(&p.gss, p.encode(putRoot))
		denied(t, err, rpc.AuthGSSCredProblem) // there is no token of an SSV that everybody knows
		p.seq--
		wantStatus(t, p.w.bySys(p.create()), wire.NFS4ERR_WRONG_CRED) // nor a second session
		p.seqid--

		p.establish()
		p.sys(wire.NFS4_OK, reclaimComplete, putRoot, getFH)
		p.under(wire.NFS4_OK, putRoot, getFH)
		p.sys(wire.NFS4ERR_WRONG_CRED, putRoot, backchannel)
		p.under(wire.NFS4_OK, putRoot, backchannel)
		args, _ := p.setSSV(9)
		wantStatus(t, p.w.bySys(args), wire.NFS4ERR_WRONG_CRED)

		wantStatus(t, p.w.bySys(p.create()), wire.NFS4ERR_WRONG_CRED)
		p.seqid--
		a, err := p.w.by(&p.gss, p.create())
		if err != nil {
			t.Fatal(err)
		}
		wantStatus(t, a, wire.NFS4_OK)
		second := last[wire.CreateSessionRes](t, a).SessionID

		if n := r.s.Stats().SSV.Bound; n != 2 { // one to each session
			t.Errorf("%d connections are bound", n)
		}
		first, other := p.w, dial(t, r.s, "")
		p.w = other
		wantStatus(t, p.w.bySys(p.encode(putRoot)), wire.NFS4ERR_CONN_NOT_BOUND_TO_SESSION)
		p.seq-- // nothing has happened
		destroy := call{wire.OP_DESTROY_SESSION, &wire.DestroySessionArgs{SessionID: p.id}}
		p.alone(wire.NFS4ERR_WRONG_CRED, wire.NFS4ERR_CONN_NOT_BOUND_TO_SESSION, destroy)
		bind := func(dir uint32) call {
			return call{wire.OP_BIND_CONN_TO_SESSION, &wire.BindConnToSessionArgs{SessionID: p.id, Dir: dir}}
		}
		p.alone(wire.NFS4ERR_WRONG_CRED, wire.NFS4_OK, bind(wire.CDFC4_FORE))
		p.sys(wire.NFS4_OK, putRoot)
		first.end()
		if n := r.s.Stats().SSV.Bound; n != 1 {
			t.Errorf("%d connections are bound, of one", n)
		}
		p.sys(wire.NFS4_OK, putRoot)

		p.alone(wire.NFS4ERR_WRONG_CRED, wire.NFS4_OK, destroy)
		p.id = second
		p.alone(wire.NFS4ERR_WRONG_CRED, wire.NFS4_OK, bind(wire.CDFC4_FORE))
		destroy.args = &wire.DestroySessionArgs{SessionID: p.id}
		p.alone(wire.NFS4ERR_WRONG_CRED, wire.NFS4_OK, destroy)
		p.alone(wire.NFS4ERR_WRONG_CRED, wire.NFS4_OK, call{wire.OP_DESTROY_CLIENTID, &wire.DestroyClientIDArgs{ClientID: p.clientID}})
		_, err = p.w.by(&p.gss, encodeCompound("", 1))
		denied(t, err, rpc.AuthGSSCredProblem)
		if n := r.s.Stats().SSV; n != (nfs4.SSVStats{Unknown: 1, Refused: 1}) {
			t.Errorf("counted %+v", n)
		}
	}
}

// Tokens are good under the present SSV and the one before, as many as the client wants to be kept.
func TestSSVVersions(t *testing.T) {
	r := newRig(t, nil)
	p := r.newGuarded("c").establish()
	old, older := p.gss, p.gss
	keep := func(of *gss) {
		copied := ssv.New(of.context.Suite(), 2, ssv.Client)
		if err := copied.Change(bytes.Clone(p.total)); err != nil {
			t.Fatal(err)
		}
		of.context = copied
	}
	keep(&older)
	keep(&old)
	args, change := p.setSSV(2)
	g := &p.gss
	g.sequence++
	p.w.send(g.encode(wire.ProcCompound, 0, args)) // under the old one, answered under the new one
	reply := p.w.receive()
	probe := ssv.New(g.context.Suite(), 2, ssv.Client)
	_ = probe.Change(bytes.Clone(p.total))
	_ = probe.Change(change)
	plain, err := g.decode(t, probe, reply)
	if err != nil {
		t.Fatal(err)
	}
	p.change(parseAnswer(plain), change)
	p.under(wire.NFS4_OK, putRoot)
	old.sequence = 100
	p.w.send(old.encode(wire.ProcCompound, 0, p.encode(putRoot)))
	if plain, err = old.decode(t, p.gss.context, p.w.receive()); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, parseAnswer(plain), wire.NFS4_OK)
	args, change = p.setSSV(3)
	p.change(p.w.bySys(args), change)
	older.sequence = 101
	_, err = p.w.by(&older, p.encode(putRoot))
	denied(t, err, rpc.AuthGSSCredProblem)
}

func TestSetSSV(t *testing.T) {
	r := newRig(t, nil)
	p := r.newGuarded("c", usual...)
	good, change := p.setSSV(1)
	p.seq--
	send := func(want wire.Status, spoil func(a *wire.SetSSVArgs)) {
		t.Helper()
		p.seq++
		e := xdr.NewEncoder(make([]byte, 0, 100))
		p.sequence().args.Encode(&e)
		a := &wire.SetSSVArgs{SSV: bytes.Clone(change), Digest: p.gss.context.Digest(e.Bytes())}
		spoil(a)
		wantStatus(t, p.w.bySys(encodeCompound("t", 1, p.sequence(), call{wire.OP_SET_SSV, a})), want)
	}
	send(wire.NFS4ERR_BAD_SESSION_DIGEST, func(a *wire.SetSSVArgs) { a.Digest[0]++ })
	send(wire.NFS4ERR_BAD_SESSION_DIGEST, func(a *wire.SetSSVArgs) { a.Digest = nil })
	send(wire.NFS4ERR_INVAL, func(a *wire.SetSSVArgs) { clear(a.SSV) })
	send(wire.NFS4ERR_INVAL, func(a *wire.SetSSVArgs) { a.SSV = a.SSV[4:] })
	p.seq++
	wantStatus(t, p.w.bySys(bytes.Replace(good, []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 54},
		[]byte{0, 0, 0, byte(p.seq), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 54}, 1)), wire.NFS4ERR_BAD_SESSION_DIGEST) // of another SEQUENCE

	args, change := p.setSSV(1)
	first := p.w.bySys(args)
	p.change(first, change)
	again := p.w.bySys(args)
	if !bytes.Equal(first.raw, again.raw) {
		t.Errorf("a retry is answered %x, after %x", again.raw, first.raw)
	}
	p.under(wire.NFS4_OK, putRoot) // it was not done twice
	args = p.encode(putRoot)
	wantStatus(t, p.w.bySys(args), wire.NFS4_OK)
	wantStatus(t, p.w.bySys(args), wire.NFS4ERR_RETRY_UNCACHED_REP) // what follows is no longer kept

	s := r.newSession("without")
	s.fails(wire.NFS4ERR_INVAL, call{wire.OP_SET_SSV, &wire.SetSSVArgs{SSV: change, Digest: change}})
	wantStatus(t, r.raw(call{wire.OP_SET_SSV, &wire.SetSSVArgs{}}), wire.NFS4ERR_OP_NOT_IN_SESSION)
}

// The answer to SET_SSV is repeated as it was, though the session is to use fewer slots since: what it says of them is signed.
func TestSetSSVAgainWithFewerSlots(t *testing.T) {
	r := newRig(t, func(o *nfs4.Options) { o.Limits.ReplyCacheBytes, o.Limits.Slots = 64<<10, 4 })
	p := r.newGuarded("c")
	args, change := p.setSSV(1)
	first := p.w.bySys(args)
	p.change(first, change)
	for i := range 20 { // until the reply cache is full
		ex := last[wire.ExchangeIDRes](t, r.raw(exchangeID(string(rune('d'+i)))))
		r.raw(call{wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ClientID: ex.ClientID, SequenceID: ex.SequenceID, Fore: wide, Back: wide}})
	}
	again := p.w.bySys(args)
	if !bytes.Equal(first.raw, again.raw) {
		t.Errorf("a retry is answered %x, after %x", again.raw, first.raw)
	}
	if target := at[wire.SequenceRes](t, p.sys(wire.NFS4_OK, putRoot), 0).TargetHighestSlot; target != 0 {
		t.Errorf("the target is %d, and was so before", target)
	}
}

func TestExchangeIDWithSSV(t *testing.T) {
	r := newRig(t, nil)
	with := func(change func(a *wire.ExchangeIDArgs)) *wire.ExchangeIDArgs {
		a := exchangeSSV("c", 1, 0)
		change(a)
		return a
	}
	for _, c := range []struct {
		name string
		args *wire.ExchangeIDArgs
		want wire.Status
	}{
		{"no hash", with(func(a *wire.ExchangeIDArgs) { a.SSV.HashAlgs = nil }), wire.NFS4ERR_INVAL},
		{"no cipher", with(func(a *wire.ExchangeIDArgs) { a.SSV.EncrAlgs = nil }), wire.NFS4ERR_INVAL},
		{"no window", with(func(a *wire.ExchangeIDArgs) { a.SSV.Window = 0 }), wire.NFS4ERR_INVAL},
		{"unknown hash", with(func(a *wire.ExchangeIDArgs) { a.SSV.HashAlgs[0] = []byte("md5") }), wire.NFS4ERR_HASH_ALG_UNSUPP},
		{"unknown cipher", with(func(a *wire.ExchangeIDArgs) { a.SSV.EncrAlgs[0] = []byte("des") }), wire.NFS4ERR_ENCR_ALG_UNSUPP},
		{"no handles", with(func(*wire.ExchangeIDArgs) {}), wire.NFS4_OK},
		{"a wide window, many handles", with(func(a *wire.ExchangeIDArgs) { a.SSV.Window, a.SSV.NumHandles = 1<<32-1, 1<<32-1 }), wire.NFS4_OK},
	} {
		a := r.raw(call{wire.OP_EXCHANGE_ID, c.args})
		wantStatus(t, a, c.want)
		if a.status != wire.NFS4_OK {
			continue
		}
		if got := last[wire.ExchangeIDRes](t, a).SSV; got.Window > ssv.MaxWindow || len(got.Handles) > 16 || len(got.Handles) < int(min(c.args.SSV.NumHandles, 1)) {
			t.Errorf("%s: granted %+v", c.name, got)
		}
	}
	if n := r.s.Stats().SSV.Handles; n != 16 {
		t.Errorf("there are %d handles of one client", n)
	}
	a := handle(r.b, rpc.Auth{}, encodeCompound("", 1, call{wire.OP_EXCHANGE_ID, exchangeSSV("n", 1, 1)}))
	wantStatus(t, a, wire.NFS4ERR_INVAL) // AUTH_NONE
}

// A confirmed record keeps its protection, and is spoken of under its SSV alone; who has restarted starts over.
func TestExchangeIDUnderSSV(t *testing.T) {
	r := newRig(t, nil)
	p := r.newGuarded("c", usual...)
	exchange := func(change func(a *wire.ExchangeIDArgs)) call {
		a := exchangeSSV("c", 1, 1, usual...)
		change(a)
		return call{wire.OP_EXCHANGE_ID, a}
	}
	as := exchange(func(*wire.ExchangeIDArgs) {})
	wantStatus(t, p.w.bySys(encodeCompound("", 1, as)), wire.NFS4_OK) // a retry, for all that is known yet
	p.establish()
	update := exchange(func(a *wire.ExchangeIDArgs) { a.Flags = wire.EXCHGID4_FLAG_UPD_CONFIRMED_REC_A })
	for _, op := range []call{as, update} {
		a := p.alone(wire.NFS4ERR_PERM, wire.NFS4_OK, op)
		ex := last[wire.ExchangeIDRes](t, a)
		if ex.ClientID != p.clientID || ex.Flags&wire.EXCHGID4_FLAG_CONFIRMED_R == 0 || len(ex.SSV.Handles) != 1 {
			t.Errorf("told %+v", ex)
		}
		p.gss.handle, p.gss.sequence = ex.SSV.Handles[0], 0
		p.under(wire.NFS4_OK, putRoot)
	}
	p.sys(wire.NFS4ERR_PERM, update) // in a session it says so itself
	for _, op := range []call{
		exchange(func(a *wire.ExchangeIDArgs) { *a = wire.ExchangeIDArgs{OwnerID: a.OwnerID, Verifier: a.Verifier} }),
		exchange(func(a *wire.ExchangeIDArgs) { a.SSV.EncrAlgs[0] = append(bytes.Clone(oidAES256[:10]), 2) }),
	} {
		p.alone(wire.NFS4ERR_PERM, wire.NFS4ERR_INVAL, op)
	}
	a, err := p.w.by(&p.gss, encodeCompound("", 1, exchangeID("another")))
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, a, wire.NFS4ERR_PERM) // an SSV is nobody's principal but its client's
	wantStatus(t, r.raw(exchange(func(a *wire.ExchangeIDArgs) { a.Verifier[0] = 2 })), wire.NFS4_OK)
	p.under(wire.NFS4_OK, putRoot) // until that one is confirmed
}

// A handle is good for its client alone, on its file system, for its identity, and as long as it lasts.
func TestSSVHandles(t *testing.T) {
	r := newRig(t, nil)
	p, q := r.newGuarded("p", usual...).establish(), r.newGuarded("q", usual...).establish()

	bind := call{wire.OP_BIND_CONN_TO_SESSION, &wire.BindConnToSessionArgs{SessionID: p.id, Dir: wire.CDFC4_FORE}}
	q.alone(wire.NFS4ERR_WRONG_CRED, wire.NFS4ERR_WRONG_CRED, bind)
	a, err := p.w.by(&q.gss, p.encode(putRoot, call{wire.OP_BACKCHANNEL_CTL, &wire.BackchannelCtlArgs{}}))
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, a, wire.NFS4ERR_WRONG_CRED)
	mixed := q.gss
	mixed.handle, mixed.sequence = p.gss.handle, 50
	_, err = p.w.by(&mixed, p.encode(putRoot)) // p's handle, q's secret
	denied(t, err, rpc.AuthGSSCredProblem)
	p.seq--

	unproven := p.gss
	unproven.service, unproven.sequence = rpc.GSSNone, 60
	if a, err = p.w.by(&unproven, encodeCompound("", 1, bind)); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, a, wire.NFS4ERR_WRONG_CRED) // its arguments could be anybody's

	stranger := dial(t, r.s, "somebody else")
	p.gss.sequence = 70
	_, err = stranger.by(&p.gss, encodeCompound("", 1))
	denied(t, err, rpc.AuthGSSCredProblem)
	elsewhere := dial(t, newRig(t, nil).s, "")
	_, err = elsewhere.by(&p.gss, encodeCompound("", 1))
	denied(t, err, rpc.AuthGSSCredProblem)

	ex := last[wire.ExchangeIDRes](t, p.w.bySys(encodeCompound("", 1, call{wire.OP_EXCHANGE_ID, exchangeSSV("new", 1, 1)})))
	early := p.gss
	early.handle = ex.SSV.Handles[0]
	_, err = p.w.by(&early, encodeCompound("", 1)) // of a client that is not confirmed
	denied(t, err, rpc.AuthGSSCredProblem)

	p.gss.sequence++
	p.w.send(p.gss.encode(wire.ProcNull, 3, nil))
	destroyed := p.gss
	destroyed.service = rpc.GSSNone
	if _, err := destroyed.decode(t, p.gss.context, p.w.receive()); err != nil {
		t.Fatal(err)
	}
	_, err = p.w.by(&p.gss, encodeCompound("", 1))
	denied(t, err, rpc.AuthGSSCredProblem)
	p.gss.handle = p.more[1]
	p.under(wire.NFS4_OK, putRoot)

	record := p.gss.encode(wire.ProcCompound, 0, p.encode(putRoot)) // with a sequence number that was used
	p.w.send(record)
	wantStatus(t, p.w.bySys(encodeCompound("", 1)), wire.NFS4_OK) // is answered first: that is not answered at all
	p.seq--
	if n := r.s.Stats().SSV; n.Replayed != 1 || n.Handles != 4 {
		t.Errorf("counted %+v", n)
	}
	if a, err = p.w.by(&p.gss, encodeCompound("", 0, putRoot)); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, a, wire.NFS4ERR_MINOR_VERS_MISMATCH)
}

// Who comes under an SSV is nobody, as far as files go, and may close what others have opened.
func TestSSVFiles(t *testing.T) {
	r := newRig(t, nil)
	p := r.newGuarded("c").establish()
	p.sys(wire.NFS4_OK, reclaimComplete)
	opened := p.sys(wire.NFS4_OK, putRoot, create("roots", 0o600), getFH)
	h, id := last[wire.GetFHRes](t, opened).Handle, at[wire.OpenRes](t, opened, 2).Stateid
	p.under(wire.NFS4ERR_ACCESS, putRoot, open("roots", wire.OPEN4_SHARE_ACCESS_READ))
	p.under(wire.NFS4_OK, putFH(h), closeFile(id))
	a := p.under(wire.NFS4_OK, putRoot, create("nobodys", 0o600), getAttr(wire.FATTR4_OWNER))
	if !bytes.Contains(a.raw, []byte("65534")) {
		t.Errorf("the owner is not nobody: %x", a.raw)
	}
	p.under(wire.NFS4_OK, putRoot, lookup("nobodys"), write(wire.Stateid{}, 0, string(bytes.Repeat([]byte{'x'}, 300_000))))
	got := p.under(wire.NFS4_OK, putRoot, lookup("nobodys"), read(wire.Stateid{}, 0, 300_000))
	if n := len(last[wire.ReadRes](t, got).Data); n != 300_000 {
		t.Errorf("%d bytes are read", n)
	}
}

// A server that has started anew knows no SSV: its client begins anew, as the principal that it was, and reclaims.
func TestSSVAfterRestart(t *testing.T) {
	r := newRig(t, nil)
	p := r.newGuarded("c", usual...).establish()
	p.sys(wire.NFS4_OK, reclaimComplete, putRoot, create("f", 0o644))
	p.w.end()
	r.restart()
	p.w = dial(t, r.s, "")
	_, err := p.w.by(&p.gss, p.encode(putRoot))
	denied(t, err, rpc.AuthGSSCredProblem)
	reclaim := &wire.OpenArgs{ShareAccess: wire.OPEN4_SHARE_ACCESS_BOTH, Owner: wire.Owner{Owner: []byte("owner")},
		Claim: wire.CLAIM_PREVIOUS, DelegateType: wire.OPEN_DELEGATE_NONE}
	root := r.newSessionWith("thief", wide)
	q := r.newGuarded("c", usual...)
	h := last[wire.GetFHRes](t, q.sys(wire.NFS4_OK, putRoot, lookup("f"), getFH)).Handle
	root.fails(wire.NFS4ERR_RECLAIM_BAD, putFH(h), call{wire.OP_OPEN, reclaim})
	q.establish()
	q.sys(wire.NFS4_OK, putFH(h), call{wire.OP_OPEN, reclaim}, reclaimComplete)
}
