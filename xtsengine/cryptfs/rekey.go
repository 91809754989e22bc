package cryptfs

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// errBusy says that a file can't be written anew yet, because it is being written.
var errBusy = errors.New("cryptfs: the file is being written")

// fileKeys is a metadata key and what headers are checked with.
type fileKeys struct {
	key   *keyring.DataKey
	check checkKey
}

func newFileKeys(key *keyring.DataKey) (*fileKeys, error) {
	b, err := derive(key, nil, checkKeyInfo, len(checkKey{}))
	if err != nil {
		return nil, err
	}
	defer clear(b)
	return &fileKeys{key, checkKey(b)}, nil
}

// keyPair is the key that files are made under and, if it is not nil, the one that older files may be
// under.
type keyPair struct{ present, retired *fileKeys }

// decode reads the first usedBytes of a header, and says which key the file is under.
func (p *keyPair) decode(h []byte) (fileSalt, *fileKeys, error) {
	salt, err := decodeHeader(h, &p.present.check)
	if err == nil {
		return salt, p.present, nil
	}
	if p.retired != nil && errors.Is(err, ErrWrongKey) {
		if salt, err := decodeHeader(h, &p.retired.check); err == nil {
			return salt, p.retired, nil
		}
	}
	return salt, nil, err
}

// Rekey lets files be made under another key from now on. Those that are there stay under theirs, which is
// retired, until Rewrite. The caller keeps both keys, which must stay open: the retired one until
// EndRekey.
func (fs *FS) Rekey(key *keyring.DataKey) error {
	next, err := newFileKeys(key)
	if err != nil {
		return err
	}
	fs.naming.Lock()
	defer fs.naming.Unlock()
	p := fs.keys.Load()
	if p.retired != nil {
		return errors.New("cryptfs: a key is retired already")
	}
	fs.keys.Store(&keyPair{next, p.present})
	return nil
}

// NewRekeyed is New for files of which some may still be under a retired key.
func NewRekeyed(base vfs.FS, key, retired *keyring.DataKey) (*FS, error) {
	fs, err := New(base, retired)
	if err == nil {
		err = fs.Rekey(key)
	}
	if err != nil {
		return nil, err
	}
	return fs, nil
}

// EndRekey ends the use of the retired key. What is under it can't be opened any more; handles that are
// open live on.
func (fs *FS) EndRekey() {
	fs.naming.Lock()
	defer fs.naming.Unlock()
	fs.keys.Store(&keyPair{present: fs.keys.Load().present})
}

// Retired says whether a file is under the retired key, and how many bytes it has. A file that is not there
// is not.
func (fs *FS) Retired(name string) (retired bool, bytes int64, err error) {
	fs.naming.RLock()
	defer fs.naming.RUnlock()
	base, _, keys, err := fs.look(name)
	if errors.Is(err, os.ErrNotExist) || (err == nil && base == nil) {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	info, err := base.Stat()
	if err = errors.Join(err, base.Close()); err != nil {
		return false, 0, fmt.Errorf("cryptfs: %s: %w", name, err)
	}
	return keys != nil && keys == fs.keys.Load().retired, info.Size(), nil
}

// look opens a file and reads its header; base is nil for what has none: a directory. naming is held.
func (fs *FS) look(name string) (base vfs.File, salt fileSalt, keys *fileKeys, err error) {
	if base, err = fs.base.Open(name); err != nil {
		return nil, salt, nil, err
	}
	info, err := base.Stat()
	if err == nil && !isContent(info) {
		return nil, salt, nil, base.Close()
	}
	if err == nil {
		salt, keys, err = fs.readHeader(base, info.Size())
	}
	if err != nil {
		return nil, salt, nil, errors.Join(fmt.Errorf("cryptfs: %s: %w", name, err), base.Close())
	}
	return base, salt, keys, nil
}

// Rewrite has a file that is under the retired key be under the present one: its content is written to the
// file temporary, in the same file system, which then takes its name, durably. A crash leaves the one file
// or the other, whole, and perhaps the temporary one. Handles that are open go on with the new file. A file
// that is not there, or not under the retired key, is left as it is.
//
// What is being written can't be written anew: then done is false, and it is to be tried again; but of
// Pebble's list of its files the writer waits meanwhile. After an error with done set it is unknown which of
// the two files would have the name after a crash: nothing may rely any more on what is written to it. One
// call at a time.
func (fs *FS) Rewrite(name, temporary string) (done bool, err error) {
	r := rewrite{fs: fs, name: name, temporary: temporary}
	ok, err := r.begin()
	if err == nil && ok {
		err = r.run()
	}
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, errBusy):
		return false, nil
	}
	return r.renamed, fmt.Errorf("cryptfs: rewriting %s: %w", name, err)
}

// rewrite is one Rewrite.
type rewrite struct {
	fs              *FS
	name, temporary string

	from, to *file
	renamed  bool // the new file has the name
}

// begin opens the file, and says whether it is to be written anew.
func (r *rewrite) begin() (bool, error) {
	fs := r.fs
	fs.naming.RLock()
	defer fs.naming.RUnlock()
	base, salt, keys, err := fs.look(r.name)
	if errors.Is(err, os.ErrNotExist) || (err == nil && base == nil) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if keys == nil || keys != fs.keys.Load().retired {
		return false, base.Close()
	}
	n, err := fs.acquire(salt, keys)
	if err != nil {
		return false, errors.Join(err, base.Close())
	}
	r.from = &file{fs: fs, base: base, inode: n}
	n.add(r.from)
	return true, nil
}

// run does it, and lets go of both files.
func (r *rewrite) run() error {
	err := r.copyAndSwitch()
	if r.to != nil {
		err = errors.Join(err, r.to.Close())
	}
	return errors.Join(err, r.from.Close())
}

func (r *rewrite) copyAndSwitch() error {
	appended, busy := r.writers()
	if busy {
		return errBusy
	}
	to, err := r.fs.Create(r.temporary, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	r.to = to.(*file)
	if !appended { // nobody changes it: others may read it until it is copied
		if err := r.copy(); err != nil {
			return err
		}
	}
	return r.switchOver(appended)
}

// writers says whether the file is being written: appended to, by who may wait, or in another way.
func (r *rewrite) writers() (appended, busy bool) {
	n := r.from.inode
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.written()
}

// written is writers for who holds mu.
func (n *inode) written() (appended, busy bool) {
	for f := range n.handles {
		appended = appended || f.appended
		busy = busy || (f.writable && !f.appended)
	}
	return appended, busy
}

// copy copies the content, durably.
func (r *rewrite) copy() error {
	r.from.inode.mu.RLock()
	defer r.from.inode.mu.RUnlock()
	return r.copyLocked()
}

// copyLocked is copy for who holds mu of the file.
func (r *rewrite) copyLocked() error {
	info, err := r.from.base.Stat()
	if err != nil {
		return err
	}
	size := logicalBytes(info.Size())
	p := make([]byte, min(size, chunkBytes))
	defer clear(p)
	for at := int64(0); at < size; at += int64(len(p)) {
		p = p[:min(size-at, int64(len(p)))]
		if _, err := r.from.readLocked(p, at); err != nil {
			return err
		}
		if _, err := r.to.WriteAt(p, at); err != nil {
			return err
		}
	}
	return r.to.Sync()
}

// switchOver gives the new file the name of the old one, and to its handles.
func (r *rewrite) switchOver(appended bool) error {
	fs, n := r.fs, r.from.inode
	fs.naming.Lock()
	defer fs.naming.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if still, err := r.sameFile(); err != nil || !still {
		return errors.Join(err, fs.base.Remove(r.temporary))
	}
	if now, busy := n.written(); busy || now != appended {
		return errBusy
	}
	if appended {
		if err := r.copyLocked(); err != nil {
			return err
		}
	}
	bases, err := r.reopen()
	if err == nil {
		err = fs.base.Rename(r.temporary, r.name)
	}
	if err != nil {
		return errors.Join(err, closeAll(bases))
	}
	r.renamed = true
	var closing []error
	for f, base := range bases {
		closing = append(closing, f.base.Close())
		f.base = base
	}
	fs.exchange(n, r.to.inode)
	return errors.Join(errors.Join(closing...), fs.syncDirOf(r.name))
}

// syncDirOf makes the names in a file's directory durable.
func (fs *FS) syncDirOf(name string) error {
	dir, err := fs.base.OpenDir(fs.base.PathDir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// sameFile says whether the name still stands for the file that was copied.
func (r *rewrite) sameFile() (bool, error) {
	base, salt, _, err := r.fs.look(r.name)
	if errors.Is(err, os.ErrNotExist) || (err == nil && base == nil) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	r.fs.mu.Lock()
	defer r.fs.mu.Unlock()
	return salt == r.from.inode.salt, base.Close()
}

// reopen opens the new file once for each handle of the old one.
func (r *rewrite) reopen() (map[*file]vfs.File, error) {
	bases := map[*file]vfs.File{}
	for f := range r.from.inode.handles {
		var base vfs.File
		var err error
		if f.writable {
			base, err = r.fs.base.OpenReadWrite(r.temporary, manifestCategory)
		} else {
			base, err = r.fs.base.Open(r.temporary)
		}
		if err != nil {
			return nil, errors.Join(err, closeAll(bases))
		}
		bases[f] = base
	}
	return bases, nil
}

func closeAll[K comparable, C io.Closer](list map[K]C) error {
	var errs []error
	for _, c := range list {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// exchange lets n, whose mu is held, stand for the file of other, and other for the one of n, which has no
// name any more.
func (fs *FS) exchange(n, other *inode) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n.salt, other.salt = other.salt, n.salt
	n.keys, other.keys = other.keys, n.keys
	n.cipher, other.cipher = other.cipher, n.cipher
	fs.inodes[n.salt], fs.inodes[other.salt] = n, other
}

// RetiredIn lists the files of directories that are under the retired key, and counts their bytes. A file
// that goes meanwhile is not listed.
func (fs *FS) RetiredIn(dirs ...string) (names []string, bytes int64, err error) {
	for _, dir := range dirs {
		list, err := fs.List(dir)
		if err != nil {
			return nil, 0, fmt.Errorf("cryptfs: %w", err)
		}
		for _, name := range list {
			path := fs.PathJoin(dir, name)
			retired, size, err := fs.Retired(path)
			if err != nil {
				return nil, 0, err
			}
			if retired {
				names, bytes = append(names, path), bytes+size
			}
		}
	}
	return names, bytes, nil
}
