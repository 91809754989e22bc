package memvfs

import (
	"context"
	"fmt"
	"sync"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

var _ vfs.FileSystem = (*FS)(nil)

// FS is a file system in memory.
type FS struct {
	opts Options
	root vfs.FileID

	mu        sync.Mutex
	closed    bool
	nodes     map[uint64]*node
	nextInode uint64
	change    uint64
	usedBlks  uint64 // what files have and reserve
	metered   uint64 // bytes that metadata count
	clients   map[string][]byte
	marks     map[string][]byte
}

// node is a file.
type node struct {
	attr     vfs.Attr
	verifier [8]byte
	target   string
	holds    int
	blocks   map[uint64]*[blockBytes]byte // of a regular file; what is missing is a hole
	reserved spans                        // blocks that it has no content for; none is in blocks
	xattrs   map[string]*xattr
	dir      *directory // of a directory
}

// New makes an empty file system.
func New(o Options) (*FS, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	fs := &FS{opts: o, nodes: map[uint64]*node{}, nextInode: 1, clients: map[string][]byte{},
		marks: map[string][]byte{}}
	now := fs.now()
	root := fs.newNode(vfs.Attr{Kind: vfs.Directory, Mode: o.RootMode, Links: 2, Size: vfs.DirectoryBytes,
		ATime: now, MTime: now, CTime: now, BTime: now}, vfs.FileID{})
	fs.root = root.attr.ID
	return fs, nil
}

// Close ends the file system: every later call fails with vfs.ErrClosed.
func (fs *FS) Close() error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.closed = true
	return nil
}

func (fs *FS) now() vfs.Time { return vfs.TimeOf(fs.opts.Now()) }

// newNode gives attr an identity and a change value and keeps it as a file.
func (fs *FS) newNode(attr vfs.Attr, parent vfs.FileID) *node {
	n := &node{attr: attr}
	n.attr.ID = vfs.FileID{Inode: fs.nextInode, Generation: 1}
	fs.nextInode++
	n.attr.Change = fs.nextChange()
	if attr.Kind == vfs.Directory {
		n.dir = newDirectory(parent)
	}
	fs.nodes[n.attr.ID.Inode] = n
	fs.metered += n.meteredFile()
	return n
}

// meteredFile is what n counts without names and extended attributes.
func (n *node) meteredFile() uint64 {
	if n.attr.Kind == vfs.Symlink {
		return vfs.MeteredFile(int(n.attr.Size))
	}
	return vfs.MeteredFile(0)
}

// used is how many blocks n has.
func (n *node) used() uint64 { return uint64(len(n.blocks)) + n.reserved.count() }

// checkQuota says whether so many bytes more may be metered.
func (fs *FS) checkQuota(more uint64) error {
	if q := fs.opts.QuotaBytes; q != 0 && more > 0 && fs.usedBlks*blockBytes+fs.metered+more > q {
		return vfs.ErrQuota
	}
	return nil
}

// SetQuota sets Options.QuotaBytes.
func (fs *FS) SetQuota(quotaBytes uint64) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.closed {
		return vfs.ErrClosed
	}
	fs.opts.QuotaBytes = quotaBytes
	return nil
}

func (fs *FS) nextChange() uint64 {
	fs.change++
	return fs.change
}

// touch records that n's attributes changed, and with content its content too.
func (fs *FS) touch(n *node, content bool) {
	now := fs.now()
	n.attr.CTime = now
	if content {
		n.attr.MTime = now
	}
	n.attr.Change = fs.nextChange()
}

// enter takes the lock; the caller unlocks, whatever it returns.
func (fs *FS) enter(ctx context.Context) error {
	fs.mu.Lock()
	if fs.closed {
		return vfs.ErrClosed
	}
	return ctx.Err()
}

func (fs *FS) lookupID(id vfs.FileID) (*node, error) {
	n := fs.nodes[id.Inode]
	if n == nil || n.attr.ID != id {
		return nil, fmt.Errorf("memvfs: inode %d: %w", id.Inode, vfs.ErrStale)
	}
	return n, nil
}

// lookupDir finds a directory that cred may use as want says.
func (fs *FS) lookupDir(id vfs.FileID, cred *vfs.Cred, want vfs.Access) (*node, error) {
	n, err := fs.lookupID(id)
	switch {
	case err != nil:
		return nil, err
	case n.dir == nil:
		return nil, vfs.ErrNotDir
	case !vfs.Permitted(&n.attr, cred, want):
		return nil, vfs.ErrAccess
	}
	return n, nil
}

// release frees n if it has neither a name nor a holder.
func (fs *FS) release(n *node) {
	if n.attr.Links > 0 || n.holds > 0 {
		return
	}
	fs.usedBlks -= n.used()
	fs.metered -= n.meteredFile()
	for name, x := range n.xattrs {
		fs.metered -= vfs.MeteredXattr(name, len(x.value))
	}
	delete(fs.nodes, n.attr.ID.Inode)
}

// Root implements vfs.FileSystem.
func (fs *FS) Root() vfs.FileID { return fs.root }

// WriteVerifier implements vfs.FileSystem.
func (fs *FS) WriteVerifier() [8]byte { return fs.opts.Verifier }

// StatFS implements vfs.FileSystem.
func (fs *FS) StatFS(ctx context.Context, out *vfs.StatFS) error {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return err
	}
	used := fs.usedBlks * blockBytes
	free := uint64(0)
	if used < fs.opts.MaxBytes {
		free = fs.opts.MaxBytes - used
	}
	*out = vfs.StatFS{TotalBytes: fs.opts.MaxBytes, FreeBytes: free, AvailBytes: free, UsedBytes: used,
		TotalFiles: fs.opts.MaxFiles, FreeFiles: fs.opts.MaxFiles - uint64(len(fs.nodes)),
		QuotaBytes: fs.opts.QuotaBytes, MeteredDataBytes: used, MeteredMetadataBytes: fs.metered}
	out.ApplyQuota()
	return nil
}

// GetAttr implements vfs.FileSystem.
func (fs *FS) GetAttr(ctx context.Context, id vfs.FileID, out *vfs.Attr) error {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return err
	}
	n, err := fs.lookupID(id)
	if err != nil {
		return err
	}
	n.fill(out)
	return nil
}

// fill copies n's attributes.
func (n *node) fill(out *vfs.Attr) {
	*out = n.attr
	out.Used = n.used() * blockBytes
}

// SetAttr implements vfs.FileSystem.
func (fs *FS) SetAttr(ctx context.Context, cred *vfs.Cred, id vfs.FileID, set *vfs.SetAttr, out *vfs.Attr) error {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return err
	}
	n, err := fs.lookupID(id)
	if err != nil {
		return err
	}
	oldSize := n.attr.Size
	if err := set.Apply(&n.attr, cred, fs.now()); err != nil {
		return err
	}
	if n.attr.Size < oldSize {
		fs.shrink(n)
	}
	if set.Mask != 0 {
		n.attr.Change = fs.nextChange()
	}
	n.fill(out)
	return nil
}

// Hold implements vfs.FileSystem.
func (fs *FS) Hold(id vfs.FileID) error {
	defer fs.mu.Unlock()
	if err := fs.enter(context.Background()); err != nil {
		return err
	}
	n, err := fs.lookupID(id)
	if err != nil {
		return err
	}
	n.holds++
	return nil
}

// Drop implements vfs.FileSystem.
func (fs *FS) Drop(id vfs.FileID) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n, err := fs.lookupID(id)
	if err != nil || n.holds == 0 {
		return
	}
	n.holds--
	fs.release(n)
}

// EndRecovery implements vfs.FileSystem. A file system in memory has no former life.
func (fs *FS) EndRecovery(ctx context.Context) error {
	defer fs.mu.Unlock()
	return fs.enter(ctx)
}
