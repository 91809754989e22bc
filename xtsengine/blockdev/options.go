package blockdev

import "fmt"

// Backend is how a batch of several transfers reaches the kernel.
type Backend string

// The backends of a file device.
const (
	// BackendAuto is io_uring where the kernel offers it, else threads.
	BackendAuto Backend = "auto"
	// BackendRing is io_uring: one system call submits a batch, and nothing but the caller's goroutine
	// waits for it.
	BackendRing Backend = "io_uring"
	// BackendThreads is a pool of goroutines that each do one system call at a time.
	BackendThreads Backend = "threads"
)

// Options of OpenFile and CreateFile.
type Options struct {
	// Backend is how batches are done; empty means BackendAuto. A backend that is asked for by name
	// and is not there is an error.
	Backend Backend
	// QueueDepth is how many transfers of all batches together are under way at most: 1 to 1024, 0
	// means 64.
	QueueDepth int
	// PunchHoles lets Discard give the blocks of a regular file back to the file system that it
	// lies on. They are no longer preallocated then: a later write to them can fail with ENOSPC.
	// Block devices are not concerned.
	PunchHoles bool
	// Buffered goes through the page cache even where O_DIRECT is possible.
	Buffered bool
}

// EnsureDefaults fills what is zero.
func (o *Options) EnsureDefaults() {
	if o.Backend == "" {
		o.Backend = BackendAuto
	}
	if o.QueueDepth == 0 {
		o.QueueDepth = defaultQueueDepth
	}
}

// Validate says what is wrong.
func (o *Options) Validate() error {
	switch o.Backend {
	case BackendAuto, BackendRing, BackendThreads:
	default:
		return fmt.Errorf("blockdev: options: unknown backend %q", string(o.Backend))
	}
	if o.QueueDepth < 1 || o.QueueDepth > maxQueueDepth {
		return fmt.Errorf("blockdev: options: queue depth %d is not from 1 to %d", o.QueueDepth, maxQueueDepth)
	}
	return nil
}

// Info says how a file device works, for logs.
type Info struct {
	Path string
	// BlockDevice is set for a device node, clear for a regular file.
	BlockDevice bool
	// Direct says that the page cache is bypassed. If not, NotDirect says why.
	Direct    bool
	NotDirect string
	// Backend is BackendRing or BackendThreads. If io_uring was wished for and is not there,
	// NoRing says why.
	Backend Backend
	NoRing  string
	// Registered says that the kernel keeps the buffers' arena pinned, with BackendRing. If not,
	// NotRegistered says why.
	Registered    bool
	NotRegistered string
}
