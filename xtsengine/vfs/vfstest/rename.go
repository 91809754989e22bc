package vfstest

import (
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

func testRename(e *env) {
	root := e.fs.Root()
	a, b := e.mkdir(root, "a"), e.mkdir(root, "b")
	id := e.file("f")
	e.write(id, 0, []byte("content"), vfs.Unstable)
	e.later()
	before := e.attr(id)
	rootBefore, aBefore := e.attr(root), e.attr(a)
	var replaced vfs.Attr
	replaced.ID.Inode = 99
	src, dst, err := e.fs.Rename(ctx, nil, root, "f", a, "g", &replaced)
	e.ok(err, "rename")
	if replaced.ID != (vfs.FileID{}) {
		e.Errorf("replaced: %+v", replaced)
	}
	after := e.attr(id)
	if after.CTime != e.clock || after.Change <= before.Change || after.MTime != before.MTime || after.Links != 1 {
		e.Errorf("file after the move: %+v", after)
	}
	e.wantInfo(src, rootBefore, e.attr(root))
	e.wantInfo(dst, aBefore, e.attr(a))
	_, err = e.lookup(root, "f")
	e.want(err, vfs.ErrNotFound, "old name")
	if got, err := e.lookup(a, "g"); err != nil || got != id {
		e.Errorf("new name: %v, %v", got, err)
	}
	e.same(e.read(id, 0, 9), []byte("content"), "moved")

	aBefore = e.attr(a)
	src, dst, err = e.fs.Rename(ctx, nil, a, "g", a, "h", &replaced)
	e.ok(err, "rename in place")
	e.wantInfo(src, aBefore, e.attr(a))
	if src != dst {
		e.Errorf("one directory: %+v, %+v", src, dst)
	}
	e.wantNames(a, "h")

	inner := e.mkdir(a, "inner")
	e.ok(e.rename(nil, a, "inner", b, "moved"), "move a directory")
	if la, lb := e.attr(a).Links, e.attr(b).Links; la != 2 || lb != 3 {
		e.Errorf("links: %d and %d", la, lb)
	}
	var parent vfs.Attr
	e.ok(e.fs.LookupParent(ctx, nil, inner, &parent), "parent")
	if parent.ID != b {
		e.Errorf("parent is %v", parent.ID)
	}
	e.want(e.rename(nil, root, "none", a, "x"), vfs.ErrNotFound, "rename of nothing")
	e.want(e.rename(nil, root, "a", id, "x"), vfs.ErrNotDir, "rename into a file")
}

// wantInfo checks the change information of a directory that changed now.
func (e *env) wantInfo(info vfs.ChangeInfo, before, after vfs.Attr) {
	e.Helper()
	if info.Before != before.Change || info.After != after.Change || info.After <= info.Before ||
		after.MTime != e.clock || after.CTime != e.clock {
		e.Errorf("change %+v between\n%+v and\n%+v", info, before, after)
	}
}

func testRenameOver(e *env) {
	root := e.fs.Root()
	for name, c := range map[string]struct {
		from, to vfs.Kind
		full     bool
		want     error
	}{
		"file over file":            {vfs.Regular, vfs.Regular, false, nil},
		"file over link":            {vfs.Regular, vfs.Symlink, false, nil},
		"fifo over file":            {vfs.Fifo, vfs.Regular, false, nil},
		"directory over directory":  {vfs.Directory, vfs.Directory, false, nil},
		"directory over a full one": {vfs.Directory, vfs.Directory, true, vfs.ErrNotEmpty},
		"directory over file":       {vfs.Directory, vfs.Regular, false, vfs.ErrNotDir},
		"file over directory":       {vfs.Regular, vfs.Directory, false, vfs.ErrIsDir},
		"file over a full one":      {vfs.Regular, vfs.Directory, true, vfs.ErrIsDir},
	} {
		d := e.mkdir(root, name)
		from, err := e.make(nil, d, "from", c.from, 0o600)
		e.ok(err, "create")
		to, err := e.make(nil, d, "to", c.to, 0o600)
		e.ok(err, "create")
		if c.full {
			e.mkdir(to.Attr.ID, "inner")
		}
		var replaced vfs.Attr
		_, _, err = e.fs.Rename(ctx, nil, d, "from", d, "to", &replaced)
		e.want(err, c.want, "%s", name)
		if c.want != nil {
			e.wantNames(d, "from", "to")
			continue
		}
		e.wantNames(d, "to")
		if got, err := e.lookup(d, "to"); err != nil || got != from.Attr.ID || replaced.ID != to.Attr.ID || replaced.Links != 0 {
			e.Errorf("%s: %v, %v, replaced %+v", name, got, err, replaced)
		}
		var a vfs.Attr
		e.want(e.fs.GetAttr(ctx, to.Attr.ID, &a), vfs.ErrStale, "%s: the replaced", name)
		links := uint32(2)
		if c.from == vfs.Directory {
			links++
		}
		if got := e.attr(d).Links; got != links {
			e.Errorf("%s: directory has %d links", name, got)
		}
	}
	id := e.file("one")
	var a vfs.Attr
	_, err := e.fs.Link(ctx, nil, id, root, "two", &a)
	e.ok(err, "link")
	before, dir := e.attr(id), e.attr(root)
	src, dst, err := e.fs.Rename(ctx, nil, root, "one", root, "two", &a)
	e.ok(err, "rename between names of one file")
	if src != dst || src.Before != src.After || a.ID != (vfs.FileID{}) || e.attr(id) != before || e.attr(root) != dir {
		e.Errorf("something happened: %+v, %+v, %+v", src, dst, a)
	}
	e.ok(e.rename(nil, root, "one", root, "one"), "rename to itself")
	held := e.file("held")
	e.write(held, 0, []byte("old"), vfs.Unstable)
	e.ok(e.fs.Hold(held), "hold")
	e.ok(e.rename(nil, root, "one", root, "held"), "rename over a held file")
	e.same(e.read(held, 0, 3), []byte("old"), "held")
	e.fs.Drop(held)
	e.want(e.fs.GetAttr(ctx, held, &a), vfs.ErrStale, "dropped")
}

func testRenameLoop(e *env) {
	root := e.fs.Root()
	a := e.mkdir(root, "a")
	b := e.mkdir(a, "b")
	c := e.mkdir(b, "c")
	for _, dir := range []vfs.FileID{a, b, c} {
		e.want(e.rename(nil, root, "a", dir, "x"), vfs.ErrInvalid, "rename into itself")
	}
	e.want(e.rename(nil, a, "b", c, "x"), vfs.ErrInvalid, "rename below itself")
	e.want(e.rename(nil, b, "c", root, "a"), vfs.ErrNotEmpty, "rename over an ancestor")
	e.ok(e.rename(nil, b, "c", root, "c"), "rename up")
	e.ok(e.rename(nil, root, "a", c, "a"), "rename below what was below")
	e.wantNames(c, "a")
	e.wantNames(root, "c")
}

func testRenameAccess(e *env) {
	root := e.fs.Root()
	for _, c := range []struct {
		name             string
		srcMode, dstMode uint32
		childUID         uint32
		childMode        uint32
		kind             vfs.Kind
		over             bool
		want             error
	}{
		{"all open", 0o777, 0o777, 9, 0, vfs.Regular, false, nil},
		{"no write here", 0o755, 0o777, 5, 0, vfs.Regular, false, vfs.ErrAccess},
		{"no write there", 0o777, 0o755, 5, 0, vfs.Regular, false, vfs.ErrAccess},
		{"no search here", 0o776, 0o777, 5, 0, vfs.Regular, false, vfs.ErrAccess},
		{"sticky here", 0o1777, 0o777, 9, 0, vfs.Regular, false, vfs.ErrPerm},
		{"sticky here, own", 0o1777, 0o777, 5, 0, vfs.Regular, false, nil},
		{"sticky there", 0o777, 0o1777, 9, 0, vfs.Regular, true, vfs.ErrPerm},
		{"directory not writable", 0o777, 0o777, 9, 0o755, vfs.Directory, false, vfs.ErrAccess},
		{"own directory", 0o777, 0o777, 5, 0o755, vfs.Directory, false, nil},
	} {
		src, dst := e.mkdir(root, c.name), e.mkdir(root, c.name+" to")
		child, err := e.make(nil, src, "x", c.kind, c.childMode)
		e.ok(err, "create")
		_, err = e.set(nil, child.Attr.ID, vfs.SetAttr{Mask: vfs.SetUID, UID: c.childUID})
		e.ok(err, "chown")
		if c.over {
			_, err = e.make(nil, dst, "x", c.kind, 0)
			e.ok(err, "create")
		}
		_, err = e.set(nil, src, vfs.SetAttr{Mask: vfs.SetMode, Mode: c.srcMode})
		e.ok(err, "chmod")
		_, err = e.set(nil, dst, vfs.SetAttr{Mask: vfs.SetMode, Mode: c.dstMode})
		e.ok(err, "chmod")
		e.want(e.rename(user(5, 5), src, "x", dst, "x"), c.want, "%s", c.name)
	}
}
