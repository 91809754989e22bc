package filestore

import (
	"context"
	"fmt"
	"sync"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// readPlan is the scratch memory of one Read.
type readPlan struct {
	i      *inode
	offset uint64
	p      []byte

	ios   []volume.IO
	parts []part
}

// part is a block of the volume of which a piece is wanted.
type part struct {
	dst  []byte
	from int
	b    *block
}

var readPlans = sync.Pool{New: func() any { return new(readPlan) }}

func (r *readPlan) release() {
	for k := range r.parts {
		freeBlock(r.parts[k].b)
	}
	clear(r.ios)
	clear(r.parts)
	*r = readPlan{ios: r.ios[:0], parts: r.parts[:0]}
	readPlans.Put(r)
}

// Read implements vfs.FileSystem. The access time is not kept up.
func (s *Store) Read(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset uint64, p []byte) (int, bool, error) {
	if err := s.enter(ctx); err != nil {
		return 0, false, err
	}
	defer s.life.RUnlock()
	s.stats.reads.Add(1)
	i := s.pin(id.Inode)
	defer s.unpin(i)
	s.beginRead(i, offset, len(p))
	defer i.endRead()
	r := readPlans.Get().(*readPlan)
	defer r.release()
	for {
		n, eof, missing, err := s.read(r, i, cred, id, offset, p)
		if err != nil {
			return 0, false, err
		}
		if missing == noWindow {
			s.stats.bytesRead.Add(uint64(n))
			return n, eof, nil
		}
		if err := s.loadWindows(i, missing, offset, len(p)); err != nil {
			return 0, false, err
		}
	}
}

// noWindow says that no window is missing.
const noWindow = 1<<64 - 1

// read does a Read under the file's lock. missing is a window that has to be loaded first.
func (s *Store) read(r *readPlan, i *inode, cred *vfs.Cred, id vfs.FileID, offset uint64,
	p []byte) (n int, eof bool, missing uint64, err error) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if err := i.checkFile(id, cred, vfs.MayRead); err != nil {
		return 0, false, 0, err
	}
	size := i.rec.attr.Size
	if offset >= size {
		return 0, true, noWindow, nil
	}
	if rest := size - offset; uint64(len(p)) > rest {
		p = p[:rest]
	}
	r.i, r.offset, r.p = i, offset, p
	if missing := i.missing(offset, len(p)); missing != noWindow {
		return 0, false, missing, nil
	}
	if err := s.fill(r); err != nil {
		return 0, false, 0, err
	}
	return len(p), offset+uint64(len(p)) == size, noWindow, nil
}

// missing returns the first window of a range that is not in memory; mu is held.
func (i *inode) missing(offset uint64, length int) uint64 {
	if i.rec.blocks == 0 || length == 0 {
		return noWindow
	}
	last := (offset + uint64(length) - 1) / (blockBytes * windowBlocks)
	for w := offset / (blockBytes * windowBlocks); w <= last; w++ {
		if _, ok := i.windows[w]; !ok {
			return w
		}
	}
	return noWindow
}

// loadWindows loads the windows of a range from first on.
func (s *Store) loadWindows(i *inode, first, offset uint64, length int) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	last := (offset + uint64(length) - 1) / (blockBytes * windowBlocks)
	for w := first; w <= last && i.missing(w*blockBytes*windowBlocks, 1) == w; w++ {
		if _, err := s.window(i, w, true); err != nil {
			return err
		}
	}
	return nil
}

// locate says where the file blocks from file on are, up to limit of them; mu is held, and the
// windows are in memory.
func (i *inode) locate(file, limit uint64) source {
	src, ok := i.active.find(file, limit)
	if !ok && i.sealed != nil {
		src, ok = i.sealed.find(file, src.count)
	}
	if !ok {
		window := file / windowBlocks
		src, _ = i.windows[window].source(file, min(src.count, (window+1)*windowBlocks-file))
	}
	return src
}

// fill reads r.p.
func (s *Store) fill(r *readPlan) error {
	end := r.offset + uint64(len(r.p))
	for at := r.offset; at < end; {
		file := at / blockBytes
		src := r.i.locate(file, (end-1)/blockBytes-file+1)
		stop := min(end, (file+src.count)*blockBytes)
		if err := s.fillFrom(r, src, at, r.p[at-r.offset:stop-r.offset]); err != nil {
			return err
		}
		at = stop
	}
	for k := 0; k < len(r.ios); k += transferBlocks {
		if err := s.readVolume(r.ios[k:min(len(r.ios), k+transferBlocks)]); err != nil {
			return s.readErr(r.i, err)
		}
	}
	if s.cache.admits(len(r.p) / blockBytes) {
		for k := range r.ios {
			s.cache.put(r.ios[k].Block, r.ios[k].Buf)
		}
	}
	for k := range r.parts {
		part := &r.parts[k]
		copy(part.dst, part.b[part.from:])
	}
	return nil
}

// fillFrom reads dst, which begins at a byte of the file, from one source, or plans to.
func (s *Store) fillFrom(r *readPlan, src source, at uint64, dst []byte) error {
	skip := at % blockBytes
	switch {
	case src.hole || (src.block == nil && src.ext.place == reserved):
		clear(dst)
	case src.block != nil:
		copy(dst, src.block[skip:])
	case src.ext.place == onVolume:
		s.planVolume(r, &src.ext, int(skip), dst)
	default:
		return s.fillStored(r, &src.ext, skip, dst)
	}
	return nil
}

// planVolume reads dst, which begins at byte skip of an extent on the volume, from the cache, or plans
// to read it: whole blocks straight into dst, as many as follow each other in one transfer.
func (s *Store) planVolume(r *readPlan, x *extent, skip int, dst []byte) {
	whole := 0 // blocks before the present one that the last transfer has
	for done := 0; done < len(dst); {
		k := (skip + done) / blockBytes
		from := (skip + done) % blockBytes
		if n := s.cache.get(x.start+volume.Block(k), from, dst[done:]); n > 0 {
			done, whole = done+n, 0
			continue
		}
		if n := min(len(dst)-done, blockBytes-from); n < blockBytes {
			r.planPart(x.io(k, 1), from, dst[done:done+n])
			done, whole = done+n, 0
			continue
		}
		count := 1 // the cache has just not had the first
		if n := (len(dst) - done) / blockBytes; n > 1 {
			count = max(1, s.cache.absent(x.start+volume.Block(k), n))
		}
		if whole == 0 {
			r.ios = append(r.ios, volume.IO{})
		}
		io := x.io(k-whole, whole+count)
		io.Buf = dst[done-whole*blockBytes : done+count*blockBytes]
		r.ios[len(r.ios)-1] = io
		done, whole = done+count*blockBytes, whole+count
	}
}

// io is a transfer of n blocks of x from its k-th on, without a buffer.
func (x *extent) io(k, n int) volume.IO {
	return volume.IO{Block: x.start + volume.Block(k), Tags: x.tags[k*tagBytes : (k+n)*tagBytes], Generation: x.generation}
}

func (r *readPlan) planPart(io volume.IO, from int, dst []byte) {
	b := newBlock()
	r.parts = append(r.parts, part{dst: dst, from: from, b: b})
	io.Buf = b[:]
	r.ios = append(r.ios, io)
}

// fillStored reads dst from blocks in the metadata store.
func (s *Store) fillStored(r *readPlan, x *extent, skip uint64, dst []byte) error {
	b := newBlock()
	defer freeBlock(b)
	for file := x.file; len(dst) > 0; file++ {
		if err := s.readStored(r.i.number, file, x.place, b); err != nil {
			return err
		}
		n := copy(dst, b[skip:])
		dst, skip = dst[n:], 0
	}
	return nil
}

// readStored reads one block from the metadata store.
func (s *Store) readStored(number, file uint64, where place, b *block) error {
	table := tableJournal
	if where == inInode {
		table = tableInline
	}
	found, err := s.get(pairKey(table, number, file), func(value []byte) error {
		if !untrim(b[:], value) {
			return damaged("block in the metadata store", number)
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("filestore: block %d: %w", file, damaged("missing block", number))
	}
	return err
}

// readBlock reads a whole file block as it is seen; mu is held alone.
func (s *Store) readBlock(i *inode, file uint64, b *block) error {
	if file*blockBytes >= i.rec.attr.Size {
		clear(b[:])
		return nil
	}
	if _, err := s.window(i, file/windowBlocks, true); err != nil {
		return err
	}
	src := i.locate(file, 1)
	switch {
	case src.hole || (src.block == nil && src.ext.place == reserved):
		clear(b[:])
	case src.block != nil:
		*b = *src.block
	case src.ext.place != onVolume:
		return s.readStored(i.number, file, src.ext.place, b)
	case s.cache.get(src.ext.start, 0, b[:]) == blockBytes:
	default:
		io := src.ext.io(0, 1)
		io.Buf = b[:]
		if err := s.readVolume([]volume.IO{io}); err != nil {
			return s.readErr(i, err)
		}
	}
	return nil
}
