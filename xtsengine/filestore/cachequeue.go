package filestore

// The queues of a shard; its mu is held.

// hit counts that a slot is read. What was read ahead was put there for the first read.
func (s *cacheSlot) hit() {
	if s.ahead {
		s.ahead = false
		return
	}
	if s.hits < maxCacheHits {
		s.hits++
	}
}

// evict takes a block out of the cache and returns its slot. Each step lets one go, takes a turn from it, or passes over one that
// is lent, which not all are: it ends.
func (sh *cacheShard) evict() uint32 {
	for {
		if sh.main.length > 0 && sh.fresh.length <= sh.limit/newcomers {
			k := sh.main.first - 1
			if s := &sh.slots[k]; s.hits > 0 || s.readers > 0 {
				s.hits -= min(s.hits, 1)
				sh.dequeue(k)
				sh.enqueue(k)
				continue
			}
			sh.forget(k)
			return k
		}
		k := sh.fresh.first - 1
		if s := &sh.slots[k]; s.hits > 0 || s.readers > 0 {
			sh.dequeue(k)
			s.hits, s.fresh = 0, false
			sh.enqueue(k)
			continue
		}
		sh.remember(sh.slots[k].key)
		sh.forget(k)
		return k
	}
}

func (sh *cacheShard) queueOf(s *cacheSlot) *queue {
	if s.fresh {
		return &sh.fresh
	}
	return &sh.main
}

// enqueue puts a slot at the end of its queue.
func (sh *cacheShard) enqueue(k uint32) {
	s := &sh.slots[k]
	q := sh.queueOf(s)
	s.prev, s.next = q.last, 0
	if q.last != 0 {
		sh.slots[q.last-1].next = k + 1
	} else {
		q.first = k + 1
	}
	q.last = k + 1
	q.length++
}

// dequeue takes a slot out of its queue.
func (sh *cacheShard) dequeue(k uint32) {
	s := &sh.slots[k]
	q := sh.queueOf(s)
	if s.prev != 0 {
		sh.slots[s.prev-1].next = s.next
	} else {
		q.first = s.next
	}
	if s.next != 0 {
		sh.slots[s.next-1].prev = s.prev
	} else {
		q.last = s.prev
	}
	q.length--
}

// remember keeps the name of a newcomer that nobody has read again.
func (sh *cacheShard) remember(key cacheKey) {
	at, mark := sh.place(key)
	sh.gone[at] = mark
}

// knows says whether a block was a newcomer a while ago.
func (sh *cacheShard) knows(key cacheKey) bool {
	at, mark := sh.place(key)
	return sh.gone[at] == mark
}

// place is where in gone a name is kept, and its fingerprint, which is not 0. Two names that share both are taken
// for one: a block would be in the wrong queue, no more.
func (sh *cacheShard) place(key cacheKey) (at, mark uint32) {
	h := (uint64(key.block) + uint64(key.owner)<<40) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	return uint32(h % uint64(len(sh.gone))), uint32(h>>32) | 1
}
