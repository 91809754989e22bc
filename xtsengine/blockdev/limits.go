package blockdev

// Limits of this package, all of our choosing.
const (
	// maxPooledBytes is the largest buffer that Alloc takes from a pool.
	maxPooledBytes = 1 << 20
	// poolClassBytes is what each size class keeps for reuse at most; more is left to the
	// garbage collector.
	poolClassBytes = 32 << 20

	// maxArenaBytes is the memory from which buffers are given first, and which io_uring has registered, on a
	// machine with arenaOfMachine times as much or more; on a smaller one it is that share, and minArenaBytes at
	// least. It is taken when the first buffer is, all at once if io_uring has it.
	maxArenaBytes  = 32 << 20
	minArenaBytes  = 8 << 20
	arenaOfMachine = 64

	// aloneBytes is up to which size a transfer that is alone on a device is done by its caller.
	aloneBytes = 64 << 10

	// gatherTransfers is up to how many transfers wait for those of others before they are submitted together, and no
	// more than the device is at work on: it must not run out of them meanwhile.
	gatherTransfers = 4

	// A transfer of largeBytes waits for others under way, if these are enoughBytes, on a device that had nothing to do
	// within the last dryBytes.
	largeBytes  = 256 << 10
	enoughBytes = 5 << 20
	dryBytes    = 32 << 20

	// flushTurns is how often a caller lets others run while one of them submits, before it sleeps.
	flushTurns = 16

	// defaultQueueDepth is how many transfers a device has under way at most.
	defaultQueueDepth = 64
	// maxQueueDepth is the largest depth that Options may ask for.
	maxQueueDepth = 1024

	// maxSegmentBytes and maxSegmentParts bound one vectored transfer of merged requests. The
	// kernel's own limit for the parts is IOV_MAX, 1024.
	maxSegmentBytes = 4 << 20
	maxSegmentParts = 512
)
