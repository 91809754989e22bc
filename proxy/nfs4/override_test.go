package nfs4_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// A connection can say whom its requests are for, whoever they say.
func TestConnectionActsAsAUser(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	as := func(u *nfs4.User, root bool) *session {
		return s.on(r.s.Bind(nfs4.ConnInfo{Grant: nfs4.Grant{Mount: true, Write: true, Root: root}, As: u}))
	}
	owner := func(s *session, dir string) (uint32, uint32) {
		a := last[wire.GetAttrRes](t, s.ok(putRoot, mkdir(dir, 0o755), getAttr(wire.FATTR4_OWNER, wire.FATTR4_OWNER_GROUP))).Attrs
		return a.Owner.ID, a.OwnerGroup.ID
	}
	user := as(&nfs4.User{UID: 1001, GID: 1002, Groups: []uint32{50}}, true)
	if uid, gid := owner(user, "a"); uid != 1001 || gid != 1002 {
		t.Errorf("made by %d:%d", uid, gid)
	}
	user.auth = rpc.Auth{Flavor: rpc.AuthNone}
	if uid, _ := owner(user, "b"); uid != 1001 {
		t.Errorf("without AUTH_SYS: made by %d", uid)
	}
	user.ok(putRoot, lookup("a"), setAttr(wire.AnonymousStateid, wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_OWNER_GROUP), OwnerGroup: wire.Principal{ID: 50}}))
	user.fails(wire.NFS4ERR_PERM, putRoot, lookup("a"), setAttr(wire.AnonymousStateid, wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_OWNER_GROUP), OwnerGroup: wire.Principal{ID: 51}}))
	s.seq = user.seq
	squashed := as(&nfs4.User{}, false)
	if uid, gid := owner(squashed, "c"); uid != 65534 || gid != 65534 {
		t.Errorf("root without the right to be root: made by %d:%d", uid, gid)
	}
}

// A connection can have a directory for its root, with no way out of it.
func TestConnectionHasARoot(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	s.ok(putRoot, mkdir("home", 0o755), mkdir("sub", 0o755), mkdir("deeper", 0o755))
	var home vfs.Attr
	if err := r.mem.Lookup(t.Context(), nil, r.mem.Root(), "home", &home); err != nil {
		t.Fatal(err)
	}
	want := last[wire.GetFHRes](t, s.ok(putRoot, lookup("home"), getFH)).Handle
	in := s.on(r.s.Bind(nfs4.ConnInfo{Grant: everything, Root: home.ID}))
	if got := last[wire.GetFHRes](t, in.ok(putRoot, getFH)).Handle; !bytes.Equal(got, want) {
		t.Error("another root")
	}
	in.fails(wire.NFS4ERR_NOENT, putRoot, lookupP)
	if got := last[wire.GetFHRes](t, in.ok(putRoot, lookup("sub"), lookupP, getFH)).Handle; !bytes.Equal(got, want) {
		t.Error("the way up leads elsewhere")
	}
	in.fails(wire.NFS4ERR_NOENT, putRoot, lookupP)
	h := last[wire.GetFHRes](t, in.ok(putRoot, lookup("sub"), lookup("deeper"), getFH)).Handle
	in.ok(putFH(h), lookupP)
	s.seq = in.seq
	s.ok(putRoot, lookup("home"), saveFH, putRoot, rename("sub", "moved out"))
	in.seq = s.seq
	in.fails(wire.NFS4ERR_NOENT, putFH(h), lookupP)
}

// The root of a connection is found by its path, and made if that is wanted.
func TestFindRoot(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	s.ok(putRoot, mkdir("home", 0o700))
	s.makeFile("file", 0o644)
	s.ok(putRoot, call{wire.OP_CREATE, &wire.CreateArgs{Type: wire.NF4LNK, Name: []byte("link"), Target: []byte("home")}})
	find := func(path string, missing *nfs4.NewRoot) (vfs.FileID, error) {
		return r.s.FindRoot(t.Context(), path, missing)
	}
	if id, err := find("/", nil); err != nil || id != r.mem.Root() {
		t.Errorf("the root: %v, %v", id, err)
	}
	for path, want := range map[string]error{"/home/bob": vfs.ErrNotFound, "/file": vfs.ErrNotDir, "/link/bob": vfs.ErrNotDir, "/home/..": vfs.ErrBadName} {
		if _, err := find(path, nil); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	made, err := find("/home/bob/files", &nfs4.NewRoot{UID: 5, GID: 6, Mode: 0o2750})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := find("/home/bob//files/", nil); err != nil || again != made {
		t.Errorf("found %v, made %v: %v", again, made, err)
	}
	var a vfs.Attr
	if err := r.mem.GetAttr(t.Context(), made, &a); err != nil || a.UID != 5 || a.GID != 6 || a.Mode != 0o2750 {
		t.Errorf("made %d:%d %o, %v", a.UID, a.GID, a.Mode, err)
	}
	r.s.Close()
	if _, err := find("/", nil); !errors.Is(err, vfs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
