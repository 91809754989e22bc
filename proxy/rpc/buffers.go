package rpc

import "sync"

// headroomBytes is what a buffer class has above its data, for headers around a payload of a round
// size.
const headroomBytes = 4 << 10

// Buffers is a pool of memory for records and replies in a few sizes. It may be used by many
// connections at once; what it holds is given back to the collector when it is not used.
type Buffers struct {
	classes [len(classBytes)]sync.Pool
	tasks   sync.Pool
}

// classBytes are the sizes of the classes; above the last one buffers are made to measure.
var classBytes = [...]int{
	readAheadBytes,
	64<<10 + headroomBytes,
	256<<10 + headroomBytes,
	DefaultMaxRecordBytes + headroomBytes,
}

// buffer is one piece of memory and the class that it goes back to.
type buffer struct {
	mem   []byte // full length
	class int    // len(classBytes): none
}

// NewBuffers returns an empty pool.
func NewBuffers() *Buffers { return new(Buffers) }

// get returns a buffer of at least n bytes. Its contents are arbitrary.
func (p *Buffers) get(n int) *buffer {
	for class, size := range classBytes {
		if n > size {
			continue
		}
		if b, ok := p.classes[class].Get().(*buffer); ok {
			return b
		}
		return &buffer{mem: make([]byte, size), class: class}
	}
	return &buffer{mem: make([]byte, n), class: len(classBytes)}
}

// put gives b back; nil is nothing.
func (p *Buffers) put(b *buffer) {
	if b != nil && b.class < len(classBytes) {
		p.classes[b.class].Put(b)
	}
}
