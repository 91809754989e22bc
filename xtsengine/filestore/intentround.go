package filestore

import (
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2"
	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// intentNames are the files of the log, beside the format file.
var intentNames = [2]string{"intent-0", "intent-1"}

// intentCategory is how cryptfs knows a file that is appended to and made durable again and again: it is that of
// Pebble's own log.
const intentCategory pebblevfs.DiskWriteCategory = "pebble-wal"

// zeroPiece is what a new file of the log is filled with.
var zeroPiece [256 << 10]byte

func (s *Store) intentPath(half int) string {
	return s.opts.Meta.PathJoin(s.opts.MetaDir, intentNames[half])
}

func (s *Store) intentHalfBytes() int64 { return s.opts.IntentBytes / 2 }

// loggable says whether a write that is about to be placed can be logged instead of being flushed: see intentLog. The
// file's mu is held alone.
func (s *Store) loggable(w *writePlan) bool {
	i := w.i
	switch {
	case !w.stable || s.opts.IntentBytes == 0 || len(w.p) > maxIntentBytes:
		return false
	case w.thrifty || i.active.scarce || w.directFirst != w.directEnd:
		return false
	case max(i.stable.Load(), i.loggedTo) < i.writes:
		return false
	}
	for file := w.first; file < w.end; file++ {
		if !s.unshared(i, file) {
			return false
		}
	}
	return true
}

// committed finds a file block among what is stable; ok says that it is there, if only reserved. mu is held alone.
func (s *Store) committed(i *inode, file uint64) (src source, ok bool, err error) {
	e, err := s.window(i, file/windowBlocks, true)
	if err != nil {
		return source{}, false, err
	}
	src, ok = e.source(file, 1)
	return src, ok, nil
}

// unshared says whether no other file has a file block. mu is held alone.
func (s *Store) unshared(i *inode, file uint64) bool {
	src, ok, err := s.committed(i, file)
	if err != nil {
		return false
	}
	if !ok || src.ext.place != onVolume || s.shares.records.Load() == 0 {
		return true
	}
	parts, err := s.alone(src.ext.run())
	return err == nil && len(parts) > 0
}

// grows says whether the file gets a block by one that is written; mu is held alone.
func (s *Store) grows(i *inode, file uint64) bool {
	_, ok, err := s.committed(i, file)
	return err != nil || !ok
}

// logWrite queues the record of a write that was just placed, if the log takes it; mu is held alone.
func (s *Store) logWrite(w *writePlan) {
	i := w.i
	a := &i.rec.attr
	r := intentRecord{inode: i.number, offset: w.offset, change: a.Change, time: a.MTime, mode: a.Mode}
	ok, tend := s.intent.put(&r, w.p, s.intentHalfBytes())
	if tend {
		wake(s.background.intent)
	}
	if !ok {
		return
	}
	w.logged = r.number
	i.loggedTo, i.lastRecord, i.record = i.writes, r.number, r.number
	s.stats.loggedWrites.Add(1)
}

// awaitLogged returns true when a write is durable in the log, false if it must be committed; record is 0 if it is not there.
func (s *Store) awaitLogged(record uint64) bool {
	return record > 0 && s.intent.wait(record) == nil && s.failed() == nil
}

// intentRound does what the log needs: it frees a half that is full, and makes the log for whoever wants it.
func (s *Store) intentRound() {
	if s.failed() != nil {
		return
	}
	if err := s.tendIntent(); err != nil {
		s.opts.Events.backgroundError(err)
	}
}

func (s *Store) tendIntent() error {
	s.intent.tending.Lock()
	defer s.intent.tending.Unlock()
	if half, end := s.intent.full(); half >= 0 && s.intent.wait(end-1) == nil {
		return s.retireIntent(half, end)
	}
	if s.intent.suspended || !s.intent.isWanted() || s.metaFull.Load() {
		return nil
	}
	now := s.opts.Clock()
	if now.Before(s.intent.retry) {
		return nil
	}
	err := s.dropIntent()
	if err == nil {
		err = s.openIntent()
	}
	if err != nil {
		s.intent.retry = now.Add(intentRetryTime)
	}
	return err
}

// retireIntent makes what a full half has records of stable without it, and the half ready.
func (s *Store) retireIntent(half int, end uint64) error {
	if err := s.flushLogged(); err != nil {
		return err
	}
	if err := s.storeIntentStart(end); err != nil {
		return err
	}
	err := s.intent.take(half).Close()
	if err == nil {
		var file pebblevfs.File
		if file, err = s.fence.reuse(s.intentPath(half), intentCategory); err == nil {
			s.intent.renew(half, file)
			return nil
		}
	}
	s.intent.fail(err)
	return s.intentErr(err)
}

// storeIntentStart makes it durable that records below a number don't count, behind everything that is applied already.
func (s *Store) storeIntentStart(number uint64) error {
	b := s.db.NewBatch()
	set(b, counterKey(counterIntent), be.AppendUint64(nil, number))
	if err := s.applyCovered(b, number); err != nil {
		return err
	}
	return s.settle(b)
}

// applyCovered applies the batch, with what is not needed of tableFlushed. No flush comes in between: what that says of
// its own record would be deleted.
func (s *Store) applyCovered(b *pebble.Batch, number uint64) error {
	s.intent.covering.Lock()
	defer s.intent.covering.Unlock()
	for _, inode := range s.intent.covered(number) {
		del(b, numberKey(tableFlushed, inode))
	}
	return s.apply(b)
}

// flushLogged makes the data stable that has records now. A flush under way counts as such.
func (s *Store) flushLogged() error {
	list := s.dirty.oldest(1<<30, farFuture)
	kept := list[:0]
	for _, i := range list {
		i.mu.RLock()
		logged := i.record > 0 || i.sealed != nil
		i.mu.RUnlock()
		if logged {
			kept = append(kept, i)
		} else {
			s.unpin(i)
		}
	}
	return s.flushEach(kept)
}

// openIntent makes the log's files. What is in them is noise, as long as they will be: a write within them changes neither
// their size nor their extents.
func (s *Store) openIntent() error {
	if err := s.markFormat(intentFormat); err != nil {
		return err
	}
	b := s.db.NewBatch()
	set(b, counterKey(counterIntent), be.AppendUint64(nil, s.intent.end()))
	delRange(b, []byte{tableFlushed}, []byte{tableFlushed + 1})
	if err := s.store(b); err != nil {
		return err
	}
	var files [2]pebblevfs.File
	for k := range files {
		f, err := s.makeIntentFile(s.intentPath(k))
		if err != nil {
			return errors.Join(s.intentErr(err), closeFiles(files))
		}
		files[k] = f
	}
	if err := s.syncMetaDir(); err != nil {
		return errors.Join(s.intentErr(err), closeFiles(files))
	}
	s.intent.open(files)
	return nil
}

func (s *Store) makeIntentFile(path string) (pebblevfs.File, error) {
	f, err := s.fence.Create(path, intentCategory)
	if err != nil {
		return nil, err
	}
	for left := s.intentHalfBytes(); left > 0 && err == nil; left -= int64(len(zeroPiece)) {
		_, err = f.Write(zeroPiece[:min(left, int64(len(zeroPiece)))])
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return s.fence.reuse(path, intentCategory)
}

func closeFiles(files [2]pebblevfs.File) (err error) {
	for _, f := range files {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// suspendIntent drops the log, and keeps it from being made anew until resumeIntent.
func (s *Store) suspendIntent() error {
	s.background.pause.RLock()
	defer s.background.pause.RUnlock()
	s.intent.tending.Lock()
	defer s.intent.tending.Unlock()
	s.intent.suspended = true
	return s.dropIntent()
}

func (s *Store) resumeIntent() {
	s.intent.tending.Lock()
	defer s.intent.tending.Unlock()
	s.intent.suspended = false
}

// dropIntent ends the log: what has records becomes stable without them, and nothing is left of it. tending is held.
func (s *Store) dropIntent() error {
	if s.format == formatVersion {
		return nil
	}
	if err := closeFiles(s.intent.close()); err != nil {
		s.opts.Events.backgroundError(s.intentErr(err))
	}
	if err := s.flushLogged(); err != nil {
		return err
	}
	return s.clearIntent()
}

// endIntent ends the log of a store that is being closed; flushed says that all data is stable without it.
func (s *Store) endIntent(flushed bool) error {
	err := closeFiles(s.intent.close())
	if !flushed || s.format == formatVersion {
		return err
	}
	return errors.Join(err, s.clearIntent())
}

// clearIntent removes what is stored of a log that is not in use, and whose data is stable without it, or will be when what
// is applied is durable.
func (s *Store) clearIntent() error {
	if err := s.storeIntentStart(s.intent.end()); err != nil {
		return err
	}
	for k := range intentNames {
		if err := s.fence.Remove(s.intentPath(k)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return s.intentErr(err)
		}
	}
	if err := s.syncMetaDir(); err != nil {
		return s.intentErr(err)
	}
	b := s.db.NewBatch()
	del(b, counterKey(counterIntent))
	delRange(b, []byte{tableFlushed}, []byte{tableFlushed + 1})
	if err := s.store(b); err != nil {
		return err
	}
	s.intent.reset()
	return s.markFormat(formatVersion)
}

// markFormat stores which programs can open the store.
func (s *Store) markFormat(version uint32) error {
	if s.format == version {
		return nil
	}
	err := s.fence.pass(func() error { return writeFormat(s.opts.Meta, s.opts.MetaDir, s.opts.ID, version) })
	if err != nil {
		return fmt.Errorf("%w: format file: %w", vfs.ErrIO, err)
	}
	s.format = version
	return nil
}

func (s *Store) syncMetaDir() error {
	return s.fence.pass(func() error { return syncDir(s.opts.Meta, s.opts.MetaDir) })
}

func (s *Store) intentErr(err error) error { return fmt.Errorf("%w: intent log: %w", vfs.ErrIO, err) }

// putFlushed says in a flush's batch which records it has the data of. The log's covering is held shared until that is applied.
func (s *Store) putFlushed(b *pebble.Batch, inode, record uint64) {
	if record == 0 {
		return
	}
	set(b, numberKey(tableFlushed, inode), be.AppendUint64(nil, record))
	s.intent.cover(inode, record)
}
