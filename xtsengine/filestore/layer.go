package filestore

import (
	"slices"
	"sync"

	"github.com/nfseal/nfseal/xtsengine/volume"
)

// block is one block of content in memory. Once its layer is sealed it isn't changed any more.
type block [blockBytes]byte

// blockPool recycles blocks.
var blockPool = sync.Pool{New: func() any { return new(block) }}

func newBlock() *block { return blockPool.Get().(*block) }

func freeBlock(b *block) { blockPool.Put(b) }

// layer is unstable content of a file: blocks in memory, each with a promise of the pool or a home, and
// blocks that are on the volume already. A file block is in at most one of the two.
type layer struct {
	dirty  map[uint64]*block
	homed  map[uint64]struct{} // those of dirty that have a home and no promise
	over   map[uint64]struct{} // those of dirty that are known to hide a block that is stable: the file does not grow by them
	placed extents
	onVol  uint64 // blocks in placed
	scarce bool   // there was no space, so that what is replaced must be given back by the flush
}

func (l *layer) empty() bool { return len(l.dirty) == 0 && len(l.placed) == 0 }

// blocks is how many blocks more than it has a file may have by the layer.
func (l *layer) blocks() uint64 { return uint64(len(l.dirty)-len(l.over)) + l.onVol }

// promised is how many promises of the pool the layer has.
func (l *layer) promised() uint64 { return uint64(len(l.dirty) - len(l.homed)) }

// setHomed marks a block in memory as one that has a home and no promise.
func (l *layer) setHomed(file uint64) {
	if l.homed == nil {
		l.homed = map[uint64]struct{}{}
	}
	l.homed[file] = struct{}{}
}

// setOver marks a block in memory as one that hides a stable block.
func (l *layer) setOver(file uint64) {
	if l.over == nil {
		l.over = map[uint64]struct{}{}
	}
	l.over[file] = struct{}{}
}

// has says whether the layer hides what is below it at a file block.
func (l *layer) has(file uint64) bool {
	if l.dirty[file] != nil {
		return true
	}
	k := l.placed.find(file)
	return k < len(l.placed) && l.placed[k].file <= file
}

// source is where a run of file blocks is read from: memory, the metadata store, the volume, or
// nowhere (a hole).
type source struct {
	count uint64
	block *block // memory; count is 1
	ext   extent // from the first block of the run on, if hole is not set
	hole  bool
}

// find looks for the blocks from file on, up to limit of them. ok says that the layer has the first;
// if not, count is how many the layer does not have.
func (l *layer) find(file, limit uint64) (src source, ok bool) {
	if b := l.dirty[file]; b != nil {
		return source{count: 1, block: b}, true
	}
	src, ok = l.placed.source(file, limit)
	if len(l.dirty) == 0 || (ok && !src.hole) {
		return src, ok
	}
	for n := uint64(1); n < src.count; n++ {
		if l.dirty[file+n] != nil {
			src.count = n
			break
		}
	}
	return src, ok
}

// source looks for the blocks from file on in e, as layer.find does.
func (e extents) source(file, limit uint64) (src source, ok bool) {
	k := e.find(file)
	if k == len(e) {
		return source{count: limit, hole: true}, false
	}
	if x := &e[k]; x.file <= file {
		n := min(limit, x.end()-file)
		return source{count: n, ext: x.part(file, file+n)}, true
	}
	return source{count: min(limit, e[k].file-file), hole: true}, false
}

// sorted returns the numbers of the blocks in memory, in order.
func (l *layer) sorted(dst []uint64) []uint64 {
	for file := range l.dirty {
		dst = append(dst, file)
	}
	slices.Sort(dst)
	return dst
}

// putDirty places a block into the layer, whose promise the caller has got; it takes the memory over.
// The blocks of the volume that it hides go to *freed.
func (l *layer) putDirty(file uint64, b *block, freed *[]volume.Run) {
	if l.dirty == nil {
		l.dirty = map[uint64]*block{}
	}
	l.dirty[file] = b
	if k := l.placed.find(file); k < len(l.placed) && l.placed[k].file <= file {
		l.placed = l.placed.cut(file, file+1, collect(freed))
		l.onVol--
	}
}

// putPlaced places blocks on the volume into the layer. dropped is how many blocks in memory they
// replace, promises how many promises those had, which the caller gives back.
func (l *layer) putPlaced(x extent, freed *[]volume.Run) (dropped, promises uint64) {
	had := l.promised()
	if len(l.dirty) > 0 {
		for file := x.file; file < x.end(); file++ {
			if b := l.dirty[file]; b != nil {
				delete(l.dirty, file)
				delete(l.homed, file)
				delete(l.over, file)
				freeBlock(b)
				dropped++
			}
		}
	}
	before := len(*freed)
	l.placed = l.placed.insert(x, collect(freed))
	l.onVol += uint64(x.count)
	for _, run := range (*freed)[before:] {
		l.onVol -= uint64(run.Count)
	}
	return dropped, had - l.promised()
}

// collect returns a function that gathers the runs of extents on the volume.
func collect(runs *[]volume.Run) func(extent) {
	return func(x extent) {
		if x.place.hasRun() {
			*runs = append(*runs, x.run())
		}
	}
}

// under lays what l lacks of a lower layer under it, which is used up. Blocks in memory that l hides are
// counted in dropped, their promises in promises; blocks of the volume that it hides go to *freed.
func (l *layer) under(low *layer, freed *[]volume.Run) (dropped, promises uint64) {
	had := l.promised() + low.promised()
	l.scarce = l.scarce || low.scarce
	for file, b := range low.dirty {
		if l.has(file) {
			freeBlock(b)
			dropped++
			continue
		}
		if l.dirty == nil {
			l.dirty = map[uint64]*block{}
		}
		l.dirty[file] = b
		if _, ok := low.homed[file]; ok {
			l.setHomed(file)
		}
		if _, ok := low.over[file]; ok {
			l.setOver(file)
		}
	}
	below := low.placed
	for file := range l.dirty {
		if k := below.find(file); k < len(below) && below[k].file <= file {
			below = carve(nil, below, file, file+1, collect(freed))
		}
	}
	l.placed = overlay(nil, below, l.placed, collect(freed))
	l.onVol = l.placed.blocks()
	*low = layer{}
	return dropped, had - l.promised()
}

// runs gathers the blocks on the volume.
func (l *layer) runs(dst []volume.Run) []volume.Run { return l.placed.runs(dst) }
