package filestore

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// Create implements vfs.FileSystem.
func (s *Store) Create(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, name string, req *vfs.CreateRequest,
	out *vfs.CreateResult) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	if err := vfs.CheckName(name); err != nil {
		return err
	}
	if err := req.Check(cred); err != nil {
		return err
	}
	s.stats.namespace.Add(1)
	d := s.pin(dir.Inode)
	defer s.unpin(d)
	return s.withinQuota(func() error {
		return retry(ctx, func() error { return s.create(d, cred, dir, name, req, out, vfs.MarkOf(ctx)) })
	})
}

// create takes an existing file or makes one.
func (s *Store) create(d *inode, cred *vfs.Cred, dir vfs.FileID, name string, req *vfs.CreateRequest,
	out *vfs.CreateResult, mark *vfs.Mark) error {
	child, e, err := s.findIn(d, cred, dir, name)
	if err != nil {
		return err
	}
	if child != nil {
		defer s.unpin(child)
		return s.takeExisting(d, child, e.id, req, out)
	}
	b, err := s.makeFile(d, cred, dir, name, req, out, mark)
	if err != nil {
		return err
	}
	return s.settle(b)
}

// takeExisting is Create for a name that is there.
func (s *Store) takeExisting(d, child *inode, id vfs.FileID, req *vfs.CreateRequest, out *vfs.CreateResult) error {
	if req.Mode == vfs.Guarded {
		return vfs.ErrExist
	}
	var attr vfs.Attr
	if err := child.read(id, &attr); err != nil {
		return err
	}
	switch {
	case req.Mode == vfs.Exclusive && (attr.Kind != vfs.Regular || !child.madeBy(req)):
		return vfs.ErrExist
	case attr.Kind == vfs.Directory:
		return vfs.ErrIsDir
	case attr.Kind != vfs.Regular:
		return vfs.ErrWrongType
	}
	d.mu.RLock()
	change := d.rec.attr.Change
	d.mu.RUnlock()
	*out = vfs.CreateResult{Attr: attr, Existed: true, Dir: vfs.ChangeInfo{Before: change, After: change}}
	return nil
}

// madeBy says whether i was created by an exclusive request. Its verifier never changes.
func (i *inode) madeBy(req *vfs.CreateRequest) bool {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return req.Finds(i.rec.verifier)
}

// makeFile is Create for a name that was free a moment ago. It returns the batch to settle.
func (s *Store) makeFile(d *inode, cred *vfs.Cred, dir vfs.FileID, name string, req *vfs.CreateRequest,
	out *vfs.CreateResult, mark *vfs.Mark) (*pebble.Batch, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := s.checkFree(d, cred, dir, name); err != nil {
		return nil, err
	}
	child, err := s.newInode(d, cred, req)
	if err != nil {
		return nil, err
	}
	more := vfs.MeteredFile(len(child.rec.target)) + vfs.MeteredName(name)
	admitted, err := s.admit(more)
	if err != nil {
		return nil, err
	}
	defer s.dismiss(&admitted)
	change, err := s.changes.take(s)
	if err != nil {
		return nil, err
	}
	b := s.db.NewBatch()
	e := dirent{id: child.rec.attr.ID, kind: req.Kind, name: name}
	s.addEntry(b, d, &e)
	if req.Kind == vfs.Directory {
		d.rec.attr.Links++
	}
	out.Dir = s.touchDir(b, d, change)
	child.mu.Lock()
	defer child.mu.Unlock()
	s.adopt(child)
	defer s.unpin(child)
	child.put(b)
	s.meter(b, &admitted, usage{meta: int64(more)})
	leaveMark(b, mark, vfs.Done{File: child.rec.attr.ID, Change: out.Dir})
	if err := s.apply(b); err != nil {
		child.dead.Store(true)
		return nil, err
	}
	out.Existed = false
	child.fill(&out.Attr)
	return b, nil
}

// checkFree checks that cred may put a name into d, whose mu is held alone, and that it is free; if it
// no longer is, errRaced.
func (s *Store) checkFree(d *inode, cred *vfs.Cred, dir vfs.FileID, name string) error {
	if err := d.checkDir(dir, cred, vfs.MayExecute); err != nil {
		return err
	}
	_, found, err := s.findName(d.number, name)
	switch {
	case err != nil:
		return err
	case found:
		return errRaced
	case !vfs.Permitted(&d.rec.attr, cred, vfs.MayWrite):
		return vfs.ErrAccess
	case d.rec.attr.Links == 0:
		return vfs.ErrNotFound
	case s.metaFull.Load():
		return vfs.ErrNoSpace
	}
	return nil
}

// newInode makes what Create will put into d.
func (s *Store) newInode(d *inode, cred *vfs.Cred, req *vfs.CreateRequest) (*inode, error) {
	attr, err := vfs.NewAttr(&d.rec.attr, cred, req, s.now())
	if err != nil {
		return nil, err
	}
	number, err := s.inodes.take(s)
	if err != nil {
		return nil, err
	}
	if attr.Change, err = s.changes.take(s); err != nil {
		return nil, err
	}
	attr.ID = vfs.FileID{Inode: number, Generation: s.generation}
	i := &inode{number: number, size: attr.Size, rec: record{attr: attr}}
	switch req.Kind {
	case vfs.Regular:
		if req.Mode == vfs.Exclusive {
			i.rec.verifier = req.Verifier
		}
	case vfs.Directory:
		i.rec.parent, i.rec.nextCookie = d.rec.attr.ID, vfs.FirstCookie
	case vfs.Symlink:
		i.rec.target = req.Target
	}
	return i, nil
}

// addEntry puts a new entry into d, whose mu is held alone, and a batch.
func (s *Store) addEntry(b *pebble.Batch, d *inode, e *dirent) {
	e.cookie = d.rec.nextCookie
	d.rec.nextCookie++
	d.rec.entries++
	putEntry(b, d.number, e)
}

// putEntry stores an entry in both tables.
func putEntry(b *pebble.Batch, dir uint64, e *dirent) {
	set(b, nameKey(dir, e.name), e.nameValue())
	set(b, pairKey(tableCookie, dir, e.cookie), e.cookieValue())
}

// dropEntry takes an entry out of d and, in a batch, out of both tables.
func dropEntry(b *pebble.Batch, d *inode, e *dirent) {
	d.rec.entries--
	del(b, nameKey(d.number, e.name))
	del(b, pairKey(tableCookie, d.number, e.cookie))
}

// touchDir records in memory and in a batch that d's entries changed.
func (s *Store) touchDir(b *pebble.Batch, d *inode, change uint64) vfs.ChangeInfo {
	a := &d.rec.attr
	now := s.now()
	a.MTime, a.CTime = now, now
	info := vfs.ChangeInfo{Before: a.Change, After: change}
	a.Change = change
	d.put(b)
	return info
}

// Link implements vfs.FileSystem.
func (s *Store) Link(ctx context.Context, cred *vfs.Cred, id, dir vfs.FileID, name string,
	out *vfs.Attr) (vfs.ChangeInfo, error) {
	if err := s.enter(ctx); err != nil {
		return vfs.ChangeInfo{}, err
	}
	defer s.life.RUnlock()
	if err := vfs.CheckName(name); err != nil {
		return vfs.ChangeInfo{}, err
	}
	s.stats.namespace.Add(1)
	i, d := s.pin(id.Inode), s.pin(dir.Inode)
	defer s.unpin(i)
	defer s.unpin(d)
	var b *pebble.Batch
	var info vfs.ChangeInfo
	err := s.withinQuota(func() (err error) {
		b, info, err = s.link(i, d, cred, id, dir, name, out, vfs.MarkOf(ctx))
		return err
	})
	if err != nil {
		return vfs.ChangeInfo{}, err
	}
	return info, s.settle(b)
}

func (s *Store) link(i, d *inode, cred *vfs.Cred, id, dir vfs.FileID, name string,
	out *vfs.Attr, mark *vfs.Mark) (*pebble.Batch, vfs.ChangeInfo, error) {
	var info vfs.ChangeInfo
	locked := lockAll(i, d)
	defer unlockAll(locked)
	if err := s.checkLink(i, d, cred, id, dir, name); err != nil {
		return nil, info, err
	}
	admitted, err := s.admit(vfs.MeteredName(name))
	if err != nil {
		return nil, info, err
	}
	defer s.dismiss(&admitted)
	change, err := s.changes.take(s)
	if err != nil {
		return nil, info, err
	}
	dirChange, err := s.changes.take(s)
	if err != nil {
		return nil, info, err
	}
	b := s.db.NewBatch()
	i.rec.attr.Links++
	s.touch(b, i, change)
	s.addEntry(b, d, &dirent{id: id, kind: i.rec.attr.Kind, name: name})
	info = s.touchDir(b, d, dirChange)
	s.meter(b, &admitted, usage{meta: int64(vfs.MeteredName(name))})
	leaveMark(b, mark, vfs.Done{Change: info})
	if err := s.apply(b); err != nil {
		return nil, info, err
	}
	i.fill(out)
	return b, info, nil
}

// touch records in memory and in a batch that i's attributes changed.
func (s *Store) touch(b *pebble.Batch, i *inode, change uint64) {
	i.rec.attr.CTime = s.now()
	i.rec.attr.Change = change
	i.put(b)
}

// checkLink checks a new name for i; the mus of i and d are held alone.
func (s *Store) checkLink(i, d *inode, cred *vfs.Cred, id, dir vfs.FileID, name string) error {
	if err := i.check(id); err != nil {
		return err
	}
	if err := d.checkDir(dir, cred, vfs.MayExecute); err != nil {
		return err
	}
	if i.rec.attr.Kind == vfs.Directory {
		return vfs.ErrIsDir
	}
	err := s.checkFree(d, cred, dir, name)
	switch {
	case err == errRaced:
		return vfs.ErrExist
	case err != nil:
		return err
	case i.rec.attr.Links == 0:
		return vfs.ErrNotFound
	case i.rec.attr.Links >= vfs.MaxLinks:
		return vfs.ErrTooManyLinks
	}
	return nil
}
