package volume

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// formatVersion is the newest format that this program reads and the one that it writes.
const formatVersion = 1

// Where things stand; see doc.go.
const (
	superblockMagic = "NFSEALVL"
	checksumAt      = BlockBytes - sha256.Size

	firstSuperblock  = 0
	secondSuperblock = 16
	tableBlock       = 32
)

// superblock is the decoded contents of either copy.
type superblock struct {
	uuid       UUID
	generation uint64
	epoch      uint64
	sizeBytes  int64
	chunkBytes int64
	maxChunks  uint32
}

// chunks is the number of whole chunks of the volume.
func (s *superblock) chunks() uint32 { return uint32(s.sizeBytes / s.chunkBytes) }

// chunkBlocks is the number of blocks of a chunk.
func (s *superblock) chunkBlocks() uint32 { return uint32(s.chunkBytes / BlockBytes) }

// tablePages is the number of pages of one copy of the table.
func (s *superblock) tablePages() uint32 { return (s.maxChunks + pageEntries - 1) / pageEntries }

// pageOffset is the byte offset of a copy (0 or 1) of a table page.
func (s *superblock) pageOffset(page uint32, copyIndex int) int64 {
	return (tableBlock + int64(copyIndex)*int64(s.tablePages()) + int64(page)) * BlockBytes
}

// headerChunks is the number of chunks that the header covers.
func (s *superblock) headerChunks() uint32 {
	headerBytes := s.pageOffset(s.tablePages(), 1)
	return uint32((headerBytes + s.chunkBytes - 1) / s.chunkBytes)
}

// encode writes the superblock into one block.
func (s *superblock) encode(b []byte) {
	clear(b[:BlockBytes])
	copy(b, superblockMagic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], formatVersion)
	le.PutUint32(b[12:], BlockBytes)
	copy(b[16:32], s.uuid[:])
	le.PutUint64(b[32:], s.generation)
	le.PutUint64(b[40:], s.epoch)
	le.PutUint64(b[48:], uint64(s.sizeBytes))
	le.PutUint64(b[56:], uint64(s.chunkBytes))
	le.PutUint32(b[64:], s.maxChunks)
	sum := sha256.Sum256(b[:checksumAt])
	copy(b[checksumAt:], sum[:])
}

// decodeSuperblock reads one copy. The errors are ErrForeign (no magic), ErrNewerFormat (magic and
// checksum are right, the version is beyond ours) and ErrCorrupt.
func decodeSuperblock(b []byte) (superblock, error) {
	if len(b) != BlockBytes || !bytes.HasPrefix(b, []byte(superblockMagic)) {
		return superblock{}, ErrForeign
	}
	if sum := sha256.Sum256(b[:checksumAt]); !bytes.Equal(sum[:], b[checksumAt:]) {
		return superblock{}, fmt.Errorf("%w: superblock checksum does not match", ErrCorrupt)
	}
	le := binary.LittleEndian
	switch version := le.Uint32(b[8:]); {
	case version > formatVersion:
		return superblock{}, fmt.Errorf("%w: version %d, this program knows up to %d", ErrNewerFormat, version, formatVersion)
	case version == 0:
		return superblock{}, fmt.Errorf("%w: superblock has format version 0", ErrCorrupt)
	}
	s := superblock{
		uuid:       UUID(b[16:32]),
		generation: le.Uint64(b[32:]),
		epoch:      le.Uint64(b[40:]),
		sizeBytes:  int64(le.Uint64(b[48:])),
		chunkBytes: int64(le.Uint64(b[56:])),
		maxChunks:  le.Uint32(b[64:]),
	}
	if err := s.check(le.Uint32(b[12:])); err != nil {
		return superblock{}, err
	}
	return s, nil
}

// check says whether the numbers make sense together.
func (s *superblock) check(blockBytes uint32) error {
	switch {
	case blockBytes != BlockBytes:
		return fmt.Errorf("%w: superblock says blocks of %d bytes", ErrCorrupt, blockBytes)
	case s.chunkBytes < minChunkBytes || s.chunkBytes > maxChunkBytes || bits.OnesCount64(uint64(s.chunkBytes)) != 1:
		return fmt.Errorf("%w: superblock says chunks of %d bytes", ErrCorrupt, s.chunkBytes)
	case s.maxChunks == 0 || s.maxChunks > maxChunks:
		return fmt.Errorf("%w: superblock says a table of %d chunks", ErrCorrupt, s.maxChunks)
	case s.sizeBytes <= 0 || s.sizeBytes%BlockBytes != 0 || s.sizeBytes/s.chunkBytes > int64(s.maxChunks):
		return fmt.Errorf("%w: superblock says %d bytes", ErrCorrupt, s.sizeBytes)
	case s.chunks() <= s.headerChunks():
		return fmt.Errorf("%w: superblock says %d bytes, less than header and one chunk", ErrCorrupt, s.sizeBytes)
	}
	return nil
}
