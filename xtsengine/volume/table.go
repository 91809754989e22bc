package volume

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// A table page; see doc.go.
const (
	pageMagic       = "NFSEALCT"
	pageHeaderBytes = 64
	entryBytes      = 16
	pageEntries     = (BlockBytes - pageHeaderBytes) / entryBytes
	pageSumAt       = 40
	pageSumBytes    = pageHeaderBytes - pageSumAt
)

// pageHeader is what a page says of itself.
type pageHeader struct {
	volume     UUID
	index      uint32
	generation uint64
}

// encodePage writes a page for the entries, of which there are at most pageEntries; the others are
// free.
func encodePage(b []byte, h pageHeader, entries []SpaceID) {
	clear(b[:BlockBytes])
	copy(b, pageMagic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], formatVersion)
	le.PutUint32(b[12:], h.index)
	copy(b[16:32], h.volume[:])
	le.PutUint64(b[32:], h.generation)
	for i := range entries {
		copy(b[pageHeaderBytes+i*entryBytes:], entries[i][:])
	}
	sum := pageSum(b)
	copy(b[pageSumAt:pageHeaderBytes], sum[:pageSumBytes])
}

// pageSum is the SHA-256 of a page without its checksum field; the page keeps the first 24 bytes.
func pageSum(b []byte) [sha256.Size]byte {
	var image [BlockBytes]byte
	copy(image[:], b)
	clear(image[pageSumAt:pageHeaderBytes])
	return sha256.Sum256(image[:])
}

// decodePage checks a page and copies its entries into entries, which is as long as the page has
// chunks; what lies beyond must be free. want.generation is ignored; the page's own is returned.
func decodePage(b []byte, want pageHeader, entries []SpaceID) (uint64, error) {
	le := binary.LittleEndian
	if len(b) != BlockBytes || !bytes.HasPrefix(b, []byte(pageMagic)) {
		return 0, fmt.Errorf("%w: table page %d is not there", ErrCorrupt, want.index)
	}
	if sum := pageSum(b); !bytes.Equal(sum[:pageSumBytes], b[pageSumAt:pageHeaderBytes]) {
		return 0, fmt.Errorf("%w: checksum of table page %d does not match", ErrCorrupt, want.index)
	}
	if version, index := le.Uint32(b[8:]), le.Uint32(b[12:]); version != formatVersion || index != want.index {
		return 0, fmt.Errorf("%w: table page %d says version %d, page %d", ErrCorrupt, want.index, version, index)
	}
	if UUID(b[16:32]) != want.volume {
		return 0, fmt.Errorf("%w: table page %d belongs to another volume", ErrCorrupt, want.index)
	}
	for i := 0; i < pageEntries; i++ {
		owner := SpaceID(b[pageHeaderBytes+i*entryBytes:][:entryBytes])
		if i < len(entries) {
			entries[i] = owner
		} else if owner != freeChunk {
			return 0, fmt.Errorf("%w: table page %d leases chunks past the end of the volume", ErrCorrupt, want.index)
		}
	}
	return le.Uint64(b[32:]), nil
}
