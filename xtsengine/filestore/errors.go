package filestore

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// What Create and Open answer besides vfs errors.
var (
	// ErrNewerFormat says that a newer version of the program wrote the store.
	ErrNewerFormat = errors.New("filestore: the format is newer than this program understands")
	// ErrOlderFormat says that an older version of the program wrote the store, and that this one
	// can't read it.
	ErrOlderFormat = errors.New("filestore: the format is older than this program understands")
	// ErrForeign says that there is no file store in the directory.
	ErrForeign = errors.New("filestore: there is no file store here")
	// ErrExists says that Create found a store.
	ErrExists = errors.New("filestore: there is a file store already")
	// ErrWrongSpace says that the metadata belong to another file system than the space.
	ErrWrongSpace = errors.New("filestore: metadata and volume space belong to different file systems")
)

// spaceErr translates an error of the volume and stops the store if it is final.
func (s *Store) spaceErr(err error) error {
	switch {
	case errors.Is(err, volume.ErrNoSpace):
		return vfs.ErrNoSpace
	case errors.Is(err, blockdev.ErrFenced):
		return s.fail(fmt.Errorf("%w: %w", vfs.ErrFenced, err))
	case errors.Is(err, blockdev.ErrPoisoned):
		return s.fail(fmt.Errorf("%w: %w", vfs.ErrIO, err))
	}
	return fmt.Errorf("%w: %w", vfs.ErrIO, err)
}

// readErr translates an error of reading a file's blocks from the volume; i.mu is held.
func (s *Store) readErr(i *inode, err error) error {
	var at *volume.TagError
	if !errors.As(err, &at) {
		return s.spaceErr(err)
	}
	return s.tampered(TamperedBlock{Inode: i.number, FileBlock: i.blockAt(at.Block), Block: at.Block})
}

// tampered counts a block without its tag, tells of it and returns the error for who wanted to read it.
func (s *Store) tampered(b TamperedBlock) error {
	s.stats.tampered.Add(1)
	s.opts.Events.tampered(b)
	return fmt.Errorf("%w: block %d of inode %d is not what was written there (block %d of the volume)",
		vfs.ErrCorrupt, b.FileBlock, b.Inode, b.Block)
}

// blockAt returns the file block that is at a block of the volume; mu is held.
func (i *inode) blockAt(at volume.Block) uint64 {
	lists := []extents{i.active.placed}
	if i.sealed != nil {
		lists = append(lists, i.sealed.placed)
	}
	for _, e := range i.windows {
		lists = append(lists, e)
	}
	for _, e := range lists {
		for k := range e {
			if x := &e[k]; x.place == onVolume && at >= x.start && at < x.start+volume.Block(x.count) {
				return x.file + uint64(at-x.start)
			}
		}
	}
	return 0
}

// metaErr translates an error of a read from the metadata store.
func metaErr(err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", vfs.ErrCorrupt, err)
	}
	return fmt.Errorf("%w: %w", vfs.ErrIO, err)
}

// fail stops the store: from now on every operation answers with the first error. It returns that.
func (s *Store) fail(err error) error {
	if s.failure.CompareAndSwap(nil, &err) {
		s.stats.failures.Add(1)
		s.throttle.broadcast()
		s.stall.wakeAll()
		s.opts.Events.stopped(err)
	}
	return *s.failure.Load()
}

// failMeta is fail for a failure of Pebble, which changes nothing any more.
func (s *Store) failMeta(err error) error {
	if !s.metaBroken.Swap(true) {
		close(s.metaEnded)
	}
	s.fence.freeze()
	return s.fail(err)
}

// failed returns why the store is stopped, nil if it is not.
func (s *Store) failed() error {
	if p := s.failure.Load(); p != nil {
		return *p
	}
	return nil
}
