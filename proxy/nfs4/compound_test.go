package nfs4_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

func TestMinorVersions(t *testing.T) {
	r := newRig(t, nil)
	for _, minor := range []uint32{3, 1 << 31} {
		a := handle(r.b, sysAuth(0, 0), encodeCompound("hello", minor, putRoot))
		wantStatus(t, a, wire.NFS4ERR_MINOR_VERS_MISMATCH)
		if len(a.results) != 0 || a.tag != "hello" {
			t.Errorf("minor version %d: %+v", minor, a)
		}
	}
	wantStatus(t, handle(r.b, sysAuth(0, 0), encodeCompound("", 1)), wire.NFS4_OK)
}

func TestProcedures(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		program, version, procedure uint32
		want                        rpc.AcceptStatus
	}{
		{wire.Program, 4, 0, rpc.Success},
		{wire.Program, 4, 2, rpc.ProcUnavail},
		{wire.Program, 3, 0, rpc.ProgMismatch},
		{400123, 1, 2, rpc.ProgUnavail}, // what efs-proxy asks first
		{wire.Program, 4, 1, rpc.GarbageArgs},
	} {
		call := rpc.Call{Program: c.program, Version: c.version, Procedure: c.procedure}
		e := xdr.NewEncoder(make([]byte, 0, 4096))
		r.b.Handle(context.Background(), &call, &e)
		_, _, err := rpc.ParseReply(e.Bytes())
		got := rpc.Success
		if rejected, ok := err.(*rpc.RejectedError); ok {
			got = rejected.Accept
		}
		if got != c.want {
			t.Errorf("%+v: got %v (%v)", c, got, err)
		}
	}
}

func TestPositions(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	destroy := call{wire.OP_DESTROY_SESSION, &wire.DestroySessionArgs{SessionID: s.id}}
	bind := call{wire.OP_BIND_CONN_TO_SESSION, &wire.BindConnToSessionArgs{SessionID: s.id, Dir: wire.CDFC4_FORE}}
	for _, c := range []struct {
		name string
		ops  []call
		want wire.Status
	}{
		{"no session", []call{putRoot}, wire.NFS4ERR_OP_NOT_IN_SESSION},
		{"known and not served", []call{{op: wire.OP_SETCLIENTID}}, wire.NFS4ERR_OP_NOT_IN_SESSION},
		{"of 4.2", []call{{op: wire.OP_SEEK}}, wire.NFS4ERR_OP_ILLEGAL},
		{"of no version", []call{{op: 2}}, wire.NFS4ERR_OP_ILLEGAL},
		{"absurd", []call{{op: 1 << 31}, putRoot}, wire.NFS4ERR_OP_ILLEGAL},
		{"not alone", []call{exchangeID("x"), putRoot}, wire.NFS4ERR_NOT_ONLY_OP},
		{"not alone", []call{destroy, putRoot}, wire.NFS4ERR_NOT_ONLY_OP},
	} {
		a := r.raw(c.ops...)
		wantStatus(t, a, c.want)
		if len(a.results) != 1 {
			t.Errorf("%s: %d results", c.name, len(a.results))
		}
	}
	s.fails(wire.NFS4ERR_SEQUENCE_POS, putRoot, s.sequence())
	s.fails(wire.NFS4ERR_NOT_ONLY_OP, bind)
	a := s.do(destroy, putRoot)
	wantStatus(t, a, wire.NFS4ERR_NOT_ONLY_OP)
	for _, op := range []wire.Op{wire.OP_SETCLIENTID, wire.OP_RENEW, wire.OP_OPENATTR, wire.OP_LAYOUTGET,
		wire.OP_GETDEVICEINFO, wire.OP_WANT_DELEGATION, wire.OP_DELEGPURGE} {
		s.fails(wire.NFS4ERR_NOTSUPP, putRoot, call{op: op})
	}
	a = s.do(putRoot, call{op: 77})
	wantStatus(t, a, wire.NFS4ERR_OP_ILLEGAL)
	if got := a.results[2].op; got != wire.OP_ILLEGAL {
		t.Errorf("an unknown operation is answered as %v", got)
	}
	s.ok(destroy) // in the last place
	s.fails0(wire.NFS4ERR_BADSESSION)
}

// fails0 is a request that SEQUENCE refuses.
func (s *session) fails0(want wire.Status, ops ...call) {
	s.r.t.Helper()
	a := s.do(ops...)
	wantStatus(s.r.t, a, want)
	if len(a.results) != 1 {
		s.r.t.Fatalf("%d results", len(a.results))
	}
	s.seq--
}

func TestSessionOperations(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	for dir, want := range map[uint32]wire.Status{
		wire.CDFC4_FORE: wire.NFS4_OK, wire.CDFC4_FORE_OR_BOTH: wire.NFS4_OK, wire.CDFC4_BACK_OR_BOTH: wire.NFS4_OK,
		wire.CDFC4_BACK: wire.NFS4ERR_INVAL, 9: wire.NFS4ERR_BADXDR,
	} {
		a := r.raw(call{wire.OP_BIND_CONN_TO_SESSION, &wire.BindConnToSessionArgs{SessionID: s.id, Dir: dir}})
		wantStatus(t, a, want)
		if want == wire.NFS4_OK && last[wire.BindConnToSessionRes](t, a).Dir != wire.CDFS4_FORE {
			t.Errorf("direction %d: %+v", dir, a.results)
		}
	}
	wantStatus(t, r.raw(call{wire.OP_BIND_CONN_TO_SESSION, &wire.BindConnToSessionArgs{Dir: 1}}), wire.NFS4ERR_BADSESSION)
	s.ok(call{wire.OP_BACKCHANNEL_CTL, &wire.BackchannelCtlArgs{CBProgram: 1, Sec: []wire.CallbackSec{{}}}})
	s.fails(wire.NFS4ERR_COMPLETE_ALREADY, call{wire.OP_RECLAIM_COMPLETE, &wire.ReclaimCompleteArgs{}})
	s.fails(wire.NFS4ERR_NOFILEHANDLE, call{wire.OP_RECLAIM_COMPLETE, &wire.ReclaimCompleteArgs{OneFS: true}})
	s.ok(putRoot, call{wire.OP_RECLAIM_COMPLETE, &wire.ReclaimCompleteArgs{OneFS: true}})

	destroyClient := call{wire.OP_DESTROY_CLIENTID, &wire.DestroyClientIDArgs{ClientID: s.clientID}}
	wantStatus(t, r.raw(destroyClient), wire.NFS4ERR_CLIENTID_BUSY)
	s.fails(wire.NFS4ERR_CLIENTID_BUSY, destroyClient)
	wantStatus(t, r.raw(call{wire.OP_DESTROY_SESSION, &wire.DestroySessionArgs{SessionID: s.id}}), wire.NFS4_OK)
	if r.fs.records != 1 {
		t.Fatalf("%d client records", r.fs.records)
	}
	wantStatus(t, r.raw(destroyClient), wire.NFS4_OK)
	if r.fs.records != 0 {
		t.Errorf("%d client records are left", r.fs.records)
	}
}

func TestExchangeIDArguments(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		args wire.ExchangeIDArgs
		want wire.Status
	}{
		{wire.ExchangeIDArgs{OwnerID: []byte("o"), Flags: wire.EXCHGID4_FLAG_SUPP_FENCE_OPS}, wire.NFS4ERR_INVAL},
		{wire.ExchangeIDArgs{OwnerID: []byte("o"), Flags: wire.EXCHGID4_FLAG_CONFIRMED_R}, wire.NFS4ERR_INVAL},
		{wire.ExchangeIDArgs{OwnerID: []byte("o"), Protect: wire.SP4_MACH_CRED}, wire.NFS4ERR_INVAL},
		{wire.ExchangeIDArgs{}, wire.NFS4ERR_INVAL},
		{wire.ExchangeIDArgs{OwnerID: []byte("o"), Flags: wire.EXCHGID4_FLAG_USE_PNFS_MDS | wire.EXCHGID4_FLAG_BIND_PRINC_STATEID}, wire.NFS4_OK},
	} {
		a := r.raw(call{wire.OP_EXCHANGE_ID, &c.args})
		wantStatus(t, a, c.want)
		if c.want != wire.NFS4_OK {
			continue
		}
		res := last[wire.ExchangeIDRes](t, a)
		if res.Flags != wire.EXCHGID4_FLAG_USE_NON_PNFS || string(res.ServerMajor) != "owner" || string(res.ServerScope) != "scope" {
			t.Errorf("got %+v", res)
		}
	}
	fences := call{wire.OP_EXCHANGE_ID, &wire.ExchangeIDArgs{OwnerID: []byte("o"), Flags: wire.EXCHGID4_FLAG_SUPP_FENCE_OPS}}
	wantStatus(t, handle(r.b, sysAuth(0, 0), encodeCompound("", 2, fences)), wire.NFS4_OK)
	s := r.newSessionWith("flags", wide)
	if s.created.Flags != 0 || s.fore.MaxRequests != 4 || s.fore.MaxOperations != 64 ||
		s.fore.MaxRequestSize > 2<<20 || s.fore.MaxRequestSize < nfs4.MaxIOBytes {
		t.Errorf("session: %+v", s.created)
	}
	ex := last[wire.ExchangeIDRes](t, r.raw(exchangeID("flags")))
	if ex.Flags&wire.EXCHGID4_FLAG_CONFIRMED_R == 0 || ex.ClientID != s.clientID {
		t.Errorf("a confirmed client is not told so: %+v", ex)
	}
	wantStatus(t, r.raw(call{wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ClientID: ex.ClientID, SequenceID: 2, Flags: 8, Fore: wide, Back: wide}}), wire.NFS4ERR_INVAL)
	a := r.raw(call{wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ClientID: ex.ClientID, SequenceID: 2, Flags: 7, Fore: wide, Back: wide}})
	wantStatus(t, a, wire.NFS4_OK)
	if got := last[wire.CreateSessionRes](t, a).Flags; got != 0 {
		t.Errorf("flags %x are granted", got)
	}
}

// A request that is sent again gets the same bytes and is carried out once.
func TestExactlyOnce(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	s.cache = true
	h, id := s.makeFile("f", 0o644)
	s.ok(putRoot, mkdir("gone", 0o755))
	creates, removes := func() int { return int(r.fs.creates.Load()) }, func() int { return int(r.fs.removes.Load()) }
	writes := func() int { return int(r.fs.writes.Load()) }
	for _, c := range []struct {
		name  string
		count func() int
		ops   []call
		want  wire.Status
	}{
		{"WRITE", writes, []call{putFH(h), write(id, 0, "data")}, wire.NFS4_OK},
		{"CREATE", creates, []call{putRoot, mkdir("d", 0o755)}, wire.NFS4_OK},
		{"REMOVE", removes, []call{putRoot, remove("gone")}, wire.NFS4_OK},
		{"a failing REMOVE", removes, []call{putRoot, remove("never there")}, wire.NFS4ERR_NOENT},
		{"OPEN", creates, []call{putRoot, create("g", 0o600), getFH}, wire.NFS4_OK},
	} {
		before := c.count()
		args := s.encode(c.ops...)
		first := handle(s.b, s.auth, args)
		wantStatus(t, first, c.want)
		for range 3 {
			again := handle(s.b, s.auth, args)
			if !bytes.Equal(again.raw, first.raw) {
				t.Errorf("%s: the retry got %+v, first %+v", c.name, again, first)
			}
		}
		if got := c.count() - before; got != 1 {
			t.Errorf("%s was carried out %d times", c.name, got)
		}
	}
}

func TestRetriesThatAreNone(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	args := s.encode(putRoot, mkdir("a", 0o755))
	wantStatus(t, handle(s.b, s.auth, args), wire.NFS4_OK)

	a := handle(s.b, s.auth, args) // not asked to be kept
	wantStatus(t, a, wire.NFS4ERR_RETRY_UNCACHED_REP)
	if len(a.results) != 2 || a.results[0].status != wire.NFS4_OK || a.results[1].op != wire.OP_PUTROOTFH {
		t.Errorf("got %+v", a.results)
	}
	s.seq--
	s.fails0(wire.NFS4ERR_SEQ_FALSE_RETRY, putRoot, mkdir("b", 0o755))
	s.seq++
	wantStatus(t, handle(s.b, sysAuth(1, 0), args), wire.NFS4ERR_SEQ_FALSE_RETRY) // by somebody else
	tagged := bytes.Replace(args, []byte("\x00\x00\x00\x01t"), []byte("\x00\x00\x00\x01T"), 1)
	wantStatus(t, handle(s.b, s.auth, tagged), wire.NFS4ERR_RETRY_UNCACHED_REP) // the tag says nothing
	s.seq++
	s.fails0(wire.NFS4ERR_SEQ_MISORDERED, putRoot)
	s.seq--
	if r.fs.creates.Load() != 1 {
		t.Errorf("CREATE was carried out %d times", r.fs.creates.Load())
	}
	alone := s.encode()
	first := handle(s.b, s.auth, alone)
	if again := handle(s.b, s.auth, alone); !bytes.Equal(first.raw, again.raw) {
		t.Errorf("SEQUENCE alone: %+v, then %+v", first, again)
	}
}

func TestSizeLimits(t *testing.T) {
	r := newRig(t, nil)
	small := wide
	small.MaxRequestSize, small.MaxResponseSize, small.MaxResponseSizeCached, small.MaxOperations = 512, 400, 300, 6
	s := r.newSessionWith("small", small)
	s.ok(call{wire.OP_RECLAIM_COMPLETE, &wire.ReclaimCompleteArgs{}})
	s.fails0(wire.NFS4ERR_REQ_TOO_BIG, putRoot, lookup(strings.Repeat("x", 500)))
	s.fails0(wire.NFS4ERR_TOO_MANY_OPS, putRoot, putRoot, putRoot, putRoot, putRoot, putRoot)
	s.ok(putRoot, putRoot, putRoot, putRoot, putRoot)

	all := getAttr(wire.FATTR4_SUPPORTED_ATTRS, wire.FATTR4_FSID, wire.FATTR4_FILEHANDLE, wire.FATTR4_TIME_MODIFY, wire.FATTR4_OWNER)
	a := s.do(putRoot, all, all, all)
	wantStatus(t, a, wire.NFS4ERR_REP_TOO_BIG)
	if size := len(a.raw) + 24; size > 400 {
		t.Errorf("a reply of %d bytes", size)
	}
	s.cache = true
	args := s.encode(putRoot, all, all)
	a = handle(s.b, s.auth, args)
	wantStatus(t, a, wire.NFS4ERR_REP_TOO_BIG_TO_CACHE)
	if again := handle(s.b, s.auth, args); !bytes.Equal(again.raw, a.raw) {
		t.Error("the failure was not kept")
	}
	// What has an effect fails before it has had it.
	filler := []call{putRoot, all, call{op: wire.OP_GETFH}}
	for _, op := range []call{mkdir("never", 0o755), create("never", 0o644)} {
		a = s.do(append(filler, op, getFH)...)
		wantStatus(t, a, wire.NFS4ERR_REP_TOO_BIG_TO_CACHE)
		if a.results[len(a.results)-1].op != op.op || r.fs.creates.Load() != 0 {
			t.Errorf("%v: %d files were made, %+v", op.op, r.fs.creates.Load(), a.results)
		}
	}
	s.cache = false
	h, id := s.makeFile("f", 0o600)
	s.ok(putFH(h), write(id, 0, strings.Repeat("x", 300)))
	a = s.ok(putFH(h), read(id, 0, 1<<20))
	if n := len(last[wire.ReadRes](t, a).Data); n == 0 || n > 300 || len(a.raw)+24 > 400 {
		t.Errorf("READ of %d bytes in a reply of %d", n, len(a.raw)+24)
	}

	tiny := wide
	tiny.MaxResponseSizeCached = 10
	s = r.newSessionWith("tiny", tiny)
	s.cache = true
	s.fails0(wire.NFS4ERR_REP_TOO_BIG_TO_CACHE)
}

// Nor does an operation take effect whose result has nothing but a status, and does not fit before those that follow.
func TestNoEffectWithoutRoom(t *testing.T) {
	r := newRig(t, nil)
	wide := r.newSession42("c")
	h, id := wide.makeFile("f", 0o666)
	other, otherID := wide.makeFile("other", 0o666)
	wide.ok(putFH(h), write(id, 0, strings.Repeat("x", 4096)))
	clone := cloneOf(id, otherID, 0, 0, 4096)
	for _, c := range []struct {
		from []byte
		op   call
	}{
		{h, allocate(id, 0, 4096)},
		{h, deallocate(id, 0, 4096)},
		{other, call{wire.OP_CLONE, &clone}},
	} {
		refused := 0
		for bytes := 200; bytes < 400; bytes += 4 {
			changed := false
			r.fs.beforeChange = func() { changed = true }
			s := r.newSessionWith("c", wire.ChannelAttrs{MaxRequestSize: 2048, MaxResponseSize: uint32(bytes), MaxOperations: 16, MaxRequests: 1})
			s.minor = 2
			a := s.do(putFH(h), getFH, getFH, getFH, saveFH, putFH(c.from), c.op, getAttr(wire.FATTR4_CHANGE), putRoot)
			at := a.results[len(a.results)-1].op
			if a.status != wire.NFS4_OK && a.status != wire.NFS4ERR_REP_TOO_BIG {
				t.Fatalf("%v with %d bytes: %+v", c.op.op, bytes, a)
			}
			if a.status != wire.NFS4_OK && at == c.op.op {
				refused++
				if changed {
					t.Errorf("%v with %d bytes: it was carried out and refused", c.op.op, bytes)
				}
			}
			wantStatus(t, r.raw(call{wire.OP_DESTROY_SESSION, &wire.DestroySessionArgs{SessionID: s.id}}), wire.NFS4_OK)
		}
		if refused == 0 {
			t.Errorf("%v always had room", c.op.op)
		}
	}
}

// A SETATTR has the attributes that it set behind its status, whatever that is.
func TestSetAttrAlwaysHasItsBody(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	s.fails(wire.NFS4ERR_NOFILEHANDLE, setAttr(wire.Stateid{}, withMode(0)))
	s.fails(wire.NFS4ERR_ATTRNOTSUPP, putRoot, setAttr(wire.Stateid{}, wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_MODE_UMASK)}))
	s.fails(wire.NFS4ERR_INVAL, putRoot, setAttr(wire.Stateid{}, wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_TYPE)}))
}

func TestFilehandleRegisters(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	s.fails(wire.NFS4ERR_NOFILEHANDLE, getFH)
	s.fails(wire.NFS4ERR_NOFILEHANDLE, saveFH)
	s.fails(wire.NFS4ERR_NOFILEHANDLE, restoreFH)
	s.fails(wire.NFS4ERR_NOFILEHANDLE, putRoot, linkTo("x"))
	s.ok(putRoot, mkdir("a", 0o755))
	a := s.ok(putRoot, getFH, saveFH, lookup("a"), getFH, restoreFH, getFH, call{op: wire.OP_PUTPUBFH}, getFH)
	root, sub := at[wire.GetFHRes](t, a, 2).Handle, at[wire.GetFHRes](t, a, 5).Handle
	if bytes.Equal(root, sub) || !bytes.Equal(root, at[wire.GetFHRes](t, a, 7).Handle) || !bytes.Equal(root, last[wire.GetFHRes](t, a).Handle) {
		t.Errorf("root %x, a %x: %+v", root, sub, a.results)
	}
	s.fails(wire.NFS4ERR_NOENT, putRoot, lookupP)
	a = s.ok(putFH(sub), lookupP, getFH)
	if !bytes.Equal(last[wire.GetFHRes](t, a).Handle, root) {
		t.Error("the parent of a is not the root")
	}
}

func TestSecinfo(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	s.ok(putRoot, mkdir("a", 0o755))
	for _, op := range []call{secinfo("a"), noName(wire.SECINFO_STYLE4_CURRENT_FH)} {
		a := s.ok(putRoot, op)
		if got := last[wire.SecinfoRes](t, a).Flavors; len(got) != 1 || got[0] != uint32(rpc.AuthSys) {
			t.Errorf("%v: flavours %v", op.op, got)
		}
		s.fails(wire.NFS4ERR_NOFILEHANDLE, putRoot, op, getFH)
	}
	s.fails(wire.NFS4ERR_NOENT, putRoot, secinfo("b"))
	s.fails(wire.NFS4ERR_NOENT, putRoot, noName(wire.SECINFO_STYLE4_PARENT))
	s.ok(putRoot, lookup("a"), noName(wire.SECINFO_STYLE4_PARENT))
}

func TestCountedBytes(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession42("c")
	h, id := s.sparse("f") // two pieces of 4096 bytes in 65536
	before := r.s.Stats()
	s.ok(putFH(h), read(id, 0, 1<<20))
	s.ok(putFH(h), readPlus(id, 0, 1<<20))
	s.ok(putFH(h), write(id, 1, "abc"))
	s.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), write(wire.Stateid{Seqid: 9, Other: [12]byte{9}}, 1, "abc"))
	after := r.s.Stats()
	if n := after.BytesRead - before.BytesRead; n != 65536+2*4096 {
		t.Errorf("%d bytes read", n)
	}
	if n := after.BytesWritten - before.BytesWritten; n != 3 {
		t.Errorf("%d bytes written", n)
	}
}

func TestCounters(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	s.ok(putRoot, getFH)
	s.fails(wire.NFS4ERR_NOENT, putRoot, lookup("x"))
	s.do(call{op: 5000})
	want := map[string]nfs4.OpStats{
		"PUTROOTFH": {Op: "PUTROOTFH", Calls: 2},
		"GETFH":     {Op: "GETFH", Calls: 1},
		"LOOKUP":    {Op: "LOOKUP", Calls: 1, Failures: 1},
		"SEQUENCE":  {Op: "SEQUENCE", Calls: 4},
		"OTHER":     {Op: "OTHER", Calls: 1, Failures: 1},
	}
	for _, op := range r.s.Stats().Ops {
		if w, ok := want[op.Op]; ok && op != w {
			t.Errorf("got %+v, want %+v", op, w)
		}
		delete(want, op.Op)
	}
	if len(want) != 0 {
		t.Errorf("not counted: %v", want)
	}
}
