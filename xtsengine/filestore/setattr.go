package filestore

import (
	"context"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// GetAttr implements vfs.FileSystem.
func (s *Store) GetAttr(ctx context.Context, id vfs.FileID, out *vfs.Attr) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	return s.getAttr(id, out)
}

func (s *Store) getAttr(id vfs.FileID, out *vfs.Attr) error {
	i := s.pin(id.Inode)
	defer s.unpin(i)
	i.mu.RLock()
	defer i.mu.RUnlock()
	if err := i.check(id); err != nil {
		return err
	}
	i.fill(out)
	return nil
}

// SetAttr implements vfs.FileSystem.
func (s *Store) SetAttr(ctx context.Context, cred *vfs.Cred, id vfs.FileID, set *vfs.SetAttr, out *vfs.Attr) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.life.RUnlock()
	if set.Mask == 0 {
		return s.getAttr(id, out)
	}
	s.stats.namespace.Add(1)
	i := s.pin(id.Inode)
	defer s.unpin(i)
	c := attrChange{id: id, out: out, change: func(a *vfs.Attr) error { return set.Apply(a, cred, s.now()) }}
	if set.Mask&vfs.SetSize == 0 {
		return s.changeAttr(i, &c)
	}
	if err := s.checkChange(i, &c); err != nil {
		return err
	}
	return s.reshape(i, &c, func() (*remap, error) { return s.prepareCut(i, set.Size) })
}

// checkChange says early whether a change is allowed.
func (s *Store) checkChange(i *inode, c *attrChange) error {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if err := i.check(c.id); err != nil {
		return err
	}
	attr := i.rec.attr
	return c.change(&attr)
}

// prepareCut takes away what lies behind a smaller size; nil if nothing does. The block that the new
// size ends in is stored anew with zeros behind that: bytes beyond the size of a file are always zero.
func (s *Store) prepareCut(i *inode, size uint64) (*remap, error) {
	if size >= i.size {
		return nil, nil
	}
	r := &remap{i: i}
	from := (size + blockBytes - 1) / blockBytes
	if keep := int(size % blockBytes); keep > 0 {
		if err := s.clearEdge(r, from-1, keep, blockBytes, size); err != nil {
			return r, err
		}
	}
	return r, s.drop(r, from, allBlocks)
}
