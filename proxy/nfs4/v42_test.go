package nfs4_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// session42 is a session in minor version 2.
func (r *rig) newSession42(owner string) *session {
	r.t.Helper()
	s := r.newSession(owner)
	s.minor = 2
	return s
}

func allocate(id wire.Stateid, offset, length uint64) call {
	return call{wire.OP_ALLOCATE, &wire.AllocateArgs{Stateid: id, Offset: offset, Length: length}}
}

func deallocate(id wire.Stateid, offset, length uint64) call {
	return call{wire.OP_DEALLOCATE, &wire.DeallocateArgs{Stateid: id, Offset: offset, Length: length}}
}

func seek(id wire.Stateid, offset uint64, what wire.Content) call {
	return call{wire.OP_SEEK, &wire.SeekArgs{Stateid: id, Offset: offset, What: what}}
}

func readPlus(id wire.Stateid, offset uint64, count uint32) call {
	return call{wire.OP_READ_PLUS, &wire.ReadPlusArgs{Stateid: id, Offset: offset, Count: count}}
}

// readPlusRes is a decoded read_plus_res4.
type readPlusRes struct {
	segments []wire.ReadPlusSegment
	eof      bool
}

func (r *readPlusRes) Decode(d *xdr.Decoder) {
	var p wire.ReadPlusReader
	p.Begin(d)
	for s := (wire.ReadPlusSegment{}); p.Next(&s); {
		r.segments = append(r.segments, s)
	}
	r.eof = p.EOF
}

// String is the segments with the first byte of their data.
func (r *readPlusRes) String() string {
	var b strings.Builder
	for _, s := range r.segments {
		if s.Content == wire.NFS4_CONTENT_HOLE {
			fmt.Fprintf(&b, "hole %d+%d ", s.Offset, s.Length)
			continue
		}
		fmt.Fprintf(&b, "data %d+%d %q ", s.Offset, len(s.Data), s.Data[:min(len(s.Data), 1)])
	}
	if r.eof {
		b.WriteString("eof")
	}
	return strings.TrimSpace(b.String())
}

// sparse makes a file of 64 KiB with data in its second and its last 4 KiB.
func (s *session) sparse(name string) (h []byte, id wire.Stateid) {
	h, id = s.makeFile(name, 0o644)
	s.ok(putFH(h), write(id, 4096, strings.Repeat("a", 4096)), write(id, 61440, strings.Repeat("b", 4096)))
	return h, id
}

func TestSeek(t *testing.T) {
	s := newRig(t, nil).newSession42("c")
	h, id := s.sparse("f")
	for _, c := range []struct {
		from uint64
		what wire.Content
		want wire.SeekRes
	}{
		{0, wire.NFS4_CONTENT_DATA, wire.SeekRes{Offset: 4096}},
		{0, wire.NFS4_CONTENT_HOLE, wire.SeekRes{Offset: 0}},
		{5000, wire.NFS4_CONTENT_DATA, wire.SeekRes{Offset: 5000}},
		{5000, wire.NFS4_CONTENT_HOLE, wire.SeekRes{Offset: 8192}},
		{8192, wire.NFS4_CONTENT_DATA, wire.SeekRes{Offset: 61440}},
		{61441, wire.NFS4_CONTENT_HOLE, wire.SeekRes{Offset: 65536, EOF: true}},
	} {
		got := last[wire.SeekRes](t, s.ok(putFH(h), seek(id, c.from, c.what)))
		if *got != c.want {
			t.Errorf("from %d, %d: %+v, want %+v", c.from, c.what, *got, c.want)
		}
	}
	s.ok(putFH(h), deallocate(id, 61440, 4096))
	got := last[wire.SeekRes](t, s.ok(putFH(h), seek(id, 8192, wire.NFS4_CONTENT_DATA)))
	if want := (wire.SeekRes{EOF: true, Offset: 65536}); *got != want {
		t.Errorf("no more data: %+v", *got)
	}
	s.fails(wire.NFS4ERR_NXIO, putFH(h), seek(id, 65536, wire.NFS4_CONTENT_HOLE))
	s.fails(wire.NFS4ERR_UNION_NOTSUPP, putFH(h), seek(id, 0, 2))
	s.fails(wire.NFS4ERR_ISDIR, putRoot, seek(wire.AnonymousStateid, 0, wire.NFS4_CONTENT_DATA))
	s.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), seek(wire.Stateid{Seqid: 9, Other: [12]byte{9}}, 0, wire.NFS4_CONTENT_DATA))
}

func TestReadPlus(t *testing.T) {
	s := newRig(t, nil).newSession42("c")
	h, id := s.sparse("f")
	for _, c := range []struct {
		offset uint64
		count  uint32
		want   string
	}{
		{0, 1 << 20, `hole 0+4096 data 4096+4096 "a" hole 8192+53248 data 61440+4096 "b" eof`},
		{0, 65536, `hole 0+4096 data 4096+4096 "a" hole 8192+53248 data 61440+4096 "b" eof`},
		{100, 4000, "hole 100+3996 data 4096+4 \"a\""},
		{100, 10, "hole 100+10"},
		{4097, 7, `data 4097+7 "a"`},
		{65535, 10, `data 65535+1 "b" eof`},
		{65536, 10, "eof"}, {1 << 40, 10, "eof"}, {10, 0, ""}, {65536, 0, "eof"},
	} {
		got := last[readPlusRes](t, s.ok(putFH(h), readPlus(id, c.offset, c.count)))
		if got.String() != c.want {
			t.Errorf("%d bytes from %d:\n got %s\nwant %s", c.count, c.offset, got, c.want)
		}
	}
	s.fails(wire.NFS4ERR_ISDIR, putRoot, readPlus(wire.AnonymousStateid, 0, 10))
	s.ok(putFH(h), setAttr(id, withMode(0o600)))
	stranger := *s
	stranger.auth = sysAuth(7, 7)
	stranger.fails(wire.NFS4ERR_ACCESS, putFH(h), readPlus(wire.AnonymousStateid, 0, 10))
	stranger.fails(wire.NFS4ERR_ACCESS, putFH(h), seek(wire.AnonymousStateid, 0, wire.NFS4_CONTENT_DATA))
}

// A reply that is too small for all of it ends early and says so by not being the end.
func TestReadPlusInALittleRoom(t *testing.T) {
	r := newRig(t, nil)
	narrow := wide
	narrow.MaxResponseSize = 4096
	s := r.newSessionWith("c", narrow)
	s.minor = 2
	s.ok(call{wire.OP_RECLAIM_COMPLETE, &wire.ReclaimCompleteArgs{}})
	h, id := s.makeFile("f", 0o644)
	text := strings.Repeat("x", 10000)
	s.ok(putFH(h), write(id, 0, text))
	var all []byte
	for range 10 {
		got := last[readPlusRes](t, s.ok(putFH(h), readPlus(id, uint64(len(all)), 1<<20)))
		for _, seg := range got.segments {
			all = append(all, seg.Data...)
		}
		if got.eof {
			break
		}
	}
	if string(all) != text {
		t.Errorf("read %d bytes", len(all))
	}
}

func TestAllocate(t *testing.T) {
	s := newRig(t, nil).newSession42("c")
	h, id := s.makeFile("f", 0o644)
	s.ok(putFH(h), allocate(id, 0, 100000))
	size := func() uint64 {
		return last[wire.GetAttrRes](t, s.ok(putFH(h), getAttr(wire.FATTR4_SIZE))).Attrs.Size
	}
	if n := size(); n != 100000 {
		t.Errorf("%d bytes after ALLOCATE", n)
	}
	s.ok(putFH(h), write(id, 0, strings.Repeat("x", 8192)), deallocate(id, 0, 4096))
	got := last[wire.ReadRes](t, s.ok(putFH(h), read(id, 4090, 10))).Data
	if string(got) != "\x00\x00\x00\x00\x00\x00xxxx" || size() != 100000 {
		t.Errorf("after DEALLOCATE: %q, %d bytes", got, size())
	}
	s.fails(wire.NFS4ERR_INVAL, putFH(h), allocate(id, 0, 0))
	s.fails(wire.NFS4ERR_ISDIR, putRoot, allocate(wire.AnonymousStateid, 0, 1))
	reader := last[wire.OpenRes](t, s.ok(putRoot, opens2(s, "f", wire.OPEN4_SHARE_ACCESS_READ))).Stateid
	s.fails(wire.NFS4ERR_OPENMODE, putFH(h), deallocate(reader, 0, 1))
	s.fails(wire.NFS4ERR_OPENMODE, putFH(h), allocate(reader, 0, 1))
}

// opens2 is an OPEN by an owner of its own.
func opens2(_ *session, name string, access uint32) call {
	a := openArgs(name, access)
	a.Owner.Owner = []byte("another owner")
	return call{wire.OP_OPEN, a}
}

// What uid 0 changes keeps its set-id bits, also where the file is open and nobody's access is checked; who else changes it takes them.
func TestSetIDBitsOfWhatIsCloned(t *testing.T) {
	for _, uid := range []uint32{0, 5} {
		for _, op := range []wire.Op{wire.OP_CLONE, wire.OP_COPY, wire.OP_ALLOCATE, wire.OP_DEALLOCATE} {
			s := newRig(t, nil).newSession42("c")
			s.auth = sysAuth(uid, uid)
			from, fromID := s.sparse("from")
			to, toID := s.sparse("to")
			s.ok(putFH(to), setAttr(toID, withMode(0o6777)))
			args := cloneOf(fromID, toID, 0, 0, 4096)
			space := wire.AllocateArgs{Stateid: toID, Length: 4096}
			change := map[wire.Op]call{
				wire.OP_CLONE: {wire.OP_CLONE, &args}, wire.OP_COPY: copyOf(fromID, toID, 0, 0, 4096),
				wire.OP_ALLOCATE: {wire.OP_ALLOCATE, &space}, wire.OP_DEALLOCATE: {wire.OP_DEALLOCATE, &space},
			}[op]
			s.ok(putFH(from), saveFH, putFH(to), change)
			want := uint32(0o777)
			if uid == 0 {
				want = 0o6777
			}
			if got := last[wire.GetAttrRes](t, s.ok(putFH(to), getAttr(wire.FATTR4_MODE))).Attrs.Mode; got != want {
				t.Errorf("%v by %d: mode %#o, want %#o", op, uid, got, want)
			}
		}
	}
}

func cloneOf(from, to wire.Stateid, a, b, n uint64) wire.CloneArgs {
	return wire.CloneArgs{Source: from, Target: to, SourceOffset: a, TargetOffset: b, Count: n}
}

func copyOf(from, to wire.Stateid, a, b, n uint64) call {
	return call{wire.OP_COPY, &wire.CopyArgs{CloneArgs: cloneOf(from, to, a, b, n), Consecutive: true, Synchronous: true}}
}

func TestCloneAndCopy(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession42("c")
	from, fromID := s.makeFile("from", 0o644)
	text := strings.Repeat("0123456789abcdef", 1000) + "tail"
	s.ok(putFH(from), write(fromID, 0, text))
	content := func(h []byte) string {
		return string(last[wire.ReadRes](t, s.ok(putFH(h), read(wire.BypassStateid, 0, 1<<20))).Data)
	}

	to, toID := s.makeFile("to", 0o644)
	clone := func(a, b, n uint64) call { args := cloneOf(fromID, toID, a, b, n); return call{wire.OP_CLONE, &args} }
	s.ok(putFH(from), saveFH, putFH(to), clone(0, 0, 0))
	if content(to) != text {
		t.Error("CLONE: another content")
	}
	s.ok(putFH(to), write(toID, 0, "X"))
	if content(from) != text || content(to) != "X"+text[1:] {
		t.Error("a write to the clone shows in the source, or does not show in the clone")
	}
	s.fails(wire.NFS4ERR_INVAL, putFH(from), saveFH, putFH(to), clone(1, 0, 100))
	s.fails(wire.NFS4ERR_INVAL, putFH(from), saveFH, putFH(to), clone(1<<20, 0, 0))
	s.fails(wire.NFS4ERR_NOFILEHANDLE, putFH(to), clone(0, 0, 0))
	s.fails(wire.NFS4ERR_ISDIR, putFH(from), saveFH, putRoot, call{wire.OP_CLONE, &wire.CloneArgs{Source: fromID}})

	for _, c := range []struct{ from, to, count, copied uint64 }{
		{0, 0, 0, uint64(len(text))}, {3, 5, 100, 100}, {4096, 8192, 4096, 4096}, {uint64(len(text)), 0, 0, 0}, {16000, 1, 0, 4},
	} {
		before := content(to)
		res := last[wire.CopyRes](t, s.ok(putFH(from), saveFH, putFH(to), copyOf(fromID, toID, c.from, c.to, c.count)))
		if res.Response.Count != c.copied || res.Response.Async || !res.Requirements.Synchronous || res.Response.Verifier != (wire.Verifier{4, 2}) {
			t.Errorf("%+v: %+v", c, res)
		}
		part := text[c.from : c.from+c.copied]
		want := before[:c.to] + part + before[min(int(c.to)+len(part), len(before)):]
		if content(to) != want {
			t.Errorf("%+v: another content", c)
		}
	}
	s.fails(wire.NFS4ERR_INVAL, putFH(from), saveFH, putFH(to), copyOf(fromID, toID, 1, 0, uint64(len(text))))
	s.fails(wire.NFS4ERR_INVAL, putFH(from), saveFH, putFH(from), copyOf(fromID, fromID, 0, 10, 100))
	s.fails(wire.NFS4ERR_BAD_STATEID, putFH(from), saveFH, putFH(to), copyOf(toID, toID, 0, 0, 0))

	// Who has nothing open is judged by the mode.
	stranger := *s
	stranger.auth = sysAuth(7, 7)
	anonymous := copyOf(wire.AnonymousStateid, wire.AnonymousStateid, 0, 0, 0)
	stranger.fails(wire.NFS4ERR_ACCESS, putFH(from), saveFH, putFH(to), anonymous)
}

// More than a request should wait for is copied piece by piece.
func TestCopyOfALot(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession42("c")
	from, fromID := s.makeFile("from", 0o644)
	to, toID := s.makeFile("to", 0o644)
	const size = 64<<20 + 3
	s.ok(putFH(from), setAttr(fromID, withSize(size)))
	res := last[wire.CopyRes](t, s.ok(putFH(from), saveFH, putFH(to), copyOf(fromID, toID, 1, 0, 0)))
	if res.Response.Count != 64<<20 || res.Response.Committed != wire.UNSTABLE4 {
		t.Errorf("copied %+v", res.Response)
	}
}

func TestIOAdvise(t *testing.T) {
	s := newRig(t, nil).newSession42("c")
	h, id := s.makeFile("f", 0o644)
	advise := call{wire.OP_IO_ADVISE, &wire.IOAdviseArgs{Stateid: id, Count: 100, Hints: wire.Bitmap{1 << wire.IO_ADVISE4_WILLNEED}}}
	if got := last[wire.IOAdviseRes](t, s.ok(putFH(h), advise)); !got.Hints.IsZero() {
		t.Errorf("hints %v are followed", got.Hints)
	}
	s.fails(wire.NFS4ERR_ISDIR, putRoot, call{wire.OP_IO_ADVISE, &wire.IOAdviseArgs{}})
}

func getXattr(name string) call {
	return call{wire.OP_GETXATTR, &wire.GetXattrArgs{Name: []byte(name)}}
}

func setXattr(name, value string, option wire.SetXattrOption) call {
	return call{wire.OP_SETXATTR, &wire.SetXattrArgs{Option: option, Name: []byte(name), Value: []byte(value)}}
}

func removeXattr(name string) call {
	return call{wire.OP_REMOVEXATTR, &wire.RemoveXattrArgs{Name: []byte(name)}}
}

func listXattrs(cookie uint64, max uint32) call {
	return call{wire.OP_LISTXATTRS, &wire.ListXattrsArgs{Cookie: cookie, MaxCount: max}}
}

func TestXattrs(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession42("c")
	h, _ := s.makeFile("f", 0o644)
	s.fails(wire.NFS4ERR_NOXATTR, putFH(h), getXattr("k"))
	s.fails(wire.NFS4ERR_NOXATTR, putFH(h), setXattr("k", "v", wire.SETXATTR4_REPLACE))
	change := func(a *answer) wire.ChangeInfo { return last[wire.ChangeInfoRes](t, a).Change }
	one := change(s.ok(putFH(h), setXattr("k", "v", wire.SETXATTR4_CREATE)))
	two := change(s.ok(putFH(h), setXattr("k", "value", wire.SETXATTR4_EITHER)))
	if one.After == one.Before || two.Before != one.After || !one.Atomic {
		t.Errorf("changes %+v, %+v", one, two)
	}
	s.fails(wire.NFS4ERR_EXIST, putFH(h), setXattr("k", "v", wire.SETXATTR4_CREATE))
	if got := last[wire.GetXattrRes](t, s.ok(putFH(h), getXattr("k"))).Value; string(got) != "value" {
		t.Errorf("value %q", got)
	}
	s.fails(wire.NFS4ERR_XATTR2BIG, putFH(h), setXattr("big", strings.Repeat("x", 65537), wire.SETXATTR4_EITHER))
	s.fails(wire.NFS4ERR_INVAL, putFH(h), setXattr("", "v", wire.SETXATTR4_EITHER))
	s.fails(wire.NFS4ERR_NAMETOOLONG, putFH(h), setXattr(strings.Repeat("n", 256), "v", wire.SETXATTR4_EITHER))

	var want, got []string
	for i := range 40 {
		want = append(want, fmt.Sprintf("name %d", i))
		s.ok(putFH(h), setXattr(want[i], "", wire.SETXATTR4_EITHER))
	}
	want = append(want, "k")
	for cookie, eof := uint64(0), false; !eof; {
		res := last[wire.ListXattrsRes](t, s.ok(putFH(h), listXattrs(cookie, 100)))
		for _, n := range res.Names {
			got = append(got, string(n))
		}
		cookie, eof = res.Cookie, res.EOF
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("listed %q", got)
	}
	s.fails(wire.NFS4ERR_TOOSMALL, putFH(h), listXattrs(0, 15))
	s.fails(wire.NFS4ERR_TOOSMALL, putFH(h), listXattrs(0, 20))
	s.ok(putFH(h), removeXattr("k"))
	s.fails(wire.NFS4ERR_NOXATTR, putFH(h), removeXattr("k"))

	stranger := *s
	stranger.auth = sysAuth(7, 7)
	stranger.ok(putFH(h), getXattr("name 1"))
	stranger.fails(wire.NFS4ERR_ACCESS, putFH(h), setXattr("name 1", "", wire.SETXATTR4_EITHER))
	readOnly := stranger.on(r.s.Bind(nfs4.ConnInfo{Grant: nfs4.Grant{Mount: true, Root: true}}))
	readOnly.fails(wire.NFS4ERR_ROFS, putFH(h), removeXattr("name 1"))
	readOnly.ok(putFH(h), listXattrs(0, 1000))
}

// What is of minor version 2 is not of 1, and what 2 has and we have not says so.
func TestMinorVersion2(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession42("c")
	h, _ := s.makeFile("f", 0o644)
	for op := wire.OP_ALLOCATE; op <= wire.OP_REMOVEXATTR; op++ {
		s.minor = 1
		if a := s.do(putFH(h), call{op: op}); a.status != wire.NFS4ERR_OP_ILLEGAL || a.results[2].op != wire.OP_ILLEGAL {
			t.Errorf("%v in minor version 1: %v", op, a.status)
		}
		s.minor = 2
		want := wire.NFS4ERR_BADXDR
		switch op {
		case wire.OP_COPY_NOTIFY, wire.OP_LAYOUTERROR, wire.OP_LAYOUTSTATS, wire.OP_WRITE_SAME:
			want = wire.NFS4ERR_NOTSUPP
		}
		if a := s.do(putFH(h), saveFH, call{op: op}); a.status != want {
			t.Errorf("%v without arguments: %v, want %v", op, a.status, want)
		}
	}
	if a := s.do(putFH(h), call{op: wire.OP_REMOVEXATTR + 1}); a.status != wire.NFS4ERR_OP_ILLEGAL {
		t.Errorf("an unknown operation: %v", a.status)
	}
	for _, op := range []wire.Op{wire.OP_LAYOUTGET, wire.OP_GETDEVICEINFO, wire.OP_LAYOUTCOMMIT, wire.OP_LAYOUTRETURN, wire.OP_OPENATTR} {
		s.fails(wire.NFS4ERR_NOTSUPP, putFH(h), call{op: op})
	}
	before := s.ok(putRoot, getFH)
	if got := s.ok(putRoot, getFH); !bytes.Equal(last[wire.GetFHRes](t, got).Handle, last[wire.GetFHRes](t, before).Handle) {
		t.Error("the session is not as it was")
	}
}
