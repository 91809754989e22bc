package verity

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// ErrCorrupted says that blocks are not those that the root hash stands for.
var ErrCorrupted = errors.New("verity: the root file system is not the one that the kernel image names")

// Check reads all of a root file system with its hash tree, of size bytes, and says whether the root hash comes out and the tree is
// the one that belongs to it. It is for a disk that was written: what the kernel opens it checks itself. The hashes of the lowest level
// are in memory meanwhile, a hundred and twenty-eighth of the data.
func Check(r io.ReaderAt, sizeBytes int64, root Root) error {
	head := make([]byte, SuperblockBytes)
	if _, err := r.ReadAt(head, int64(root.DataBlocks)*BlockBytes); err != nil {
		return fmt.Errorf("verity: %w", err)
	}
	s, err := ParseSuperblock(head)
	if err != nil {
		return err
	}
	if s.DataBlocks != root.DataBlocks {
		return fmt.Errorf("%w: %d blocks, not %d", ErrForeign, s.DataBlocks, root.DataBlocks)
	}
	levels, err := tree(io.NewSectionReader(r, 0, int64(root.DataBlocks)*BlockBytes), s.Salt)
	if err != nil {
		return err
	}
	top := levels[len(levels)-1]
	if hashOf(s.Salt, top) != root.Hash {
		return ErrCorrupted
	}
	// The highest level is the first.
	at := int64(root.DataBlocks+1) * BlockBytes
	for i := len(levels) - 1; i >= 0; i-- {
		if at+int64(len(levels[i])) > sizeBytes {
			return fmt.Errorf("%w: the hash tree is cut off", ErrCorrupted)
		}
		if err := equal(io.NewSectionReader(r, at, int64(len(levels[i]))), levels[i]); err != nil {
			return err
		}
		at += int64(len(levels[i]))
	}
	return nil
}

// tree makes the hashes of blocks, level by level, each in whole blocks; the last is one block.
func tree(data io.Reader, salt []byte) ([][]byte, error) {
	level, err := hashes(data, salt)
	if err != nil {
		return nil, err
	}
	levels := [][]byte{level}
	for len(level) > BlockBytes {
		var above []byte
		for ; len(level) > 0; level = level[BlockBytes:] {
			h := hashOf(salt, level[:BlockBytes])
			above = append(above, h[:]...)
		}
		level = whole(above)
		levels = append(levels, level)
	}
	return levels, nil
}

func hashes(data io.Reader, salt []byte) ([]byte, error) {
	var all []byte
	block := make([]byte, BlockBytes)
	for {
		_, err := io.ReadFull(data, block)
		if errors.Is(err, io.EOF) {
			return whole(all), nil
		}
		if err != nil {
			return nil, fmt.Errorf("verity: %w", err)
		}
		h := hashOf(salt, block)
		all = append(all, h[:]...)
	}
}

// hashOf is that of version 1: the salt stands before the block.
func hashOf(salt, block []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(salt)
	h.Write(block)
	return [sha256.Size]byte(h.Sum(nil))
}

// whole fills the last block with zeros.
func whole(b []byte) []byte {
	if rest := len(b) % BlockBytes; rest != 0 {
		b = append(b, make([]byte, BlockBytes-rest)...)
	}
	return b
}

func equal(r io.Reader, want []byte) error {
	got := make([]byte, BlockBytes)
	for ; len(want) > 0; want = want[BlockBytes:] {
		if _, err := io.ReadFull(r, got); err != nil {
			return fmt.Errorf("verity: %w", err)
		}
		if string(got) != string(want[:BlockBytes]) {
			return fmt.Errorf("%w: its hash tree is damaged", ErrCorrupted)
		}
	}
	return nil
}
