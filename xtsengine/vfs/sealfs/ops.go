package sealfs

import (
	"context"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// StatFS implements vfs.FileSystem.
func (f *FS) StatFS(ctx context.Context, out *vfs.StatFS) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return inner.StatFS(ctx, out)
}

// GetAttr implements vfs.FileSystem.
func (f *FS) GetAttr(ctx context.Context, id vfs.FileID, out *vfs.Attr) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return inner.GetAttr(ctx, id, out)
}

// SetAttr implements vfs.FileSystem.
func (f *FS) SetAttr(ctx context.Context, cred *vfs.Cred, id vfs.FileID, set *vfs.SetAttr, out *vfs.Attr) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return inner.SetAttr(ctx, cred, id, set, out)
}

// Lookup implements vfs.FileSystem.
func (f *FS) Lookup(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, name string, out *vfs.Attr) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return inner.Lookup(ctx, cred, dir, name, out)
}

// LookupParent implements vfs.FileSystem.
func (f *FS) LookupParent(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, out *vfs.Attr) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return inner.LookupParent(ctx, cred, dir, out)
}

// Readlink implements vfs.FileSystem.
func (f *FS) Readlink(ctx context.Context, cred *vfs.Cred, id vfs.FileID) (target string, err error) {
	inner, err := f.enter()
	if err != nil {
		return target, err
	}
	defer f.mu.RUnlock()
	return inner.Readlink(ctx, cred, id)
}

// Create implements vfs.FileSystem.
func (f *FS) Create(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, name string, req *vfs.CreateRequest,
	out *vfs.CreateResult) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return inner.Create(ctx, cred, dir, name, req, out)
}

// Link implements vfs.FileSystem.
func (f *FS) Link(ctx context.Context, cred *vfs.Cred, id, dir vfs.FileID, name string,
	out *vfs.Attr) (info vfs.ChangeInfo, err error) {
	inner, err := f.enter()
	if err != nil {
		return info, err
	}
	defer f.mu.RUnlock()
	return inner.Link(ctx, cred, id, dir, name, out)
}

// Remove implements vfs.FileSystem.
func (f *FS) Remove(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, name string,
	removed *vfs.Attr) (info vfs.ChangeInfo, err error) {
	inner, err := f.enter()
	if err != nil {
		return info, err
	}
	defer f.mu.RUnlock()
	return inner.Remove(ctx, cred, dir, name, removed)
}

// Rename implements vfs.FileSystem.
func (f *FS) Rename(ctx context.Context, cred *vfs.Cred, srcDir vfs.FileID, srcName string,
	dstDir vfs.FileID, dstName string, replaced *vfs.Attr) (src, dst vfs.ChangeInfo, err error) {
	inner, err := f.enter()
	if err != nil {
		return src, dst, err
	}
	defer f.mu.RUnlock()
	return inner.Rename(ctx, cred, srcDir, srcName, dstDir, dstName, replaced)
}

// ReadDir implements vfs.FileSystem.
func (f *FS) ReadDir(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, after uint64, withAttr bool,
	visit func(entry *vfs.DirEntry) bool) (eof bool, err error) {
	inner, err := f.enter()
	if err != nil {
		return eof, err
	}
	defer f.mu.RUnlock()
	return inner.ReadDir(ctx, cred, dir, after, withAttr, visit)
}

// Read implements vfs.FileSystem.
func (f *FS) Read(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset uint64, p []byte) (n int,
	eof bool, err error) {
	inner, err := f.enter()
	if err != nil {
		return n, eof, err
	}
	defer f.mu.RUnlock()
	return inner.Read(ctx, cred, id, offset, p)
}

// Lend implements vfs.Lender, if what is below does. A Seal does not wait until a loan is returned.
func (f *FS) Lend(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset uint64, length int) (vfs.Loan, bool) {
	inner, err := f.enter()
	if err != nil {
		return nil, false
	}
	defer f.mu.RUnlock()
	lender, ok := inner.(vfs.Lender)
	if !ok {
		return nil, false
	}
	return lender.Lend(ctx, cred, id, offset, length)
}

// Write implements vfs.FileSystem.
func (f *FS) Write(ctx context.Context, writer *vfs.Cred, check bool, id vfs.FileID, offset uint64, p []byte,
	want vfs.Stability) (how vfs.Stability, err error) {
	inner, err := f.enter()
	if err != nil {
		return how, err
	}
	defer f.mu.RUnlock()
	return inner.Write(ctx, writer, check, id, offset, p, want)
}

// Commit implements vfs.FileSystem.
func (f *FS) Commit(ctx context.Context, id vfs.FileID, offset, length uint64) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return inner.Commit(ctx, id, offset, length)
}

// Allocate implements vfs.FileSystem.
func (f *FS) Allocate(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset, length uint64, out *vfs.Attr) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return inner.Allocate(ctx, cred, id, offset, length, out)
}

// Deallocate implements vfs.FileSystem.
func (f *FS) Deallocate(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset, length uint64, out *vfs.Attr) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return inner.Deallocate(ctx, cred, id, offset, length, out)
}

// Seek implements vfs.FileSystem.
func (f *FS) Seek(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset uint64,
	what vfs.SeekWhat) (at uint64, err error) {
	inner, err := f.enter()
	if err != nil {
		return at, err
	}
	defer f.mu.RUnlock()
	return inner.Seek(ctx, cred, id, offset, what)
}

// Clone implements vfs.FileSystem.
func (f *FS) Clone(ctx context.Context, cred *vfs.Cred, src, dst vfs.FileID, srcOffset, dstOffset,
	length uint64, out *vfs.Attr) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return inner.Clone(ctx, cred, src, dst, srcOffset, dstOffset, length, out)
}

// GetXattr implements vfs.FileSystem.
func (f *FS) GetXattr(ctx context.Context, cred *vfs.Cred, id vfs.FileID, name string) (value []byte, err error) {
	inner, err := f.enter()
	if err != nil {
		return value, err
	}
	defer f.mu.RUnlock()
	return inner.GetXattr(ctx, cred, id, name)
}

// SetXattr implements vfs.FileSystem.
func (f *FS) SetXattr(ctx context.Context, cred *vfs.Cred, id vfs.FileID, name string, value []byte,
	mode vfs.XattrMode) (info vfs.ChangeInfo, err error) {
	inner, err := f.enter()
	if err != nil {
		return info, err
	}
	defer f.mu.RUnlock()
	return inner.SetXattr(ctx, cred, id, name, value, mode)
}

// ListXattrs implements vfs.FileSystem.
func (f *FS) ListXattrs(ctx context.Context, cred *vfs.Cred, id vfs.FileID, cookie uint64,
	yield func(name string, cookie uint64) bool) (more bool, err error) {
	inner, err := f.enter()
	if err != nil {
		return more, err
	}
	defer f.mu.RUnlock()
	return inner.ListXattrs(ctx, cred, id, cookie, yield)
}

// RemoveXattr implements vfs.FileSystem.
func (f *FS) RemoveXattr(ctx context.Context, cred *vfs.Cred, id vfs.FileID, name string) (info vfs.ChangeInfo, err error) {
	inner, err := f.enter()
	if err != nil {
		return info, err
	}
	defer f.mu.RUnlock()
	return inner.RemoveXattr(ctx, cred, id, name)
}

// PutClientRecord implements vfs.FileSystem.
func (f *FS) PutClientRecord(ctx context.Context, key, value []byte) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return inner.PutClientRecord(ctx, key, value)
}

// DeleteClientRecord implements vfs.FileSystem.
func (f *FS) DeleteClientRecord(ctx context.Context, key []byte) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return inner.DeleteClientRecord(ctx, key)
}

// EachClientRecord implements vfs.FileSystem.
func (f *FS) EachClientRecord(ctx context.Context, visit func(key, value []byte) error) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return inner.EachClientRecord(ctx, visit)
}

// EachMark implements vfs.FileSystem.
func (f *FS) EachMark(ctx context.Context, visit func(key, note []byte, done vfs.Done) error) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return inner.EachMark(ctx, visit)
}

// DropMarks implements vfs.FileSystem.
func (f *FS) DropMarks(ctx context.Context, from, to []byte) error {
	inner, err := f.enter()
	if err != nil {
		return err
	}
	defer f.mu.RUnlock()
	return inner.DropMarks(ctx, from, to)
}
