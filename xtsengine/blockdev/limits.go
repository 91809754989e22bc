package blockdev

// Limits of this package, all of our choosing.
const (
	// maxPooledBytes is the largest buffer that Alloc takes from a pool.
	maxPooledBytes = 1 << 20
	// poolClassBytes is what each size class keeps for reuse at most; more is left to the
	// garbage collector.
	poolClassBytes = 32 << 20

	// defaultQueueDepth is how many transfers a device has under way at most.
	defaultQueueDepth = 32
	// maxQueueDepth is the largest depth that Options may ask for.
	maxQueueDepth = 1024

	// maxSegmentBytes and maxSegmentParts bound one vectored transfer of merged requests. The
	// kernel's own limit for the parts is IOV_MAX, 1024.
	maxSegmentBytes = 4 << 20
	maxSegmentParts = 512
)
