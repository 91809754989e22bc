package filestore

import (
	"sync"
	"sync/atomic"

	"github.com/nfseal/nfseal/xtsengine/volume"
)

// Shape of the content cache.
const (
	cacheShards  = 16
	cacheRun     = 32 // consecutive blocks that are in one shard
	slabBlocks   = 64 // memory is taken in so many blocks
	maxCacheHits = 3  // how often the clock passes over a block that was read again

	// A Read of more blocks than largeRead gets into a full cache one time in largeShare: most such
	// reads are part of a scan, and copying costs.
	largeRead  = 64
	largeShare = 8
)

// contentCache keeps decrypted blocks of the file systems that share it. A block that a file refers to never changes, so
// an entry is right until the block is freed, and free drops it before it gives the block back.
//
// It is a clock that counts: what was read once goes before what was read again, so that one long scan
// does not empty it.
type contentCache struct {
	shards [cacheShards]cacheShard
	room   atomic.Int64 // blocks that fit in without another one going
	large  atomic.Uint64
}

// cacheKey is a block of one file system.
type cacheKey struct {
	owner uint32
	block volume.Block
}

type cacheShard struct {
	mu    sync.Mutex
	index map[cacheKey]uint32
	slots []cacheSlot
	slabs [][]byte
	idle  []uint32 // slots without a block
	hand  uint32
	limit int
}

type cacheSlot struct {
	key  cacheKey
	hits uint8
}

func (c *contentCache) init(limitBytes int64) {
	limit := int(limitBytes / blockBytes / cacheShards)
	for k := range c.shards {
		c.shards[k].index = map[cacheKey]uint32{}
		c.shards[k].limit = limit
	}
	c.room.Store(int64(limit) * cacheShards)
}

// admits says whether so many blocks that were read together should be put.
func (c *contentCache) admits(blocks int) bool {
	return blocks <= largeRead || c.room.Load() >= int64(blocks) || c.large.Add(1)%largeShare == 0
}

func (c *contentCache) shard(k cacheKey) *cacheShard {
	return &c.shards[(uint64(k.block)/cacheRun+uint64(k.owner))%cacheShards]
}

// get copies what the cache has of a block from byte skip on, and says whether it has it.
func (c *contentCache) get(b cacheKey, skip int, dst []byte) bool {
	sh := c.shard(b)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	k, ok := sh.index[b]
	if !ok {
		return false
	}
	if s := &sh.slots[k]; s.hits < maxCacheHits {
		s.hits++
	}
	copy(dst, sh.bytes(k)[skip:])
	return true
}

// put keeps whole blocks, which begin at b.
func (c *contentCache) put(b cacheKey, content []byte) {
	for ; len(content) > 0; content = content[blockBytes:] {
		c.shard(b).put(c, b, content[:blockBytes])
		b.block++
	}
}

func (sh *cacheShard) put(c *contentCache, b cacheKey, content []byte) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if _, ok := sh.index[b]; ok || sh.limit == 0 {
		return
	}
	k, fresh := sh.slot()
	if fresh {
		c.room.Add(-1)
	}
	sh.slots[k] = cacheSlot{key: b}
	sh.index[b] = k
	copy(sh.bytes(k), content)
}

// bytes is the memory of a slot.
func (sh *cacheShard) bytes(k uint32) []byte {
	at := int(k%slabBlocks) * blockBytes
	return sh.slabs[k/slabBlocks][at : at+blockBytes]
}

// slot gives a slot for a block; fresh says that none had to go for it.
func (sh *cacheShard) slot() (k uint32, fresh bool) {
	if n := len(sh.idle); n > 0 {
		k := sh.idle[n-1]
		sh.idle = sh.idle[:n-1]
		return k, true
	}
	if n := len(sh.slots); n < sh.limit {
		if n == len(sh.slabs)*slabBlocks {
			sh.slabs = append(sh.slabs, make([]byte, slabBlocks*blockBytes))
		}
		sh.slots = append(sh.slots, cacheSlot{})
		return uint32(n), true
	}
	for {
		sh.hand = (sh.hand + 1) % uint32(len(sh.slots))
		s := &sh.slots[sh.hand]
		if s.hits > 0 {
			s.hits--
			continue
		}
		delete(sh.index, s.key)
		return sh.hand, false
	}
}

// drop forgets blocks of one file system.
func (c *contentCache) drop(owner uint32, runs []volume.Run) {
	for _, run := range runs {
		for n := range run.Count {
			k := cacheKey{owner, run.Start + volume.Block(n)}
			c.shard(k).drop(c, k)
		}
	}
}

func (sh *cacheShard) drop(c *contentCache, b cacheKey) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if k, ok := sh.index[b]; ok {
		sh.dropLocked(c, b, k)
	}
}

// dropLocked forgets what is in a slot.
func (sh *cacheShard) dropLocked(c *contentCache, b cacheKey, k uint32) {
	delete(sh.index, b)
	clear(sh.bytes(k)) // of what is freed no plaintext stays
	sh.slots[k] = cacheSlot{}
	sh.idle = append(sh.idle, k)
	c.room.Add(1)
}

// forget drops all blocks of one file system.
func (c *contentCache) forget(owner uint32) {
	for n := range c.shards {
		sh := &c.shards[n]
		sh.mu.Lock()
		for b, k := range sh.index {
			if b.owner == owner {
				sh.dropLocked(c, b, k)
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
		for b := range sh.index {
			if b.owner == owner {
				n++
			}
		}
		sh.mu.Unlock()
	}
	return n
}
