package filestore

import (
	"errors"
	"fmt"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// A reserved block is the home of the file block that it is reserved for: what is written there goes to
// it and takes no further space. The data is durable in its home before a batch says that it is there;
// until then the extent is reserved and reads as zeros, whatever the block holds.
//
// Only a flush writes to homes, so that never two do it at once: what is written over a reservation is
// gathered in memory. If the volume is full, such a block in memory has its home instead of a promise of
// the pool (layer.homed). The home stays the file's until that flush: whoever else takes extents away
// holds the gate alone and has flushed before, and who frees the blocks of a file that ends waits for
// the flush under way (grave.flushing). What is reserved is never shared.

// reservedIn says whether anything is reserved in the blocks from lo up to hi.
func (e extents) reservedIn(lo, hi uint64) bool {
	for k := e.find(lo); k < len(e) && e[k].file < hi; k++ {
		if e[k].place == reserved {
			return true
		}
	}
	return false
}

// reservedIn does the same for committed extents; missing says that it takes windows that are not in
// memory. mu is held.
func (i *inode) reservedIn(lo, hi uint64) (found, missing bool) {
	if i.rec.blocks == 0 {
		return false, false
	}
	for index := lo / windowBlocks; index <= (hi-1)/windowBlocks; index++ {
		e, ok := i.windows[index]
		if !ok {
			return false, true
		}
		if e.reservedIn(lo, hi) {
			return true, false
		}
	}
	return false, false
}

// gatherReserved lets the blocks of a large write go to memory if any of them are reserved.
func (s *Store) gatherReserved(w *writePlan) error {
	if w.directFirst == w.directEnd {
		return nil
	}
	i := w.i
	i.mu.RLock()
	found, missing := i.reservedIn(w.directFirst, w.directEnd)
	i.mu.RUnlock()
	if missing {
		var err error
		if found, err = s.findReserved(i, w.directFirst, w.directEnd); err != nil {
			return err
		}
	}
	if found {
		w.directEnd = w.directFirst
	}
	return nil
}

// findReserved loads the windows on the way.
func (s *Store) findReserved(i *inode, lo, hi uint64) (bool, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for index := lo / windowBlocks; index <= (hi-1)/windowBlocks; index++ {
		e, err := s.window(i, index, true)
		if err != nil || e.reservedIn(lo, hi) {
			return err == nil, err
		}
	}
	return false, nil
}

// claim gets promises for those blocks of a write that need one: neither are they in memory already, nor
// have they a home. Those that only replace blocks borrow of what is set aside. mu is held alone.
func (s *Store) claim(w *writePlan) error {
	needed, replacing := uint64(0), uint64(0)
	for file := w.first; file < w.end; file++ {
		if w.i.active.dirty[file] != nil {
			continue
		}
		home, err := s.hasHome(w.i, file)
		if err != nil {
			return err
		}
		if home {
			w.homed = append(w.homed, file)
			continue
		}
		replaces, err := s.replaces(w.i, file)
		if err != nil {
			return err
		}
		if replaces {
			replacing++
		} else {
			needed++
		}
	}
	if err := s.pool.reserve(needed); err != nil {
		return s.spaceErr(err)
	}
	w.promised = needed
	err := s.pool.reserve(replacing)
	if errors.Is(err, volume.ErrNoSpace) && w.borrowing {
		err = s.pool.borrow(replacing)
	}
	if err != nil {
		return s.spaceErr(err)
	}
	w.i.active.scarce = true
	w.promised += replacing
	return nil
}

// replaces says whether a write to a file block gives a block of the volume back once it is stable. mu is
// held alone.
func (s *Store) replaces(i *inode, file uint64) (bool, error) {
	if i.active.has(file) || (i.sealed != nil && i.sealed.has(file)) {
		return true, nil // with the flush under way at the latest, it is in a block that only this file has
	}
	src, ok, err := s.committed(i, file)
	if err != nil || !ok || src.ext.place != onVolume {
		return false, err
	}
	parts, err := s.alone(src.ext.run())
	parts, _ = s.splitMoved(parts)
	return len(parts) > 0, err
}

// hasHome says whether the home of a file block is there for the next flush but the one under way. mu is
// held alone.
func (s *Store) hasHome(i *inode, file uint64) (bool, error) {
	if i.sealed != nil && i.sealed.has(file) {
		return false, nil
	}
	e, err := s.window(i, file/windowBlocks, true)
	return err == nil && e.reservedIn(file, file+1), err
}

// findHomes finds the homes of the dirty blocks.
func (s *Store) findHomes(f *flush) error {
	var e extents
	index, homed := uint64(noWindow), 0
	for _, file := range f.files {
		if at := file / windowBlocks; at != index {
			var err error
			if e, err = s.window(f.i, at, false); err != nil {
				return err
			}
			index = at
		}
		k := e.find(file)
		if k == len(e) || e[k].file > file || e[k].place != reserved {
			continue
		}
		f.homes = f.homes.add(e[k].part(file, file+1))
		if _, ok := f.layer.homed[file]; ok {
			homed++
		}
	}
	if homed != len(f.layer.homed) {
		return fmt.Errorf("filestore: inode %d: what was reserved is not any more: %w", f.i.number, vfs.ErrCorrupt)
	}
	return nil
}

// spread says where each dirty block goes: to its home, or to the next block of f.runs.
func (f *flush) spread() {
	f.at = make([]volume.Block, 0, len(f.files))
	homes, runs := f.homes, f.runs
	var run volume.Run
	for _, file := range f.files {
		for len(homes) > 0 && homes[0].end() <= file {
			homes = homes[1:]
		}
		if len(homes) > 0 && homes[0].file <= file {
			f.at = append(f.at, homes[0].start+volume.Block(file-homes[0].file))
			continue
		}
		if run.Count == 0 {
			run, runs = runs[0], runs[1:]
		}
		f.at = append(f.at, run.Start)
		run = skip(run, 1)
	}
}

// lose notes a piece of a committed extent that the flush hides. A block that is the home of what hides it
// stays.
func (f *flush) lose(x extent) {
	switch x.place {
	case onVolume:
		f.gone = append(f.gone, x.run())
	case reserved:
		for file := x.file; file < x.end(); {
			src, home := f.homes.source(file, x.end()-file)
			if !home {
				p := x.part(file, file+src.count)
				f.gone = append(f.gone, p.run())
			}
			file += src.count
		}
	default:
		f.hidden = append(f.hidden, x)
	}
}

// await returns when a flush under way of a file that has ended does not write to its homes any more.
func (g *grave) await() {
	i := g.flushing
	if i == nil {
		return
	}
	i.flushing.Lock()
	g.flushing = nil
	i.flushing.Unlock()
}
