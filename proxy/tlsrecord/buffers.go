package tlsrecord

import (
	"sync"

	"github.com/nfseal/nfseal/internal/hugemem"
)

// buffer is memory for records. Buffers of both sizes are pooled.
type buffer = hugemem.Buffer

var (
	largeBuffers = hugemem.Pool{BufferBytes: largeBytes, KeepBytes: keepBytes}
	smallBuffers = sync.Pool{New: func() any { return &buffer{Mem: make([]byte, smallBytes)} }}
)

// newBuffer returns a buffer that holds n bytes, or the largest one.
func newBuffer(n int) *buffer {
	if n <= smallBytes {
		return smallBuffers.Get().(*buffer)
	}
	return largeBuffers.Get()
}

// freeBuffer gives b back; nil is nothing.
func freeBuffer(b *buffer) {
	switch {
	case b == nil:
	case len(b.Mem) == smallBytes:
		smallBuffers.Put(b)
	default:
		largeBuffers.Put(b)
	}
}
