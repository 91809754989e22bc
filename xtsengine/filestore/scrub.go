package filestore

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// ScrubPosition is how far a scrub has come: the next file, by the number of its inode, and the next
// block of it. The metadata come before the zero position.
type ScrubPosition struct{ Inode, FileBlock uint64 }

// ScrubProgress says what a scrub has read so far, in this call.
type ScrubProgress struct {
	At ScrubPosition
	// Records are those of the metadata store.
	Records uint64
	// Blocks of the volume that were read; BadBlocks of them could not be, or did not have their tag.
	Blocks, BadBlocks uint64
	// Damaged are extents, or lists of them, that can't be read: no block of theirs was.
	Damaged uint64
}

// BadBlock is a block that a scrub could not read.
type BadBlock struct {
	TamperedBlock
	// Unreadable says that the device failed; else the block is not what was written there.
	Unreadable bool
}

// scrubber is one Scrub.
type scrubber struct {
	s    *Store
	done ScrubProgress
	bad  func(BadBlock)
	buf  []byte
	ios  []volume.IO
}

// Scrub reads all metadata and, from a position on, all stable content of the files on the volume, and
// checks the tags: what nobody reads for long is looked at too. The zero position is the begin; any
// other one, from an earlier scrub, leaves out the metadata. step is called after each piece of at most
// 1 MiB; it may wait, to be slow or to pause, and an error of its ends the scrub. bad is called for
// each block that can't be read; Events.Tampered, as for every read, only for those without their tag.
//
// No lock is held between pieces, so that others hardly notice. What is in a cache of the metadata
// store is not read from the disk again. Close ends it with vfs.ErrClosed.
func (s *Store) Scrub(ctx context.Context, from ScrubPosition, step func(ScrubProgress) error, bad func(BadBlock)) (ScrubProgress, error) {
	if err := s.visit(ctx); err != nil {
		return ScrubProgress{}, err
	}
	defer s.visits.Done()
	c := &scrubber{s: s, bad: bad, buf: make([]byte, scrubBlocks*blockBytes)}
	defer clear(c.buf)
	c.done.At = from
	next := func() error {
		select {
		case <-s.background.stop:
			return vfs.ErrClosed
		default:
		}
		return errors.Join(ctx.Err(), s.failed(), step(c.done))
	}
	if from == (ScrubPosition{}) {
		if err := c.metadata(next); err != nil {
			return c.done, err
		}
	}
	for {
		more, err := c.content()
		if err != nil || !more {
			return c.done, err
		}
		if err := next(); err != nil {
			return c.done, err
		}
	}
}

// metadata reads all records, some thousand with one iterator: one that lives long keeps files alive.
func (c *scrubber) metadata(next func() error) error {
	for from := []byte{0}; from != nil; {
		it, err := c.s.db.NewIter(&pebble.IterOptions{LowerBound: from})
		if err != nil {
			return metaErr(err)
		}
		from = nil
		count := 0
		for ok := it.First(); ok; ok = it.Next() {
			if count == scrubRecords {
				from = append(from, it.Key()...)
				break
			}
			if _, err := it.ValueAndErr(); err != nil {
				return errors.Join(metaErr(err), it.Close())
			}
			count++
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return metaErr(err)
		}
		c.done.Records += uint64(count)
		if err := next(); err != nil {
			return err
		}
	}
	return nil
}

// content reads the next piece of a file, and says whether there was one.
func (c *scrubber) content() (bool, error) {
	number, file, ok, err := c.find()
	if err != nil || !ok {
		return false, err
	}
	i := c.s.pin(number)
	defer c.s.unpin(i)
	i.mu.RLock() // no block that it refers to is freed
	defer i.mu.RUnlock()
	if i.dead.Load() {
		c.done.At = ScrubPosition{number + 1, 0}
		return true, nil
	}
	stop := (file/extentBlocks + scrubBlocks/extentBlocks) * extentBlocks
	c.done.At = ScrubPosition{number, stop}
	e, err := readExtents(c.s.db, number, file, stop)
	if errors.Is(err, vfs.ErrCorrupt) {
		c.done.Damaged++
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return true, c.read(i, e)
}

// find looks for the first extent at the position or behind.
func (c *scrubber) find() (number, file uint64, ok bool, err error) {
	at := &c.done.At
	it, err := c.s.db.NewIter(&pebble.IterOptions{
		LowerBound: pairKey(tableExtent, at.Inode, at.FileBlock/extentBlocks*extentBlocks),
		UpperBound: []byte{tableExtent + 1},
	})
	if err != nil {
		return 0, 0, false, metaErr(err)
	}
	if it.First() {
		if number, file, ok = splitPair(it.Key()); !ok {
			return 0, 0, false, errors.Join(damaged("extent key", 0), it.Close())
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return 0, 0, false, metaErr(err)
	}
	return number, file, ok, nil
}

// read reads extents that have no more blocks than buf, together, and block by block if that fails.
func (c *scrubber) read(i *inode, e extents) error {
	c.ios = c.ios[:0]
	buf := c.buf
	for k := range e {
		if e[k].place != onVolume {
			continue
		}
		io := e[k].io(0, int(e[k].count))
		io.Buf, buf = buf[:e[k].count*blockBytes], buf[e[k].count*blockBytes:]
		c.ios = append(c.ios, io)
		c.done.Blocks += uint64(e[k].count)
	}
	if c.s.opts.Space.Read(c.ios) == nil {
		return nil
	}
	for k := range e {
		if e[k].place != onVolume {
			continue
		}
		for n := range e[k].count {
			if err := c.readOne(i, &e[k], int(n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// readOne reads a block, and only fails if the store has.
func (c *scrubber) readOne(i *inode, x *extent, n int) error {
	io := x.io(n, 1)
	io.Buf = c.buf[:blockBytes]
	err := c.s.opts.Space.Read([]volume.IO{io})
	if err == nil {
		return nil
	}
	b := BadBlock{TamperedBlock{Inode: i.number, FileBlock: x.file + uint64(n), Block: io.Block}, !errors.Is(err, volume.ErrTag)}
	c.done.BadBlocks++
	c.bad(b)
	if !b.Unreadable {
		_ = c.s.tampered(b.TamperedBlock) // the error is for who wanted to read it
		return nil
	}
	_ = c.s.spaceErr(err) // stops the store if that is final
	return c.s.failed()
}
