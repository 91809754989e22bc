package filestore

import (
	"bytes"
	"slices"
	"sort"

	"github.com/nfseal/nfseal/xtsengine/volume"
)

// place says where the blocks of an extent are.
type place uint8

const (
	// onVolume: consecutive blocks of the volume.
	onVolume place = iota
	// inJournal: in the metadata store, until they are moved to the volume.
	inJournal
	// inInode: in the metadata store for good; a small file's only block.
	inInode
	// reserved: consecutive blocks of the volume, which hold nothing yet and read as zeros.
	reserved
)

// hasRun says whether blocks in the place are consecutive ones of the volume.
func (p place) hasRun() bool { return p == onVolume || p == reserved }

// span is the file blocks that an extent keeps to: none crosses a multiple of it. What is reserved has
// no tags that would have to be written anew.
func (p place) span() uint64 {
	if p == reserved {
		return windowBlocks
	}
	return extentBlocks
}

// tagBytes is the size of a block's tag.
const tagBytes = volume.TagBytes

// extent is a run of file blocks that are stored alike. What follows place counts only on the volume.
type extent struct {
	file  uint64
	count uint32
	place place

	start      volume.Block
	generation uint64 // of the tags
	// tags has tagBytes a block. What is in it never changes: extents that are parts of each other
	// share it.
	tags []byte
}

func (x *extent) end() uint64 { return x.file + uint64(x.count) }

// run is the blocks on the volume.
func (x *extent) run() volume.Run { return volume.Run{Start: x.start, Count: x.count} }

// part returns the blocks of x from lo up to hi, which lie in it.
func (x *extent) part(lo, hi uint64) extent {
	p := extent{file: lo, count: uint32(hi - lo), place: x.place}
	if x.place.hasRun() {
		p.start = x.start + volume.Block(lo-x.file)
	}
	if x.place == onVolume {
		p.generation = x.generation
		p.tags = x.tags[(lo-x.file)*tagBytes : (hi-x.file)*tagBytes]
	}
	return p
}

// same says whether two extents are equal.
func (x *extent) same(y *extent) bool {
	if x.file != y.file || x.count != y.count || x.place != y.place || x.start != y.start ||
		x.generation != y.generation || len(x.tags) != len(y.tags) {
		return false
	}
	return len(x.tags) == 0 || &x.tags[0] == &y.tags[0] || bytes.Equal(x.tags, y.tags)
}

// follows says whether x continues y, so that the two can be one.
func (x *extent) follows(y *extent) bool {
	if y.end() != x.file || y.place != x.place || x.file%x.place.span() == 0 {
		return false
	}
	return !x.place.hasRun() || (y.start+volume.Block(y.count) == x.start && y.generation == x.generation)
}

// joinTags returns the tags of a and then those of b, in a's memory if they are one behind the other
// there, else in fresh memory.
func joinTags(a, b []byte) []byte {
	n := len(a)
	if len(b) == 0 || n == 0 {
		return append(a[:n:n], b...)
	}
	if cap(a) >= n+len(b) && &a[:n+1][n] == &b[0] {
		return a[:n+len(b)]
	}
	return append(append(make([]byte, 0, n+len(b)), a...), b...)
}

// extents are sorted by file block and don't overlap.
type extents []extent

// find returns the index of the first extent that ends after block.
func (e extents) find(block uint64) int {
	if n := len(e); n == 0 || e[n-1].end() <= block {
		return n
	}
	return sort.Search(len(e), func(i int) bool { return e[i].end() > block })
}

// around returns the indices of the extents, from lo up to hi, beside which a change of the blocks from first
// up to end changes nothing: those that it touches, and one more at each side, which it may come to continue.
func (e extents) around(first, end uint64) (lo, hi int) {
	return max(e.find(first)-1, 0), min(e.find(end)+1, len(e))
}

// blocks counts them.
func (e extents) blocks() uint64 {
	n := uint64(0)
	for i := range e {
		n += uint64(e[i].count)
	}
	return n
}

// blocksAt counts those in one place.
func (e extents) blocksAt(p place) uint64 {
	n := uint64(0)
	for i := range e {
		if e[i].place == p {
			n += uint64(e[i].count)
		}
	}
	return n
}

// runs gathers the blocks on the volume.
func (e extents) runs(dst []volume.Run) []volume.Run {
	for i := range e {
		if e[i].place.hasRun() {
			dst = append(dst, e[i].run())
		}
	}
	return dst
}

// add appends x, which lies behind all of e, in extents that keep to their span,
// merging what continues the last extent.
func (e extents) add(x extent) extents {
	for {
		span := x.place.span()
		stop := min(x.end(), (x.file/span+1)*span)
		p := x.part(x.file, stop)
		if n := len(e); n > 0 && p.follows(&e[n-1]) {
			last := &e[n-1]
			last.count += p.count
			last.tags = joinTags(last.tags, p.tags)
		} else {
			e = append(e, p)
		}
		if stop == x.end() {
			return e
		}
		x = x.part(stop, x.end())
	}
}

// overlay appends to dst what old becomes when the extents of over are laid over it. gone gets every
// piece of old that is hidden, in order.
func overlay(dst, old, over extents, gone func(extent)) extents {
	i := 0
	var head extent // what is left of old[i], if count is not 0
	for k := range over {
		x := &over[k]
		for ; i < len(old) || head.count > 0; head = (extent{}) {
			if head.count == 0 {
				head, i = old[i], i+1
			}
			if head.file >= x.end() {
				break
			}
			if head.file < x.file {
				dst = dst.add(head.part(head.file, min(head.end(), x.file)))
			}
			if lo, hi := max(head.file, x.file), min(head.end(), x.end()); lo < hi {
				gone(head.part(lo, hi))
			}
			if head.end() > x.end() {
				head = head.part(max(head.file, x.end()), head.end())
				break
			}
		}
		dst = dst.add(*x)
	}
	if head.count > 0 {
		dst = dst.add(head)
	}
	for _, x := range old[i:] {
		dst = dst.add(x)
	}
	return dst
}

// carve appends to dst what is left of old without the blocks from lo up to hi. gone gets what is
// taken away.
func carve(dst, old extents, lo, hi uint64, gone func(extent)) extents {
	for i := range old {
		x := &old[i]
		if x.end() <= lo || x.file >= hi {
			dst = dst.add(*x)
			continue
		}
		if x.file < lo {
			dst = dst.add(x.part(x.file, lo))
		}
		gone(x.part(max(x.file, lo), min(x.end(), hi)))
		if x.end() > hi {
			dst = dst.add(x.part(hi, x.end()))
		}
	}
	return dst
}

// insert lays one extent over e, whose memory it uses again, and returns the result. It costs what is near the
// extent: an overwrite as long as what was there moves nothing else.
func (e extents) insert(x extent, gone func(extent)) extents {
	if n := len(e); n == 0 || e[n-1].end() <= x.file {
		return e.add(x)
	}
	one := [1]extent{x}
	var near [nearExtents]extent
	lo, hi := e.around(x.file, x.end())
	return slices.Replace(e, lo, hi, overlay(near[:0], e[lo:hi], one[:], gone)...)
}

// cut takes the blocks from lo up to hi out of e, whose memory it uses again, and returns the result.
func (e extents) cut(lo, hi uint64, gone func(extent)) extents {
	var near [nearExtents]extent
	first, end := e.around(lo, hi)
	return slices.Replace(e, first, end, carve(near[:0], e[first:end], lo, hi, gone)...)
}

// byWindow calls visit with the parts of e that lie in one window each.
func (e extents) byWindow(visit func(window uint64, part extents) error) error {
	var part extents
	for i := range e {
		for x := e[i]; x.count > 0; {
			window := x.file / windowBlocks
			cut := min(x.end(), (window+1)*windowBlocks)
			if len(part) > 0 && part[0].file/windowBlocks != window {
				if err := visit(part[0].file/windowBlocks, part); err != nil {
					return err
				}
				part = nil
			}
			part = append(part, x.part(x.file, cut))
			x = x.part(cut, x.end())
		}
	}
	if len(part) == 0 {
		return nil
	}
	return visit(part[0].file/windowBlocks, part)
}
