package vfstest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

func (e *env) setXattr(id vfs.FileID, name, value string) vfs.ChangeInfo {
	e.Helper()
	info, err := e.fs.SetXattr(ctx, nil, id, name, []byte(value), vfs.XattrEither)
	e.ok(err, "set %q", name)
	return info
}

// xattrs lists names, in pieces of two.
func (e *env) xattrs(id vfs.FileID) (names []string) {
	e.Helper()
	cookie := uint64(0)
	for more := true; more; {
		left := 2
		var err error
		more, err = e.fs.ListXattrs(ctx, nil, id, cookie, func(name string, c uint64) bool {
			if left--; left < 0 {
				return false
			}
			if c <= cookie {
				e.Errorf("cookie %d of %q follows %d", c, name, cookie)
			}
			cookie = c
			names = append(names, name)
			return true
		})
		e.ok(err, "list")
	}
	return names
}

func testXattrs(e *env) {
	id := e.file("f")
	_, err := e.fs.GetXattr(ctx, nil, id, "a")
	e.want(err, vfs.ErrNoXattr, "get of none")
	before := e.attr(id)
	e.later()
	info := e.setXattr(id, "a", "one")
	a := e.attr(id)
	if info.Before != before.Change || info.After != a.Change || a.Change <= before.Change || a.CTime != e.clock || a.MTime != before.MTime {
		e.Errorf("set: %+v, %+v after %+v", info, a, before)
	}
	for _, name := range []string{"b", "c/d", "\xff", strings.Repeat("n", vfs.MaxXattrNameBytes), "e"} {
		e.setXattr(id, name, "value of "+name)
	}
	e.setXattr(id, "a", "two, longer")
	e.setXattr(id, "b", "")
	p := []byte("kept")
	_, err = e.fs.SetXattr(ctx, nil, id, "e", p, vfs.XattrReplace)
	e.ok(err, "replace")
	p[0] = 'x'
	for name, want := range map[string]string{"a": "two, longer", "b": "", "c/d": "value of c/d", "e": "kept"} {
		got, err := e.fs.GetXattr(ctx, nil, id, name)
		e.ok(err, "get %q", name)
		if string(got) != want {
			e.Errorf("%q is %q, want %q", name, got, want)
		}
	}
	names := e.xattrs(id)
	if want := []string{"a", "b", "c/d", "\xff", strings.Repeat("n", vfs.MaxXattrNameBytes), "e"}; !slices.Equal(names, want) {
		e.Errorf("names are %q", names)
	}
	before = e.attr(id)
	info, err = e.fs.RemoveXattr(ctx, nil, id, "b")
	e.ok(err, "remove")
	if info.Before != before.Change || info.After != e.attr(id).Change || info.After <= info.Before {
		e.Errorf("remove: %+v", info)
	}
	_, err = e.fs.RemoveXattr(ctx, nil, id, "b")
	e.want(err, vfs.ErrNoXattr, "remove again")
	_, err = e.fs.GetXattr(ctx, nil, id, "b")
	e.want(err, vfs.ErrNoXattr, "get what was removed")
	e.setXattr(id, "b", "again")
	if names = e.xattrs(id); len(names) != 6 || names[5] != "b" {
		e.Errorf("names are %q", names)
	}
	other := e.file("other")
	if names := e.xattrs(other); len(names) != 0 {
		e.Errorf("another file has %q", names)
	}
	e.ok(e.remove(e.fs.Root(), "f"), "remove the file")
	_, err = e.fs.GetXattr(ctx, nil, id, "a")
	e.want(err, vfs.ErrStale, "get of a removed file")
}

func testXattrErrors(e *env) {
	id := e.file("f")
	set := func(cred *vfs.Cred, id vfs.FileID, name string, bytes int, mode vfs.XattrMode) error {
		_, err := e.fs.SetXattr(ctx, cred, id, name, make([]byte, bytes), mode)
		return err
	}
	for name, want := range map[string]error{"": vfs.ErrInvalid, "a\x00": vfs.ErrBadName,
		strings.Repeat("n", vfs.MaxXattrNameBytes+1): vfs.ErrNameTooLong} {
		e.want(set(nil, id, name, 1, vfs.XattrEither), want, "set %q", name)
		_, err := e.fs.GetXattr(ctx, nil, id, name)
		e.want(err, want, "get %q", name)
		_, err = e.fs.RemoveXattr(ctx, nil, id, name)
		e.want(err, want, "remove %q", name)
	}
	before := e.attr(id)
	e.want(set(nil, id, "a", 1, vfs.XattrReplace), vfs.ErrNoXattr, "replace what is not there")
	e.want(set(nil, id, "a", 1, vfs.XattrReplace+1), vfs.ErrInvalid, "set in another mode")
	e.want(set(nil, id, "a", vfs.MaxXattrValueBytes+1, vfs.XattrEither), vfs.ErrXattrTooBig, "set too much")
	if e.attr(id) != before {
		e.Error("refused calls changed something")
	}
	e.ok(set(nil, id, "a", vfs.MaxXattrValueBytes, vfs.XattrCreate), "set the longest")
	e.want(set(nil, id, "a", 1, vfs.XattrCreate), vfs.ErrExist, "create what is there")
	if got, err := e.fs.GetXattr(ctx, nil, id, "a"); err != nil || !bytes.Equal(got, make([]byte, vfs.MaxXattrValueBytes)) {
		e.Errorf("the longest: %d bytes, %v", len(got), err)
	}
	count := 1
	for ; count < 100; count++ {
		if err := set(nil, id, fmt.Sprint(count), vfs.MaxXattrValueBytes, vfs.XattrEither); err != nil {
			e.want(err, vfs.ErrNoSpace, "set number %d", count)
			break
		}
	}
	if count != 15 {
		e.Errorf("%d of the longest fit, want 15", count)
	}
	e.ok(set(nil, id, "a", 5, vfs.XattrReplace), "replace by less")
	e.testXattrAccess(set)
}

func (e *env) testXattrAccess(set func(*vfs.Cred, vfs.FileID, string, int, vfs.XattrMode) error) {
	id, root := e.file("g"), e.fs.Root()
	e.setXattr(id, "a", "x")
	for _, c := range []struct {
		mode        uint32
		read, write error
	}{{0o644, nil, vfs.ErrAccess}, {0o602, vfs.ErrAccess, nil}, {0o606, nil, nil}} {
		_, err := e.set(nil, id, vfs.SetAttr{Mask: vfs.SetMode, Mode: c.mode})
		e.ok(err, "chmod")
		e.want(set(user(5, 5), id, "a", 1, vfs.XattrEither), c.write, "set in mode %o", c.mode)
		_, err = e.fs.GetXattr(ctx, user(5, 5), id, "a")
		e.want(err, c.read, "get in mode %o", c.mode)
		_, err = e.fs.ListXattrs(ctx, user(5, 5), id, 0, func(string, uint64) bool { return true })
		e.want(err, c.read, "list in mode %o", c.mode)
		_, err = e.fs.RemoveXattr(ctx, user(5, 5), id, "none")
		if c.write == nil {
			c.write = vfs.ErrNoXattr
		}
		e.want(err, c.write, "remove in mode %o", c.mode)
	}
	dir := e.mkdir(root, "d")
	e.setXattr(dir, "a", "x")
	_, err := e.set(nil, dir, vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o1777})
	e.ok(err, "chmod")
	e.want(set(user(5, 5), dir, "a", 1, vfs.XattrEither), vfs.ErrPerm, "set on another's sticky directory")
	link, err := e.make(nil, root, "l", vfs.Symlink, 0o777)
	e.ok(err, "symlink")
	e.want(set(nil, link.Attr.ID, "a", 1, vfs.XattrEither), vfs.ErrPerm, "set on a symbolic link")
	_, err = e.fs.GetXattr(ctx, nil, link.Attr.ID, "a")
	e.want(err, vfs.ErrNoXattr, "get on a symbolic link")
	if names := e.xattrs(link.Attr.ID); len(names) != 0 {
		e.Errorf("a symbolic link has %q", names)
	}
}
