package memvfs

import (
	"context"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// changed brings n up to date after a change of its content by cred, and fills out.
func (fs *FS) changed(n *node, cred *vfs.Cred, out *vfs.Attr) {
	n.attr.Written(cred, fs.now())
	n.attr.Change = fs.nextChange()
	n.fill(out)
}

// Allocate implements vfs.FileSystem.
func (fs *FS) Allocate(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset, length uint64, out *vfs.Attr) error {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return err
	}
	n, err := fs.lookupFile(id, cred, vfs.MayWrite)
	if err != nil {
		return err
	}
	if err := vfs.CheckRange(offset, length); err != nil {
		return err
	}
	if err := fs.roomFor(n.lacks(offset, length)); err != nil {
		return err
	}
	lo, hi := offset/blockBytes, (offset+length-1)/blockBytes+1
	fs.usedBlks += n.reserved.add(lo, hi)
	for b := range n.blocks {
		fs.usedBlks -= n.reserved.remove(b, b+1)
	}
	n.attr.Size = max(n.attr.Size, offset+length)
	fs.changed(n, cred, out)
	return nil
}

// Deallocate implements vfs.FileSystem.
func (fs *FS) Deallocate(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset, length uint64, out *vfs.Attr) error {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return err
	}
	n, err := fs.lookupFile(id, cred, vfs.MayWrite)
	if err != nil {
		return err
	}
	if err := vfs.CheckRange(offset, length); err != nil {
		return err
	}
	if offset >= n.attr.Size {
		n.fill(out)
		return nil
	}
	end := offset + length
	if end >= n.attr.Size {
		end = (n.attr.Size + blockBytes - 1) &^ (blockBytes - 1)
	}
	fs.punch(n, offset, end)
	fs.changed(n, cred, out)
	return nil
}

// punch drops the whole blocks of a range and clears the rest of it.
func (fs *FS) punch(n *node, offset, end uint64) {
	for index, b := range n.blocks {
		at := index * blockBytes
		lo, hi := max(at, offset), min(at+blockBytes, end)
		switch {
		case lo >= hi:
		case hi-lo == blockBytes:
			delete(n.blocks, index)
			fs.usedBlks--
		default:
			clear(b[lo-at : hi-at])
		}
	}
	fs.usedBlks -= n.reserved.remove((offset+blockBytes-1)/blockBytes, end/blockBytes)
}

// Seek implements vfs.FileSystem.
func (fs *FS) Seek(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset uint64, what vfs.SeekWhat) (uint64, error) {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return 0, err
	}
	n, err := fs.lookupFile(id, cred, vfs.MayRead)
	switch {
	case err != nil:
		return 0, err
	case what > vfs.SeekHole:
		return 0, vfs.ErrInvalid
	case offset >= n.attr.Size:
		return 0, vfs.ErrNoData
	case what == vfs.SeekData:
		return n.nextData(offset)
	}
	for n.blocks[offset/blockBytes] != nil {
		offset = (offset/blockBytes + 1) * blockBytes
	}
	return min(offset, n.attr.Size), nil
}

func (n *node) nextData(offset uint64) (uint64, error) {
	next := uint64(allBlocks)
	for b := range n.blocks {
		if b >= offset/blockBytes {
			next = min(next, b)
		}
	}
	if next == allBlocks {
		return 0, vfs.ErrNoData
	}
	return max(offset, next*blockBytes), nil
}

// Clone implements vfs.FileSystem. The model copies.
func (fs *FS) Clone(ctx context.Context, cred *vfs.Cred, src, dst vfs.FileID, srcOffset, dstOffset, length uint64,
	out *vfs.Attr) error {
	defer fs.mu.Unlock()
	if err := fs.enter(ctx); err != nil {
		return err
	}
	s, err := fs.lookupFile(src, cred, vfs.MayRead)
	if err != nil {
		return err
	}
	d, err := fs.lookupFile(dst, cred, vfs.MayWrite)
	if err != nil {
		return err
	}
	length, err = vfs.CloneRange(&s.attr, &d.attr, srcOffset, dstOffset, length)
	if err != nil {
		return err
	}
	if length == 0 {
		d.fill(out)
		return nil
	}
	if err := fs.clone(s, d, srcOffset/blockBytes, dstOffset/blockBytes, (length+blockBytes-1)/blockBytes); err != nil {
		return err
	}
	d.attr.Size = max(d.attr.Size, dstOffset+length)
	fs.changed(d, cred, out)
	return nil
}

// clone copies blocks from one file to another, from one place on to another.
func (fs *FS) clone(s, d *node, from, to, count uint64) error {
	copied := map[uint64]*[blockBytes]byte{}
	for index, b := range s.blocks {
		if index >= from && index < from+count {
			c := *b
			copied[index-from+to] = &c
		}
	}
	had := count - d.lacks(to*blockBytes, count*blockBytes)
	if uint64(len(copied)) > had {
		if err := fs.roomFor(uint64(len(copied)) - had); err != nil {
			return err
		}
	}
	fs.punch(d, to*blockBytes, (to+count)*blockBytes)
	if d.blocks == nil {
		d.blocks = map[uint64]*[blockBytes]byte{}
	}
	for index, b := range copied {
		d.blocks[index] = b
	}
	fs.usedBlks += uint64(len(copied))
	return nil
}
