package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	localFormat  = 1
	pebbleFormat = pebble.FormatTableFormatV6

	formatKey   = "m/format"
	revisionKey = "m/revision"
	dataPrefix  = "d/"
	stampBytes  = 24 // three int64 before each value
)

// LocalOptions says where a Local is.
type LocalOptions struct {
	FS  vfs.FS // encrypted by the caller
	Dir string
	// ReadOnly opens a store that is there, and writes nothing, not even its lock: the caller sees to it
	// that nobody else has the store.
	ReadOnly bool
	// OnFailure is called once, from any goroutine, when the store fails. It must not call back.
	// May be nil.
	OnFailure func(error)
}

// Local is the Store of one machine.
type Local struct {
	o  LocalOptions
	db *pebble.DB

	failed atomic.Pointer[error] // set once

	mu       sync.Mutex
	closed   bool
	revision int64
	oldest   int64         // revision after which history is whole
	history  []Change      // ascending
	grown    chan struct{} // closed and replaced at each Txn, closed for good by Close
}

var _ Store = (*Local)(nil)

// OpenLocal opens the store in o.Dir, or makes it. A store of a newer format is refused with
// ErrNewerFormat before anything is written.
func OpenLocal(o LocalOptions) (*Local, error) {
	if err := CheckFormat(o.FS, o.Dir); err != nil {
		return nil, err
	}
	l := &Local{o: o, grown: make(chan struct{})}
	if o.ReadOnly {
		o.FS = unlocked{o.FS}
	}
	cache := pebble.NewCache(cacheBytes)
	defer cache.Unref()
	db, err := pebble.Open(o.Dir, &pebble.Options{
		FS:                          o.FS,
		ReadOnly:                    o.ReadOnly,
		Cache:                       cache,
		MemTableSize:                memTableBytes,
		FormatMajorVersion:          pebbleFormat,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
		DisableWAL:                  false,
		Logger:                      quietLogger{l},
		MemTableStopWritesThreshold: 4,
	})
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	l.db = db
	if err := l.load(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return l, nil
}

// CheckFormat returns ErrNewerFormat if a later version of Pebble wrote the store in dir. It writes
// nothing. A store that does not exist is fine.
func CheckFormat(fs vfs.FS, dir string) error {
	if _, err := fs.Stat(dir); err != nil {
		return nil
	}
	desc, err := pebble.Peek(dir, fs)
	if err != nil && strings.Contains(err.Error(), "unknown format major version") { // Pebble has no type for it
		return fmt.Errorf("%w: %w", ErrNewerFormat, err)
	}
	if err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	if desc.Exists && desc.FormatMajorVersion > pebbleFormat {
		return fmt.Errorf("%w: store format %d, this version knows %d", ErrNewerFormat, desc.FormatMajorVersion, pebbleFormat)
	}
	return nil
}

// load reads the format and the revision, or writes them into a new store.
func (l *Local) load() error {
	format, found, err := l.number(formatKey, 4)
	if err != nil {
		return err
	}
	if found && format > localFormat {
		return fmt.Errorf("%w: record format %d, this version knows %d", ErrNewerFormat, format, localFormat)
	}
	if !found && !l.o.ReadOnly {
		b := binary.BigEndian.AppendUint32(nil, localFormat)
		if err := l.db.Set([]byte(formatKey), b, pebble.Sync); err != nil {
			return fmt.Errorf("catalog: %w", err)
		}
	}
	revision, _, err := l.number(revisionKey, 8)
	l.revision, l.oldest = int64(revision), int64(revision)
	return err
}

// number reads a big-endian number of width bytes.
func (l *Local) number(key string, width int) (n uint64, found bool, err error) {
	value, closer, err := l.db.Get([]byte(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("catalog: %w", err)
	}
	defer closer.Close()
	if len(value) != width {
		return 0, false, fmt.Errorf("catalog: %s is damaged", key)
	}
	for _, b := range value {
		n = n<<8 | uint64(b)
	}
	return n, true, nil
}

// Get implements Store.
func (l *Local) Get(ctx context.Context, key string) (KeyValue, bool, int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(ctx); err != nil {
		return KeyValue{}, false, 0, err
	}
	kv, found, err := l.getLocked(key)
	return kv, found, l.revision, err
}

func (l *Local) getLocked(key string) (KeyValue, bool, error) {
	value, closer, err := l.db.Get([]byte(dataPrefix + key))
	if errors.Is(err, pebble.ErrNotFound) {
		return KeyValue{}, false, nil
	}
	if err != nil {
		return KeyValue{}, false, fmt.Errorf("catalog: %w", err)
	}
	defer closer.Close()
	kv, err := decode(key, value)
	return kv, err == nil, err
}

// Range implements Store.
func (l *Local) Range(ctx context.Context, prefix string) (kvs []KeyValue, revision int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(ctx); err != nil {
		return nil, 0, err
	}
	lower := []byte(dataPrefix + prefix)
	it, err := l.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: successor(lower)})
	if err != nil {
		return nil, 0, fmt.Errorf("catalog: %w", err)
	}
	for it.First(); it.Valid(); it.Next() {
		kv, err := decode(string(it.Key()[len(dataPrefix):]), it.Value())
		if err != nil {
			return nil, 0, errors.Join(err, it.Close())
		}
		kvs = append(kvs, kv)
	}
	if err := it.Close(); err != nil {
		return nil, 0, fmt.Errorf("catalog: %w", err)
	}
	return kvs, l.revision, nil
}

// successor is the least key after every key that begins with prefix, which begins with 'd'.
func successor(prefix []byte) []byte {
	for i := len(prefix) - 1; ; i-- {
		if prefix[i] != 0xff {
			return append(prefix[:i:i], prefix[i]+1)
		}
	}
}

// Txn implements Store.
func (l *Local) Txn(ctx context.Context, t Txn) (TxnResult, error) {
	if err := t.validate(); err != nil {
		return TxnResult{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(ctx); err != nil {
		return TxnResult{}, err
	}
	holds, err := l.holdsLocked(t.If)
	if err != nil {
		return TxnResult{}, err
	}
	ops := t.Then
	if !holds {
		ops = t.Else
	}
	if err := l.applyLocked(ops); err != nil {
		return TxnResult{}, err
	}
	return TxnResult{Succeeded: holds, Revision: l.revision}, nil
}

func (l *Local) holdsLocked(conditions []Compare) (bool, error) {
	for _, c := range conditions {
		kv, _, err := l.getLocked(c.Key) // the zero KeyValue has revision 0
		if err != nil {
			return false, err
		}
		if kv.ModRevision != c.ModRevision {
			return false, nil
		}
	}
	return true, nil
}

// applyLocked writes ops at the next revision.
func (l *Local) applyLocked(ops []Op) error {
	if len(ops) == 0 {
		return nil
	}
	next := l.revision + 1
	batch := l.db.NewBatch()
	defer batch.Close()
	changes := make([]Change, 0, len(ops))
	for _, op := range ops {
		change, err := l.changeLocked(op, next)
		if err != nil {
			return err
		}
		if change.Deleted {
			err = batch.Delete([]byte(dataPrefix+op.Key), nil)
		} else {
			err = batch.Set([]byte(dataPrefix+op.Key), encode(&change.KeyValue), nil)
		}
		if err != nil {
			return fmt.Errorf("catalog: %w", err)
		}
		changes = append(changes, change)
	}
	if err := batch.Set([]byte(revisionKey), binary.BigEndian.AppendUint64(nil, uint64(next)), nil); err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	if err := l.commitLocked(batch); err != nil {
		return err
	}
	l.revision = next
	l.rememberLocked(changes)
	return nil
}

func (l *Local) changeLocked(op Op, revision int64) (Change, error) {
	old, found, err := l.getLocked(op.Key)
	if err != nil {
		return Change{}, err
	}
	if op.Delete {
		return Change{KeyValue: KeyValue{Key: op.Key, ModRevision: revision}, Deleted: true}, nil
	}
	kv := KeyValue{Key: op.Key, Value: []byte(string(op.Value)), CreateRevision: revision, ModRevision: revision, Version: 1}
	if found {
		kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
	}
	return Change{KeyValue: kv}, nil
}

// commitLocked makes batch durable. Pebble ends a failed commit by its logger's Fatalf or by a
// panic, with locks of its own held: after either, the database is not touched again.
func (l *Local) commitLocked(batch *pebble.Batch) (err error) {
	defer func() {
		if r := recover(); r != nil {
			l.fail(fmt.Errorf("commit: %v", r))
		}
		if cause := l.failed.Load(); cause != nil {
			err = *cause
		}
	}()
	if err := batch.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	return nil
}

// rememberLocked gives changes to the watchers.
func (l *Local) rememberLocked(changes []Change) {
	l.history = append(l.history, changes...)
	for len(l.history) > maxHistory {
		l.oldest = l.history[0].ModRevision
		l.history = l.history[1:]
	}
	close(l.grown)
	l.grown = make(chan struct{})
}

// usableLocked says why nothing can be done.
func (l *Local) usableLocked(ctx context.Context) error {
	if l.closed {
		return ErrClosed
	}
	if cause := l.failed.Load(); cause != nil {
		return *cause
	}
	return ctx.Err()
}

// fail marks the store as broken for good.
func (l *Local) fail(cause error) {
	err := fmt.Errorf("%w: %w", ErrFailed, cause)
	if l.failed.CompareAndSwap(nil, &err) && l.o.OnFailure != nil {
		l.o.OnFailure(err)
	}
}

// Close waits for what is under way, ends every wait of a Watcher and closes the store. A store
// that failed is left as a crash would leave it. A second call does nothing.
func (l *Local) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.grown)
	if l.failed.Load() != nil {
		return nil
	}
	if err := l.db.Close(); err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	return nil
}

func (t *Txn) validate() error {
	if len(t.If) > MaxTxnOps {
		return fmt.Errorf("%w: %d comparisons, at most %d are allowed", ErrInvalid, len(t.If), MaxTxnOps)
	}
	return errors.Join(validateOps(t.Then), validateOps(t.Else))
}

func validateOps(ops []Op) error {
	if len(ops) > MaxTxnOps {
		return fmt.Errorf("%w: %d operations, at most %d are allowed", ErrInvalid, len(ops), MaxTxnOps)
	}
	seen := make(map[string]bool, len(ops))
	for _, op := range ops {
		switch {
		case op.Key == "" || len(op.Key) > MaxKeyBytes:
			return fmt.Errorf("%w: key of %d bytes, 1 to %d are allowed", ErrInvalid, len(op.Key), MaxKeyBytes)
		case len(op.Value) > MaxValueBytes:
			return fmt.Errorf("%w: value of %d bytes, at most %d are allowed", ErrInvalid, len(op.Value), MaxValueBytes)
		case seen[op.Key]:
			return fmt.Errorf("%w: key %q stands twice", ErrInvalid, op.Key)
		}
		seen[op.Key] = true
	}
	return nil
}

func encode(kv *KeyValue) []byte {
	b := make([]byte, 0, stampBytes+len(kv.Value))
	for _, n := range []int64{kv.CreateRevision, kv.ModRevision, kv.Version} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return append(b, kv.Value...)
}

func decode(key string, b []byte) (KeyValue, error) {
	if len(b) < stampBytes {
		return KeyValue{}, fmt.Errorf("catalog: record %q is damaged", key)
	}
	number := func(at int) int64 { return int64(binary.BigEndian.Uint64(b[at:])) }
	return KeyValue{
		Key:            key,
		Value:          []byte(string(b[stampBytes:])),
		CreateRevision: number(0),
		ModRevision:    number(8),
		Version:        number(16),
	}, nil
}

// Watch implements Store.
func (l *Local) Watch(prefix string, revision int64) Watcher {
	return &localWatcher{l, prefix, revision}
}

type localWatcher struct {
	l        *Local
	prefix   string
	revision int64 // everything up to it was handed out
}

// Next implements Watcher.
func (w *localWatcher) Next(ctx context.Context) ([]Change, error) {
	for {
		changes, grown, err := w.take(ctx)
		if err != nil || len(changes) > 0 {
			return changes, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-grown:
		}
	}
}

// take returns what there is after w.revision, and what to wait for when there is nothing.
func (w *localWatcher) take(ctx context.Context) ([]Change, <-chan struct{}, error) {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	if err := w.l.usableLocked(ctx); err != nil {
		return nil, nil, err
	}
	if w.revision < w.l.oldest {
		return nil, nil, ErrCompacted
	}
	var changes []Change
	for _, c := range w.l.history {
		if c.ModRevision > w.revision && strings.HasPrefix(c.Key, w.prefix) {
			c.Value = []byte(string(c.Value))
			changes = append(changes, c)
		}
	}
	w.revision = w.l.revision
	return changes, w.l.grown, nil
}

// unlocked is a file system whose locks are its caller's business.
type unlocked struct{ vfs.FS }

// Lock implements vfs.FS.
func (unlocked) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// quietLogger keeps Pebble from writing to standard error and from ending the process.
type quietLogger struct{ l *Local }

func (quietLogger) Infof(string, ...any)  {}
func (quietLogger) Errorf(string, ...any) {}

func (q quietLogger) Fatalf(format string, args ...any) {
	q.l.fail(fmt.Errorf(format, args...))
}
