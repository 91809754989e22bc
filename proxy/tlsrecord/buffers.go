package tlsrecord

import "sync"

// buffer is memory for records. Buffers of both sizes are pooled.
type buffer struct{ mem []byte }

var (
	largeBuffers = sync.Pool{New: func() any { return &buffer{make([]byte, largeBytes)} }}
	smallBuffers = sync.Pool{New: func() any { return &buffer{make([]byte, smallBytes)} }}
)

// newBuffer returns a buffer that holds n bytes, or the largest one.
func newBuffer(n int) *buffer {
	if n <= smallBytes {
		return smallBuffers.Get().(*buffer)
	}
	return largeBuffers.Get().(*buffer)
}

// free gives b back; nil is nothing.
func (b *buffer) free() {
	switch {
	case b == nil:
	case len(b.mem) == smallBytes:
		smallBuffers.Put(b)
	default:
		largeBuffers.Put(b)
	}
}
