package volume

import "fmt"

// freedChunks are the chunks in which something was freed that the device has not been told of. Space.mu guards it.
type freedChunks struct {
	waiting []*chunkMap // for the next pass
	pass    []*chunkMap // of the present one, from the end on
	at      uint32      // where it is in the last of pass
}

// note takes down that something in c was freed.
func (f *freedChunks) note(c *chunkMap) {
	if !c.freed {
		c.freed = true
		f.waiting = append(f.waiting, c)
	}
}

// DiscardFreed lets the device forget what Free gave back, in runs of 64 KiB and more: shorter ones cost a device more than they
// gain, and are part of a longer one when what is around them is freed. It does up to limit runs and says whether there
// are more. A pass does each chunk once in which anything was freed before it began; the call after the one that said
// that there are no more begins another. One caller at a time.
func (s *Space) DiscardFreed(limit int) (more bool, err error) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if s.closed {
		return false, ErrClosed
	}
	v := s.volume
	s.beginPass()
	for range limit {
		run, ok := s.takeFreed()
		if !ok {
			return false, nil
		}
		err := v.dev.Discard(int64(run.Start)*BlockBytes, int64(run.Count)*BlockBytes)
		s.giveBack(run)
		if err != nil {
			return false, v.note(fmt.Errorf("volume: discarding %v: %w", run, err))
		}
		v.counters.bytesDiscarded.Add(uint64(run.Count) * BlockBytes)
	}
	return true, nil
}

// beginPass begins one if none is under way.
func (s *Space) beginPass() {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &s.freed
	if len(f.pass) > 0 {
		return
	}
	f.pass, f.waiting, f.at = f.waiting, f.pass[:0], 0
	for _, c := range f.pass {
		c.freed = false
	}
}

// takeFreed gives the next free run of the pass, which is a used one until giveBack: nobody can write to what the
// device is about to forget.
func (s *Space) takeFreed() (Run, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := &s.freed; len(f.pass) > 0; {
		c := f.pass[len(f.pass)-1]
		start := c.scan(f.at, false)
		if start == c.blocks() || s.chunks[c.chunk] != c {
			f.pass, f.at = f.pass[:len(f.pass)-1], 0
			continue
		}
		end := c.scan(start, true)
		count := min(end-start, uint32(min(s.free/discardShare, maxChunkBytes/BlockBytes)))
		if f.at = end; count >= minDiscardBlocks {
			f.at = start + count
			s.setLocked(c, start, count, true)
			return Run{Block(c.chunk)*Block(c.blocks()) + Block(start), count}, true
		}
	}
	return Run{}, false
}

func (s *Space) giveBack(r Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	part, _ := s.split(r)
	s.setLocked(s.chunks[part.chunk], part.start, part.count, false)
}

// setLocked marks a run of one chunk as used, or as free.
func (s *Space) setLocked(c *chunkMap, start, count uint32, used bool) {
	if used {
		cursor := c.cursor // the allocator goes on where it was
		c.take(start, count)
		c.cursor = cursor
		s.countLocked(c, -int64(count))
	} else {
		c.give(start, count)
		s.countLocked(c, int64(count))
	}
	s.index.update(c)
}
