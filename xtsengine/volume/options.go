package volume

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"math/bits"
)

// UUID names a volume for ever, wherever it is copied to.
type UUID [16]byte

// NewUUID makes a random one (RFC 9562 version 4).
func NewUUID(random io.Reader) (UUID, error) {
	var u UUID
	if random == nil {
		random = rand.Reader
	}
	if _, err := io.ReadFull(random, u[:]); err != nil {
		return UUID{}, fmt.Errorf("volume: random bytes for a uuid: %w", err)
	}
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u, nil
}

// String is the usual form, 8-4-4-4-12 hexadecimal digits.
func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// SpaceID names the owner of chunks: one file system. All zeros and all ones are taken by the
// format.
type SpaceID [16]byte

// String is 32 hexadecimal digits.
func (id SpaceID) String() string { return hex.EncodeToString(id[:]) }

// The owners that the format itself uses.
var (
	freeChunk   = SpaceID{}
	headerChunk = SpaceID{
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
	}
)

// Block is the number of a block in its volume, counted from 0: the XTS tweak of what it holds.
type Block uint64

// Run is Count consecutive blocks from Start.
type Run struct {
	Start Block
	Count uint32
}

// String is for messages.
func (r Run) String() string { return fmt.Sprintf("%d blocks at %d", r.Count, r.Start) }

// end is the block after the run.
func (r Run) end() Block { return r.Start + Block(r.Count) }

// Options of Format and Open.
type Options struct {
	// UUID of a new volume; not zero. Open ignores it.
	UUID UUID
	// ChunkBytes of a new volume: a power of two from 256 KiB to 16 GiB; 0 chooses by size. Open
	// ignores it.
	ChunkBytes int64
	// MaxChunks is how many chunks the table of a new volume has room for, which bounds growth:
	// 1 to 65536, 0 means 65536. Open ignores it.
	MaxChunks int
	// Overwrite lets Format replace a volume that is there already.
	Overwrite bool
	// InFlight is how many windows of 2 MiB are encrypted or under way at a time; 0 means 32.
	InFlight int
}

// EnsureDefaults fills what is zero, for a device of deviceBytes.
func (o *Options) EnsureDefaults(deviceBytes int64) {
	if o.ChunkBytes == 0 {
		o.ChunkBytes = chunkBytesFor(deviceBytes)
	}
	if o.MaxChunks == 0 {
		o.MaxChunks = maxChunks
	}
	if o.InFlight == 0 {
		o.InFlight = defaultInFlight
	}
}

// chunkBytesFor is the default chunk of a volume of deviceBytes.
func chunkBytesFor(deviceBytes int64) int64 {
	chunk := int64(defaultChunkBytes)
	for chunk > minChunkBytes && deviceBytes/chunk < wantedChunksMin {
		chunk /= 2
	}
	for chunk < maxChunkBytes && deviceBytes/chunk > wantedChunksMax {
		chunk *= 2
	}
	return chunk
}

// validateFormat says what is wrong for Format.
func (o *Options) validateFormat() error {
	if o.UUID == (UUID{}) {
		return fmt.Errorf("volume: options: the uuid is zero")
	}
	if o.ChunkBytes < minChunkBytes || o.ChunkBytes > maxChunkBytes || bits.OnesCount64(uint64(o.ChunkBytes)) != 1 {
		return fmt.Errorf("volume: options: chunk of %d bytes is not a power of two from %d to %d",
			o.ChunkBytes, int64(minChunkBytes), int64(maxChunkBytes))
	}
	if o.MaxChunks < 1 || o.MaxChunks > maxChunks {
		return fmt.Errorf("volume: options: %d chunks are not from 1 to %d", o.MaxChunks, maxChunks)
	}
	return o.Validate()
}

// Validate says what is wrong for Open.
func (o *Options) Validate() error {
	if o.InFlight < 1 || o.InFlight > maxInFlight {
		return fmt.Errorf("volume: options: %d windows in flight are not from 1 to %d", o.InFlight, maxInFlight)
	}
	return nil
}
