package nfs4_test

import (
	"runtime"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// sampleOps has one call of each operation that has arguments.
func sampleOps(s *session, h []byte, id wire.Stateid) []call {
	lock := &wire.LockArgs{Type: wire.WRITE_LT, Length: 1, NewOwner: true, OpenStateid: id, Owner: wire.Owner{Owner: []byte("lock owner")}}
	exclusive := openArgs("exclusive", forBoth)
	exclusive.Create, exclusive.CreateMode, exclusive.Attrs = true, wire.EXCLUSIVE4_1, withMode(0o644)
	tests := &wire.TestStateidArgs{}
	tests.Add(id)
	return []call{
		access(1), closeFile(id), commit(5), mkdir("d", 0o755),
		{wire.OP_CREATE, &wire.CreateArgs{Type: wire.NF4LNK, Name: []byte("l"), Target: []byte("target")}},
		{wire.OP_CREATE, &wire.CreateArgs{Type: wire.NF4CHR, Name: []byte("c")}},
		{wire.OP_DELEGRETURN, &wire.DelegReturnArgs{}}, free(id), getAttr(wire.FATTR4_SIZE, wire.FATTR4_MODE), linkTo("x"),
		{wire.OP_LOCK, lock},
		{wire.OP_LOCKT, &wire.LockTArgs{Type: wire.READ_LT, Length: 1, Owner: wire.Owner{Owner: []byte("o")}}},
		{wire.OP_LOCKU, &wire.LockUArgs{Type: wire.READ_LT, Stateid: id, Length: 1}},
		lookup("name"),
		{wire.OP_NVERIFY, &wire.VerifyArgs{Attrs: withSize(1)}}, open("f", forRead), {wire.OP_OPEN, exclusive},
		{wire.OP_OPEN_DOWNGRADE, &wire.OpenDowngradeArgs{Stateid: id, ShareAccess: 1}},
		putFH(h), read(id, 0, 10), readdir(0, 100, 1000, wire.FATTR4_TYPE), remove("name"), rename("a", "b"), secinfo("name"),
		setAttr(id, withSize(5)), {wire.OP_VERIFY, &wire.VerifyArgs{Attrs: withMode(1)}}, write(id, 0, "data"),
		{wire.OP_BACKCHANNEL_CTL, &wire.BackchannelCtlArgs{CBProgram: 1, Sec: []wire.CallbackSec{{Flavor: 1, Machine: []byte("m"), GIDs: []uint32{1}}}}},
		{wire.OP_BIND_CONN_TO_SESSION, &wire.BindConnToSessionArgs{SessionID: s.id, Dir: 1}},
		{wire.OP_EXCHANGE_ID, &wire.ExchangeIDArgs{OwnerID: []byte("owner"), HasImpl: true, Impl: wire.ImplID{Domain: []byte("d"), Name: []byte("n")}}},
		{wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ClientID: 1, Fore: wide, Back: wide, Sec: []wire.CallbackSec{{}}}},
		{wire.OP_DESTROY_SESSION, &wire.DestroySessionArgs{SessionID: wire.SessionID{1}}},
		{wire.OP_DESTROY_CLIENTID, &wire.DestroyClientIDArgs{ClientID: 1}},
		{wire.OP_RECLAIM_COMPLETE, &wire.ReclaimCompleteArgs{}}, noName(0), {wire.OP_TEST_STATEID, tests}, s.sequence(),
	}
}

// Every operation, cut off after every word, is NFS4ERR_BADXDR; the session lives.
func TestTruncatedOperations(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	h, id := s.makeFile("f", 0o644)
	for _, op := range sampleOps(s, h, id) {
		e := xdr.NewEncoder(make([]byte, 0, 4096))
		op.args.Encode(&e)
		for cut := range e.Len() {
			args := s.encode(putRoot, saveFH, op)
			args = args[:len(args)-e.Len()+cut]
			a := handle(s.b, s.auth, args)
			wantStatus(t, a, wire.NFS4ERR_BADXDR)
			if len(a.results) != 4 || a.results[3].op != op.op {
				t.Fatalf("%v cut at %d: %+v", op.op, cut, a.results)
			}
		}
	}
	// The same for what comes before a session, and for SEQUENCE itself.
	for _, op := range sampleOps(s, h, id) {
		switch op.op {
		case wire.OP_EXCHANGE_ID, wire.OP_CREATE_SESSION, wire.OP_DESTROY_SESSION, wire.OP_DESTROY_CLIENTID,
			wire.OP_BIND_CONN_TO_SESSION, wire.OP_SEQUENCE:
		default:
			continue
		}
		whole := encodeCompound("", 1, op)
		for cut := 16; cut < len(whole); cut++ {
			wantStatus(t, handle(r.b, s.auth, whole[:cut]), wire.NFS4ERR_BADXDR)
		}
	}
	s.ok(putFH(h), getAttr(wire.FATTR4_SIZE))
}

// A header that cannot be read is GARBAGE_ARGS; operations that were announced and did not come fail
// where they would begin.
func TestTruncatedCompounds(t *testing.T) {
	r := newRig(t, nil)
	whole := encodeCompound("tag", 1, exchangeID("x"))
	for cut := range 16 {
		if a := handle(r.b, sysAuth(0, 0), whole[:cut]); a.accept != rpc.GarbageArgs {
			t.Errorf("cut at %d: %+v", cut, a)
		}
	}
	s := r.newSession("c")
	args := s.encode(putRoot, getFH, getFH)
	a := handle(s.b, s.auth, args[:len(args)-4])
	wantStatus(t, a, wire.NFS4ERR_BADXDR)
	if len(a.results) != 4 || a.results[3].op != wire.OP_ILLEGAL {
		t.Errorf("got %+v", a.results)
	}
	absurd := encodeCompound("", 1, putRoot)
	absurd[8] = 0xff // the number of operations
	if a := handle(r.b, sysAuth(0, 0), absurd); a.accept != rpc.GarbageArgs {
		t.Errorf("got %+v", a)
	}
}

// Counts that a client makes up do not become memory.
func TestHostileSizes(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	h, id := s.makeFile("f", 0o644)
	s.ok(putFH(h), read(id, 0, ^uint32(0)))
	s.ok(putRoot, readdir(0, ^uint32(0), ^uint32(0), wire.FATTR4_TYPE))
	for _, op := range []wire.Op{wire.OP_LOOKUP, wire.OP_REMOVE, wire.OP_PUTFH, wire.OP_TEST_STATEID, wire.OP_GETATTR, wire.OP_SECINFO} {
		args := append(s.encode(putRoot, call{op: op}), 0xff, 0xff, 0xff, 0xff)
		wantStatus(t, handle(s.b, s.auth, args), wire.NFS4ERR_BADXDR)
	}
	p := newRepeater(s, putRoot, readdir(0, ^uint32(0), ^uint32(0), wire.FATTR4_TYPE))
	const requests = 200
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range requests {
		p.send(t)
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / requests; got > 16<<10 {
		t.Errorf("%d bytes a request", got)
	}
}

// FuzzCompound sends arbitrary operations within a valid session. Whatever comes, the reply is one
// that a client can read, and the session lives.
func FuzzCompound(f *testing.F) {
	seed := newRig(f, nil)
	s := seed.newSession("c")
	h, id := s.makeFile("f", 0o644)
	samples := sampleOps(s, h, id)
	whole := func(ops ...call) []byte {
		e := xdr.NewEncoder(make([]byte, 0, 1<<16))
		for _, op := range ops {
			e.Uint32(uint32(op.op))
			if op.args != nil {
				op.args.Encode(&e)
			}
		}
		return e.Bytes()
	}
	for _, op := range samples {
		f.Add(uint8(3), whole(putRoot, saveFH, op))
		f.Add(uint8(3), whole(putRoot, create("n", 0o644), op))
	}
	f.Add(uint8(1), whole(call{op: 9999}))
	f.Fuzz(func(t *testing.T, count uint8, ops []byte) {
		r := newRig(t, nil)
		s := r.newSession("c")
		s.makeFile("f", 0o644)
		e := xdr.NewEncoder(make([]byte, 0, len(ops)+200))
		head := wire.CompoundArgs{Tag: []byte("fuzz"), MinorVersion: 1, Ops: int(count) + 1}
		head.Encode(&e)
		s.seq++
		e.Uint32(uint32(wire.OP_SEQUENCE))
		s.sequence().args.Encode(&e)
		e.Append(ops)
		a := handle(s.b, s.auth, e.Bytes())
		switch {
		case a.silent:
			t.Fatal("no reply")
		case a.raw == nil || len(a.results) > 0 && a.results[0].status != wire.NFS4_OK:
			s.seq-- // not let in
		case r.s.Stats().Sessions == 0:
			return // it destroyed its session
		}
		s.ok(putRoot, getFH)
	})
}
