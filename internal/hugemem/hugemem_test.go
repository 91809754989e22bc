package hugemem

import (
	"sync"
	"testing"
	"unsafe"
)

// TestMap writes to all of a mapping, finds it zero before, and gives it back.
func TestMap(t *testing.T) {
	m, err := Map(pageBytes + 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(m) != 2*pageBytes {
		t.Errorf("%d bytes for %d", len(m), pageBytes+1)
	}
	for i := range m {
		if m[i] != 0 {
			t.Fatalf("byte %d is %d", i, m[i])
		}
		m[i] = 1
	}
	if err := Unmap(m); err != nil {
		t.Error(err)
	}
	if Unmap(m) == nil {
		t.Error("memory that was given back can be given back again")
	}
	if _, err := Map(1 << 60); err == nil {
		t.Error("2^60 bytes")
	}
}

// TestPool checks that nobody shares a buffer, that those beyond the huge pages work as well, and that
// what is put is given out again.
func TestPool(t *testing.T) {
	const size, kept = 300 << 10, 6
	p := Pool{BufferBytes: size, KeepBytes: pageBytes}
	seen := map[*byte]bool{}
	var all []*Buffer
	for range 2 * kept {
		b := p.Get()
		first := unsafe.SliceData(b.Mem)
		if len(b.Mem) != size || cap(b.Mem) != size || seen[first] {
			t.Fatalf("buffer %d of %d bytes, given out before: %v", len(all), len(b.Mem), seen[first])
		}
		seen[first] = true
		all = append(all, b)
	}
	inHuge := 0
	for _, b := range all {
		if b.kept {
			inHuge++
		}
		p.Put(b)
	}
	if inHuge != kept {
		t.Errorf("%d buffers in huge pages, want %d", inHuge, kept)
	}
	for range kept {
		if b := p.Get(); !b.kept || !seen[unsafe.SliceData(b.Mem)] {
			t.Error("a new buffer while one is free")
		}
	}
}

// TestPoolWithoutMemory takes all from the heap where no huge pages are to be had.
func TestPoolWithoutMemory(t *testing.T) {
	p := Pool{BufferBytes: 4096, KeepBytes: 1 << 60}
	b := p.Get()
	if b.kept || len(b.Mem) != 4096 {
		t.Errorf("%d bytes, in huge pages: %v", len(b.Mem), b.kept)
	}
	p.Put(b)
}

// TestPoolShared lets many use one pool; each finds in its buffer what it wrote.
func TestPoolShared(t *testing.T) {
	p := Pool{BufferBytes: 64 << 10, KeepBytes: pageBytes}
	var wg sync.WaitGroup
	for id := range byte(8) {
		wg.Go(func() {
			for range 500 {
				b := p.Get()
				b.Mem[0], b.Mem[len(b.Mem)-1] = id, id
				if b.Mem[0] != id || b.Mem[len(b.Mem)-1] != id {
					t.Error("somebody else's byte")
				}
				p.Put(b)
			}
		})
	}
	wg.Wait()
}
