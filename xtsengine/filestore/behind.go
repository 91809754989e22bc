package filestore

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/nfseal/nfseal/xtsengine/volume"
)

// writeBehind is what large unstable writes leave to be stored when they return: their blocks are encrypted, in memory, and have
// their places on the volume. Who reads such a block, or makes it stable, waits until it is stored. Who gives one back has it
// freed when it is stored: its next owner must not write it before.
//
// What fails stays in memory, and is tried again for those who wait for it (docs/adr/0042), until nothing refers to any of
// its blocks.
type writeBehind struct {
	count   atomic.Int64 // writes that are not stored
	running sync.WaitGroup

	mu      sync.Mutex
	ended   sync.Cond      // on mu: a write was stored or has failed
	places  []placeBehind  // where the writes go, in the order of blocks
	queue   []*behindWrite // what no goroutine has taken
	turn    uint64         // how often one was put into the queue
	turns   []uint64       // of those in the queue, and of those that have left it and not ended
	workers int
}

// behindWrite is a write that is not stored.
type behindWrite struct {
	sealed *volume.Sealed
	runs   []volume.Run
	freed  []volume.Run // parts of runs that nothing refers to any more
	err    error        // it has failed, and is not in the queue
	last   error        // why it has failed the last time
	tries  int          // how often it has
	turn   uint64       // which one it had in the queue
}

// unwanted says that nothing refers to any of it any more.
func (w *behindWrite) unwanted() bool { return blocksOf(w.freed) == blocksOf(w.runs) }

// placeBehind is a run of blocks that a write goes to.
type placeBehind struct {
	run   volume.Run
	write *behindWrite
}

var behindWrites = sync.Pool{New: func() any { return new(behindWrite) }}

func (b *writeBehind) init() { b.ended.L = &b.mu }

// storeLater takes a write of fresh blocks over and returns when they are encrypted. If too much is in memory already it is not taken,
// and nothing done.
func (s *Store) storeLater(ios []volume.IO, runs []volume.Run) (taken bool, err error) {
	bytes := blocksOf(runs) * blockBytes
	if !s.behindMem.take(bytes, behindBytes) {
		return false, nil
	}
	sealed, err := s.opts.Space.Seal(ios)
	if err != nil {
		s.behindMem.add(-bytes)
		return true, err
	}
	w := behindWrites.Get().(*behindWrite)
	w.sealed, w.runs = sealed, append(w.runs, runs...)
	b := &s.behind
	b.count.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, run := range runs {
		b.places = slices.Insert(b.places, b.find(run.Start), placeBehind{run, w})
	}
	s.queueBehind(w)
	return true, nil
}

// queueBehind leaves a write to the goroutines that store; b.mu is held.
func (s *Store) queueBehind(w *behindWrite) {
	b := &s.behind
	b.turn++
	w.turn = b.turn
	b.queue, b.turns = append(b.queue, w), append(b.turns, w.turn)
	if b.workers < behindWorkers {
		b.workers++
		b.running.Go(s.storeBehind)
	}
}

// find returns the first place that does not end before a block; b.mu is held.
func (b *writeBehind) find(block volume.Block) int {
	k, _ := slices.BinarySearchFunc(b.places, block, func(p placeBehind, block volume.Block) int {
		if runEnd(p.run) <= block {
			return -1
		}
		return 1
	})
	return k
}

// in returns the first place that a run has a part of; b.mu is held.
func (b *writeBehind) in(run volume.Run) (p placeBehind, ok bool) {
	k := b.find(run.Start)
	if k == len(b.places) || b.places[k].run.Start >= runEnd(run) {
		return placeBehind{}, false
	}
	return b.places[k], true
}

// storeBehind stores what is in the queue until there is nothing: what has gathered goes together.
func (s *Store) storeBehind() {
	var list []*behindWrite
	var sealed []*volume.Sealed
	for {
		list, sealed = s.behind.take(list[:0], sealed[:0])
		if len(list) == 0 {
			return
		}
		err := s.opts.Space.StoreSealed(sealed)
		for k, w := range list {
			if err != nil && len(list) > 1 { // whose fault it was
				s.endBehind(w, s.opts.Space.StoreSealed(sealed[k:k+1]))
				continue
			}
			s.endBehind(w, err)
		}
	}
}

// take takes writes out of the queue, up to behindTransfer bytes of them but one at least. If there are none, the goroutine counts as ended.
func (b *writeBehind) take(list []*behindWrite, sealed []*volume.Sealed) ([]*behindWrite, []*volume.Sealed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	bytes := 0
	for _, w := range b.queue {
		if bytes += w.sealed.Bytes(); bytes > behindTransfer && len(list) > 0 {
			break
		}
		list, sealed = append(list, w), append(sealed, w.sealed)
	}
	b.queue = slices.Delete(b.queue, 0, len(list))
	if len(list) == 0 {
		b.workers--
		b.ended.Broadcast()
	}
	return list, sealed
}

// endBehind notes that a write is stored, and frees what was given back of it, or that it has failed.
func (s *Store) endBehind(w *behindWrite, err error) {
	b := &s.behind
	b.mu.Lock()
	turn, over := w.turn, err == nil || w.unwanted()
	if over {
		b.leave(w)
	} else {
		w.err, w.last = err, err
		w.tries++
	}
	b.ended.Broadcast()
	b.mu.Unlock()
	if err != nil {
		s.opts.Events.backgroundError(s.spaceErr(err))
	}
	if over {
		s.free(w.freed)
		s.releaseBehind(w)
	}
	b.endTurn(turn)
}

// leave takes a write out of the table; b.mu is held.
func (b *writeBehind) leave(w *behindWrite) {
	for _, run := range w.runs {
		k := b.find(run.Start)
		b.places = slices.Delete(b.places, k, k+1)
	}
}

// endTurn notes that nothing is left to do for one who was in the queue.
func (b *writeBehind) endTurn(turn uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := slices.Index(b.turns, turn)
	b.turns = slices.Delete(b.turns, k, k+1)
	b.ended.Broadcast()
}

// releaseBehind gives the memory of a write back.
func (s *Store) releaseBehind(w *behindWrite) {
	s.behind.count.Add(-1)
	s.behindMem.add(-int64(w.sealed.Bytes()))
	w.sealed.Release()
	*w = behindWrite{runs: w.runs[:0], freed: w.freed[:0]}
	behindWrites.Put(w)
}

// awaitStored returns when all of a run is stored. What has failed is tried once more, for all who wait by then, and its error
// returned if that fails too: however many they are, none waits for more than that, and for what was under way when it came.
func (s *Store) awaitStored(run volume.Run) error {
	b := &s.behind
	if b.count.Load() == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var awaited *behindWrite
	enough := 0 // failures of it
	for {
		p, ok := b.in(run)
		w := p.write
		if !ok {
			return nil
		}
		if w != awaited {
			awaited, enough = w, w.tries+1
			if w.err == nil {
				enough++ // what is under way may be older than what the caller relies on
			}
		}
		switch {
		case w.tries >= enough:
			return w.last
		case w.err == nil:
			b.ended.Wait()
		default:
			w.err = nil
			s.queueBehind(w)
		}
	}
}

// settle returns when everything that is there now has been stored, and what was given back of it is free, or has failed.
func (b *writeBehind) settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for last := b.turn; len(b.turns) > 0 && b.turns[0] <= last; {
		b.ended.Wait()
	}
}

// holdBehind keeps those parts of runs that are not stored, to be freed when they are, and returns those that can be freed
// now: the others, and what has failed and nobody will try again.
func (s *Store) holdBehind(runs []volume.Run) []volume.Run {
	if s.behind.count.Load() == 0 {
		return runs
	}
	runs, over := s.behind.hold(runs)
	for _, w := range over {
		runs = append(runs, w.freed...)
		s.releaseBehind(w)
	}
	return runs
}

// hold keeps parts of runs with the writes that they belong to, and returns the rest, and writes that have failed and of
// which nothing is needed any more: they are the caller's.
func (b *writeBehind) hold(runs []volume.Run) (rest []volume.Run, over []*behindWrite) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rest = make([]volume.Run, 0, len(runs))
	for _, run := range runs {
		for run.Count > 0 {
			p, ok := b.in(run)
			if !ok {
				rest = append(rest, run)
				break
			}
			before := uint32(max(p.run.Start, run.Start) - run.Start)
			if before > 0 {
				rest = append(rest, volume.Run{Start: run.Start, Count: before})
				run = skip(run, before)
			}
			n := min(run.Count, uint32(runEnd(p.run)-run.Start))
			w := p.write
			if w.freed = append(w.freed, volume.Run{Start: run.Start, Count: n}); w.err != nil && w.unwanted() {
				b.leave(w)
				over = append(over, w)
			}
			run = skip(run, n)
		}
	}
	return rest, over
}

// heldBlocks is how many blocks wait to be freed.
func (b *writeBehind) heldBlocks() (n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.writes() {
		n += uint64(blocksOf(w.freed))
	}
	return n
}

// writes returns each write that is not stored once; b.mu is held.
func (b *writeBehind) writes() (all []*behindWrite) {
	for _, p := range b.places {
		if p.run.Start == p.write.runs[0].Start {
			all = append(all, p.write)
		}
	}
	return all
}

// closeBehind waits for the goroutines and drops what could not be stored; nobody writes any more.
func (s *Store) closeBehind() {
	b := &s.behind
	b.running.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.writes() {
		s.releaseBehind(w)
	}
	b.places = nil
}

// readVolume is Space.Read of blocks of which some may not be stored yet.
func (s *Store) readVolume(ios []volume.IO) error {
	for k := range ios {
		if err := s.awaitStored(volume.Run{Start: ios[k].Block, Count: uint32(len(ios[k].Buf) / blockBytes)}); err != nil {
			return err
		}
	}
	return s.opts.Space.Read(ios)
}
