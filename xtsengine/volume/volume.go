package volume

import (
	"errors"
	"fmt"
	"sync"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
)

// Volume is an open volume. Its methods may be called concurrently.
type Volume struct {
	dev      blockdev.Device
	jobs     chan *job // a token each for a window in flight, with its scratch memory
	syncs    syncer
	counters counters

	// These two never change.
	uuid        UUID
	chunkBlocks uint32

	// mu guards what is below and is held while metadata is written. It comes before the mu of
	// any Space.
	mu      sync.Mutex
	image   []byte // one aligned block for encoding metadata
	super   superblock
	superAt pair
	pages   []pair
	owners  []SpaceID // by chunk
	free    uint32    // chunks without an owner
	rover   uint32    // where the search for a free chunk goes on
	spaces  map[SpaceID]*Space
	failure error // what stopped updates of metadata
	closed  bool

	fence fence
}

// Stat describes a volume at one moment.
type Stat struct {
	SizeBytes   int64
	ChunkBytes  int64
	ChunkBlocks uint32
	// Chunks is their number, of which HeaderChunks are the format's own and FreeChunks leased
	// to nobody.
	Chunks, HeaderChunks, FreeChunks uint32
	// MaxChunks is how far the table lets the volume grow.
	MaxChunks uint32
	Epoch     uint64
}

// Open reads the volume on dev and writes nothing. The device stays the caller's, who closes it
// after Close. The errors are ErrForeign, ErrNewerFormat, ErrTruncated, ErrCorrupt and the device's.
//
// The caller sees to it that nobody else has the volume open; LocalStore does.
func Open(dev blockdev.Device, o Options) (*Volume, error) {
	o.EnsureDefaults(dev.SizeBytes())
	if err := o.Validate(); err != nil {
		return nil, err
	}
	v := &Volume{
		dev:    dev,
		jobs:   make(chan *job, o.InFlight),
		image:  blockdev.Alloc(BlockBytes),
		spaces: map[SpaceID]*Space{},
	}
	v.syncs.init(dev)
	for range o.InFlight {
		v.jobs <- new(job)
	}
	if err := v.load(); err != nil {
		blockdev.Free(v.image)
		return nil, err
	}
	return v, nil
}

// load reads all metadata. What it found may still be in a volatile cache (the last owner may have
// died between a write and its Sync), so it is made durable before anybody relies on it.
func (v *Volume) load() error {
	if err := v.loadSuperblock(); err != nil {
		return err
	}
	if err := v.loadTable(); err != nil {
		return err
	}
	if err := v.dev.Sync(); err != nil {
		return fmt.Errorf("volume: syncing what an earlier owner wrote: %w", err)
	}
	return nil
}

func (v *Volume) loadSuperblock() error {
	v.superAt = pair{offsets: [2]int64{firstSuperblock * BlockBytes, secondSuperblock * BlockBytes}}
	err := v.superAt.load(v.dev, v.image, func(image []byte) (uint64, error) {
		s, err := decodeSuperblock(image)
		if err == nil {
			v.super = s
		}
		return s.generation, err
	})
	if err != nil {
		return err
	}
	if have := v.dev.SizeBytes(); have < v.super.sizeBytes {
		return fmt.Errorf("%w: %d bytes are there, %d are missing", ErrTruncated, have, v.super.sizeBytes-have)
	}
	v.uuid, v.chunkBlocks = v.super.uuid, v.super.chunkBlocks()
	return nil
}

func (v *Volume) loadTable() error {
	s := &v.super
	v.owners = make([]SpaceID, s.chunks(), s.maxChunks)
	v.pages = make([]pair, s.tablePages())
	for page := range s.tablePages() {
		p := &v.pages[page]
		p.offsets = [2]int64{s.pageOffset(page, 0), s.pageOffset(page, 1)}
		want := pageHeader{volume: s.uuid, index: page}
		err := p.load(v.dev, v.image, func(image []byte) (uint64, error) {
			return decodePage(image, want, v.pageOwners(page))
		})
		if err != nil {
			return err
		}
	}
	for chunk, owner := range v.owners {
		if (owner == headerChunk) != (uint32(chunk) < s.headerChunks()) {
			return fmt.Errorf("%w: chunk %d has owner %v; the header covers %d chunks",
				ErrCorrupt, chunk, owner, s.headerChunks())
		}
		if owner == freeChunk {
			v.free++
		}
	}
	return nil
}

// pageOwners is the part of owners that a table page describes.
func (v *Volume) pageOwners(page uint32) []SpaceID {
	first := min(int(page)*pageEntries, len(v.owners))
	last := min(first+pageEntries, len(v.owners))
	return v.owners[first:last]
}

// UUID names the volume.
func (v *Volume) UUID() UUID { return v.uuid }

// Epoch is the number of the present time of ownership; 0 on a volume that had no owner yet.
func (v *Volume) Epoch() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.super.epoch
}

// BumpEpoch begins a new time of ownership and returns its epoch, which is durable, in both copies
// of the superblock, and greater than every epoch returned before. It also repairs every block of
// metadata of which one copy was damaged or behind.
func (v *Volume) BumpEpoch() (uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	next := v.super
	next.epoch++
	if err := v.storeSuperblockLocked(next); err != nil {
		return 0, err
	}
	for page := range v.pages {
		if !v.pages[page].single {
			continue
		}
		if err := v.storePageLocked(uint32(page)); err != nil {
			return 0, err
		}
	}
	return v.super.epoch, nil
}

// Grow enlarges the device and the volume on it to sizeBytes, durably. A volume has whole chunks;
// what is over stays unused.
func (v *Volume) Grow(sizeBytes int64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.usableLocked(); err != nil {
		return err
	}
	next := v.super
	next.sizeBytes = sizeBytes
	if sizeBytes%BlockBytes != 0 || sizeBytes < v.super.sizeBytes {
		return fmt.Errorf("%w: cannot grow from %d to %d bytes", ErrMisuse, v.super.sizeBytes, sizeBytes)
	}
	if sizeBytes/next.chunkBytes > int64(next.maxChunks) {
		return fmt.Errorf("%w: %d bytes, room for %d chunks of %d bytes",
			ErrTableFull, sizeBytes, next.maxChunks, next.chunkBytes)
	}
	if v.dev.SizeBytes() < sizeBytes {
		if err := v.dev.Grow(sizeBytes); err != nil {
			return v.note(fmt.Errorf("volume: growing: %w", err))
		}
	}
	if err := v.storeSuperblockLocked(next); err != nil {
		return err
	}
	added := next.chunks() - uint32(len(v.owners))
	v.owners = v.owners[:next.chunks()]
	v.free += added
	return nil
}

// Stat describes the volume.
func (v *Volume) Stat() Stat {
	v.mu.Lock()
	defer v.mu.Unlock()
	return Stat{
		SizeBytes:    v.super.sizeBytes,
		ChunkBytes:   v.super.chunkBytes,
		ChunkBlocks:  v.super.chunkBlocks(),
		Chunks:       v.super.chunks(),
		HeaderChunks: v.super.headerChunks(),
		FreeChunks:   v.free,
		MaxChunks:    v.super.maxChunks,
		Epoch:        v.super.epoch,
	}
}

// Sync makes every write that returned before the call durable. Calls that wait at the same time
// share one flush of the device.
func (v *Volume) Sync() error {
	v.counters.syncs.Add(1)
	if err := v.syncs.sync(); err != nil {
		return v.note(fmt.Errorf("volume: sync: %w", err))
	}
	return nil
}

// Close closes every space that is open, waits for what is under way and ends the use of the
// device, which stays open. It does not Sync.
func (v *Volume) Close() error {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return ErrClosed
	}
	v.closed = true
	open := make([]*Space, 0, len(v.spaces))
	for _, s := range v.spaces {
		open = append(open, s)
	}
	v.mu.Unlock()
	for _, s := range open {
		if err := s.Close(); err != nil && !errors.Is(err, ErrClosed) {
			return err
		}
	}
	return nil
}

// usableLocked says why metadata can't be changed any more.
func (v *Volume) usableLocked() error {
	if v.closed {
		return ErrClosed
	}
	return v.failure
}

// storeSuperblockLocked makes next the superblock, durable in both copies.
func (v *Volume) storeSuperblockLocked(next superblock) error {
	if err := v.usableLocked(); err != nil {
		return err
	}
	next.generation = v.superAt.generation + 1
	next.encode(v.image)
	if err := v.superAt.store(v.dev, v.image); err != nil {
		return v.failLocked(err)
	}
	v.super = next
	return nil
}

// storePageLocked makes the table page on the device say what owners says, durable in both copies.
func (v *Volume) storePageLocked(page uint32) error {
	if err := v.usableLocked(); err != nil {
		return err
	}
	p := &v.pages[page]
	h := pageHeader{volume: v.super.uuid, index: page, generation: p.generation + 1}
	encodePage(v.image, h, v.pageOwners(page))
	if err := p.store(v.dev, v.image); err != nil {
		return v.failLocked(err)
	}
	v.counters.tableUpdates.Add(1)
	return nil
}

// failLocked stops further updates of metadata: after a failed one it is unknown which contents are
// on the device. Opening the volume again finds out.
func (v *Volume) failLocked(err error) error {
	if v.failure == nil {
		v.failure = fmt.Errorf("volume: metadata is read-only after a failed update: %w", err)
	}
	return v.note(err)
}

// note counts a device error and notices the end of ownership; it returns err.
func (v *Volume) note(err error) error {
	v.counters.errors.Add(1)
	if errors.Is(err, blockdev.ErrFenced) {
		v.fence.raise()
	}
	return err
}
