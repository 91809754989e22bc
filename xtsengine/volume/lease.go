package volume

import (
	"fmt"
	"slices"
)

// Spaces lists the owners that have chunks, in order of their ids.
func (v *Volume) Spaces() []SpaceID {
	v.mu.Lock()
	defer v.mu.Unlock()
	seen := map[SpaceID]bool{}
	var ids []SpaceID
	for _, owner := range v.owners {
		if owner != freeChunk && owner != headerChunk && !seen[owner] {
			seen[owner] = true
			ids = append(ids, owner)
		}
	}
	slices.SortFunc(ids, func(a, b SpaceID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// DestroySpace ends every lease of owner; the device is told to forget the contents first. It may
// be repeated after a crash or an error, and does nothing for an owner without chunks. A space that
// is open is refused with ErrSpaceOpen. What makes the contents unreadable is the end of the data
// key, which the caller destroys before.
func (v *Volume) DestroySpace(owner SpaceID) error {
	if err := checkOwner(owner); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.usableLocked(); err != nil {
		return err
	}
	if v.spaces[owner] != nil {
		return fmt.Errorf("%w: %v", ErrSpaceOpen, owner)
	}
	for page := range v.pages {
		if err := v.destroyInPageLocked(uint32(page), owner); err != nil {
			return err
		}
	}
	return nil
}

// destroyInPageLocked frees what owner has in one table page.
func (v *Volume) destroyInPageLocked(page uint32, owner SpaceID) error {
	first := page * pageEntries
	var chunks []uint32
	for i, have := range v.pageOwners(page) {
		if have == owner {
			chunks = append(chunks, first+uint32(i))
		}
	}
	if len(chunks) == 0 {
		return nil
	}
	return v.releaseLocked(page, chunks)
}

// releaseLocked gives chunks of one table page back to the volume. They are discarded before that is
// durable: afterwards another owner could have them, and what it wrote would be lost.
func (v *Volume) releaseLocked(page uint32, chunks []uint32) error {
	for _, chunk := range chunks {
		if err := v.dev.Discard(int64(chunk)*v.super.chunkBytes, v.super.chunkBytes); err != nil {
			return v.note(fmt.Errorf("volume: discarding chunk %d: %w", chunk, err))
		}
		v.counters.discards.Add(1)
	}
	for _, chunk := range chunks {
		v.owners[chunk] = freeChunk
	}
	v.free += uint32(len(chunks))
	return v.storePageLocked(page)
}

// lease gives s further chunks, durably, or fails with ErrNoSpace. It takes them from the free ones,
// else what the space has retired and not in use any more, else from another space that does not need them.
func (v *Volume) lease(s *Space) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.usableLocked(); err != nil {
		return err
	}
	if v.spaces[s.owner] != s {
		return ErrClosed
	}
	chunks := v.findFreeLocked(s.leaseWish())
	if len(chunks) == 0 {
		chunk, ok := s.giveUpRetired()
		if !ok {
			chunk, ok = v.reclaimLocked(s)
		}
		if !ok {
			return ErrNoSpace
		}
		chunks = []uint32{chunk}
	}
	for _, chunk := range chunks {
		if v.owners[chunk] == freeChunk {
			v.free--
		}
		v.owners[chunk] = s.owner
	}
	if err := v.storePageLocked(chunks[0] / pageEntries); err != nil {
		return err
	}
	s.addChunks(chunks)
	return nil
}

// findFreeLocked gives up to want free chunks that one table page describes.
func (v *Volume) findFreeLocked(want int) []uint32 {
	if v.free == 0 {
		return nil
	}
	total := uint32(len(v.owners))
	for range total {
		if v.rover >= total {
			v.rover = 0
		}
		if v.owners[v.rover] == freeChunk {
			break
		}
		v.rover++
	}
	var chunks []uint32
	end := min(total, (v.rover/pageEntries+1)*pageEntries)
	for ; v.rover < end && len(chunks) < want; v.rover++ {
		if v.owners[v.rover] == freeChunk {
			chunks = append(chunks, v.rover)
		}
	}
	return chunks
}

// reclaimLocked takes a wholly free chunk from another open space. Nothing durable refers to a free
// block (see Space.Free), so that the change of owner can be one durable update of the table.
func (v *Volume) reclaimLocked(except *Space) (uint32, bool) {
	for _, other := range v.spaces {
		if other == except { // once or twice: a space that was given a new key has two owners
			continue
		}
		if chunk, ok := other.giveUpChunk(); ok {
			return chunk, true
		}
	}
	return 0, false
}

// checkOwner refuses the ids that the format itself uses.
func checkOwner(owner SpaceID) error {
	if owner == freeChunk || owner == headerChunk {
		return fmt.Errorf("%w: space id %v is taken by the format", ErrMisuse, owner)
	}
	return nil
}
