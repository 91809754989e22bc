package vfstest

import (
	"context"
	"math/rand/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// block is what content is kept in, in bytes.
const block = vfs.CloneBytes

func (e *env) allocate(id vfs.FileID, offset, length uint64) vfs.Attr {
	e.Helper()
	var a vfs.Attr
	e.ok(e.fs.Allocate(ctx, nil, id, offset, length, &a), "allocate %d at %d", length, offset)
	return a
}

func (e *env) deallocate(id vfs.FileID, offset, length uint64) vfs.Attr {
	e.Helper()
	var a vfs.Attr
	e.ok(e.fs.Deallocate(ctx, nil, id, offset, length, &a), "deallocate %d at %d", length, offset)
	return a
}

func (e *env) clone(src, dst vfs.FileID, from, to, length uint64) vfs.Attr {
	e.Helper()
	var a vfs.Attr
	e.ok(e.fs.Clone(ctx, nil, src, dst, from, to, length, &a), "clone %d from %d to %d", length, from, to)
	return a
}

// wantSeek checks where the next data or hole is; noData stands for vfs.ErrNoData.
func (e *env) wantSeek(id vfs.FileID, offset uint64, what vfs.SeekWhat, want uint64) {
	e.Helper()
	got, err := e.fs.Seek(ctx, nil, id, offset, what)
	if want == noData {
		e.want(err, vfs.ErrNoData, "seek %d from %d", what, offset)
		return
	}
	e.ok(err, "seek %d from %d", what, offset)
	if got != want {
		e.Errorf("seek %d from %d: %d, want %d", what, offset, got, want)
	}
}

// noData is what wantSeek takes for vfs.ErrNoData.
const noData = 1<<64 - 1

// rangeOp is Allocate or Deallocate.
type rangeOp = func(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset, length uint64, out *vfs.Attr) error

func testSeek(e *env) {
	id := e.file("f")
	e.wantSeek(id, 0, vfs.SeekData, noData)
	e.wantSeek(id, 0, vfs.SeekHole, noData)
	_, err := e.set(nil, id, vfs.SetAttr{Mask: vfs.SetSize, Size: 1 << 50})
	e.ok(err, "truncate")
	e.wantSeek(id, 5, vfs.SeekData, noData)
	e.wantSeek(id, 5, vfs.SeekHole, 5)
	const far = 1<<50 - 3*block
	for k, stable := range []vfs.Stability{vfs.Unstable, vfs.FileSync} {
		e.write(id, uint64(block+100*k), []byte("data"), stable)
		e.write(id, far, pattern(2*block, 1), stable)
		for _, c := range []struct {
			offset     uint64
			data, hole uint64
		}{
			{0, block, 0}, {block, block, 2 * block}, {block + 7, block + 7, 2 * block}, {2 * block, far, 2 * block},
			{1 << 40, far, 1 << 40}, {far + 5, far + 5, far + 2*block}, {far + 2*block + 1, noData, far + 2*block + 1},
			{1<<50 - 1, noData, 1<<50 - 1}, {1 << 50, noData, noData}, {1<<64 - 1, noData, noData},
		} {
			e.wantSeek(id, c.offset, vfs.SeekData, c.data)
			e.wantSeek(id, c.offset, vfs.SeekHole, c.hole)
		}
	}
	full := e.file("full")
	e.write(full, 0, pattern(20*block+5, 1), vfs.Unstable)
	e.wantSeek(full, 7, vfs.SeekHole, 20*block+5)
	e.wantSeek(full, 20*block+4, vfs.SeekData, 20*block+4)
	e.ok(e.fs.Commit(ctx, full, 0, 0), "commit")
	e.write(full, 21*block, pattern(30*block, 1), vfs.Unstable) // touches the other one
	e.wantSeek(full, 0, vfs.SeekHole, 51*block)
	_, err = e.fs.Seek(ctx, user(5, 5), full, 0, vfs.SeekData)
	e.want(err, nil, "seek by a reader")
	_, err = e.set(nil, full, vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o600})
	e.ok(err, "chmod")
	_, err = e.fs.Seek(ctx, user(5, 5), full, 0, vfs.SeekData)
	e.want(err, vfs.ErrAccess, "seek without access")
	_, err = e.fs.Seek(ctx, nil, full, 0, vfs.SeekHole+1)
	e.want(err, vfs.ErrInvalid, "seek for something else")
	_, err = e.fs.Seek(ctx, nil, e.fs.Root(), 0, vfs.SeekHole)
	e.want(err, vfs.ErrIsDir, "seek in a directory")
}

func testAllocate(e *env) {
	id := e.file("f")
	before := e.attr(id)
	e.later()
	a := e.allocate(id, 100, 3*block)
	if a != e.attr(id) || a.Size != 100+3*block || a.Used != 4*block || a.Change <= before.Change || a.MTime != e.clock || a.CTime != e.clock {
		e.Errorf("after the allocation: %+v", a)
	}
	e.same(e.read(id, 0, 5*block), make([]byte, 100+3*block), "reserved")
	e.wantSeek(id, 0, vfs.SeekData, noData)
	e.wantSeek(id, 0, vfs.SeekHole, 0)
	e.write(id, block+5, []byte("x"), vfs.FileSync)
	if a = e.attr(id); a.Used != 4*block {
		e.Errorf("used %d after a write to what was reserved", a.Used)
	}
	e.wantSeek(id, 0, vfs.SeekData, block)
	e.wantSeek(id, block, vfs.SeekHole, 2*block)
	want := make([]byte, 100+3*block)
	want[block+5] = 'x'
	e.same(e.read(id, 0, 5*block), want, "partly written")
	if a = e.allocate(id, 0, 2*block); a.Size != 100+3*block || a.Used != 4*block {
		e.Errorf("after the second one: %+v", a)
	}
	e.same(e.read(id, 0, 5*block), want, "allocated again")
	a, err := e.set(nil, id, vfs.SetAttr{Mask: vfs.SetSize, Size: 2*block + 1})
	e.ok(err, "truncate")
	if a.Used != 3*block {
		e.Errorf("used %d after the cut", a.Used)
	}
	e.write(id, 40*block, pattern(60*block, 3), vfs.Unstable)
	a = e.allocate(id, 0, 200*block)
	if a.Used != 200*block || a.Size != 200*block {
		e.Errorf("across unstable data: %+v", a)
	}
	e.same(e.read(id, 40*block, 60*block), pattern(60*block, 3), "what was unstable")
	e.write(id, 0, pattern(200*block, 4), vfs.FileSync)
	if a = e.attr(id); a.Used != 200*block {
		e.Errorf("used %d after everything was written", a.Used)
	}
	e.same(e.read(id, 0, 200*block), pattern(200*block, 4), "all")
	e.testRangeErrors(e.fs.Allocate, "allocate")
	var out vfs.Attr
	e.want(e.fs.Allocate(ctx, nil, id, 0, vfs.MaxFileBytes, &out), vfs.ErrNoSpace, "allocate more than there is")
	if got := e.attr(id); got.Used != a.Used || got.Size != a.Size {
		e.Errorf("after a refused allocation: %+v", got)
	}
}

// testRangeErrors checks what Allocate and Deallocate refuse.
func (e *env) testRangeErrors(op rangeOp, name string) {
	id := e.file(name)
	_, err := e.set(nil, id, vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o6755})
	e.ok(err, "chmod")
	var a vfs.Attr
	before := e.attr(id)
	e.want(op(ctx, nil, id, 5, 0, &a), vfs.ErrInvalid, "%s of nothing", name)
	e.want(op(ctx, nil, id, vfs.MaxFileBytes, 1, &a), vfs.ErrFileTooBig, "%s beyond the largest file", name)
	e.want(op(ctx, nil, id, 1<<63, 1, &a), vfs.ErrFileTooBig, "%s beyond the largest file", name)
	e.want(op(ctx, nil, id, 10, 1<<64-1, &a), vfs.ErrFileTooBig, "%s beyond the largest number", name)
	e.want(op(ctx, user(5, 5), id, 0, 1, &a), vfs.ErrAccess, "%s without access", name)
	e.want(op(ctx, nil, e.fs.Root(), 0, 1, &a), vfs.ErrIsDir, "%s of a directory", name)
	if e.attr(id) != before {
		e.Errorf("refused calls of %s changed something", name)
	}
	e.write(id, 0, []byte("x"), vfs.FileSync)
	_, err = e.set(nil, id, vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o6777})
	e.ok(err, "chmod")
	e.ok(op(ctx, user(5, 5), id, 0, 1, &a), "%s by another", name)
	if a.Mode != 0o777 {
		e.Errorf("mode %o after %s by another", a.Mode, name)
	}
}

func testDeallocate(e *env) {
	id := e.file("f")
	want := pattern(100*block+77, 5)
	e.write(id, 0, want, vfs.Unstable)
	punch := func(offset, length uint64, used uint64) {
		e.Helper()
		before := e.attr(id)
		e.later()
		a := e.deallocate(id, offset, length)
		if a != e.attr(id) || a.Size != uint64(len(want)) || a.Used != used*block || a.Change <= before.Change || a.MTime != e.clock {
			e.Errorf("deallocate %d at %d: %+v", length, offset, a)
		}
		clear(want[min(offset, uint64(len(want))):min(offset+length, uint64(len(want)))])
		e.same(e.read(id, 0, len(want)), want, "after deallocate %d at %d", length, offset)
	}
	punch(10*block, 3*block, 98)
	e.wantSeek(id, 10*block, vfs.SeekData, 13*block)
	e.wantSeek(id, 0, vfs.SeekHole, 10*block)
	punch(10*block, 3*block, 98) // a hole already
	punch(20*block+5, 10, 98)    // a part of one block
	punch(30*block-5, 10, 98)    // parts of two
	punch(40*block-1, block+2, 97)
	punch(50*block+1, 10*block, 88)
	e.write(id, 0, want[:2*block], vfs.Unstable)
	punch(block, 1, 88)
	punch(100*block+5, 3, 88)
	punch(100*block, 77, 87)                          // to the end
	punch(99*block+1, vfs.MaxFileBytes-200*block, 87) // and beyond
	before := e.attr(id)
	if a := e.deallocate(id, uint64(len(want)), 1<<40); a != before || e.attr(id) != before {
		e.Errorf("deallocate behind the end changed %+v to %+v", before, a)
	}
	e.allocate(id, 60*block, 2*block)
	e.allocate(id, 200*block, 2*block)
	want = append(want, make([]byte, 202*block-len(want))...)
	punch(201*block, 1, 89) // reserved stays
	punch(200*block, 2*block, 87)
	punch(0, uint64(len(want)), 0)
	small := e.file("small")
	e.write(small, 0, []byte("0123456789"), vfs.FileSync)
	e.deallocate(small, 2, 3)
	e.same(e.read(small, 0, 100), []byte("01\x00\x00\x0056789"), "a part of a small file")
	e.deallocate(small, 0, 10)
	if a := e.attr(small); a.Used != 0 || a.Size != 10 {
		e.Errorf("small file: %+v", a)
	}
	e.testRangeErrors(e.fs.Deallocate, "deallocate")
}

func testClone(e *env) {
	src, dst := e.file("src"), e.file("dst")
	want := pattern(50*block+9, 7)
	e.write(src, 0, want, vfs.Unstable)
	e.deallocate(src, 3*block, 2*block)
	clear(want[3*block : 5*block])
	before := e.attr(src)
	e.later()
	a := e.clone(src, dst, 0, 0, 0)
	if a != e.attr(dst) || a.Size != uint64(len(want)) || a.Used != 49*block || a.MTime != e.clock || e.attr(src) != before {
		e.Errorf("whole clone: %+v, source %+v", a, e.attr(src))
	}
	check := func(id vfs.FileID, want []byte, what string) {
		e.Helper()
		e.same(e.read(id, 0, len(want)+10), want, "%s", what)
	}
	check(dst, want, "clone")
	copyOf := append([]byte(nil), want...)
	e.write(dst, 10*block+3, pattern(4*block, 8), vfs.FileSync)
	copy(copyOf[10*block+3:], pattern(4*block, 8))
	check(dst, copyOf, "changed clone")
	check(src, want, "source of a changed clone")
	e.write(src, 20*block, pattern(block, 9), vfs.FileSync)
	copy(want[20*block:], pattern(block, 9))
	check(dst, copyOf, "clone of a changed source")
	e.clone(src, dst, 20*block, 2*block, 10*block)
	copy(copyOf[2*block:12*block], want[20*block:])
	check(dst, copyOf, "part")
	e.clone(src, dst, 50*block, 60*block, 9) // the end of the source, behind the end of the other
	copyOf = append(append(copyOf, make([]byte, 60*block-len(copyOf))...), want[50*block:]...)
	check(dst, copyOf, "end")
	e.clone(dst, dst, 10*block, 70*block, 20*block)
	copyOf = append(append(copyOf, make([]byte, 70*block-len(copyOf))...), copyOf[10*block:30*block]...)
	check(dst, copyOf, "within a file")
	e.clone(src, dst, 3*block, 30*block, 2*block) // a hole
	clear(copyOf[30*block : 32*block])
	check(dst, copyOf, "hole")
	e.wantSeek(dst, 30*block, vfs.SeekHole, 30*block)
	e.ok(e.remove(e.fs.Root(), "src"), "remove the source")
	check(dst, copyOf, "without the source")
	third := e.file("third")
	e.clone(dst, third, 0, 0, 0)
	_, err := e.set(nil, dst, vfs.SetAttr{Mask: vfs.SetSize, Size: 5*block + 1})
	e.ok(err, "truncate")
	check(third, copyOf, "clone of what was cut")
	e.ok(e.remove(e.fs.Root(), "dst"), "remove the second")
	check(third, copyOf, "the last one")
}

func testCloneErrors(e *env) {
	src, dst := e.file("src"), e.file("dst")
	e.write(src, 0, pattern(5*block+9, 7), vfs.FileSync)
	e.write(dst, 0, pattern(9*block, 8), vfs.FileSync)
	before := e.attr(dst)
	var a vfs.Attr
	for _, c := range []struct {
		from, to, length uint64
		want             error
	}{
		{1, 0, block, vfs.ErrInvalid}, {0, 1, block, vfs.ErrInvalid}, {0, 0, block + 1, vfs.ErrInvalid},
		{0, 0, 6 * block, vfs.ErrInvalid}, {5 * block, 0, 0, vfs.ErrInvalid}, {6 * block, 0, 0, vfs.ErrInvalid},
		{1 << 63, 0, 0, vfs.ErrInvalid}, {0, 0, 1<<64 - 1, vfs.ErrInvalid},
		{0, 1<<63 - block, 2 * block, vfs.ErrFileTooBig}, {0, 1<<64 - block, block, vfs.ErrFileTooBig},
	} {
		e.want(e.fs.Clone(ctx, nil, src, dst, c.from, c.to, c.length, &a), c.want, "clone %+v", c)
	}
	e.want(e.fs.Clone(ctx, nil, dst, dst, 0, 2*block, 3*block, &a), vfs.ErrInvalid, "clone onto itself")
	e.want(e.fs.Clone(ctx, nil, e.fs.Root(), dst, 0, 0, 0, &a), vfs.ErrIsDir, "clone a directory")
	e.want(e.fs.Clone(ctx, nil, src, e.fs.Root(), 0, 0, 0, &a), vfs.ErrIsDir, "clone to a directory")
	e.want(e.fs.Clone(ctx, user(5, 5), src, dst, 0, 0, 0, &a), vfs.ErrAccess, "clone without access")
	if e.attr(dst) != before {
		e.Error("refused clones changed something")
	}
	empty := e.file("empty")
	e.ok(e.fs.Clone(ctx, nil, empty, dst, 0, 0, 0, &a), "clone nothing")
	if a != before {
		e.Errorf("a clone of nothing changed %+v", a)
	}
}

// testSparseRandom does random changes to ranges of two files and compares with slices.
func testSparseRandom(e *env) {
	const blocks = 60
	rng := rand.New(rand.NewPCG(11, 2))
	ids := [2]vfs.FileID{e.file("a"), e.file("b")}
	var want [2][]byte
	for k := range ids {
		want[k] = make([]byte, blocks*block)
		e.write(ids[k], uint64(len(want[k]))-1, []byte{0}, vfs.Unstable)
	}
	for step := range 300 {
		k := rng.IntN(2)
		offset, length := rng.IntN(blocks*block), 1+rng.IntN(8*block)
		if rng.IntN(2) == 0 {
			offset, length = offset&^(block-1), (1+rng.IntN(20))*block
		}
		length = min(length, blocks*block-offset)
		o, l := uint64(offset), uint64(length)
		switch rng.IntN(5) {
		case 0:
			p := pattern(length, byte(step))
			e.write(ids[k], o, p, vfs.Stability(rng.IntN(3)))
			copy(want[k][offset:], p)
		case 1:
			e.allocate(ids[k], o, l)
		case 2:
			e.deallocate(ids[k], o, l)
			clear(want[k][offset : offset+length])
		case 3:
			offset, length = offset&^(block-1), max(length&^(block-1), block)
			from := rng.IntN(blocks*block-length+1) &^ (block - 1)
			e.clone(ids[1-k], ids[k], uint64(from), uint64(offset), uint64(length))
			copy(want[k][offset:], want[1-k][from:from+length])
		case 4:
			e.same(e.read(ids[k], o, length), want[k][offset:offset+length], "step %d, read at %d", step, offset)
		}
	}
	for k := range ids {
		e.same(e.read(ids[k], 0, blocks*block), want[k], "file %d at the end", k)
	}
}
