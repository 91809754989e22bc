package filestore

import (
	"context"
	"fmt"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// maxRetries is how often an operation starts anew because names changed between its steps. Beyond it
// they do not fit together, which is damage.
const maxRetries = 1000

// errRaced is how a step says that names have changed meanwhile.
var errRaced = fmt.Errorf("filestore: names and inodes do not fit together: %w", vfs.ErrCorrupt)

// retry calls step until it does not say errRaced.
func retry(ctx context.Context, step func() error) error {
	for range maxRetries {
		if err := step(); err != errRaced {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return errRaced
}

// findName looks a name up in a directory; the caller holds the directory's mu.
func (s *Store) findName(dir uint64, name string) (d dirent, found bool, err error) {
	found, err = s.get(nameKey(dir, name), func(value []byte) (err error) {
		d, err = decodeNameValue(dir, name, value)
		return err
	})
	return d, found, err
}

// findIn looks a name up in a directory that cred may search. child, if the name is there, is pinned.
func (s *Store) findIn(i *inode, cred *vfs.Cred, dir vfs.FileID, name string) (child *inode, d dirent, err error) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if err := i.checkDir(dir, cred, vfs.MayExecute); err != nil {
		return nil, d, err
	}
	d, found, err := s.findName(i.number, name)
	if err != nil || !found {
		return nil, d, err
	}
	return s.pin(d.id.Inode), d, nil
}

// Lookup implements vfs.FileSystem.
func (s *Store) Lookup(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, name string, out *vfs.Attr) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	if err := vfs.CheckName(name); err != nil {
		return err
	}
	i := s.pin(dir.Inode)
	defer s.unpin(i)
	return retry(ctx, func() error {
		child, d, err := s.findIn(i, cred, dir, name)
		if err != nil {
			return err
		}
		if child == nil {
			return vfs.ErrNotFound
		}
		defer s.unpin(child)
		return child.read(d.id, out)
	})
}

// read fills out for a file that a name stands for.
func (i *inode) read(id vfs.FileID, out *vfs.Attr) error {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if i.loadErr != nil {
		return i.loadErr
	}
	if i.check(id) != nil {
		return errRaced
	}
	i.fill(out)
	return nil
}

// LookupParent implements vfs.FileSystem.
func (s *Store) LookupParent(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, out *vfs.Attr) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	i := s.pin(dir.Inode)
	defer s.unpin(i)
	return retry(ctx, func() error {
		i.mu.RLock()
		err := i.checkDir(dir, cred, vfs.MayExecute)
		parent, links := i.rec.parent, i.rec.attr.Links
		i.mu.RUnlock()
		if err != nil {
			return err
		}
		if dir == s.root {
			return vfs.ErrNotFound
		}
		p := s.pin(parent.Inode)
		defer s.unpin(p)
		err = p.read(parent, out)
		if err == errRaced && links == 0 {
			return vfs.ErrStale // the directory was removed, and its parent too
		}
		return err
	})
}

// Readlink implements vfs.FileSystem. It needs no permission.
func (s *Store) Readlink(ctx context.Context, _ *vfs.Cred, id vfs.FileID) (string, error) {
	if err := s.enter(ctx); err != nil {
		return "", err
	}
	defer s.life.RUnlock()
	i := s.pin(id.Inode)
	defer s.unpin(i)
	i.mu.RLock()
	defer i.mu.RUnlock()
	if err := i.check(id); err != nil {
		return "", err
	}
	if i.rec.attr.Kind != vfs.Symlink {
		return "", vfs.ErrInvalid
	}
	return i.rec.target, nil
}
