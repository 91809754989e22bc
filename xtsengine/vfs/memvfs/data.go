package memvfs

import (
	"context"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// lookupFile finds a regular file that cred may use as want says.
func (fs *FS) lookupFile(id vfs.FileID, cred *vfs.Cred, want vfs.Access) (*node, error) {
	n, err := fs.lookupID(id)
	switch {
	case err != nil:
		return nil, err
	case n.attr.Kind == vfs.Directory:
		return nil, vfs.ErrIsDir
	case n.attr.Kind != vfs.Regular:
		return nil, vfs.ErrWrongType
	case !vfs.Permitted(&n.attr, cred, want):
		return nil, vfs.ErrAccess
	}
	return n, nil
}

// Read implements vfs.FileSystem.
func (fs *FS) Read(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset uint64, p []byte) (int, bool, error) {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return 0, false, err
	}
	n, err := fs.lookupFile(id, cred, vfs.MayRead)
	if err != nil {
		return 0, false, err
	}
	if offset >= n.attr.Size {
		return 0, true, nil
	}
	if rest := n.attr.Size - offset; uint64(len(p)) > rest {
		p = p[:rest]
	}
	for done := 0; done < len(p); {
		at := offset + uint64(done)
		part := p[done:min(len(p), done+int(blockBytes-at%blockBytes))]
		if b := n.blocks[at/blockBytes]; b != nil {
			copy(part, b[at%blockBytes:])
		} else {
			clear(part)
		}
		done += len(part)
	}
	return len(p), offset+uint64(len(p)) == n.attr.Size, nil
}

// Write implements vfs.FileSystem.
func (fs *FS) Write(ctx context.Context, writer *vfs.Cred, check bool, id vfs.FileID, offset uint64, p []byte,
	want vfs.Stability) (vfs.Stability, error) {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return 0, err
	}
	asked := writer
	if !check {
		asked = nil
	}
	n, err := fs.lookupFile(id, asked, vfs.MayWrite)
	switch {
	case err != nil:
		return 0, err
	case offset > vfs.MaxFileBytes || uint64(len(p)) > vfs.MaxFileBytes-offset:
		return 0, vfs.ErrFileTooBig
	case len(p) == 0:
		return want, nil
	}
	if err := fs.roomFor(n.lacks(offset, uint64(len(p)))); err != nil {
		return 0, err
	}
	fs.store(n, offset, p)
	n.attr.Size = max(n.attr.Size, offset+uint64(len(p)))
	n.attr.Written(writer, fs.now())
	n.attr.Change = fs.nextChange()
	return want, nil
}

// lacks counts the blocks of a range that n neither has nor reserves.
func (n *node) lacks(offset, length uint64) uint64 {
	lo, hi := offset/blockBytes, (offset+length-1)/blockBytes+1
	have := n.reserved.within(lo, hi)
	if uint64(len(n.blocks)) < hi-lo {
		for b := range n.blocks {
			if b >= lo && b < hi {
				have++
			}
		}
		return hi - lo - have
	}
	for b := lo; b < hi; b++ {
		if n.blocks[b] != nil {
			have++
		}
	}
	return hi - lo - have
}

// roomFor says whether so many blocks more fit in.
func (fs *FS) roomFor(blocks uint64) error {
	if err := fs.checkQuota(blocks * blockBytes); err != nil {
		return err
	}
	if blocks > fs.opts.MaxBytes/blockBytes || (fs.usedBlks+blocks)*blockBytes > fs.opts.MaxBytes {
		return vfs.ErrNoSpace
	}
	return nil
}

func (fs *FS) store(n *node, offset uint64, p []byte) {
	if n.blocks == nil {
		n.blocks = map[uint64]*[blockBytes]byte{}
	}
	for len(p) > 0 {
		b := n.blocks[offset/blockBytes]
		if b == nil {
			b = new([blockBytes]byte)
			n.blocks[offset/blockBytes] = b
			fs.usedBlks++
			fs.usedBlks -= n.reserved.remove(offset/blockBytes, offset/blockBytes+1)
		}
		done := copy(b[offset%blockBytes:], p)
		offset, p = offset+uint64(done), p[done:]
	}
}

// shrink drops what lies behind the size.
func (fs *FS) shrink(n *node) {
	size := n.attr.Size
	for index := range n.blocks {
		if index*blockBytes >= size {
			delete(n.blocks, index)
			fs.usedBlks--
		}
	}
	fs.usedBlks -= n.reserved.remove((size+blockBytes-1)/blockBytes, allBlocks)
	if b := n.blocks[size/blockBytes]; b != nil {
		clear(b[size%blockBytes:])
	}
}

// Commit implements vfs.FileSystem.
func (fs *FS) Commit(ctx context.Context, id vfs.FileID, _, _ uint64) error {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return err
	}
	_, err := fs.lookupFile(id, nil, 0)
	return err
}
