package vfstest

import (
	"strings"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

func testCreateKinds(e *env) {
	root := e.fs.Root()
	for kind := vfs.Regular; kind <= vfs.BlockDevice; kind++ {
		name := string(rune('a' + kind))
		req := vfs.CreateRequest{Kind: kind, Mode: vfs.Guarded, Target: "t", Major: 8, Minor: 17,
			Attr: vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o640}}
		before := e.attr(root)
		e.later()
		var out vfs.CreateResult
		e.ok(e.fs.Create(ctx, nil, root, name, &req, &out), "create kind %d", kind)
		a, after := out.Attr, e.attr(root)
		if a.Kind != kind || a.Mode != 0o640 || out.Existed || a != e.attr(a.ID) {
			e.Errorf("kind %d: %+v", kind, out)
		}
		if out.Dir.Before != before.Change || out.Dir.After != after.Change || after.Change <= before.Change ||
			after.MTime != e.clock || after.CTime != e.clock {
			e.Errorf("kind %d: directory %+v, %+v", kind, out.Dir, after)
		}
		if device := kind >= vfs.CharDevice; device && (a.Major != 8 || a.Minor != 17) {
			e.Errorf("device numbers: %+v", a)
		}
		if kind != vfs.Directory {
			_, err := e.fs.ReadDir(ctx, nil, a.ID, 0, false, func(*vfs.DirEntry) bool { return true })
			e.want(err, vfs.ErrNotDir, "ReadDir of kind %d", kind)
		}
		if kind != vfs.Regular && kind != vfs.Directory {
			_, _, err := e.fs.Read(ctx, nil, a.ID, 0, make([]byte, 1))
			e.want(err, vfs.ErrWrongType, "Read of kind %d", kind)
			_, err = e.fs.Write(ctx, nil, false, a.ID, 0, make([]byte, 1), vfs.Unstable)
			e.want(err, vfs.ErrWrongType, "Write of kind %d", kind)
			e.want(e.fs.Commit(ctx, a.ID, 0, 0), vfs.ErrWrongType, "Commit of kind %d", kind)
		}
	}
	for _, kind := range []vfs.Kind{0, vfs.BlockDevice + 1} {
		_, err := e.make(nil, root, "bad", kind, 0)
		e.want(err, vfs.ErrWrongType, "create kind %d", kind)
	}
	for _, kind := range []vfs.Kind{vfs.CharDevice, vfs.BlockDevice} {
		_, err := e.set(nil, root, vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o777})
		e.ok(err, "chmod")
		_, err = e.make(user(5, 5), root, "dev", kind, 0)
		e.want(err, vfs.ErrPerm, "device node by a user")
	}
}

func testCreateModes(e *env) {
	root := e.fs.Root()
	create := func(mode vfs.CreateMode, name string, verifier byte) (vfs.CreateResult, error) {
		req := vfs.CreateRequest{Kind: vfs.Regular, Mode: mode, Verifier: [8]byte{verifier},
			Attr: vfs.SetAttr{Mask: vfs.SetMode | vfs.SetSize, Mode: 0o600, Size: 7}}
		var out vfs.CreateResult
		err := e.fs.Create(ctx, nil, root, name, &req, &out)
		return out, err
	}
	for _, mode := range []vfs.CreateMode{vfs.Unchecked, vfs.Guarded, vfs.Exclusive} {
		name := string(rune('a' + mode))
		made, err := create(mode, name, 1)
		e.ok(err, "create")
		if made.Existed || made.Attr.Size != 7 {
			e.Errorf("made: %+v", made)
		}
		e.write(made.Attr.ID, 0, []byte("0123456789"), vfs.FileSync)
		before, dir := e.attr(made.Attr.ID), e.attr(root)
		e.later()
		_, err = create(vfs.Guarded, name, 1)
		e.want(err, vfs.ErrExist, "guarded over %q", name)
		got, err := create(vfs.Unchecked, name, 1)
		e.ok(err, "unchecked over %q", name)
		if !got.Existed || got.Attr != before || got.Dir.Before != got.Dir.After || got.Dir.After != dir.Change {
			e.Errorf("unchecked over %q: %+v", name, got)
		}
		_, err = create(vfs.Exclusive, name, 2)
		e.want(err, vfs.ErrExist, "exclusive with another verifier over %q", name)
		got, err = create(vfs.Exclusive, name, 1)
		if mode == vfs.Exclusive {
			e.ok(err, "replay")
			if !got.Existed || got.Attr.ID != made.Attr.ID {
				e.Errorf("replay: %+v", got)
			}
		} else {
			e.want(err, vfs.ErrExist, "exclusive over %q", name)
		}
		_, err = create(vfs.Exclusive, name, 0)
		e.want(err, vfs.ErrExist, "exclusive without a verifier over %q", name)
		if e.attr(made.Attr.ID) != before || e.attr(root) != dir {
			e.Errorf("creating %q again changed something", name)
		}
	}
	e.mkdir(root, "dir")
	_, err := e.make(nil, root, "link", vfs.Symlink, 0)
	e.ok(err, "symlink")
	_, err = create(vfs.Unchecked, "dir", 1)
	e.want(err, vfs.ErrIsDir, "unchecked over a directory")
	_, err = create(vfs.Unchecked, "link", 1)
	e.want(err, vfs.ErrWrongType, "unchecked over a symbolic link")
	for _, name := range []string{"dir", "link"} {
		_, err = create(vfs.Exclusive, name, 0)
		e.want(err, vfs.ErrExist, "exclusive over %q", name)
	}
	var out vfs.CreateResult
	for _, mode := range []vfs.CreateMode{vfs.Unchecked, vfs.Exclusive} {
		req := vfs.CreateRequest{Kind: vfs.Directory, Mode: mode}
		e.want(e.fs.Create(ctx, nil, root, "new", &req, &out), vfs.ErrInvalid, "directory in mode %d", mode)
	}
	req := vfs.CreateRequest{Kind: vfs.Fifo, Mode: vfs.Guarded, Attr: vfs.SetAttr{Mask: vfs.SetSize}}
	e.want(e.fs.Create(ctx, nil, root, "new", &req, &out), vfs.ErrInvalid, "fifo with a size")
}

func testCreateAttributes(e *env) {
	root := e.fs.Root()
	_, err := e.set(nil, root, vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o777})
	e.ok(err, "chmod")
	past := vfs.Time{Sec: 5, Nsec: 6}
	create := func(cred *vfs.Cred, dir vfs.FileID, name string, kind vfs.Kind, set vfs.SetAttr) (vfs.Attr, error) {
		req := vfs.CreateRequest{Kind: kind, Mode: vfs.Guarded, Attr: set, Target: "t"}
		var out vfs.CreateResult
		err := e.fs.Create(ctx, cred, dir, name, &req, &out)
		return out.Attr, err
	}
	a, err := create(user(5, 6, 7), root, "plain", vfs.Regular, vfs.SetAttr{})
	e.ok(err, "create")
	if a.UID != 5 || a.GID != 6 || a.Mode != 0 {
		e.Errorf("defaults: %+v", a)
	}
	a, err = create(user(5, 6, 7), root, "link", vfs.Symlink, vfs.SetAttr{})
	e.ok(err, "symlink")
	if a.Mode != 0o777 || a.Size != 1 {
		e.Errorf("symlink: %+v", a)
	}
	a, err = create(user(5, 6, 7), root, "all", vfs.Regular, vfs.SetAttr{
		Mask: vfs.SetMode | vfs.SetUID | vfs.SetGID | vfs.SetATime | vfs.SetMTime | vfs.SetSize,
		Mode: 0o2644, UID: 5, GID: 7, ATime: past, MTime: past, Size: 99})
	e.ok(err, "create with everything")
	if a.Mode != 0o2644 || a.GID != 7 || a.ATime != past || a.MTime != past || a.CTime != e.clock || a.Size != 99 {
		e.Errorf("everything: %+v", a)
	}
	for name, set := range map[string]vfs.SetAttr{
		"for another":   {Mask: vfs.SetUID, UID: 6},
		"another group": {Mask: vfs.SetGID, GID: 8},
	} {
		_, err = create(user(5, 6, 7), root, name, vfs.Regular, set)
		e.want(err, vfs.ErrPerm, "create %s", name)
		_, err = create(user(0, 0), root, name, vfs.Regular, set)
		e.ok(err, "create %s as root", name)
	}
	testSetGIDDirectory(e, create)
}

func testSetGIDDirectory(e *env, create func(*vfs.Cred, vfs.FileID, string, vfs.Kind, vfs.SetAttr) (vfs.Attr, error)) {
	d := e.mkdir(e.fs.Root(), "setgid")
	_, err := e.set(nil, d, vfs.SetAttr{Mask: vfs.SetGID, GID: 44})
	e.ok(err, "chgrp")
	_, err = e.set(nil, d, vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o2777})
	e.ok(err, "chmod")
	mode := vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o2755}
	a, err := create(user(5, 6), d, "file", vfs.Regular, mode)
	e.ok(err, "create")
	if a.GID != 44 || a.Mode != 0o755 {
		e.Errorf("file: gid %d, mode %o", a.GID, a.Mode)
	}
	a, err = create(user(5, 6), d, "dir", vfs.Directory, vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o755})
	e.ok(err, "mkdir")
	if a.GID != 44 || a.Mode != 0o2755 {
		e.Errorf("directory: gid %d, mode %o", a.GID, a.Mode)
	}
}

func testCreateAccess(e *env) {
	root := e.fs.Root()
	d := e.mkdir(root, "d")
	f := e.file("f")
	for _, c := range []struct {
		mode uint32
		want error
	}{{0o755, vfs.ErrAccess}, {0o776, vfs.ErrAccess}, {0o777, nil}, {0o1777, nil}} {
		_, err := e.set(nil, d, vfs.SetAttr{Mask: vfs.SetMode, Mode: c.mode})
		e.ok(err, "chmod")
		_, err = e.make(user(5, 5), d, "x", vfs.Regular, 0)
		e.want(err, c.want, "create in mode %o", c.mode)
		if c.want == nil {
			_, err = e.make(user(6, 6), d, "x", vfs.Regular, 0)
			e.want(err, vfs.ErrExist, "create again")
			e.ok(e.remove(d, "x"), "remove")
		}
	}
	_, err := e.make(nil, f, "x", vfs.Regular, 0)
	e.want(err, vfs.ErrNotDir, "create in a file")
}

func testSymlink(e *env) {
	root := e.fs.Root()
	for name, want := range map[string]struct {
		target string
		err    error
	}{
		"usual": {"../some/where", nil}, "longest": {strings.Repeat("t", vfs.MaxTargetBytes), nil},
		"bytes": {"\xff\x01", nil}, "empty": {"", vfs.ErrInvalid}, "nul": {"a\x00", vfs.ErrInvalid},
		"too long": {strings.Repeat("t", vfs.MaxTargetBytes+1), vfs.ErrNameTooLong},
	} {
		req := vfs.CreateRequest{Kind: vfs.Symlink, Mode: vfs.Guarded, Target: want.target}
		var out vfs.CreateResult
		err := e.fs.Create(ctx, nil, root, name, &req, &out)
		e.want(err, want.err, "symlink %s", name)
		if err != nil {
			continue
		}
		got, err := e.fs.Readlink(ctx, user(5, 5), out.Attr.ID)
		e.ok(err, "readlink %s", name)
		if got != want.target || out.Attr.Size != uint64(len(want.target)) {
			e.Errorf("%s: target of %d bytes, size %d", name, len(got), out.Attr.Size)
		}
	}
	_, err := e.fs.Readlink(ctx, nil, root)
	e.want(err, vfs.ErrInvalid, "readlink of a directory")
	_, err = e.fs.Readlink(ctx, nil, e.file("f"))
	e.want(err, vfs.ErrInvalid, "readlink of a file")
}
