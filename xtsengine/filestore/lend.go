package filestore

import (
	"context"
	"math"
	"sync"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// loan is a part of a file's content in the cache of content, for a reader who has it there until it is given back. What is
// lent neither goes nor changes: a block that is freed meanwhile leaves the cache, but its slot is cleared and used again only when
// its last reader has given it back.
type loan struct {
	cache  *contentCache
	pieces []lentSlots
	views  [][]byte // one for each of pieces
}

// lentSlots are slots that follow each other in memory.
type lentSlots struct {
	shard *cacheShard
	first uint32
	count uint32
}

var loans = sync.Pool{New: func() any { return new(loan) }}

// Views implements vfs.Loan.
func (l *loan) Views() [][]byte { return l.views }

// Return implements vfs.Loan.
func (l *loan) Return() {
	for k := range l.pieces {
		p := &l.pieces[k]
		l.cache.room.Add(int64(p.shard.takeBack(p.first, p.count)))
	}
	l.cache.loans.Done()
	clear(l.pieces)
	clear(l.views)
	*l = loan{pieces: l.pieces[:0], views: l.views[:0]}
	loans.Put(l)
}

// Lend implements vfs.Lender. It is about content that the cache has all of; the rest is for Read, which also says what is
// wrong.
func (s *Store) Lend(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset uint64, length int) (vfs.Loan, bool) {
	if s.enter(ctx) != nil {
		return nil, false
	}
	defer s.life.RUnlock()
	i := s.pin(id.Inode)
	defer s.unpin(i)
	l, n, eof := s.lend(i, cred, id, offset, length)
	if l == nil {
		return nil, false
	}
	s.stats.reads.Add(1)
	s.stats.lends.Add(1)
	s.stats.bytesRead.Add(uint64(n))
	s.orderAhead(i, offset, uint64(n))
	return l, eof
}

// lend is Lend of a pinned file, and returns how much it is; nil if not all of it is in the cache.
func (s *Store) lend(i *inode, cred *vfs.Cred, id vfs.FileID, offset uint64, length int) (l *loan, n int, eof bool) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	if i.checkFile(id, cred, vfs.MayRead) != nil {
		return nil, 0, false
	}
	size := i.rec.attr.Size
	if length <= 0 || offset >= size {
		return nil, 0, false
	}
	n = int(min(uint64(length), size-offset))
	if i.missing(offset, n) != noWindow {
		return nil, 0, false
	}
	l = s.cache.borrow()
	if !s.lendRange(l, i, offset, n) {
		l.Return()
		return nil, 0, false
	}
	return l, n, offset+uint64(n) == size
}

// lendRange adds a range of a file to a loan, and says whether the cache has all of it; i.mu is held, and the windows are in
// memory.
func (s *Store) lendRange(l *loan, i *inode, offset uint64, n int) bool {
	for at, end := offset, offset+uint64(n); at < end; {
		file := at / blockBytes
		src := i.locate(file, (end-1)/blockBytes-file+1)
		if src.hole || src.block != nil || src.ext.place != onVolume {
			return false
		}
		stop := min(end, (file+src.count)*blockBytes)
		if !s.cache.lend(l, src.ext.start, int(at%blockBytes), int(stop-at)) {
			return false
		}
		at = stop
	}
	return true
}

// borrow begins a loan, of nothing.
func (c ownCache) borrow() *loan {
	l := loans.Get().(*loan)
	l.cache = c.shared
	c.shared.loans.Add(1)
	return l
}

// lend adds n bytes to a loan, from byte skip of block b on, and says whether the cache has, and lends, all of them.
func (c ownCache) lend(l *loan, b volume.Block, skip, n int) bool {
	for n > 0 {
		key, at := cacheKey{c.owner, b}.run()
		lent := c.shared.shard(key).lend(l, key, at, skip, n)
		if n -= lent; n > 0 && skip+lent != (cacheRun-at)*blockBytes {
			return false
		}
		b, skip = b+volume.Block(cacheRun-at), 0
	}
	return true
}

// lend is ownCache.lend within one run, from its block at on, and returns how much it has lent.
func (sh *cacheShard) lend(l *loan, key runKey, at, skip, n int) (done int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	run := sh.index[key]
	if run == nil {
		return 0
	}
	for done < n && at < cacheRun && run.slots[at] != 0 {
		k := run.slots[at] - 1
		if !sh.giveOut(k) {
			return done
		}
		part := min(blockBytes-skip, n-done)
		l.add(sh, k, skip, part)
		done += part
		at, skip = at+1, 0
	}
	return done
}

// giveOut gives a slot another reader, if it can have one more.
func (sh *cacheShard) giveOut(k uint32) bool {
	s := &sh.slots[k]
	switch {
	case s.readers == math.MaxUint16:
		return false
	case s.readers == 0 && sh.lent >= sh.limit/lentShare:
		return false
	case s.readers == 0:
		sh.lent++
	}
	s.readers++
	s.hit()
	return true
}

// add adds n bytes of a slot from byte skip on, to the last piece if that ends there.
func (l *loan) add(sh *cacheShard, k uint32, skip, n int) {
	if last := len(l.pieces) - 1; last >= 0 {
		p, view := &l.pieces[last], &l.views[last]
		if p.shard == sh && p.first+p.count == k && skip == 0 {
			p.count++
			*view = (*view)[:len(*view)+n]
			return
		}
	}
	l.pieces = append(l.pieces, lentSlots{shard: sh, first: k, count: 1})
	from := int(k)*blockBytes + skip
	l.views = append(l.views, sh.memory[from:from+n])
}

// takeBack takes slots back from one of their readers, and returns how many are idle by it.
func (sh *cacheShard) takeBack(first, count uint32) (idle int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for k := first; k < first+count; k++ {
		s := &sh.slots[k]
		if s.readers--; s.readers > 0 {
			continue
		}
		sh.lent--
		if s.dropped {
			sh.rest(k)
			idle++
		}
	}
	return idle
}
