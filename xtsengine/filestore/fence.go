package filestore

import (
	"errors"
	"io"
	"os"
	"sync"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
)

// errCutOff is what a metadata store gets that was given up.
var errCutOff = errors.New("filestore: this metadata store was given up")

// metaFence stands between Pebble and its files. Once it is cut, no change gets through and the lock
// of the directory is free, so that another start may have the files although goroutines of the failed
// Pebble are still there.
type metaFence struct {
	pebblevfs.FS

	mu   sync.RWMutex // held shared by every change
	cut  bool
	lock io.Closer // nil if there is none
}

// cutOff waits for the changes under way and lets no further one through. It may be called again.
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

// pass does a change if it is still allowed.
func (f *metaFence) pass(change func() error) error {
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

// Create implements vfs.FS.
func (f *metaFence) Create(name string, c pebblevfs.DiskWriteCategory) (pebblevfs.File, error) {
	return f.open(func() (pebblevfs.File, error) { return f.FS.Create(name, c) })
}

// OpenReadWrite implements vfs.FS.
func (f *metaFence) OpenReadWrite(
	name string, c pebblevfs.DiskWriteCategory, opts ...pebblevfs.OpenOption,
) (pebblevfs.File, error) {
	return f.open(func() (pebblevfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

// ReuseForWrite implements vfs.FS.
func (f *metaFence) ReuseForWrite(old, name string, c pebblevfs.DiskWriteCategory) (pebblevfs.File, error) {
	return f.open(func() (pebblevfs.File, error) { return f.FS.ReuseForWrite(old, name, c) })
}

// OpenDir implements vfs.FS. A directory's sync changes nothing that another start would not want.
func (f *metaFence) OpenDir(name string) (pebblevfs.File, error) { return f.FS.OpenDir(name) }

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
