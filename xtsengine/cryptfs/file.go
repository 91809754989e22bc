package cryptfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/xts"
)

const (
	// unitBytes is the size of a data unit.
	unitBytes = 4096
	// chunkBytes is how much is transferred at once: whole data units.
	chunkBytes = 16 * unitBytes
)

// Misuse of a file.
var (
	errReadOnly = errors.New("cryptfs: file is open for reading only")
	errOffset   = errors.New("cryptfs: offset is out of range")
)

// buffers are what one transfer needs. The filler of the file's end lies behind the last chunk.
type buffers struct {
	stored [chunkBytes + fillerBytes]byte
	plain  [chunkBytes]byte
}

var bufferPool = sync.Pool{New: func() any { return new(buffers) }}

// file is an open file.
type file struct {
	fs       *FS
	base     vfs.File // under inode.mu, for Rewrite changes it
	inode    *inode   // nil for what a crash left of a file that was being created
	writable bool
	appended bool // written at its end only, by who keeps no number of its descriptor
	// size is the logical size as last seen. The one writer's is exact; others look again when
	// they read past it.
	size atomic.Int64
	// pos is where Read and Write go on; one goroutine at a time uses these.
	pos int64
}

var _ vfs.File = (*file)(nil)

// Close implements io.Closer. It does not sync.
func (f *file) Close() error {
	if f.inode != nil {
		f.inode.forget(f)
	}
	err := f.base.Close()
	if f.inode != nil {
		f.fs.release(f.inode)
		f.inode = nil
	}
	return err
}

// Read implements io.Reader.
func (f *file) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > maxBytes {
		return 0, errOffset
	}
	if len(p) == 0 {
		return 0, nil
	}
	if f.inode == nil {
		return 0, io.EOF
	}
	f.inode.mu.RLock()
	defer f.inode.mu.RUnlock()
	size, err := f.sizeForLocked(off, len(p))
	if err != nil {
		return 0, err
	}
	want := int(min(int64(len(p)), max(0, size-off)))
	n, err := f.readLocked(p[:want], off)
	if err == nil && want < len(p) {
		err = io.EOF
	}
	return n, err
}

// sizeForLocked returns the logical size, fresh if a read of n bytes at off goes past it.
func (f *file) sizeForLocked(off int64, n int) (int64, error) {
	size := f.size.Load()
	if f.writable || off <= size && int64(n) <= size-off {
		return size, nil
	}
	info, err := f.base.Stat()
	if err != nil {
		return 0, err
	}
	size = logicalBytes(info.Size())
	f.size.Store(size)
	return size, nil
}

// readLocked fills p from off; all of it lies within the file.
func (f *file) readLocked(p []byte, off int64) (int, error) {
	b := bufferPool.Get().(*buffers)
	defer bufferPool.Put(b)
	done := 0
	for done < len(p) {
		at := off + int64(done)
		from, to := chunkAround(at, len(p)-done)
		plain, err := f.loadBlocks(b, from, to)
		if err != nil {
			return done, err
		}
		done += copy(p[done:], plain[at-from:])
	}
	return done, nil
}

// chunkAround returns the range of whole AES blocks that holds as much of the n bytes at off as one
// transfer may. It reaches at most to the end of a chunk, counted from the start of the file.
func chunkAround(off int64, n int) (from, to int64) {
	from = off - off%aesBytes
	end := off - off%chunkBytes + chunkBytes
	if int64(n) >= end-off {
		return from, end
	}
	return from, roundUp(off + int64(n))
}

// roundUp returns the end of the AES block before off.
func roundUp(off int64) int64 { return (off + aesBytes - 1) / aesBytes * aesBytes }

// loadBlocks reads and decrypts the AES blocks from from to to, at most a chunk. The result lies
// in b.
func (f *file) loadBlocks(b *buffers, from, to int64) ([]byte, error) {
	stored, plain := b.stored[:to-from], b.plain[:to-from]
	if _, err := f.base.ReadAt(stored, headerBytes+from); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("cryptfs: read %d bytes at %d: %w", len(stored), from, err)
	}
	decrypt(f.inode.cipher, plain, stored, from)
	return plain, nil
}

// decrypt decrypts the AES blocks at off of a file. Blocks of zeros are holes.
func decrypt(c *xts.Cipher, plain, stored []byte, off int64) {
	unit, block := xts.UnitOf(uint64(off/unitBytes)), int(off%unitBytes/aesBytes)
	if block > 0 {
		n := min(len(stored), unitBytes-block*aesBytes)
		c.DecryptPart(plain[:n], stored[:n], unit, block)
		unit = unit.Add(1)
		c.Decrypt(plain[n:], stored[n:], unitBytes, unit)
	} else {
		c.Decrypt(plain, stored, unitBytes, unit)
	}
	for i := 0; i < len(stored); i += aesBytes {
		s := stored[i : i+aesBytes]
		if binary.LittleEndian.Uint64(s)|binary.LittleEndian.Uint64(s[8:]) == 0 {
			clear(plain[i : i+aesBytes])
		}
	}
}

// encrypt encrypts the AES blocks at off of a file.
func encrypt(c *xts.Cipher, stored, plain []byte, off int64) {
	unit, block := xts.UnitOf(uint64(off/unitBytes)), int(off%unitBytes/aesBytes)
	if block > 0 {
		n := min(len(plain), unitBytes-block*aesBytes)
		c.EncryptPart(stored[:n], plain[:n], unit, block)
		unit = unit.Add(1)
		plain, stored = plain[n:], stored[n:]
	}
	c.Encrypt(stored, plain, unitBytes, unit)
}

// Write implements io.Writer: it writes at the handle's position, which begins at 0.
func (f *file) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

// WriteAt implements io.WriterAt. Bytes between the end of the file and off read as zeros.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	if !f.writable {
		return 0, errReadOnly
	}
	if off < 0 || off > maxBytes || int64(len(p)) > maxBytes-off {
		return 0, errOffset
	}
	f.inode.mu.Lock()
	defer f.inode.mu.Unlock()
	b := bufferPool.Get().(*buffers)
	defer bufferPool.Put(b)
	done := 0
	for done < len(p) {
		n, err := f.writeChunkLocked(b, p[done:], off+int64(done))
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// writeChunkLocked writes as much of p as one transfer may and returns how much that was.
func (f *file) writeChunkLocked(b *buffers, p []byte, off int64) (int, error) {
	size := f.size.Load()
	from, to := chunkAround(off, len(p))
	n := int(min(int64(len(p)), to-off))
	end := off + int64(n)
	if err := f.keepEdges(b, from, off, end, to, size); err != nil {
		return 0, err
	}
	plain := b.plain[:to-from]
	copy(plain[off-from:], p[:n])
	stored := b.stored[:to-from]
	encrypt(f.inode.cipher, stored, plain, from)
	if end > size {
		stored = b.stored[:end-from+fillerBytes]
		clear(stored[to-from:])
	}
	if _, err := f.base.WriteAt(stored, headerBytes+from); err != nil {
		return 0, fmt.Errorf("cryptfs: write %d bytes at %d: %w", n, off, err)
	}
	f.size.Store(max(size, end))
	return n, nil
}

// keepEdges puts what the first and the last AES block of a write hold around the bytes from off to
// end into b.plain, which stands for the range from from to to. Past the file's size that is zeros.
func (f *file) keepEdges(b *buffers, from, off, end, to, size int64) error {
	keepFirst := off > from && from < size
	keepLast := end < to && end < size
	lastAt := to - aesBytes
	if lastAt == from { // one block is both: it counts as the last
		keepLast = keepLast || keepFirst
		keepFirst = false
	}
	first, err := f.edge(b, from, keepFirst)
	if err != nil {
		return err
	}
	last, err := f.edge(b, lastAt, keepLast)
	if err != nil {
		return err
	}
	copy(b.plain[:], first[:])
	copy(b.plain[lastAt-from:], last[:])
	return nil
}

// edge returns the AES block at off if it is to be kept, zeros if not. It uses b.
func (f *file) edge(b *buffers, off int64, keep bool) (block [aesBytes]byte, err error) {
	if !keep {
		return block, nil
	}
	plain, err := f.loadBlocks(b, off, off+aesBytes)
	if err != nil {
		return block, err
	}
	copy(block[:], plain)
	return block, nil
}

// below calls use with the file below, which stays the same meanwhile.
func (f *file) below(use func(base vfs.File) error) error {
	if f.inode != nil {
		f.inode.mu.RLock()
		defer f.inode.mu.RUnlock()
	}
	return use(f.base)
}

// Preallocate implements vfs.File.
func (f *file) Preallocate(offset, length int64) error {
	return f.below(func(base vfs.File) error { return base.Preallocate(headerBytes+offset, length) })
}

// Stat implements vfs.File: the size is the logical one.
func (f *file) Stat() (info vfs.FileInfo, err error) {
	err = f.below(func(base vfs.File) error {
		info, err = wrapInfo(base.Stat())
		return err
	})
	return info, err
}

// Sync implements vfs.File.
func (f *file) Sync() error { return f.below(vfs.File.Sync) }

// SyncTo implements vfs.File.
func (f *file) SyncTo(length int64) (fullSync bool, err error) {
	err = f.below(func(base vfs.File) error {
		fullSync, err = base.SyncTo(headerBytes + length + fillerBytes)
		return err
	})
	return fullSync, err
}

// SyncData implements vfs.File.
func (f *file) SyncData() error { return f.below(vfs.File.SyncData) }

// Prefetch implements vfs.File.
func (f *file) Prefetch(offset, length int64) error {
	return f.below(func(base vfs.File) error { return base.Prefetch(headerBytes+offset, length) })
}

// Fd implements vfs.File: what it returns is good for advice, not for reading, and Rewrite may end it.
func (f *file) Fd() (fd uintptr) {
	_ = f.below(func(base vfs.File) error { // which can't fail
		fd = base.Fd()
		return nil
	})
	return fd
}
