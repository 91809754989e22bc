package vfstest

import (
	"context"
	"math/rand/v2"
	"sync"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// testReadWrite writes random ranges and compares with a slice.
func testReadWrite(e *env) {
	id := e.file("f")
	rng := rand.New(rand.NewPCG(4, 2))
	model := make([]byte, 0, 1<<20)
	for step := range 400 {
		offset := rng.IntN(300 << 10)
		length := 1 + rng.IntN(10000)
		switch rng.IntN(4) {
		case 0:
			offset &^= 4095
			length = (1 + rng.IntN(40)) * 4096
		case 1:
			offset = len(model) // append
		}
		p := pattern(length, byte(step))
		e.write(id, uint64(offset), p, vfs.Stability(rng.IntN(3)))
		if end := offset + length; end > len(model) {
			model = model[:end]
		}
		copy(model[offset:], p)
		if rng.IntN(10) == 0 {
			e.ok(e.fs.Commit(ctx, id, 0, 0), "commit")
		}
		at := rng.IntN(len(model))
		n := rng.IntN(50000)
		e.same(e.read(id, uint64(at), n), model[at:min(len(model), at+n)], "step %d, read at %d", step, at)
	}
	e.same(e.read(id, 0, len(model)+5), model, "at the end")
}

func testSparse(e *env) {
	id := e.file("f")
	far := uint64(vfs.MaxFileBytes) - 3
	for _, c := range []struct {
		offset uint64
		used   uint64
	}{{10 << 20, 1}, {1 << 40, 2}, {1<<40 + 5000, 3}, {far - 1<<20, 4}, {far, 5}} {
		e.write(id, c.offset, []byte("end"), vfs.FileSync)
		if a := e.attr(id); a.Used != c.used*4096 || a.Size != c.offset+3 {
			e.Errorf("write at %d: used %d, size %d", c.offset, a.Used, a.Size)
		}
		e.same(e.read(id, c.offset-10, 100), append(make([]byte, 10), "end"...), "around %d", c.offset)
	}
	e.same(e.read(id, 20<<20, 100<<10), make([]byte, 100<<10), "hole")
	if a := e.attr(id); a.Size != vfs.MaxFileBytes {
		e.Errorf("size is %d", a.Size)
	}
	a, err := e.set(nil, id, vfs.SetAttr{Mask: vfs.SetSize, Size: 1<<40 + 1})
	e.ok(err, "truncate")
	if a.Used != 2*4096 {
		e.Errorf("used %d after the cut", a.Used)
	}
	e.same(e.read(id, 1<<40-2, 10), []byte{0, 0, 'e'}, "cut end")
}

func testEdges(e *env) {
	id := e.file("f")
	n, eof, err := e.fs.Read(ctx, nil, id, 0, make([]byte, 10))
	if n != 0 || !eof || err != nil {
		e.Errorf("empty file: %d, %v, %v", n, eof, err)
	}
	before := e.attr(id)
	e.write(id, 100, nil, vfs.FileSync)
	if e.attr(id) != before {
		e.Error("a write of nothing changed something")
	}
	e.write(id, 0, pattern(4096, 1), vfs.Unstable)
	for _, c := range []struct {
		offset uint64
		length int
	}{{0, 4096}, {0, 5000}, {4095, 1}, {4095, 2}, {4096, 1}, {1, 4095}, {0, 0}, {4096, 0}, {1 << 62, 10}, {vfs.MaxFileBytes, 1}, {1<<64 - 1, 1}} {
		e.read(id, c.offset, c.length)
	}
	p := pattern(3*4096, 9)
	e.write(id, 4096, p, vfs.Unstable)
	p[0] = 0 // the file system kept nothing of it
	if got := e.read(id, 4096, 1); got[0] == 0 {
		e.Error("the file system kept the caller's slice")
	}
}

func testLimits(e *env) {
	id := e.file("f")
	for _, c := range []struct {
		offset uint64
		length int
	}{{vfs.MaxFileBytes, 1}, {vfs.MaxFileBytes - 1, 2}, {1<<64 - 1, 1}, {1<<64 - 10, 20}, {vfs.MaxFileBytes + 1, 0}} {
		_, err := e.fs.Write(ctx, nil, false, id, c.offset, make([]byte, c.length), vfs.Unstable)
		e.want(err, vfs.ErrFileTooBig, "write of %d at %d", c.length, c.offset)
	}
	if a := e.attr(id); a.Size != 0 || a.Used != 0 {
		e.Errorf("after refused writes: %+v", a)
	}
	_, _, err := e.fs.Read(ctx, nil, e.fs.Root(), 0, make([]byte, 1))
	e.want(err, vfs.ErrIsDir, "read of a directory")
	_, err = e.fs.Write(ctx, nil, false, e.fs.Root(), 0, make([]byte, 1), vfs.Unstable)
	e.want(err, vfs.ErrIsDir, "write of a directory")
	e.want(e.fs.Commit(ctx, e.fs.Root(), 0, 0), vfs.ErrIsDir, "commit of a directory")
}

func testWriteAccess(e *env) {
	id := e.file("f")
	_, err := e.set(nil, id, vfs.SetAttr{Mask: vfs.SetMode | vfs.SetUID, Mode: 0o460, UID: 5})
	e.ok(err, "chmod")
	write := func(cred *vfs.Cred, check bool) error {
		_, err := e.fs.Write(ctx, cred, check, id, 0, []byte("x"), vfs.Unstable)
		return err
	}
	read := func(cred *vfs.Cred) error {
		_, _, err := e.fs.Read(ctx, cred, id, 0, make([]byte, 1))
		return err
	}
	e.want(write(user(5, 9), true), vfs.ErrAccess, "owner without the bit")
	e.want(write(user(6, 0), true), nil, "group")
	e.want(write(user(6, 9), true), vfs.ErrAccess, "other")
	e.want(write(user(6, 9), false), nil, "other, checked before")
	e.want(write(nil, true), nil, "server")
	e.want(read(user(5, 9)), nil, "read by the owner")
	e.want(read(user(6, 1, 0)), nil, "read by a supplementary group")
	e.want(read(user(6, 9)), vfs.ErrAccess, "read by another")
	e.want(read(user(0, 9)), nil, "read by uid 0")
}

func testSetID(e *env) {
	id := e.file("f")
	for _, c := range []struct {
		name  string
		cred  *vfs.Cred
		clear bool
	}{{"user", user(5, 5), true}, {"nobody known", nil, true}, {"root", user(0, 0), false}} {
		_, err := e.set(nil, id, vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o6777})
		e.ok(err, "chmod")
		_, err = e.fs.Write(ctx, c.cred, true, id, 0, []byte("x"), vfs.FileSync)
		e.ok(err, "write by %s", c.name)
		want := uint32(0o6777)
		if c.clear {
			want = 0o777
		}
		if a := e.attr(id); a.Mode != want {
			e.Errorf("mode %o after a write by %s", a.Mode, c.name)
		}
	}
	_, err := e.set(user(5, 5), id, vfs.SetAttr{Mask: vfs.SetSize, Size: 1})
	e.ok(err, "truncate")
	if a := e.attr(id); a.Mode != 0o777 {
		e.Errorf("mode %o after a cut by a user", a.Mode)
	}
}

func testCommit(e *env) {
	id := e.file("f")
	e.ok(e.fs.Commit(ctx, id, 0, 0), "commit of nothing")
	e.write(id, 0, pattern(200<<10, 1), vfs.Unstable)
	e.ok(e.fs.Commit(ctx, id, 5, 1), "commit of a part")
	e.write(id, 3, []byte("abc"), vfs.DataSync)
	e.ok(e.fs.Commit(ctx, id, 1<<63, 1<<63), "commit beyond everything")
	want := pattern(200<<10, 1)
	copy(want[3:], "abc")
	e.same(e.read(id, 0, len(want)), want, "committed")
	if v, w := e.fs.WriteVerifier(), e.fs.WriteVerifier(); v != w {
		e.Errorf("the verifier changed from %x to %x", v, w)
	}
}

func testCancelled(e *env) {
	id := e.file("f")
	gone, cancel := context.WithCancel(ctx)
	cancel()
	var a vfs.Attr
	var stat vfs.StatFS
	for name, err := range map[string]error{
		"StatFS":          e.fs.StatFS(gone, &stat),
		"GetAttr":         e.fs.GetAttr(gone, id, &a),
		"SetAttr":         e.fs.SetAttr(gone, nil, id, &vfs.SetAttr{}, &a),
		"Lookup":          e.fs.Lookup(gone, nil, e.fs.Root(), "f", &a),
		"Create":          e.fs.Create(gone, nil, e.fs.Root(), "g", &vfs.CreateRequest{Kind: vfs.Regular}, &vfs.CreateResult{}),
		"Commit":          e.fs.Commit(gone, id, 0, 0),
		"EndRecovery":     e.fs.EndRecovery(gone),
		"PutClientRecord": e.fs.PutClientRecord(gone, []byte("k"), nil),
	} {
		e.want(err, context.Canceled, "%s", name)
	}
	e.wantNames(e.fs.Root(), "f")
}

// testChange checks that no two changes of anything share a change attribute.
func testChange(e *env) {
	seen := map[uint64]bool{}
	note := func(what string, change uint64) {
		if seen[change] {
			e.Errorf("%s: change %d is not new", what, change)
		}
		seen[change] = true
	}
	id := e.file("f")
	note("create", e.attr(id).Change)
	for n := range 20 {
		e.write(id, uint64(n), []byte("x"), vfs.Unstable)
		note("write", e.attr(id).Change)
	}
	e.ok(e.fs.Commit(ctx, id, 0, 0), "commit")
	last := e.attr(id).Change
	_, err := e.set(nil, id, vfs.SetAttr{Mask: vfs.SetMode})
	e.ok(err, "chmod")
	note("chmod", e.attr(id).Change)
	if e.attr(id).Change <= last {
		e.Error("change went back")
	}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for range 50 {
				if _, err := e.fs.Write(ctx, nil, false, id, 0, []byte("y"), vfs.Unstable); err != nil {
					e.Errorf("write: %v", err)
				}
			}
		})
	}
	wait.Wait()
	note("many writes", e.attr(id).Change)
}
