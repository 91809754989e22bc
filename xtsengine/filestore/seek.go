package filestore

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// Seek implements vfs.FileSystem. It looks at extents, not at content: zeros that were written are data.
func (s *Store) Seek(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset uint64, what vfs.SeekWhat) (uint64, error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.life.RUnlock()
	s.stats.ranges.Add(1)
	i := s.pin(id.Inode)
	defer s.unpin(i)
	i.mu.RLock()
	defer i.mu.RUnlock()
	if err := i.checkFile(id, cred, vfs.MayRead); err != nil {
		return 0, err
	}
	size := i.rec.attr.Size
	switch {
	case what > vfs.SeekHole:
		return 0, vfs.ErrInvalid
	case offset >= size:
		return 0, vfs.ErrNoData
	}
	k, err := s.newSeeker(i, offset/blockBytes)
	if err != nil {
		return 0, err
	}
	defer k.close()
	if what == vfs.SeekData {
		return k.data(offset)
	}
	return k.hole(ctx, offset, size)
}

// seeker goes through the data of a file, in order; the file's mu is held.
type seeker struct {
	i      *inode
	layers []extents // what is unstable
	it     *pebble.Iterator
	stored extent // where it stands; count is 0 at the end
}

// newSeeker returns one for the blocks from file on.
func (s *Store) newSeeker(i *inode, file uint64) (*seeker, error) {
	k := &seeker{i: i, layers: i.active.lists(nil)}
	if i.sealed != nil {
		k.layers = i.sealed.lists(k.layers)
	}
	if i.rec.blocks == 0 {
		return k, nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: pairKey(tableExtent, i.number, file/windowBlocks*windowBlocks),
		UpperBound: pairKey(tableExtent, i.number, allBlocks),
	})
	if err != nil {
		return nil, metaErr(err)
	}
	k.it = it
	if err := k.take(it.First()); err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

// lists appends the blocks of a layer as extents.
func (l *layer) lists(dst []extents) []extents {
	if len(l.placed) > 0 {
		dst = append(dst, l.placed)
	}
	if len(l.dirty) == 0 {
		return dst
	}
	var e extents
	for _, file := range l.sorted(make([]uint64, 0, len(l.dirty))) {
		e = e.add(extent{file: file, count: 1, place: inJournal}) // anywhere: the place is not looked at
	}
	return append(dst, e)
}

// take reads the extent where the iterator stands, passing over what is reserved.
func (k *seeker) take(ok bool) (err error) {
	for ; ok; ok = k.it.Next() {
		if k.stored, err = extentAt(k.it, k.i.number); err != nil || k.stored.place != reserved {
			return err
		}
	}
	k.stored = extent{}
	if err := k.it.Error(); err != nil {
		return metaErr(err)
	}
	return nil
}

// next returns the first data that ends behind a block; ok is false if there is none.
func (k *seeker) next(file uint64) (x extent, ok bool, err error) {
	for k.stored.count > 0 && k.stored.end() <= file {
		if err := k.take(k.it.Next()); err != nil {
			return x, false, err
		}
	}
	x, ok = k.stored, k.stored.count > 0
	for _, e := range k.layers {
		if n := e.find(file); n < len(e) && (!ok || e[n].file < x.file) {
			x, ok = e[n], true
		}
	}
	return x, ok, nil
}

func (k *seeker) data(offset uint64) (uint64, error) {
	x, ok, err := k.next(offset / blockBytes)
	switch {
	case err != nil:
		return 0, err
	case !ok:
		return 0, vfs.ErrNoData
	}
	return max(offset, x.file*blockBytes), nil
}

func (k *seeker) hole(ctx context.Context, offset, size uint64) (uint64, error) {
	at := offset / blockBytes
	for n := 1; ; n++ {
		x, ok, err := k.next(at)
		if err == nil && n%4096 == 0 {
			err = ctx.Err()
		}
		if err != nil {
			return 0, err
		}
		if !ok || x.file > at {
			return min(max(offset, at*blockBytes), size), nil
		}
		at = x.end()
	}
}

func (k *seeker) close() {
	if k.it != nil {
		k.it.Close()
	}
}
