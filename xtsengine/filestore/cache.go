package filestore

import (
	"sync"
	"sync/atomic"

	"github.com/nfseal/nfseal/internal/hugemem"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// Shape of the content cache.
const (
	cacheShards  = 16
	cacheRun     = 32 // consecutive blocks that are found together, in one shard
	maxCacheHits = 3  // how many turns more a block has at most that was read again

	// A Read of more blocks than largeRead gets into a full cache one time in largeShare: most such
	// reads are part of a scan, and copying costs.
	largeRead  = 64
	largeShare = 8

	// newcomers is which part of a shard, one in so many, is kept for what is new.
	newcomers = 10

	// lentShare is which part of a shard, one in so many, may be lent at a time: what is lent cannot go.
	lentShare = 4

	// minMappedCache is from how many bytes on a cache is in huge pages.
	minMappedCache = 64 << 20
)

// contentCache keeps decrypted blocks of the file systems that share it. A block that a file refers to never changes, so
// an entry is right until the block is freed, and free drops it before it gives the block back.
//
// A shard is three queues, after S3-FIFO (Yang et al., SOSP 2023; docs/adr/0016-content-cache.md). What is new
// waits in a small one, and if nobody reads it there it goes, but its name is kept for a while: so a long scan passes
// through a tenth of the cache. What was read while it waited, or comes again while its name is known, is in the main
// one, where it has another turn for each time that it was read. Its memory is outside the heap and taken as it is
// needed.
type contentCache struct {
	shards [cacheShards]cacheShard
	room   atomic.Int64 // blocks that fit in without another one going
	large  atomic.Uint64
	loans  sync.WaitGroup // what readers have (lend.go)
	mapped []byte         // what the shards have, unless it is of the heap
}

// cacheKey is a block of one file system.
type cacheKey struct {
	owner uint32
	block volume.Block
}

// runKey is cacheRun blocks of one file system, which begin at a multiple of it.
type runKey struct {
	owner uint32
	run   uint64
}

// cachedRun says in which slots the blocks of a run are: one more than the slot, 0 for none.
type cachedRun struct {
	slots [cacheRun]uint32
	used  int
}

type cacheShard struct {
	mu     sync.Mutex
	index  map[runKey]*cachedRun
	spare  *cachedRun // an empty one
	slots  []cacheSlot
	memory []byte   // of limit slots
	idle   []uint32 // slots without a block
	fresh  queue    // newcomers
	main   queue
	gone   []uint32 // fingerprints of newcomers that had to go, each in the place that its hash says
	limit  int
	lent   int // slots that readers have
}

type cacheSlot struct {
	key        cacheKey
	prev, next uint32 // in its queue: one more than the slot, 0 for none
	readers    uint16 // who have it where it lies
	hits       uint8
	fresh      bool // in the queue of newcomers
	ahead      bool // read ahead, and not asked for yet
	dropped    bool // as its last reader gives it back it is idle
}

// queue is slots in the order of their coming.
type queue struct {
	first, last uint32 // one more than the slot, 0 for none
	length      int
}

func (c *contentCache) init(limitBytes int64) error {
	limit := int(limitBytes / blockBytes / cacheShards)
	share := limit * blockBytes
	memory := []byte(nil)
	if limitBytes < minMappedCache {
		memory = make([]byte, share*cacheShards)
	} else {
		var err error
		if memory, err = hugemem.Map(share * cacheShards); err != nil {
			return err
		}
		c.mapped = memory
	}
	for k := range c.shards {
		sh := &c.shards[k]
		sh.index, sh.limit, sh.gone = map[runKey]*cachedRun{}, limit, make([]uint32, limit)
		sh.memory = memory[k*share : (k+1)*share]
	}
	c.room.Store(int64(limit) * cacheShards)
	return nil
}

// close gives the memory back. Nobody uses the cache any more, but for those who have a part of it: they are waited for.
func (c *contentCache) close() error {
	c.loans.Wait()
	for k := range c.shards {
		sh := &c.shards[k]
		sh.memory, sh.limit = nil, 0
	}
	if c.mapped == nil {
		return nil
	}
	err := hugemem.Unmap(c.mapped)
	c.mapped = nil
	return err
}

// admits says whether so many blocks that were read together should be put.
func (c *contentCache) admits(blocks int) bool {
	return blocks <= largeRead || c.room.Load() >= int64(blocks) || c.large.Add(1)%largeShare == 0
}

func (k cacheKey) run() (key runKey, at int) {
	return runKey{k.owner, uint64(k.block) / cacheRun}, int(k.block % cacheRun)
}

func (c *contentCache) shard(k runKey) *cacheShard {
	return &c.shards[(k.run+uint64(k.owner))%cacheShards]
}

// get copies to dst what the cache has from byte skip of block b on, up to the first block that it lacks,
// and returns how much that is.
func (c *contentCache) get(b cacheKey, skip int, dst []byte) int {
	for done := 0; ; {
		key, at := b.run()
		n := c.shard(key).get(key, at, skip, dst[done:])
		done += n
		if skip += n; done == len(dst) || skip != (cacheRun-at)*blockBytes {
			return done
		}
		b.block, skip = b.block+volume.Block(cacheRun-at), 0
	}
}

// get is contentCache.get within one run, from its block at on.
func (sh *cacheShard) get(key runKey, at, skip int, dst []byte) int {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	run := sh.index[key]
	if run == nil {
		return 0
	}
	done := 0
	for done < len(dst) && at < cacheRun && run.slots[at] != 0 {
		k := run.slots[at] - 1
		sh.slots[k].hit()
		done += copy(dst[done:], sh.bytes(k)[skip:])
		at, skip = at+1, 0
	}
	return done
}

// absent returns how many blocks from b on, up to limit of them, are not there. It may stop short of that.
func (c *contentCache) absent(b cacheKey, limit int) int {
	key, at := b.run()
	return c.shard(key).absent(key, at, min(limit, cacheRun-at))
}

// absent is contentCache.absent within one run, from its block at on.
func (sh *cacheShard) absent(key runKey, at, limit int) int {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	run := sh.index[key]
	if run == nil {
		return limit
	}
	n := 0
	for n < limit && run.slots[at+n] == 0 {
		n++
	}
	return n
}

// has says whether a block is there.
func (c *contentCache) has(b cacheKey) bool {
	key, at := b.run()
	sh := c.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	run := sh.index[key]
	return run != nil && run.slots[at] != 0
}

// put keeps whole blocks, which begin at b.
func (c *contentCache) put(b cacheKey, content []byte) { c.keep(b, content, false) }

// putAhead is put for what was read ahead: that it is read then is not that it is read again.
func (c *contentCache) putAhead(b cacheKey, content []byte) { c.keep(b, content, true) }

func (c *contentCache) keep(b cacheKey, content []byte, ahead bool) {
	for len(content) > 0 {
		key, at := b.run()
		n := min(len(content), (cacheRun-at)*blockBytes)
		fresh := c.shard(key).put(key, at, content[:n], ahead)
		c.room.Add(-int64(fresh))
		content = content[n:]
		b.block += volume.Block(n / blockBytes)
	}
}

// put keeps blocks of one run, from its block at on, and returns for how many of them none had to go.
func (sh *cacheShard) put(key runKey, at int, content []byte, ahead bool) (fresh int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.limit == 0 {
		return 0
	}
	for ; len(content) > 0; at++ {
		run := sh.run(key) // each time: what has to go may be the last of its run
		if run.slots[at] == 0 {
			k, idle := sh.slot()
			if idle {
				fresh++
			} else {
				run = sh.run(key)
			}
			sh.settle(k, cacheKey{key.owner, volume.Block(key.run*cacheRun) + volume.Block(at)}, ahead)
			run.slots[at] = k + 1
			run.used++
			copy(sh.bytes(k), content[:blockBytes])
		}
		content = content[blockBytes:]
	}
	return fresh
}

// run returns a run, a new one if it is not there.
func (sh *cacheShard) run(key runKey) *cachedRun {
	run := sh.index[key]
	if run == nil {
		run, sh.spare = sh.spare, nil
		if run == nil {
			run = new(cachedRun)
		}
		sh.index[key] = run
	}
	return run
}

// settle lets the block that slot k gets wait for readers, or not if it was here a while ago.
func (sh *cacheShard) settle(k uint32, key cacheKey, ahead bool) {
	sh.slots[k] = cacheSlot{key: key, ahead: ahead, fresh: ahead || !sh.knows(key)}
	sh.enqueue(k)
}

// forget takes the block in slot k out of the index and its queue.
func (sh *cacheShard) forget(k uint32) {
	key, at := sh.slots[k].key.run()
	run := sh.index[key]
	run.slots[at] = 0
	if run.used--; run.used == 0 {
		delete(sh.index, key)
		sh.spare = run
	}
	sh.dequeue(k)
}

// bytes is the memory of a slot.
func (sh *cacheShard) bytes(k uint32) []byte {
	at := int(k) * blockBytes
	return sh.memory[at : at+blockBytes]
}

// slot gives a slot for a block; fresh says that none had to go for it.
func (sh *cacheShard) slot() (k uint32, fresh bool) {
	if n := len(sh.idle); n > 0 {
		k := sh.idle[n-1]
		sh.idle = sh.idle[:n-1]
		return k, true
	}
	if n := len(sh.slots); n < sh.limit {
		sh.slots = append(sh.slots, cacheSlot{})
		return uint32(n), true
	}
	return sh.evict(), false
}

// drop forgets blocks of one file system.
func (c *contentCache) drop(owner uint32, runs []volume.Run) {
	for _, r := range runs {
		for first := r.Start; first < r.Start+volume.Block(r.Count); {
			key, at := cacheKey{owner, first}.run()
			n := min(cacheRun-at, int(r.Start+volume.Block(r.Count)-first))
			c.room.Add(int64(c.shard(key).drop(key, at, n)))
			first += volume.Block(n)
		}
	}
}

// drop forgets n blocks of one run from its block at on, and returns how many slots are idle by it.
func (sh *cacheShard) drop(key runKey, at, n int) (idle int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	run := sh.index[key]
	if run == nil {
		return 0
	}
	for k := at + n - 1; k >= at; k-- { // the first one is the last to be idle, and the first to be used
		if slot := run.slots[k]; slot != 0 {
			idle += sh.dropLocked(slot - 1)
		}
	}
	return idle
}

// dropLocked forgets what is in a slot, and returns 1 if that is idle then, 0 if it is lent.
func (sh *cacheShard) dropLocked(k uint32) int {
	sh.forget(k)
	if s := &sh.slots[k]; s.readers > 0 {
		s.dropped = true
		return 0
	}
	sh.rest(k)
	return 1
}

// rest makes a slot idle that is in no queue and of no run.
func (sh *cacheShard) rest(k uint32) {
	clear(sh.bytes(k)) // of what is freed no plaintext stays
	sh.slots[k] = cacheSlot{}
	sh.idle = append(sh.idle, k)
}

// wipe drops all blocks of one file system.
func (c *contentCache) wipe(owner uint32) {
	for n := range c.shards {
		sh := &c.shards[n]
		sh.mu.Lock()
		for key, run := range sh.index {
			if key.owner != owner {
				continue
			}
			for _, slot := range run.slots {
				if slot != 0 {
					c.room.Add(int64(sh.dropLocked(slot - 1)))
				}
			}
		}
		sh.mu.Unlock()
	}
}

// count is how many blocks of a file system are in the cache.
func (c *contentCache) count(owner uint32) (n int64) {
	for k := range c.shards {
		sh := &c.shards[k]
		sh.mu.Lock()
		for key, run := range sh.index {
			if key.owner == owner {
				n += int64(run.used)
			}
		}
		sh.mu.Unlock()
	}
	return n
}
