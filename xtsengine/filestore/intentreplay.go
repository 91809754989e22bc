package filestore

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// intentReplay is what a start does with the log that an earlier one left.
type intentReplay struct {
	s       *Store
	start   uint64            // records below it don't count
	flushed map[uint64]uint64 // nor an inode's up to a number
}

// intentFile is a file of the log, with its first record.
type intentFile struct {
	io.Closer
	reader  intentReader
	record  intentRecord
	content []byte
}

// replayIntent carries out the writes again that were durable in the log alone, makes them stable, and ends that log. After
// a crash before that is done it is done again, from the beginning: nobody else has changed a file by then.
func (s *Store) replayIntent() (err error) {
	if s.format == formatVersion {
		return nil
	}
	r := &intentReplay{s: s, flushed: map[uint64]uint64{}}
	if err := r.load(); err != nil {
		return err
	}
	files, err := r.open()
	if err == nil {
		err = r.run(files)
	}
	for _, f := range files {
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = s.flushAll()
	}
	if err != nil {
		return err
	}
	return s.clearIntent()
}

// load reads which records count.
func (r *intentReplay) load() error {
	var err error
	if r.start, _, err = r.s.findCounter(counterIntent); err != nil {
		return err
	}
	r.s.intent.begin(r.start)
	return r.s.scan([]byte{tableFlushed}, []byte{tableFlushed + 1}, func(key, value []byte) error {
		inode, number, err := decodeFlushed(key, value)
		r.flushed[inode] = number
		return err
	})
}

func decodeFlushed(key, value []byte) (inode, number uint64, err error) {
	inode, ok := splitNumber(key)
	if !ok || len(value) != 8 {
		return 0, 0, damaged("flushed record", inode)
	}
	return inode, be.Uint64(value), nil
}

// open opens the files that have records, those of the older ones first.
func (r *intentReplay) open() (files []*intentFile, err error) {
	for k := range intentNames {
		file, err := r.s.opts.Meta.Open(r.s.intentPath(k))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return files, r.s.intentErr(err)
		}
		f := &intentFile{Closer: file, reader: intentReader{from: bufio.NewReaderSize(file, 1<<20)}}
		f.record, f.content, err = f.reader.next()
		if err == nil {
			files = append(files, f)
			continue
		}
		if err = errors.Join(file.Close(), ignoreEOF(err)); err != nil {
			return files, err
		}
	}
	slices.SortFunc(files, func(a, b *intentFile) int { return cmp.Compare(a.record.number, b.record.number) })
	return files, nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// run carries out what counts.
func (r *intentReplay) run(files []*intentFile) error {
	for k, f := range files {
		last := max(r.start, 1) - 1
		if k > 0 {
			last = files[k-1].reader.last
		}
		r.compare(last, f.record.number)
		var err error
		for err == nil {
			if err = r.do(&f.record, f.content); err != nil {
				return err
			}
			f.record, f.content, err = f.reader.next()
		}
		r.s.intent.begin(f.reader.last)
		if err = ignoreEOF(err); err != nil {
			return err
		}
	}
	return nil
}

// compare looks whether anything is missing between the last record that could be read, or the last one that does not count,
// and the first one of the next file, which was not begun before that was written. What is there is carried out all the same.
func (r *intentReplay) compare(last, next uint64) {
	if last+1 < next && next > r.start {
		r.s.opts.Events.backgroundError(fmt.Errorf("%w: intent log: %d records behind the %d-th can't be read: writes that were "+
			"durable may be lost", vfs.ErrCorrupt, next-max(last+1, r.start), last))
	}
}

// do carries out one write, if it counts.
func (r *intentReplay) do(x *intentRecord, content []byte) error {
	if x.number < r.start || x.number <= r.flushed[x.inode] {
		return nil
	}
	s := r.s
	i := s.pin(x.inode)
	defer s.unpin(i)
	if i.loadErr == nil && i.dead.Load() {
		return nil
	}
	err := i.loadErr
	if err == nil {
		err = s.rewrite(i, x, content)
	}
	if err != nil {
		err = fmt.Errorf("filestore: inode %d: a durable write of %d bytes in the intent log: %w", x.inode, len(content), err)
	}
	if errors.Is(err, vfs.ErrCorrupt) { // what it would change a part of is damaged: the rest goes on
		s.opts.Events.backgroundError(err)
		return nil
	}
	if err != nil {
		return err
	}
	if !i.active.empty() {
		i.record = x.number
	}
	s.stats.replayedWrites.Add(1)
	if s.muchUnstable() {
		return s.flushAll()
	}
	return nil
}

// rewrite carries a write out. The file's attributes are those of then, unless they have changed since.
func (s *Store) rewrite(i *inode, x *intentRecord, content []byte) error {
	was := i.rec.attr
	err := s.replace(s.provideAndPlace, i, was.ID, x.offset, content)
	full := errors.Is(err, vfs.ErrNoSpace)
	if full {
		err = s.replaceParts(i, was.ID, x.offset, content, false)
	}
	if err != nil {
		return err
	}
	a := &i.rec.attr
	a.Change, a.MTime, a.CTime, a.Mode = was.Change, was.MTime, was.CTime, was.Mode
	if was.Change < x.change {
		a.Change, a.MTime, a.CTime, a.Mode = x.change, x.time, x.time, x.mode
	}
	if full {
		return s.replaceParts(i, was.ID, x.offset, content, true)
	}
	return nil
}

// replace places a write, by provideAndPlace or writeScarce.
func (s *Store) replace(by func(*writePlan, vfs.FileID, *vfs.Cred, *vfs.Cred) (uint64, error), i *inode, id vfs.FileID,
	offset uint64, content []byte) error {
	w := writePlans.Get().(*writePlan)
	defer w.release()
	w.i, w.offset, w.p = i, offset, content
	w.split()
	_, err := by(w, id, nil, nil)
	s.free(w.freed)
	return err
}

// replaceParts is replace on a full volume, block by block: what is in the metadata store is changed there, and takes no
// space; the rest takes what is set aside, or goes to the metadata store without that. stored says which of the two it does.
func (s *Store) replaceParts(i *inode, id vfs.FileID, offset uint64, content []byte, stored bool) error {
	for len(content) > 0 {
		n := min(blockBytes-int(offset%blockBytes), len(content))
		file := offset / blockBytes
		src, err := s.storedAt(i, file)
		switch {
		case err != nil:
		case (src == inJournal || src == inInode) != stored:
		case stored:
			err = s.patch(i, file, src, int(offset%blockBytes), content[:n])
		default:
			err = s.replace(s.writeScarce, i, id, offset, content[:n])
			if errors.Is(err, vfs.ErrNoSpace) {
				err = s.spill(i, file, int(offset%blockBytes), content[:n])
			}
		}
		if err != nil {
			return err
		}
		offset, content = offset+uint64(n), content[n:]
	}
	return nil
}

// storedAt says where a file block is that is not in memory; onVolume for one that is.
func (s *Store) storedAt(i *inode, file uint64) (place, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.active.has(file) {
		return onVolume, nil
	}
	src, ok, err := s.committed(i, file)
	if err != nil || !ok {
		return onVolume, err
	}
	return src.ext.place, nil
}

// spill puts a block that a write changes a part of into the journal: the volume has no room for it, perhaps because what it
// replaces is under a retired key.
func (s *Store) spill(i *inode, file uint64, at int, part []byte) error {
	b := newBlock()
	defer freeBlock(b)
	i.mu.Lock()
	err := s.readBlock(i, file, b)
	size := max(i.size, file*blockBytes+uint64(at+len(part)))
	i.rec.attr.Size = max(i.rec.attr.Size, size)
	i.mu.Unlock()
	if err != nil {
		return err
	}
	copy(b[at:], part)
	i.flushing.Lock()
	defer i.flushing.Unlock()
	f := &flush{i: i, layer: &layer{dirty: map[uint64]*block{file: b}}, files: []uint64{file}, where: inJournal, size: size}
	f.over = f.dirtyExtents()
	if err := s.switchOver(f); err != nil {
		return err
	}
	if err := s.settle(f.batch); err != nil {
		return err
	}
	s.free(f.gone)
	s.noteJournaled(i, file)
	return nil
}

// patch changes a part of a block in the metadata store, durably.
func (s *Store) patch(i *inode, file uint64, where place, at int, part []byte) error {
	b := newBlock()
	defer freeBlock(b)
	if err := s.readStored(i.number, file, where, b); err != nil {
		return err
	}
	copy(b[at:], part)
	table := tableJournal
	if where == inInode {
		table = tableInline
	}
	i.mu.Lock()
	i.size = max(i.size, file*blockBytes+uint64(at+len(part)))
	i.rec.attr.Size = max(i.rec.attr.Size, i.size)
	batch := s.db.NewBatch()
	set(batch, pairKey(table, i.number, file), trim(b[:]))
	i.put(batch)
	i.mu.Unlock()
	return s.store(batch)
}
