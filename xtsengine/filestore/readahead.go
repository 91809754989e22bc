package filestore

import (
	"sync"
	"sync/atomic"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// A client that reads a file from one end to the other and asks for little at a time, as Linux does with its
// 128 KiB, waits for the device at each call. What follows its last read is then read into the cache of content
// before it is asked for. A client that has several reads under way does that by itself, and reading through the cache
// costs a copy, so it is left alone.

// readAhead is how a file is being read. All of it is a guess: nothing depends on two of its fields going together.
type readAhead struct {
	reading atomic.Int32  // calls of Read under way
	next    atomic.Uint64 // where the last read ended, or one near it
	run     atomic.Uint64 // bytes that were read in sequence up to there
	from    atomic.Uint64 // of what was ordered last
	upTo    atomic.Uint64
	busy    sync.Mutex // held from an order until it is done
}

// aheadOrder is a piece of a pinned file that is to be in the cache; its busy is held.
type aheadOrder struct {
	i      *inode
	offset uint64
	length int
	used   int // bytes of the memory for it that something was read into
}

// note takes a read down and says what to order, 0 bytes if nothing.
func (a *readAhead) note(offset, length uint64) (from uint64, n int) {
	end, last := offset+length, a.next.Load()
	switch near := min(aheadNear*length, maxAheadBytes); {
	case length == 0:
		return 0, 0
	case offset == last:
	case offset < last && last-offset <= near, offset > last && offset-last <= near:
		end = max(end, last) // its neighbours overtook it
	default:
		a.next.Store(end)
		a.run.Store(length)
		a.upTo.Store(0)
		return 0, 0
	}
	a.next.Store(end)
	run := a.run.Add(length)
	if run < aheadAfter || run == length || a.reading.Load() > aheadReaders {
		return 0, 0
	}
	from = max(a.upTo.Load(), end) / blockBytes * blockBytes
	n = int(min(max(length, minAheadBytes), maxAheadBytes))
	if from > end+uint64(n) {
		return 0, 0 // far enough
	}
	return from, n
}

// wait returns when what was ordered last is done.
func (a *readAhead) wait() {
	a.busy.Lock()
	defer a.busy.Unlock()
}

// beginRead waits for a part of the range that is being read ahead, and orders what follows the range, if it looks
// like that. endRead is called when the file has been read.
func (s *Store) beginRead(i *inode, offset uint64, length int) {
	a := &i.ahead
	a.reading.Add(1)
	if offset >= a.from.Load() && offset < a.upTo.Load() {
		a.wait()
	}
	s.orderAhead(i, offset, uint64(length))
}

// orderAhead takes a read down, and orders what follows it if that looks to be wanted.
func (s *Store) orderAhead(i *inode, offset, length uint64) {
	a := &i.ahead
	from, n := a.note(offset, length)
	if n == 0 || !a.busy.TryLock() {
		return
	}
	i.refs.Add(1)
	a.from.Store(from)
	a.upTo.Store(from + uint64(n))
	select {
	case s.background.ahead <- aheadOrder{i: i, offset: from, length: n}:
	default:
		s.endAhead(i)
	}
}

func (i *inode) endRead() { i.ahead.reading.Add(-1) }

func (s *Store) endAhead(i *inode) {
	i.ahead.busy.Unlock()
	s.unpin(i)
}

// aheadLoop does what is ordered until the background stops.
func (s *Store) aheadLoop() {
	for {
		select {
		case o := <-s.background.ahead:
			s.doAhead(o)
		case <-s.background.stop:
			s.dropAhead()
			return
		}
	}
}

// dropAhead ends orders that are not done.
func (s *Store) dropAhead() {
	for {
		select {
		case o := <-s.background.ahead:
			s.endAhead(o.i)
		default:
			return
		}
	}
}

// doAhead reads a piece of a file into the cache. An error is for the read that wants the data: it will meet it.
func (s *Store) doAhead(o aheadOrder) {
	defer s.endAhead(o.i)
	buf := blockdev.Alloc(o.length)
	defer func() {
		clear(buf[:o.used]) // of plaintext
		blockdev.Free(buf)
	}()
	r := readPlans.Get().(*readPlan)
	defer r.release()
	for s.failed() == nil {
		missing, err := s.readOrdered(r, &o, buf)
		if err != nil || missing == noWindow {
			return
		}
		if s.loadWindows(o.i, missing, o.offset, o.length) != nil {
			return
		}
	}
}

// readOrdered does an order under the file's lock. missing is a window that has to be loaded first.
func (s *Store) readOrdered(r *readPlan, o *aheadOrder, buf []byte) (missing uint64, err error) {
	i := o.i
	i.mu.RLock()
	defer i.mu.RUnlock()
	if size := i.rec.attr.Size; i.loadErr != nil || i.dead.Load() || o.offset >= size {
		return noWindow, nil
	} else if rest := size - o.offset; uint64(len(buf)) > rest {
		buf = buf[:(rest+blockBytes-1)/blockBytes*blockBytes]
	}
	if missing := i.missing(o.offset, len(buf)); missing != noWindow {
		return missing, nil
	}
	s.planAhead(r, i, o.offset/blockBytes, buf)
	if len(r.ios) == 0 {
		i.ahead.upTo.Store(o.offset + aheadCached) // it is all there: no need to look at each step
		return noWindow, nil
	}
	o.used = len(buf)
	for k := 0; k < len(r.ios); k += transferBlocks {
		if err := s.readVolume(r.ios[k:min(len(r.ios), k+transferBlocks)]); err != nil {
			return noWindow, err
		}
	}
	for k := range r.ios {
		s.cache.putAhead(r.ios[k].Block, r.ios[k].Buf)
		s.stats.aheadBlocks.Add(uint64(len(r.ios[k].Buf) / blockBytes))
	}
	return noWindow, nil
}

// planAhead plans to read those blocks of a file, from first on, that are on the volume and not in the cache.
func (s *Store) planAhead(r *readPlan, i *inode, first uint64, buf []byte) {
	for end := first + uint64(len(buf)/blockBytes); first < end; {
		src := i.locate(first, end-first)
		n := int(src.count) * blockBytes
		if !src.hole && src.block == nil && src.ext.place == onVolume {
			s.planUncached(r, &src.ext, buf[:n])
		}
		buf = buf[n:]
		first += src.count
	}
}

// planUncached plans to read the blocks of an extent that are not in the cache into their places of dst.
func (s *Store) planUncached(r *readPlan, x *extent, dst []byte) {
	for k, end := 0, len(dst)/blockBytes; k < end; {
		if s.cache.has(x.start + volume.Block(k)) {
			k++
			continue
		}
		first := k
		for k++; k < end && !s.cache.has(x.start+volume.Block(k)); k++ {
		}
		io := x.io(first, k-first)
		io.Buf = dst[first*blockBytes : k*blockBytes]
		r.ios = append(r.ios, io)
	}
}
