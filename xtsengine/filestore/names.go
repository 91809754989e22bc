package filestore

import (
	"cmp"
	"slices"
	"sync"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// nameList is the names of a directory in memory, gathered by those who list it. It is right for as long as the
// directory has one change attribute: no name comes or goes without a new one (touchDir), and none comes twice. Who
// finds it whole, with the attribute that the directory has, does without the metadata store.
//
// It counts as extents do, and goes as they go (forgetWindows): with the inode, or when there are too many. All of a
// store's have a part of that memory, which they may have though inodes have filled the rest: those give way.
type nameList struct {
	change uint64 // the directory's

	mu     sync.Mutex // a leaf
	parts  []namePart // in the order of cookies; appended to and otherwise never changed
	upTo   uint64     // the cookie up to which parts has all names
	whole  bool       // there are none behind it
	gone   bool       // the directory does not have the list any more
	weight int64      // against Options.CachedExtents
}

// namePart is up to readDirRun names. It never changes.
type namePart struct {
	names   string // one after the other
	entries []keptName
}

// keptName is an entry, without pointers that the collector would follow.
type keptName struct {
	cookie     uint64
	inode      uint64
	generation uint32
	end        uint16 // of the name, in the part's names
	kind       vfs.Kind
}

// last is the last cookie.
func (p *namePart) last() uint64 { return p.entries[len(p.entries)-1].cookie }

// weigh is how many extents take as much memory.
func (p *namePart) weigh() int64 {
	return int64((len(p.names)+len(p.entries)*keptNameBytes)/extentBytes + 1)
}

// put appends the entries behind a cookie to r's run.
func (p *namePart) put(r *dirReader, after uint64) {
	start := uint16(0)
	for n := range p.entries {
		e := &p.entries[n]
		if e.cookie > after {
			r.append(&dirent{
				cookie: e.cookie, id: vfs.FileID{Inode: e.inode, Generation: e.generation}, kind: e.kind,
				name: p.names[start:e.end],
			})
		}
		start = e.end
	}
}

// namesOf returns the list of a directory's names that is right at present; nil if there shall be none. i.mu is held.
func (s *Store) namesOf(i *inode) *nameList {
	l := i.names.Load()
	if l != nil && l.change == i.rec.attr.Change {
		return l
	}
	var fresh *nameList
	if i.rec.entries <= maxKeptNames {
		fresh = &nameList{change: i.rec.attr.Change}
	}
	if !i.names.CompareAndSwap(l, fresh) {
		return i.names.Load() // another one's, of the same moment, or nil
	}
	s.retire(l)
	return fresh
}

// forgetNames takes a directory's list away.
func (s *Store) forgetNames(i *inode) { s.retire(i.names.Swap(nil)) }

// retire gives back what a list counted, which no directory has any more. It may be nil.
func (s *Store) retire(l *nameList) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	s.addNames(-l.weight)
	l.weight = 0
}

// recall returns the parts with names behind a cookie; ok is false if the list is not whole.
func (l *nameList) recall(after uint64) (parts []namePart, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.whole {
		return nil, false
	}
	k, _ := slices.BinarySearchFunc(l.parts, after+1, func(p namePart, cookie uint64) int {
		return cmp.Compare(p.last(), cookie)
	})
	return l.parts[k:len(l.parts):len(l.parts)], true
}

// keepNames adds r's run, names being those of its entries. It begins behind the cookie r.after, and with last nothing comes
// behind it.
func (s *Store) keepNames(l *nameList, r *dirReader, names string, last bool) {
	l.mu.Lock()
	more := l.extendLocked(r, names, last)
	l.weight += more
	s.addNames(more)
	l.mu.Unlock()
	if more == 0 || !s.tooManyNames() {
		return
	}
	if s.relieveAll(s.tooManyNames, s.forgetNames); s.tooManyNames() {
		s.forgetNames(r.dir)
	}
}

func (s *Store) addNames(weight int64) {
	s.table.names.Add(weight)
	s.addExtents(weight)
}

// tooManyNames says whether names have more than their part of the memory for inodes and extents.
func (s *Store) tooManyNames() bool {
	n, shared := s.table.names.Load(), s.nodes.of
	return n > int64(s.opts.CachedExtents)/nameShare ||
		shared.limitBytes > 0 && n*extentBytes*shared.stores.Load() > shared.limitBytes/nameShare
}

// extendLocked appends what of a run is new and says what it weighs. Something that does not follow what is there
// is left out.
func (l *nameList) extendLocked(r *dirReader, names string, last bool) (weight int64) {
	if l.gone || l.whole || r.after > l.upTo {
		return 0
	}
	l.whole = last
	skip := 0
	for skip < len(r.run) && r.run[skip].Cookie <= l.upTo {
		skip++
	}
	if skip == len(r.run) {
		return 0
	}
	start := 0
	if skip > 0 {
		start = r.ends[skip-1]
	}
	p := namePart{names: names[start:], entries: make([]keptName, 0, len(r.run)-skip)}
	for n, e := range r.run[skip:] {
		p.entries = append(p.entries, keptName{
			cookie: e.Cookie, inode: e.Attr.ID.Inode, generation: e.Attr.ID.Generation,
			end: uint16(r.ends[skip+n] - start), kind: e.Attr.Kind,
		})
	}
	l.parts = append(l.parts, p)
	l.upTo = p.last()
	return p.weigh()
}
