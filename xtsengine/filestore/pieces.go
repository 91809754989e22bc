package filestore

import (
	"slices"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// A file's unstable data becomes stable together. What is in the intent log need not: a start carries all of it out again,
// whichever blocks were flushed before the crash. So the background flushes much of it in pieces, each a flush of its own:
// who writes the file meanwhile, or waits for the disk or for a processor, waits for one piece at most. The last blocks
// go with a flush of the whole file, which notes that the records are not needed any more.

// flushPieces flushes all of a pinned file but its last blocks, if all that is unstable of it is in the intent log.
func (s *Store) flushPieces(i *inode) error {
	i.mu.RLock()
	var files []uint64
	if i.allLogged() && len(i.active.dirty) > s.opts.pieceBlocks {
		files = i.active.sorted(nil)
	}
	i.mu.RUnlock()
	for piece := range slices.Chunk(files, s.opts.pieceBlocks) {
		if more, err := s.flushPiece(i, piece); !more || err != nil {
			return err
		}
	}
	return nil
}

// flushPiece flushes some blocks; more says that it makes sense to go on.
func (s *Store) flushPiece(i *inode, files []uint64) (more bool, err error) {
	i.flushing.Lock()
	defer i.flushing.Unlock()
	f, record, err := s.sealPiece(i, files)
	if f == nil || err != nil {
		return false, err
	}
	if s.intent.wait(record) != nil { // a part of a write must not be durable without it
		s.unseal(f)
		return false, nil
	}
	s.stats.flushes.Add(1)
	if err := s.flush(f); err != nil {
		s.stats.flushFailures.Add(1)
		return false, err
	}
	return true, nil
}

// allLogged says whether all unstable data is in the intent log; mu is held.
func (i *inode) allLogged() bool {
	l := &i.active
	return i.loggedTo == i.writes && len(l.placed) == 0 && len(l.homed) == 0 && !l.scarce
}

// sealPiece takes blocks for a flush, unless they would be the last ones, or something is not in the log; nil if there
// are none. record is the last one that they have anything of. flushing is held.
func (s *Store) sealPiece(i *inode, files []uint64) (f *flush, record uint64, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.dead.Load() {
		return nil, 0, vfs.ErrStale
	}
	if !i.allLogged() || len(i.active.dirty) <= len(files) {
		return nil, 0, nil
	}
	l := &layer{dirty: make(map[uint64]*block, len(files))}
	size := i.size
	for _, file := range files {
		b := i.active.dirty[file]
		if b == nil {
			continue
		}
		l.dirty[file] = b
		if _, ok := i.active.over[file]; ok {
			l.setOver(file)
		}
		delete(i.active.dirty, file)
		delete(i.active.over, file)
		size = max(size, min((file+1)*blockBytes, i.rec.attr.Size)) // nothing is stored behind the end of a file
	}
	if l.empty() {
		return nil, 0, nil
	}
	i.sealed = l
	return &flush{i: i, layer: l, size: size}, i.lastRecord, nil
}
