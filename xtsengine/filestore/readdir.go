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
	r := newDirReader(s, i, withAttr, visit)
	defer r.release()
	if err := r.open(cred, dir, after); err != nil {
		return false, err
	}
	eof, err := r.read()
	if e := r.close(); e != nil && err == nil {
		err = e
	}
	return eof && err == nil, err
}

// dirReader is one ReadDir. Entries are read in runs of readDirRun: their files' attributes are in the table
// of inodes, or are read from the metadata store together, in the order of their numbers. Those of a large
// directory are not put into the table, from which they would drive out all others.
type dirReader struct {
	s        *Store
	dir      *inode
	withAttr bool
	visit    func(*vfs.DirEntry) bool
	after    uint64           // the cookie behind which the next run begins
	parts    []namePart       // names that are in memory
	it       *pebble.Iterator // over those that are not; nil if there are none
	list     *nameList        // of which they become a part
	run      []runEntry
	names    []byte // of the run, one after the other
	ends     []int  // of each name of the run, in names
	absent   []int  // of run: files that the table does not have
}

// runEntry is an entry of a run. Its attributes have identity and kind alone until they are known.
type runEntry struct {
	vfs.DirEntry
	known bool
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
	r.s, r.dir, r.visit, r.parts, r.it, r.list = nil, nil, nil, nil, nil, nil
	clear(r.run[:cap(r.run)])
	r.begin()
	dirReaders.Put(r)
}

// begin begins a run.
func (r *dirReader) begin() { r.run, r.names, r.ends = r.run[:0], r.names[:0], r.ends[:0] }

// open checks access and finds the entries behind a cookie, all as they are at this moment.
func (r *dirReader) open(cred *vfs.Cred, dir vfs.FileID, after uint64) error {
	i := r.dir
	i.mu.RLock()
	defer i.mu.RUnlock()
	if err := i.checkDir(dir, cred, vfs.MayRead); err != nil {
		return err
	}
	if after != 0 && after < vfs.FirstCookie {
		return vfs.ErrBadCookie
	}
	if after >= i.rec.nextCookie || i.rec.entries == 0 {
		return nil
	}
	r.after = after
	if r.list = r.s.namesOf(i); r.list != nil {
		var ok bool
		if r.parts, ok = r.list.recall(after); ok {
			return nil
		}
	}
	it, err := r.s.db.NewIter(&pebble.IterOptions{
		LowerBound: pairKey(tableCookie, i.number, after+1),
		UpperBound: pairKey(tableCookie, i.number+1, 0),
	})
	if err != nil {
		return metaErr(err)
	}
	r.it = it
	return nil
}

func (r *dirReader) close() error {
	if r.it == nil {
		return nil
	}
	if err := r.it.Close(); err != nil {
		return metaErr(err)
	}
	return nil
}

// read hands on all entries; eof is false when the visitor has enough.
func (r *dirReader) read() (eof bool, err error) {
	next := r.recall
	if r.it != nil {
		r.it.First()
		next = r.load
	}
	for {
		if err := next(); err != nil || len(r.run) == 0 {
			return err == nil, err
		}
		if more, err := r.handOn(); err != nil || !more {
			return false, err
		}
	}
}

// recall makes the next run of what is in memory; an empty one is the end.
func (r *dirReader) recall() error {
	r.begin()
	if len(r.parts) > 0 {
		r.parts[0].put(r, r.after)
		r.parts = r.parts[1:]
	}
	return nil
}

// load reads the next run from the metadata store; an empty one is the end.
func (r *dirReader) load() error {
	r.begin()
	ok := r.it.Valid()
	for ; ok && len(r.run) < readDirRun; ok = r.it.Next() {
		if err := r.add(r.it); err != nil {
			return err
		}
	}
	if err := r.it.Error(); err != nil {
		return metaErr(err)
	}
	names := r.name()
	if r.list != nil {
		r.s.keepNames(r.list, r, names, !ok)
	}
	if len(r.run) > 0 {
		r.after = r.run[len(r.run)-1].Cookie
	}
	return nil
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
	d, name, err := decodeCookie(r.dir.number, cookie, value)
	if err != nil {
		return err
	}
	r.append(&d)
	r.names = append(r.names, name...)
	r.ends = append(r.ends, len(r.names))
	return nil
}

// append appends an entry to the run.
func (r *dirReader) append(d *dirent) {
	r.run = r.run[:len(r.run)+1]
	e := &r.run[len(r.run)-1]
	e.Name, e.Cookie, e.known = d.name, d.cookie, false
	e.Attr.ID, e.Attr.Kind = d.id, d.kind
}

// name gives the entries of the run their names, which are parts of one string.
func (r *dirReader) name() string {
	all, start := string(r.names), 0
	for n, end := range r.ends {
		r.run[n].Name, start = all[start:end], end
	}
	return all
}

// handOn hands on the run; more is false when the visitor has enough.
func (r *dirReader) handOn() (more bool, err error) {
	if r.withAttr {
		if err := r.attrs(); err != nil {
			return false, err
		}
	}
	for n := range r.run {
		e := &r.run[n]
		if r.withAttr && !e.known {
			if ok, err := r.attr(e); err != nil {
				return false, err
			} else if !ok {
				continue
			}
		}
		if !r.visit(&e.DirEntry) {
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
		var present bool
		if present, e.known = r.s.glance(&e.Attr); !present {
			r.absent = append(r.absent, n)
		}
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
		return cmp.Compare(r.run[a].Attr.ID.Inode, r.run[b].Attr.ID.Inode)
	})
	it, err := r.s.db.NewIter(&pebble.IterOptions{
		LowerBound: numberKey(tableInode, r.run[r.absent[0]].Attr.ID.Inode),
		UpperBound: numberKey(tableInode+1, 0),
	})
	if err != nil {
		return metaErr(err)
	}
	it.First()
	key := numberKey(tableInode, 0)
	for _, n := range r.absent {
		e := &r.run[n]
		id := e.Attr.ID
		be.PutUint64(key[1:], id.Inode)
		if !forward(it, key) {
			continue
		}
		value, err := it.ValueAndErr()
		if err != nil {
			it.Close()
			return metaErr(err)
		}
		rec, err := decodeRecord(id.Inode, value)
		if err == nil && rec.attr.ID == id {
			r.s.raise(&rec)
			rec.fill(&e.Attr, 0)
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
		id := e.Attr.ID
		i := r.s.pin(id.Inode)
		err := i.read(id, &e.Attr)
		r.s.unpin(i)
		if err != errRaced {
			return err == nil, err
		}
		now, found, err := r.now(e.Name)
		if err != nil || !found || now.cookie != e.Cookie {
			return false, err
		}
		e.Attr.ID, e.Attr.Kind = now.id, now.kind
	}
	return false, errRaced
}

// now looks a name up as it is at present.
func (r *dirReader) now(name string) (dirent, bool, error) {
	r.dir.mu.RLock()
	defer r.dir.mu.RUnlock()
	return r.s.findName(r.dir.number, name)
}
