package cryptfs

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// FS encrypts what is stored in another file system. It implements vfs.FS of Pebble.
type FS struct {
	base vfs.FS
	// keys changes under naming, held alone.
	keys atomic.Pointer[keyPair]

	// naming is held shared while names change or are opened, and alone while Rewrite puts one file in the
	// place of another. It comes before every inode.mu.
	naming sync.RWMutex

	mu     sync.Mutex
	inodes map[fileSalt]*inode // those of open files
}

var _ vfs.FS = (*FS)(nil)

// New returns a file system that keeps its files, encrypted, in base. base must support WriteAt on
// the files that it creates, as vfs.Default and vfs.MemFS do. The caller keeps key, which must stay
// open as long as files are created or opened; an open file does not need it.
func New(base vfs.FS, key *keyring.DataKey) (*FS, error) {
	present, err := newFileKeys(key)
	if err != nil {
		return nil, err
	}
	fs := &FS{base: base, inodes: make(map[fileSalt]*inode)}
	fs.keys.Store(&keyPair{present: present})
	return fs, nil
}

// String implements fmt.Stringer without the keys.
func (*FS) String() string { return "cryptfs.FS" }

// GoString implements fmt.GoStringer without the keys.
func (fs *FS) GoString() string { return fs.String() }

// Format implements fmt.Formatter without the keys, whatever the verb.
func (fs *FS) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, fs.String()) }

// MarshalJSON implements json.Marshaler without the keys.
func (fs *FS) MarshalJSON() ([]byte, error) { return []byte(`"` + fs.String() + `"`), nil }

// Create implements vfs.FS. The file's header is durable on return, and the name of a list of Pebble's files too:
// Pebble makes another file next whose name says which list is in force, and syncs the directory after that
// alone, so that a disk that is free to reorder names could keep the second and lose the first.
func (fs *FS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	fs.naming.RLock()
	defer fs.naming.RUnlock()
	return fs.create(name, category)
}

// create does it; naming is held.
func (fs *FS) create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	base, err := fs.base.Create(name, category)
	if err != nil {
		return nil, err
	}
	n, err := fs.initialize(base)
	if err == nil && category == manifestCategory {
		if err = fs.syncDir(fs.base.PathDir(name)); err != nil {
			fs.release(n)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cryptfs: create %s: %w", name, err),
			base.Close(), fs.base.Remove(name))
	}
	switch {
	case category == logCategory:
		return fs.newLog(base, n, headerBytes), nil
	case gathered[category]:
		return fs.newGather(base, n), nil
	}
	f := &file{fs: fs, base: base, inode: n, writable: true, appended: category == manifestCategory}
	n.add(f)
	return f, nil
}

// syncDir makes the names in a directory durable.
func (fs *FS) syncDir(dir string) error {
	d, err := fs.base.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// initialize gives an empty file its header.
func (fs *FS) initialize(base vfs.File) (*inode, error) {
	var salt fileSalt
	_, _ = rand.Read(salt[:]) // never fails
	keys := fs.keys.Load().present
	n, err := fs.acquire(salt, keys)
	if err != nil {
		return nil, err
	}
	header := make([]byte, headerBytes)
	encodeHeader(header, &salt, &keys.check)
	if _, err = base.WriteAt(header, 0); err == nil {
		err = base.Sync()
	}
	if err != nil {
		fs.release(n)
		return nil, err
	}
	return n, nil
}

// Open implements vfs.FS.
func (fs *FS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	fs.naming.RLock()
	defer fs.naming.RUnlock()
	base, err := fs.base.Open(name)
	if err != nil {
		return nil, err
	}
	return fs.wrap(name, base, false, opts)
}

// OpenReadWrite implements vfs.FS. A file that is not there is created, durably.
func (fs *FS) OpenReadWrite(
	name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption,
) (vfs.File, error) {
	fs.naming.RLock()
	defer fs.naming.RUnlock()
	base, err := fs.base.OpenReadWrite(name, category)
	if err != nil {
		return nil, err
	}
	return fs.wrap(name, base, true, opts)
}

// wrap takes over base, an open file or directory.
func (fs *FS) wrap(name string, base vfs.File, write bool, opts []vfs.OpenOption) (vfs.File, error) {
	f, err := fs.load(base, write)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cryptfs: open %s: %w", name, err), base.Close())
	}
	for _, o := range opts {
		o.Apply(f)
	}
	return f, nil
}

// load reads the header of base.
func (fs *FS) load(base vfs.File, write bool) (vfs.File, error) {
	info, err := base.Stat()
	if err != nil {
		return nil, err
	}
	if !isContent(info) {
		return base, nil
	}
	f := &file{fs: fs, base: base, writable: write}
	salt, keys, err := fs.readHeader(base, info.Size())
	switch {
	case err != nil:
	case keys != nil:
		f.inode, err = fs.acquire(salt, keys)
	case write:
		f.inode, err = fs.initialize(base)
	}
	if err != nil {
		return nil, err
	}
	f.size.Store(logicalBytes(info.Size()))
	if f.inode != nil {
		f.inode.add(f)
	}
	return f, nil
}

// readHeader returns the salt of a file of size physical bytes, and the key that it is under. A file that a
// crash during its creation left has none: then keys is nil.
func (fs *FS) readHeader(base vfs.File, size int64) (salt fileSalt, keys *fileKeys, err error) {
	if size == 0 {
		return salt, nil, nil
	}
	if size < headerBytes {
		return salt, nil, fmt.Errorf("%w: %d bytes are less than a header", ErrFormat, size)
	}
	var h [usedBytes]byte
	if _, err := base.ReadAt(h[:], 0); err != nil {
		return salt, nil, fmt.Errorf("read header: %w", err)
	}
	if size == headerBytes && isZero(h[:]) {
		return salt, nil, nil
	}
	return fs.keys.Load().decode(h[:])
}

// ReuseForWrite implements vfs.FS. The blocks of a log are used again, under a new key; other files
// are made anew. Nobody else may have the old file open.
func (fs *FS) ReuseForWrite(
	oldname, newname string, category vfs.DiskWriteCategory,
) (vfs.File, error) {
	fs.naming.RLock()
	defer fs.naming.RUnlock()
	if category == logCategory {
		return fs.reuse(oldname, newname)
	}
	if err := fs.base.Remove(oldname); err != nil {
		return nil, err
	}
	return fs.create(newname, category)
}

// Stat implements vfs.FS: the size is the logical one.
func (fs *FS) Stat(name string) (vfs.FileInfo, error) {
	return wrapInfo(fs.base.Stat(name))
}

// Link implements vfs.FS.
func (fs *FS) Link(oldname, newname string) error {
	fs.naming.RLock()
	defer fs.naming.RUnlock()
	return fs.base.Link(oldname, newname)
}

// OpenDir implements vfs.FS.
func (fs *FS) OpenDir(name string) (vfs.File, error) { return fs.base.OpenDir(name) }

// Remove implements vfs.FS.
func (fs *FS) Remove(name string) error {
	fs.naming.RLock()
	defer fs.naming.RUnlock()
	return fs.base.Remove(name)
}

// RemoveAll implements vfs.FS.
func (fs *FS) RemoveAll(name string) error {
	fs.naming.RLock()
	defer fs.naming.RUnlock()
	return fs.base.RemoveAll(name)
}

// Rename implements vfs.FS.
func (fs *FS) Rename(oldname, newname string) error {
	fs.naming.RLock()
	defer fs.naming.RUnlock()
	return fs.base.Rename(oldname, newname)
}

// MkdirAll implements vfs.FS.
func (fs *FS) MkdirAll(dir string, perm os.FileMode) error { return fs.base.MkdirAll(dir, perm) }

// Lock implements vfs.FS. A lock file has no content and so no header.
func (fs *FS) Lock(name string) (io.Closer, error) { return fs.base.Lock(name) }

// List implements vfs.FS.
func (fs *FS) List(dir string) ([]string, error) { return fs.base.List(dir) }

// PathBase implements vfs.FS.
func (fs *FS) PathBase(path string) string { return fs.base.PathBase(path) }

// PathJoin implements vfs.FS.
func (fs *FS) PathJoin(elem ...string) string { return fs.base.PathJoin(elem...) }

// PathDir implements vfs.FS.
func (fs *FS) PathDir(path string) string { return fs.base.PathDir(path) }

// GetDiskUsage implements vfs.FS.
func (fs *FS) GetDiskUsage(path string) (vfs.DiskUsage, error) { return fs.base.GetDiskUsage(path) }

// Unwrap implements vfs.FS.
func (fs *FS) Unwrap() vfs.FS { return fs.base }
