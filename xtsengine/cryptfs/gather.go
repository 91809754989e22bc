package cryptfs

import (
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// gathered are the categories of files that Pebble writes from their beginning to their end, some 4 KiB at a time, and
// reads after that.
var gathered = map[vfs.DiskWriteCategory]bool{
	"pebble-memtable-flush": true, "pebble-compaction": true, "pebble-blob-file-rewrite": true,
}

// chunks are the memory of a gatherFile.
var chunks = sync.Pool{New: func() any { return new([chunkBytes]byte) }}

// gatherFile writes whole chunks: one call to the file below for each, and none to learn what the AES block holds
// that the last write ended in. What it has gathered goes out with the first call that asks for it, and an error of
// that with it.
type gatherFile struct {
	file
	mu   sync.Mutex        // before inode.mu
	mem  *[chunkBytes]byte // nil after Close
	held int               // bytes in mem, which come at pos
}

var _ vfs.File = (*gatherFile)(nil)

// newGather returns the handle of an empty file, whose header is that of n.
func (fs *FS) newGather(base vfs.File, n *inode) *gatherFile {
	g := &gatherFile{file: file{fs: fs, base: base, inode: n, writable: true}, mem: chunks.Get().(*[chunkBytes]byte)}
	n.add(&g.file)
	return g
}

// Write implements io.Writer.
func (g *gatherFile) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	done := 0
	for done < len(p) {
		end := chunkBytes - int(g.pos%chunkBytes) // of the chunk, in mem
		n := copy(g.mem[g.held:end], p[done:])
		g.held, done = g.held+n, done+n
		if g.held < end {
			break
		}
		if err := g.flushLocked(); err != nil {
			return done, err
		}
	}
	return done, nil
}

// flushLocked writes what is gathered. What can't be written stays.
func (g *gatherFile) flushLocked() error {
	n, err := g.file.WriteAt(g.mem[:g.held], g.pos)
	copy(g.mem[:], g.mem[n:g.held])
	g.pos, g.held = g.pos+int64(n), g.held-n
	return err
}

// flush does it.
func (g *gatherFile) flush() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.flushLocked()
}

// Close implements io.Closer.
func (g *gatherFile) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var err error
	if g.mem != nil {
		err = g.flushLocked()
		chunks.Put(g.mem)
		g.mem, g.held = nil, 0
	}
	return errors.Join(err, g.file.Close())
}

// Read implements io.Reader.
func (g *gatherFile) Read(p []byte) (int, error) {
	if err := g.flush(); err != nil {
		return 0, err
	}
	return g.file.Read(p)
}

// ReadAt implements io.ReaderAt.
func (g *gatherFile) ReadAt(p []byte, off int64) (int, error) {
	if err := g.flush(); err != nil {
		return 0, err
	}
	return g.file.ReadAt(p, off)
}

// WriteAt implements io.WriterAt.
func (g *gatherFile) WriteAt(p []byte, off int64) (int, error) {
	if err := g.flush(); err != nil {
		return 0, err
	}
	return g.file.WriteAt(p, off)
}

// Stat implements vfs.File.
func (g *gatherFile) Stat() (vfs.FileInfo, error) {
	if err := g.flush(); err != nil {
		return nil, err
	}
	return g.file.Stat()
}

// Sync implements vfs.File.
func (g *gatherFile) Sync() error { return errors.Join(g.flush(), g.file.Sync()) }

// SyncData implements vfs.File.
func (g *gatherFile) SyncData() error { return errors.Join(g.flush(), g.file.SyncData()) }

// SyncTo implements vfs.File. Pebble asks for what lies well behind the end, which is written.
func (g *gatherFile) SyncTo(length int64) (fullSync bool, err error) {
	g.mu.Lock()
	if length > g.pos {
		err = g.flushLocked()
	}
	g.mu.Unlock()
	if err != nil {
		return false, err
	}
	return g.file.SyncTo(length)
}
