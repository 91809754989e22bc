package memvfs

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// xattr is an extended attribute. Its cookie is the change attribute of when it was made.
type xattr struct {
	value  []byte
	cookie uint64
}

// GetXattr implements vfs.FileSystem.
func (fs *FS) GetXattr(ctx context.Context, cred *vfs.Cred, id vfs.FileID, name string) ([]byte, error) {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return nil, err
	}
	if err := vfs.CheckXattrName(name); err != nil {
		return nil, err
	}
	n, err := fs.lookupID(id)
	if err != nil {
		return nil, err
	}
	if err := vfs.CheckXattrRead(&n.attr, cred); err != nil {
		return nil, err
	}
	x := n.xattrs[name]
	if x == nil {
		return nil, vfs.ErrNoXattr
	}
	return bytes.Clone(x.value), nil
}

// SetXattr implements vfs.FileSystem.
func (fs *FS) SetXattr(ctx context.Context, cred *vfs.Cred, id vfs.FileID, name string, value []byte,
	mode vfs.XattrMode) (vfs.ChangeInfo, error) {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return vfs.ChangeInfo{}, err
	}
	if err := vfs.CheckXattrName(name); err != nil {
		return vfs.ChangeInfo{}, err
	}
	if len(value) > vfs.MaxXattrValueBytes {
		return vfs.ChangeInfo{}, vfs.ErrXattrTooBig
	}
	n, err := fs.lookupID(id)
	if err != nil {
		return vfs.ChangeInfo{}, err
	}
	if err := vfs.CheckXattrWrite(&n.attr, cred); err != nil {
		return vfs.ChangeInfo{}, err
	}
	x := n.xattrs[name]
	if err := vfs.CheckXattrMode(mode, x != nil); err != nil {
		return vfs.ChangeInfo{}, err
	}
	if err := fs.growXattrs(n, name, x, len(value)); err != nil {
		return vfs.ChangeInfo{}, err
	}
	info := fs.touchXattr(n)
	if x == nil {
		x = &xattr{cookie: info.After}
		if n.xattrs == nil {
			n.xattrs = map[string]*xattr{}
		}
		n.xattrs[name] = x
	}
	x.value = bytes.Clone(value)
	fs.leaveMark(ctx, vfs.Done{Change: info})
	return info, nil
}

// growXattrs checks the bounds of what name counts, x before (nil: nothing) and a value of so many
// bytes afterwards, and counts it.
func (fs *FS) growXattrs(n *node, name string, x *xattr, valueBytes int) error {
	was, now, all := uint64(0), vfs.MeteredXattr(name, valueBytes), uint64(0)
	if x != nil {
		was = vfs.MeteredXattr(name, len(x.value))
	}
	for name, x := range n.xattrs {
		all += vfs.MeteredXattr(name, len(x.value))
	}
	if now > was {
		if all-was+now > vfs.MaxXattrBytes {
			return vfs.ErrNoSpace
		}
		if err := fs.checkQuota(now - was); err != nil {
			return err
		}
	}
	fs.metered += now - was
	return nil
}

// touchXattr records a change of n's extended attributes.
func (fs *FS) touchXattr(n *node) vfs.ChangeInfo {
	before := n.attr.Change
	fs.touch(n, false)
	return vfs.ChangeInfo{Before: before, After: n.attr.Change}
}

// ListXattrs implements vfs.FileSystem.
func (fs *FS) ListXattrs(ctx context.Context, cred *vfs.Cred, id vfs.FileID, cookie uint64,
	yield func(name string, cookie uint64) bool) (bool, error) {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return false, err
	}
	n, err := fs.lookupID(id)
	if err != nil {
		return false, err
	}
	if err := vfs.CheckXattrList(&n.attr, cred); err != nil {
		return false, err
	}
	names := make([]string, 0, len(n.xattrs))
	for name := range n.xattrs {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(n.xattrs[a].cookie, n.xattrs[b].cookie) })
	for _, name := range names {
		if c := n.xattrs[name].cookie; c > cookie && !yield(name, c) {
			return true, nil
		}
	}
	return false, nil
}

// RemoveXattr implements vfs.FileSystem.
func (fs *FS) RemoveXattr(ctx context.Context, cred *vfs.Cred, id vfs.FileID, name string) (vfs.ChangeInfo, error) {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return vfs.ChangeInfo{}, err
	}
	if err := vfs.CheckXattrName(name); err != nil {
		return vfs.ChangeInfo{}, err
	}
	n, err := fs.lookupID(id)
	if err != nil {
		return vfs.ChangeInfo{}, err
	}
	if err := vfs.CheckXattrWrite(&n.attr, cred); err != nil {
		return vfs.ChangeInfo{}, err
	}
	x := n.xattrs[name]
	if x == nil {
		return vfs.ChangeInfo{}, vfs.ErrNoXattr
	}
	fs.metered -= vfs.MeteredXattr(name, len(x.value))
	delete(n.xattrs, name)
	info := fs.touchXattr(n)
	fs.leaveMark(ctx, vfs.Done{Change: info})
	return info, nil
}
