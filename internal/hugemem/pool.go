package hugemem

import "sync"

// Pool keeps buffers of one size for reuse. The first ones lie in huge pages and stay with the pool for
// good; what is needed beyond them comes from the Go heap and is left to the collector. A Pool is ready
// with its two fields set, and is meant to live as long as the process.
type Pool struct {
	BufferBytes int // size of a buffer
	KeepBytes   int // of huge pages, at most

	mu     sync.Mutex
	mapped bool
	fresh  []byte // of the huge pages, what was never given out
	free   []*Buffer

	heap sync.Pool // of *Buffer
}

// Buffer is one of a pool's. Who got it has it alone until Put.
type Buffer struct {
	Mem  []byte // BufferBytes long; what is in it is arbitrary
	kept bool   // in huge pages
}

// Get returns a buffer.
func (p *Pool) Get() *Buffer {
	if b := p.get(); b != nil {
		return b
	}
	if b, ok := p.heap.Get().(*Buffer); ok {
		return b
	}
	return &Buffer{Mem: make([]byte, p.BufferBytes)}
}

// get returns a buffer in huge pages; nil if all of them are in use.
func (p *Pool) get() *Buffer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := len(p.free) - 1; last >= 0 {
		b := p.free[last]
		p.free = p.free[:last]
		return b
	}
	if !p.mapped {
		p.mapped = true
		p.fresh, _ = Map(p.KeepBytes) // without huge pages the heap does
	}
	if len(p.fresh) < p.BufferBytes {
		return nil
	}
	b := &Buffer{Mem: p.fresh[:p.BufferBytes:p.BufferBytes], kept: true}
	p.fresh = p.fresh[p.BufferBytes:]
	return b
}

// Put takes back what Get gave.
func (p *Pool) Put(b *Buffer) {
	if !b.kept {
		p.heap.Put(b)
		return
	}
	p.mu.Lock()
	p.free = append(p.free, b)
	p.mu.Unlock()
}
