package rpc

import "time"

// What the standard fixes.
const (
	// Version is the RPC version (RFC 5531 §9).
	Version = 2
	// MaxAuthBytes is the longest body of a credential or verifier (RFC 5531 §8.2).
	MaxAuthBytes = 400
	// MaxMachineBytes is the longest machine name of AUTH_SYS (RFC 5531 appendix A).
	MaxMachineBytes = 255
	// MaxGroups is how many supplementary groups AUTH_SYS carries at most (RFC 5531 appendix A).
	MaxGroups = 16
)

// What we chose.
const (
	// DefaultMaxRecordBytes holds 1 MiB of data with generous headers around it.
	DefaultMaxRecordBytes = 1<<20 + 64<<10
	// DefaultMaxInFlight is how many calls of one connection are under way at once.
	DefaultMaxInFlight = 64
	// DefaultBufferBytes is what large buffers hold altogether: 32 clients may each have 8 calls with 1 MiB of data under way.
	DefaultBufferBytes = 320 << 20
	// DefaultIdleTimeout ends a connection on which nothing arrives. Linux clients close theirs
	// after five idle minutes.
	DefaultIdleTimeout = 15 * time.Minute
	// DefaultRestAfter is how long a connection that is silent keeps its read-ahead buffer.
	DefaultRestAfter = 10 * time.Second
	// DefaultRecordTimeout is how long the rest of a record may take after its beginning; a long one gets it anew with each
	// recordStepBytes.
	DefaultRecordTimeout = time.Minute
	// DefaultWriteTimeout is how long a client may take to fetch a batch of replies.
	DefaultWriteTimeout = time.Minute
	// DefaultDrainTimeout is how long calls under way may take at the end before their context is
	// cancelled.
	DefaultDrainTimeout = 10 * time.Second
	// DefaultTakeover is how long the reader handles a call by itself before another goroutine
	// reads on.
	DefaultTakeover = 200 * time.Microsecond
	// aloneTakeovers is how many times as long it handles one that was alone: a client with one call at a
	// time sends none meanwhile, and to wait for a disk that often takes longer than DefaultTakeover.
	aloneTakeovers = 8

	// maxOutgoing is how many calls to one client may wait for their replies, and
	// maxOutgoingReplyBytes how much of such a reply is kept: a longer one comes out malformed.
	maxOutgoing           = 256
	maxOutgoingReplyBytes = 64 << 10

	maxInFlightLimit = 4096
	maxRecordLimit   = 64 << 20
	minRecordBytes   = 1 << 10

	// maxFragments bounds the fragments of one record: a client that sends empty ones would keep
	// the reader busy for ever.
	maxFragments = 4096
	// readAheadBytes is the buffer that an idle connection holds: a WRITE of 4 KiB fits. A longer call is read to its end and
	// no further, so the socket is asked whether more has come.
	readAheadBytes = 8 << 10
	// keepBytes is how much of each size of large buffers stays in huge pages, and keepLargestBytes of
	// the largest, of which a call with 1 MiB of data takes one.
	keepBytes        = 8 << 20
	keepLargestBytes = 64 << 20
	// passBytes is what a call above the bound of memory holds at most, a record and a reply with 1 MiB of data each and what they
	// grew out of. minPasses is how many there may be in any case, and passPatience how long each may wait for its client while
	// connections wait for theirs, which is looked at by lookEvery.
	passBytes    = 2 * (DefaultMaxRecordBytes + 256<<10 + 2*headroomBytes)
	minPasses    = 8
	passPatience = 20 * time.Second
	lookEvery    = time.Second
	// recordStepBytes is how much of a record has to come within the time that it is given.
	recordStepBytes = 64 << 10
	// firstRoomBytes is what a large record gets before its bytes have arrived.
	firstRoomBytes = 64 << 10
	// coalesceBytes is how much of small replies goes into one Write where writev is not to be had.
	coalesceBytes = 64 << 10
	// maxBatch is how many replies one system call takes.
	maxBatch = 64
	// maxIdleWorkers is how many goroutines of a connection wait for calls, and lingerTime for how long. Calls that wait for the
	// disk together end together: all of their goroutines are there for the next ones, with the stacks that they have grown.
	maxIdleWorkers = DefaultMaxInFlight
	lingerTime     = 500 * time.Millisecond
	// maxHeldBytes is how much of replies waits for further ones, and how large one that does may be.
	maxHeldBytes = 32 << 10
	// A quick call that takes longer than slowCall while others wait is followed by spreadCalls that get
	// goroutines: their files may be on a disk.
	slowCall    = 100 * time.Microsecond
	spreadCalls = 64
	// largeBytes is how long a call is whose worker takes the reader's place on the processor.
	largeBytes = 64 << 10
	// loneCalls is how many calls come one at a time before the next one is expected soon.
	loneCalls = 8
	// crowdCalls is how many calls of unknown length must be alone before the reader handles one.
	crowdCalls = 16
)
