package filestore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// errCutOff is what a metadata store gets that was given up.
var errCutOff = errors.New("filestore: this metadata store was given up")

// metaFence stands between Pebble and its files. With the first failure that Pebble can't cope with, or
// was not told of, the fence is cut: no change gets through any more, so that the files stay as a crash
// at that moment would have left them. A change of files that follows from one that failed could refer
// to what is not there. When the store is closed, the lock of the directory is freed too, so that another
// start may have the files although goroutines of the failed Pebble are still there.
type metaFence struct {
	pebblevfs.FS

	mu   sync.RWMutex // held shared by every change
	cut  bool
	lock io.Closer // nil if there is none

	fail      func(error) error // stops the store
	logBroken atomic.Bool       // nothing more is written to a log

	opening atomic.Bool // Pebble's Open has not returned
	working atomic.Bool // and may have goroutines of its own
	answer  sync.Mutex  // held to change opening, and to fill failure
	failure chan error  // what ended it
}

func newMetaFence(fs pebblevfs.FS, fail func(error) error) *metaFence {
	f := &metaFence{FS: fs, fail: fail, failure: make(chan error, 1)}
	f.opening.Store(true)
	return f
}

// outcome passes on how a call ended. Pebble's Open, when it fails, frees what its own goroutines still
// use, and a fault of theirs would end the process; or it tries for ever. So once it may have goroutines
// it is not told of a failure: the goroutine that met it stays here, and openPebble gives up in its
// place. f.mu is not held.
func (f *metaFence) outcome(err error) error {
	if err == nil || errors.Is(err, os.ErrNotExist) || !f.endsOpening(err) {
		return err
	}
	select {}
}

// endsOpening reports a failure to openPebble, if that has not had Pebble's answer yet.
func (f *metaFence) endsOpening(err error) bool {
	f.answer.Lock()
	defer f.answer.Unlock()
	if !f.opening.Load() || !f.working.Load() {
		return false
	}
	f.reportLocked(err)
	return true
}

// gaveUp reports that a goroutine of Pebble's ends with a failure. Open may wait for that one, for ever.
func (f *metaFence) gaveUp(err error) {
	f.answer.Lock()
	defer f.answer.Unlock()
	if f.opening.Load() {
		f.reportLocked(err)
	}
}

// reportLocked hands openPebble the first failure; f.answer is held.
func (f *metaFence) reportLocked(err error) {
	select {
	case f.failure <- err:
	default:
	}
}

// opened hears Pebble's answer. What failure has then was met before it.
func (f *metaFence) opened(err error) {
	f.answer.Lock()
	defer f.answer.Unlock()
	f.opening.Store(err != nil)
}

// List implements vfs.FS.
func (f *metaFence) List(dir string) ([]string, error) {
	names, err := f.FS.List(dir)
	return names, f.outcome(err)
}

// Stat implements vfs.FS.
func (f *metaFence) Stat(name string) (pebblevfs.FileInfo, error) {
	info, err := f.FS.Stat(name)
	return info, f.outcome(err)
}

// freeze waits for the changes under way and lets no further one through. It may be called again.
func (f *metaFence) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = true
}

// frozen says whether no change gets through any more.
func (f *metaFence) frozen() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.cut
}

// cutOff does what freeze does, and frees the lock of the directory.
func (f *metaFence) cutOff() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = true
	return f.unlockLocked()
}

func (f *metaFence) unlockLocked() error {
	lock := f.lock
	f.lock = nil
	if lock == nil {
		return nil
	}
	return lock.Close()
}

// pass does a change if it is still allowed. A failure takes a while, because Pebble tries again at once.
func (f *metaFence) pass(change func() error) error {
	err := f.tryPass(change)
	if err != nil && !f.opening.Load() {
		time.Sleep(failureTime)
	}
	return f.outcome(err)
}

func (f *metaFence) tryPass(change func() error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.cut {
		return errCutOff
	}
	return change()
}

// fencedLock is the directory's lock as Pebble has it.
type fencedLock struct{ f *metaFence }

// Close gives the lock back, unless cutOff has done so.
func (l fencedLock) Close() error {
	l.f.mu.Lock()
	defer l.f.mu.Unlock()
	return l.f.unlockLocked()
}

// Lock implements vfs.FS.
func (f *metaFence) Lock(name string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cut {
		return nil, errCutOff
	}
	lock, err := f.FS.Lock(name)
	if err != nil {
		return nil, err
	}
	f.lock = lock
	return fencedLock{f}, nil
}

// open passes a file on that will be written.
func (f *metaFence) open(open func() (pebblevfs.File, error)) (pebblevfs.File, error) {
	var file pebblevfs.File
	err := f.pass(func() (err error) {
		file, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return fencedFile{file, f}, nil
}

// Create implements vfs.FS. With the first table or log Pebble's Open has begun to work.
func (f *metaFence) Create(name string, c pebblevfs.DiskWriteCategory) (pebblevfs.File, error) {
	if strings.HasSuffix(name, ".sst") || isLog(name) {
		f.working.Store(true)
	}
	file, err := f.open(func() (pebblevfs.File, error) { return f.FS.Create(name, c) })
	if isLog(name) {
		return f.asLog(file, err)
	}
	if err == nil && strings.HasPrefix(f.PathBase(name), "MANIFEST-") {
		return &manifest{File: file, f: f, dir: f.PathDir(name)}, nil
	}
	return file, err
}

// OpenReadWrite implements vfs.FS.
func (f *metaFence) OpenReadWrite(
	name string, c pebblevfs.DiskWriteCategory, opts ...pebblevfs.OpenOption,
) (pebblevfs.File, error) {
	return f.open(func() (pebblevfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

// ReuseForWrite implements vfs.FS: Pebble has it for logs.
func (f *metaFence) ReuseForWrite(old, name string, c pebblevfs.DiskWriteCategory) (pebblevfs.File, error) {
	return f.asLog(f.open(func() (pebblevfs.File, error) { return f.FS.ReuseForWrite(old, name, c) }))
}

// OpenDir implements vfs.FS.
func (f *metaFence) OpenDir(name string) (pebblevfs.File, error) {
	dir, err := f.open(func() (pebblevfs.File, error) { return f.FS.OpenDir(name) })
	if err != nil {
		return nil, err
	}
	return fencedLog{dir, f}, nil
}

// reuse opens a file anew, as one that is written from its beginning and whose blocks stay; what was in it is gone.
func (f *metaFence) reuse(name string, c pebblevfs.DiskWriteCategory) (pebblevfs.File, error) {
	return f.open(func() (pebblevfs.File, error) { return f.FS.ReuseForWrite(name, name, c) })
}

// Link implements vfs.FS.
func (f *metaFence) Link(old, name string) error {
	return f.pass(func() error { return f.FS.Link(old, name) })
}

// Remove implements vfs.FS.
func (f *metaFence) Remove(name string) error {
	return f.pass(func() error { return f.FS.Remove(name) })
}

// RemoveAll implements vfs.FS.
func (f *metaFence) RemoveAll(name string) error {
	return f.pass(func() error { return f.FS.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (f *metaFence) Rename(old, name string) error {
	return f.pass(func() error { return f.FS.Rename(old, name) })
}

// MkdirAll implements vfs.FS.
func (f *metaFence) MkdirAll(dir string, perm os.FileMode) error {
	return f.pass(func() error { return f.FS.MkdirAll(dir, perm) })
}

// Unwrap implements vfs.FS.
func (f *metaFence) Unwrap() pebblevfs.FS { return f.FS }

// fencedFile is a file that is written through the fence.
type fencedFile struct {
	pebblevfs.File
	f *metaFence
}

// Write implements io.Writer.
func (f fencedFile) Write(p []byte) (n int, err error) {
	err = f.f.pass(func() (err error) {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

// WriteAt implements io.WriterAt.
func (f fencedFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.f.pass(func() (err error) {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
}

// Preallocate implements vfs.File.
func (f fencedFile) Preallocate(off, length int64) error {
	return f.f.pass(func() error { return f.File.Preallocate(off, length) })
}

// Sync implements vfs.File.
func (f fencedFile) Sync() error { return f.f.pass(f.File.Sync) }

// SyncData implements vfs.File.
func (f fencedFile) SyncData() error { return f.f.pass(f.File.SyncData) }

// SyncTo implements vfs.File.
func (f fencedFile) SyncTo(length int64) (full bool, err error) {
	err = f.f.pass(func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

// manifest is a new list of Pebble's files. Pebble makes its name durable together with that of the marker that
// chooses it, in one sync of their directory: after a loss of power before that, or after one that failed, the
// marker alone may be there. So the name is durable with the first sync of the content, before there is a marker.
type manifest struct {
	pebblevfs.File // a fencedFile
	f              *metaFence
	dir            string
	named          bool
}

// Sync implements vfs.File.
func (m *manifest) Sync() error { return m.sync(m.File.Sync) }

// SyncData implements vfs.File.
func (m *manifest) SyncData() error { return m.sync(m.File.SyncData) }

func (m *manifest) sync(content func() error) error {
	if err := content(); err != nil || m.named {
		return err
	}
	err := m.f.pass(func() error { return syncDir(m.f.FS, m.dir) })
	m.named = err == nil
	return err
}

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// fencedLog is a file of Pebble's log, or a directory. Pebble ends the process when it can't change from
// one log to the next. So it is not told of failures here: the store stops, and nothing more is written
// to any log, where it would stand behind a gap, nor to any other file: what is stored next could refer
// to a file whose name was never made durable. Who waits for the log finds the store stopped.
type fencedLog struct {
	pebblevfs.File
	f *metaFence
}

// asLog takes a new log, or what came instead.
func (f *metaFence) asLog(file pebblevfs.File, err error) (pebblevfs.File, error) {
	if err == nil {
		return fencedLog{file, f}, nil
	}
	if f.opening.Load() {
		return nil, err
	}
	f.breakLog(err)
	if file, err = noLog(); err != nil {
		return nil, err
	}
	return fencedLog{file, f}, nil
}

func (f *metaFence) breakLog(err error) {
	f.logBroken.Store(true)
	f.freeze()
	_ = f.fail(fmt.Errorf("%w: metadata log: %w", vfs.ErrIO, err))
}

// guard does something to the log, if it is whole.
func (l fencedLog) guard(do func() error) error {
	if l.f.logBroken.Load() {
		return nil
	}
	err := do()
	if err == nil || l.f.opening.Load() {
		return err
	}
	l.f.breakLog(err)
	return nil
}

// Write implements io.Writer.
func (l fencedLog) Write(p []byte) (int, error) {
	err := l.guard(func() error {
		_, err := l.File.Write(p)
		return err
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// Sync implements vfs.File.
func (l fencedLog) Sync() error { return l.guard(l.File.Sync) }

// SyncData implements vfs.File.
func (l fencedLog) SyncData() error { return l.guard(l.File.SyncData) }

// SyncTo implements vfs.File.
func (l fencedLog) SyncTo(length int64) (full bool, err error) {
	err = l.guard(func() (err error) {
		full, err = l.File.SyncTo(length)
		return err
	})
	return full, err
}

// Stat implements vfs.File: Pebble asks for the length of a log that it uses again.
func (l fencedLog) Stat() (info pebblevfs.FileInfo, err error) {
	err = l.guard(func() error {
		got, err := l.File.Stat()
		if err == nil {
			info = got
		}
		return err
	})
	if err != nil || info != nil {
		return info, err
	}
	nothing, err := noLog()
	if err != nil {
		return nil, err
	}
	return nothing.Stat()
}

// noLog is what a broken log is to Pebble.
func noLog() (pebblevfs.File, error) {
	return pebblevfs.NewMem().Create("log", pebblevfs.WriteCategoryUnspecified)
}

// Close implements io.Closer.
func (l fencedLog) Close() error {
	if err := l.File.Close(); err != nil && !l.f.opening.Load() {
		l.f.breakLog(err)
	}
	return nil
}
