package filestore

import (
	"cmp"
	"errors"
	"runtime"
	"slices"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// moveRound moves blocks from the journal to the volume: those of old files, and the oldest while
// there are too many.
func (s *Store) moveRound() {
	for s.failed() == nil {
		list := s.journal.oldest(migrateInodes, s.opts.Clock().Add(-s.opts.JournalAge))
		if len(list) == 0 && s.muchJournaled() {
			list = s.journal.oldest(migrateInodes, farFuture)
		}
		if len(list) == 0 {
			return
		}
		moved, err := s.move(list)
		if err != nil && !errors.Is(err, vfs.ErrNoSpace) { // without space, the journal is the place
			s.opts.Events.backgroundError(err)
		}
		if err != nil || moved == 0 {
			return
		}
	}
}

// muchJournaled says whether blocks have to leave the journal before they are old: so early that most are gone
// before Pebble writes out the memtable that they are in, and so never get into a table of its.
func (s *Store) muchJournaled() bool {
	bound := min(s.opts.JournalBytes/8, max(s.opts.MemTableBytes/4, minMoveBytes))
	return s.journaled.Load()*blockBytes > bound
}

// journaled is a block in the journal, as it was put there for the put-th time.
type journaled struct{ file, put uint64 }

// noteJournaled records that a block was put into the journal; flushing is held.
func (s *Store) noteJournaled(i *inode, file uint64) {
	if i.journal == nil {
		i.journal = map[uint64]uint64{}
	}
	i.puts++
	i.journal[file] = i.puts
	s.journal.add(i, s.opts.Clock())
}

// move moves the journalled blocks of pinned files to the volume, unpins them and returns how many pieces it
// did. Writes go on meanwhile: the blocks are copied with no lock held, and those that were put into the
// journal again, or left it, before the metadata are switched to the copies stay as they are. The switch is made piece
// by piece, so that who commits a file waits for the one piece that is being switched.
func (s *Store) move(list []*inode) (moved int, err error) {
	defer s.unpinAll(list)
	flushes, err := s.readMoves(list)
	if err == nil {
		err = s.writeTogether(flushes) // the mover holds no lock here
	}
	durable := err == nil
	for _, f := range flushes { // apply all before waiting: they share a flush of the log
		f.i.flushing.Lock()
		if e := s.switchMove(f, durable); e != nil && err == nil {
			err = e
		}
		f.i.flushing.Unlock()
		runtime.Gosched() // whoever waited has the lock next
	}
	for _, f := range flushes {
		done, e := s.finishMove(f)
		if done {
			moved++
		}
		if e != nil && err == nil {
			err = e
		}
	}
	return moved, err
}

func (s *Store) unpinAll(list []*inode) {
	for _, i := range list {
		s.unpin(i)
	}
}

// readMoves reads what is in the journal of files, up to a bound, in pieces.
func (s *Store) readMoves(list []*inode) (flushes []*flush, err error) {
	budget := migrateBlocks
	for _, i := range list {
		picks := s.pickJournaled(i, budget)
		budget -= len(picks)
		for piece := range slices.Chunk(picks, switchBlocks) {
			f, err := s.readJournaled(i, piece)
			if err != nil {
				return flushes, err
			}
			flushes = append(flushes, f)
		}
		if budget == 0 {
			break
		}
	}
	return flushes, nil
}

// pickJournaled gives up to most blocks that are in a file's journal, in order.
func (s *Store) pickJournaled(i *inode, most int) []journaled {
	i.flushing.Lock()
	defer i.flushing.Unlock()
	return i.someJournaled(most)
}

// someJournaled does it; flushing is held.
func (i *inode) someJournaled(most int) []journaled {
	picks := make([]journaled, 0, min(most, len(i.journal)))
	for file, put := range i.journal {
		if len(picks) == most {
			break
		}
		picks = append(picks, journaled{file, put})
	}
	slices.SortFunc(picks, func(a, b journaled) int { return cmp.Compare(a.file, b.file) })
	return picks
}

// readJournaled reads what the picked blocks hold, and takes blocks of the volume for it; nil if there is nothing.
// What can't be read is left out: it has left the journal meanwhile, or keepUnchanged finds that it should be
// there.
func (s *Store) readJournaled(i *inode, picks []journaled) (*flush, error) {
	if len(picks) == 0 {
		return nil, nil
	}
	f := &flush{i: i, layer: &layer{dirty: map[uint64]*block{}}, moving: true, picks: picks}
	for _, p := range picks {
		b := newBlock()
		if err := s.readStored(i.number, p.file, inJournal, b); err != nil {
			freeBlock(b)
			f.unread = errors.Join(f.unread, err)
			continue
		}
		f.layer.dirty[p.file] = b
		f.files = append(f.files, p.file)
	}
	if err := s.pool.reserve(uint64(len(f.files))); err != nil {
		s.dropLayer(f)
		return nil, s.spaceErr(err)
	}
	s.assign(f)
	return f, nil
}

// keepUnchanged leaves out of a move what the journal has not any more, or has anew. flushing is held. After an
// error the move is as it was.
func (s *Store) keepUnchanged(f *flush) error {
	same, err := s.unchanged(f)
	if err != nil {
		return err
	}
	var dropped, kept []volume.Run
	files, at, tags := f.files[:0], f.at[:0], f.tags[:0]
	for k, file := range f.files {
		run := volume.Run{Start: f.at[k], Count: 1}
		if !same[k] {
			freeBlock(f.layer.dirty[file])
			delete(f.layer.dirty, file)
			dropped = append(dropped, run)
			continue
		}
		files, at, tags = append(files, file), append(at, run.Start), append(tags, f.tagsOf(k)...)
		kept = append(kept, run)
	}
	f.files, f.at, f.tags, f.runs = files, at, tags, kept
	s.free(dropped)
	return nil
}

// unchanged says of each block of a move whether it is in the journal as it was picked. One that is so and could
// not be read is the error.
func (s *Store) unchanged(f *flush) (same []bool, err error) {
	for _, p := range f.picks {
		still, err := s.stillJournaled(f.i, p)
		if err != nil {
			return nil, err
		}
		switch {
		case f.layer.dirty[p.file] != nil:
			same = append(same, still)
		case still:
			return nil, f.unread
		}
	}
	return same, nil
}

// stillJournaled says whether a block is in the journal as it was picked; flushing is held. One that is
// noted there and is not is forgotten.
func (s *Store) stillJournaled(i *inode, p journaled) (bool, error) {
	if i.journal[p.file] != p.put {
		return false, nil
	}
	if !i.dead.Load() {
		e, err := s.window(i, p.file/windowBlocks, false)
		if err != nil {
			return false, err
		}
		if src, ok := e.source(p.file, 1); ok && src.ext.place == inJournal {
			return true, nil
		}
	}
	delete(i.journal, p.file)
	return false, nil
}

// switchMove lets the metadata refer to the copies if those are durable. f.batch is nil afterwards if it did
// not. flushing is held.
func (s *Store) switchMove(f *flush, durable bool) error {
	err := s.failed()
	if durable && err == nil {
		err = s.keepUnchanged(f)
	}
	if !durable || err != nil || len(f.files) == 0 {
		s.unseal(f)
		s.leaveJournal(f.i)
		return err
	}
	f.over = f.dirtyExtents()
	if err = s.switchOver(f); err == nil {
		for _, file := range f.files {
			delete(f.i.journal, file)
		}
		s.leaveJournal(f.i)
		return nil
	}
	f.batch = nil
	s.unseal(f)
	if f.i.dead.Load() {
		s.journal.remove(f.i)
		return nil
	}
	return err
}

// leaveJournal takes a file without blocks in the journal out of the list; flushing is held.
func (s *Store) leaveJournal(i *inode) {
	if len(i.journal) == 0 {
		s.journal.remove(i)
	}
}

// finishMove waits until what switchMove did is durable; done says that it did something.
func (s *Store) finishMove(f *flush) (done bool, err error) {
	if f.batch == nil {
		return false, nil
	}
	if err := s.settle(f.batch); err != nil {
		return false, err
	}
	s.stats.migratedBlocks.Add(uint64(len(f.files)))
	s.dropLayer(f)
	return true, nil
}

// loadJournal finds the blocks that an earlier start left in the journal.
func (s *Store) loadJournal() error {
	return s.scan([]byte{tableJournal}, []byte{tableJournal + 1}, func(key, _ []byte) error {
		number, file, ok := splitPair(key)
		if !ok {
			return damaged("journal key", 0)
		}
		i := s.pin(number)
		defer s.unpin(i)
		if i.loadErr != nil || i.dead.Load() {
			return damaged("journalled block", number)
		}
		s.noteJournaled(i, file)
		s.journaled.Add(1)
		return nil
	})
}
