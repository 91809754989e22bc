package memvfs

import "slices"

// allBlocks is behind every block of a file.
const allBlocks = 1 << 62

// span is blocks from lo up to hi.
type span struct{ lo, hi uint64 }

// spans are sorted and don't touch each other.
type spans []span

// count is how many blocks there are.
func (s spans) count() uint64 { return s.within(0, allBlocks) }

// within counts those from lo up to hi.
func (s spans) within(lo, hi uint64) (n uint64) {
	for _, x := range s {
		if a, b := max(x.lo, lo), min(x.hi, hi); a < b {
			n += b - a
		}
	}
	return n
}

// add puts blocks in and returns how many are new.
func (s *spans) add(lo, hi uint64) uint64 {
	fresh := hi - lo - s.within(lo, hi)
	var out spans
	for _, x := range *s {
		if x.hi < lo || x.lo > hi {
			out = append(out, x)
			continue
		}
		lo, hi = min(lo, x.lo), max(hi, x.hi)
	}
	at, _ := slices.BinarySearchFunc(out, lo, func(x span, lo uint64) int {
		if x.lo < lo {
			return -1
		}
		return 1
	})
	*s = slices.Insert(out, at, span{lo, hi})
	return fresh
}

// remove takes blocks out and returns how many.
func (s *spans) remove(lo, hi uint64) uint64 {
	gone := s.within(lo, hi)
	if gone == 0 {
		return 0
	}
	var out spans
	for _, x := range *s {
		if x.lo < min(x.hi, lo) {
			out = append(out, span{x.lo, min(x.hi, lo)})
		}
		if max(x.lo, hi) < x.hi {
			out = append(out, span{max(x.lo, hi), x.hi})
		}
	}
	*s = out
	return gone
}
