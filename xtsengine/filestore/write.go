package filestore

import (
	"context"
	"errors"
	"sync"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// writePlan is the scratch memory of one Write.
type writePlan struct {
	i      *inode
	offset uint64
	p      []byte

	first, end             uint64 // file blocks that are touched
	directFirst, directEnd uint64 // those among them that go to the volume at once
	promised               uint64 // promises of the pool that are not used yet
	// thrifty: what is not needed is not promised. homed are the blocks that have a home then.
	thrifty bool
	homed   []uint64
	// borrowing: what is set aside may be used, for Store.scarce is held.
	borrowing bool

	runs  []volume.Run // of the direct blocks
	tags  []byte       // of the blocks in runs; the file's extents keep it
	ios   []volume.IO
	freed []volume.Run
	bases [2]*block // what the first and the last block are built on, where they need it

	stable bool   // the write must be durable
	logged uint64 // its record in the intent log, or 0
}

var writePlans = sync.Pool{New: func() any { return new(writePlan) }}

// release gives the memory back.
func (w *writePlan) release() {
	clear(w.ios)
	*w = writePlan{runs: w.runs[:0], ios: w.ios[:0], freed: w.freed[:0]}
	writePlans.Put(w)
}

// Write implements vfs.FileSystem.
//
// Whole blocks of a large write go to fresh blocks of the volume at once, before any lock of the file
// is taken; the rest is kept in memory. Both are unstable until a flush.
func (s *Store) Write(ctx context.Context, writer *vfs.Cred, check bool, id vfs.FileID, offset uint64, p []byte,
	want vfs.Stability) (vfs.Stability, error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.life.RUnlock()
	if err := s.waitForRoom(); err != nil {
		return 0, err
	}
	s.stats.writes.Add(1)
	i := s.pin(id.Inode)
	defer s.unpin(i)
	asked := writer
	if !check {
		asked = nil
	}
	if err := s.checkWrite(i, id, asked, offset, uint64(len(p))); err != nil || len(p) == 0 {
		return want, err
	}
	number, record, err := s.write(i, id, asked, writer, offset, p, want, false)
	if errors.Is(err, vfs.ErrQuota) {
		if err := s.settleAll(); err != nil {
			return 0, err
		}
		number, record, err = s.write(i, id, asked, writer, offset, p, want, true)
	}
	if err != nil {
		return 0, err
	}
	s.stats.bytesWritten.Add(uint64(len(p)))
	if want == vfs.Unstable {
		return vfs.Unstable, nil
	}
	if s.awaitLogged(record) {
		return vfs.FileSync, nil
	}
	return vfs.FileSync, s.commit(i, number)
}

// checkWrite says early what write would say under its lock, before anything is done for it.
func (s *Store) checkWrite(i *inode, id vfs.FileID, asked *vfs.Cred, offset, length uint64) error {
	i.mu.RLock()
	err := i.checkFile(id, asked, vfs.MayWrite)
	i.mu.RUnlock()
	switch {
	case err != nil:
		return err
	case offset > vfs.MaxFileBytes || length > vfs.MaxFileBytes-offset:
		return vfs.ErrFileTooBig
	case length > 0 && s.metaFull.Load():
		return vfs.ErrNoSpace
	}
	return nil
}

// write stores p, which is not empty, as unstable data and returns the number of the write, and of its record in the
// intent log if it is wanted stable and could be logged. The quota is asked for all blocks that it touches or, if exact is
// set, for those that the file lacks.
func (s *Store) write(i *inode, id vfs.FileID, asked, writer *vfs.Cred, offset uint64, p []byte,
	want vfs.Stability, exact bool) (number, record uint64, err error) {
	w := writePlans.Get().(*writePlan)
	defer w.release()
	w.i, w.offset, w.p, w.stable = i, offset, p, want != vfs.Unstable
	w.split()

	i.gate.RLock()
	defer i.gate.RUnlock()
	admitted, err := s.admitWrite(w, exact)
	if err != nil {
		return 0, 0, err
	}
	defer s.dismiss(&admitted)
	number, err = s.provideAndPlace(w, id, asked, writer)
	if errors.Is(err, vfs.ErrNoSpace) {
		number, err = s.writeScarce(w, id, asked, writer)
	}
	s.free(w.freed)
	return number, w.logged, err
}

// writeScarce writes on a full volume: with the blocks that are set aside for overwrites, and if those are
// all in use, after what can be freed was. One at a time, so that none takes what another's flush has
// brought back.
func (s *Store) writeScarce(w *writePlan, id vfs.FileID, asked, writer *vfs.Cred) (uint64, error) {
	s.scarce.Lock()
	defer s.scarce.Unlock()
	w.borrowing = true
	w.split()
	number, err := s.provideAndPlace(w, id, asked, writer)
	if errors.Is(err, vfs.ErrNoSpace) {
		s.relieve()
		w.split()
		number, err = s.provideAndPlace(w, id, asked, writer)
	}
	return number, err
}

// provideAndPlace gets what the write needs and makes it visible. Without space for all of it, what is in
// memory or reserved already does. After an error nothing has changed.
func (s *Store) provideAndPlace(w *writePlan, id vfs.FileID, asked, writer *vfs.Cred) (uint64, error) {
	if err := s.gatherReserved(w); err != nil {
		return 0, err
	}
	err := s.provide(w)
	if w.thrifty = errors.Is(err, vfs.ErrNoSpace); w.thrifty {
		w.directFirst, w.directEnd = w.first, w.first
	} else if err != nil {
		return 0, err
	}
	number, err := s.place(w, id, asked, writer)
	if err != nil {
		s.free(w.runs)
		w.runs = w.runs[:0]
	}
	s.unpromise(w.promised)
	w.promised, w.homed = 0, nil
	return number, err
}

// admitWrite sees to the quota. What it admits counts as unstable once it is placed.
func (s *Store) admitWrite(w *writePlan, exact bool) (admission, error) {
	if s.quota.limit.Load() == 0 {
		return 0, nil
	}
	blocks := w.end - w.first
	if exact {
		var err error
		if blocks, err = s.lacks(w.i, w.first, w.end); err != nil {
			return 0, err
		}
	}
	return s.admit(blocks * blockBytes)
}

// lacks counts the blocks from first up to end that a file does not have.
func (s *Store) lacks(i *inode, first, end uint64) (n uint64, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for file := first; file < end; {
		if _, err := s.window(i, file/windowBlocks, true); err != nil {
			return 0, err
		}
		src := i.locate(file, end-file)
		if src.hole {
			n += src.count
		}
		file += src.count
	}
	return n, nil
}

// split says which blocks go where.
func (w *writePlan) split() {
	end := w.offset + uint64(len(w.p))
	w.first, w.end = w.offset/blockBytes, (end+blockBytes-1)/blockBytes
	w.directFirst, w.directEnd = w.first, w.first
	wholeFirst, wholeEnd := (w.offset+blockBytes-1)/blockBytes, end/blockBytes
	from := uint64(directUnstableBlocks)
	switch {
	case w.stable:
		from = directBlocks
	case w.i.streamed.Load():
		from = directStreamBlocks
	}
	if wholeEnd >= wholeFirst+from {
		w.directFirst, w.directEnd = wholeFirst, wholeEnd
	}
}

// provide gets the blocks that the write needs and writes the direct ones; after an error it has none.
func (s *Store) provide(w *writePlan) error {
	direct := w.directEnd - w.directFirst
	w.promised = w.end - w.first - direct
	if err := s.pool.reserve(w.promised); err != nil {
		w.promised = 0
		return s.spaceErr(err)
	}
	err := s.writeDirect(w, direct)
	if err != nil {
		s.free(w.runs)
		s.unpromise(w.promised)
		w.runs, w.promised = w.runs[:0], 0
	}
	return err
}

// writeDirect allocates and writes the whole blocks of a large write: an unstable one returns before the disk has them.
func (s *Store) writeDirect(w *writePlan, blocks uint64) (err error) {
	if blocks == 0 {
		return nil
	}
	if w.runs, err = s.pool.allocate(w.runs, blocks); err != nil {
		return s.spaceErr(err)
	}
	w.tags = make([]byte, blocks*tagBytes)
	buf, tags := w.p[w.directFirst*blockBytes-w.offset:], w.tags
	for _, run := range w.runs {
		n, m := int(run.Count)*blockBytes, int(run.Count)*tagBytes
		w.ios = append(w.ios, volume.IO{Block: run.Start, Buf: buf[:n], Tags: tags[:m], Generation: s.tagGeneration})
		buf, tags = buf[n:], tags[m:]
	}
	taken := false
	if !w.stable {
		taken, err = s.storeLater(w.ios, w.runs)
	}
	if !taken {
		err = s.opts.Space.Write(w.ios)
	}
	if err != nil {
		return s.spaceErr(err)
	}
	return nil
}

// place makes the write visible. After an error nothing has changed.
func (s *Store) place(w *writePlan, id vfs.FileID, asked, writer *vfs.Cred) (uint64, error) {
	i := w.i
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.checkFile(id, asked, vfs.MayWrite); err != nil {
		return 0, err
	}
	change, err := s.changes.take(s)
	if err != nil {
		return 0, err
	}
	if w.thrifty {
		if err := s.claim(w); err != nil {
			return 0, err
		}
	}
	if err := s.readBases(w); err != nil {
		return 0, err
	}
	logged := s.loggable(w)
	if i.active.empty() {
		s.dirty.add(i, s.opts.Clock())
	}
	s.placeDirect(w)
	s.placeDirty(w, logged)
	if i.active.blocks() >= directUnstableBlocks && !i.streamed.Load() {
		i.streamed.Store(true)
	}
	a := &i.rec.attr
	a.Size = max(a.Size, w.offset+uint64(len(w.p)))
	a.Written(writer, s.now())
	a.Change = change
	i.writes++
	if logged {
		s.logWrite(w)
	}
	return i.writes, nil
}

// readBases reads what the first and the last block hold already, where the write covers them in part
// and they are not in memory.
func (s *Store) readBases(w *writePlan) error {
	for k, file := range [...]uint64{w.first, w.end - 1} {
		if w.covers(file) || w.i.active.dirty[file] != nil || (k == 1 && file == w.first) {
			continue
		}
		b := newBlock()
		if err := s.readBlock(w.i, file, b); err != nil {
			freeBlock(b)
			if w.bases[0] != nil {
				freeBlock(w.bases[0])
				w.bases[0] = nil
			}
			return err
		}
		w.bases[k] = b
	}
	return nil
}

// covers says whether the write replaces all of a block.
func (w *writePlan) covers(file uint64) bool {
	return file*blockBytes >= w.offset && (file+1)*blockBytes <= w.offset+uint64(len(w.p))
}

// placeDirect lays the blocks that are on the volume into the active layer.
func (s *Store) placeDirect(w *writePlan) {
	file, tags := w.directFirst, w.tags
	before := len(w.freed)
	for _, run := range w.runs {
		n := int(run.Count) * tagBytes
		x := extent{file: file, start: run.Start, count: run.Count, tags: tags[:n], generation: s.tagGeneration}
		tags = tags[n:]
		dropped, promises := w.i.active.putPlaced(x, &w.freed)
		w.promised += promises
		s.dirtyMem.add(-int64(dropped) * blockBytes)
		file = x.end()
	}
	s.unstable.add((int64(file-w.directFirst) - blocksOf(w.freed[before:])) * blockBytes)
}

// blocksOf counts the blocks of runs.
func blocksOf(runs []volume.Run) int64 {
	n := int64(0)
	for _, run := range runs {
		n += int64(run.Count)
	}
	return n
}

// placeDirty copies the rest into blocks in memory; logged says that all of it is loggable.
func (s *Store) placeDirty(w *writePlan, logged bool) {
	l := &w.i.active
	for file := w.first; file < w.end; file++ {
		if file >= w.directFirst && file < w.directEnd {
			file = w.directEnd - 1
			continue
		}
		b := l.dirty[file]
		if b == nil {
			b = w.base(file)
			before := len(w.freed)
			l.putDirty(file, b, &w.freed)
			s.unstable.add(-blocksOf(w.freed[before:]) * blockBytes)
			s.dirtyMem.add(blockBytes)
			w.keep(file)
			if logged && !s.grows(w.i, file) {
				l.setOver(file)
			}
		}
		w.copyTo(file, b)
	}
}

// keep uses a promise for a block in memory, or its home.
func (w *writePlan) keep(file uint64) {
	if len(w.homed) == 0 || w.homed[0] != file {
		w.promised--
		return
	}
	w.homed = w.homed[1:]
	w.i.active.setHomed(file)
}

// base returns a block to build the content of a file block on.
func (w *writePlan) base(file uint64) *block {
	switch {
	case file == w.first && w.bases[0] != nil:
		return w.bases[0]
	case file == w.end-1 && w.bases[1] != nil:
		return w.bases[1]
	}
	return newBlock()
}

// copyTo copies into b what the write has for a file block.
func (w *writePlan) copyTo(file uint64, b *block) {
	at := file * blockBytes
	if at < w.offset {
		copy(b[w.offset-at:], w.p)
		return
	}
	copy(b[:], w.p[at-w.offset:])
}

// unpromise gives promises of the pool back.
func (s *Store) unpromise(n uint64) {
	if n == 0 {
		return
	}
	if err := s.pool.release(n); err != nil {
		s.opts.Events.backgroundError(s.spaceErr(err))
	}
}

// free gives blocks of the volume back that nothing refers to any more; those that are yet to be stored, when they are. Of a
// store that has stopped nobody knows that: it keeps them, and the next start finds what is free.
func (s *Store) free(runs []volume.Run) {
	if len(runs) == 0 || s.failed() != nil {
		return
	}
	if runs = s.holdBehind(runs); len(runs) == 0 {
		return
	}
	s.stats.freedBlocks.Add(uint64(blocksOf(runs)))
	s.cache.drop(runs)
	runs, moved := s.splitMoved(runs)
	if err := s.pool.freeAll(append(s.pool.refill(runs), moved...)); err != nil {
		s.opts.Events.backgroundError(s.spaceErr(err))
	}
}

// relieve frees what can be freed when the volume is full: what is being freed in the background,
// what unstable data will replace, and what the pool keeps.
func (s *Store) relieve() {
	s.reaper.wait()
	if err := s.flushAll(); err != nil {
		s.opts.Events.backgroundError(err)
	}
	s.behind.settle()
	if err := s.pool.shrink(); err != nil {
		s.opts.Events.backgroundError(s.spaceErr(err))
	}
}

// throttle lets writers wait for memory.
type throttle struct {
	mu    sync.Mutex
	freed sync.Cond
	err   error // of the flusher's last round
}

func (t *throttle) init() { t.freed.L = &t.mu }

func (t *throttle) broadcast() {
	t.mu.Lock()
	t.freed.Broadcast()
	t.mu.Unlock()
}

// report records how the flusher's round ended.
func (t *throttle) report(err error) {
	t.mu.Lock()
	t.err = err
	t.freed.Broadcast()
	t.mu.Unlock()
}

// tooDirty says whether there is so much unstable data in memory that writers wait.
func (s *Store) tooDirty() bool { return s.dirtyMem.load() > s.opts.DirtyBytes || s.dirtyMem.over() }

// wakeWriters lets those look again who wait for memory.
func (s *Store) wakeWriters() {
	s.throttle.broadcast()
	if c := s.opts.Caches; c != nil {
		c.wakeWriters()
	}
}

// waitForRoom returns when unstable data in memory is within its bounds, or with the error that keeps
// it there. What others have does not keep a store waiting that has no more than its share.
func (s *Store) waitForRoom() error {
	if !s.tooDirty() {
		return nil
	}
	s.stats.throttled.Add(1)
	s.background.wakeFlusher()
	if c := s.opts.Caches; c != nil {
		c.waiting.Add(1)
		defer c.waiting.Add(-1)
		c.wakeFlushers()
	}
	t := &s.throttle
	t.mu.Lock()
	defer t.mu.Unlock()
	for s.tooDirty() {
		if err := s.failed(); err != nil {
			return err
		}
		if t.err != nil {
			return t.err
		}
		t.freed.Wait()
	}
	return nil
}
