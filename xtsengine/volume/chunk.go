package volume

import "math/bits"

// chunkMap says which blocks of one leased chunk are used. It is guarded by its Space's mu.
type chunkMap struct {
	chunk uint32   // number in the volume
	used  []uint64 // a bit a block, 1 is used
	free  uint32
	// longest is an upper bound of the longest run of free blocks; 0 if and only if free is 0.
	longest uint32
	// cursor is where the search goes on: next-fit.
	cursor uint32

	// retired says that the chunk is under the retired key: nothing is allocated from it.
	retired bool

	// freed says that something was freed which the device has not been told of.
	freed bool

	// The chunk's place in its index.
	class      int8 // -1: in no list
	prev, next *chunkMap
}

func newChunkMap(chunk, blocks uint32) *chunkMap {
	return &chunkMap{chunk: chunk, used: make([]uint64, blocks/64), free: blocks, longest: blocks, class: -1}
}

// blocks is the size of the chunk.
func (c *chunkMap) blocks() uint32 { return uint32(len(c.used)) * 64 }

// scan gives the first block from at on whose bit is as wanted, or blocks().
func (c *chunkMap) scan(at uint32, used bool) uint32 {
	total := c.blocks()
	if at >= total {
		return total
	}
	flip := ^uint64(0)
	if used {
		flip = 0
	}
	word := at / 64
	hits := (c.used[word] ^ flip) &^ (1<<(at%64) - 1)
	for hits == 0 {
		word++
		if int(word) == len(c.used) {
			return total
		}
		hits = c.used[word] ^ flip
	}
	return word*64 + uint32(bits.TrailingZeros64(hits))
}

// usedBefore gives the block after the last used one before at: where a free run that ends at at
// begins.
func (c *chunkMap) usedBefore(at uint32) uint32 {
	for at > 0 {
		word := (at - 1) / 64
		hits := c.used[word] << (63 - (at-1)%64)
		if hits != 0 {
			return at - uint32(bits.LeadingZeros64(hits))
		}
		at = word * 64
	}
	return 0
}

// find gives a free run of at least want blocks, the next one from the cursor on, and its whole
// length; or else the longest that there is, and then longest is exact.
func (c *chunkMap) find(want uint32) (start, length uint32) {
	if start, length = c.findFrom(c.cursor, c.blocks(), want); length >= want {
		return start, length
	}
	start, length = c.findFrom(0, c.blocks(), want)
	if length < want {
		c.longest = length
	}
	return start, length
}

// findFrom is find for the runs that start in [at, end).
func (c *chunkMap) findFrom(at, end, want uint32) (start, length uint32) {
	for at < end {
		first := c.scan(at, false)
		if first >= end {
			break
		}
		after := c.scan(first, true)
		if after-first > length {
			start, length = first, after-first
		}
		if length >= want {
			break
		}
		at = after
	}
	return start, length
}

// mark sets count bits from start on to used or free. The caller has checked them.
func (c *chunkMap) mark(start, count uint32, used bool) {
	for at := start; at < start+count; {
		n := min(64-at%64, start+count-at)
		mask := (^uint64(0) >> (64 - n)) << (at % 64)
		if used {
			c.used[at/64] |= mask
		} else {
			c.used[at/64] &^= mask
		}
		at += n
	}
}

// take marks a free run as used and moves the cursor behind it.
func (c *chunkMap) take(start, count uint32) {
	c.mark(start, count, true)
	c.free -= count
	c.longest = min(c.longest, c.free)
	c.cursor = start + count
}

// give marks a used run as free.
func (c *chunkMap) give(start, count uint32) {
	c.mark(start, count, false)
	c.free += count
	merged := c.scan(start+count, true) - c.usedBefore(start)
	c.longest = max(c.longest, merged)
}

// all says whether every block of the run is used, or every one free.
func (c *chunkMap) all(start, count uint32, used bool) bool {
	return c.scan(start, !used) >= start+count
}

// chunkIndex finds chunks by the length of their runs: class k lists the chunks whose longest run is
// from 2^k to 2^(k+1)-1 blocks, by its upper bound.
type chunkIndex struct {
	heads [32]*chunkMap
}

// update puts a chunk where its longest run belongs; a retired one belongs nowhere.
func (x *chunkIndex) update(c *chunkMap) {
	if c.retired {
		return
	}
	class := int8(bits.Len32(c.longest)) - 1
	if class == c.class {
		return
	}
	x.remove(c)
	c.class = class
	if class < 0 {
		return
	}
	c.next = x.heads[class]
	if c.next != nil {
		c.next.prev = c
	}
	x.heads[class] = c
}

// remove takes a chunk out.
func (x *chunkIndex) remove(c *chunkMap) {
	if c.class < 0 {
		return
	}
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		x.heads[c.class] = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.class, c.prev, c.next = -1, nil, nil
}

// fit gives a chunk with a free run of at least want blocks, preferring the shortest sufficient
// class so that long runs stay whole, and the run.
func (x *chunkIndex) fit(want uint32) (c *chunkMap, start, length uint32) {
	for class := bits.Len32(want) - 1; class < len(x.heads); class++ {
		c = x.heads[class]
		for probe := 0; c != nil && probe < maxProbes; probe++ {
			next := c.next
			if c.longest >= want {
				if start, length = c.find(want); length >= want {
					return c, start, length
				}
				x.update(c)
			}
			c = next
		}
	}
	return nil, 0, 0
}

// largest gives a chunk whose longest run is among the longest that there are, and that run.
func (x *chunkIndex) largest() (c *chunkMap, start, length uint32) {
	for class := len(x.heads) - 1; class >= 0; class-- {
		for x.heads[class] != nil {
			c = x.heads[class]
			start, length = c.find(c.longest)
			if x.update(c); int(c.class) == class {
				return c, start, length
			}
		}
	}
	return nil, 0, 0
}
