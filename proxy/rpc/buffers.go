package rpc

import (
	"sync"

	"github.com/nfseal/nfseal/internal/hugemem"
)

// headroomBytes is what a buffer class has above its data, for headers around a payload of a round
// size.
const headroomBytes = 4 << 10

// Buffers is a pool of memory for records and replies in a few sizes. It may be used by many connections
// at once. Small ones that are not used are left to the collector; the large ones are the process's, and
// so many of them stay in huge pages. How much the large ones hold is bounded.
type Buffers struct {
	small sync.Pool // of *buffer
	tasks sync.Pool
	large account
}

// buffer is one piece of memory; its length says where it belongs.
type buffer = hugemem.Buffer

// largePools are the classes above the small one; above the last of them buffers are made to measure.
var largePools = [...]hugemem.Pool{
	{BufferBytes: 64<<10 + headroomBytes, KeepBytes: keepBytes},
	{BufferBytes: 256<<10 + headroomBytes, KeepBytes: keepBytes},
	{BufferBytes: DefaultMaxRecordBytes + headroomBytes, KeepBytes: keepLargestBytes},
}

// NewBuffers returns an empty pool. Calls that need large buffers wait while those hold maxBytes, but for one call of a connection each,
// up to as much again.
func NewBuffers(maxBytes int64) *Buffers {
	return &Buffers{large: account{maxBytes: maxBytes, maxPasses: max(int(maxBytes/passBytes), minPasses)}}
}

// BufferStats say what the large buffers of a pool, those of more than 64 KiB, hold.
type BufferStats struct {
	HeldBytes int64  // now
	MaxBytes  int64  // the bound: what is above it, as much again at most, was given to one call of a connection each
	Waits     uint64 // how often a call had to wait for one
	Evicted   uint64 // connections closed for keeping a call above the bound waiting, while others waited for theirs
}

// Stats may be called at any time.
func (p *Buffers) Stats() BufferStats {
	a := &p.large
	return BufferStats{HeldBytes: a.held.Load(), MaxBytes: a.maxBytes, Waits: a.waits.Load(), Evicted: a.evicted.Load()}
}

// bufferBytes is the size of the buffer that n bytes get.
func bufferBytes(n int) int {
	if n <= readAheadBytes {
		return readAheadBytes
	}
	for k := range largePools {
		if n <= largePools[k].BufferBytes {
			return largePools[k].BufferBytes
		}
	}
	return n
}

// get returns a buffer of at least n bytes, whatever the others hold. Its contents are arbitrary.
func (p *Buffers) get(n int) *buffer {
	size := bufferBytes(n)
	if size > readAheadBytes {
		p.large.held.Add(int64(size))
	}
	return p.fetch(size)
}

// fetch returns a buffer of a size that bufferBytes gave; a large one is in the account already.
func (p *Buffers) fetch(size int) *buffer {
	if size == readAheadBytes {
		if b, ok := p.small.Get().(*buffer); ok {
			return b
		}
	}
	for k := range largePools {
		if size == largePools[k].BufferBytes {
			return largePools[k].Get()
		}
	}
	return &buffer{Mem: make([]byte, size)}
}

// put gives b back; nil is nothing.
func (p *Buffers) put(b *buffer) {
	if b == nil {
		return
	}
	size := len(b.Mem)
	if size == readAheadBytes {
		p.small.Put(b)
		return
	}
	for k := range largePools {
		if size == largePools[k].BufferBytes {
			largePools[k].Put(b)
		}
	}
	p.large.give(int64(size))
}
