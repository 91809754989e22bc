package vfstest

import (
	"testing"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

func testAttributes(e *env) {
	a := e.attr(e.fs.Root())
	if a.ID != e.fs.Root() || a.Kind != vfs.Directory || a.Mode != 0o755 || a.Links != 2 || a.UID != 0 || a.GID != 0 ||
		a.Size != vfs.DirectoryBytes || a.Used != 0 || a.BTime != e.clock {
		e.Errorf("root: %+v", a)
	}
	start := e.clock
	out, err := e.make(user(7, 8), e.fs.Root(), "x", vfs.Regular, 0o640)
	e.want(err, vfs.ErrAccess, "create in another's directory")
	out, err = e.make(nil, e.fs.Root(), "f", vfs.Regular, 0o6754)
	e.ok(err, "create")
	f := out.Attr
	if f.Kind != vfs.Regular || f.Mode != 0o6754 || f.Links != 1 || f.Size != 0 || f.Used != 0 ||
		f.ATime != start || f.MTime != start || f.CTime != start || f.BTime != start {
		e.Errorf("new file: %+v", f)
	}
	if f != e.attr(f.ID) {
		e.Errorf("GetAttr %+v, Create %+v", e.attr(f.ID), f)
	}
	e.later()
	e.write(f.ID, 0, pattern(5000, 1), vfs.FileSync)
	w := e.attr(f.ID)
	if w.Size != 5000 || w.Used != 8192 || w.MTime != e.clock || w.CTime != e.clock || w.ATime != start || w.BTime != start {
		e.Errorf("after a write: %+v", w)
	}
	var stat vfs.StatFS
	e.ok(e.fs.StatFS(ctx, &stat), "StatFS")
	if stat.TotalBytes == 0 || stat.FreeBytes > stat.TotalBytes || stat.AvailBytes > stat.FreeBytes || stat.FreeFiles == 0 {
		e.Errorf("StatFS: %+v", stat)
	}
}

func testSetAttr(e *env) {
	id := e.file("f")
	start := e.clock
	e.later()
	for _, c := range []struct {
		name string
		set  vfs.SetAttr
		want func(*vfs.Attr)
	}{
		{"mode", vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o17421}, func(a *vfs.Attr) { a.Mode = 0o7421 }},
		{"uid", vfs.SetAttr{Mask: vfs.SetUID, UID: 5}, func(a *vfs.Attr) { a.UID, a.Mode = 5, 0o1421 }},
		{"mode again", vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o6755}, func(a *vfs.Attr) { a.Mode = 0o6755 }},
		{"gid", vfs.SetAttr{Mask: vfs.SetGID, GID: 6}, func(a *vfs.Attr) { a.GID, a.Mode = 6, 0o755 }},
		{"size", vfs.SetAttr{Mask: vfs.SetSize, Size: 12345}, func(a *vfs.Attr) { a.Size, a.MTime = 12345, e.clock }},
		{"atime", vfs.SetAttr{Mask: vfs.SetATime, ATime: vfs.Time{Sec: -5, Nsec: 7}},
			func(a *vfs.Attr) { a.ATime = vfs.Time{Sec: -5, Nsec: 7} }},
		{"mtime", vfs.SetAttr{Mask: vfs.SetMTime, MTime: vfs.Time{Sec: 1 << 40, Nsec: 999999999}},
			func(a *vfs.Attr) { a.MTime = vfs.Time{Sec: 1 << 40, Nsec: 999999999} }},
		{"atime now", vfs.SetAttr{Mask: vfs.SetATime | vfs.SetATimeNow}, func(a *vfs.Attr) { a.ATime = e.clock }},
		{"mtime now", vfs.SetAttr{Mask: vfs.SetMTimeNow}, func(a *vfs.Attr) { a.MTime = e.clock }},
	} {
		want := e.attr(id)
		e.later()
		c.want(&want)
		got, err := e.set(nil, id, c.set)
		e.ok(err, "set %s", c.name)
		if got.Change <= want.Change {
			e.Errorf("%s: change %d after %d", c.name, got.Change, want.Change)
		}
		want.Change, want.CTime = got.Change, e.clock
		if got != want || e.attr(id) != got {
			e.Errorf("%s:\n got %+v\nwant %+v", c.name, got, want)
		}
	}
	before := e.attr(id)
	if got, err := e.set(nil, id, vfs.SetAttr{}); err != nil || got != before {
		e.Errorf("nothing to set: %+v, %v", got, err)
	}
	if before.BTime != start {
		e.Errorf("birth time moved to %v", before.BTime)
	}
	for name, bad := range map[string]vfs.SetAttr{
		"uid":   {Mask: vfs.SetUID, UID: 1<<32 - 1},
		"gid":   {Mask: vfs.SetGID, GID: 1<<32 - 1},
		"nsec":  {Mask: vfs.SetMTime, MTime: vfs.Time{Nsec: 1e9}},
		"nsec2": {Mask: vfs.SetMode | vfs.SetATime, ATime: vfs.Time{Nsec: 1 << 31}},
	} {
		_, err := e.set(nil, id, bad)
		e.want(err, vfs.ErrInvalid, "%s", name)
	}
	if e.attr(id) != before {
		e.Error("a refused change changed something")
	}
}

// testSetAttrAccess walks through who may change what.
func testSetAttrAccess(e *env) {
	owner, group, other := user(10, 20, 21), user(11, 20), user(12, 30)
	size := vfs.SetAttr{Mask: vfs.SetSize, Size: 1}
	now := vfs.SetAttr{Mask: vfs.SetATimeNow | vfs.SetMTimeNow}
	past := vfs.SetAttr{Mask: vfs.SetMTime, MTime: vfs.Time{Sec: 1}}
	chmod := vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o2660}
	for _, c := range []struct {
		name string
		cred *vfs.Cred
		set  vfs.SetAttr
		want error
	}{
		{"owner chmod", owner, chmod, nil}, {"group chmod", group, chmod, vfs.ErrPerm}, {"root chmod", user(0, 0), chmod, nil},
		{"owner chown", owner, vfs.SetAttr{Mask: vfs.SetUID, UID: 11}, vfs.ErrPerm},
		{"owner chown to itself", owner, vfs.SetAttr{Mask: vfs.SetUID, UID: 10}, nil},
		{"owner chgrp to a group of his", owner, vfs.SetAttr{Mask: vfs.SetGID, GID: 21}, nil},
		{"owner chgrp elsewhere", owner, vfs.SetAttr{Mask: vfs.SetGID, GID: 30}, vfs.ErrPerm},
		{"group chgrp", group, vfs.SetAttr{Mask: vfs.SetGID, GID: 20}, vfs.ErrPerm},
		{"owner times", owner, past, nil}, {"group times", group, past, vfs.ErrPerm},
		{"group now", group, now, nil}, {"other now", other, now, vfs.ErrAccess},
		{"group size", group, size, nil}, {"other size", other, size, vfs.ErrAccess}, {"server size", nil, size, nil},
		{"holder size", other, vfs.SetAttr{Mask: vfs.SetSize | vfs.SetMTimeNow, Size: 1, Held: true}, nil},
		{"holder times", other, vfs.SetAttr{Mask: vfs.SetSize | vfs.SetMTime, Held: true}, vfs.ErrPerm},
		{"holder chmod", other, vfs.SetAttr{Mask: vfs.SetSize | vfs.SetMode, Held: true}, vfs.ErrPerm},
	} {
		out, err := e.make(nil, e.fs.Root(), c.name, vfs.Regular, 0o660)
		e.ok(err, "create")
		id := out.Attr.ID
		_, err = e.set(nil, id, vfs.SetAttr{Mask: vfs.SetUID | vfs.SetGID, UID: 10, GID: 20})
		e.ok(err, "chown")
		before := e.attr(id)
		_, err = e.set(c.cred, id, c.set)
		e.want(err, c.want, "%s", c.name)
		if c.want != nil && e.attr(id) != before {
			e.Errorf("%s: refused, and yet something changed", c.name)
		}
	}
	e.T.Run("setgid", func(t *testing.T) {
		f := e.file("setgid")
		_, err := e.set(nil, f, vfs.SetAttr{Mask: vfs.SetUID | vfs.SetGID, UID: 10, GID: 99})
		e.ok(err, "chown")
		a, err := e.set(owner, f, vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o2755})
		e.ok(err, "chmod")
		if a.Mode != 0o755 {
			t.Errorf("one outside the group set mode %o", a.Mode)
		}
	})
}

func testTruncate(e *env) {
	id := e.file("f")
	const size = 3*4096 + 100
	data := pattern(size, 3)
	for _, stable := range []vfs.Stability{vfs.Unstable, vfs.FileSync} {
		for _, cut := range []uint64{0, 1, 99, 3000, 4095, 4096, 4097, 8192, 3 * 4096, 3*4096 + 50, size, size + 1, 20000} {
			_, err := e.set(nil, id, vfs.SetAttr{Mask: vfs.SetSize})
			e.ok(err, "truncate to 0")
			if a := e.attr(id); a.Used != 0 || a.Size != 0 {
				e.Fatalf("after a cut to nothing: %+v", a)
			}
			e.write(id, 0, data, stable)
			a, err := e.set(nil, id, vfs.SetAttr{Mask: vfs.SetSize, Size: cut})
			e.ok(err, "truncate to %d", cut)
			if a.Size != cut || a.Used != min((cut+4095)/4096, 4)*4096 {
				e.Errorf("cut to %d: size %d, used %d", cut, a.Size, a.Used)
			}
			_, err = e.set(nil, id, vfs.SetAttr{Mask: vfs.SetSize, Size: 5 * 4096})
			e.ok(err, "extend")
			want := make([]byte, 5*4096)
			copy(want, data[:min(cut, size)])
			e.same(e.read(id, 0, len(want)+10), want, "cut to %d, stability %d", cut, stable)
			e.write(id, 5*4096-1, []byte{9}, stable)
			want[5*4096-1] = 9
			e.same(e.read(id, 0, len(want)), want, "written behind the cut to %d", cut)
		}
	}
	dir := e.mkdir(e.fs.Root(), "d")
	_, err := e.set(nil, dir, vfs.SetAttr{Mask: vfs.SetSize})
	e.want(err, vfs.ErrIsDir, "size of a directory")
	link, err := e.make(nil, e.fs.Root(), "l", vfs.Symlink, 0)
	e.ok(err, "symlink")
	_, err = e.set(nil, link.Attr.ID, vfs.SetAttr{Mask: vfs.SetSize})
	e.want(err, vfs.ErrInvalid, "size of a symbolic link")
	_, err = e.set(nil, id, vfs.SetAttr{Mask: vfs.SetSize, Size: vfs.MaxFileBytes + 1})
	e.want(err, vfs.ErrFileTooBig, "size beyond the limit")
}

// same compares content.
func (e *env) same(got, want []byte, what string, args ...any) {
	e.Helper()
	if len(got) != len(want) {
		e.Errorf(what+": %d bytes, want %d", append(args, len(got), len(want))...)
		return
	}
	for i := range got {
		if got[i] != want[i] {
			e.Errorf(what+": byte %d is %#x, want %#x", append(args, i, got[i], want[i])...)
			return
		}
	}
}

func testStale(e *env) {
	id := e.file("f")
	e.ok(e.remove(e.fs.Root(), "f"), "remove")
	var a vfs.Attr
	for _, id := range []vfs.FileID{id, {Inode: 1 << 60, Generation: 1}, {},
		{Inode: e.fs.Root().Inode, Generation: e.fs.Root().Generation + 1}} {
		e.want(e.fs.GetAttr(ctx, id, &a), vfs.ErrStale, "GetAttr of %v", id)
		_, err := e.set(nil, id, vfs.SetAttr{Mask: vfs.SetMode})
		e.want(err, vfs.ErrStale, "SetAttr")
		_, err = e.set(nil, id, vfs.SetAttr{Mask: vfs.SetSize})
		e.want(err, vfs.ErrStale, "SetAttr of the size")
		_, err = e.lookup(id, "x")
		e.want(err, vfs.ErrStale, "Lookup")
		e.want(e.fs.LookupParent(ctx, nil, id, &a), vfs.ErrStale, "LookupParent")
		_, err = e.fs.Readlink(ctx, nil, id)
		e.want(err, vfs.ErrStale, "Readlink")
		_, err = e.make(nil, id, "x", vfs.Regular, 0)
		e.want(err, vfs.ErrStale, "Create")
		_, err = e.fs.Link(ctx, nil, id, e.fs.Root(), "x", &a)
		e.want(err, vfs.ErrStale, "Link")
		_, err = e.fs.Link(ctx, nil, e.fs.Root(), id, "x", &a)
		e.want(err, vfs.ErrStale, "Link into it")
		e.want(e.remove(id, "x"), vfs.ErrStale, "Remove")
		e.want(e.rename(nil, id, "x", e.fs.Root(), "y"), vfs.ErrStale, "Rename")
		e.want(e.rename(nil, e.fs.Root(), "x", id, "y"), vfs.ErrStale, "Rename into it")
		_, err = e.fs.ReadDir(ctx, nil, id, 0, true, func(*vfs.DirEntry) bool { return true })
		e.want(err, vfs.ErrStale, "ReadDir")
		_, _, err = e.fs.Read(ctx, nil, id, 0, make([]byte, 1))
		e.want(err, vfs.ErrStale, "Read")
		_, err = e.fs.Write(ctx, nil, false, id, 0, []byte{1}, vfs.Unstable)
		e.want(err, vfs.ErrStale, "Write")
		e.want(e.fs.Commit(ctx, id, 0, 0), vfs.ErrStale, "Commit")
		e.want(e.fs.Hold(id), vfs.ErrStale, "Hold")
		e.fs.Drop(id)
	}
}
