package nfs4_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

func withACL(acl ...wire.ACE) wire.Attrs {
	return wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_ACL), ACL: acl}
}

func ace(kind, mask uint32, who string) wire.ACE {
	return wire.ACE{Type: kind, Mask: mask, Who: []byte(who)}
}

// letters is an ACL in the style of nfs4_getfacl: type, who, and which of r, w, x.
func letters(acl []wire.ACE) string {
	var b strings.Builder
	for _, e := range acl {
		b.WriteString([]string{"A", "D"}[e.Type] + ":" + string(e.Who[:1]) + ":")
		for _, bit := range []struct {
			mask   uint32
			letter string
		}{{wire.ACE4_READ_DATA, "r"}, {wire.ACE4_WRITE_DATA, "w"}, {wire.ACE4_EXECUTE, "x"}, {wire.ACE4_WRITE_ACL, "C"}} {
			if e.Mask&bit.mask != 0 {
				b.WriteString(bit.letter)
			}
		}
		b.WriteString(" ")
	}
	return strings.TrimSpace(b.String())
}

func TestACLIsTheMode(t *testing.T) {
	s := newRig(t, nil).newSession("c")
	h, _ := s.makeFile("f", 0o600)
	get := func() wire.Attrs {
		return last[wire.GetAttrRes](t, s.ok(putFH(h), getAttr(wire.FATTR4_ACL, wire.FATTR4_ACLSUPPORT, wire.FATTR4_MODE))).Attrs
	}
	for mode, want := range map[uint32]string{
		0o644:  "A:O:rwC A:G:r A:E:r",
		0o4755: "A:O:rwxC A:G:rx A:E:rx",
		0o000:  "A:O:C A:G: A:E:",
		0o467:  "D:O:wx A:O:rC D:G:x A:G:rw A:E:rwx",
		0o077:  "D:O:rwx A:O:C A:G:rwx A:E:rwx",
	} {
		s.ok(putFH(h), setAttr(wire.AnonymousStateid, withMode(mode)))
		a := get()
		if got := letters(a.ACL); got != want || a.ACLSupport != 3 {
			t.Errorf("mode %#o: %s, want %s", mode, got, want)
		}
		s.ok(putFH(h), setAttr(wire.AnonymousStateid, withMode(0o7000)))
		s.ok(putFH(h), setAttr(wire.AnonymousStateid, withACL(a.ACL...)))
		if got := get().Mode; got != 0o7000|mode&0o777 {
			t.Errorf("mode %#o, set by its own ACL, is %#o", mode, got)
		}
	}
	const rw = wire.ACE4_READ_DATA | wire.ACE4_WRITE_DATA | wire.ACE4_APPEND_DATA
	for _, c := range []struct {
		name string
		acl  []wire.ACE
		want wire.Status
		mode uint32
	}{
		{"first entry counts", []wire.ACE{ace(1, wire.ACE4_READ_DATA, "GROUP@"), ace(0, rw, "EVERYONE@")}, wire.NFS4_OK, 0o626},
		{"entries without rights", []wire.ACE{ace(0, 0, "123")}, wire.NFS4_OK, 0},
		{"a user", []wire.ACE{ace(0, rw, "alice@example.org")}, wire.NFS4ERR_ATTRNOTSUPP, 0},
		{"an alarm", []wire.ACE{ace(3, rw, "OWNER@")}, wire.NFS4ERR_ATTRNOTSUPP, 0},
		{"inheritance", []wire.ACE{{Mask: rw, Flag: 1, Who: []byte("OWNER@")}}, wire.NFS4ERR_ATTRNOTSUPP, 0},
		{"append alone", []wire.ACE{ace(0, wire.ACE4_APPEND_DATA, "OWNER@")}, wire.NFS4ERR_ATTRNOTSUPP, 0},
		{"attributes denied", []wire.ACE{ace(1, wire.ACE4_READ_ATTRIBUTES, "OWNER@")}, wire.NFS4ERR_ATTRNOTSUPP, 0},
		{"ownership for others", []wire.ACE{ace(0, wire.ACE4_WRITE_OWNER, "EVERYONE@")}, wire.NFS4ERR_ATTRNOTSUPP, 0},
	} {
		s.ok(putFH(h), setAttr(wire.AnonymousStateid, withMode(0)))
		wantStatus(t, s.do(putFH(h), setAttr(wire.AnonymousStateid, withACL(c.acl...))), c.want)
		if got := get().Mode; got != c.mode {
			t.Errorf("%s: mode %#o, want %#o", c.name, got, c.mode)
		}
	}
	s.ok(putRoot, call{wire.OP_CREATE, &wire.CreateArgs{Type: wire.NF4DIR, Name: []byte("d"), Attrs: withACL(ace(0, rw, "OWNER@"))}})
	if got := last[wire.GetAttrRes](t, s.ok(putRoot, lookup("d"), getAttr(wire.FATTR4_MODE))).Attrs.Mode; got != 0o600 {
		t.Errorf("a directory made with an ACL has mode %#o", got)
	}
}

func TestModeSetMasked(t *testing.T) {
	s := newRig(t, nil).newSession("c")
	h, _ := s.makeFile("f", 0o644)
	masked := func(bits, mask uint32) wire.Attrs {
		return wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_MODE_SET_MASKED), ModeSetMasked: wire.ModeMasked{Bits: bits, Mask: mask}}
	}
	s.ok(putFH(h), setAttr(wire.AnonymousStateid, masked(0o020, 0o070)))
	if got := last[wire.GetAttrRes](t, s.ok(putFH(h), getAttr(wire.FATTR4_MODE))).Attrs.Mode; got != 0o624 {
		t.Errorf("mode %#o", got)
	}
	both := masked(0, 7)
	both.Mask.Set(wire.FATTR4_MODE)
	s.fails(wire.NFS4ERR_INVAL, putFH(h), setAttr(wire.AnonymousStateid, both))
	s.fails(wire.NFS4ERR_INVAL, putFH(h), setAttr(wire.AnonymousStateid, masked(0, 0o10000)))
	s.fails(wire.NFS4ERR_INVAL, putFH(h), getAttr(wire.FATTR4_MODE_SET_MASKED))
}

// Each minor version has its own attributes: one of a later version is unknown, so not answered, and
// refused where it is to be set.
func TestAttributesOfMinorVersions(t *testing.T) {
	r := newRig(t, nil)
	newest := []wire.AttrNumber{0: wire.FATTR4_MOUNTED_ON_FILEID, 1: wire.FATTR4_FS_CHARSET_CAP, 2: wire.FATTR4_XATTR_SUPPORT}
	o, s := r.newOld("old"), r.newSession("c")
	for minor, want := range newest {
		ask := call{wire.OP_GETATTR, &wire.GetAttrArgs{Request: wire.BitmapOf(wire.FATTR4_SUPPORTED_ATTRS, wire.FATTR4_SIZE).Or(wire.BitmapOf(newest...))}}
		var a *answer
		if minor == 0 {
			a = o.ok(putRoot, ask)
		} else {
			s.minor = uint32(minor)
			a = s.ok(putRoot, ask)
		}
		got := last[wire.GetAttrRes](t, a).Attrs
		for i, n := range newest {
			if got.Mask.Has(n) != (i <= minor) || got.SupportedAttrs.Has(n) != (i <= minor) {
				t.Errorf("attribute %d in minor version %d: %v", n, minor, got.Mask.Has(n))
			}
		}
		if !got.SupportedAttrs.Has(want) {
			t.Errorf("minor version %d has not attribute %d", minor, want)
		}
	}
	later := wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_MODE_SET_MASKED)}
	o.fails(wire.NFS4ERR_ATTRNOTSUPP, putRoot, setAttr(wire.AnonymousStateid, later))
}

func TestSpaceAttributes(t *testing.T) {
	s := newRig(t, nil).newSession42("c")
	h, id := s.makeFile("f", 0o644)
	s.ok(putFH(h), write(id, 0, strings.Repeat("x", 10000)))
	ask := getAttr(wire.FATTR4_SPACE_USED, wire.FATTR4_SPACE_FREED, wire.FATTR4_SPACE_AVAIL, wire.FATTR4_QUOTA_AVAIL_HARD,
		wire.FATTR4_QUOTA_AVAIL_SOFT, wire.FATTR4_QUOTA_USED, wire.FATTR4_CLONE_BLKSIZE, wire.FATTR4_CHANGE_ATTR_TYPE, wire.FATTR4_XATTR_SUPPORT)
	a := last[wire.GetAttrRes](t, s.ok(putFH(h), ask)).Attrs
	if a.SpaceUsed == 0 || a.SpaceFreed != a.SpaceUsed || a.QuotaAvailHard != a.SpaceAvail || a.QuotaAvailSoft != a.SpaceAvail ||
		a.QuotaUsed < a.SpaceUsed || a.CloneBlksize != 4096 || a.ChangeAttrType != 0 || !a.XattrSupport || a.Mask != ask.args.(*wire.GetAttrArgs).Request {
		t.Errorf("got %+v", a)
	}
	s.ok(putFH(h), saveFH, putRoot, linkTo("g"))
	if a := last[wire.GetAttrRes](t, s.ok(putFH(h), ask)).Attrs; a.SpaceFreed != 0 {
		t.Errorf("removing one of two names frees %d bytes", a.SpaceFreed)
	}
}

func TestXattrAccess(t *testing.T) {
	s := newRig(t, nil).newSession42("c")
	h, _ := s.makeFile("f", 0o640)
	s.fails(wire.NFS4ERR_INVAL, putFH(h), access(0x200))
	stranger := *s
	stranger.auth = sysAuth(7, 0)
	got := last[wire.AccessRes](t, stranger.ok(putFH(h), access(wire.ACCESS4_XAREAD|wire.ACCESS4_XAWRITE|wire.ACCESS4_XALIST)))
	if got.Supported != 0x1c0 || got.Access != wire.ACCESS4_XAREAD|wire.ACCESS4_XALIST {
		t.Errorf("got %+v", got)
	}
	stranger.minor = 1
	stranger.fails(wire.NFS4ERR_INVAL, putFH(h), access(wire.ACCESS4_XAREAD))
}

func TestOwnerNames(t *testing.T) {
	s := newRig(t, func(o *nfs4.Options) { o.IDDomain = "example.org" }).newSession("c")
	h, _ := s.makeFile("f", 0o644)
	for i, c := range []struct {
		name string
		want uint32
		st   wire.Status
	}{
		{"1001@example.org", 1001, wire.NFS4_OK}, {"1002@EXAMPLE.org", 1002, wire.NFS4_OK}, {"root@example.org", 0, wire.NFS4_OK},
		{"nobody@example.org", 65534, wire.NFS4_OK}, {"alice@example.org", 0, wire.NFS4ERR_BADOWNER},
		{"1003@example.net", 0, wire.NFS4ERR_BADOWNER}, {"01@example.org", 0, wire.NFS4ERR_BADOWNER},
		{"4294967296@example.org", 0, wire.NFS4ERR_BADOWNER}, {"@example.org", 0, wire.NFS4ERR_BADOWNER},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			set := wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_OWNER, wire.FATTR4_OWNER_GROUP),
				Owner: wire.Principal{Name: []byte(c.name)}, OwnerGroup: wire.Principal{Name: []byte(c.name)}}
			wantStatus(t, s.do(putFH(h), setAttr(wire.AnonymousStateid, set)), c.st)
			got := last[wire.GetAttrRes](t, s.ok(putFH(h), getAttr(wire.FATTR4_OWNER, wire.FATTR4_OWNER_GROUP))).Attrs
			if c.st == wire.NFS4_OK && (got.Owner.ID != c.want || got.OwnerGroup.ID != c.want || got.Owner.Name != nil) {
				t.Errorf("%s: %+v, %+v", c.name, got.Owner, got.OwnerGroup)
			}
		})
	}
}
