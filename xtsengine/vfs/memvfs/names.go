package memvfs

import (
	"context"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// Create implements vfs.FileSystem.
func (fs *FS) Create(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, name string, req *vfs.CreateRequest,
	out *vfs.CreateResult) error {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return err
	}
	if err := vfs.CheckName(name); err != nil {
		return err
	}
	if err := req.Check(cred); err != nil {
		return err
	}
	d, err := fs.lookupDir(dir, cred, vfs.MayExecute)
	if err != nil {
		return err
	}
	if e := d.dir.byName[name]; e != nil {
		return takeExisting(d, fs.nodes[e.inode], req, out)
	}
	if err := fs.makeFile(d, cred, name, req, out); err != nil {
		return err
	}
	fs.leaveMark(ctx, vfs.Done{File: out.Attr.ID, Change: out.Dir})
	return nil
}

// takeExisting is Create for a name that is there.
func takeExisting(d, n *node, req *vfs.CreateRequest, out *vfs.CreateResult) error {
	switch {
	case req.Mode == vfs.Guarded:
		return vfs.ErrExist
	case req.Mode == vfs.Exclusive && (n.attr.Kind != vfs.Regular || !req.Finds(n.verifier)):
		return vfs.ErrExist
	case n.attr.Kind == vfs.Directory:
		return vfs.ErrIsDir
	case n.attr.Kind != vfs.Regular:
		return vfs.ErrWrongType
	}
	out.Existed = true
	n.fill(&out.Attr)
	out.Dir = vfs.ChangeInfo{Before: d.attr.Change, After: d.attr.Change}
	return nil
}

// makeFile is Create for a free name.
func (fs *FS) makeFile(d *node, cred *vfs.Cred, name string, req *vfs.CreateRequest, out *vfs.CreateResult) error {
	if !vfs.Permitted(&d.attr, cred, vfs.MayWrite) {
		return vfs.ErrAccess
	}
	if d.attr.Links == 0 {
		return vfs.ErrNotFound
	}
	attr, err := vfs.NewAttr(&d.attr, cred, req, fs.now())
	if err != nil {
		return err
	}
	target := 0
	if req.Kind == vfs.Symlink {
		target = len(req.Target)
	}
	if err := fs.checkQuota(vfs.MeteredFile(target) + vfs.MeteredName(name)); err != nil {
		return err
	}
	if uint64(len(fs.nodes)) >= fs.opts.MaxFiles {
		return vfs.ErrNoSpace
	}
	n := fs.newNode(attr, d.attr.ID)
	n.target = req.Target
	if req.Mode == vfs.Exclusive {
		n.verifier = req.Verifier
	}
	if n.dir != nil {
		d.attr.Links++
	}
	fs.add(d, name, n.attr.ID.Inode)
	out.Existed = false
	out.Dir = fs.touchDir(d)
	n.fill(&out.Attr)
	return nil
}

// touchDir records that d's entries changed.
func (fs *FS) touchDir(d *node) vfs.ChangeInfo {
	before := d.attr.Change
	fs.touch(d, true)
	return vfs.ChangeInfo{Before: before, After: d.attr.Change}
}

// Link implements vfs.FileSystem.
func (fs *FS) Link(ctx context.Context, cred *vfs.Cred, id, dir vfs.FileID, name string,
	out *vfs.Attr) (vfs.ChangeInfo, error) {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return vfs.ChangeInfo{}, err
	}
	if err := vfs.CheckName(name); err != nil {
		return vfs.ChangeInfo{}, err
	}
	n, err := fs.lookupID(id)
	if err != nil {
		return vfs.ChangeInfo{}, err
	}
	d, err := fs.lookupDir(dir, cred, vfs.MayExecute)
	if err != nil {
		return vfs.ChangeInfo{}, err
	}
	if err := checkLink(n, d, cred, name); err != nil {
		return vfs.ChangeInfo{}, err
	}
	if err := fs.checkQuota(vfs.MeteredName(name)); err != nil {
		return vfs.ChangeInfo{}, err
	}
	n.attr.Links++
	fs.touch(n, false)
	fs.add(d, name, id.Inode)
	n.fill(out)
	info := fs.touchDir(d)
	fs.leaveMark(ctx, vfs.Done{Change: info})
	return info, nil
}

func checkLink(n, d *node, cred *vfs.Cred, name string) error {
	switch {
	case n.dir != nil:
		return vfs.ErrIsDir
	case d.dir.byName[name] != nil:
		return vfs.ErrExist
	case !vfs.Permitted(&d.attr, cred, vfs.MayWrite):
		return vfs.ErrAccess
	case n.attr.Links == 0 || d.attr.Links == 0:
		return vfs.ErrNotFound
	case n.attr.Links >= vfs.MaxLinks:
		return vfs.ErrTooManyLinks
	}
	return nil
}

// Remove implements vfs.FileSystem.
func (fs *FS) Remove(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, name string,
	removed *vfs.Attr) (vfs.ChangeInfo, error) {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return vfs.ChangeInfo{}, err
	}
	if err := vfs.CheckName(name); err != nil {
		return vfs.ChangeInfo{}, err
	}
	d, n, err := fs.find(dir, cred, name)
	switch {
	case err != nil:
		return vfs.ChangeInfo{}, err
	case n == nil:
		return vfs.ChangeInfo{}, vfs.ErrNotFound
	}
	if err := vfs.CheckUnlink(&d.attr, &n.attr, cred); err != nil {
		return vfs.ChangeInfo{}, err
	}
	if n.dir != nil && len(n.dir.byName) > 0 {
		return vfs.ChangeInfo{}, vfs.ErrNotEmpty
	}
	fs.removeName(d, name)
	fs.unlink(d, n, removed)
	info := fs.touchDir(d)
	fs.leaveMark(ctx, vfs.Done{Change: info})
	return info, nil
}

// unlink takes a name of n, which is out of d already, off its count.
func (fs *FS) unlink(d, n *node, removed *vfs.Attr) {
	n.attr.Links--
	if n.dir != nil {
		n.attr.Links = 0
		d.attr.Links--
	}
	fs.touch(n, false)
	n.fill(removed)
	fs.release(n)
}

// add puts a name into d, removeName takes one out.
func (fs *FS) add(d *node, name string, inode uint64) {
	d.dir.add(name, inode)
	fs.metered += vfs.MeteredName(name)
}

func (fs *FS) removeName(d *node, name string) {
	d.dir.remove(name)
	fs.metered -= vfs.MeteredName(name)
}

// find looks a directory up, and name in it: nil if the name is free.
func (fs *FS) find(dir vfs.FileID, cred *vfs.Cred, name string) (d, n *node, err error) {
	d, err = fs.lookupDir(dir, cred, vfs.MayExecute)
	if err != nil {
		return nil, nil, err
	}
	if e := d.dir.byName[name]; e != nil {
		n = fs.nodes[e.inode]
	}
	return d, n, nil
}

// Rename implements vfs.FileSystem.
func (fs *FS) Rename(ctx context.Context, cred *vfs.Cred, srcDir vfs.FileID, srcName string, dstDir vfs.FileID,
	dstName string, replaced *vfs.Attr) (src, dst vfs.ChangeInfo, err error) {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return src, dst, err
	}
	for _, name := range []string{srcName, dstName} {
		if err := vfs.CheckName(name); err != nil {
			return src, dst, err
		}
	}
	sd, sn, err := fs.find(srcDir, cred, srcName)
	if err != nil {
		return src, dst, err
	}
	dd, dn, err := fs.find(dstDir, cred, dstName)
	if err != nil {
		return src, dst, err
	}
	*replaced = vfs.Attr{}
	if sn != nil && sn == dn {
		return still(sd), still(dd), nil
	}
	if err := fs.checkRename(sd, sn, dd, dn, cred); err != nil {
		return src, dst, err
	}
	if dn == nil && len(dstName) > len(srcName) {
		if err := fs.checkQuota(uint64(len(dstName) - len(srcName))); err != nil {
			return src, dst, err
		}
	}
	src, dst = fs.move(sd, srcName, dd, dstName, sn, dn, replaced)
	fs.leaveMark(ctx, vfs.Done{Change: src, Target: dst})
	return src, dst, nil
}

// still is the change information of a directory that did not change.
func still(d *node) vfs.ChangeInfo {
	return vfs.ChangeInfo{Before: d.attr.Change, After: d.attr.Change}
}

func (fs *FS) checkRename(sd, sn, dd, dn *node, cred *vfs.Cred) error {
	if sn == nil {
		return vfs.ErrNotFound
	}
	if sn.dir != nil && fs.inside(dd, sn) {
		return vfs.ErrInvalid
	}
	var over *vfs.Attr
	if dn != nil {
		over = &dn.attr
	}
	if err := vfs.CheckRename(&sd.attr, &sn.attr, &dd.attr, over, cred); err != nil {
		return err
	}
	if dd.attr.Links == 0 {
		return vfs.ErrNotFound
	}
	if dn != nil && dn.dir != nil && len(dn.dir.byName) > 0 {
		return vfs.ErrNotEmpty
	}
	return nil
}

// inside says whether d is top or lies below it.
func (fs *FS) inside(d, top *node) bool {
	for d != top {
		if d.attr.ID == fs.root || d.attr.Links == 0 {
			return false
		}
		d = fs.nodes[d.dir.parent.Inode]
	}
	return true
}

func (fs *FS) move(sd *node, srcName string, dd *node, dstName string, sn, dn *node,
	replaced *vfs.Attr) (src, dst vfs.ChangeInfo) {
	moved := sd.dir.byName[srcName]
	switch {
	case dn != nil: // the entry stays, with its cookie, and stands for another file
		dd.dir.byName[dstName].inode = sn.attr.ID.Inode
		fs.removeName(sd, srcName)
		fs.unlink(dd, dn, replaced)
	case sd == dd: // the entry stays, with its cookie, under another name
		delete(sd.dir.byName, srcName)
		moved.name = dstName
		sd.dir.byName[dstName] = moved
		fs.metered += vfs.MeteredName(dstName) - vfs.MeteredName(srcName)
	default:
		fs.removeName(sd, srcName)
		fs.add(dd, dstName, sn.attr.ID.Inode)
	}
	if sn.dir != nil && sd != dd {
		sd.attr.Links--
		dd.attr.Links++
		sn.dir.parent = dd.attr.ID
	}
	fs.touch(sn, false)
	src = fs.touchDir(sd)
	if sd == dd {
		return src, src
	}
	return src, fs.touchDir(dd)
}
