package volume

import (
	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/mac"
)

// BlockBytes is the size of a block, the unit of allocation and the data unit of XTS.
const BlockBytes = blockdev.BlockBytes

// TagBytes is the size of the tag of a block.
const TagBytes = mac.TagBytes

// Limits of the format, version 1.
const (
	// minChunkBytes and maxChunkBytes bound Options.ChunkBytes. A chunk is whole words of a
	// bitmap: 64 blocks at least.
	minChunkBytes = 64 * BlockBytes
	maxChunkBytes = 16 << 30

	// maxChunks is the largest table, and what a table holds unless Options says less.
	maxChunks = 65536

	// A default chunk is 16 MiB; smaller where a volume would have fewer than
	// wantedChunksMin of them, larger where it would have more than wantedChunksMax, which
	// leaves room to grow eightfold.
	defaultChunkBytes = 16 << 20
	wantedChunksMin   = 64
	wantedChunksMax   = maxChunks / 8
)

// Limits of our choosing.
const (
	// defaultInFlight is how many windows of one volume are encrypted or under way at a time.
	defaultInFlight = 32
	maxInFlight     = 1024

	// transferBytes is the largest single transfer; windowBytes is what one Read or Write call
	// has staged at a time. A volume stages at most InFlight × windowBytes.
	transferBytes = 1 << 20
	windowBytes   = 2 << 20
	// hotBytes is how much is encrypted before its tags are made, and checked before it is
	// decrypted: both ciphertext and plaintext stay in a core's cache between the two (docs/benchmarks.md).
	hotBytes = 64 << 10

	// aheadBytes is how much of a block is fetched while the one before it is encrypted: as many lines as a core waits for
	// at a time.
	aheadBytes = 1 << 10

	// Leases grow with the space: one chunk in leaseShare of what it has, leaseMax at most.
	leaseShare = 16
	leaseMax   = 8

	// fragmentBlocks is the shortest run that is given for a longer wish while the space could
	// still lease; fragmentShare is the free share (one in that many) from which on it is.
	fragmentBlocks = 16
	fragmentShare  = 8

	// minDiscardBlocks is the shortest run that DiscardFreed tells the device of; the longest is one block in discardShare
	// of those that the space has free, for while the device forgets them nobody can have them.
	minDiscardBlocks = 16
	discardShare     = 4

	// goodRunBlocks is what a run should have at least where the allocator goes next, so that
	// the calls after this one continue there.
	goodRunBlocks = 64
	// maxProbes bounds the chunks that are looked at within one size class.
	maxProbes = 8
)
