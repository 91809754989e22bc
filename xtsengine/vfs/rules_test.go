package vfs_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// TestPermitted walks through the classes of the mode bits.
func TestPermitted(t *testing.T) {
	file := vfs.Attr{Kind: vfs.Regular, UID: 1, GID: 2, Mode: 0o741}
	owner, group := &vfs.Cred{UID: 1, GID: 2}, &vfs.Cred{UID: 3, GID: 9, Groups: []uint32{5, 2}}
	other, root := &vfs.Cred{UID: 3, GID: 9}, &vfs.Cred{UID: 0, GID: 9}
	plain := file
	plain.Mode = 0o600
	dir := plain
	dir.Kind = vfs.Directory
	const r, w, x = vfs.MayRead, vfs.MayWrite, vfs.MayExecute
	for _, c := range []struct {
		attr vfs.Attr
		cred *vfs.Cred
		want vfs.Access
		ok   bool
	}{
		{file, owner, r | w | x, true}, {file, group, r, true}, {file, group, w, false}, {file, group, r | x, false},
		{file, other, x, true}, {file, other, r, false}, {file, nil, r | w | x, true}, {file, root, r | w | x, true},
		{plain, root, r | w, true}, {plain, root, x, false}, {dir, root, x, true}, {file, other, 0, true},
	} {
		if got := vfs.Permitted(&c.attr, c.cred, c.want); got != c.ok {
			t.Errorf("mode %o, %+v, access %o: %v", c.attr.Mode, c.cred, c.want, got)
		}
	}
}

// TestCheckName is about the edges of what a name may be.
func TestCheckName(t *testing.T) {
	for name, want := range map[string]error{
		"a": nil, "...": nil, "\x01\xff": nil, strings.Repeat("x", 255): nil,
		"": vfs.ErrInvalid, ".": vfs.ErrBadName, "..": vfs.ErrBadName, "/": vfs.ErrBadName, "a\x00": vfs.ErrBadName,
		strings.Repeat("x", 256): vfs.ErrNameTooLong,
	} {
		if got := vfs.CheckName(name); !errors.Is(got, want) {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

// TestApplyUnchanged checks that a refused change leaves the attributes as they were, and that none
// touches nothing.
func TestApplyUnchanged(t *testing.T) {
	before := vfs.Attr{Kind: vfs.Regular, UID: 1, GID: 2, Mode: 0o6755, Size: 5}
	now := vfs.Time{Sec: 9}
	a := before
	for _, set := range []vfs.SetAttr{
		{Mask: vfs.SetMode | vfs.SetUID, Mode: 0, UID: 7}, {Mask: vfs.SetSize, Size: vfs.MaxFileBytes + 1},
		{Mask: vfs.SetATime, ATime: vfs.Time{Nsec: 1e9}},
	} {
		if err := set.Apply(&a, &vfs.Cred{UID: 1, GID: 2}, now); err == nil || a != before {
			t.Errorf("%+v: %v, %+v", set, err, a)
		}
	}
	var nothing vfs.SetAttr
	if err := nothing.Apply(&a, nil, now); err != nil || a != before {
		t.Errorf("nothing: %v, %+v", err, a)
	}
}

// TestSetIDBits checks when the set-id bits go.
func TestSetIDBits(t *testing.T) {
	root, user := &vfs.Cred{}, &vfs.Cred{UID: 1, GID: 2}
	for name, c := range map[string]struct {
		kind vfs.Kind
		cred *vfs.Cred
		set  vfs.SetAttr
		want uint32
	}{
		"chown by root":       {vfs.Regular, root, vfs.SetAttr{Mask: vfs.SetUID, UID: 1}, 0o777},
		"chgrp by owner":      {vfs.Regular, user, vfs.SetAttr{Mask: vfs.SetGID, GID: 2}, 0o777},
		"of a directory":      {vfs.Directory, root, vfs.SetAttr{Mask: vfs.SetUID, UID: 1}, 0o6777},
		"size by owner":       {vfs.Regular, user, vfs.SetAttr{Mask: vfs.SetSize}, 0o777},
		"size by holder":      {vfs.Regular, &vfs.Cred{UID: 9, GID: 9}, vfs.SetAttr{Mask: vfs.SetSize, Held: true}, 0o777},
		"size by root":        {vfs.Regular, root, vfs.SetAttr{Mask: vfs.SetSize}, 0o6777},
		"mode within group":   {vfs.Regular, user, vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o6711}, 0o6711},
		"mode and owner":      {vfs.Regular, root, vfs.SetAttr{Mask: vfs.SetMode | vfs.SetUID, Mode: 0o6710, UID: 4}, 0o710},
		"times change no bit": {vfs.Regular, user, vfs.SetAttr{Mask: vfs.SetMTimeNow}, 0o6777},
	} {
		a := vfs.Attr{Kind: c.kind, UID: 1, GID: 2, Mode: 0o6777}
		if err := c.set.Apply(&a, c.cred, vfs.Time{Sec: 1}); err != nil || a.Mode != c.want {
			t.Errorf("%s: mode %o, want %o (%v)", name, a.Mode, c.want, err)
		}
	}
	for _, writer := range []*vfs.Cred{nil, user} {
		a := vfs.Attr{Mode: 0o6777, GID: 2}
		if a.Written(writer, vfs.Time{Sec: 1}); a.Mode != 0o777 || a.MTime.Sec != 1 || a.CTime.Sec != 1 {
			t.Errorf("written by %+v: %+v", writer, a)
		}
	}
}

// TestSetGIDWithoutExecution checks that a set-group-id bit stays on what the group may not execute, if who changes the file is in the group.
func TestSetGIDWithoutExecution(t *testing.T) {
	root, member, stranger := &vfs.Cred{}, &vfs.Cred{UID: 1, GID: 9, Groups: []uint32{2}}, &vfs.Cred{UID: 1, GID: 9}
	written := func(a *vfs.Attr, cred *vfs.Cred) error {
		a.Written(cred, vfs.Time{Sec: 1})
		return nil
	}
	apply := func(set vfs.SetAttr) func(a *vfs.Attr, cred *vfs.Cred) error {
		return func(a *vfs.Attr, cred *vfs.Cred) error { return set.Apply(a, cred, vfs.Time{Sec: 1}) }
	}
	size, group := apply(vfs.SetAttr{Mask: vfs.SetSize}), apply(vfs.SetAttr{Mask: vfs.SetGID, GID: 9})
	for name, c := range map[string]struct {
		cred   *vfs.Cred
		change func(*vfs.Attr, *vfs.Cred) error
		want   uint32
	}{
		"written by a member":     {member, written, 0o2764},
		"written by a stranger":   {stranger, written, 0o764},
		"written by who knows":    {nil, written, 0o764},
		"size by a member":        {member, size, 0o2764},
		"size by a stranger":      {stranger, size, 0o764},
		"chown by root":           {root, apply(vfs.SetAttr{Mask: vfs.SetUID, UID: 7}), 0o2764},
		"another group, member":   {member, group, 0o2764},
		"another group, stranger": {stranger, group, 0o764},
	} {
		a := vfs.Attr{Kind: vfs.Regular, UID: 1, GID: 2, Mode: 0o6764}
		if err := c.change(&a, c.cred); err != nil || a.Mode != c.want {
			t.Errorf("%s: mode %o, want %o (%v)", name, a.Mode, c.want, err)
		}
	}
}
