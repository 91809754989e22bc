package verity

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
)

// BlockBytes is the size of a block of data and of hashes.
const BlockBytes = 4096

// SuperblockBytes is how much of the superblock's block is used.
const SuperblockBytes = 512

// ErrForeign says that there is no superblock of the kind that the image is made with.
var ErrForeign = errors.New("verity: no hash tree of this image's kind")

// A Superblock describes a hash tree.
type Superblock struct {
	DataBlocks uint64
	Salt       []byte // 1 to 256 bytes
}

// ParseSuperblock reads the first SuperblockBytes of a hash area. Version 1, SHA-256 and blocks of 4 KiB
// are the only ones that are taken.
func ParseSuperblock(b []byte) (Superblock, error) {
	var s Superblock
	if len(b) < SuperblockBytes || !bytes.HasPrefix(b, []byte("verity\x00\x00")) {
		return s, ErrForeign
	}
	le := binary.LittleEndian
	algorithm, _, _ := bytes.Cut(b[32:64], []byte{0})
	saltBytes := int(le.Uint16(b[80:]))
	switch {
	case le.Uint32(b[8:]) != 1 || le.Uint32(b[12:]) != 1:
		return s, fmt.Errorf("%w: version %d, type %d", ErrForeign, le.Uint32(b[8:]), le.Uint32(b[12:]))
	case string(algorithm) != "sha256":
		return s, fmt.Errorf("%w: hash %q", ErrForeign, algorithm)
	case le.Uint32(b[64:]) != BlockBytes || le.Uint32(b[68:]) != BlockBytes:
		return s, fmt.Errorf("%w: blocks of %d and %d bytes", ErrForeign, le.Uint32(b[64:]), le.Uint32(b[68:]))
	case saltBytes < 1 || saltBytes > 256:
		return s, fmt.Errorf("%w: salt of %d bytes", ErrForeign, saltBytes)
	}
	s.DataBlocks = le.Uint64(b[72:])
	s.Salt = bytes.Clone(b[88 : 88+saltBytes])
	if s.DataBlocks == 0 || s.DataBlocks > 1<<40 {
		return s, fmt.Errorf("%w: %d blocks", ErrForeign, s.DataBlocks)
	}
	return s, nil
}

// A Root names a verified file system: what the kernel image says of it.
type Root struct {
	Hash       [32]byte
	DataBlocks uint64
}

// ParseRoot reads what String writes.
func ParseRoot(s string) (Root, error) {
	var r Root
	var text string
	if _, err := fmt.Sscanf(s, "%64s", &text); err != nil || len(s) < 66 || s[64] != ':' {
		return r, fmt.Errorf("verity: %q is not HASH:BLOCKS", s)
	}
	hash, err := hex.DecodeString(text)
	if err != nil || len(hash) != len(r.Hash) {
		return r, fmt.Errorf("verity: %q is no SHA-256", text)
	}
	if _, err := fmt.Sscanf(s[65:], "%d", &r.DataBlocks); err != nil || fmt.Sprint(r.DataBlocks) != s[65:] || r.DataBlocks == 0 || r.DataBlocks > 1<<40 {
		return r, fmt.Errorf("verity: %q is no number of blocks", s[65:])
	}
	r.Hash = [32]byte(hash)
	return r, nil
}

// String is the form for the kernel's command line.
func (r Root) String() string { return fmt.Sprintf("%x:%d", r.Hash, r.DataBlocks) }

// table is the parameters of the kernel's verity target, for a partition with that superblock (Linux,
// admin-guide/device-mapper/verity).
func (r Root) table(device string, s Superblock) string {
	return fmt.Sprintf("1 %s %s %d %d %d %d sha256 %x %x 1 panic_on_corruption",
		device, device, BlockBytes, BlockBytes, r.DataBlocks, r.DataBlocks+1, r.Hash, s.Salt)
}
