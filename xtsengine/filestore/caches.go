package filestore

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/volume"
)

// Caches are memory that file systems share: a cache of decrypted content, and one of metadata out of
// which the metadata stores take their memtables too. One bound holds for all of them, and who reads
// much has much of it.
type Caches struct {
	content contentCache
	meta    *pebble.Cache
	owners  atomic.Uint32
}

// NewCaches returns caches of so many bytes, 4 MiB at least: a quarter for metadata, the rest for
// content, taken as it is needed.
func NewCaches(bytes int64) (*Caches, error) {
	if bytes < minCacheBytes {
		return nil, errors.New("filestore: caches of less than 4 MiB")
	}
	c := new(Caches)
	if err := c.content.init(bytes - bytes/metaCacheShare); err != nil {
		return nil, fmt.Errorf("filestore: caches: %w", err)
	}
	c.meta = pebble.NewCache(bytes / metaCacheShare)
	return c, nil
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
