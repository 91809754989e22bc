package volume

import (
	"fmt"
	"sync"

	"github.com/nfseal/nfseal/xtsengine/mac"
	"github.com/nfseal/nfseal/xtsengine/xts"
)

// Space is what one file system has of a volume: the chunks leased to it, which blocks of them are
// used, the cipher for their contents, and the key for the tags of the ciphertext. Its methods may be called concurrently.
//
// A space is loading at first: the owner walks what it stored and calls MarkUsed for every run that
// it refers to, then Loaded. Blocks can be read at once, allocated only after Loaded.
type Space struct {
	volume *Volume
	owner  SpaceID
	cipher *xts.Cipher
	tags   *mac.Key

	// gate is held shared by every transfer and alone by Close. It comes before mu.
	gate sync.RWMutex
	// closed is changed under gate and mu, and read under either. So are owner, cipher, tags and retired,
	// under Volume.mu too.
	closed bool
	// retired is what the blocks of retired chunks are under; nil if there are none. See Rekey.
	retired *SpaceKey

	// leasing lets one Alloc at a time ask the volume for chunks. It comes before Volume.mu.
	leasing sync.Mutex

	// mu guards what is below. It comes after Volume.mu.
	mu      sync.RWMutex
	chunks  map[uint32]*chunkMap
	index   chunkIndex
	current *chunkMap // where the last run came from
	free    uint64    // blocks
	freed   freedChunks
	// stranded is how many blocks of free are in retired chunks, of which there are retiring.
	stranded uint64
	retiring int
	loaded   bool
}

// SpaceStat counts blocks.
type SpaceStat struct {
	// Leased is Used, Free and Stranded together.
	Leased, Used, Free uint64
	// Retired is how many of Used are in retired chunks, Stranded what is free in those, and can't be
	// allocated: see Space.Rekey.
	Retired, Stranded uint64
	// VolumeFree is what is leased to nobody.
	VolumeFree uint64
}

// OpenSpace opens what owner has on the volume; an owner without chunks gets the first ones with
// its first Alloc. The cipher and the key of the tags stay the caller's and are used until Close of
// the space. A second open of one space is refused with ErrSpaceOpen.
func (v *Volume) OpenSpace(owner SpaceID, c *xts.Cipher, tags *mac.Key) (*Space, error) {
	if err := checkOwner(owner); err != nil {
		return nil, err
	}
	if c == nil || tags == nil {
		return nil, fmt.Errorf("%w: a space needs a cipher and a key for tags", ErrMisuse)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil, ErrClosed
	}
	if v.spaces[owner] != nil {
		return nil, fmt.Errorf("%w: %v", ErrSpaceOpen, owner)
	}
	s := &Space{volume: v, owner: owner, cipher: c, tags: tags, chunks: map[uint32]*chunkMap{}}
	s.loadChunksLocked(owner, false)
	v.spaces[owner] = s
	return s, nil
}

// loadChunksLocked takes in what an owner has on the volume, whose mu is held.
func (s *Space) loadChunksLocked(owner SpaceID, retired bool) {
	blocks := s.volume.chunkBlocks
	for chunk, have := range s.volume.owners {
		if have != owner {
			continue
		}
		c := newChunkMap(uint32(chunk), blocks)
		c.retired = retired
		s.chunks[uint32(chunk)] = c
		s.countLocked(c, int64(blocks))
		if retired {
			s.retiring++
		}
	}
}

// Owner names the space: who has the chunks that blocks are allocated from.
func (s *Space) Owner() SpaceID {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.owner
}

// Close waits for the transfers under way and ends the use of the cipher. The leases stay.
func (s *Space) Close() error {
	s.gate.Lock()
	if s.closed {
		s.gate.Unlock()
		return ErrClosed
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.gate.Unlock()
	v := s.volume
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.spaces, s.owner)
	if s.retired != nil {
		delete(v.spaces, s.retired.Owner)
	}
	return nil
}

// MarkUsed says, while the space is loading, that a run holds data. A run outside the chunks of the
// space, or one that is used already, is ErrCorrupt and marks nothing.
func (s *Space) MarkUsed(r Run) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if s.loaded {
		return fmt.Errorf("%w: MarkUsed after Loaded", ErrMisuse)
	}
	for part, rest := s.split(r); part.count > 0; part, rest = s.split(rest) {
		c := s.chunks[part.chunk]
		if c == nil {
			return fmt.Errorf("%w: %v are referred to by space %v, which does not have chunk %d",
				ErrCorrupt, r, s.owner, part.chunk)
		}
		if !c.all(part.start, part.count, false) {
			return fmt.Errorf("%w: %v are referred to twice in space %v", ErrCorrupt, r, s.owner)
		}
	}
	for part, rest := s.split(r); part.count > 0; part, rest = s.split(rest) {
		c := s.chunks[part.chunk]
		c.take(part.start, part.count)
		s.countLocked(c, -int64(part.count))
	}
	return nil
}

// Owns says whether a run lies in the chunks of the space.
func (s *Space) Owns(r Run) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return r.Count > 0 && s.checkLocked(r, false) == nil
}

// Loaded ends loading: what MarkUsed did not name is free.
func (s *Space) Loaded() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded {
		return
	}
	s.loaded = true
	for _, c := range s.chunks {
		c.cursor = 0
		c.find(c.blocks())
		s.index.update(c)
	}
}

// part is what a run has in one chunk.
type part struct {
	chunk, start, count uint32
}

// split gives the part of a run in its first chunk and the rest of the run; a part of 0 blocks ends
// a loop.
func (s *Space) split(r Run) (part, Run) {
	blocks := Block(s.volume.chunkBlocks)
	chunk, start := r.Start/blocks, uint32(r.Start%blocks)
	if r.Count == 0 {
		return part{}, Run{}
	}
	count := min(r.Count, uint32(blocks)-start)
	if chunk > maxChunks {
		chunk = maxChunks // nobody has it
	}
	return part{uint32(chunk), start, count}, Run{r.Start + Block(count), r.Count - count}
}

// Alloc gives 1 to want consecutive blocks, as many as it finds together without searching long. The
// run lies in one chunk; if the chunk was leased for it, the lease is durable. ErrNoSpace says that
// neither the space nor the volume has a block.
func (s *Space) Alloc(want uint32) (Run, error) {
	if want == 0 {
		return Run{}, fmt.Errorf("%w: Alloc of no blocks", ErrMisuse)
	}
	want = min(want, s.volume.chunkBlocks)
	if run, ok, err := s.tryAlloc(want, false); ok || err != nil {
		return run, err
	}
	s.leasing.Lock()
	defer s.leasing.Unlock()
	for {
		if run, ok, err := s.tryAlloc(want, false); ok || err != nil {
			return run, err
		}
		leaseErr := s.volume.lease(s)
		if leaseErr == nil {
			continue
		}
		if run, ok, err := s.tryAlloc(want, true); ok || err != nil {
			return run, err
		}
		return Run{}, leaseErr
	}
}

// tryAlloc allocates from what the space has; with anything set it takes any free block rather than
// none.
func (s *Space) tryAlloc(want uint32, anything bool) (Run, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readyLocked(); err != nil {
		return Run{}, false, err
	}
	c, start, length := s.chooseLocked(want, anything)
	if c == nil {
		return Run{}, false, nil
	}
	count := min(want, length)
	c.take(start, count)
	s.index.update(c)
	s.current = c
	s.countLocked(c, -int64(count))
	return Run{Block(c.chunk)*Block(c.blocks()) + Block(start), count}, true, nil
}

// readyLocked says why blocks can't be allocated and freed.
func (s *Space) readyLocked() error {
	if s.closed {
		return ErrClosed
	}
	if !s.loaded {
		return fmt.Errorf("%w: allocation before Loaded", ErrMisuse)
	}
	return nil
}

// chooseLocked finds a free run: where the last one ended, else where the next calls find long runs
// too, else a fragment if the space has much that is free or nothing else is left.
func (s *Space) chooseLocked(want uint32, anything bool) (c *chunkMap, start, length uint32) {
	if c = s.current; c != nil && c.longest >= want {
		if start, length = c.find(want); length >= want {
			return c, start, length
		}
		s.index.update(c)
	}
	if c, start, length = s.index.fit(max(want, goodRunBlocks)); c != nil {
		return c, start, length
	}
	if c, start, length = s.index.fit(want); c != nil {
		return c, start, length
	}
	leased := uint64(len(s.chunks)-s.retiring) * uint64(s.volume.chunkBlocks)
	c, start, length = s.index.largest()
	if c != nil && (anything || (length >= min(want, fragmentBlocks) && s.free-s.stranded >= leased/fragmentShare)) {
		return c, start, length
	}
	return nil, 0, 0
}

// Free makes a used run available again at once. The caller sees to it that nothing durable refers
// to it any more and that no transfer on it is under way. A run that is not used is
// ErrNotAllocated, and nothing is freed.
func (s *Space) Free(r Run) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readyLocked(); err != nil {
		return err
	}
	if err := s.checkLocked(r, true); err != nil {
		return fmt.Errorf("freeing %v: %w", r, err)
	}
	for part, rest := s.split(r); part.count > 0; part, rest = s.split(rest) {
		c := s.chunks[part.chunk]
		c.give(part.start, part.count)
		s.index.update(c)
		s.countLocked(c, int64(part.count))
		s.freed.note(c)
	}
	return nil
}

// countLocked notes that so many blocks more are free in a chunk.
func (s *Space) countLocked(c *chunkMap, blocks int64) {
	s.free = uint64(int64(s.free) + blocks)
	if c.retired {
		s.stranded = uint64(int64(s.stranded) + blocks)
	}
}

// checkLocked says whether a run lies in the space's chunks and, if asked, is used.
func (s *Space) checkLocked(r Run, used bool) error {
	for part, rest := s.split(r); part.count > 0; part, rest = s.split(rest) {
		c := s.chunks[part.chunk]
		if c == nil {
			return ErrNotOwned
		}
		if used && !c.all(part.start, part.count, true) {
			return ErrNotAllocated
		}
	}
	return nil
}

// Stat counts the blocks of the space.
func (s *Space) Stat() SpaceStat {
	volume := s.volume.Stat()
	s.mu.RLock()
	defer s.mu.RUnlock()
	leased := uint64(len(s.chunks)) * uint64(volume.ChunkBlocks)
	return SpaceStat{
		Leased:     leased,
		Used:       leased - s.free,
		Free:       s.free - s.stranded,
		Retired:    uint64(s.retiring)*uint64(volume.ChunkBlocks) - s.stranded,
		Stranded:   s.stranded,
		VolumeFree: uint64(volume.FreeChunks) * uint64(volume.ChunkBlocks),
	}
}

// leaseWish is how many chunks the space would like.
func (s *Space) leaseWish() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return min(1+len(s.chunks)/leaseShare, leaseMax)
}

// addChunks takes over chunks whose lease is durable.
func (s *Space) addChunks(chunks []uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	blocks := s.volume.chunkBlocks
	for _, chunk := range chunks {
		c := newChunkMap(chunk, blocks)
		s.chunks[chunk] = c
		s.index.update(c)
		s.free += uint64(blocks)
	}
}

// giveUpChunk takes a wholly free chunk out of the space, if it has one.
func (s *Space) giveUpChunk() (uint32, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.loaded {
		return 0, false
	}
	blocks := s.volume.chunkBlocks
	for _, c := range s.chunks {
		if c.free == blocks {
			s.dropLocked(c)
			return c.chunk, true
		}
	}
	return 0, false
}

// dropLocked forgets a wholly free chunk.
func (s *Space) dropLocked(c *chunkMap) {
	s.index.remove(c)
	delete(s.chunks, c.chunk)
	s.countLocked(c, -int64(c.free))
	if c.retired {
		s.retiring--
	}
	if s.current == c {
		s.current = nil
	}
}

// Trim gives wholly free chunks back to the volume, all but keep of them, and lets the device forget
// their contents. It returns how many.
func (s *Space) Trim(keep int) (int, error) {
	v := s.volume
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.usableLocked(); err != nil {
		return 0, err
	}
	if v.spaces[s.owner] != s {
		return 0, ErrClosed
	}
	given := 0
	for page, chunks := range s.giveUpChunks(keep) {
		if err := v.releaseLocked(page, chunks); err != nil {
			return given, err
		}
		given += len(chunks)
	}
	return given, nil
}

// giveUpChunks takes all wholly free chunks but keep out of the space, by table page.
func (s *Space) giveUpChunks(keep int) map[uint32][]uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	pages := map[uint32][]uint32{}
	if !s.loaded {
		return pages
	}
	blocks := s.volume.chunkBlocks
	for _, c := range s.chunks {
		if c.free != blocks {
			continue
		}
		if keep > 0 {
			keep--
			continue
		}
		s.dropLocked(c)
		page := c.chunk / pageEntries
		pages[page] = append(pages[page], c.chunk)
	}
	return pages
}
