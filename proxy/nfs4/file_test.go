package nfs4_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

const (
	forRead  = wire.OPEN4_SHARE_ACCESS_READ
	forWrite = wire.OPEN4_SHARE_ACCESS_WRITE
	forBoth  = wire.OPEN4_SHARE_ACCESS_BOTH
)

func TestReadAndWrite(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	h, id := s.makeFile("f", 0o644)
	a := s.ok(putFH(h), write(id, 0, "hello, world"), commit(0))
	w, c := at[wire.WriteRes](t, a, 2), last[wire.CommitRes](t, a)
	if w.Count != 12 || w.Verifier != (wire.Verifier{4, 2}) || c.Verifier != w.Verifier {
		t.Errorf("WRITE %+v, COMMIT %+v", w, c)
	}
	for _, c := range []struct {
		offset uint64
		count  uint32
		want   string
		eof    bool
	}{
		{0, 5, "hello", false},
		{7, 100, "world", true},
		{7, ^uint32(0), "world", true},
		{12, 1, "", true},
		{1 << 62, 10, "", true},
		{^uint64(0), 10, "", true},
		{0, 0, "", false},
	} {
		got := last[wire.ReadRes](t, s.ok(putFH(h), read(id, c.offset, c.count)))
		if string(got.Data) != c.want || got.EOF != c.eof {
			t.Errorf("READ %d at %d: %q, eof %v", c.count, c.offset, got.Data, got.EOF)
		}
	}
	s.ok(putFH(h), write(id, 5, ""))
	s.fails(wire.NFS4ERR_FBIG, putFH(h), write(id, 1<<63, "x"))

	s.ok(putRoot, mkdir("d", 0o755))
	s.ok(putRoot, call{wire.OP_CREATE, &wire.CreateArgs{Type: wire.NF4LNK, Name: []byte("l"), Target: []byte("t")}})
	s.ok(putRoot, call{wire.OP_CREATE, &wire.CreateArgs{Type: wire.NF4FIFO, Name: []byte("p")}})
	for name, want := range map[string]wire.Status{
		"d": wire.NFS4ERR_ISDIR, "l": wire.NFS4ERR_SYMLINK, "p": wire.NFS4ERR_WRONG_TYPE,
	} {
		s.fails(want, putRoot, lookup(name), read(wire.AnonymousStateid, 0, 1))
		s.fails(want, putRoot, lookup(name), write(wire.AnonymousStateid, 0, "x"))
		if want == wire.NFS4ERR_WRONG_TYPE {
			want = wire.NFS4ERR_SYMLINK // or Linux has an EIO for its user (TestSpecialFiles in test/e2e)
		}
		s.fails(want, putRoot, open(name, forRead))
		s.fails(want, putRoot, create(name, 0o644))
	}
	if got := last[wire.ReadlinkRes](t, s.ok(putRoot, lookup("l"), readLink)); string(got.Target) != "t" {
		t.Errorf("READLINK: %q", got.Target)
	}
	s.fails(wire.NFS4ERR_WRONG_TYPE, putRoot, readLink)
	s.fails(wire.NFS4ERR_SYMLINK, putRoot, lookup("l"), lookup("x"))
	s.fails(wire.NFS4ERR_NOTDIR, putFH(h), lookup("x"))
}

// WRITE takes at most MaxIOBytes and says so; READ gives at most as much.
func TestLargestTransfers(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	h, id := s.makeFile("f", 0o644)
	data := strings.Repeat("0123456789abcdef", nfs4.MaxIOBytes/16)
	if got := last[wire.WriteRes](t, s.ok(putFH(h), write(id, 0, data+"more"))); got.Count != nfs4.MaxIOBytes {
		t.Errorf("WRITE took %d bytes", got.Count)
	}
	if got := last[wire.ReadRes](t, s.ok(putFH(h), read(id, 0, 1<<31))); string(got.Data) != data || !got.EOF {
		t.Errorf("READ gave %d bytes, eof %v", len(got.Data), got.EOF)
	}
}

func TestOpenCreate(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	mode := func(mode wire.CreateMode, verifier byte, attrs wire.Attrs) call {
		a := openArgs("f", forBoth)
		a.Create, a.CreateMode, a.Verifier, a.Attrs = true, mode, wire.Verifier{verifier}, attrs
		return call{wire.OP_OPEN, a}
	}
	s.fails(wire.NFS4ERR_NOENT, putRoot, open("f", forRead))
	a := s.ok(putRoot, getAttr(wire.FATTR4_CHANGE), mode(wire.EXCLUSIVE4_1, 1, withMode(0o640)), getAttr(wire.FATTR4_MODE))
	res := at[wire.OpenRes](t, a, 3)
	if got := last[wire.GetAttrRes](t, a).Attrs.Mode; got != 0o640 || !res.Set.Has(wire.FATTR4_MODE) {
		t.Errorf("mode %o, set %v", got, res.Set)
	}
	if before := at[wire.GetAttrRes](t, a, 2).Attrs.Change; !res.Dir.Atomic || res.Dir.Before != before || res.Dir.After <= before {
		t.Errorf("change %d, change info %+v", before, res.Dir)
	}
	if res.Flags != wire.OPEN4_RESULT_LOCKTYPE_POSIX|wire.OPEN4_RESULT_PRESERVE_UNLINKED || res.Delegation.Type != wire.OPEN_DELEGATE_NONE {
		t.Errorf("flags %x, delegation %+v", res.Flags, res.Delegation)
	}
	again := at[wire.OpenRes](t, s.ok(putRoot, mode(wire.EXCLUSIVE4_1, 1, withMode(0o640))), 2)
	if again.Stateid.Other != res.Stateid.Other || again.Stateid.Seqid != 2 || again.Dir.Before != again.Dir.After {
		t.Errorf("the retry got %+v", again)
	}
	s.fails(wire.NFS4ERR_EXIST, putRoot, mode(wire.EXCLUSIVE4, 2, wire.Attrs{}))
	s.fails(wire.NFS4ERR_EXIST, putRoot, mode(wire.GUARDED4, 0, withMode(0)))

	id := again.Stateid
	s.ok(putRoot, lookup("f"), write(id, 0, "content"))
	a = s.ok(putRoot, mode(wire.UNCHECKED4, 0, withMode(0o777)), getAttr(wire.FATTR4_MODE, wire.FATTR4_SIZE))
	if got := last[wire.GetAttrRes](t, a).Attrs; got.Mode != 0o640 || got.Size != 7 || !at[wire.OpenRes](t, a, 2).Set.IsZero() {
		t.Errorf("an existing file was changed: %o, %d bytes", got.Mode, got.Size)
	}
	a = s.ok(putRoot, mode(wire.UNCHECKED4, 0, withSize(0)), getAttr(wire.FATTR4_SIZE))
	if got := last[wire.GetAttrRes](t, a).Attrs; got.Size != 0 || !at[wire.OpenRes](t, a, 2).Set.Has(wire.FATTR4_SIZE) {
		t.Errorf("not truncated: %d bytes", got.Size)
	}
	s.fails(wire.NFS4ERR_ATTRNOTSUPP, putRoot, mode(wire.GUARDED4, 0, wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_MODE_UMASK)}))
	s.fails(wire.NFS4ERR_INVAL, putRoot, mode(wire.GUARDED4, 0, wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_CHANGE)}))
}

func TestOpenArguments(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	h, _ := s.makeFile("f", 0o644)
	with := func(change func(*wire.OpenArgs)) call {
		a := openArgs("f", forRead)
		change(a)
		return call{wire.OP_OPEN, a}
	}
	for _, c := range []struct {
		change func(*wire.OpenArgs)
		want   wire.Status
	}{
		{func(a *wire.OpenArgs) { a.ShareAccess = 0 }, wire.NFS4ERR_INVAL},
		{func(a *wire.OpenArgs) { a.ShareAccess = 4 }, wire.NFS4ERR_INVAL},
		{func(a *wire.OpenArgs) { a.ShareAccess = 0x601 }, wire.NFS4ERR_INVAL},
		{func(a *wire.OpenArgs) { a.ShareDeny = 4 }, wire.NFS4ERR_INVAL},
		{func(a *wire.OpenArgs) { a.Name = nil }, wire.NFS4ERR_INVAL},
		{func(a *wire.OpenArgs) { a.Name = []byte("..") }, wire.NFS4ERR_BADNAME},
		{func(a *wire.OpenArgs) { a.Name = []byte("a/b") }, wire.NFS4ERR_BADCHAR},
		{func(a *wire.OpenArgs) { a.Name = bytes.Repeat([]byte("n"), 256) }, wire.NFS4ERR_NAMETOOLONG},
		{func(a *wire.OpenArgs) { a.Claim = wire.CLAIM_DELEGATE_CUR }, wire.NFS4ERR_BAD_STATEID},
		{func(a *wire.OpenArgs) { a.Claim = wire.CLAIM_DELEG_CUR_FH }, wire.NFS4ERR_ISDIR},
		{func(a *wire.OpenArgs) { a.Claim = wire.CLAIM_DELEGATE_PREV }, wire.NFS4ERR_NOTSUPP},
		{func(a *wire.OpenArgs) { a.Claim = wire.CLAIM_DELEG_PREV_FH }, wire.NFS4ERR_NOTSUPP},
		{func(a *wire.OpenArgs) { a.Claim = wire.CLAIM_PREVIOUS }, wire.NFS4ERR_NO_GRACE},
		{func(a *wire.OpenArgs) { a.Claim, a.Create = wire.CLAIM_FH, true }, wire.NFS4ERR_INVAL},
		{func(a *wire.OpenArgs) { a.Claim = wire.CLAIM_FH }, wire.NFS4ERR_ISDIR},
	} {
		s.fails(c.want, putRoot, with(c.change))
	}
	s.fails(wire.NFS4ERR_NOTDIR, putFH(h), open("x", forRead))
	s.ok(putFH(h), with(func(a *wire.OpenArgs) { a.Claim = wire.CLAIM_FH }))
	for want, why := range map[uint32]uint32{
		wire.OPEN4_SHARE_ACCESS_WANT_READ_DELEG: wire.WND4_RESOURCE,
		wire.OPEN4_SHARE_ACCESS_WANT_NO_DELEG:   wire.WND4_NOT_WANTED,
		wire.OPEN4_SHARE_ACCESS_WANT_CANCEL:     wire.WND4_CANCELLED,
	} {
		got := last[wire.OpenRes](t, s.ok(putRoot, with(func(a *wire.OpenArgs) { a.ShareAccess |= want }))).Delegation
		if got.Type != wire.OPEN_DELEGATE_NONE_EXT || got.Why != why {
			t.Errorf("wish %x: %+v", want, got)
		}
	}
	s.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), call{wire.OP_DELEGRETURN, &wire.DelegReturnArgs{}})
}

// Who may open what, by mode bits and groups; and a creator may open what it made, whatever the mode.
func TestOpenAccess(t *testing.T) {
	r := newRig(t, nil)
	root := r.newSession("c")
	for i, c := range []struct {
		mode     uint32
		uid, gid uint32
		groups   []uint32
		access   uint32
		want     wire.Status
	}{
		{0o600, 1, 1, nil, forRead, wire.NFS4ERR_ACCESS},
		{0o604, 1, 1, nil, forRead, wire.NFS4_OK},
		{0o604, 1, 1, nil, forBoth, wire.NFS4ERR_ACCESS},
		{0o602, 1, 1, nil, forWrite, wire.NFS4_OK},
		{0o640, 1, 50, nil, forRead, wire.NFS4_OK},
		{0o640, 1, 1, []uint32{7, 50}, forRead, wire.NFS4_OK},
		{0o604, 1, 50, nil, forRead, wire.NFS4ERR_ACCESS}, // the group's bits count, not the others'
		{0o077, 40, 1, nil, forRead, wire.NFS4ERR_ACCESS}, // the owner's bits count
		{0o711, 1, 1, nil, forRead, wire.NFS4_OK},         // to execute it
		{0o711, 1, 1, nil, forWrite, wire.NFS4ERR_ACCESS},
		{0o000, 0, 0, nil, forBoth, wire.NFS4_OK},
	} {
		name := fmt.Sprint("f", i)
		a := openArgs(name, forBoth)
		a.Create, a.Attrs = true, withMode(c.mode)
		a.Attrs.Mask.Set(wire.FATTR4_OWNER)
		a.Attrs.Mask.Set(wire.FATTR4_OWNER_GROUP)
		a.Attrs.Owner.ID, a.Attrs.OwnerGroup.ID = 40, 50
		root.ok(putRoot, call{wire.OP_OPEN, a})
		root.auth = sysAuth(c.uid, c.gid, c.groups...)
		got := root.do(putRoot, open(name, c.access))
		root.auth = sysAuth(0, 0)
		if got.status != c.want {
			t.Errorf("%+v: %v", c, got.status)
		}
	}
	root.auth = sysAuth(1, 1)
	_, id := root.makeFile("own", 0o000)
	root.ok(putRoot, lookup("own"), write(id, 0, "written"))
	root.fails(wire.NFS4ERR_ACCESS, putRoot, open("own", forRead))
	root.fails(wire.NFS4ERR_ACCESS, putRoot, lookup("own"), read(wire.AnonymousStateid, 0, 1))
}

// An exclusive create of a file that is there is the retry of the one that made it, if the verifier is the same and so is the
// user: it is no way past the mode, nor does a verifier of zeros fit files that were made without one.
func TestExclusiveCreateOfAnothersFile(t *testing.T) {
	r := newRig(t, nil)
	s, thief := r.newSession("c"), r.newSession("thief")
	thief.auth = sysAuth(1001, 1001)
	for _, made := range []struct {
		name     string
		mode     wire.CreateMode
		verifier wire.Verifier
	}{
		{"unchecked", wire.UNCHECKED4, wire.Verifier{}},
		{"guarded", wire.GUARDED4, wire.Verifier{}},
		{"exclusive", wire.EXCLUSIVE4_1, wire.Verifier{7}},
		{"exclusive with zeros", wire.EXCLUSIVE4_1, wire.Verifier{}},
	} {
		a := openArgs(made.name, forBoth)
		a.Create, a.CreateMode, a.Verifier, a.Attrs = true, made.mode, made.verifier, withMode(0o600)
		id := at[wire.OpenRes](t, s.ok(putRoot, call{wire.OP_OPEN, a}), 2).Stateid
		s.ok(putRoot, lookup(made.name), write(id, 0, "secret"))
		for _, mode := range []wire.CreateMode{wire.EXCLUSIVE4, wire.EXCLUSIVE4_1} {
			again := openArgs(made.name, forBoth)
			again.Create, again.CreateMode, again.Verifier = true, mode, made.verifier
			want := wire.NFS4ERR_EXIST
			if made.mode == wire.EXCLUSIVE4_1 {
				s.ok(putRoot, call{wire.OP_OPEN, again})
				want = wire.NFS4ERR_ACCESS
			}
			if a := thief.do(putRoot, call{wire.OP_OPEN, again}); a.status != want {
				t.Errorf("%s, mode %d: %v, want %v", made.name, mode, a.status, want)
			}
		}
	}
}

func TestShareModesAndHolds(t *testing.T) {
	r := newRig(t, nil)
	p, q := r.newSession("p"), r.newSession("q")
	h, _ := p.makeFile("f", 0o644)
	deny := openArgs("f", forRead)
	deny.ShareDeny = wire.OPEN4_SHARE_DENY_WRITE
	q.fails(wire.NFS4ERR_SHARE_DENIED, putRoot, call{wire.OP_OPEN, deny})
	a := p.ok(putRoot, open("f", forRead))
	id := last[wire.OpenRes](t, a).Stateid
	a = p.ok(putFH(h), call{wire.OP_OPEN_DOWNGRADE, &wire.OpenDowngradeArgs{Stateid: id, ShareAccess: forRead}})
	id = last[wire.StateidRes](t, a).Stateid
	a = q.ok(putRoot, call{wire.OP_OPEN, deny})
	qid := last[wire.OpenRes](t, a).Stateid
	p.fails(wire.NFS4ERR_LOCKED, putFH(h), write(wire.AnonymousStateid, 0, "x"))
	p.fails(wire.NFS4ERR_OPENMODE, putFH(h), write(id, 0, "x"))
	p.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), read(qid, 0, 1))
	p.fails(wire.NFS4ERR_INVAL, putFH(h), call{wire.OP_OPEN_DOWNGRADE, &wire.OpenDowngradeArgs{Stateid: id}})

	if len(r.fs.holds) != 1 || r.s.Stats().Opens != 2 {
		t.Errorf("holds %v, opens %d", r.fs.holds, r.s.Stats().Opens)
	}
	p.ok(putRoot, remove("f"))
	p.ok(putFH(h), read(id, 0, 1)) // open files stay
	p.ok(putFH(h), closeFile(id))
	q.ok(putFH(h), closeFile(qid))
	if len(r.fs.holds) != 0 {
		t.Errorf("holds are left: %v", r.fs.holds)
	}
	p.fails(wire.NFS4ERR_STALE, putFH(h), getAttr(wire.FATTR4_SIZE))
}

// A failed OPEN leaves neither a hold nor an open.
// To empty a file is to write it: who has denied that to others is not robbed of its content by an OPEN for reading.
func TestTruncatingOpenAgainstDeny(t *testing.T) {
	r := newRig(t, nil)
	s, other := r.newSession("c"), r.newSession("other")
	h, id := s.makeFile("f", 0o666)
	s.ok(putFH(h), write(id, 0, "hello"))
	s.ok(putFH(h), closeFile(id))
	deny := openArgs("f", forRead)
	deny.ShareDeny = wire.OPEN4_SHARE_DENY_WRITE
	id = last[wire.OpenRes](t, s.ok(putRoot, call{wire.OP_OPEN, deny})).Stateid

	truncating := openArgs("f", forRead)
	truncating.Create, truncating.CreateMode, truncating.Attrs = true, wire.UNCHECKED4, withSize(0)
	other.fails(wire.NFS4ERR_SHARE_DENIED, putRoot, call{wire.OP_OPEN, truncating})
	if got := last[wire.ReadRes](t, s.ok(putFH(h), read(id, 0, 10))); string(got.Data) != "hello" {
		t.Errorf("the file has %q", got.Data)
	}
	s.ok(putFH(h), closeFile(id))
	other.ok(putRoot, call{wire.OP_OPEN, truncating})
}

func TestFailedOpenLeavesNothing(t *testing.T) {
	r := newRig(t, func(o *nfs4.Options) { o.Limits.OpensPerClient = 1 })
	s := r.newSession("c")
	h, id := s.makeFile("f", 0o644)
	s.fails(wire.NFS4ERR_DELAY, putRoot, create("g", 0o644))
	guarded := openArgs("guarded", forWrite)
	guarded.Create, guarded.CreateMode, guarded.Attrs = true, wire.GUARDED4, withMode(0o600)
	s.fails(wire.NFS4ERR_DELAY, putRoot, call{wire.OP_OPEN, guarded})
	s.ok(putFH(h), closeFile(id))
	if len(r.fs.holds) != 0 || r.s.Stats().Opens != 0 {
		t.Errorf("holds %v, opens %d", r.fs.holds, r.s.Stats().Opens)
	}
	s.ok(putRoot, call{wire.OP_OPEN, guarded}) // the one that was refused has made nothing
}

var currentStateid = wire.CurrentStateid

func TestCurrentStateid(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	s.ok(putRoot, create("f", 0o644), write(currentStateid, 0, "x"), read(currentStateid, 0, 1), closeFile(currentStateid))
	s.fails(wire.NFS4ERR_BAD_STATEID, putRoot, create("f", 0o644), closeFile(currentStateid), read(currentStateid, 0, 1))
	s.fails(wire.NFS4ERR_BAD_STATEID, putRoot, create("f", 0o644), putRoot, lookup("f"), read(currentStateid, 0, 1))
	s.ok(putRoot, create("f", 0o644), saveFH, putRoot, restoreFH, read(currentStateid, 0, 1))
	s.ok(putRoot, create("f", 0o644), setAttr(currentStateid, withSize(9)), getAttr(wire.FATTR4_SIZE))
	s.fails(wire.NFS4ERR_LOCKS_HELD, putRoot, create("f", 0o644), free(currentStateid))
	lock := &wire.LockArgs{Type: wire.WRITE_LT, Length: 1, NewOwner: true, OpenStateid: currentStateid, Owner: wire.Owner{Owner: []byte("l")}}
	s.ok(putRoot, create("f", 0o644), call{wire.OP_LOCK, lock}, read(currentStateid, 0, 1),
		call{wire.OP_LOCKU, &wire.LockUArgs{Type: wire.WRITE_LT, Stateid: currentStateid, Length: 1}}, free(currentStateid))
	for _, bad := range []wire.Stateid{wire.InvalidStateid, {Seqid: 2}, {Seqid: 7, Other: [12]byte{255}}} {
		s.fails(wire.NFS4ERR_BAD_STATEID, putRoot, lookup("f"), read(bad, 0, 1))
	}
	s.ok(putRoot, lookup("f"), read(wire.BypassStateid, 0, 1))
}

// What was written under the lock before is in what a client is told of the file once it has the lock itself.
func TestAttributesBehindLock(t *testing.T) {
	r := newRig(t, nil)
	s, other := r.newSession("c"), r.newSession("other")
	h, id := other.makeFile("f", 0o666)
	mine := last[wire.OpenRes](t, s.ok(putRoot, open("f", forBoth))).Stateid
	lock := last[wire.LockRes](t, other.ok(putFH(h), lockOf(id, false))).Stateid
	r.fs.afterGetAttr = func() {
		other.ok(putFH(h), write(id, 0, "hello"))
		other.ok(putFH(h), call{wire.OP_LOCKU, &wire.LockUArgs{Type: wire.WRITE_LT, Stateid: lock, Length: 1}})
	}
	a := s.ok(putFH(h), lockOf(mine, false), getAttr(wire.FATTR4_SIZE))
	if size := last[wire.GetAttrRes](t, a).Attrs.Size; size != 5 {
		t.Errorf("told of %d bytes", size)
	}
}

func TestLocks(t *testing.T) {
	r := newRig(t, nil)
	p, q := r.newSession("p"), r.newSession("q")
	h, pid := p.makeFile("f", 0o644)
	qid := last[wire.OpenRes](t, q.ok(putRoot, open("f", forBoth))).Stateid
	lock := func(id wire.Stateid, kind wire.LockType, offset, length uint64) call {
		return call{wire.OP_LOCK, &wire.LockArgs{Type: kind, Offset: offset, Length: length, NewOwner: true, OpenStateid: id, Owner: wire.Owner{Owner: []byte("l")}}}
	}
	a := p.ok(putFH(h), lock(pid, wire.WRITEW_LT, 5, ^uint64(0)))
	held := last[wire.StateidRes](t, a).Stateid
	test := call{wire.OP_LOCKT, &wire.LockTArgs{Type: wire.READ_LT, Offset: 100, Length: 1, Owner: wire.Owner{Owner: []byte("l")}}}
	for _, op := range []call{lock(qid, wire.READ_LT, 100, 1), test} {
		a = q.do(putFH(h), op)
		wantStatus(t, a, wire.NFS4ERR_DENIED)
		want := wire.LockDenied{Offset: 5, Length: ^uint64(0), Type: wire.WRITE_LT, Owner: wire.Owner{ClientID: p.clientID}}
		got := *last[wire.LockDenied](t, a)
		if string(got.Owner.Owner) != "l" {
			t.Errorf("owner %q", got.Owner.Owner)
		}
		got.Owner.Owner = nil
		if got.Offset != want.Offset || got.Length != want.Length || got.Type != want.Type || got.Owner.ClientID != want.Owner.ClientID {
			t.Errorf("%v: denied by %+v", op.op, got)
		}
	}
	q.ok(putFH(h), lock(qid, wire.READ_LT, 0, 5))
	q.fails(wire.NFS4ERR_INVAL, putFH(h), lock(qid, wire.READ_LT, 0, 0))
	q.fails(wire.NFS4ERR_ISDIR, putRoot, test)
	unlock := call{wire.OP_LOCKU, &wire.LockUArgs{Type: wire.WRITE_LT, Stateid: held, Length: ^uint64(0)}}
	p.ok(putFH(h), unlock)
	q.ok(putFH(h), test)
	p.fails(wire.NFS4ERR_OLD_STATEID, putFH(h), unlock)

	tests := &wire.TestStateidArgs{}
	for _, id := range []wire.Stateid{pid, held, qid, {}} {
		tests.Add(id)
	}
	got := last[testStateidRes](t, p.ok(call{wire.OP_TEST_STATEID, tests})).Statuses
	if want := []wire.Status{0, wire.NFS4ERR_OLD_STATEID, wire.NFS4ERR_BAD_STATEID, wire.NFS4ERR_BAD_STATEID}; !slices.Equal(got, want) {
		t.Errorf("TEST_STATEID: %v, want %v", got, want)
	}
	q.ok(putFH(h), closeFile(qid)) // and its locks with it
	if st := r.s.Stats(); st.Locks != 0 {
		t.Errorf("%d locks are left", st.Locks)
	}
}

func TestNames(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	h, _ := s.makeFile("f", 0o644)
	s.ok(putRoot, mkdir("d", 0o755))
	s.ok(putRoot, mkdir("e", 0o755))
	s.ok(putRoot, lookup("e"), mkdir("full", 0o755))

	a := s.ok(putFH(h), saveFH, putRoot, linkTo("g"), lookup("g"), getAttr(wire.FATTR4_NUMLINKS))
	if n := last[wire.GetAttrRes](t, a).Attrs.NumLinks; n != 2 {
		t.Errorf("%d links", n)
	}
	s.fails(wire.NFS4ERR_EXIST, putFH(h), saveFH, putRoot, linkTo("d"))
	s.fails(wire.NFS4ERR_ISDIR, putRoot, lookup("d"), saveFH, putRoot, linkTo("x"))
	s.fails(wire.NFS4ERR_NOTDIR, putFH(h), saveFH, putFH(h), linkTo("x"))

	s.fails(wire.NFS4ERR_NOENT, putRoot, saveFH, rename("nope", "x"))
	s.fails(wire.NFS4ERR_ISDIR, putRoot, saveFH, rename("f", "d"))
	s.fails(wire.NFS4ERR_NOTDIR, putRoot, saveFH, rename("d", "f"))
	s.fails(wire.NFS4ERR_NOTEMPTY, putRoot, saveFH, rename("d", "e"))
	s.fails(wire.NFS4ERR_NOTDIR, putFH(h), saveFH, putRoot, rename("f", "x"))
	s.fails(wire.NFS4ERR_INVAL, putRoot, saveFH, lookup("e"), rename("e", "in itself"))
	s.ok(putRoot, saveFH, rename("f", "g")) // two names of one file
	s.ok(putRoot, lookup("f"))
	ren := last[wire.RenameRes](t, s.ok(putRoot, saveFH, lookup("d"), rename("f", "moved")))
	if ren.Source.After <= ren.Source.Before || ren.Target.After <= ren.Target.Before {
		t.Errorf("change info %+v", ren)
	}
	s.fails(wire.NFS4ERR_NOTEMPTY, putRoot, remove("d"))
	s.fails(wire.NFS4ERR_NOENT, putRoot, remove("f"))
	for name, want := range map[string]wire.Status{"": wire.NFS4ERR_INVAL, ".": wire.NFS4ERR_BADNAME,
		"a\x00b": wire.NFS4ERR_BADCHAR, strings.Repeat("x", 300): wire.NFS4ERR_NAMETOOLONG} {
		for _, op := range []call{lookup(name), remove(name), linkTo(name), mkdir(name, 0), rename(name, "x"), rename("d", name)} {
			s.fails(want, putRoot, saveFH, op)
		}
	}
	s.ok(putRoot, mkdir("\xff\xfe", 0o755), getFH)
	s.fails(wire.NFS4ERR_BADTYPE, putRoot, call{wire.OP_CREATE, &wire.CreateArgs{Type: wire.NF4REG, Name: []byte("r")}})
	s.fails(wire.NFS4ERR_BADTYPE, putRoot, call{wire.OP_CREATE, &wire.CreateArgs{Type: 99, Name: []byte("r")}})
	s.auth = sysAuth(1, 1)
	s.fails(wire.NFS4ERR_PERM, putRoot, call{wire.OP_CREATE, &wire.CreateArgs{Type: wire.NF4CHR, Name: []byte("c")}})
}

func TestAttributes(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	dev := &wire.CreateArgs{Type: wire.NF4BLK, Name: []byte("dev"), Device: wire.Specdata{Major: 8, Minor: 3}, Attrs: withMode(0o640)}
	a := s.ok(putRoot, call{wire.OP_CREATE, dev}, getAttr(wire.FATTR4_SUPPORTED_ATTRS), getFH)
	supported := at[wire.GetAttrRes](t, a, 3).Attrs.SupportedAttrs
	h := last[wire.GetFHRes](t, a).Handle
	readable := supported
	readable.Clear(wire.FATTR4_TIME_ACCESS_SET)
	readable.Clear(wire.FATTR4_TIME_MODIFY_SET)
	readable.Clear(wire.FATTR4_TIME_DELEG_ACCESS)
	readable.Clear(wire.FATTR4_TIME_DELEG_MODIFY)
	readable.Clear(wire.FATTR4_MODE_SET_MASKED)
	a = s.ok(putFH(h), call{wire.OP_GETATTR, &wire.GetAttrArgs{Request: readable}})
	got := last[wire.GetAttrRes](t, a).Attrs
	if got.Mask != readable {
		t.Errorf("asked for %v, got %v", readable, got.Mask)
	}
	for n := wire.FATTR4_SUPPORTED_ATTRS; n <= wire.FATTR4_RDATTR_ERROR; n++ {
		if !supported.Has(n) {
			t.Errorf("attribute %d is required and not supported", n)
		}
	}
	if got.Type != wire.NF4BLK || got.Rawdev != (wire.Specdata{Major: 8, Minor: 3}) || got.Mode != 0o640 ||
		got.FSID != (wire.FSID{Major: 5, Minor: 6}) || got.LeaseTime != 15 || !bytes.Equal(got.Filehandle, h) ||
		got.FileID != got.MountedOnFileID || got.NumLinks != 1 || got.MaxRead != nfs4.MaxIOBytes ||
		!got.CasePreserving || got.CaseInsensitive || got.NamedAttr || got.SpaceTotal == 0 || got.FilesTotal == 0 ||
		got.TimeDelta != (wire.Time{Nsec: 1}) || got.RdattrError != wire.NFS4_OK || got.MaxName != 255 {
		t.Errorf("got %+v", got)
	}
	if got.SuppattrExclcreat.And(supported) != got.SuppattrExclcreat || !got.SuppattrExclcreat.Has(wire.FATTR4_MODE) {
		t.Errorf("suppattr_exclcreat is %v", got.SuppattrExclcreat)
	}
	// What is unknown is left out; what cannot be read is refused.
	a = s.ok(putFH(h), getAttr(wire.FATTR4_DACL, wire.FATTR4_FS_LOCATIONS, wire.FATTR4_CHANGE_ATTR_TYPE, wire.FATTR4_MODE))
	if m := last[wire.GetAttrRes](t, a).Attrs.Mask; m != wire.BitmapOf(wire.FATTR4_MODE) {
		t.Errorf("got attributes %v", m)
	}
	s.fails(wire.NFS4ERR_INVAL, putFH(h), getAttr(wire.FATTR4_TIME_MODIFY_SET))
}

func TestSetAttr(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	h, id := s.makeFile("f", 0o4755)
	set := wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_MODE, wire.FATTR4_OWNER, wire.FATTR4_OWNER_GROUP, wire.FATTR4_TIME_ACCESS_SET, wire.FATTR4_TIME_MODIFY_SET),
		Mode: 0o100640, Owner: wire.Principal{ID: 1000}, OwnerGroup: wire.Principal{ID: 2000},
		TimeAccessSet: wire.SetTime{Client: true, Time: wire.Time{Sec: -5, Nsec: 999_999_999}}}
	a := s.ok(putFH(h), setAttr(wire.AnonymousStateid, set),
		getAttr(wire.FATTR4_MODE, wire.FATTR4_OWNER, wire.FATTR4_OWNER_GROUP, wire.FATTR4_TIME_ACCESS, wire.FATTR4_TIME_MODIFY))
	got := last[wire.GetAttrRes](t, a).Attrs
	if got.Mode != 0o640 || got.Owner.ID != 1000 || got.Owner.Name != nil || got.OwnerGroup.ID != 2000 ||
		got.TimeAccess != (wire.Time{Sec: -5, Nsec: 999_999_999}) || at[wire.SetAttrRes](t, a, 2).Set != set.Mask {
		t.Errorf("got %+v", got)
	}
	for _, c := range []struct {
		name string
		want wire.Status
	}{{"root@localdomain", wire.NFS4ERR_BADOWNER}, {"nobody", wire.NFS4ERR_BADOWNER}, {"-1", wire.NFS4ERR_BADOWNER},
		{"4294967296", wire.NFS4ERR_BADOWNER}, {"", wire.NFS4ERR_INVAL}} {
		bad := wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_OWNER), Owner: wire.Principal{Name: []byte(c.name)}}
		s.fails(c.want, putFH(h), setAttr(wire.AnonymousStateid, bad))
	}
	late := wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_TIME_MODIFY_SET), TimeModifySet: wire.SetTime{Client: true, Time: wire.Time{Nsec: 1e9}}}
	s.fails(wire.NFS4ERR_INVAL, putFH(h), setAttr(wire.AnonymousStateid, late))

	// The size, with and without a stateid.
	s.ok(putFH(h), setAttr(id, withSize(100)), getAttr(wire.FATTR4_SIZE))
	s.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), setAttr(wire.Stateid{Seqid: 1, Other: [12]byte{1}}, withSize(1)))
	s.ok(putFH(h), setAttr(wire.AnonymousStateid, withSize(10)))
	s.fails(wire.NFS4ERR_FBIG, putFH(h), setAttr(id, withSize(1<<63)))

	// Whoever has it open for writing sets the size whatever the mode, but not other people's mode.
	s.ok(putFH(h), setAttr(wire.AnonymousStateid, withMode(0o666)))
	s.auth = sysAuth(7, 7)
	mine := last[wire.OpenRes](t, s.ok(putRoot, func() call { a := openArgs("f", forBoth); a.Owner.Owner = []byte("7"); return call{wire.OP_OPEN, a} }())).Stateid
	s.auth = sysAuth(0, 0)
	s.ok(putFH(h), setAttr(wire.AnonymousStateid, withMode(0o6111)))
	s.auth = sysAuth(7, 7)
	a = s.ok(putFH(h), setAttr(mine, withSize(3)), getAttr(wire.FATTR4_MODE))
	if got := last[wire.GetAttrRes](t, a).Attrs.Mode; got != 0o111 {
		t.Errorf("a new size by an ordinary user leaves mode %o", got)
	}
	s.auth = sysAuth(0, 0)
	s.ok(putFH(h), setAttr(wire.AnonymousStateid, withMode(0)))
	s.auth = sysAuth(7, 7)
	s.fails(wire.NFS4ERR_ACCESS, putFH(h), setAttr(wire.AnonymousStateid, withSize(4)))
	both := withMode(0o777)
	both.Mask.Set(wire.FATTR4_SIZE)
	both.Size = 5
	s.fails(wire.NFS4ERR_PERM, putFH(h), setAttr(mine, both))
	a = s.ok(putFH(h), getAttr(wire.FATTR4_SIZE, wire.FATTR4_MODE))
	if got := last[wire.GetAttrRes](t, a).Attrs; got.Size != 3 || got.Mode != 0 {
		t.Errorf("size %d, mode %o", got.Size, got.Mode)
	}
}

func TestVerify(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	h, id := s.makeFile("f", 0o644)
	s.ok(putFH(h), setAttr(id, withSize(77)))
	verify := func(a wire.Attrs) call { return call{wire.OP_VERIFY, &wire.VerifyArgs{Attrs: a}} }
	nverify := func(a wire.Attrs) call { return call{wire.OP_NVERIFY, &wire.VerifyArgs{Attrs: a}} }
	both := withMode(0o644)
	both.Mask.Set(wire.FATTR4_SIZE)
	both.Size = 77
	for _, same := range []wire.Attrs{withSize(77), withMode(0o644), both, {}} {
		s.ok(putFH(h), verify(same), getFH)
		s.fails(wire.NFS4ERR_SAME, putFH(h), nverify(same))
	}
	both.Mode = 1
	for _, other := range []wire.Attrs{withSize(78), both} {
		s.ok(putFH(h), nverify(other), getFH)
		s.fails(wire.NFS4ERR_NOT_SAME, putFH(h), verify(other))
	}
	s.fails(wire.NFS4ERR_INVAL, putFH(h), verify(wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_TIME_MODIFY_SET)}))
	s.fails(wire.NFS4ERR_INVAL, putFH(h), nverify(wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_RDATTR_ERROR)}))
	s.fails(wire.NFS4ERR_ATTRNOTSUPP, putFH(h), verify(wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_MODE_UMASK)}))
}

func TestAccess(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	s.makeFile("f", 0o754)
	s.ok(putRoot, mkdir("d", 0o751))
	const all = 0x3f
	for _, c := range []struct {
		name                string
		uid                 uint32
		supported, accessed uint32
	}{
		{"f", 0, 0x2d, 0x2d},
		{"f", 1, 0x2d, wire.ACCESS4_READ},
		{"d", 0, 0x1f, 0x1f},
		{"d", 1, 0x1f, wire.ACCESS4_LOOKUP},
	} {
		s.auth = sysAuth(c.uid, c.uid)
		got := last[wire.AccessRes](t, s.ok(putRoot, lookup(c.name), access(all)))
		if got.Supported != c.supported || got.Access != c.accessed {
			t.Errorf("%+v: got %+v", c, got)
		}
	}
	s.fails(wire.NFS4ERR_INVAL, putRoot, access(0x40))
}

// A hundred thousand names come in pages, each once, as the file system has them.
func TestReaddirInPages(t *testing.T) {
	const entries = 100_000
	r := newRig(t, nil)
	ctx := t.Context()
	want := make(map[string]uint64, entries)
	for i := range entries {
		name := fmt.Sprintf("name %d", i)
		var made vfs.CreateResult
		req := vfs.CreateRequest{Kind: vfs.Regular, Mode: vfs.Guarded}
		if err := r.mem.Create(ctx, nil, r.mem.Root(), name, &req, &made); err != nil {
			t.Fatal(err)
		}
		want[name] = made.Attr.ID.Inode
	}
	s := r.newSession("c")
	pages, cookie := 0, uint64(0)
	for {
		pages++
		page := last[readdirRes](t, s.ok(putRoot, readdir(cookie, 8192, 32768, wire.FATTR4_FILEID, wire.FATTR4_MODE, wire.FATTR4_FILEHANDLE)))
		for _, e := range page.entries {
			if e.Cookie <= cookie {
				t.Fatalf("cookie %d after %d", e.Cookie, cookie)
			}
			cookie = e.Cookie
			if inode, ok := want[string(e.Name)]; !ok || inode != e.Attrs.FileID || len(e.Attrs.Filehandle) == 0 {
				t.Fatalf("%q is inode %d, want %d (%v)", e.Name, e.Attrs.FileID, inode, ok)
			}
			delete(want, string(e.Name))
		}
		if page.eof {
			break
		}
	}
	if len(want) != 0 || pages < 100 {
		t.Errorf("%d names are missing after %d pages", len(want), pages)
	}
}

// Who may list a directory and not search it sees the names, and nothing else that lstat(2) would not tell; above all no handles.
func TestReaddirWithoutSearch(t *testing.T) {
	s := newRig(t, nil).newSession("c")
	d := last[wire.GetFHRes](t, s.ok(putRoot, mkdir("d", 0o744), getFH)).Handle
	s.ok(putFH(d), create("f", 0o666))
	all := []wire.AttrNumber{wire.FATTR4_TYPE, wire.FATTR4_SIZE, wire.FATTR4_RDATTR_ERROR, wire.FATTR4_FILEHANDLE, wire.FATTR4_FILEID}
	told := func(s *session, attrs ...wire.AttrNumber) *wire.Attrs {
		got := last[readdirRes](t, s.ok(putFH(d), readdir(0, 0, 4096, attrs...)))
		if len(got.entries) != 1 || string(got.entries[0].Name) != "f" || !got.eof {
			t.Fatalf("%+v", got)
		}
		return &got.entries[0].Attrs
	}
	if a := told(s, all...); a.Mask != wire.BitmapOf(all...) || a.RdattrError != wire.NFS4_OK {
		t.Errorf("to who may search it: %+v", a)
	}
	stranger := *s
	stranger.auth = sysAuth(7, 7)
	stranger.fails(wire.NFS4ERR_ACCESS, putFH(d), lookup("f"))
	want := wire.BitmapOf(wire.FATTR4_TYPE, wire.FATTR4_RDATTR_ERROR, wire.FATTR4_FILEID)
	if a := told(&stranger, all...); a.Mask != want || a.RdattrError != wire.NFS4ERR_ACCESS {
		t.Errorf("to who may not: %v, %v", a.Mask, a.RdattrError)
	}
	if a := told(&stranger, wire.FATTR4_TYPE, wire.FATTR4_RDATTR_ERROR); a.RdattrError != wire.NFS4_OK {
		t.Errorf("nothing was withheld: %v", a.RdattrError)
	}
	stranger.fails(wire.NFS4ERR_ACCESS, putFH(d), readdir(0, 0, 4096, wire.FATTR4_FILEHANDLE))
}

func TestReaddirArguments(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	if page := last[readdirRes](t, s.ok(putRoot, readdir(0, 0, 4096))); !page.eof || len(page.entries) != 0 {
		t.Errorf("an empty directory: %+v", page)
	}
	for i := range 20 {
		s.ok(putRoot, mkdir(fmt.Sprint("directory ", i), 0o755))
	}
	s.fails(wire.NFS4ERR_TOOSMALL, putRoot, readdir(0, 0, 10))
	s.fails(wire.NFS4ERR_TOOSMALL, putRoot, readdir(0, 0, 50))
	s.fails(wire.NFS4ERR_BAD_COOKIE, putRoot, readdir(1, 0, 4096))
	s.fails(wire.NFS4ERR_BAD_COOKIE, putRoot, readdir(2, 0, 4096))
	s.fails(wire.NFS4ERR_INVAL, putRoot, readdir(0, 0, 4096, wire.FATTR4_TIME_MODIFY_SET))
	s.fails(wire.NFS4ERR_NOT_SAME, putRoot, call{wire.OP_READDIR, &wire.ReaddirArgs{Cookie: 5, Verifier: wire.Verifier{1}, MaxCount: 4096}})
	h, _ := s.makeFile("f", 0)
	s.fails(wire.NFS4ERR_NOTDIR, putFH(h), readdir(0, 0, 4096))

	for _, c := range []struct{ dirCount, maxCount uint32 }{{0, 512}, {100, 4096}, {1, 4096}, {1 << 31, 1 << 31}} {
		seen, cookie := 0, uint64(0)
		for range 50 {
			a := s.ok(putRoot, readdir(cookie, c.dirCount, c.maxCount, wire.FATTR4_RDATTR_ERROR, wire.FATTR4_TYPE, wire.FATTR4_SPACE_FREE))
			if len(a.raw) > int(min(c.maxCount, 1<<20))+100 {
				t.Errorf("%+v: a reply of %d bytes", c, len(a.raw))
			}
			page := last[readdirRes](t, a)
			if len(page.entries) == 0 && !page.eof {
				t.Fatalf("%+v: no progress", c)
			}
			for _, e := range page.entries {
				seen, cookie = seen+1, e.Cookie
				if e.Attrs.Type == 0 || e.Attrs.SpaceFree == 0 {
					t.Errorf("%q: %+v", e.Name, e.Attrs)
				}
			}
			if page.eof {
				break
			}
		}
		if seen != 21 {
			t.Errorf("%+v: %d entries", c, seen)
		}
	}
	s.ok(putRoot, setAttr(wire.AnonymousStateid, withMode(0o711)))
	s.auth = sysAuth(9, 9)
	s.fails(wire.NFS4ERR_ACCESS, putRoot, readdir(0, 0, 4096))
}
