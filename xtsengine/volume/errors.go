package volume

import (
	"errors"
	"fmt"
)

// What a volume answers besides the device's own errors, which are wrapped and recognizable
// (blockdev.ErrFenced above all).
var (
	// ErrForeign says that the device does not hold a volume.
	ErrForeign = errors.New("volume: this is not an nfseal volume")
	// ErrNewerFormat says that a newer version of the program wrote the volume.
	ErrNewerFormat = errors.New("volume: the format is newer than this program understands")
	// ErrTruncated says that the device is shorter than the volume on it.
	ErrTruncated = errors.New("volume: the device is shorter than the volume on it")
	// ErrCorrupt says that the volume, or what a caller says of it, contradicts itself.
	ErrCorrupt = errors.New("volume: corrupt")
	// ErrExists says that Format found a volume and was not told to replace it.
	ErrExists = errors.New("volume: there is a volume already")
	// ErrTooSmall says that a device has no room for a header and one chunk.
	ErrTooSmall = errors.New("volume: the device is too small")
	// ErrTableFull says that the table has no room for a volume of that size.
	ErrTableFull = errors.New("volume: the chunk table cannot describe that size")

	// ErrTag says that a block is not what was written there: see TagError.
	ErrTag = errors.New("volume: a block does not have its tag")

	// ErrNoSpace says that neither the space nor the volume has a free block.
	ErrNoSpace = errors.New("volume: no space left")
	// ErrNotOwned says that a block is not in a chunk of the space: a fault of the caller.
	ErrNotOwned = errors.New("volume: block belongs to another space or to none")
	// ErrNotAllocated says that a block is free: a fault of the caller.
	ErrNotAllocated = errors.New("volume: block is not allocated")
	// ErrMisuse says that a call breaks the rules of its arguments or its order.
	ErrMisuse = errors.New("volume: misuse")
	// ErrSpaceOpen says that the space is in use.
	ErrSpaceOpen = errors.New("volume: the space is open")
	// ErrClosed follows Close.
	ErrClosed = errors.New("volume: closed")
)

// TagError says which block is not what was written there. It is an ErrTag.
type TagError struct{ Block Block }

// Error implements error.
func (e *TagError) Error() string {
	return fmt.Sprintf("volume: block %d does not have its tag: it was changed, moved or rolled back", e.Block)
}

// Is makes a TagError an ErrTag.
func (e *TagError) Is(target error) bool { return target == ErrTag }
