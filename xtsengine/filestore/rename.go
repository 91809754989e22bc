package filestore

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// renaming is one Rename on its way. The inodes are pinned; dn is nil if the new name is free.
type renaming struct {
	cred             *vfs.Cred
	srcDir, dstDir   vfs.FileID
	srcName, dstName string
	replaced         *vfs.Attr
	mark             *vfs.Mark // nil: none

	sd, dd, sn, dn *inode
	from, to       dirent
	loop           bool // the new directory is the file itself or below it

	more     int64 // bytes that names count
	admitted admission

	grave    grave
	src, dst vfs.ChangeInfo
}

// Rename implements vfs.FileSystem. In one directory an entry keeps its cookie; over an existing name
// it takes over that one's.
func (s *Store) Rename(ctx context.Context, cred *vfs.Cred, srcDir vfs.FileID, srcName string, dstDir vfs.FileID,
	dstName string, replaced *vfs.Attr) (src, dst vfs.ChangeInfo, err error) {
	if err := s.enter(ctx); err != nil {
		return src, dst, err
	}
	defer s.life.RUnlock()
	for _, name := range []string{srcName, dstName} {
		if err := vfs.CheckName(name); err != nil {
			return src, dst, err
		}
	}
	s.stats.namespace.Add(1)
	r := renaming{cred: cred, srcDir: srcDir, dstDir: dstDir, srcName: srcName, dstName: dstName, replaced: replaced,
		mark: vfs.MarkOf(ctx)}
	r.sd, r.dd = s.pin(srcDir.Inode), s.pin(dstDir.Inode)
	defer s.unpin(r.sd)
	defer s.unpin(r.dd)
	err = s.withinQuota(func() error { return retry(ctx, func() error { return s.rename(&r) }) })
	return r.src, r.dst, err
}

// rename looks both names up and moves the file.
func (s *Store) rename(r *renaming) (err error) {
	if r.sn, r.from, err = s.findIn(r.sd, r.cred, r.srcDir, r.srcName); err != nil {
		return err
	}
	if r.sn != nil {
		defer s.unpin(r.sn)
	}
	if r.dn, r.to, err = s.findIn(r.dd, r.cred, r.dstDir, r.dstName); err != nil {
		return err
	}
	if r.dn != nil {
		defer s.unpin(r.dn)
	}
	if r.sn == nil {
		return vfs.ErrNotFound
	}
	*r.replaced = vfs.Attr{}
	r.grave = grave{}
	b, err := s.moveChecked(r)
	if b == nil {
		return err
	}
	if err := s.settle(b); err != nil {
		return err
	}
	s.clear(&r.grave)
	return nil
}

// moveChecked makes sure that a directory does not move below itself, and moves. While a directory
// gets another parent no other one does, so that the way up from the new place stays what it was.
func (s *Store) moveChecked(r *renaming) (*pebble.Batch, error) {
	if r.from.kind != vfs.Directory || r.sd == r.dd {
		r.loop = r.sn == r.dd
		return s.lockAndMove(r)
	}
	s.renaming.Lock()
	defer s.renaming.Unlock()
	var err error
	if r.loop, err = s.inside(r.dd, r.from.id); err != nil {
		return nil, err
	}
	return s.lockAndMove(r)
}

// inside says whether d is the directory top or lies below it; s.renaming is held.
func (s *Store) inside(d *inode, top vfs.FileID) (bool, error) {
	number := d.number
	for depth := uint64(0); number != rootInode; depth++ {
		if number == top.Inode {
			return true, nil
		}
		i := s.pin(number)
		i.mu.RLock()
		err, gone, parent := i.loadErr, i.dead.Load() || i.rec.attr.Links == 0, i.rec.parent.Inode
		i.mu.RUnlock()
		s.unpin(i)
		if err != nil {
			return false, err
		}
		if gone {
			return false, nil
		}
		if depth > s.inodes.next.Load() {
			return false, damaged("chain of parents", d.number)
		}
		number = parent
	}
	return top.Inode == rootInode, nil
}

// lockAndMove takes the locks, checks everything and moves. A nil batch without an error means that there
// was nothing to do.
func (s *Store) lockAndMove(r *renaming) (*pebble.Batch, error) {
	locked := lockAll(r.sd, r.dd, r.sn, r.dn)
	defer unlockAll(locked)
	if err := s.recheck(r); err != nil {
		return nil, err
	}
	if r.sn == r.dn {
		r.src, r.dst = still(r.sd), still(r.dd)
		return nil, nil
	}
	if err := s.checkMove(r); err != nil {
		return nil, err
	}
	var err error
	if r.more = int64(len(r.dstName)) - int64(len(r.srcName)); r.dn != nil {
		r.more = -int64(vfs.MeteredName(r.srcName))
	}
	if r.admitted, err = s.admit(uint64(max(r.more, 0))); err != nil {
		return nil, err
	}
	defer s.dismiss(&r.admitted)
	return s.applyMove(r)
}

// still is the change information of a directory that did not change.
func still(d *inode) vfs.ChangeInfo {
	return vfs.ChangeInfo{Before: d.rec.attr.Change, After: d.rec.attr.Change}
}

// recheck checks that what was found without locks is still so.
func (s *Store) recheck(r *renaming) error {
	if err := r.sd.checkDir(r.srcDir, r.cred, vfs.MayExecute); err != nil {
		return err
	}
	if err := r.dd.checkDir(r.dstDir, r.cred, vfs.MayExecute); err != nil {
		return err
	}
	if err := s.checkEntry(r.sd, r.sn, &r.from); err != nil {
		return err
	}
	if r.dn != nil {
		return s.checkEntry(r.dd, r.dn, &r.to)
	}
	_, found, err := s.findName(r.dd.number, r.dstName)
	if err == nil && found {
		err = errRaced
	}
	return err
}

// checkMove applies the rules of rename(2).
func (s *Store) checkMove(r *renaming) error {
	if r.loop {
		return vfs.ErrInvalid
	}
	var over *vfs.Attr
	if r.dn != nil {
		over = &r.dn.rec.attr
	}
	if err := vfs.CheckRename(&r.sd.rec.attr, &r.sn.rec.attr, &r.dd.rec.attr, over, r.cred); err != nil {
		return err
	}
	switch {
	case r.dd.rec.attr.Links == 0:
		return vfs.ErrNotFound
	case r.dn != nil && r.dn.rec.attr.Kind == vfs.Directory && r.dn.rec.entries > 0:
		return vfs.ErrNotEmpty
	case r.dn == nil && r.sd != r.dd && s.metaFull.Load():
		return vfs.ErrNoSpace
	}
	return nil
}

// applyMove moves; all locks are held.
func (s *Store) applyMove(r *renaming) (*pebble.Batch, error) {
	var change [3]uint64
	for k := range change {
		var err error
		if change[k], err = s.changes.take(s); err != nil {
			return nil, err
		}
	}
	b := s.db.NewBatch()
	was := r.records()
	u := unlinking{child: r.dn, grave: &r.grave}
	if r.dn != nil {
		if err := s.prepareUnlink(b, &u); err != nil {
			return nil, err
		}
		s.unlink(b, r.dd, &u)
	}
	s.moveEntry(b, r)
	if r.from.kind == vfs.Directory && r.sd != r.dd {
		r.sd.rec.attr.Links--
		r.dd.rec.attr.Links++
		r.sn.rec.parent = r.dd.rec.attr.ID
	}
	s.touch(b, r.sn, change[0])
	r.src = s.touchDir(b, r.sd, change[1])
	r.dst = r.src
	if r.sd != r.dd {
		r.dst = s.touchDir(b, r.dd, change[2])
	}
	leaveMark(b, r.mark, vfs.Done{Change: r.src, Target: r.dst})
	r.grave.admitted = &r.admitted
	if err := s.applyGrave(b, &r.grave, r.more); err != nil {
		r.restore(was)
		return nil, err
	}
	if r.dn != nil {
		s.finishUnlink(&u, r.replaced)
	}
	return b, nil
}

// inodes are those that a move may change; the last one may be nil.
func (r *renaming) inodes() [4]*inode { return [4]*inode{r.sd, r.dd, r.sn, r.dn} }

// records copies what is known of them, restore undoes what changed since.
func (r *renaming) records() (was [4]record) {
	for k, i := range r.inodes() {
		if i != nil {
			was[k] = i.rec
		}
	}
	return was
}

func (r *renaming) restore(was [4]record) {
	for k, i := range r.inodes() {
		if i != nil {
			i.rec = was[k]
		}
	}
}

// moveEntry changes the entries.
func (s *Store) moveEntry(b *pebble.Batch, r *renaming) {
	e := dirent{cookie: r.from.cookie, id: r.from.id, kind: r.from.kind, name: r.dstName}
	dropEntry(b, r.sd, &r.from)
	switch {
	case r.dn != nil:
		e.cookie = r.to.cookie
		putEntry(b, r.dd.number, &e)
	case r.sd == r.dd:
		r.dd.rec.entries++
		putEntry(b, r.dd.number, &e)
	default:
		s.addEntry(b, r.dd, &e)
	}
}
