package filestore

import (
	"errors"
	"sync"

	"github.com/nfseal/nfseal/xtsengine/volume"
)

// pool keeps blocks of the space that hold nothing yet, so that a write into memory can be promised
// a place: what is reserved is always there. Blocks in the pool are used ones to the space.
type pool struct {
	space *volume.Space

	mu       sync.Mutex
	runs     []volume.Run
	blocks   uint64 // in runs
	reserved uint64 // of blocks
	aside    uint64 // of reserved: for overwrites on a full volume
	keep     uint64 // what aside is filled up to
}

// reserve promises n blocks.
func (p *pool) reserve(n uint64) error {
	if n == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.setAsideLocked(); err != nil {
		return err
	}
	return p.reserveLocked(n)
}

func (p *pool) reserveLocked(n uint64) error {
	for p.blocks-p.reserved < n {
		missing := n - (p.blocks - p.reserved)
		run, err := p.space.Alloc(uint32(min(max(missing, poolRunBlocks), 1<<20)))
		if err != nil {
			return err
		}
		p.runs = append(p.runs, run)
		p.blocks += uint64(run.Count)
	}
	p.reserved += n
	return nil
}

// An overwrite takes a fresh block and gives the old one back when it is stable. So that it succeeds on a
// full volume too, a few blocks are set aside: such writes use them in turn, and what is given back goes
// there first. When they are all in use, a flush of what is unstable brings them back.

// setAsideLocked fills up what is set aside, if there is space.
func (p *pool) setAsideLocked() error {
	if p.aside == p.keep {
		return nil
	}
	n := p.keep - p.aside
	err := p.reserveLocked(n)
	if errors.Is(err, volume.ErrNoSpace) { // some of it may be there
		n, err = p.blocks-p.reserved, nil
		p.reserved = p.blocks
	}
	if err == nil {
		p.aside += n
	}
	return err
}

// setAside lets n blocks be set aside from now on; it makes that true if there is space and any of the
// space is in use, for a file system without content needs none.
func (p *pool) setAside(n uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep = n
	if p.space.Stat().Used == 0 {
		return nil
	}
	return p.setAsideLocked()
}

// borrow promises n blocks of those that are set aside, to who gives as many back.
func (p *pool) borrow(n uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n > p.aside {
		return volume.ErrNoSpace
	}
	p.aside -= n
	return nil
}

// refill sets blocks aside that nothing refers to any more, and returns those that are not needed for it.
func (p *pool) refill(runs []volume.Run) []volume.Run {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(runs) > 0 && p.aside < p.keep {
		run := runs[0]
		run.Count = uint32(min(uint64(run.Count), p.keep-p.aside))
		p.runs = append(p.runs, run)
		p.blocks += uint64(run.Count)
		p.reserved += uint64(run.Count)
		p.aside += uint64(run.Count)
		if runs[0] = skip(runs[0], run.Count); runs[0].Count == 0 {
			runs = runs[1:]
		}
	}
	return runs
}

// dissolve gives everything back that nobody was promised.
func (p *pool) dissolve() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reserved -= p.aside
	p.aside, p.keep = 0, 0
	return p.shrinkLocked(0)
}

// release takes back a promise of n blocks and gives back what is too much.
func (p *pool) release(n uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := min(n, p.keep-p.aside)
	p.aside += kept
	p.reserved -= n - kept
	return p.shrinkLocked(poolSpareBlocks)
}

// shrinkLocked gives blocks back to the space until at most spare are not reserved.
func (p *pool) shrinkLocked(spare uint64) error {
	for p.blocks-p.reserved > spare {
		last := &p.runs[len(p.runs)-1]
		n := uint32(min(uint64(last.Count), p.blocks-p.reserved-spare))
		last.Count -= n
		p.blocks -= uint64(n)
		run := volume.Run{Start: last.Start + volume.Block(last.Count), Count: n}
		if last.Count == 0 {
			p.runs = p.runs[:len(p.runs)-1]
		}
		if err := p.space.Free(run); err != nil {
			return err
		}
	}
	return nil
}

// shrink gives back everything that is not reserved.
func (p *pool) shrink() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shrinkLocked(0)
}

// take turns a promise of n blocks into blocks, in few runs.
func (p *pool) take(dst []volume.Run, n uint64) []volume.Run {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reserved -= n
	p.blocks -= n
	for n > 0 {
		i := p.fitLocked(n)
		run := p.runs[i]
		if uint64(run.Count) > n {
			run.Count = uint32(n)
			p.runs[i].Start += volume.Block(n)
			p.runs[i].Count -= uint32(n)
		} else {
			p.runs[i] = p.runs[len(p.runs)-1]
			p.runs = p.runs[:len(p.runs)-1]
		}
		dst = append(dst, run)
		n -= uint64(run.Count)
	}
	return dst
}

// fitLocked chooses the first run that has n blocks, else the longest.
func (p *pool) fitLocked(n uint64) int {
	best := 0
	for i := range p.runs {
		if uint64(p.runs[i].Count) >= n {
			return i
		}
		if p.runs[i].Count > p.runs[best].Count {
			best = i
		}
	}
	return best
}

// untake undoes take: the blocks are promised again.
func (p *pool) untake(runs []volume.Run) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, run := range runs {
		p.runs = append(p.runs, run)
		p.blocks += uint64(run.Count)
		p.reserved += uint64(run.Count)
	}
}

// poolCounts says how many blocks are in the pool, and how many of them nothing is promised of; how many
// are set aside, and how many more there should be.
type poolCounts struct{ held, idle, aside, missing uint64 }

func (p *pool) counts() poolCounts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return poolCounts{p.blocks, p.blocks - p.reserved, p.aside, p.keep - p.aside}
}

// allocate gives n blocks in as few runs as there are, or none and an error.
func (p *pool) allocate(dst []volume.Run, n uint64) ([]volume.Run, error) {
	p.mu.Lock()
	err := p.setAsideLocked()
	p.mu.Unlock()
	if err != nil {
		return dst[:0], err
	}
	for left := n; left > 0; {
		run, err := p.space.Alloc(uint32(min(left, 1<<20)))
		if errors.Is(err, volume.ErrNoSpace) {
			run, err = p.spare(left, err)
		}
		if err != nil {
			return dst[:0], errors.Join(err, p.freeAll(dst))
		}
		dst = append(dst, run)
		left -= uint64(run.Count)
	}
	return dst, nil
}

// spare gives a run of the pool that nothing is promised of; none is why there must be one.
func (p *pool) spare(want uint64, none error) (volume.Run, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.blocks - p.reserved
	if idle == 0 {
		return volume.Run{}, none
	}
	last := &p.runs[len(p.runs)-1]
	n := uint32(min(uint64(last.Count), idle, want))
	last.Count -= n
	p.blocks -= uint64(n)
	run := volume.Run{Start: last.Start + volume.Block(last.Count), Count: n}
	if last.Count == 0 {
		p.runs = p.runs[:len(p.runs)-1]
	}
	return run, nil
}

// exchange takes fresh blocks for those that lie in chunks which are to be empty. What there is no space for
// stays, with volume.ErrNoSpace.
func (p *pool) exchange(chunks *volume.Chunks) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := 0; k < len(p.runs); k++ {
		first, in, rest := chunks.Cut(p.runs[k])
		if rest.Count > 0 {
			p.runs[k] = first
			p.runs = append(p.runs, rest)
		}
		if !in {
			continue
		}
		fresh, err := p.freshFor(first)
		if err != nil {
			return err
		}
		p.runs[k] = fresh[0]
		p.runs = append(p.runs, fresh[1:]...)
	}
	return nil
}

// freshFor gives a run back and returns as many other blocks.
func (p *pool) freshFor(run volume.Run) (fresh []volume.Run, err error) {
	for left := run.Count; left > 0; {
		got, err := p.space.Alloc(left)
		if err != nil {
			return nil, errors.Join(err, p.freeAll(fresh))
		}
		fresh, left = append(fresh, got), left-got.Count
	}
	return fresh, p.space.Free(run)
}

// skip returns a run without its first blocks.
func skip(run volume.Run, blocks uint32) volume.Run {
	return volume.Run{Start: run.Start + volume.Block(blocks), Count: run.Count - blocks}
}

// freeAll gives runs back to the space. Nothing durable refers to them.
func (p *pool) freeAll(runs []volume.Run) error {
	var first error
	for _, run := range runs {
		if err := p.space.Free(run); err != nil && first == nil {
			first = err
		}
	}
	return first
}
