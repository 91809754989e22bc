package filestore

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// inode is a file in memory. Who uses one has it pinned: refs counts them, the holders (Hold) and the
// lists of the background.
type inode struct {
	number  uint64
	refs    atomic.Int32
	touched atomic.Bool
	slot    int // in its shard's ring, under the shard's mu

	// gate is held shared by writes and alone by a change of size.
	gate sync.RWMutex
	// flushing is held by whoever changes the committed extents.
	flushing sync.Mutex
	turns    turns             // of those who commit
	stable   atomic.Uint64     // changed under flushing: writes up to this one are durable
	journal  map[uint64]uint64 // under flushing: blocks that went to the journal, and which of the puts it was
	puts     uint64            // under flushing: counts what went there

	// mu guards what follows. Everything that holds it alone leaves the file in a state that
	// others may see.
	mu      sync.RWMutex
	dead    atomic.Bool // the file is no more; changed under mu
	loadErr error       // why it could not be read
	rec     record
	size    uint64 // as it is stored; rec.attr.Size may be ahead
	holds   int
	writes  uint64 // counts writes
	// Of the intent log: writes up to loggedTo are in it or stable; the file's last record; and the last one whose data is
	// in active, or 0.
	loggedTo, lastRecord, record uint64
	active                       layer       // unstable data
	streamed                     atomic.Bool // active has as much as goes to the volume at once
	sealed                       *layer      // unstable data that is being made stable
	windows                      map[uint64]extents

	names atomic.Pointer[nameList] // of a directory; a new one comes under mu

	ahead readAhead

	// links are for the lists, under their mu.
	links [lists]listLink
}

// fill copies the attributes; mu is held.
func (i *inode) fill(out *vfs.Attr) {
	unstable := i.active.blocks()
	if i.sealed != nil {
		unstable += i.sealed.blocks()
	}
	i.rec.fill(out, unstable)
}

// stored returns the record as it goes to the metadata store: what is visible, but for the size and
// the blocks, which change with the data.
func (i *inode) stored() []byte {
	r := i.rec
	if r.attr.Kind == vfs.Regular {
		r.attr.Size = i.size
	}
	return r.append(make([]byte, 0, directoryBytes+len(r.target)))
}

// put stores i's record in a batch.
func (i *inode) put(b *pebble.Batch) { set(b, numberKey(tableInode, i.number), i.stored()) }

// check returns nil if i is the file that id names.
func (i *inode) check(id vfs.FileID) error {
	if i.loadErr != nil {
		return i.loadErr
	}
	if i.dead.Load() || i.rec.attr.ID != id {
		return fmt.Errorf("filestore: inode %d: %w", id.Inode, vfs.ErrStale)
	}
	return nil
}

// checkDir returns nil if i is the directory that id names and cred may use it as want says.
func (i *inode) checkDir(id vfs.FileID, cred *vfs.Cred, want vfs.Access) error {
	if err := i.check(id); err != nil {
		return err
	}
	if i.rec.attr.Kind != vfs.Directory {
		return vfs.ErrNotDir
	}
	if !vfs.Permitted(&i.rec.attr, cred, want) {
		return vfs.ErrAccess
	}
	return nil
}

// checkFile returns nil if i is the regular file that id names and cred may use it as want says.
func (i *inode) checkFile(id vfs.FileID, cred *vfs.Cred, want vfs.Access) error {
	if err := i.check(id); err != nil {
		return err
	}
	switch i.rec.attr.Kind {
	case vfs.Regular:
	case vfs.Directory:
		return vfs.ErrIsDir
	default:
		return vfs.ErrWrongType
	}
	if !vfs.Permitted(&i.rec.attr, cred, want) {
		return vfs.ErrAccess
	}
	return nil
}

// table is the inodes in memory, in shards by number.
type table struct {
	shards   [shards]shard
	limit    int           // a shard
	relieved atomic.Uint64 // counts up to the shard that gave windows back last
	names    atomic.Int64  // what the names of directories weigh
}

type shard struct {
	mu    sync.Mutex
	byNum map[uint64]*inode
	ring  []*inode // all of byNum, for the clock
	hand  int
}

func (t *table) init(limit int) {
	t.limit = max(limit/shards, 1)
	for k := range t.shards {
		t.shards[k].byNum = map[uint64]*inode{}
	}
}

func (t *table) shard(number uint64) *shard { return &t.shards[number%shards] }

func (t *table) count() int64 {
	n := 0
	for k := range t.shards {
		sh := &t.shards[k]
		sh.mu.Lock()
		n += len(sh.ring)
		sh.mu.Unlock()
	}
	return int64(n)
}

// pin returns the file with a number, loaded; it may be dead, or not readable, which the caller finds
// by check under its lock. The caller unpins it.
func (s *Store) pin(number uint64) *inode {
	sh := s.table.shard(number)
	sh.mu.Lock()
	if i := sh.byNum[number]; i != nil {
		i.refs.Add(1)
		sh.mu.Unlock()
		if !i.touched.Load() {
			i.touched.Store(true)
		}
		return i
	}
	i := &inode{number: number}
	i.refs.Store(1)
	i.mu.Lock()
	s.insertLocked(sh, i)
	sh.mu.Unlock()
	s.loadInode(i)
	i.mu.Unlock()
	return i
}

// glance fills out with the attributes of the file that out.ID names. present says that it is in memory, known that it
// could be done without waiting for anybody: else out is as it was. Nothing is pinned, for as long as the shard is
// held nobody leaves it.
func (s *Store) glance(out *vfs.Attr) (present, known bool) {
	sh := s.table.shard(out.ID.Inode)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	i := sh.byNum[out.ID.Inode]
	if i == nil {
		return false, false
	}
	if !i.touched.Load() {
		i.touched.Store(true)
	}
	if !i.mu.TryRLock() {
		return true, false
	}
	defer i.mu.RUnlock()
	if i.loadErr != nil || i.dead.Load() || i.rec.attr.ID != out.ID {
		return true, false
	}
	i.fill(out)
	return true, true
}

// loadInode reads the record; a file that isn't there is dead, and so is one that can't be read: it
// leaves the table with its last user and is read again by the next.
func (s *Store) loadInode(i *inode) {
	s.stats.inodeLoads.Add(1)
	found, err := s.get(numberKey(tableInode, i.number), func(value []byte) (err error) {
		i.rec, err = decodeRecord(i.number, value)
		s.raise(&i.rec)
		i.size = i.rec.attr.Size
		return err
	})
	i.loadErr = err
	i.dead.Store(!found || err != nil)
}

// adopt puts a file that was just made into the table, pinned.
func (s *Store) adopt(i *inode) {
	i.refs.Store(1)
	sh := s.table.shard(i.number)
	sh.mu.Lock()
	s.insertLocked(sh, i)
	sh.mu.Unlock()
}

// insertLocked puts i into its shard and lets others go.
func (s *Store) insertLocked(sh *shard, i *inode) {
	for range evictSteps {
		if len(sh.ring) == 0 || (len(sh.ring) < s.table.limit && !s.nodes.over()) {
			break
		}
		sh.hand = (sh.hand + 1) % len(sh.ring)
		old := sh.ring[sh.hand]
		if old.refs.Load() > 0 || old.touched.Swap(false) {
			continue
		}
		s.dropLocked(sh, old)
	}
	i.slot = len(sh.ring)
	sh.ring = append(sh.ring, i)
	sh.byNum[i.number] = i
	s.nodes.add(inodeBytes)
}

// dropLocked takes an inode that nobody has pinned out of the table.
func (s *Store) dropLocked(sh *shard, i *inode) {
	last := len(sh.ring) - 1
	sh.ring[i.slot] = sh.ring[last]
	sh.ring[i.slot].slot = i.slot
	sh.ring[last] = nil
	sh.ring = sh.ring[:last]
	if sh.byNum[i.number] == i { // else it was pinned before there was the file that has the place now
		delete(sh.byNum, i.number)
	}
	s.nodes.add(-inodeBytes)
	s.forgetWindows(i)
}

// unpin ends a pin; a dead inode leaves the table with the last one.
func (s *Store) unpin(i *inode) {
	if i.refs.Add(-1) > 0 || !i.dead.Load() {
		return
	}
	sh := s.table.shard(i.number)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if i.refs.Load() == 0 && sh.byNum[i.number] == i {
		s.dropLocked(sh, i)
	}
}

// lockAll locks several inodes alone, in the order of their numbers; nil ones and repetitions are
// passed over. unlockAll ends it.
func lockAll(list ...*inode) []*inode {
	slices.SortFunc(list, func(a, b *inode) int {
		switch {
		case a == b:
			return 0
		case a == nil || (b != nil && a.number < b.number):
			return -1
		}
		return 1
	})
	list = slices.Compact(list)
	if len(list) > 0 && list[0] == nil {
		list = list[1:]
	}
	for _, i := range list {
		i.mu.Lock()
	}
	return list
}

func unlockAll(list []*inode) {
	for _, i := range list {
		i.mu.Unlock()
	}
}

// The lists that an inode can be in.
const (
	listDirty = iota
	listJournal
	lists
)

type listLink struct {
	prev, next *inode
	in         bool
	since      time.Time
}

// inodeList is a list of pinned inodes, the oldest first.
type inodeList struct {
	which int

	mu          sync.Mutex
	first, last *inode
	length      int
}

// add puts i at the end, pinned, if it isn't in the list.
func (l *inodeList) add(i *inode, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	link := &i.links[l.which]
	if link.in {
		return
	}
	i.refs.Add(1)
	*link = listLink{prev: l.last, in: true, since: now}
	if l.last != nil {
		l.last.links[l.which].next = i
	} else {
		l.first = i
	}
	l.last = i
	l.length++
}

// remove takes i out; the caller, who has i pinned himself, may go on using it.
func (l *inodeList) remove(i *inode) {
	l.mu.Lock()
	defer l.mu.Unlock()
	link := &i.links[l.which]
	if !link.in {
		return
	}
	if link.prev != nil {
		link.prev.links[l.which].next = link.next
	} else {
		l.first = link.next
	}
	if link.next != nil {
		link.next.links[l.which].prev = link.prev
	} else {
		l.last = link.prev
	}
	*link = listLink{}
	l.length--
	i.refs.Add(-1)
}

// oldest returns up to n inodes that came before a time, pinned for the caller.
func (l *inodeList) oldest(n int, before time.Time) []*inode {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*inode
	for i := l.first; i != nil && len(list) < n && i.links[l.which].since.Before(before); i = i.links[l.which].next {
		i.refs.Add(1)
		list = append(list, i)
	}
	return list
}
