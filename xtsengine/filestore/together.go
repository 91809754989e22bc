package filestore

import "github.com/nfseal/nfseal/xtsengine/volume"

// Small files whose data is unstable become stable many at a time: one write of the volume has the blocks of all of them,
// one flush makes it durable, and their batches share a flush of the metadata log. One by one, each would put its few
// blocks into the journal, from which they are moved to the volume later.
//
// Who flushes so has the turns and the flushing of all of them meanwhile, in no order: it takes what is free, and
// leaves a file that somebody else is at to who flushes one at a time.

// flushTogether flushes those of pinned files that are small, and unpins them. The others are left to the caller; so are
// those for which it failed: each has its own error then, and the journal if the volume can't be written.
func (s *Store) flushTogether(list []*inode) (rest []*inode) {
	if len(list) < 2 {
		return list
	}
	for len(list) > 0 {
		var flushes []*flush
		list, flushes, rest = gatherSmall(list, rest)
		rest = s.flushGroup(flushes, rest)
	}
	return rest
}

// gatherSmall seals small files from the beginning of a list, up to a bound, and adds the others that it meets to rest.
func gatherSmall(list, rest []*inode) (left []*inode, flushes []*flush, _ []*inode) {
	for blocks := 0; len(list) > 0 && blocks < togetherBlocks; list = list[1:] {
		f := list[0].takeSmall()
		if f == nil {
			rest = append(rest, list[0])
			continue
		}
		flushes = append(flushes, f)
		blocks += len(f.layer.dirty)
	}
	return list, flushes, rest
}

// takeSmall takes the unstable data of a file for a flush, and its turns and flushing with that; nil if it is not
// small, or somebody else has these.
func (i *inode) takeSmall() *flush {
	if !i.turns.try() {
		return nil
	}
	if i.flushing.TryLock() {
		if f := i.sealSmall(); f != nil {
			return f
		}
		i.flushing.Unlock()
	}
	i.turns.give()
	return nil
}

func (i *inode) sealSmall() *flush {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.active.small() {
		return nil
	}
	return i.seal()
}

// small says whether all there is are a few blocks in memory, for which there is space.
func (l *layer) small() bool {
	n := len(l.dirty)
	return n > 0 && n <= journalCommitBlocks && len(l.placed) == 0 && !l.scarce
}

// flushGroup flushes what gatherSmall has sealed, and adds the files that are still unstable to rest.
func (s *Store) flushGroup(flushes []*flush, rest []*inode) []*inode {
	err := s.placeGroup(flushes)
	s.quota.finishing.RLock()
	defer s.quota.finishing.RUnlock()
	for _, f := range flushes { // apply all before waiting: they share a flush of the log
		s.stats.flushes.Add(1)
		if err != nil || s.switchOver(f) != nil {
			f.batch = nil
			s.unseal(f)
		}
	}
	for _, f := range flushes {
		if s.endTogether(f) {
			s.unpin(f.i)
			continue
		}
		s.stats.flushFailures.Add(1)
		rest = append(rest, f.i)
	}
	return rest
}

// endTogether waits until a flush of a group is durable, and lets others have the file; done says that it is.
func (s *Store) endTogether(f *flush) (done bool) {
	defer f.i.turns.give()
	defer f.i.flushing.Unlock()
	if f.batch == nil || s.settle(f.batch) != nil {
		return false
	}
	s.finish(f)
	f.i.stable.Store(f.number)
	return true
}

// placeGroup decides where the blocks of all go, and writes those for the volume, durably.
func (s *Store) placeGroup(flushes []*flush) error {
	for _, f := range flushes {
		f.files = f.layer.sorted(make([]uint64, 0, len(f.layer.dirty)))
		if err := s.findHomes(f); err != nil {
			return err
		}
		if f.where = s.choose(f); f.where == inInode {
			continue
		}
		f.where = onVolume
		s.assign(f)
	}
	if err := s.writeTogether(flushes); err != nil {
		return err
	}
	for _, f := range flushes {
		f.over = f.dirtyExtents()
	}
	return nil
}

// writeTogether writes the blocks of several flushes to the volume, durably, with one call. They are in the cache then,
// which takes time where its memory is touched for the first time.
func (s *Store) writeTogether(flushes []*flush) error {
	var ios []volume.IO
	for _, f := range flushes {
		for k := range f.at {
			ios = append(ios, f.io(k))
		}
	}
	if len(ios) == 0 {
		return nil
	}
	err := s.opts.Space.Write(ios)
	if err == nil {
		err = s.opts.Space.Sync()
	}
	if err != nil {
		return s.spaceErr(err)
	}
	for _, f := range flushes {
		if len(f.at) > 0 {
			s.keep(f)
		}
	}
	return nil
}
