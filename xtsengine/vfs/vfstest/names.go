package vfstest

import (
	"os"
	"strconv"
	"strings"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

func testLookup(e *env) {
	root := e.fs.Root()
	f := e.file("f")
	d := e.mkdir(root, "d")
	got, err := e.lookup(root, "f")
	e.ok(err, "lookup")
	if got != f {
		e.Errorf("f is %v, want %v", got, f)
	}
	_, err = e.lookup(root, "F")
	e.want(err, vfs.ErrNotFound, "another case")
	_, err = e.lookup(f, "x")
	e.want(err, vfs.ErrNotDir, "lookup in a file")
	_, err = e.set(nil, d, vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o666})
	e.ok(err, "chmod")
	var a vfs.Attr
	e.want(e.fs.Lookup(ctx, user(5, 5), d, "x", &a), vfs.ErrAccess, "lookup without search permission")
	e.want(e.fs.Lookup(ctx, user(0, 0), d, "x", &a), vfs.ErrNotFound, "lookup by uid 0")
	for _, name := range []string{"\xff\xfe", "a b", strings.Repeat("n", vfs.MaxNameBytes), "ü", "..."} {
		id := e.file(name)
		if got, err := e.lookup(root, name); err != nil || got != id {
			e.Errorf("lookup of %q: %v, %v", name, got, err)
		}
	}
}

func testLookupParent(e *env) {
	root := e.fs.Root()
	a := e.mkdir(root, "a")
	b := e.mkdir(a, "b")
	var attr vfs.Attr
	e.ok(e.fs.LookupParent(ctx, nil, b, &attr), "parent of b")
	if attr != e.attr(a) {
		e.Errorf("parent of b is %+v", attr)
	}
	e.want(e.fs.LookupParent(ctx, nil, root, &attr), vfs.ErrNotFound, "parent of the root")
	e.want(e.fs.LookupParent(ctx, nil, e.file("f"), &attr), vfs.ErrNotDir, "parent of a file")
	e.ok(e.rename(nil, a, "b", root, "b"), "rename")
	e.ok(e.fs.LookupParent(ctx, nil, b, &attr), "parent of b")
	if attr.ID != root {
		e.Errorf("parent of b is %v after the move", attr.ID)
	}
	_, err := e.set(nil, b, vfs.SetAttr{Mask: vfs.SetMode})
	e.ok(err, "chmod")
	e.want(e.fs.LookupParent(ctx, user(1, 1), b, &attr), vfs.ErrAccess, "parent without search permission")
}

func testBadNames(e *env) {
	root := e.fs.Root()
	id := e.file("f")
	var a vfs.Attr
	for name, want := range map[string]error{
		"": vfs.ErrInvalid, ".": vfs.ErrBadName, "..": vfs.ErrBadName, "a/b": vfs.ErrBadName, "/": vfs.ErrBadName,
		"a\x00b": vfs.ErrBadName, strings.Repeat("n", vfs.MaxNameBytes+1): vfs.ErrNameTooLong,
	} {
		_, err := e.lookup(root, name)
		e.want(err, want, "Lookup(%q)", name)
		_, err = e.make(nil, root, name, vfs.Regular, 0)
		e.want(err, want, "Create(%q)", name)
		_, err = e.fs.Link(ctx, nil, id, root, name, &a)
		e.want(err, want, "Link(%q)", name)
		e.want(e.remove(root, name), want, "Remove(%q)", name)
		e.want(e.rename(nil, root, name, root, "g"), want, "Rename(%q)", name)
		e.want(e.rename(nil, root, "f", root, name), want, "Rename to %q", name)
	}
	e.wantNames(root, "f")
}

func testLink(e *env) {
	root := e.fs.Root()
	id, d := e.file("f"), e.mkdir(root, "d")
	e.write(id, 0, []byte("content"), vfs.FileSync)
	before, dirBefore := e.attr(id), e.attr(d)
	e.later()
	var a vfs.Attr
	info, err := e.fs.Link(ctx, nil, id, d, "g", &a)
	e.ok(err, "link")
	if a.Links != 2 || a.CTime != e.clock || a.MTime != before.MTime || a.Change <= before.Change || a != e.attr(id) {
		e.Errorf("after the link: %+v", a)
	}
	dirAfter := e.attr(d)
	if info.Before != dirBefore.Change || info.After != dirAfter.Change || info.After <= info.Before || dirAfter.MTime != e.clock {
		e.Errorf("directory: %+v, %+v", info, dirAfter)
	}
	e.ok(e.remove(root, "f"), "remove the first name")
	e.same(e.read(id, 0, 10), []byte("content"), "through the second name")
	if e.attr(id).Links != 1 {
		e.Errorf("links: %d", e.attr(id).Links)
	}
	_, err = e.fs.Link(ctx, nil, d, root, "h", &a)
	e.want(err, vfs.ErrIsDir, "link to a directory")
	_, err = e.fs.Link(ctx, nil, id, d, "g", &a)
	e.want(err, vfs.ErrExist, "link over a name")
	_, err = e.fs.Link(ctx, nil, id, id, "g", &a)
	e.want(err, vfs.ErrNotDir, "link into a file")
	_, err = e.fs.Link(ctx, user(3, 3), id, d, "new", &a)
	e.want(err, vfs.ErrAccess, "link without permission")
	e.ok(e.fs.Hold(id), "hold")
	e.ok(e.remove(d, "g"), "remove the last name")
	_, err = e.fs.Link(ctx, nil, id, d, "again", &a)
	e.want(err, vfs.ErrNotFound, "link to a file without names")
	e.fs.Drop(id)
}

func testLinkLimit(e *env) {
	if os.Getenv("NFSEAL_LONG") == "" {
		e.Skip("makes 65,000 names; set NFSEAL_LONG=1")
	}
	id := e.file("0")
	var a vfs.Attr
	for n := 1; n < vfs.MaxLinks; n++ {
		_, err := e.fs.Link(ctx, nil, id, e.fs.Root(), strconv.Itoa(n), &a)
		e.ok(err, "link %d", n)
	}
	_, err := e.fs.Link(ctx, nil, id, e.fs.Root(), "more", &a)
	e.want(err, vfs.ErrTooManyLinks, "one link too many")
	if e.attr(id).Links != vfs.MaxLinks {
		e.Errorf("links: %d", e.attr(id).Links)
	}
}

func testRemove(e *env) {
	root := e.fs.Root()
	id, d := e.file("f"), e.mkdir(root, "d")
	inner := e.mkdir(d, "inner")
	e.want(e.remove(root, "none"), vfs.ErrNotFound, "remove of nothing")
	e.want(e.remove(root, "d"), vfs.ErrNotEmpty, "remove of a full directory")
	e.want(e.remove(id, "x"), vfs.ErrNotDir, "remove in a file")
	if links := e.attr(root).Links; links != 3 {
		e.Errorf("root has %d links with one directory in it", links)
	}
	before := e.attr(root)
	e.later()
	var a vfs.Attr
	info, err := e.fs.Remove(ctx, nil, root, "f", &a)
	e.ok(err, "remove")
	after := e.attr(root)
	if a.ID != id || a.Links != 0 || a.CTime != e.clock {
		e.Errorf("removed: %+v", a)
	}
	if info.Before != before.Change || info.After != after.Change || after.MTime != e.clock || after.CTime != e.clock {
		e.Errorf("directory: %+v, %+v", info, after)
	}
	e.ok(e.remove(d, "inner"), "rmdir")
	e.want(e.fs.GetAttr(ctx, inner, &a), vfs.ErrStale, "the removed directory")
	e.ok(e.remove(root, "d"), "rmdir")
	if links := e.attr(root).Links; links != 2 {
		e.Errorf("root has %d links with nothing in it", links)
	}
	e.wantNames(root)
	e.file("f") // the name is free again
}

func testRemoveAccess(e *env) {
	root := e.fs.Root()
	d := e.mkdir(root, "d")
	setup := func(mode uint32) {
		_, err := e.set(nil, d, vfs.SetAttr{Mask: vfs.SetMode | vfs.SetUID, Mode: mode, UID: 50})
		e.ok(err, "chmod")
		out, err := e.make(nil, d, "f", vfs.Regular, 0)
		e.ok(err, "create")
		_, err = e.set(nil, out.Attr.ID, vfs.SetAttr{Mask: vfs.SetUID, UID: 60})
		e.ok(err, "chown")
	}
	for _, c := range []struct {
		name string
		mode uint32
		cred *vfs.Cred
		want error
	}{
		{"no write", 0o755, user(70, 70), vfs.ErrAccess}, {"no search", 0o666, user(70, 70), vfs.ErrAccess},
		{"write", 0o777, user(70, 70), nil}, {"sticky", 0o1777, user(70, 70), vfs.ErrPerm},
		{"sticky, own file", 0o1777, user(60, 60), nil}, {"sticky, own directory", 0o1777, user(50, 50), nil},
		{"sticky, root", 0o1777, user(0, 0), nil},
	} {
		setup(c.mode)
		var a vfs.Attr
		_, err := e.fs.Remove(ctx, c.cred, d, "f", &a)
		e.want(err, c.want, "%s", c.name)
		if c.want != nil {
			e.ok(e.remove(d, "f"), "remove")
		}
	}
}

func testHold(e *env) {
	root := e.fs.Root()
	id := e.file("f")
	e.write(id, 0, pattern(10000, 2), vfs.Unstable)
	e.ok(e.fs.Hold(id), "hold")
	e.ok(e.fs.Hold(id), "hold")
	e.ok(e.remove(root, "f"), "remove")
	if a := e.attr(id); a.Links != 0 || a.Size != 10000 {
		e.Errorf("held: %+v", a)
	}
	e.write(id, 10000, []byte("more"), vfs.FileSync)
	_, err := e.set(nil, id, vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o600})
	e.ok(err, "chmod")
	e.ok(e.fs.EndRecovery(ctx), "end of recovery")
	e.same(e.read(id, 0, 10000), pattern(10000, 2), "held")
	e.fs.Drop(id)
	e.same(e.read(id, 10000, 10), []byte("more"), "held once")
	e.fs.Drop(id)
	var a vfs.Attr
	e.want(e.fs.GetAttr(ctx, id, &a), vfs.ErrStale, "dropped")

	kept := e.file("g")
	e.ok(e.fs.Hold(kept), "hold")
	e.fs.Drop(kept)
	e.attr(kept)
	e.fs.Drop(kept) // without a hold: nothing happens
	e.attr(kept)

	d := e.mkdir(root, "d")
	e.ok(e.fs.Hold(d), "hold a directory")
	e.ok(e.remove(root, "d"), "rmdir")
	_, err = e.make(nil, d, "x", vfs.Regular, 0)
	e.want(err, vfs.ErrNotFound, "create in a removed directory")
	e.want(e.rename(nil, root, "g", d, "g"), vfs.ErrNotFound, "rename into a removed directory")
	e.wantNames(d)
	e.fs.Drop(d)
	e.want(e.fs.GetAttr(ctx, d, &a), vfs.ErrStale, "dropped directory")
}
