package filestore

import (
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// maxProblems bounds what a Report lists.
const maxProblems = 1000

// Report is what Check found.
type Report struct {
	// Problems are in words, without names of files; at most 1000.
	Problems []string
	// Found is how many there were. Truncated says that not all are in Problems.
	Found     uint64
	Truncated bool
	// Leaks is how many of the problems, listed or not, are of room only: something is stored that
	// nothing refers to. Repair ends those if there are no others. Repaired is how many it ended.
	Leaks, Repaired uint64

	Inodes, Directories, Entries, Extents uint64
	// VolumeBlocks, JournalBlocks and InlineBlocks are where content is.
	VolumeBlocks, JournalBlocks, InlineBlocks uint64
	// SharedBlocks are those of VolumeBlocks, which are counted once, that several extents have;
	// ReservedBlocks are reserved in extents, and not written.
	SharedBlocks, ReservedBlocks uint64
	Xattrs                       uint64
	Orphans                      uint64
	// Marks are notes of operations that were carried out (vfs.Mark).
	Marks uint64
}

func (r *Report) problem(format string, args ...any) {
	r.Found++
	if len(r.Problems) == maxProblems {
		r.Truncated = true
		return
	}
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// checker is one Check. What it counts it keeps in memory: about 100 bytes a file.
type checker struct {
	ctx     context.Context
	s       *Store
	db      pebble.Reader // what is looked at
	mode    checkMode
	tags    *tagWalk
	repairs []repair
	report  Report
	inodes  map[uint64]*checkedInode
	orphans map[uint64]bool
	runs    []volume.Run // of extents, those that are reserved among them
	kept    []volume.Run // which are reserved
	shared  []shared
	// nameBytes is what names count.
	nameBytes uint64
	stored    map[[2]uint64]place // blocks that extents say are in the metadata store
}

type checkedInode struct {
	rec     record
	names   uint64 // entries that stand for it
	subdirs uint64
	entries uint64
	cookies uint64 // entries by cookie
	parent  uint64 // the directory with its entry, of a directory
	blocks  uint64
	// Extended attributes: how many, and what they count.
	xattrs, xattrBytes uint64
	end                uint64 // the file block behind the last extent
}

// Check reads all metadata and looks for contradictions: records that can't be decoded, links and
// entries that do not match, blocks of the volume that are outside the file system's chunks, owned
// twice, or used by nobody. It changes nothing. Operations wait until it is done.
//
// Unstable data is not looked at, but its blocks are accounted for.
func (s *Store) Check(ctx context.Context) (*Report, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return nil, vfs.ErrClosed
	}
	if err := s.failed(); err != nil {
		return nil, err
	}
	s.reaper.wait() // it needs background.pause
	s.background.pause.Lock()
	defer s.background.pause.Unlock()
	s.behind.settle() // of which the last round of the background may have tried something again
	return s.newChecker(ctx, s.db, checkAlone).check()
}

func (s *Store) newChecker(ctx context.Context, db pebble.Reader, mode checkMode) *checker {
	return &checker{ctx: ctx, s: s, db: db, mode: mode, inodes: map[uint64]*checkedInode{},
		orphans: map[uint64]bool{}, stored: map[[2]uint64]place{}}
}

// check does all of it, in an order in which each step can rely on those before.
func (c *checker) check() (*Report, error) {
	for _, step := range []func() error{c.readInodes, c.readOrphans, c.readNames, c.readCookies, c.readExtents,
		c.readStored, c.readShares, c.readMoved, c.readXattrs, c.readMarks, c.readFlushed, c.checkInodes, c.checkRuns, c.checkCounters, c.checkMetered} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return &c.report, nil
}

// readFlushed looks at what flushes say of the intent log. An inode may be no more.
func (c *checker) readFlushed() error {
	return c.scan(tableFlushed, func(key, value []byte) error {
		_, _, err := decodeFlushed(key, value)
		return err
	})
}

// scan reads a table; damage is a problem, not an error.
func (c *checker) scan(table byte, visit func(key, value []byte) error) error {
	n := 0
	return scanTable(c.db, []byte{table}, []byte{table + 1}, func(key, value []byte) error {
		if n++; n%4096 == 0 {
			if err := c.interrupted(); err != nil {
				return err
			}
		}
		err := visit(key, value)
		if errors.Is(err, vfs.ErrCorrupt) {
			c.report.problem("%v", err)
			return nil
		}
		return err
	})
}

func (c *checker) readInodes() error {
	return c.scan(tableInode, func(key, value []byte) error {
		number, ok := splitNumber(key)
		if !ok {
			return damaged("inode key", 0)
		}
		rec, err := decodeRecord(number, value)
		if err != nil {
			return err
		}
		c.report.Inodes++
		if rec.attr.Kind == vfs.Directory {
			c.report.Directories++
		}
		c.inodes[number] = &checkedInode{rec: rec}
		return nil
	})
}

func (c *checker) readOrphans() error {
	return c.scan(tableOrphan, func(key, _ []byte) error {
		number, ok := splitNumber(key)
		if !ok {
			return damaged("orphan key", 0)
		}
		c.orphans[number] = true
		c.report.Orphans++
		switch i := c.inodes[number]; {
		case i == nil:
			c.leak(deleting(key), "inode %d is listed as an orphan and is none: it is not there", number)
		case i.rec.attr.Links != 0:
			c.report.problem("inode %d is listed as an orphan and is none", number)
		}
		return nil
	})
}

func (c *checker) readNames() error {
	return c.scan(tableName, func(key, value []byte) error {
		if len(key) < 10 {
			return damaged("name key", 0)
		}
		number, name := be.Uint64(key[1:]), string(key[9:])
		d, err := decodeNameValue(number, name, value)
		if err != nil {
			return err
		}
		c.report.Entries++
		c.nameBytes += vfs.MeteredName(name)
		dir := c.inodes[number]
		if dir == nil || dir.rec.attr.Kind != vfs.Directory {
			c.report.problem("inode %d has entries and is no directory", number)
			return nil
		}
		dir.entries++
		if d.cookie >= dir.rec.nextCookie {
			c.report.problem("directory %d: cookie %d is yet to be given", number, d.cookie)
		}
		c.checkTarget(dir, number, &d)
		found, err := getFrom(c.db, pairKey(tableCookie, number, d.cookie), func(value []byte) error {
			other, err := decodeCookieValue(number, d.cookie, value)
			if err == nil && other != d {
				c.report.problem("directory %d: cookie %d stands for another entry", number, d.cookie)
			}
			return err
		})
		if err == nil && !found {
			c.report.problem("directory %d: no entry has cookie %d", number, d.cookie)
		}
		return err
	})
}

// checkTarget checks what an entry stands for.
func (c *checker) checkTarget(dir *checkedInode, number uint64, d *dirent) {
	i := c.inodes[d.id.Inode]
	if i == nil || i.rec.attr.ID != d.id || i.rec.attr.Kind != d.kind {
		c.report.problem("directory %d: entry with cookie %d stands for inode %d, which is not there or another",
			number, d.cookie, d.id.Inode)
		return
	}
	i.names++
	if d.kind != vfs.Directory {
		return
	}
	dir.subdirs++
	i.parent = number
	if i.rec.parent != dir.rec.attr.ID {
		c.report.problem("directory %d says that its parent is %d, and is in %d", d.id.Inode, i.rec.parent.Inode, number)
	}
}

func (c *checker) readCookies() error {
	return c.scan(tableCookie, func(key, value []byte) error {
		number, cookie, ok := splitPair(key)
		if !ok {
			return damaged("cookie key", 0)
		}
		if _, err := decodeCookieValue(number, cookie, value); err != nil {
			return err
		}
		if dir := c.inodes[number]; dir != nil {
			dir.cookies++
		} else {
			c.leak(deleting(key), "inode %d has cookies and is not there", number)
		}
		return nil
	})
}

func (c *checker) readExtents() (err error) {
	if c.tags, err = newTagWalk(c.db); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.endTags()) }()
	return c.scan(tableExtent, func(key, value []byte) error {
		number, file, ok := splitPair(key)
		if !ok {
			return damaged("extent key", 0)
		}
		x, err := decodeExtent(number, file, value)
		if err != nil {
			return err
		}
		c.report.Extents++
		if err := c.checkTags(number, &x); err != nil {
			return err
		}
		i := c.inodes[number]
		if i == nil {
			c.leakExtent(number, &x)
			return nil
		}
		if i.rec.attr.Kind != vfs.Regular {
			c.report.problem("inode %d has extents and is no regular file", number)
			return nil
		}
		if i.end > file {
			c.report.problem("inode %d: extents overlap at block %d", number, file)
		}
		i.end = x.end()
		i.blocks += uint64(x.count)
		if x.place.hasRun() {
			if x.place == reserved {
				c.report.ReservedBlocks += uint64(x.count)
				c.kept = append(c.kept, x.run())
			}
			c.runs = append(c.runs, x.run())
			return nil
		}
		for b := file; b < x.end(); b++ {
			c.stored[[2]uint64{number, b}] = x.place
		}
		return nil
	})
}

func (c *checker) readStored() error {
	for table, where := range map[byte]place{tableJournal: inJournal, tableInline: inInode} {
		err := c.scan(table, func(key, value []byte) error {
			number, file, ok := splitPair(key)
			if !ok || len(value) > blockBytes {
				return damaged("block in the metadata store", number)
			}
			if where == inJournal {
				c.report.JournalBlocks++
			} else {
				c.report.InlineBlocks++
			}
			k := [2]uint64{number, file}
			if have, ok := c.stored[k]; !ok || have != where {
				c.leak(deleting(key), "inode %d: block %d is in the metadata store and no extent says so", number, file)
				return nil
			}
			delete(c.stored, k)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for k := range c.stored {
		c.report.problem("inode %d: block %d is not in the metadata store", k[0], k[1])
	}
	if want := c.s.journaled.Load(); c.mode == checkAlone && uint64(want) != c.report.JournalBlocks {
		c.report.problem("%d blocks are in the journal, %d were counted", c.report.JournalBlocks, want)
	}
	return nil
}

func (c *checker) checkInodes() error {
	for number, i := range c.inodes {
		a := &i.rec.attr
		switch a.Kind {
		case vfs.Directory:
			c.checkDirectory(number, i)
		case vfs.Regular:
			if i.blocks != i.rec.blocks || i.end > (a.Size+blockBytes-1)/blockBytes {
				c.report.problem("inode %d: %d blocks up to block %d, its record says %d and %d bytes",
					number, i.blocks, i.end, i.rec.blocks, a.Size)
			}
			fallthrough
		default:
			if uint64(a.Links) != i.names {
				c.report.problem("inode %d: %d links and %d names", number, a.Links, i.names)
			}
		}
		if a.Links == 0 && !c.orphans[number] {
			c.leak(orphaning(number), "inode %d has no name and is not listed as an orphan", number)
		}
	}
	return nil
}

func (c *checker) checkDirectory(number uint64, i *checkedInode) {
	if i.entries != i.rec.entries || i.cookies != i.entries {
		c.report.problem("directory %d: %d entries by name, %d by cookie, its record says %d",
			number, i.entries, i.cookies, i.rec.entries)
	}
	if i.rec.attr.Links == 0 {
		if i.names != 0 || i.entries != 0 {
			c.report.problem("directory %d was removed and has a name or entries", number)
		}
		return
	}
	if want := 2 + i.subdirs; uint64(i.rec.attr.Links) != want {
		c.report.problem("directory %d: %d links, want %d", number, i.rec.attr.Links, want)
	}
	if root := number == rootInode; (root && i.names != 0) || (!root && i.names != 1) {
		c.report.problem("directory %d has %d names", number, i.names)
	}
	c.checkAncestry(number)
}

// checkAncestry looks for a directory that can't be reached from the root.
func (c *checker) checkAncestry(number uint64) {
	at := number
	for range len(c.inodes) {
		if at == rootInode {
			return
		}
		i := c.inodes[at]
		if i == nil {
			break
		}
		at = i.parent
	}
	c.report.problem("directory %d can't be reached from the root", number)
}

func (c *checker) checkCounters() error {
	next, err := c.s.readCounter(counterInode)
	if err != nil {
		return err
	}
	change, err := c.s.readCounter(counterChange)
	if err != nil {
		return err
	}
	if max(next, change) > maxCounter || min(next, change) == 0 {
		c.report.problem("the counters are %d and %d", next, change)
	}
	for number, i := range c.inodes {
		if number >= next || i.rec.attr.Change >= change {
			c.report.problem("inode %d, change %d: beyond the counters %d, %d", number, i.rec.attr.Change, next, change)
		}
	}
	return nil
}
