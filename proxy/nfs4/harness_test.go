package nfs4_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nfseal/nfseal/ownership"
	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/vfs/memvfs"
)

// call is one operation of a COMPOUND.
type call struct {
	op   wire.Op
	args interface{ Encode(*xdr.Encoder) }
}

// result is one operation's result; body is nil for operations without one, or that failed.
type result struct {
	op     wire.Op
	status wire.Status
	body   any
}

// answer is a decoded COMPOUND reply.
type answer struct {
	status  wire.Status
	tag     string
	results []result
	raw     []byte // from the COMPOUND's status on; nil: no COMPOUND came back
	accept  rpc.AcceptStatus
	silent  bool // no reply at all
}

// last is the last result's body.
func last[T any](t testing.TB, a *answer) *T {
	t.Helper()
	if len(a.results) == 0 {
		t.Fatalf("no result: %+v", a)
	}
	body, ok := a.results[len(a.results)-1].body.(*T)
	if !ok {
		t.Fatalf("the last result is %+v", a.results[len(a.results)-1])
	}
	return body
}

// at is the body of result i.
func at[T any](t testing.TB, a *answer, i int) *T {
	t.Helper()
	body, ok := a.results[i].body.(*T)
	if !ok {
		t.Fatalf("result %d is %+v", i, a.results[i])
	}
	return body
}

// readdirRes is a decoded READDIR4resok.
type readdirRes struct {
	verifier wire.Verifier
	entries  []wire.DirEntry
	eof      bool
}

// testStateidRes is a decoded TEST_STATEID4resok.
type testStateidRes = wire.TestStateidRes

// decodeBody reads the body of a result, which must be there exactly as the protocol has it.
func decodeBody(op wire.Op, st wire.Status, d *xdr.Decoder) any {
	body := newBody(op, st)
	switch b := body.(type) {
	case nil:
	case *readdirRes:
		var r wire.ReaddirReader
		r.Begin(d)
		for e := (wire.DirEntry{}); r.Next(&e); e = (wire.DirEntry{}) {
			b.entries = append(b.entries, e)
		}
		b.verifier, b.eof = r.Verifier, r.EOF
	case interface{ Decode(*xdr.Decoder) }:
		b.Decode(d)
	}
	return body
}

func newBody(op wire.Op, st wire.Status) any {
	switch {
	case op == wire.OP_SETATTR:
		return new(wire.SetAttrRes)
	case st == wire.NFS4ERR_DENIED && (op == wire.OP_LOCK || op == wire.OP_LOCKT):
		return new(wire.LockDenied)
	case st == wire.NFS4ERR_CLID_INUSE && op == wire.OP_SETCLIENTID:
		return new(wire.ClientAddr)
	case st != wire.NFS4_OK:
		return nil
	}
	switch op {
	case wire.OP_ACCESS:
		return new(wire.AccessRes)
	case wire.OP_BIND_CONN_TO_SESSION:
		return new(wire.BindConnToSessionRes)
	case wire.OP_COPY:
		return new(wire.CopyRes)
	case wire.OP_OFFLOAD_STATUS:
		return new(wire.OffloadStatusRes)
	case wire.OP_GETXATTR:
		return new(wire.GetXattrRes)
	case wire.OP_IO_ADVISE:
		return new(wire.IOAdviseRes)
	case wire.OP_LISTXATTRS:
		return new(wire.ListXattrsRes)
	case wire.OP_READ_PLUS:
		return new(readPlusRes)
	case wire.OP_SEEK:
		return new(wire.SeekRes)
	case wire.OP_SETXATTR, wire.OP_REMOVEXATTR:
		return new(wire.ChangeInfoRes)
	case wire.OP_SETCLIENTID:
		return new(wire.SetClientIDRes)
	case wire.OP_OPEN_CONFIRM, wire.OP_CLOSE, wire.OP_LOCK, wire.OP_LOCKU, wire.OP_OPEN_DOWNGRADE:
		return new(wire.StateidRes)
	case wire.OP_COMMIT:
		return new(wire.CommitRes)
	case wire.OP_CREATE:
		return new(wire.CreateRes)
	case wire.OP_CREATE_SESSION:
		return new(wire.CreateSessionRes)
	case wire.OP_EXCHANGE_ID:
		return new(wire.ExchangeIDRes)
	case wire.OP_GETATTR:
		return new(wire.GetAttrRes)
	case wire.OP_GETFH:
		return new(wire.GetFHRes)
	case wire.OP_LINK:
		return new(wire.LinkRes)
	case wire.OP_OPEN:
		return new(wire.OpenRes)
	case wire.OP_READ:
		return new(wire.ReadRes)
	case wire.OP_READDIR:
		return new(readdirRes)
	case wire.OP_READLINK:
		return new(wire.ReadlinkRes)
	case wire.OP_REMOVE:
		return new(wire.RemoveRes)
	case wire.OP_RENAME:
		return new(wire.RenameRes)
	case wire.OP_SECINFO, wire.OP_SECINFO_NO_NAME:
		return new(wire.SecinfoRes)
	case wire.OP_SEQUENCE:
		return new(wire.SequenceRes)
	case wire.OP_SET_SSV:
		return new(wire.SetSSVRes)
	case wire.OP_TEST_STATEID:
		return new(testStateidRes)
	case wire.OP_WRITE:
		return new(wire.WriteRes)
	}
	return nil
}

// encodeCompound is the arguments of a COMPOUND.
func encodeCompound(tag string, minor uint32, ops ...call) []byte {
	var e xdr.Encoder
	e.Reset(make([]byte, 0, 1024), 2<<20, grower{})
	head := wire.CompoundArgs{Tag: []byte(tag), MinorVersion: minor, Ops: len(ops)}
	head.Encode(&e)
	for _, op := range ops {
		e.Uint32(uint32(op.op))
		if op.args != nil {
			op.args.Encode(&e)
		}
	}
	if e.Err() != nil {
		panic(e.Err())
	}
	return e.Bytes()
}

// grower gives an encoder what it needs.
type grower struct{}

func (grower) Grow(old []byte, need int) []byte {
	return append(make([]byte, 0, max(need, 2*cap(old))), old...)
}

// rig is a Service over a file system in memory, and one connection to it.
type rig struct {
	t   testing.TB
	fs  *spyFS
	mem *memvfs.FS
	o   nfs4.Options
	s   *nfs4.Service
	b   *nfs4.Binding
	now time.Time
}

// spyFS counts what changes the file system, and fails on demand.
type spyFS struct {
	*memvfs.FS
	creates, removes   atomic.Int32
	records            int
	writes, recoveries atomic.Int32
	fail               error                   // of GetAttr, Write and the client records
	failCreate         string                  // a name that Create fails for
	beforeRead         func()                  // may be nil
	verifier           atomic.Pointer[[8]byte] // of WriteVerifier; nil: as below
	afterChange        error                   // of Allocate, Deallocate, Clone and Write, when all is done
	// Each is called once, and may be nil.
	beforeHold, afterGetAttr, beforeChange func()

	mu    sync.Mutex
	holds map[vfs.FileID]int
}

func (f *spyFS) WriteVerifier() [8]byte {
	if v := f.verifier.Load(); v != nil {
		return *v
	}
	return f.FS.WriteVerifier()
}

func (f *spyFS) GetAttr(ctx context.Context, id vfs.FileID, out *vfs.Attr) error {
	if f.fail != nil {
		return f.fail
	}
	err := f.FS.GetAttr(ctx, id, out)
	if after := f.afterGetAttr; after != nil {
		f.afterGetAttr = nil
		after()
	}
	return err
}

func (f *spyFS) Create(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, name string, req *vfs.CreateRequest, out *vfs.CreateResult) error {
	f.creates.Add(1)
	if name == f.failCreate {
		return vfs.ErrIO
	}
	return f.FS.Create(ctx, cred, dir, name, req, out)
}

func (f *spyFS) Remove(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, name string, removed *vfs.Attr) (vfs.ChangeInfo, error) {
	f.removes.Add(1)
	f.changing()
	return f.FS.Remove(ctx, cred, dir, name, removed)
}

func (f *spyFS) Rename(ctx context.Context, cred *vfs.Cred, srcDir vfs.FileID, srcName string, dstDir vfs.FileID, dstName string, replaced *vfs.Attr) (src, dst vfs.ChangeInfo, err error) {
	f.changing()
	return f.FS.Rename(ctx, cred, srcDir, srcName, dstDir, dstName, replaced)
}

func (f *spyFS) SetAttr(ctx context.Context, cred *vfs.Cred, id vfs.FileID, set *vfs.SetAttr, out *vfs.Attr) error {
	f.changing()
	return f.FS.SetAttr(ctx, cred, id, set, out)
}

func (f *spyFS) SetXattr(ctx context.Context, cred *vfs.Cred, id vfs.FileID, name string, value []byte, mode vfs.XattrMode) (vfs.ChangeInfo, error) {
	f.changing()
	return f.FS.SetXattr(ctx, cred, id, name, value, mode)
}

// changing calls beforeChange.
func (f *spyFS) changing() {
	if before := f.beforeChange; before != nil {
		f.beforeChange = nil
		before()
	}
}

// changed is err, or afterChange.
func (f *spyFS) changed(err error) error {
	if err != nil {
		return err
	}
	return f.afterChange
}

func (f *spyFS) Allocate(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset, length uint64, out *vfs.Attr) error {
	f.changing()
	return f.changed(f.FS.Allocate(ctx, cred, id, offset, length, out))
}

func (f *spyFS) Deallocate(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset, length uint64, out *vfs.Attr) error {
	f.changing()
	return f.changed(f.FS.Deallocate(ctx, cred, id, offset, length, out))
}

func (f *spyFS) Clone(ctx context.Context, cred *vfs.Cred, src, dst vfs.FileID, srcOffset, dstOffset, length uint64, out *vfs.Attr) error {
	f.changing()
	return f.changed(f.FS.Clone(ctx, cred, src, dst, srcOffset, dstOffset, length, out))
}

func (f *spyFS) Link(ctx context.Context, cred *vfs.Cred, file, dir vfs.FileID, name string, out *vfs.Attr) (vfs.ChangeInfo, error) {
	f.changing()
	return f.FS.Link(ctx, cred, file, dir, name, out)
}

func (f *spyFS) Write(ctx context.Context, writer *vfs.Cred, check bool, id vfs.FileID, offset uint64, p []byte, want vfs.Stability) (vfs.Stability, error) {
	f.writes.Add(1)
	f.changing()
	if f.fail != nil {
		return 0, f.fail
	}
	how, err := f.FS.Write(ctx, writer, check, id, offset, p, want)
	return how, f.changed(err)
}

func (f *spyFS) Read(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset uint64, p []byte) (int, bool, error) {
	if f.beforeRead != nil {
		f.beforeRead()
	}
	return f.FS.Read(ctx, cred, id, offset, p)
}

func (f *spyFS) PutClientRecord(ctx context.Context, key, value []byte) error {
	if f.fail != nil {
		return f.fail
	}
	f.records++
	return f.FS.PutClientRecord(ctx, key, value)
}

func (f *spyFS) DeleteClientRecord(ctx context.Context, key []byte) error {
	if f.fail != nil {
		return f.fail
	}
	f.records--
	return f.FS.DeleteClientRecord(ctx, key)
}

func (f *spyFS) EndRecovery(ctx context.Context) error {
	f.recoveries.Add(1)
	return f.FS.EndRecovery(ctx)
}

func (f *spyFS) Hold(id vfs.FileID) error {
	if before := f.beforeHold; before != nil {
		f.beforeHold = nil
		before()
	}
	err := f.FS.Hold(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.holds[id]++
	}
	return err
}

func (f *spyFS) Drop(id vfs.FileID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holds[id]--
	if f.holds[id] == 0 {
		delete(f.holds, id)
	}
	f.FS.Drop(id)
}

// everything is what an ordinary mount is granted.
var everything = nfs4.Grant{Mount: true, Write: true, Root: true}

func newRig(t testing.TB, change func(*nfs4.Options)) *rig {
	t.Helper()
	r := &rig{t: t, now: time.Unix(1_700_000_000, 0)}
	mem, err := memvfs.New(memvfs.Options{RootMode: 0o777, Verifier: [8]byte{4, 2}})
	if err != nil {
		t.Fatal(err)
	}
	r.mem = mem
	r.fs = &spyFS{FS: mem, holds: map[vfs.FileID]int{}}
	r.o = nfs4.Options{
		FS: r.fs, FSID: nfs4.FSID{Major: 5, Minor: 6}, ServerOwner: []byte("owner"), ServerScope: []byte("scope"),
		Epoch: 1, HandleKey: bytes.Repeat([]byte{7}, nfs4.HandleKeyBytes),
		Now: func() time.Time { return r.now },
	}
	if change != nil {
		change(&r.o)
	}
	r.start()
	t.Cleanup(func() { r.s.Close() })
	return r
}

func (r *rig) start() {
	s, err := nfs4.New(r.o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.s = s
	r.b = s.Bind(nfs4.ConnInfo{Grant: everything})
}

// restart is a new start over the same files.
func (r *rig) restart() {
	r.s.Close()
	r.o.Epoch++
	r.start()
}

func sysAuth(uid, gid uint32, groups ...uint32) rpc.Auth {
	return rpc.Auth{Flavor: rpc.AuthSys, UID: uid, GID: gid, GIDs: groups}
}

// lastXID is of the calls that handle made: each has one of its own, as a client's calls have.
var lastXID atomic.Uint32

// handle sends the arguments of a COMPOUND over b.
func handle(b *nfs4.Binding, auth rpc.Auth, args []byte) *answer {
	return handleIn(context.Background(), b, auth, args)
}

// handleIn is handle for a call that is given up with ctx.
func handleIn(ctx context.Context, b *nfs4.Binding, auth rpc.Auth, args []byte) *answer {
	c := rpc.Call{XID: lastXID.Add(1), Program: wire.Program, Version: wire.RPCVersion, Procedure: wire.ProcCompound,
		Auth: auth, Args: xdr.NewDecoder(args)}
	var e xdr.Encoder
	e.Reset(make([]byte, 0, 1024), 1<<20+64<<10, grower{})
	b.Handle(ctx, &c, &e)
	return parseAnswer(e.Bytes())
}

// parseAnswer decodes a reply to the last byte, or panics.
func parseAnswer(record []byte) *answer {
	if len(record) == 0 {
		return &answer{silent: true}
	}
	_, d, err := rpc.ParseReply(record)
	if rejected, ok := err.(*rpc.RejectedError); ok {
		return &answer{accept: rejected.Accept}
	}
	if err != nil {
		panic(err)
	}
	a := &answer{raw: record[d.Offset():]}
	var head wire.CompoundRes
	head.Decode(&d)
	a.status, a.tag = head.Status, string(head.Tag)
	for range head.Ops {
		var r result
		r.op, r.status = wire.ReadResult(&d)
		r.body = decodeBody(r.op, r.status, &d)
		a.results = append(a.results, r)
	}
	if d.Err() != nil || d.Remaining() != 0 {
		panic(fmt.Sprintf("malformed reply, %d bytes left, %v: %x", d.Remaining(), d.Err(), record))
	}
	return a
}

// raw sends operations without a session.
func (r *rig) raw(ops ...call) *answer {
	return handle(r.b, sysAuth(0, 0), encodeCompound("raw", 1, ops...))
}

func wantStatus(t testing.TB, a *answer, want wire.Status) {
	t.Helper()
	if a.raw == nil || a.status != want {
		t.Fatalf("got %v (accept %d, silent %v), want %v: %+v", a.status, a.accept, a.silent, want, a.results)
	}
	if n := len(a.results); n > 0 && a.results[n-1].status != want {
		t.Fatalf("the last result says %v, the compound %v", a.results[n-1].status, a.status)
	}
}

// session is a client's session, used one request at a time on one slot.
type session struct {
	r        *rig
	b        *nfs4.Binding
	auth     rpc.Auth
	clientID wire.ClientID
	id       wire.SessionID
	fore     wire.ChannelAttrs
	slot     uint32
	seq      uint32
	cache    bool
	minor    uint32
	created  wire.CreateSessionRes
}

var wide = wire.ChannelAttrs{MaxRequestSize: 2 << 20, MaxResponseSize: 2 << 20, MaxResponseSizeCached: 4096,
	MaxOperations: 200, MaxRequests: 4}

func exchangeID(owner string) call {
	return call{wire.OP_EXCHANGE_ID, &wire.ExchangeIDArgs{OwnerID: []byte(owner), Verifier: wire.Verifier{1}}}
}

// newSession makes a client with a session that has sent RECLAIM_COMPLETE.
func (r *rig) newSession(owner string) *session {
	r.t.Helper()
	s := r.newSessionWith(owner, wide)
	s.ok(reclaimComplete)
	return s
}

func (r *rig) newSessionWith(owner string, fore wire.ChannelAttrs) *session {
	r.t.Helper()
	a := r.raw(exchangeID(owner))
	wantStatus(r.t, a, wire.NFS4_OK)
	ex := last[wire.ExchangeIDRes](r.t, a)
	a = r.raw(call{wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ClientID: ex.ClientID, SequenceID: ex.SequenceID, Fore: fore, Back: wide}})
	wantStatus(r.t, a, wire.NFS4_OK)
	created := last[wire.CreateSessionRes](r.t, a)
	return &session{r: r, b: r.b, minor: 1, auth: sysAuth(0, 0), clientID: ex.ClientID, id: created.SessionID, fore: created.Fore, created: *created}
}

// on is the same session over another connection.
func (s *session) on(b *nfs4.Binding) *session {
	other := *s
	other.b = b
	return &other
}

// onSlot is the same session on another slot, which was not used before.
func (s *session) onSlot(slot uint32) *session {
	other := *s
	other.slot, other.seq = slot, 0
	return &other
}

func (s *session) sequence() call {
	return call{wire.OP_SEQUENCE, &wire.SequenceArgs{SessionID: s.id, SlotID: s.slot, HighestSlot: s.slot, SequenceID: s.seq, CacheThis: s.cache}}
}

// encode is the next request.
func (s *session) encode(ops ...call) []byte {
	s.seq++
	return encodeCompound("t", s.minor, append([]call{s.sequence()}, ops...)...)
}

// do sends the next request; the result of SEQUENCE is left in the answer.
func (s *session) do(ops ...call) *answer { return handle(s.b, s.auth, s.encode(ops...)) }

// ok is do that must succeed.
func (s *session) ok(ops ...call) *answer {
	s.r.t.Helper()
	a := s.do(ops...)
	wantStatus(s.r.t, a, wire.NFS4_OK)
	return a
}

// fails is do that must fail, in its last operation, with want.
func (s *session) fails(want wire.Status, ops ...call) {
	s.r.t.Helper()
	a := s.do(ops...)
	wantStatus(s.r.t, a, want)
	if len(a.results) != len(ops)+1 {
		s.r.t.Fatalf("operation %d of %d failed with %v", len(a.results), len(ops)+1, a.status)
	}
}

// Operations, in short.

var (
	putRoot         = call{op: wire.OP_PUTROOTFH}
	getFH           = call{op: wire.OP_GETFH}
	saveFH          = call{op: wire.OP_SAVEFH}
	restoreFH       = call{op: wire.OP_RESTOREFH}
	lookupP         = call{op: wire.OP_LOOKUPP}
	reclaimComplete = call{wire.OP_RECLAIM_COMPLETE, &wire.ReclaimCompleteArgs{}}
	readLink        = call{op: wire.OP_READLINK}
)

func putFH(h []byte) call      { return call{wire.OP_PUTFH, &wire.PutFHArgs{Handle: h}} }
func lookup(name string) call  { return call{wire.OP_LOOKUP, &wire.LookupArgs{Name: []byte(name)}} }
func remove(name string) call  { return call{wire.OP_REMOVE, &wire.RemoveArgs{Name: []byte(name)}} }
func linkTo(name string) call  { return call{wire.OP_LINK, &wire.LinkArgs{Name: []byte(name)}} }
func access(bits uint32) call  { return call{wire.OP_ACCESS, &wire.AccessArgs{Access: bits}} }
func secinfo(name string) call { return call{wire.OP_SECINFO, &wire.SecinfoArgs{Name: []byte(name)}} }
func noName(style uint32) call {
	return call{wire.OP_SECINFO_NO_NAME, &wire.SecinfoNoNameArgs{Style: style}}
}
func commit(count uint32) call { return call{wire.OP_COMMIT, &wire.CommitArgs{Count: count}} }
func free(id wire.Stateid) call {
	return call{wire.OP_FREE_STATEID, &wire.FreeStateidArgs{Stateid: id}}
}

func rename(from, to string) call {
	return call{wire.OP_RENAME, &wire.RenameArgs{OldName: []byte(from), NewName: []byte(to)}}
}

func getAttr(attrs ...wire.AttrNumber) call {
	return call{wire.OP_GETATTR, &wire.GetAttrArgs{Request: wire.BitmapOf(attrs...)}}
}

func setAttr(id wire.Stateid, a wire.Attrs) call {
	return call{wire.OP_SETATTR, &wire.SetAttrArgs{Stateid: id, Attrs: a}}
}

func withMode(mode uint32) wire.Attrs {
	return wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_MODE), Mode: mode}
}

func withSize(n uint64) wire.Attrs {
	return wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_SIZE), Size: n}
}

func mkdir(name string, mode uint32) call {
	return call{wire.OP_CREATE, &wire.CreateArgs{Type: wire.NF4DIR, Name: []byte(name), Attrs: withMode(mode)}}
}

func read(id wire.Stateid, offset uint64, count uint32) call {
	return call{wire.OP_READ, &wire.ReadArgs{Stateid: id, Offset: offset, Count: count}}
}

func write(id wire.Stateid, offset uint64, data string) call {
	return call{wire.OP_WRITE, &wire.WriteArgs{Stateid: id, Offset: offset, Data: []byte(data)}}
}

func closeFile(id wire.Stateid) call { return call{wire.OP_CLOSE, &wire.CloseArgs{Stateid: id}} }

func readdir(cookie uint64, dirCount, maxCount uint32, attrs ...wire.AttrNumber) call {
	return call{wire.OP_READDIR, &wire.ReaddirArgs{Cookie: cookie, DirCount: dirCount, MaxCount: maxCount, Request: wire.BitmapOf(attrs...)}}
}

// openArgs is an OPEN of an existing file of the current directory.
func openArgs(name string, access uint32) *wire.OpenArgs {
	return &wire.OpenArgs{ShareAccess: access, Owner: wire.Owner{Owner: []byte("owner")}, Claim: wire.CLAIM_NULL, Name: []byte(name)}
}

func open(name string, access uint32) call { return call{wire.OP_OPEN, openArgs(name, access)} }

func create(name string, mode uint32) call {
	a := openArgs(name, wire.OPEN4_SHARE_ACCESS_BOTH)
	a.Create, a.CreateMode, a.Attrs = true, wire.UNCHECKED4, withMode(mode)
	return call{wire.OP_OPEN, a}
}

// makeFile creates name in the root directory and leaves it open for both.
func (s *session) makeFile(name string, mode uint32) (handle []byte, id wire.Stateid) {
	s.r.t.Helper()
	a := s.ok(putRoot, create(name, mode), getFH)
	return last[wire.GetFHRes](s.r.t, a).Handle, at[wire.OpenRes](s.r.t, a, 2).Stateid
}

// testTerm is a term of ownership that a test ends.
type testTerm struct {
	over bool
	done chan struct{}
}

var _ ownership.Term = (*testTerm)(nil)

func (t *testTerm) Epoch() uint64         { return 1 }
func (t *testTerm) Valid() bool           { return !t.over }
func (t *testTerm) Done() <-chan struct{} { return t.done }
func (t *testTerm) Release() error        { return nil }
