package filestore

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// xattr is an extended attribute. Its cookie is the change attribute of when it was made.
type xattr struct {
	name   string
	cookie uint64
	value  []byte
}

// metered is what it counts.
func (x *xattr) metered() uint64 { return vfs.MeteredXattr(x.name, len(x.value)) }

func xattrKey(number uint64, name string) []byte {
	k := append(make([]byte, 0, 9+len(name)), tableXattr)
	return append(be.AppendUint64(k, number), name...)
}

// appendXattr encodes the value of an extended attribute's record: cookie, value.
func appendXattr(b []byte, x *xattr) []byte { return append(be.AppendUint64(b, x.cookie), x.value...) }

// decodeXattr reads a record; the value of what it returns is in b.
func decodeXattr(number uint64, name string, b []byte) (xattr, error) {
	if len(b) < 8 || len(b) > 8+vfs.MaxXattrValueBytes || vfs.CheckXattrName(name) != nil {
		return xattr{}, damaged("extended attribute", number)
	}
	return xattr{name: name, cookie: be.Uint64(b), value: b[8:]}, nil
}

// findXattr looks one up; its value is the caller's. The file's mu is held.
func (s *Store) findXattr(i *inode, name string) (x xattr, found bool, err error) {
	if !i.rec.xattrs {
		return x, false, nil
	}
	found, err = s.get(xattrKey(i.number, name), func(b []byte) (err error) {
		x, err = decodeXattr(i.number, name, bytes.Clone(b))
		return err
	})
	return x, found, err
}

// eachXattr calls visit with all of a file's, whose values are valid during the call.
func (s *Store) eachXattr(number uint64, visit func(x *xattr) error) error {
	return s.scan(xattrKey(number, ""), xattrKey(number+1, ""), func(key, value []byte) error {
		x, err := decodeXattr(number, string(key[9:]), value)
		if err != nil {
			return err
		}
		return visit(&x)
	})
}

// GetXattr implements vfs.FileSystem.
func (s *Store) GetXattr(ctx context.Context, cred *vfs.Cred, id vfs.FileID, name string) ([]byte, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.life.RUnlock()
	if err := vfs.CheckXattrName(name); err != nil {
		return nil, err
	}
	i := s.pin(id.Inode)
	defer s.unpin(i)
	i.mu.RLock()
	defer i.mu.RUnlock()
	if err := i.check(id); err != nil {
		return nil, err
	}
	if err := vfs.CheckXattrRead(&i.rec.attr, cred); err != nil {
		return nil, err
	}
	x, found, err := s.findXattr(i, name)
	if err == nil && !found {
		err = vfs.ErrNoXattr
	}
	return x.value, err
}

// ListXattrs implements vfs.FileSystem.
func (s *Store) ListXattrs(ctx context.Context, cred *vfs.Cred, id vfs.FileID, cookie uint64,
	yield func(name string, cookie uint64) bool) (bool, error) {
	if err := s.enter(ctx); err != nil {
		return false, err
	}
	defer s.life.RUnlock()
	i := s.pin(id.Inode)
	defer s.unpin(i)
	list, err := s.listXattrs(i, cred, id, cookie)
	if err != nil {
		return false, err
	}
	for _, x := range list {
		if !yield(x.name, x.cookie) {
			return true, nil
		}
	}
	return false, nil
}

// listXattrs returns those behind a cookie, in the order of cookies, without values.
func (s *Store) listXattrs(i *inode, cred *vfs.Cred, id vfs.FileID, cookie uint64) (list []xattr, err error) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if err := i.check(id); err != nil {
		return nil, err
	}
	if err := vfs.CheckXattrList(&i.rec.attr, cred); err != nil || !i.rec.xattrs {
		return nil, err
	}
	err = s.eachXattr(i.number, func(x *xattr) error {
		if x.cookie > cookie {
			list = append(list, xattr{name: x.name, cookie: x.cookie})
		}
		return nil
	})
	slices.SortFunc(list, func(a, b xattr) int { return cmp.Compare(a.cookie, b.cookie) })
	return list, err
}

// xattrChange is a change of one on its way.
type xattrChange struct {
	cred   *vfs.Cred
	id     vfs.FileID
	name   string
	value  []byte
	mode   vfs.XattrMode
	remove bool
	mark   *vfs.Mark // nil: none
}

// SetXattr implements vfs.FileSystem.
func (s *Store) SetXattr(ctx context.Context, cred *vfs.Cred, id vfs.FileID, name string, value []byte,
	mode vfs.XattrMode) (vfs.ChangeInfo, error) {
	c := xattrChange{cred: cred, id: id, name: name, value: value, mode: mode, mark: vfs.MarkOf(ctx)}
	return s.changeXattr(ctx, &c)
}

// RemoveXattr implements vfs.FileSystem.
func (s *Store) RemoveXattr(ctx context.Context, cred *vfs.Cred, id vfs.FileID, name string) (vfs.ChangeInfo, error) {
	c := xattrChange{cred: cred, id: id, name: name, mode: vfs.XattrReplace, remove: true, mark: vfs.MarkOf(ctx)}
	return s.changeXattr(ctx, &c)
}

func (s *Store) changeXattr(ctx context.Context, c *xattrChange) (info vfs.ChangeInfo, err error) {
	if err := s.enter(ctx); err != nil {
		return info, err
	}
	defer s.life.RUnlock()
	if err := vfs.CheckXattrName(c.name); err != nil {
		return info, err
	}
	if len(c.value) > vfs.MaxXattrValueBytes {
		return info, vfs.ErrXattrTooBig
	}
	s.stats.namespace.Add(1)
	i := s.pin(c.id.Inode)
	defer s.unpin(i)
	var b *pebble.Batch
	err = s.withinQuota(func() (err error) {
		b, info, err = s.applyXattr(i, c)
		return err
	})
	if err != nil {
		return vfs.ChangeInfo{}, err
	}
	return info, s.settle(b)
}

// applyXattr makes the change, visible but not durable.
func (s *Store) applyXattr(i *inode, c *xattrChange) (b *pebble.Batch, info vfs.ChangeInfo, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.check(c.id); err != nil {
		return nil, info, err
	}
	if err := vfs.CheckXattrWrite(&i.rec.attr, c.cred); err != nil {
		return nil, info, err
	}
	x, found, err := s.findXattr(i, c.name)
	if err != nil {
		return nil, info, err
	}
	if err := vfs.CheckXattrMode(c.mode, found); err != nil {
		return nil, info, err
	}
	delta, last, err := s.growXattrs(i, c, &x, found)
	if err != nil {
		return nil, info, err
	}
	admitted, err := s.admit(uint64(max(delta, 0)))
	if err != nil {
		return nil, info, err
	}
	defer s.dismiss(&admitted)
	change, err := s.changes.take(s)
	if err != nil {
		return nil, info, err
	}
	b = s.db.NewBatch()
	if c.remove {
		del(b, xattrKey(i.number, c.name))
	} else {
		if !found {
			x = xattr{name: c.name, cookie: change}
		}
		x.value = c.value
		set(b, xattrKey(i.number, c.name), appendXattr(make([]byte, 0, 8+len(c.value)), &x))
	}
	info = vfs.ChangeInfo{Before: i.rec.attr.Change, After: change}
	i.rec.xattrs = !last
	s.touch(b, i, change)
	s.meter(b, &admitted, usage{meta: delta})
	leaveMark(b, c.mark, vfs.Done{Change: info})
	return b, info, s.apply(b)
}

// growXattrs says how many bytes more a change counts, and whether it removes the last one. It is
// vfs.ErrNoSpace if the file would have too much.
func (s *Store) growXattrs(i *inode, c *xattrChange, x *xattr, found bool) (delta int64, last bool, err error) {
	was, now := uint64(0), vfs.MeteredXattr(c.name, len(c.value))
	if found {
		was = x.metered()
	}
	if c.remove {
		now = 0
	}
	all, others := uint64(0), 0
	if i.rec.xattrs {
		err = s.eachXattr(i.number, func(x *xattr) error {
			all += x.metered()
			others++
			return nil
		})
	}
	if err == nil && now > was && (all-was+now > vfs.MaxXattrBytes || s.metaFull.Load()) {
		err = vfs.ErrNoSpace
	}
	return int64(now) - int64(was), c.remove && others == 1, err
}

// killXattrs deletes all of a file's in a batch, and returns what they counted.
func (s *Store) killXattrs(b *pebble.Batch, i *inode) (metered uint64, err error) {
	if !i.rec.xattrs {
		return 0, nil
	}
	err = s.eachXattr(i.number, func(x *xattr) error {
		del(b, xattrKey(i.number, x.name))
		metered += x.metered()
		return nil
	})
	return metered, err
}
