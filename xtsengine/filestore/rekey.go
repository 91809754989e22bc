package filestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// MoveProgress says how far MoveContent is.
type MoveProgress struct {
	// MovedBytes were copied in this call.
	MovedBytes uint64
	// LeftBytes are what is in use of the retired chunks, TotalBytes what is in use at all.
	LeftBytes, TotalBytes uint64
	// BadBlocks can't be read, and keep their place and the old key; BadInode has one of them.
	BadBlocks, BadInode uint64
	// Full says that there was no space for the last copy; it is tried again.
	Full bool
}

// contentMove is one MoveContent: it gets all content out of the retired chunks of the space.
//
// Some chunks are chosen, as many as there is space for; a pass goes through all extents, and has those
// blocks copied that lie there; then the chunks are free, go back to the volume, and others are chosen. So
// the space that it needs is bounded, whatever order the files are in. A copy is what a flush is: fresh
// blocks, durable, then one batch that switches the extents of a window, under inode.flushing. Blocks that
// are shared leave a record of where they went (movedRun), until nobody refers to the old ones.
type contentMove struct {
	s        *Store
	ctx      context.Context
	step     func(MoveProgress) error
	progress MoveProgress
	chosen   volume.Chunks
	idles    int // rounds without progress, one after the other

	// What can't be moved: in this round, and the chunks in which nothing else is.
	bad       error
	badBlocks uint64
	stuck     volume.Chunks
	stuckErr  error
}

// MoveContent copies all content that is in retired chunks of Options.Space to fresh blocks, which are under
// the space's key of now, and ends the use of the retired key (volume.Space.EndRekey). It needs nothing to
// go on where an earlier call, or an earlier start, was: what is left in the retired chunks is what is left
// to do. Everything else goes on meanwhile.
//
// step is called after each piece of at most 4 MiB, and now and then while nothing can be moved; it may
// wait, to be slow or to pause, and an error of its ends the call. Without space for a copy it is tried
// again and again. When all is moved but what can't be read, that is the error. Close ends the call with
// vfs.ErrClosed.
func (s *Store) MoveContent(ctx context.Context, step func(MoveProgress) error) error {
	if err := s.visit(ctx); err != nil {
		return err
	}
	defer s.visits.Done()
	if !s.rekeying.TryLock() {
		return fmt.Errorf("filestore: the content is being moved already: %w", vfs.ErrInvalid)
	}
	defer s.rekeying.Unlock()
	m := &contentMove{s: s, ctx: ctx, step: step}
	for {
		done, err := m.round()
		if done || err != nil {
			return err
		}
	}
}

// round does one pass, and says whether nothing is left.
func (m *contentMove) round() (done bool, err error) {
	s := m.s
	before := m.progress.MovedBytes
	m.bad, m.badBlocks = nil, 0
	full, err := m.prepare()
	if err != nil {
		return false, err
	}
	if s.opts.Space.Stat().Retired > 0 {
		if err := m.pass(); errors.Is(err, vfs.ErrNoSpace) {
			full = true
		} else if err != nil {
			return false, err
		}
	}
	if err := m.clean(); err != nil {
		return false, err
	}
	if s.opts.Space.Stat().Retired == 0 {
		return m.end()
	}
	m.progress.Full = full
	if m.progress.MovedBytes > before {
		m.idles = 0
		return false, m.next()
	}
	if m.idles++; m.bad != nil && !full && (m.badBlocks >= m.chosen.Used || m.idles > rekeyPatience) {
		m.stuck.Join(&m.chosen)
		m.progress.BadBlocks += m.badBlocks
		m.stuckErr, m.idles = m.bad, 0
		return false, m.next()
	}
	if m.stuckErr != nil && m.chosen.Count() == 0 {
		return false, m.stuckErr
	}
	return false, m.idle() // what is left is unstable, or on its way to be freed
}

// next ends a piece.
func (m *contentMove) next() error {
	st := m.s.opts.Space.Stat()
	m.progress.LeftBytes, m.progress.TotalBytes = st.Retired*blockBytes, st.Used*blockBytes
	select {
	case <-m.s.background.stop:
		return vfs.ErrClosed
	default:
	}
	if err := errors.Join(m.ctx.Err(), m.s.failed()); err != nil {
		return err
	}
	return m.step(m.progress)
}

// idle waits a little, and longer if it did before.
func (m *contentMove) idle() error {
	timer := time.NewTimer(rekeyIdleTime << min(m.idles, 5))
	defer timer.Stop()
	select {
	case <-m.s.background.stop:
	case <-m.ctx.Done():
	case <-timer.C:
	}
	return m.next()
}

// working calls do as a round of the background, so that Check sees all of it or nothing.
func (m *contentMove) working(do func() error) error {
	m.s.background.pause.RLock()
	defer m.s.background.pause.RUnlock()
	if err := m.s.failed(); err != nil {
		return err
	}
	return do()
}

// prepare brings what is not in extents yet out of the retired chunks, and chooses some.
func (m *contentMove) prepare() (full bool, err error) {
	s := m.s
	s.reaper.wait()
	err = m.working(func() error {
		if err := s.flushAll(); err != nil && s.failed() != nil {
			return err
		}
		all := s.opts.Space.RetiredChunks(1<<62, nil)
		err := s.pool.exchange(&all)
		if full = errors.Is(err, volume.ErrNoSpace); full {
			return nil
		}
		return err
	})
	st := s.opts.Space.Stat()
	m.chosen = s.opts.Space.RetiredChunks((st.Free+st.VolumeFree)/rekeyShare, &m.stuck)
	return full, err
}

// clean ends records that are not needed, and gives free chunks back.
func (m *contentMove) clean() error {
	return m.working(func() error {
		all := m.s.opts.Space.RetiredChunks(1<<62, nil)
		if err := m.s.dropMoved(func(x *movedRun) bool { return !m.s.inRetired(&all, x.from) }); err != nil {
			return err
		}
		if _, err := m.s.opts.Space.TrimRetired(); err != nil {
			return m.s.spaceErr(err)
		}
		return nil
	})
}

// end ends the use of the retired key, which nothing is under.
func (m *contentMove) end() (bool, error) {
	err := m.working(func() error {
		if err := m.s.dropMoved(func(*movedRun) bool { return true }); err != nil {
			return err
		}
		return m.s.opts.Space.EndRekey()
	})
	if errors.Is(err, volume.ErrMisuse) { // the device is just told to forget some of it
		return false, m.idle()
	}
	return err == nil, err
}

// inRetired says whether any block of a run is in use in retired chunks.
func (s *Store) inRetired(all *volume.Chunks, run volume.Run) bool {
	for run.Count > 0 {
		var first volume.Run
		var in bool
		if first, in, run = all.Cut(run); in && s.opts.Space.InUse(first) {
			return true
		}
	}
	return false
}

// dropMoved ends records, and with them their references to the copies.
func (s *Store) dropMoved(which func(*movedRun) bool) error {
	for from := volume.Block(0); ; {
		var list []movedRun
		err := eachMovedFrom(s.db, from, func(m movedRun) bool {
			if from = runEnd(m.from); which(&m) {
				list = append(list, m)
			}
			return len(list) < rekeyRecords
		})
		if err != nil || len(list) == 0 {
			return err
		}
		b := s.db.NewBatch()
		var drops []volume.Run
		for k := range list {
			del(b, movedKey(list[k].from.Start))
			drops = append(drops, list[k].run())
		}
		free, err := s.applyShared(b, drops, nil)
		if err != nil {
			return err
		}
		if err := s.settle(b); err != nil {
			return err
		}
		s.free(free)
	}
}

// pass goes through all extents and moves what is in the chosen chunks.
func (m *contentMove) pass() error {
	for number, file := uint64(0), uint64(0); ; {
		found, err := m.find(&number, &file)
		if err != nil {
			return err
		}
		if found {
			window := file / windowBlocks
			if err := m.moveOrNote(number, window); err != nil {
				return err
			}
			file = (window + 1) * windowBlocks
		}
		if err := m.next(); err != nil {
			return err
		}
		if number == allFiles {
			return nil
		}
	}
}

// moveOrNote moves a window. What is damaged is left for others to move first.
func (m *contentMove) moveOrNote(number, window uint64) error {
	err := m.working(func() error { return m.moveWindow(number, window) })
	switch {
	case errors.Is(err, vfs.ErrStale) && m.s.failed() == nil:
		return nil
	case errors.Is(err, vfs.ErrCorrupt) && m.s.failed() == nil:
		m.progress.BadInode, m.bad = number, err
		return nil
	}
	return err
}

// allFiles is behind every file.
const allFiles = 1<<64 - 1

// find looks for the first extent, from a block of a file on, that has blocks in the chosen chunks, and goes
// there. It looks at some thousand at a time: then it stands where it goes on, and found is false.
func (m *contentMove) find(number, file *uint64) (found bool, err error) {
	lo, hi := pairKey(tableExtent, *number, *file), []byte{tableExtent + 1}
	seen := 0
	err = scanTable(m.s.db, lo, hi, func(key, value []byte) error {
		var ok bool
		if *number, *file, ok = splitPair(key); !ok {
			return damaged("extent key", 0)
		}
		x, err := decodeExtent(*number, *file, value)
		if err != nil {
			return err
		}
		if found = x.place.hasRun() && m.touches(x.run()); found {
			return errEnough
		}
		if seen++; seen == scrubRecords {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		if !found {
			*file++
		}
		return found, nil
	}
	*number, *file = allFiles, 0
	return false, err
}

// errEnough ends a scan.
var errEnough = errors.New("filestore: enough")

func (m *contentMove) touches(run volume.Run) bool {
	for run.Count > 0 {
		var in bool
		if _, in, run = m.chosen.Cut(run); in {
			return true
		}
	}
	return false
}

// windowMove is what a window of a file gets.
type windowMove struct {
	i      *inode
	over   extents    // in the order of file blocks
	copies []copyPart // what is read
	keeps  uint64     // reserved blocks, of which nothing is read
	again  bool       // there is more that can be planned when this is done

	runs []volume.Run // fresh blocks, for the copies and then for what is reserved
	buf  []byte
	tags []byte

	adds    []volume.Run
	entries []movedRun
}

// copyPart is a piece of an extent that goes elsewhere.
type copyPart struct {
	extent
	shared bool
}

// moveWindow moves what a window has in the chosen chunks.
func (m *contentMove) moveWindow(number, window uint64) error {
	s := m.s
	i := s.pin(number)
	defer s.unpin(i)
	i.flushing.Lock()
	defer i.flushing.Unlock()
	if i.loadErr != nil || i.dead.Load() {
		return i.loadErr
	}
	for {
		was, err := s.window(i, window, false)
		if err != nil {
			return err
		}
		w := &windowMove{i: i}
		if err := m.plan(w, was); err != nil || (len(w.over) == 0 && len(w.copies) == 0) {
			return err
		}
		if err := m.copy(w); err != nil {
			s.free(w.runs)
			return err
		}
		if err := m.switchOver(w); err != nil || !w.again || len(w.over) == 0 {
			return err
		}
	}
}

// switchOver lets the file have the copies, and frees what they replace.
func (m *contentMove) switchOver(w *windowMove) error {
	s := m.s
	if len(w.over) == 0 {
		return nil
	}
	slices.SortFunc(w.over, func(a, b extent) int { return cmp.Compare(a.file, b.file) })
	f := &flush{i: w.i, layer: &layer{}, moving: true, where: onVolume, over: w.over, adds: w.adds, entries: w.entries}
	if err := s.switchOver(f); err != nil {
		s.free(w.runs)
		return err
	}
	if err := s.settle(f.batch); err != nil {
		return err
	}
	s.free(f.gone)
	m.progress.MovedBytes += w.over.blocks() * blockBytes
	return nil
}

// plan says what becomes of each extent: what was moved for another one already goes there, the rest is
// copied.
func (m *contentMove) plan(w *windowMove, was extents) error {
	for k := range was {
		x := &was[k]
		if !x.place.hasRun() {
			continue
		}
		at := x.file
		for rest := x.run(); rest.Count > 0; {
			first, in, after := m.chosen.Cut(rest)
			end := at + uint64(first.Count)
			if in {
				if err := m.planPart(w, x.part(at, end)); err != nil {
					return err
				}
			}
			at, rest = end, after
		}
	}
	return nil
}

// planPart plans for a piece that is in chosen chunks: what has been moved for others goes where they are,
// also the last one, whose blocks are not shared any more.
func (m *contentMove) planPart(w *windowMove, x extent) error {
	if x.place == reserved {
		w.keeps += uint64(x.count)
		w.copies = append(w.copies, copyPart{extent: x})
		return nil
	}
	for x.count > 0 {
		end := x.start + volume.Block(x.count)
		to, found, next, err := m.s.findMoved(x.start, end)
		if err != nil {
			return err
		}
		if found {
			next = min(runEnd(to.from), end)
		}
		n := uint64(next - x.start)
		part := x.part(x.file, x.file+n)
		if !found {
			err = m.planCopy(w, part)
		} else {
			skipped := x.start - to.from.Start
			part.start, part.generation = to.to+skipped, to.generation
			part.tags = to.tags[skipped*tagBytes : (skipped+volume.Block(n))*tagBytes]
			w.over = append(w.over, part)
			w.adds = append(w.adds, part.run())
		}
		if err != nil || n == uint64(x.count) {
			return err
		}
		x = x.part(x.file+n, x.end())
	}
	return nil
}

// planCopy plans to copy a piece, and says which of it others refer to.
func (m *contentMove) planCopy(w *windowMove, x extent) error {
	alone, err := m.s.alone(x.run())
	if err != nil {
		return err
	}
	for at, stop := x.start, x.start+volume.Block(x.count); at < stop; {
		end, shared := stop, true
		switch {
		case len(alone) > 0 && alone[0].Start == at:
			end, shared, alone = runEnd(alone[0]), false, alone[1:]
		case len(alone) > 0:
			end = alone[0].Start
		}
		part := x.part(x.file+uint64(at-x.start), x.file+uint64(end-x.start))
		if shared && w.copiesShared(part.run()) {
			w.again = true
		} else {
			w.copies = append(w.copies, copyPart{part, shared})
		}
		at = end
	}
	return nil
}

// copiesShared says whether a block of a shared run is being copied already, for another extent of the same
// window: that one has to leave its record first.
func (w *windowMove) copiesShared(run volume.Run) bool {
	for k := range w.copies {
		if x := &w.copies[k]; x.shared && x.start < runEnd(run) && run.Start < x.start+volume.Block(x.count) {
			return true
		}
	}
	return false
}

// copy reads what is to be copied and writes it to fresh blocks, durably. After an error w.runs are to be
// freed. What can't be read is left out.
func (m *contentMove) copy(w *windowMove) error {
	s := m.s
	w.buf = blockdev.Alloc(int(max(w.blocks()-w.keeps, 1)) * blockBytes)
	defer func() {
		clear(w.buf) // of plaintext
		blockdev.Free(w.buf)
		w.buf = nil
	}()
	n, err := m.read(w)
	if err != nil || len(w.copies) == 0 {
		return err
	}
	if w.runs, err = s.pool.allocate(nil, n+w.keeps); err != nil {
		w.runs = nil
		return s.spaceErr(err)
	}
	w.tags = make([]byte, n*tagBytes)
	m.lay(w)
	if n == 0 {
		return nil
	}
	var ios []volume.IO
	buf, tags := w.buf[:n*blockBytes], w.tags
	for _, run := range w.runs {
		count := min(len(buf)/blockBytes, int(run.Count))
		if count == 0 {
			break
		}
		ios = append(ios, volume.IO{Block: run.Start, Buf: buf[:count*blockBytes], Tags: tags[:count*tagBytes], Generation: s.tagGeneration})
		buf, tags = buf[count*blockBytes:], tags[count*tagBytes:]
	}
	if err := s.opts.Space.Write(ios); err != nil {
		return s.spaceErr(err)
	}
	if err := s.opts.Space.Sync(); err != nil {
		return s.spaceErr(err)
	}
	m.keepCached(w)
	return nil
}

func (w *windowMove) blocks() (n uint64) {
	for k := range w.copies {
		n += uint64(w.copies[k].count)
	}
	return n
}

// read reads the copies into the buffer, one behind the other, and returns how many blocks that are. Those
// that can't be read are taken out of the plan.
func (m *contentMove) read(w *windowMove) (uint64, error) {
	s, i := m.s, w.i
	i.mu.RLock() // no block that it refers to is freed
	defer i.mu.RUnlock()
	if i.dead.Load() {
		return 0, vfs.ErrStale
	}
	var ios []volume.IO
	n := 0
	for k := range w.copies {
		x := &w.copies[k]
		if x.place == reserved {
			continue
		}
		io := x.io(0, int(x.count))
		io.Buf = w.buf[n*blockBytes : (n+int(x.count))*blockBytes]
		ios, n = append(ios, io), n+int(x.count)
	}
	if len(ios) == 0 || s.opts.Space.Read(ios) == nil {
		return uint64(n), nil
	}
	return m.readEach(w)
}

// readEach reads extent by extent.
func (m *contentMove) readEach(w *windowMove) (uint64, error) {
	n := 0
	kept := w.copies[:0]
	for _, x := range w.copies {
		if x.place != reserved {
			io := x.io(0, int(x.count))
			io.Buf = w.buf[n*blockBytes : (n+int(x.count))*blockBytes]
			if err := m.s.opts.Space.Read([]volume.IO{io}); err != nil {
				err = m.s.readErr(w.i, err)
				if m.s.failed() != nil {
					return 0, err
				}
				m.badBlocks += uint64(x.count)
				m.progress.BadInode, m.bad = w.i.number, err
				continue
			}
			n += int(x.count)
		}
		kept = append(kept, x)
	}
	w.copies = kept
	return uint64(n), nil
}

// lay says which fresh blocks each copy gets, and what is recorded of shared ones.
func (m *contentMove) lay(w *windowMove) {
	runs := append([]volume.Run(nil), w.runs...)
	tags := w.tags
	place := func(x copyPart) {
		for x.count > 0 {
			n := min(x.count, runs[0].Count)
			to := x.part(x.file, x.file+uint64(n))
			from := to.run()
			to.start = runs[0].Start
			if x.place == onVolume {
				to.generation, to.tags = m.s.tagGeneration, tags[:n*tagBytes:n*tagBytes]
				tags = tags[n*tagBytes:]
			}
			if x.shared {
				w.entries = append(w.entries, movedRun{from, to.start, to.generation, to.tags})
				w.adds = append(w.adds, to.run())
			}
			w.over = append(w.over, to)
			if runs[0] = skip(runs[0], n); runs[0].Count == 0 {
				runs = runs[1:]
			}
			if n == x.count {
				return
			}
			x.extent = x.part(x.file+uint64(n), x.end())
		}
	}
	for _, x := range w.copies {
		if x.place == onVolume {
			place(x)
		}
	}
	for _, x := range w.copies {
		if x.place == reserved {
			place(x)
		}
	}
}

// keepCached keeps those copies in the cache whose blocks are there, before anybody knows where they are.
func (m *contentMove) keepCached(w *windowMove) {
	runs, buf := w.runs, w.buf
	done := uint32(0) // of the first of runs
	for k := range w.copies {
		x := &w.copies[k]
		if x.place == reserved {
			continue
		}
		for n := range x.count {
			if m.s.cache.has(x.start + volume.Block(n)) {
				m.s.cache.put(runs[0].Start+volume.Block(done), buf[:blockBytes])
			}
			buf = buf[blockBytes:]
			if done++; done == runs[0].Count {
				runs, done = runs[1:], 0
			}
		}
	}
}
