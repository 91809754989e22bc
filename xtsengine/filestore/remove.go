package filestore

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// Remove implements vfs.FileSystem.
func (s *Store) Remove(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, name string,
	removed *vfs.Attr) (info vfs.ChangeInfo, err error) {
	if err := s.enter(ctx); err != nil {
		return info, err
	}
	defer s.life.RUnlock()
	if err := vfs.CheckName(name); err != nil {
		return info, err
	}
	s.stats.namespace.Add(1)
	d := s.pin(dir.Inode)
	defer s.unpin(d)
	err = retry(ctx, func() error {
		child, e, err := s.findIn(d, cred, dir, name)
		if err != nil {
			return err
		}
		if child == nil {
			return vfs.ErrNotFound
		}
		defer s.unpin(child)
		info, err = s.remove(d, child, cred, dir, &e, removed, vfs.MarkOf(ctx))
		return err
	})
	return info, err
}

// remove takes the entry e, which stands for child, out of d.
func (s *Store) remove(d, child *inode, cred *vfs.Cred, dir vfs.FileID, e *dirent,
	removed *vfs.Attr, mark *vfs.Mark) (vfs.ChangeInfo, error) {
	g := new(grave)
	b, info, err := s.applyRemove(d, child, cred, dir, e, removed, g, mark)
	if err != nil {
		return info, err
	}
	if err := s.settle(b); err != nil {
		return info, err
	}
	s.clear(g)
	return info, nil
}

func (s *Store) applyRemove(d, child *inode, cred *vfs.Cred, dir vfs.FileID, e *dirent, removed *vfs.Attr,
	g *grave, mark *vfs.Mark) (b *pebble.Batch, info vfs.ChangeInfo, err error) {
	locked := lockAll(d, child)
	defer unlockAll(locked)
	if err := d.checkDir(dir, cred, vfs.MayExecute); err != nil {
		return nil, info, err
	}
	if err := s.checkEntry(d, child, e); err != nil {
		return nil, info, err
	}
	if err := vfs.CheckUnlink(&d.rec.attr, &child.rec.attr, cred); err != nil {
		return nil, info, err
	}
	if child.rec.attr.Kind == vfs.Directory && child.rec.entries > 0 {
		return nil, info, vfs.ErrNotEmpty
	}
	b = s.db.NewBatch()
	u := unlinking{child: child, grave: g}
	if err := s.prepareUnlink(b, &u); err != nil {
		return nil, info, err
	}
	change, err := s.changes.take(s)
	if err != nil {
		return nil, info, err
	}
	was, dirWas := child.rec, d.rec
	s.unlink(b, d, &u)
	dropEntry(b, d, e)
	info = s.touchDir(b, d, change)
	leaveMark(b, mark, vfs.Done{Change: info})
	if err := s.applyGrave(b, g, -int64(vfs.MeteredName(e.name))); err != nil {
		child.rec, d.rec = was, dirWas
		return nil, info, err
	}
	s.finishUnlink(&u, removed)
	return b, info, nil
}

// checkEntry returns nil if e is still d's entry for child, else errRaced; both mus are held.
func (s *Store) checkEntry(d, child *inode, e *dirent) error {
	now, found, err := s.findName(d.number, e.name)
	switch {
	case err != nil:
		return err
	case child.loadErr != nil:
		return child.loadErr
	case !found || now.id != e.id || now.cookie != e.cookie || child.check(e.id) != nil:
		return errRaced
	}
	return nil
}

// unlinking is the loss of one name.
type unlinking struct {
	child  *inode
	grave  *grave
	last   bool // it was the last one
	change uint64
}

// prepareUnlink does what can fail of the loss of one of child's names. child's mu is held alone.
func (s *Store) prepareUnlink(b *pebble.Batch, u *unlinking) (err error) {
	child := u.child
	u.last = child.rec.attr.Links <= 1 || child.rec.attr.Kind == vfs.Directory
	if u.change, err = s.changes.take(s); err != nil {
		return err
	}
	if u.last && child.holds == 0 {
		return s.kill(b, child, u.grave)
	}
	return nil
}

// unlink takes a name off child's count, and off that of its parent directory d a subdirectory.
func (s *Store) unlink(b *pebble.Batch, d *inode, u *unlinking) {
	child := u.child
	a := &child.rec.attr
	a.Links--
	if a.Kind == vfs.Directory {
		a.Links = 0
		d.rec.attr.Links--
	}
	a.CTime, a.Change = s.now(), u.change
	switch {
	case u.last && child.holds == 0: // killed
	case u.last:
		set(b, numberKey(tableOrphan, child.number), nil)
		child.put(b)
	default:
		child.put(b)
	}
}

// finishUnlink follows when the batch has been applied.
func (s *Store) finishUnlink(u *unlinking, removed *vfs.Attr) {
	u.child.fill(removed)
	if u.last && u.child.holds == 0 {
		s.bury(u.child, u.grave)
	}
}
