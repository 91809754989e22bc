package vfstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// marked returns a context for one operation that leaves a mark.
func marked(key, note string) *vfs.MarkContext {
	return &vfs.MarkContext{Context: ctx, Mark: vfs.Mark{Key: []byte(key), Note: []byte(note)}}
}

// listMarks returns all marks.
func listMarks(fs vfs.FileSystem) (list []string, err error) {
	err = fs.EachMark(ctx, func(key, note []byte, done vfs.Done) error {
		list = append(list, fmt.Sprintf("%q %q %+v", key, note, done))
		return nil
	})
	return list, err
}

// wantMark checks that an operation has left a mark as the only one, and deletes it.
func (e *env) wantMark(c *vfs.MarkContext, done vfs.Done) {
	e.Helper()
	if m := &c.Mark; !m.Left || m.Done != done {
		e.Errorf("the mark says left %v, %+v; want %+v", m.Left, m.Done, done)
	}
	list, err := listMarks(e.fs)
	e.ok(err, "EachMark")
	if want := fmt.Sprintf("%q %q %+v", c.Mark.Key, c.Mark.Note, done); len(list) != 1 || list[0] != want {
		e.Errorf("marks: %v, want %s", list, want)
	}
	e.ok(e.fs.DropMarks(ctx, nil, nil), "DropMarks")
}

// testMarks has every operation that leaves marks leave one.
func testMarks(e *env) {
	root := e.fs.Root()
	c := marked("k", "created")
	var made vfs.CreateResult
	req := vfs.CreateRequest{Kind: vfs.Regular, Mode: vfs.Guarded, Attr: vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o600}}
	e.ok(e.fs.Create(c, nil, root, "f", &req, &made), "create")
	e.wantMark(c, vfs.Done{File: made.Attr.ID, Change: made.Dir})

	c = marked("k", "")
	var a vfs.Attr
	info, err := e.fs.Link(c, nil, made.Attr.ID, root, "g", &a)
	e.ok(err, "link")
	e.wantMark(c, vfs.Done{Change: info})

	dir := e.mkdir(root, "d")
	for _, to := range []vfs.FileID{root, dir} {
		c = marked("\xff\xff", "renamed")
		src, dst, err := e.fs.Rename(c, nil, root, "g", to, "h", &a)
		e.ok(err, "rename")
		e.wantMark(c, vfs.Done{Change: src, Target: dst})
		if to == root {
			e.ok(e.rename(nil, root, "h", root, "g"), "back")
		}
	}
	c = marked(string(make([]byte, vfs.MaxMarkKeyBytes)), string(make([]byte, vfs.MaxMarkNoteBytes)))
	info, err = e.fs.Remove(c, nil, dir, "h", &a)
	e.ok(err, "remove")
	e.wantMark(c, vfs.Done{Change: info})

	c = marked("k", "set")
	info, err = e.fs.SetXattr(c, nil, made.Attr.ID, "x", []byte("1"), vfs.XattrCreate)
	e.ok(err, "SetXattr")
	e.wantMark(c, vfs.Done{Change: info})
	c = marked("k", "removed")
	info, err = e.fs.RemoveXattr(c, nil, made.Attr.ID, "x")
	e.ok(err, "RemoveXattr")
	e.wantMark(c, vfs.Done{Change: info})
}

// testNoMarks has operations fail, or take no effect.
func testNoMarks(e *env) {
	root := e.fs.Root()
	e.file("f")
	c := marked("k", "note")
	var made vfs.CreateResult
	req := vfs.CreateRequest{Kind: vfs.Regular, Mode: vfs.Guarded}
	e.want(e.fs.Create(c, nil, root, "f", &req, &made), vfs.ErrExist, "create")
	req.Mode = vfs.Unchecked
	e.ok(e.fs.Create(c, nil, root, "f", &req, &made), "create what is there")
	var a vfs.Attr
	_, err := e.fs.Link(c, nil, made.Attr.ID, root, "f", &a)
	e.want(err, vfs.ErrExist, "link")
	_, err = e.fs.Remove(c, nil, root, "g", &a)
	e.want(err, vfs.ErrNotFound, "remove")
	_, _, err = e.fs.Rename(c, nil, root, "g", root, "h", &a)
	e.want(err, vfs.ErrNotFound, "rename")
	_, _, err = e.fs.Rename(c, nil, root, "f", root, "f", &a)
	e.ok(err, "rename to itself")
	_, err = e.fs.SetXattr(c, nil, made.Attr.ID, "x", nil, vfs.XattrReplace)
	e.want(err, vfs.ErrNoXattr, "SetXattr")
	_, err = e.fs.RemoveXattr(c, nil, made.Attr.ID, "x")
	e.want(err, vfs.ErrNoXattr, "RemoveXattr")
	if list, err := listMarks(e.fs); c.Mark.Left || len(list) != 0 || err != nil {
		e.Errorf("marks: %v, %v, left %v", list, err, c.Mark.Left)
	}
}

// testMarkRanges replaces marks, lists and drops them.
func testMarkRanges(e *env) {
	for n, key := range []string{"a", "b", "b\x00", "b\xff", "c", "b"} {
		c := marked(key, fmt.Sprint(n))
		var made vfs.CreateResult
		req := vfs.CreateRequest{Kind: vfs.Directory, Mode: vfs.Guarded}
		e.ok(e.fs.Create(c, nil, e.fs.Root(), fmt.Sprint(n), &req, &made), "create")
	}
	keys := func() (s string) {
		e.ok(e.fs.EachMark(ctx, func(key, note []byte, _ vfs.Done) error {
			s += fmt.Sprintf("%q=%s ", key, bytes.Clone(note))
			return nil
		}), "EachMark")
		return s
	}
	if got, want := keys(), `"a"=0 "b"=5 "b\x00"=2 "b\xff"=3 "c"=4 `; got != want {
		e.Errorf("marks %s, want %s", got, want)
	}
	stop := errors.New("stop")
	e.want(e.fs.EachMark(ctx, func(_, _ []byte, _ vfs.Done) error { return stop }), stop, "an error of visit")
	e.ok(e.fs.DropMarks(ctx, []byte("b\x00"), []byte("c")), "drop")
	e.ok(e.fs.DropMarks(ctx, []byte("x"), nil), "drop nothing")
	if got, want := keys(), `"a"=0 "b"=5 "c"=4 `; got != want {
		e.Errorf("marks %s, want %s", got, want)
	}
	e.ok(e.fs.DropMarks(ctx, []byte("b"), nil), "drop the rest")
	e.ok(e.fs.DropMarks(ctx, nil, []byte("a")), "drop nothing")
	if got, want := keys(), `"a"=0 `; got != want {
		e.Errorf("marks %s, want %s", got, want)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	e.want(e.fs.DropMarks(cancelled, nil, nil), context.Canceled, "cancelled")
	e.want(e.fs.EachMark(cancelled, nil), context.Canceled, "cancelled")
}
