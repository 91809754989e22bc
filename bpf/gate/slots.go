package gate

// slots gives numbers to keys, which keep them while they are in use, so that their counters go on.
type slots[K comparable] struct {
	of   map[K]uint32
	free []uint32 // the next is the last
	next uint32   // never given yet
	end  uint32
}

func newSlots[K comparable](first, end int) slots[K] {
	return slots[K]{of: make(map[K]uint32), next: uint32(first), end: uint32(end)}
}

// take gives the slot of a key. fresh says that the key had none.
func (s *slots[K]) take(k K) (slot uint32, fresh, ok bool) {
	if slot, ok := s.of[k]; ok {
		return slot, false, true
	}
	if n := len(s.free); n > 0 {
		slot, s.free = s.free[n-1], s.free[:n-1]
	} else if s.next < s.end {
		slot = s.next
		s.next++
	} else {
		return 0, false, false
	}
	s.of[k] = slot
	return slot, true, true
}

// keep frees the slots of all other keys.
func (s *slots[K]) keep(used map[K]bool) {
	for k, slot := range s.of {
		if !used[k] {
			delete(s.of, k)
			s.free = append(s.free, slot)
		}
	}
}
