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
// so many of them stay in huge pages.
type Buffers struct {
	small sync.Pool // of *buffer
	tasks sync.Pool
}

// buffer is one piece of memory; its length says where it belongs.
type buffer = hugemem.Buffer

// large are the classes above the small one; above the last of them buffers are made to measure.
var large = [...]hugemem.Pool{
	{BufferBytes: 64<<10 + headroomBytes, KeepBytes: keepBytes},
	{BufferBytes: 256<<10 + headroomBytes, KeepBytes: keepBytes},
	{BufferBytes: DefaultMaxRecordBytes + headroomBytes, KeepBytes: keepLargestBytes},
}

// NewBuffers returns an empty pool.
func NewBuffers() *Buffers { return new(Buffers) }

// get returns a buffer of at least n bytes. Its contents are arbitrary.
func (p *Buffers) get(n int) *buffer {
	if n <= readAheadBytes {
		if b, ok := p.small.Get().(*buffer); ok {
			return b
		}
		return &buffer{Mem: make([]byte, readAheadBytes)}
	}
	for k := range large {
		if n <= large[k].BufferBytes {
			return large[k].Get()
		}
	}
	return &buffer{Mem: make([]byte, n)}
}

// put gives b back; nil is nothing.
func (p *Buffers) put(b *buffer) {
	if b == nil {
		return
	}
	if len(b.Mem) == readAheadBytes {
		p.small.Put(b)
		return
	}
	for k := range large {
		if len(b.Mem) == large[k].BufferBytes {
			large[k].Put(b)
			return
		}
	}
}
