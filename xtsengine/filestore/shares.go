package filestore

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// shares counts the references to blocks of the volume that extents share. Only blocks with two or more
// have a record; an extent with a block that has none owns it alone.
//
// mu is held from reading the records to applying the batch that changes them. A block becomes shared
// only while its file's flushing is held, so that who holds the locks of a file and finds no record at
// all may free its blocks without mu.
type shares struct {
	mu      sync.Mutex
	records atomic.Int64
}

// shared is a record: a run of blocks that each have so many references.
type shared struct {
	run  volume.Run
	refs uint32
}

func runEnd(r volume.Run) volume.Block { return r.Start + volume.Block(r.Count) }

// sharedKey is the key of a record, by its first block.
func sharedKey(start volume.Block) []byte { return numberKey(tableShared, uint64(start)) }

// appendShared encodes the value of a record.
func appendShared(b []byte, x *shared) []byte {
	return be.AppendUint32(be.AppendUint32(b, x.run.Count), x.refs)
}

func decodeShared(key, value []byte) (shared, error) {
	start, ok := splitNumber(key)
	if !ok || len(value) != 8 {
		return shared{}, damaged("shared run", 0)
	}
	x := shared{volume.Run{Start: volume.Block(start), Count: be.Uint32(value)}, be.Uint32(value[4:])}
	if x.run.Count == 0 || x.refs < 2 || start > 1<<52 {
		return shared{}, damaged("shared run", 0)
	}
	return x, nil
}

// applyShared applies a batch that lets go of some runs and takes further references to others, and
// returns those that nothing refers to any more.
func (s *Store) applyShared(b *pebble.Batch, drops, adds []volume.Run) (free []volume.Run, err error) {
	if len(adds) == 0 && (len(drops) == 0 || s.shares.records.Load() == 0) {
		return drops, s.apply(b)
	}
	s.shares.mu.Lock()
	defer s.shares.mu.Unlock()
	var u shareUpdate
	list := segments(drops, adds)
	if err := u.read(s.db, list); err != nil {
		return nil, err
	}
	if err := u.merge(list); err != nil {
		return nil, err
	}
	u.put(b)
	if err := s.apply(b); err != nil {
		return nil, err
	}
	s.shares.records.Add(int64(len(u.now) - len(u.was)))
	return u.free, nil
}

// segment is a run whose number of references changes by delta.
type segment struct {
	start, end volume.Block
	delta      int
}

// segments says what runs, which may overlap, come to: disjoint ones, in order.
func segments(drops, adds []volume.Run) []segment {
	type point struct {
		at    volume.Block
		delta int
	}
	points := make([]point, 0, 2*(len(drops)+len(adds)))
	for _, r := range drops {
		points = append(points, point{r.Start, -1}, point{runEnd(r), 1})
	}
	for _, r := range adds {
		points = append(points, point{r.Start, 1}, point{runEnd(r), -1})
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.at, b.at) })
	var list []segment
	delta := 0
	for k, p := range points {
		if k > 0 && delta != 0 && points[k-1].at < p.at {
			list = append(list, segment{points[k-1].at, p.at, delta})
		}
		delta += p.delta
	}
	return list
}

// shareUpdate is one change of the records: those before it, those after it, and the blocks that
// nothing refers to any more.
type shareUpdate struct {
	was, now []shared
	free     []volume.Run
}

// read reads the records that segments touch.
func (u *shareUpdate) read(db pebble.Reader, list []segment) error {
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{tableShared}, UpperBound: []byte{tableShared + 1}})
	if err != nil {
		return metaErr(err)
	}
	defer it.Close()
	for _, g := range list {
		if err := u.readSegment(it, g); err != nil {
			return err
		}
	}
	return nil
}

// readSegment reads the records that one segment touches and no earlier one.
func (u *shareUpdate) readSegment(it *pebble.Iterator, g segment) error {
	ok := it.SeekLT(sharedKey(g.start + 1))
	if !ok {
		ok = it.First()
	}
	for ; ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return metaErr(err)
		}
		x, err := decodeShared(it.Key(), value)
		if err != nil {
			return err
		}
		if x.run.Start >= g.end {
			break
		}
		if n := len(u.was); runEnd(x.run) > g.start && (n == 0 || u.was[n-1].run.Start < x.run.Start) {
			u.was = append(u.was, x)
		}
	}
	if err := it.Error(); err != nil {
		return metaErr(err)
	}
	return nil
}

// merge computes what becomes of the records. A block without one has one reference.
func (u *shareUpdate) merge(list []segment) error {
	at := volume.Block(0)
	for was := u.was; len(was) > 0 || len(list) > 0; {
		start, end := ^volume.Block(0), ^volume.Block(0)
		if len(was) > 0 {
			start = was[0].run.Start
		}
		if len(list) > 0 {
			start = min(start, list[0].start)
		}
		at = max(at, start)
		refs := 1
		if len(was) > 0 {
			if was[0].run.Start <= at {
				refs, end = int(was[0].refs), runEnd(was[0].run)
			} else {
				end = was[0].run.Start
			}
		}
		if len(list) > 0 {
			if list[0].start <= at {
				refs, end = refs+list[0].delta, min(end, list[0].end)
			} else {
				end = min(end, list[0].start)
			}
		}
		if err := u.piece(at, end, refs); err != nil {
			return err
		}
		at = end
		if len(was) > 0 && runEnd(was[0].run) == at {
			was = was[1:]
		}
		if len(list) > 0 && list[0].end == at {
			list = list[1:]
		}
	}
	return nil
}

// piece adds blocks that have so many references afterwards.
func (u *shareUpdate) piece(start, end volume.Block, refs int) error {
	run := volume.Run{Start: start, Count: uint32(end - start)}
	switch {
	case refs < 0 || refs > 1<<31:
		return fmt.Errorf("filestore: references to %v: %w", run, vfs.ErrCorrupt)
	case refs == 0:
		u.free = append(u.free, run)
	case refs > 1:
		if n := len(u.now); n > 0 && runEnd(u.now[n-1].run) == start && u.now[n-1].refs == uint32(refs) {
			u.now[n-1].run.Count += run.Count
			return nil
		}
		u.now = append(u.now, shared{run, uint32(refs)})
	}
	return nil
}

// put puts the change into a batch.
func (u *shareUpdate) put(b *pebble.Batch) {
	for k := range u.was {
		del(b, sharedKey(u.was[k].run.Start))
	}
	for k := range u.now {
		set(b, sharedKey(u.now[k].run.Start), appendShared(nil, &u.now[k]))
	}
}

// loadShares marks the shared blocks as used, each once.
func (s *Store) loadShares() error {
	end := volume.Block(0)
	return s.scan([]byte{tableShared}, []byte{tableShared + 1}, func(key, value []byte) error {
		x, err := decodeShared(key, value)
		if err == nil && x.run.Start < end {
			err = damaged("shared run", 0)
		}
		if err != nil {
			return err
		}
		end = runEnd(x.run)
		s.shares.records.Add(1)
		return s.markUsed(0, x.run)
	})
}

// alone returns the parts of a run that no record has.
func (s *Store) alone(run volume.Run) ([]volume.Run, error) {
	if s.shares.records.Load() == 0 {
		return []volume.Run{run}, nil
	}
	u := shareUpdate{}
	list := []segment{{start: run.Start, end: runEnd(run)}}
	if err := u.read(s.db, list); err != nil {
		return nil, err
	}
	var parts []volume.Run
	at := run.Start
	for _, x := range u.was {
		if x.run.Start > at {
			parts = append(parts, volume.Run{Start: at, Count: uint32(x.run.Start - at)})
		}
		at = runEnd(x.run)
	}
	if end := runEnd(run); at < end {
		parts = append(parts, volume.Run{Start: at, Count: uint32(end - at)})
	}
	return parts, nil
}
