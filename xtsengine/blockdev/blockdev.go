package blockdev

import "errors"

// BlockBytes is the unit of everything: offset, length and memory address of each request are
// multiples of it.
const BlockBytes = 4096

// What a device can answer besides the operating system's own errors.
var (
	// ErrPoisoned follows a failed Sync: nothing that was written can be trusted any more.
	ErrPoisoned = errors.New("blockdev: device is poisoned by a failed sync")
	// ErrFenced says that another owner has the device; the unit on it stops for good.
	ErrFenced = errors.New("blockdev: device is fenced off")
	// ErrUnaligned says that a request breaks the alignment rules: a fault of the caller.
	ErrUnaligned = errors.New("blockdev: request is not aligned to 4096 bytes")
	// ErrOutOfRange says that a request reaches past the end of the device.
	ErrOutOfRange = errors.New("blockdev: request is past the end of the device")
	// ErrClosed follows Close.
	ErrClosed = errors.New("blockdev: device is closed")
)

// Request is one transfer of a batch: len(Buf) bytes at byte Offset.
type Request struct {
	Offset int64
	Buf    []byte
}

// Device is block storage. All methods may be called concurrently. A batch is not atomic: when it
// fails, any part of it may have been done.
type Device interface {
	// SizeBytes is the present size, a multiple of BlockBytes.
	SizeBytes() int64

	// Read fills the buffers of every request; it returns when all are done, with the first error.
	Read(batch []Request) error

	// Write stores the buffers of every request; it returns when all are done, with the first
	// error. See the package's durability rules.
	Write(batch []Request) error

	// Sync makes every write that returned before the call durable.
	Sync() error

	// Discard says that length bytes at offset hold nothing of value; they may read as anything
	// afterwards. It is advice: a device that can't do it returns nil.
	Discard(offset, length int64) error

	// Grow enlarges the device to sizeBytes, preallocated. A block device follows its own size.
	Grow(sizeBytes int64) error

	// Close waits for what is under way and releases the device. It does not Sync.
	Close() error
}
