package vfstest

import "github.com/nfseal/nfseal/xtsengine/vfs"

// Quotas is what a file system has whose quota can be set.
type Quotas interface {
	// SetQuota bounds the metered bytes from now on; 0: nothing does.
	SetQuota(quotaBytes uint64) error
}

func (e *env) setQuota(quotaBytes uint64) {
	e.Helper()
	q, ok := e.fs.(Quotas)
	if !ok {
		e.Fatalf("%T has no SetQuota", e.fs)
	}
	e.ok(q.SetQuota(quotaBytes), "SetQuota")
}

func (e *env) stat() vfs.StatFS {
	e.Helper()
	var st vfs.StatFS
	e.ok(e.fs.StatFS(ctx, &st), "StatFS")
	return st
}

// testMetered checks what counts, against sums.
func testMetered(e *env) {
	root := e.fs.Root()
	base := e.stat()
	var data, meta uint64
	check := func(what string) {
		e.Helper()
		st := e.stat()
		if st.MeteredDataBytes != data || st.MeteredMetadataBytes-base.MeteredMetadataBytes != meta {
			e.Errorf("%s: data %d, metadata %d more; want %d, %d", what, st.MeteredDataBytes,
				st.MeteredMetadataBytes-base.MeteredMetadataBytes, data, meta)
		}
	}
	f := e.file("f")
	meta += vfs.MeteredFile(0) + vfs.MeteredName("f")
	check("file")
	d := e.mkdir(root, "dir")
	meta += vfs.MeteredFile(0) + vfs.MeteredName("dir")
	_, err := e.make(nil, d, "link", vfs.Symlink, 0o777)
	e.ok(err, "symlink")
	meta += vfs.MeteredFile(len("target")) + vfs.MeteredName("link")
	check("directory and symbolic link")
	e.write(f, 100<<10, pattern(100, 1), vfs.FileSync)
	data += block
	check("sparse file")
	e.write(f, 0, pattern(100<<10, 1), vfs.FileSync)
	data += 100 << 10
	e.allocate(f, 0, 200<<10)
	data = 200 << 10
	check("reserved")
	g := e.file("g")
	meta += vfs.MeteredFile(0) + vfs.MeteredName("g")
	e.clone(f, g, 0, 0, 100<<10)
	data += 100 << 10
	check("clone")
	e.deallocate(f, 0, 100<<10)
	data -= 100 << 10
	check("hole")
	e.setXattr(f, "name", "value")
	e.setXattr(f, "name", "longer value")
	e.setXattr(f, "gone", "x")
	_, err = e.fs.RemoveXattr(ctx, nil, f, "gone")
	e.ok(err, "remove")
	meta += vfs.MeteredXattr("name", len("longer value"))
	check("extended attribute")
	e.ok(e.rename(nil, root, "g", d, "renamed"), "rename")
	meta += uint64(len("renamed") - len("g"))
	e.ok(e.rename(nil, d, "renamed", d, "r"), "rename")
	meta -= uint64(len("renamed") - len("r"))
	check("renamed")
	var a vfs.Attr
	_, err = e.fs.Link(ctx, nil, f, root, "second", &a)
	e.ok(err, "link")
	e.ok(e.remove(root, "f"), "remove one name")
	meta += uint64(len("second") - len("f"))
	check("two names")
	e.ok(e.fs.Hold(f), "hold")
	e.ok(e.remove(root, "second"), "remove")
	meta -= vfs.MeteredName("second")
	check("held")
	e.fs.Drop(f)
	data -= 100 << 10
	meta -= vfs.MeteredFile(0) + vfs.MeteredXattr("name", len("longer value"))
	check("dropped")
	e.ok(e.rename(nil, d, "r", root, "x"), "rename")
	e.file("y")
	e.ok(e.rename(nil, root, "y", root, "x"), "rename over")
	data = 0
	check("replaced")
}

// testQuota fills a file system up to its quota.
func testQuota(e *env) {
	root := e.fs.Root()
	f := e.file("f")
	st := e.stat()
	if st.QuotaBytes != 0 {
		e.Errorf("quota of %d from the start", st.QuotaBytes)
	}
	used := st.MeteredMetadataBytes
	e.setQuota(used + 10*block)
	if st = e.stat(); st.QuotaBytes != used+10*block || st.AvailBytes != 10*block || st.FreeBytes != 10*block || st.TotalBytes != used+10*block {
		e.Errorf("with a quota: %+v", st)
	}
	write := func(offset uint64, blocks int) error {
		_, err := e.fs.Write(ctx, nil, false, f, offset, pattern(blocks*block, 1), vfs.Unstable)
		return err
	}
	e.want(write(0, 11), vfs.ErrQuota, "write of more")
	e.want(write(0, 30), vfs.ErrQuota, "large write of more")
	if a := e.attr(f); a.Size != 0 || a.Used != 0 {
		e.Errorf("after refused writes: %+v", a)
	}
	e.ok(write(0, 8), "write")
	for range 5 {
		e.ok(write(0, 8), "write of the same")
	}
	e.want(write(7*block, 4), vfs.ErrQuota, "write of too much at the end")
	e.ok(write(7*block, 3), "write up to the quota")
	e.ok(e.fs.Commit(ctx, f, 0, 0), "commit")
	_, err := e.make(nil, root, "g", vfs.Regular, 0)
	e.want(err, vfs.ErrQuota, "create")
	var a vfs.Attr
	_, err = e.fs.Link(ctx, nil, f, root, "g", &a)
	e.want(err, vfs.ErrQuota, "link")
	e.want(e.rename(nil, root, "f", root, "longer"), vfs.ErrQuota, "rename to a longer name")
	_, err = e.fs.SetXattr(ctx, nil, f, "x", nil, vfs.XattrEither)
	e.want(err, vfs.ErrQuota, "extended attribute")
	e.want(e.fs.Allocate(ctx, nil, f, 9*block, 2*block, &a), vfs.ErrQuota, "allocate")
	e.want(e.fs.Clone(ctx, nil, f, f, 0, 20*block, block, &a), vfs.ErrQuota, "clone")
	e.ok(e.fs.Clone(ctx, nil, f, f, 0, 5*block, 5*block, &a), "clone over something")
	if st = e.stat(); st.AvailBytes != 0 || st.MeteredDataBytes != 10*block {
		e.Errorf("full: %+v", st)
	}
	e.deallocate(f, 0, block)
	e.file("g")
	e.setQuota(block)
	e.ok(write(2*block, 3), "write over something, beyond the quota")
	e.want(write(0, 1), vfs.ErrQuota, "write into the hole, beyond the quota")
	if st = e.stat(); st.AvailBytes != 0 || st.FreeBytes != 0 {
		e.Errorf("beyond the quota: %+v", st)
	}
	e.ok(e.remove(root, "f"), "remove")
	e.setQuota(0)
	e.ok(e.fs.Allocate(ctx, nil, e.file("h"), 0, 100*block, &a), "allocate without a quota")
}
