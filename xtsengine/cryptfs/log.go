package cryptfs

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

const (
	// logCategory is how Pebble asks for the files of its log.
	logCategory vfs.DiskWriteCategory = "pebble-wal"
	// manifestCategory is how it asks for the list of its files.
	manifestCategory vfs.DiskWriteCategory = "pebble-manifest"
	// A log file doubles when it is full, within these bounds of growth in bytes. A sync within what
	// is there already overwrites allocated blocks: it changes neither the size nor the extents of
	// the file below, which saves that file system a commit of its own journal.
	minAheadBytes = 64 << 10
	maxAheadBytes = 1 << 20
)

// zeros is what a log grows by.
var zeros [maxAheadBytes]byte

// logFile is a file of Pebble's log while it is written: bytes are put behind the last ones, and
// nowhere else. What lies behind them is zeros, or noise in a file that is used again.
type logFile struct {
	file
	end    int64          // the logical end of what was written
	stored int64          // the physical size as far as it is known, at least 0
	tail   [aesBytes]byte // what the AES block of end holds before it
	full   bool           // growing failed: the file is as long as what is written
	direct *directLog     // nil: what is written goes through the page cache
}

var _ vfs.File = (*logFile)(nil)

// newLog returns the handle of a log file of stored physical bytes, whose header is that of n.
func (fs *FS) newLog(base vfs.File, n *inode, stored int64) *logFile {
	f := &logFile{file: file{fs: fs, base: base, inode: n, writable: true}, stored: stored}
	f.size.Store(logicalBytes(stored))
	f.direct = openDirect(base, headerBytes)
	n.add(&f.file)
	return f
}

// Close implements io.Closer. It does not sync, and what waits for a sync is not written: a log that is closed
// without one has failed, and its file may be another's by now.
func (f *logFile) Close() error {
	if f.inode == nil {
		return f.file.Close()
	}
	f.inode.mu.Lock()
	d := f.direct
	f.direct = nil
	f.inode.mu.Unlock()
	var err error
	if d != nil {
		err = d.close()
	}
	return errors.Join(err, f.file.Close())
}

// undirect ends the way past the page cache. What waited for it is written.
func (f *logFile) undirect() error {
	f.inode.mu.Lock()
	defer f.inode.mu.Unlock()
	return f.undirectLocked()
}

func (f *logFile) undirectLocked() error {
	d := f.direct
	if d == nil {
		return nil
	}
	f.direct = nil
	err := d.close()
	if d.dirty {
		_, e := f.base.WriteAt(d.mem[:d.n], d.start)
		err = errors.Join(err, e)
	}
	return err
}

// putLocked writes stored bytes at a physical offset.
func (f *logFile) putLocked(stored []byte, off int64) error {
	if f.direct != nil {
		err := f.direct.write(stored, off)
		if !errors.Is(err, unix.EINVAL) {
			return err
		}
		if err := f.undirectLocked(); err != nil {
			return err
		}
	}
	_, err := f.base.WriteAt(stored, off)
	return err
}

// ReadAt implements io.ReaderAt.
func (f *logFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.undirect(); err != nil {
		return 0, err
	}
	return f.file.ReadAt(p, off)
}

// Sync implements vfs.File.
func (f *logFile) Sync() error { return f.sync(f.base.Sync) }

// SyncData implements vfs.File.
func (f *logFile) SyncData() error { return f.sync(f.base.SyncData) }

// SyncTo implements vfs.File: it makes all of the log durable.
func (f *logFile) SyncTo(int64) (fullSync bool, err error) { return true, f.SyncData() }

// sync makes the log durable, by means of a sync of the file where a write past the page cache does not do.
func (f *logFile) sync(whole func() error) error {
	f.inode.mu.Lock()
	defer f.inode.mu.Unlock()
	if f.direct != nil {
		err := f.direct.sync(whole)
		if !errors.Is(err, unix.EINVAL) {
			return err
		}
		if err := f.undirectLocked(); err != nil {
			return err
		}
	}
	return whole()
}

// Write implements io.Writer: it appends.
func (f *logFile) Write(p []byte) (int, error) {
	f.inode.mu.Lock()
	defer f.inode.mu.Unlock()
	if int64(len(p)) > maxBytes-f.end {
		return 0, errOffset
	}
	b := bufferPool.Get().(*buffers)
	defer bufferPool.Put(b)
	done := 0
	for done < len(p) {
		n, err := f.appendLocked(b, p[done:])
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// WriteAt implements io.WriterAt for the end of the log only.
func (f *logFile) WriteAt(p []byte, off int64) (int, error) {
	if off != f.end {
		return 0, errOffset
	}
	return f.Write(p)
}

// appendLocked writes as much of p as one transfer may and returns how much that was.
func (f *logFile) appendLocked(b *buffers, p []byte) (int, error) {
	from, to := chunkAround(f.end, len(p))
	n := int(min(int64(len(p)), to-f.end))
	plain := b.plain[:to-from]
	kept := copy(plain, f.tail[:f.end-from])
	copy(plain[kept:], p[:n])
	clear(plain[kept+n:])
	stored := b.stored[:to-from]
	encrypt(f.inode.cipher, stored, plain, from)
	if f.growLocked(headerBytes + to + fillerBytes); f.full {
		stored = b.stored[:int64(kept+n)+fillerBytes]
		clear(stored[to-from:])
		if err := f.undirectLocked(); err != nil {
			return 0, fmt.Errorf("cryptfs: append %d bytes at %d: %w", n, f.end, err)
		}
	}
	if err := f.putLocked(stored, headerBytes+from); err != nil {
		return 0, fmt.Errorf("cryptfs: append %d bytes at %d: %w", n, f.end, err)
	}
	f.end += int64(n)
	if f.end < to {
		copy(f.tail[:], plain[len(plain)-aesBytes:])
	}
	f.stored = max(f.stored, headerBytes+from+int64(len(stored)))
	f.size.Store(max(f.size.Load(), logicalBytes(f.stored)))
	return n, nil
}

// growLocked makes the file below reach at least to a physical offset, with zeros and a good piece
// further. Where there is no room for that, the log goes on as any file that is appended to.
func (f *logFile) growLocked(to int64) {
	if f.full || to <= f.stored {
		return
	}
	goal := to + min(max(f.stored, minAheadBytes), maxAheadBytes)
	goal -= goal % minAheadBytes
	for f.stored < goal {
		n := min(goal-f.stored, maxAheadBytes)
		if _, err := f.base.WriteAt(zeros[:n], f.stored); err != nil {
			f.full = true
			return
		}
		f.stored += n
	}
	if f.direct != nil {
		f.direct.loose = true // its sync makes the new length durable
	}
}

// Preallocate implements vfs.File: a log grows by itself.
func (*logFile) Preallocate(int64, int64) error { return nil }

// reuse makes a new log of an old one: its blocks stay allocated, under a new salt, so that what was
// in them is noise. The header lies within one sector: a crash leaves the old one, and with it records
// of another log, or the new one, and with it noise. Pebble takes both for an empty log.
func (fs *FS) reuse(oldname, newname string) (vfs.File, error) {
	base, err := fs.base.ReuseForWrite(oldname, newname, logCategory)
	if err != nil {
		return nil, err
	}
	info, err := base.Stat()
	if err == nil {
		var n *inode
		if n, err = fs.initialize(base); err == nil {
			return fs.newLog(base, n, max(headerBytes, info.Size())), nil
		}
	}
	return nil, errors.Join(fmt.Errorf("cryptfs: reuse %s as %s: %w", oldname, newname, err),
		base.Close(), fs.base.Remove(newname))
}
