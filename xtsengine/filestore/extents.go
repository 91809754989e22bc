package filestore

import (
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
)

// extent is a run of file blocks that are stored alike. start counts only on the volume.
type extent struct {
	file  uint64
	start volume.Block
	count uint32
	place place
}

func (x *extent) end() uint64 { return x.file + uint64(x.count) }

// run is the blocks on the volume.
func (x *extent) run() volume.Run { return volume.Run{Start: x.start, Count: x.count} }

// part returns the blocks of x from lo up to hi, which lie in it.
func (x *extent) part(lo, hi uint64) extent {
	p := extent{file: lo, count: uint32(hi - lo), place: x.place}
	if x.place == onVolume {
		p.start = x.start + volume.Block(lo-x.file)
	}
	return p
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

// add appends x, which lies behind all of e, merging it with the last extent if the two are one on
// the volume and in one window.
func (e extents) add(x extent) extents {
	if n := len(e); n > 0 {
		last := &e[n-1]
		follows := last.end() == x.file && last.place == x.place && x.file%windowBlocks != 0
		if follows && (x.place != onVolume || last.start+volume.Block(last.count) == x.start) {
			last.count += x.count
			return e
		}
	}
	return append(e, x)
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

// insert lays one extent over e, which it may reuse, and returns the result.
func (e extents) insert(x extent, gone func(extent)) extents {
	if n := len(e); n == 0 || e[n-1].end() <= x.file {
		return e.add(x)
	}
	one := [1]extent{x}
	return overlay(make(extents, 0, len(e)+2), e, one[:], gone)
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
