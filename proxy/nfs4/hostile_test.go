package nfs4_test

import (
	"runtime"
	"slices"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// samplesOf has one call of each operation of a minor version that has arguments.
func samplesOf(minor uint32, s *session, h []byte, id wire.Stateid, o *old, id40 wire.Stateid) []call {
	ops := sampleOps(s, h, id)
	switch minor {
	case 0:
		all := slices.DeleteFunc(ops, func(c call) bool { return !c.op.In(0) })
		return append(all, sampleOps40(o, id40)...)
	case 2:
		return append(ops, sampleOps42(id)...)
	}
	return ops
}

// sampleOps40 are those that minor version 0 has alone or does in its own way, each as o's next request.
func sampleOps40(o *old, id wire.Stateid) []call {
	owner := wire.Owner{ClientID: o.id, Owner: []byte("lock owner")}
	opens := openArgs("f", forRead)
	opens.Owner, opens.Seqid = wire.Owner{ClientID: o.id, Owner: []byte(o.owner)}, o.seqid
	return []call{
		setClientID("c", 1), confirmClientID(&wire.SetClientIDRes{ClientID: o.id}),
		{wire.OP_RENEW, &wire.RenewArgs{ClientID: o.id}}, {wire.OP_OPEN, opens},
		{wire.OP_OPEN_CONFIRM, &wire.OpenConfirmArgs{Stateid: id, Seqid: o.seqid}},
		{wire.OP_CLOSE, &wire.CloseArgs{Stateid: id, Seqid: o.seqid}},
		{wire.OP_OPEN_DOWNGRADE, &wire.OpenDowngradeArgs{Stateid: id, Seqid: o.seqid, ShareAccess: 1}},
		{wire.OP_LOCK, &wire.LockArgs{Type: wire.WRITE_LT, Length: 1, NewOwner: true, OpenSeqid: o.seqid, OpenStateid: id, Owner: owner}},
		{wire.OP_LOCKT, &wire.LockTArgs{Type: wire.READ_LT, Length: 1, Owner: owner}},
		{wire.OP_LOCKU, &wire.LockUArgs{Type: wire.READ_LT, Stateid: id, Length: 1}},
		{wire.OP_RELEASE_LOCKOWNER, &wire.ReleaseLockOwnerArgs{Owner: owner}},
	}
}

// sampleOps42 are those that came with minor version 2.
func sampleOps42(id wire.Stateid) []call {
	clone := cloneOf(id, id, 0, 0, 4096)
	return []call{
		allocate(id, 0, 2), deallocate(id, 0, 2), seek(id, 0, wire.NFS4_CONTENT_DATA), readPlus(id, 0, 2),
		{wire.OP_IO_ADVISE, &wire.IOAdviseArgs{Stateid: id, Count: 2, Hints: wire.Bitmap{2}}},
		{wire.OP_CLONE, &clone}, copyOf(id, id, 0, 4096, 4096),
		{wire.OP_OFFLOAD_CANCEL, &wire.OffloadArgs{Stateid: id}}, {wire.OP_OFFLOAD_STATUS, &wire.OffloadArgs{Stateid: id}},
		getXattr("key"), setXattr("key", "value", wire.SETXATTR4_EITHER), listXattrs(0, 1000), removeXattr("key"),
	}
}

// sampleOps has one call of each operation of minor version 1 that has arguments.
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

// compound is a COMPOUND of s's minor version, the next request of the session if there are any.
func (s *session) compound(ops ...call) []byte {
	if s.minor == 0 {
		return encodeCompound("t", 0, ops...)
	}
	return s.encode(ops...)
}

// Every operation of every minor version, cut off after every byte, is NFS4ERR_BADXDR; session and client live.
func TestTruncatedOperations(t *testing.T) {
	for minor := range uint32(3) {
		r := newRig(t, nil)
		s, o := r.newSession("c"), r.newOld("old")
		h, id := s.makeFile("f", 0o644)
		h40, id40 := o.makeFile("g")
		s.minor = minor
		for _, op := range samplesOf(minor, s, h, id, o, id40) {
			cutOff(t, s, op)
		}
		s.minor = 1
		s.ok(putFH(h), read(id, 0, 1))
		o.ok(putFH(h40), read(id40, 0, 1), o.closes(id40))
	}
}

func cutOff(t *testing.T, s *session, op call) {
	t.Helper()
	e := xdr.NewEncoder(make([]byte, 0, 4096))
	op.args.Encode(&e)
	for cut := range e.Len() {
		args := s.compound(putRoot, saveFH, op)
		a := handle(s.b, s.auth, args[:len(args)-e.Len()+cut])
		wantStatus(t, a, wire.NFS4ERR_BADXDR)
		if n := len(a.results); n != 3 && s.minor == 0 || n != 4 && s.minor > 0 || a.results[n-1].op != op.op {
			t.Fatalf("%v of minor version %d cut at %d: %+v", op.op, s.minor, cut, a.results)
		}
	}
}

// The same for what comes before a session, and for SEQUENCE itself.
func TestTruncatedFirstOperations(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	h, id := s.makeFile("f", 0o644)
	for _, op := range sampleOps(s, h, id) {
		switch op.op {
		case wire.OP_EXCHANGE_ID, wire.OP_CREATE_SESSION, wire.OP_DESTROY_SESSION, wire.OP_DESTROY_CLIENTID,
			wire.OP_BIND_CONN_TO_SESSION, wire.OP_SEQUENCE:
		default:
			continue
		}
		for _, minor := range []uint32{1, 2} {
			whole := encodeCompound("", minor, op)
			for cut := 16; cut < len(whole); cut++ {
				wantStatus(t, handle(r.b, s.auth, whole[:cut]), wire.NFS4ERR_BADXDR)
			}
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

// fuzzed is what FuzzCompound sends to: the same every time, as far as ids go that are not random.
func fuzzed(t testing.TB) (s *session, h []byte, id wire.Stateid, o *old, id40 wire.Stateid) {
	r := newRig(t, nil)
	s, o = r.newSession("c"), r.newOld("old")
	h, id = s.makeFile("f", 0o644)
	_, id40 = o.makeFile("g")
	return s, h, id, o, id40
}

// encodeOps is operations without what goes around them.
func encodeOps(ops ...call) []byte { return encodeCompound("", 0, ops...)[12:] }

// FuzzCompound sends arbitrary operations of any minor version, within a valid session where there are any.
// Whatever comes, the reply is one that a client can read, and the session lives.
func FuzzCompound(f *testing.F) {
	s, h, id, o, id40 := fuzzed(f)
	for minor := range uint8(3) {
		for _, op := range samplesOf(uint32(minor), s, h, id, o, id40) {
			f.Add(minor, uint8(3), encodeOps(putRoot, saveFH, op))
			f.Add(minor, uint8(4), encodeOps(putRoot, create("n", 0o644), saveFH, op))
			f.Add(minor, uint8(4), encodeOps(putRoot, lookup("f"), saveFH, op))
			f.Add(minor, uint8(4), encodeOps(putRoot, lookup("g"), saveFH, op))
		}
		f.Add(minor, uint8(1), encodeOps(call{op: 9999}))
	}
	f.Fuzz(func(t *testing.T, minor, count uint8, ops []byte) {
		s, _, _, _, _ := fuzzed(t)
		head := wire.CompoundArgs{Tag: []byte("fuzz"), MinorVersion: uint32(minor % 3), Ops: int(count)}
		var sequence []byte
		if head.MinorVersion > 0 {
			s.seq++
			head.Ops++
			sequence = encodeOps(s.sequence())
		}
		e := xdr.NewEncoder(make([]byte, 0, len(ops)+200))
		head.Encode(&e)
		e.Append(sequence)
		e.Append(ops)
		a := handle(s.b, s.auth, e.Bytes())
		switch {
		case a.silent:
			t.Fatal("no reply")
		case len(sequence) > 0 && (a.raw == nil || len(a.results) > 0 && a.results[0].status != wire.NFS4_OK):
			s.seq-- // not let in
		case s.r.s.Stats().Sessions == 0:
			return // it destroyed its session
		}
		s.ok(putRoot, getFH)
	})
}
