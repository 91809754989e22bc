package filestore

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// pebbleFormat is the version of Pebble's own format; formatVersion 1 has this one.
const pebbleFormat = pebble.FormatTableFormatV6

// bloomBits is how many bits a key has in the filters: one lookup in a hundred goes wrong.
const bloomBits = 10

// logger is what Pebble logs to.
type logger struct{ s *Store }

func (l logger) Infof(format string, args ...any) {
	l.s.opts.Events.metadataLog(fmt.Sprintf(format, args...))
}

func (l logger) Errorf(format string, args ...any) {
	l.s.opts.Events.metadataLog("error: " + fmt.Sprintf(format, args...))
}

// Fatalf is called by Pebble where it cannot go on, and is not expected to return. One store must not
// end the process, so the store stops instead. Where an operation of ours is the caller (a failed
// write to the log) Fatalf does return, and apply notices the failure. Elsewhere it is a goroutine of
// Pebble's own, or one that openPebble or closePebble started, which ends.
func (l logger) Fatalf(format string, args ...any) {
	err := l.s.failMeta(fmt.Errorf("%w: metadata store: %s", vfs.ErrIO, fmt.Sprintf(format, args...)))
	l.s.fence.gaveUp(err)
	if !strings.HasPrefix(format, "pebble: fatal commit error") {
		runtime.Goexit()
	}
}

// hiddenKey keeps names out of messages: it shows a key's table and length only.
type hiddenKey []byte

// Format implements fmt.Formatter.
func (k hiddenKey) Format(f fmt.State, _ rune) {
	if len(k) == 0 {
		fmt.Fprint(f, "key")
		return
	}
	fmt.Fprintf(f, "key of table %d, %d bytes", k[0], len(k))
}

func (s *Store) pebbleOptions() *pebble.Options {
	comparer := *pebble.DefaultComparer
	comparer.FormatKey = func(key []byte) fmt.Formatter { return hiddenKey(key) }
	o := &pebble.Options{
		Comparer:                    &comparer,
		Merger:                      newMerger(),
		FS:                          s.fence,
		Cache:                       metaOf(&s.opts),
		FormatMajorVersion:          pebbleFormat,
		MemTableSize:                uint64(s.opts.MemTableBytes),
		MemTableStopWritesThreshold: hardStallTables,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       hardStallSublevels,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                512,
		Logger:                      logger{s},
		EventListener: &pebble.EventListener{
			BackgroundError: s.metaBackgroundError,
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				s.opts.Events.backgroundError(fmt.Errorf("%w: %s", vfs.ErrCorrupt, info.String()))
			},
		},
	}
	s.stallEvents(o.EventListener)
	o.EnsureDefaults()
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(bloomBits)
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
	}
	return o
}

// guarded runs a call into Pebble in a goroutine of its own and waits, so that Fatalf can end it.
func guarded(call func() error) error {
	result := make(chan error, 1)
	go func() {
		err := errors.New("filestore: the metadata store gave up")
		defer func() { result <- err }()
		defer caught(&err)
		err = call()
	}()
	return <-result
}

// caught, deferred, makes an error of a panic by which Pebble reports one; faults of the program
// stay what they are.
func caught(err *error) {
	switch r := recover().(type) {
	case nil:
	case runtime.Error:
		panic(r)
	default:
		*err = fmt.Errorf("panic: %v", r)
	}
}

// openPebble opens the metadata store, and makes one where there is none. One that fails in that is
// cut off from its files.
func (s *Store) openPebble() error { return s.openPebbleAs(false) }

// openPebbleAs does, and writes nothing if it is told so.
func (s *Store) openPebbleAs(readOnly bool) error {
	s.metaEnded = make(chan struct{})
	s.fence = newMetaFence(s.opts.Meta, s.failMeta)
	s.stall.init()
	o := s.pebbleOptions()
	o.ReadOnly = readOnly
	defer o.Cache.Unref()
	var db *pebble.DB
	done := make(chan error, 1)
	go func() {
		done <- guarded(func() (err error) {
			db, err = pebble.Open(s.opts.Meta.PathJoin(s.opts.MetaDir, storeName), o)
			s.fence.opened(err)
			return err
		})
	}()
	if err := s.pebbleOpened(done); err != nil {
		return errors.Join(fmt.Errorf("filestore: opening the metadata store: %w", err), s.fence.cutOff())
	}
	s.db = db
	s.stall.watch.Go(s.watchMeta)
	return nil
}

// pebbleOpened waits until Pebble has opened, or one of its goroutines has met a failure before that, and
// stays where it is: such a Pebble would never let itself be closed, whatever it answers itself.
func (s *Store) pebbleOpened(done <-chan error) error {
	var err error
	select {
	case err = <-done:
		if err != nil {
			return err
		}
	case err = <-s.fence.failure:
		s.metaGivenUp.Store(true)
		return err
	}
	select {
	case err = <-s.fence.failure:
		s.metaGivenUp.Store(true)
	default:
	}
	return err
}

// closePebble closes it. After a failure of Pebble's own its state is not to be relied on: it is cut
// off from its files, so that they can be opened again, and then given a while to end.
func (s *Store) closePebble() error {
	close(s.stall.stop)
	if s.metaBroken.Load() {
		return s.abandonPebble()
	}
	s.stall.watch.Wait()
	closed := make(chan error, 1)
	go func() { closed <- guarded(s.db.Close) }()
	err := s.awaitClose(closed)
	if s.metaBroken.Load() {
		return errors.Join(s.failed(), err, s.fence.cutOff())
	}
	if err != nil {
		return fmt.Errorf("filestore: closing the metadata store: %w", err)
	}
	return nil
}

// awaitClose waits until Pebble is closed. If it fails in that, it may wait for ever for a goroutine that has
// ended: then only for a while.
func (s *Store) awaitClose(closed <-chan error) error {
	select {
	case err := <-closed:
		return err
	case <-s.metaEnded:
	}
	timeout := time.NewTimer(abandonTime)
	defer timeout.Stop()
	select {
	case err := <-closed:
		return err
	case <-timeout.C:
		s.metaGivenUp.Store(true)
		return nil
	}
}

// abandonPebble closes a Pebble that has failed, if it lets itself be closed: it may wait for ever for a
// goroutine that has ended. What is left of it then has no effect on anything but memory.
func (s *Store) abandonPebble() error {
	err := s.fence.cutOff()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		s.stall.watch.Wait()
		_ = guarded(s.db.Close) // it can only say that the fence is cut
	}()
	timeout := time.NewTimer(abandonTime)
	defer timeout.Stop()
	select {
	case <-closed:
	case <-timeout.C:
		s.metaGivenUp.Store(true)
	}
	return err
}

// set and del put one change into a batch, which can't fail for a batch of an open store.
func set(b *pebble.Batch, key, value []byte) {
	if err := b.Set(key, value, nil); err != nil {
		panic(fmt.Sprintf("filestore: batch: %v", err))
	}
}

func del(b *pebble.Batch, key []byte) {
	if err := b.Delete(key, nil); err != nil {
		panic(fmt.Sprintf("filestore: batch: %v", err))
	}
}

func delRange(b *pebble.Batch, lo, hi []byte) {
	if err := b.DeleteRange(lo, hi, nil); err != nil {
		panic(fmt.Sprintf("filestore: batch: %v", err))
	}
}

// get calls read with the value of a key, if there is one.
func (s *Store) get(key []byte, read func(value []byte) error) (found bool, err error) {
	return getFrom(s.db, key, read)
}

func getFrom(db pebble.Reader, key []byte, read func(value []byte) error) (found bool, err error) {
	value, closer, err := db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, metaErr(err)
	}
	err = read(value)
	if e := closer.Close(); e != nil && err == nil {
		err = metaErr(e)
	}
	return true, err
}

// scan calls visit for every key from lo up to hi, in order; key and value are valid during the call.
func (s *Store) scan(lo, hi []byte, visit func(key, value []byte) error) error {
	return scanTable(s.db, lo, hi, visit)
}

// scanIter goes through an iterator and closes it.
func scanIter(it *pebble.Iterator, visit func(key, value []byte) error) error {
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err == nil {
			err = visit(it.Key(), value)
		} else {
			err = metaErr(err)
		}
		if err != nil {
			it.Close()
			return err
		}
	}
	if err := it.Close(); err != nil {
		return metaErr(err)
	}
	return nil
}

// apply makes a batch visible, in the order of the calls; the caller holds the locks of what the
// batch is about. It is not durable before settle returned, which needs no lock, so that many wait
// for one flush of the log.
//
// After an error the store has stopped, and the batch may be there after the next start or not.
func (s *Store) apply(b *pebble.Batch) error {
	if err := s.awaitMeta(); err != nil {
		return err
	}
	err := func() (err error) {
		defer caught(&err)
		return s.db.ApplyNoSyncWait(b, pebble.Sync)
	}()
	if err != nil {
		return s.failMeta(fmt.Errorf("%w: metadata store: %w", vfs.ErrIO, err))
	}
	s.stats.batches.Add(1)
	return s.failed()
}

// settle waits until an applied batch is durable and gives it back.
func (s *Store) settle(b *pebble.Batch) error {
	if err := b.SyncWait(); err != nil {
		return s.failMeta(fmt.Errorf("%w: metadata log: %w", vfs.ErrIO, err))
	}
	if s.fence.logBroken.Load() { // it came to the fence, which kept it from Pebble
		return s.failMeta(fmt.Errorf("%w: metadata log", vfs.ErrIO))
	}
	if err := b.Close(); err != nil {
		return fmt.Errorf("%w: metadata store: %w", vfs.ErrIO, err)
	}
	return nil
}

// store applies a batch that needs no lock and waits for it.
func (s *Store) store(b *pebble.Batch) error {
	if err := s.apply(b); err != nil {
		return err
	}
	return s.settle(b)
}
