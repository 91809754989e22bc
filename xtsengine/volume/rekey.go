package volume

import (
	"fmt"
	"maps"
	"slices"

	"github.com/nfseal/nfseal/xtsengine/mac"
	"github.com/nfseal/nfseal/xtsengine/xts"
)

// SpaceKey is what the blocks of one owner's chunks are under: the cipher of their contents and the key of
// their tags. Both stay the caller's.
type SpaceKey struct {
	Owner  SpaceID
	Cipher *xts.Cipher
	Tags   *mac.Key
}

func (k *SpaceKey) validate() error {
	if k.Cipher == nil || k.Tags == nil {
		return fmt.Errorf("%w: a space needs a cipher and a key for tags", ErrMisuse)
	}
	return checkOwner(k.Owner)
}

// A space gets a new key by getting new chunks: those that it has are retired, and what is allocated from
// then on comes from chunks of another owner, whose blocks are under the new key. Everything else (Read,
// Write of blocks that were allocated before, Free, MarkUsed) goes to the key of the chunk. Who moves the
// content of the retired chunks to fresh blocks and frees the old ones, ends it with EndRekey. That a chunk
// is retired is not stored: its owner says it, to who opens the space by both.

// Rekey retires what the space has and lets it go on under another key. It waits for the transfers under
// way. A space with retired chunks is refused with ErrMisuse, an owner that has chunks already with
// ErrCorrupt.
func (s *Space) Rekey(k SpaceKey) error {
	if err := k.validate(); err != nil {
		return err
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	v := s.volume
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.closed || v.closed {
		return ErrClosed
	}
	if s.retired != nil {
		return fmt.Errorf("%w: a space with retired chunks can't retire more", ErrMisuse)
	}
	if v.spaces[k.Owner] != nil {
		return fmt.Errorf("%w: %v", ErrSpaceOpen, k.Owner)
	}
	if slices.Contains(v.owners, k.Owner) {
		return fmt.Errorf("%w: %v, which a space is to get, has chunks already", ErrCorrupt, k.Owner)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.chunks {
		s.index.remove(c)
		c.retired = true
	}
	s.retired = &SpaceKey{s.owner, s.cipher, s.tags}
	s.owner, s.cipher, s.tags = k.Owner, k.Cipher, k.Tags
	s.retiring, s.stranded, s.current = len(s.chunks), s.free, nil
	v.spaces[k.Owner] = s
	return nil
}

// OpenRekeyed opens a space in which Rekey was not ended, as OpenSpace opens others: all that retired owns
// is retired.
func (v *Volume) OpenRekeyed(k, retired SpaceKey) (*Space, error) {
	if err := retired.validate(); err != nil {
		return nil, err
	}
	if k.Owner == retired.Owner {
		return nil, fmt.Errorf("%w: one owner for two keys", ErrMisuse)
	}
	s, err := v.OpenSpace(k.Owner, k.Cipher, k.Tags)
	if err != nil {
		return nil, err
	}
	if err := s.adopt(retired); err != nil {
		_ = s.Close() // which can only say that it is closed
		return nil, err
	}
	return s, nil
}

// adopt takes over the chunks of a retired owner into a space that was just opened.
func (s *Space) adopt(retired SpaceKey) error {
	v := s.volume
	s.gate.Lock()
	defer s.gate.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return ErrClosed
	}
	if v.spaces[retired.Owner] != nil {
		return fmt.Errorf("%w: %v", ErrSpaceOpen, retired.Owner)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loadChunksLocked(retired.Owner, true)
	s.retired = &retired
	v.spaces[retired.Owner] = s
	return nil
}

// EndRekey gives what is left of the retired chunks back to the volume and ends the use of their key. While
// a block of theirs is in use, be it that the device is just told to forget it, that is ErrMisuse, and
// nothing ends. A space without retired chunks has nothing to end.
func (s *Space) EndRekey() error {
	if _, err := s.TrimRetired(); err != nil {
		return err
	}
	s.gate.Lock()
	defer s.gate.Unlock()
	v := s.volume
	v.mu.Lock()
	defer v.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired == nil {
		return nil
	}
	if s.retiring > 0 {
		return fmt.Errorf("%w: %d retired chunks are in use", ErrMisuse, s.retiring)
	}
	delete(v.spaces, s.retired.Owner)
	s.retired = nil
	return nil
}

// TrimRetired gives those retired chunks back to the volume that are wholly free, and lets the device
// forget their contents. It returns how many.
func (s *Space) TrimRetired() (int, error) {
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
	for page, chunks := range s.dropRetired() {
		if err := v.releaseLocked(page, chunks); err != nil {
			return given, err
		}
		given += len(chunks)
	}
	return given, nil
}

// dropRetired takes the wholly free retired chunks out of the space, by table page.
func (s *Space) dropRetired() map[uint32][]uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	pages := map[uint32][]uint32{}
	if !s.loaded || s.retiring == 0 {
		return pages
	}
	for _, c := range s.chunks {
		if !c.retired || c.free != s.volume.chunkBlocks {
			continue
		}
		s.dropLocked(c)
		page := c.chunk / pageEntries
		pages[page] = append(pages[page], c.chunk)
	}
	return pages
}

// giveUpRetired takes one of them out of the space.
func (s *Space) giveUpRetired() (uint32, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.loaded || s.retiring == 0 {
		return 0, false
	}
	for _, c := range s.chunks {
		if c.retired && c.free == s.volume.chunkBlocks {
			s.dropLocked(c)
			return c.chunk, true
		}
	}
	return 0, false
}

// Rekeying says whether there is a retired key.
func (s *Space) Rekeying() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.retired != nil
}

// Chunks is a set of retired chunks of one space. One that the space gives up leaves it, though the space may
// get it again, for new content.
type Chunks struct {
	space *Space
	set   map[uint32]*chunkMap
	// Used is how many of their blocks were in use when they were chosen.
	Used uint64
}

// Count is how many there were when they were chosen.
func (c *Chunks) Count() int { return len(c.set) }

// Join takes in what another set of the space has.
func (c *Chunks) Join(other *Chunks) {
	if c.set == nil {
		c.space, c.set = other.space, map[uint32]*chunkMap{}
	}
	maps.Copy(c.set, other.set)
}

// Cut gives the first part of a run that is within the set, or outside of it, as in says, and the rest.
func (c *Chunks) Cut(r Run) (first Run, in bool, rest Run) {
	s := c.space
	s.mu.RLock()
	defer s.mu.RUnlock()
	blocks := Block(s.volume.chunkBlocks)
	has := func(at Block) bool { // a chunk's number fits in 32 bits
		number := uint32(min(at/blocks, maxChunks))
		m := c.set[number]
		return m != nil && s.chunks[number] == m
	}
	in = has(r.Start)
	end := (r.Start/blocks + 1) * blocks
	for end < r.end() && has(end) == in {
		end += blocks
	}
	count := uint32(min(end, r.end()) - r.Start)
	return Run{r.Start, count}, in, Run{r.Start + Block(count), r.Count - count}
}

// RetiredChunks chooses retired chunks that have no more than so many blocks in use together, those with
// the fewest first, and one at least if there is one; but none of except, which may be nil.
func (s *Space) RetiredChunks(budget uint64, except *Chunks) Chunks {
	s.mu.RLock()
	defer s.mu.RUnlock()
	total := s.volume.chunkBlocks
	chosen := Chunks{space: s, set: map[uint32]*chunkMap{}}
	var list []*chunkMap
	for _, c := range s.chunks {
		if c.retired && (except == nil || except.set[c.chunk] != c) {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *chunkMap) int { return int(b.free) - int(a.free) })
	for _, c := range list {
		used := uint64(total - c.free)
		if len(chosen.set) > 0 && chosen.Used+used > budget {
			break
		}
		chosen.set[c.chunk] = c
		chosen.Used += used
	}
	return chosen
}

// InUse says whether any block of a run is in use.
func (s *Space) InUse(r Run) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for part, rest := s.split(r); part.count > 0; part, rest = s.split(rest) {
		if c := s.chunks[part.chunk]; c != nil && !c.all(part.start, part.count, false) {
			return true
		}
	}
	return false
}

// piece gives what is at the cursor, up to limit bytes and under one key, moves past it, and says which key
// that is. The gate is held.
func (s *Space) piece(c *cursor, limit int) (IO, *xts.Cipher, *mac.Key) {
	if s.retired == nil {
		return c.next(limit), s.cipher, s.tags
	}
	block, blocks := c.block(), Block(s.volume.chunkBlocks)
	if rest := blocks - block%blocks; rest < Block(limit/BlockBytes) {
		limit = int(rest) * BlockBytes
	}
	if s.isRetired(block) {
		return c.next(limit), s.retired.Cipher, s.retired.Tags
	}
	return c.next(limit), s.cipher, s.tags
}

func (s *Space) isRetired(at Block) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := s.chunks[uint32(min(at/Block(s.volume.chunkBlocks), maxChunks))]
	return c != nil && c.retired
}
