package filestore

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// ReadDir implements vfs.FileSystem. All names are those of one instant, the beginning of the call.
func (s *Store) ReadDir(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, after uint64, withAttr bool,
	visit func(*vfs.DirEntry) bool) (bool, error) {
	if err := s.enter(ctx); err != nil {
		return false, err
	}
	defer s.life.RUnlock()
	i := s.pin(dir.Inode)
	defer s.unpin(i)
	it, err := s.openDir(i, cred, dir, after)
	if it == nil {
		return err == nil, err
	}
	r := newDirReader(s, i, withAttr, visit)
	defer r.release()
	eof, err := r.read(it)
	if e := it.Close(); e != nil && err == nil {
		err = metaErr(e)
	}
	return eof && err == nil, err
}

// openDir checks access and opens an iterator over the entries; nil without an error is the end.
func (s *Store) openDir(i *inode, cred *vfs.Cred, dir vfs.FileID, after uint64) (*pebble.Iterator, error) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if err := i.checkDir(dir, cred, vfs.MayRead); err != nil {
		return nil, err
	}
	if after != 0 && after < vfs.FirstCookie {
		return nil, vfs.ErrBadCookie
	}
	if after >= i.rec.nextCookie || i.rec.entries == 0 {
		return nil, nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: pairKey(tableCookie, i.number, after+1),
		UpperBound: pairKey(tableCookie, i.number+1, 0),
	})
	if err != nil {
		return nil, metaErr(err)
	}
	return it, nil
}

// dirReader is one ReadDir. Entries are read in runs of readDirRun: their files' attributes are in the table
// of inodes, or are read from the metadata store together, in the order of their numbers. Those of a large
// directory are not put into the table, from which they would drive out all others.
type dirReader struct {
	s        *Store
	dir      *inode
	withAttr bool
	visit    func(*vfs.DirEntry) bool
	run      []runEntry
	names    []byte // of the run, one after the other
	absent   []int  // of run: files that the table does not have
	out      vfs.DirEntry
}

// runEntry is an entry of a run.
type runEntry struct {
	dirent
	nameEnd int  // in the names
	known   bool // attr is there
	attr    vfs.Attr
}

// dirReaders keeps the memory of runs.
var dirReaders = sync.Pool{New: func() any { return &dirReader{run: make([]runEntry, 0, readDirRun)} }}

func newDirReader(s *Store, dir *inode, withAttr bool, visit func(*vfs.DirEntry) bool) *dirReader {
	r := dirReaders.Get().(*dirReader)
	r.s, r.dir, r.withAttr, r.visit = s, dir, withAttr, visit
	return r
}

// release gives the memory back; nothing is kept alive by it.
func (r *dirReader) release() {
	r.s, r.dir, r.visit = nil, nil, nil
	r.out = vfs.DirEntry{}
	clear(r.run[:cap(r.run)])
	r.run, r.names = r.run[:0], r.names[:0]
	dirReaders.Put(r)
}

// read hands on all entries; eof is false when the visitor has enough.
func (r *dirReader) read(it *pebble.Iterator) (eof bool, err error) {
	for ok := it.First(); ok; {
		r.run, r.names = r.run[:0], r.names[:0]
		for ; ok && len(r.run) < readDirRun; ok = it.Next() {
			if err := r.add(it); err != nil {
				return false, err
			}
		}
		r.name()
		if more, err := r.handOn(); err != nil || !more {
			return false, err
		}
	}
	return true, nil
}

// add appends the entry where the iterator stands to the run.
func (r *dirReader) add(it *pebble.Iterator) error {
	_, cookie, ok := splitPair(it.Key())
	if !ok {
		return damaged("cookie key", r.dir.number)
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return metaErr(err)
	}
	r.run = append(r.run, runEntry{})
	e := &r.run[len(r.run)-1]
	var name []byte
	if e.dirent, name, err = decodeCookie(r.dir.number, cookie, value); err != nil {
		return err
	}
	r.names = append(r.names, name...)
	e.nameEnd = len(r.names)
	return nil
}

// name gives the entries of the run their names, which are parts of one string.
func (r *dirReader) name() {
	all, start := string(r.names), 0
	for n := range r.run {
		e := &r.run[n]
		e.name, start = all[start:e.nameEnd], e.nameEnd
	}
}

// handOn hands on the run; more is false when the visitor has enough.
func (r *dirReader) handOn() (more bool, err error) {
	if r.withAttr {
		if err := r.attrs(); err != nil {
			return false, err
		}
	}
	out := &r.out
	for n := range r.run {
		e := &r.run[n]
		if r.withAttr && !e.known {
			if ok, err := r.attr(e); err != nil {
				return false, err
			} else if !ok {
				continue
			}
		}
		out.Name, out.Cookie = e.name, e.cookie
		if r.withAttr {
			out.Attr = e.attr
		} else {
			out.Attr.ID, out.Attr.Kind = e.id, e.kind
		}
		if !r.visit(out) {
			return false, nil
		}
	}
	return true, nil
}

// attrs fills in the attributes of the run, as far as that is plain: what is left is attr's.
func (r *dirReader) attrs() error {
	r.absent = r.absent[:0]
	for n := range r.run {
		e := &r.run[n]
		i := r.s.peek(e.id.Inode)
		if i == nil {
			r.absent = append(r.absent, n)
			continue
		}
		e.known = i.read(e.id, &e.attr) == nil
		r.s.unpin(i)
	}
	if len(r.absent) == 0 {
		return nil
	}
	return r.stored()
}

// stored reads the attributes of the files that were not in the table. What is read is what was stored after
// they were seen not to be there, when nothing newer was in memory.
func (r *dirReader) stored() error {
	slices.SortFunc(r.absent, func(a, b int) int {
		return cmp.Compare(r.run[a].id.Inode, r.run[b].id.Inode)
	})
	it, err := r.s.db.NewIter(&pebble.IterOptions{
		LowerBound: numberKey(tableInode, r.run[r.absent[0]].id.Inode),
		UpperBound: numberKey(tableInode+1, 0),
	})
	if err != nil {
		return metaErr(err)
	}
	it.First()
	key := numberKey(tableInode, 0)
	for _, n := range r.absent {
		e := &r.run[n]
		be.PutUint64(key[1:], e.id.Inode)
		if !forward(it, key) {
			continue
		}
		value, err := it.ValueAndErr()
		if err != nil {
			it.Close()
			return metaErr(err)
		}
		rec, err := decodeRecord(e.id.Inode, value)
		if err == nil && rec.attr.ID == e.id {
			rec.fill(&e.attr, 0)
			e.known = true
		}
	}
	if err := it.Close(); err != nil {
		return metaErr(err)
	}
	return nil
}

// forward goes to a key that is not before the iterator's place, and says whether it is there.
func forward(it *pebble.Iterator, key []byte) bool {
	for range nearSteps {
		if !it.Valid() {
			return false
		}
		if order := bytes.Compare(it.Key(), key); order >= 0 {
			return order == 0
		}
		it.Next()
	}
	return it.SeekGE(key) && bytes.Equal(it.Key(), key)
}

// attr fills in the attributes. A file that was removed since the call began is passed over; if its
// name stands for another file now, with the same cookie, that one is shown.
func (r *dirReader) attr(e *runEntry) (ok bool, err error) {
	for range maxRetries {
		i := r.s.pin(e.id.Inode)
		err := i.read(e.id, &e.attr)
		r.s.unpin(i)
		if err != errRaced {
			return err == nil, err
		}
		now, found, err := r.now(e.name)
		if err != nil || !found || now.cookie != e.cookie {
			return false, err
		}
		e.dirent = now
	}
	return false, errRaced
}

// now looks a name up as it is at present.
func (r *dirReader) now(name string) (dirent, bool, error) {
	r.dir.mu.RLock()
	defer r.dir.mu.RUnlock()
	return r.s.findName(r.dir.number, name)
}
