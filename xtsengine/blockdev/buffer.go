package blockdev

import (
	"fmt"
	"math/bits"
	"sync"
	"unsafe"
)

// poolClasses is the number of size classes: 4 KiB, 8 KiB, ... 1 MiB.
const poolClasses = 9

// bufferClass keeps free buffers of one size.
type bufferClass struct {
	mu   sync.Mutex
	free [][]byte
}

// buffers is the process's pool. It is shared by all devices because a buffer belongs to none.
var buffers [poolClasses]bufferClass

// Alloc gives n bytes whose address is a multiple of BlockBytes, with undefined contents. Up to
// 1 MiB they come from a pool and nothing is allocated in steady state. The caller owns the buffer
// and gives it back with Free, or leaves it to the garbage collector.
func Alloc(n int) []byte {
	if n <= 0 {
		panic(fmt.Sprintf("blockdev: Alloc of %d bytes", n))
	}
	if n > maxPooledBytes {
		return alignedSlice(n)[:n]
	}
	class := classOf(n)
	c := &buffers[class]
	size := BlockBytes << class
	if b := c.take(); b != nil {
		return b[:n]
	}
	if b := c.carve(size); b != nil {
		return b[:n]
	}
	return alignedSlice(size)[:n]
}

// take gives a free buffer; nil if there is none.
func (c *bufferClass) take() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := len(c.free) - 1
	if last < 0 {
		return nil
	}
	b := c.free[last]
	c.free[last] = nil
	c.free = c.free[:last]
	return b
}

// carve cuts a slab of the arena, which stays with the class, into buffers and gives one of them; nil
// if the arena is used up.
func (c *bufferClass) carve(size int) []byte {
	slab := arena.slab()
	if slab == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := size; at < len(slab); at += size {
		c.free = append(c.free, slab[at:at+size:at+size])
	}
	return slab[:size:size]
}

// Free takes back a buffer that Alloc gave and that nobody uses any more; it may have been cut
// short at its end, not at its start. A buffer of more than 1 MiB is left to the garbage collector.
func Free(b []byte) {
	size := cap(b)
	if size > maxPooledBytes {
		return
	}
	if size < BlockBytes || size&(size-1) != 0 || !aligned(b[:size]) {
		panic(fmt.Sprintf("blockdev: Free of a buffer that Alloc did not give (capacity %d)", size))
	}
	c := &buffers[classOf(size)]
	c.mu.Lock()
	if inArena(b) || (len(c.free)+1)*size <= poolClassBytes {
		c.free = append(c.free, b[:size])
	}
	c.mu.Unlock()
}

// classOf is the smallest class whose buffers hold n bytes.
func classOf(n int) int {
	return bits.Len(uint((n - 1) / BlockBytes))
}

// alignedSlice allocates n bytes at a multiple of BlockBytes, with capacity n rounded up to whole
// blocks.
func alignedSlice(n int) []byte {
	n = (n + BlockBytes - 1) &^ (BlockBytes - 1)
	raw := make([]byte, n+BlockBytes)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(raw))) & (BlockBytes - 1))
	return raw[skip : skip+n : skip+n]
}

// aligned says whether b starts at a multiple of BlockBytes.
func aligned(b []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))&(BlockBytes-1) == 0
}

// Check says whether a batch keeps the rules: offsets, lengths and addresses are multiples of
// BlockBytes, lengths are positive, and nothing reaches past sizeBytes. Devices call it first.
func Check(batch []Request, sizeBytes int64) error {
	for i := range batch {
		r := &batch[i]
		length := int64(len(r.Buf))
		if length == 0 || length%BlockBytes != 0 || r.Offset%BlockBytes != 0 || !aligned(r.Buf) {
			return fmt.Errorf("%w: %d bytes at %d", ErrUnaligned, length, r.Offset)
		}
		if r.Offset < 0 || r.Offset > sizeBytes-length {
			return fmt.Errorf("%w: %d bytes at %d of %d", ErrOutOfRange, length, r.Offset, sizeBytes)
		}
	}
	return nil
}

// CheckRange applies the rules of Check to a range without a buffer.
func CheckRange(offset, length, sizeBytes int64) error {
	if offset%BlockBytes != 0 || length%BlockBytes != 0 || length < 0 {
		return fmt.Errorf("%w: %d bytes at %d", ErrUnaligned, length, offset)
	}
	if offset < 0 || offset > sizeBytes-length {
		return fmt.Errorf("%w: %d bytes at %d of %d", ErrOutOfRange, length, offset, sizeBytes)
	}
	return nil
}
