package volume

import (
	"fmt"
	"sync"
)

// Sealed is a batch that is encrypted and has its tags, and is yet to be stored. It keeps the ciphertext in memory until
// Release, and is used by one goroutine at a time.
type Sealed struct {
	job   job
	bytes int
}

var sealedPool = sync.Pool{New: func() any { return new(Sealed) }}

// Seal is the first half of Write, and has its rules and errors: when it returns, the caller's plaintext is not needed any more and the tags are
// there. The second half is StoreSealed. Unlike Write it bounds no memory: the caller does.
func (s *Space) Seal(batch []IO) (*Sealed, error) {
	if err := s.begin(batch, true); err != nil {
		return nil, err
	}
	defer s.gate.RUnlock()
	w := sealedPool.Get().(*Sealed)
	for c := (cursor{batch: batch}); !c.done(); {
		s.seal(&w.job, &c)
	}
	for i := range w.job.requests {
		w.bytes += len(w.job.requests[i].Buf)
	}
	return w, nil
}

// Bytes is the length of the batch, in bytes.
func (w *Sealed) Bytes() int { return w.bytes }

// Release gives the memory back; w is not used any more.
func (w *Sealed) Release() {
	w.job.release()
	w.bytes = 0
	sealedPool.Put(w)
}

// StoreSealed is the second half of Write, for several batches of this space at once: blocks that follow each other become one
// transfer across them. They are not atomic, alone or together. After an error all of them can be stored again. The
// blocks are used ones still.
func (s *Space) StoreSealed(list []*Sealed) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.closed {
		return ErrClosed
	}
	v := s.volume
	j := <-v.jobs
	defer func() { v.jobs <- j }()
	for _, w := range list {
		j.requests = append(j.requests, w.job.requests...)
	}
	err := v.dev.Write(j.requests)
	v.counters.count(&v.counters.writes, &v.counters.bytesWritten, j.requests)
	clear(j.requests) // the buffers stay with the batches
	j.requests = j.requests[:0]
	if err != nil {
		return v.note(fmt.Errorf("volume: write: %w", err))
	}
	return nil
}
