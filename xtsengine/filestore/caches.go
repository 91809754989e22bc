package filestore

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/volume"
)

// Caches are the memory that file systems share: a cache of decrypted content, one of metadata, out of
// which the metadata stores take their memtables too, and what may be in memory of unstable data and of
// inodes with their extents. One bound holds for all of them. Who reads or writes much has much of it, but
// each has its share of the memory that others would have to wait for.
type Caches struct {
	content contentCache
	meta    *pebble.Cache
	owners  atomic.Uint32

	dirty    account // unstable data in memory
	behind   account // unstable data that is yet to be stored
	unstable account // unstable data on the volume, of which memory has the tags
	nodes    account // inodes, extents and names
	waiting  atomic.Int64

	mu       sync.Mutex
	stores   map[*Store]struct{}
	memTable int64 // bytes that are left for memtables
}

// NewCaches divides so many bytes, 4 MiB at least, which are taken as they are needed: limits.go says what
// is for what. A part is left for what is beside these accounts, and for what the collector has not found
// yet.
func NewCaches(bytes int64) (*Caches, error) {
	if bytes < minCacheBytes {
		return nil, errors.New("filestore: caches of less than 4 MiB")
	}
	c := &Caches{stores: map[*Store]struct{}{}, memTable: bytes / memTablesShare}
	if err := c.content.init(ContentBytes(bytes)); err != nil {
		return nil, fmt.Errorf("filestore: caches: %w", err)
	}
	c.meta = pebble.NewCache(bytes / metaShare)
	c.dirty.limitBytes, c.nodes.limitBytes = bytes/dirtyShare, bytes/nodeShare
	c.unstable.limitBytes = bytes
	c.behind.limitBytes = min(bytes/dirtyShare, behindBytes)
	return c, nil
}

// ContentBytes is which part of the memory of Caches is outside the Go heap.
func ContentBytes(bytes int64) int64 { return bytes / 8 * contentEighths }

// HeapBytes is the soft limit for the Go runtime with which a process that has Caches of so many bytes keeps
// to them: what content and the buffers outside the heap leave, but enough for the accounts at least.
func HeapBytes(bytes int64) int64 {
	return max(bytes-ContentBytes(bytes)-buffersBytes, bytes*heapEighths/8)
}

// join lets a store share the accounts, and says how large its memtables are: two of them have a quarter of
// what is left, so that there is always something left.
func (c *Caches) join(s *Store) (memTableBytes int64) {
	s.dirtyMem.open(&c.dirty)
	s.behindMem.open(&c.behind)
	s.unstable.open(&c.unstable)
	s.nodes.open(&c.nodes)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stores[s] = struct{}{}
	memTableBytes = min(max(c.memTable/8, minMemTableBytes), maxMemTableBytes)
	c.memTable -= 2 * memTableBytes
	return memTableBytes
}

// leave ends what join began.
func (c *Caches) leave(s *Store, memTableBytes int64) {
	c.mu.Lock()
	delete(c.stores, s)
	c.memTable += 2 * memTableBytes
	c.mu.Unlock()
	c.wakeWriters()
}

// wakeWriters lets those look again who wait for memory, in whichever store.
func (c *Caches) wakeWriters() {
	if c.waiting.Load() == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.stores {
		s.throttle.broadcast()
	}
}

// wakeFlushers wakes those of the stores that have much.
func (c *Caches) wakeFlushers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.stores {
		if s.dirtyMem.high() {
			s.background.wakeFlusher()
		}
	}
}

// shareMemory begins to share the accounts, or begins some that nobody else shares and that have no limit
// but the store's own.
func (s *Store) shareMemory() {
	if c := s.opts.Caches; c != nil {
		s.opts.MemTableBytes = c.join(s)
		return
	}
	for _, h := range []*held{&s.dirtyMem, &s.behindMem, &s.unstable, &s.nodes} {
		h.open(new(account))
	}
}

// releaseMemory ends shareMemory; nothing of the store is used any more.
func (s *Store) releaseMemory() {
	for _, h := range []*held{&s.dirtyMem, &s.behindMem, &s.unstable, &s.nodes} {
		h.close()
	}
	if c := s.opts.Caches; c != nil {
		c.leave(s, s.opts.MemTableBytes)
	}
}

// Close gives the memory back; every store that uses the caches is closed before.
func (c *Caches) Close() error {
	c.meta.Unref()
	return c.content.close()
}

// ownCache is what one store has of a cache.
type ownCache struct {
	shared *contentCache
	owner  uint32
	alone  bool // nobody else uses shared
}

// contentOf returns a store's part of the cache of content: of the shared one, or of one of its own.
func contentOf(o *Options) (ownCache, error) {
	if o.Caches != nil {
		return ownCache{shared: &o.Caches.content, owner: o.Caches.owners.Add(1)}, nil
	}
	c := new(contentCache)
	if err := c.init(o.CacheBytes - o.CacheBytes/metaCacheShare); err != nil {
		return ownCache{}, fmt.Errorf("filestore: cache: %w", err)
	}
	return ownCache{shared: c, alone: true}, nil
}

// metaOf returns the cache for a metadata store, with a reference for the caller.
func metaOf(o *Options) *pebble.Cache {
	if o.Caches != nil {
		o.Caches.meta.Ref()
		return o.Caches.meta
	}
	// Pebble takes its memtables out of the cache: two are usual, one that fills and one that is
	// written out.
	return pebble.NewCache(o.CacheBytes/metaCacheShare + 2*o.MemTableBytes)
}

func (c ownCache) get(b volume.Block, skip int, dst []byte) int {
	return c.shared.get(cacheKey{c.owner, b}, skip, dst)
}

func (c ownCache) put(b volume.Block, content []byte) { c.shared.put(cacheKey{c.owner, b}, content) }

// putAhead keeps what nobody has asked for yet.
func (c ownCache) putAhead(b volume.Block, content []byte) {
	c.shared.putAhead(cacheKey{c.owner, b}, content)
}

func (c ownCache) absent(b volume.Block, limit int) int {
	return c.shared.absent(cacheKey{c.owner, b}, limit)
}

func (c ownCache) has(b volume.Block) bool { return c.shared.has(cacheKey{c.owner, b}) }

func (c ownCache) drop(runs []volume.Run) { c.shared.drop(c.owner, runs) }

func (c ownCache) admits(blocks int) bool { return c.shared.admits(blocks) }

func (c ownCache) count() int64 { return c.shared.count(c.owner) }

// wipe drops all of it: nothing of the plaintext stays in memory.
func (c ownCache) wipe() { c.shared.wipe(c.owner) }

// close ends it.
func (c ownCache) close() error {
	c.wipe()
	if !c.alone {
		return nil
	}
	return c.shared.close()
}
