package crashfs

import (
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS does each change of the file system that it holds within Step: every write, sync, and change of a name.
// Reads, and what is not stored (locks), are not told of.
type FS struct {
	vfs.FS
	// Step does change, once, and returns its error. It may be called concurrently.
	Step func(change func() error) error
	// BeforeSync is called before each sync, outside Step. May be nil.
	BeforeSync func()
}

var _ vfs.FS = FS{}

// wrap opens a file in a step.
func (fs FS) wrap(open func() (vfs.File, error)) (f vfs.File, err error) {
	err = fs.Step(func() (err error) {
		f, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return file{f, &fs}, nil
}

// Create implements vfs.FS.
func (fs FS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.wrap(func() (vfs.File, error) { return fs.FS.Create(name, c) })
}

// OpenReadWrite implements vfs.FS.
func (fs FS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return fs.wrap(func() (vfs.File, error) { return fs.FS.OpenReadWrite(name, c, o...) })
}

// OpenDir implements vfs.FS: the directory's Sync is a step.
func (fs FS) OpenDir(name string) (vfs.File, error) {
	f, err := fs.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return file{f, &fs}, nil
}

// ReuseForWrite implements vfs.FS.
func (fs FS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.wrap(func() (vfs.File, error) { return fs.FS.ReuseForWrite(old, name, c) })
}

// Link implements vfs.FS.
func (fs FS) Link(old, name string) error {
	return fs.Step(func() error { return fs.FS.Link(old, name) })
}

// Remove implements vfs.FS.
func (fs FS) Remove(name string) error { return fs.Step(func() error { return fs.FS.Remove(name) }) }

// RemoveAll implements vfs.FS.
func (fs FS) RemoveAll(name string) error {
	return fs.Step(func() error { return fs.FS.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (fs FS) Rename(old, name string) error {
	return fs.Step(func() error { return fs.FS.Rename(old, name) })
}

// MkdirAll implements vfs.FS.
func (fs FS) MkdirAll(dir string, perm os.FileMode) error {
	return fs.Step(func() error { return fs.FS.MkdirAll(dir, perm) })
}

// Lock implements vfs.FS.
func (fs FS) Lock(name string) (io.Closer, error) { return fs.FS.Lock(name) }

// Unwrap implements vfs.FS.
func (fs FS) Unwrap() vfs.FS { return fs.FS }

type file struct {
	vfs.File
	fs *FS
}

// Write implements io.Writer.
func (f file) Write(p []byte) (n int, err error) {
	err = f.fs.Step(func() (err error) {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

// WriteAt implements io.WriterAt.
func (f file) WriteAt(p []byte, at int64) (n int, err error) {
	err = f.fs.Step(func() (err error) {
		n, err = f.File.WriteAt(p, at)
		return err
	})
	return n, err
}

// Sync implements vfs.File.
func (f file) Sync() error { return f.sync(f.File.Sync) }

// SyncData implements vfs.File.
func (f file) SyncData() error { return f.sync(f.File.SyncData) }

// SyncTo implements vfs.File.
func (f file) SyncTo(length int64) (full bool, err error) {
	err = f.sync(func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

func (f file) sync(change func() error) error {
	if f.fs.BeforeSync != nil {
		f.fs.BeforeSync()
	}
	return f.fs.Step(change)
}
