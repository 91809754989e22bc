package memvfs

import (
	"cmp"
	"context"
	"slices"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// directory is the content of a directory.
type directory struct {
	parent     vfs.FileID
	byName     map[string]*entry
	order      []*entry // by cookie
	nextCookie uint64
}

type entry struct {
	name   string
	cookie uint64
	inode  uint64
}

func newDirectory(parent vfs.FileID) *directory {
	return &directory{parent: parent, byName: map[string]*entry{}, nextCookie: vfs.FirstCookie}
}

func (d *directory) add(name string, inode uint64) {
	e := &entry{name: name, cookie: d.nextCookie, inode: inode}
	d.nextCookie++
	d.byName[name] = e
	d.order = append(d.order, e)
}

func (d *directory) remove(name string) {
	e := d.byName[name]
	delete(d.byName, name)
	i := d.search(e.cookie)
	d.order = slices.Delete(d.order, i, i+1)
}

// search returns the index of the first entry whose cookie is at least cookie.
func (d *directory) search(cookie uint64) int {
	i, _ := slices.BinarySearchFunc(d.order, cookie, func(e *entry, c uint64) int { return cmp.Compare(e.cookie, c) })
	return i
}

// Lookup implements vfs.FileSystem.
func (fs *FS) Lookup(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, name string, out *vfs.Attr) error {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return err
	}
	if err := vfs.CheckName(name); err != nil {
		return err
	}
	d, err := fs.lookupDir(dir, cred, vfs.MayExecute)
	if err != nil {
		return err
	}
	e := d.dir.byName[name]
	if e == nil {
		return vfs.ErrNotFound
	}
	fs.nodes[e.inode].fill(out)
	return nil
}

// LookupParent implements vfs.FileSystem.
func (fs *FS) LookupParent(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, out *vfs.Attr) error {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return err
	}
	d, err := fs.lookupDir(dir, cred, vfs.MayExecute)
	if err != nil {
		return err
	}
	if dir == fs.root {
		return vfs.ErrNotFound
	}
	p, err := fs.lookupID(d.dir.parent)
	if err != nil {
		return err
	}
	p.fill(out)
	return nil
}

// ReadDir implements vfs.FileSystem.
func (fs *FS) ReadDir(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, after uint64, withAttr bool,
	visit func(*vfs.DirEntry) bool) (bool, error) {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return false, err
	}
	d, err := fs.lookupDir(dir, cred, vfs.MayRead)
	if err != nil {
		return false, err
	}
	if after != 0 && after < vfs.FirstCookie {
		return false, vfs.ErrBadCookie
	}
	if after == 1<<64-1 {
		return true, nil
	}
	var out vfs.DirEntry
	for _, e := range d.dir.order[d.dir.search(after+1):] {
		out = vfs.DirEntry{Name: e.name, Cookie: e.cookie}
		n := fs.nodes[e.inode]
		if withAttr {
			n.fill(&out.Attr)
		} else {
			out.Attr.ID, out.Attr.Kind = n.attr.ID, n.attr.Kind
		}
		if !visit(&out) {
			return false, nil
		}
	}
	return true, nil
}

// Readlink implements vfs.FileSystem.
func (fs *FS) Readlink(ctx context.Context, _ *vfs.Cred, id vfs.FileID) (string, error) {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return "", err
	}
	n, err := fs.lookupID(id)
	switch {
	case err != nil:
		return "", err
	case n.attr.Kind != vfs.Symlink:
		return "", vfs.ErrInvalid
	}
	return n.target, nil
}
