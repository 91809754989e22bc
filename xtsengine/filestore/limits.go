package filestore

import (
	"time"

	"github.com/nfseal/nfseal/xtsengine/volume"
)

// blockBytes is the unit of file content and of the volume.
const blockBytes = volume.BlockBytes

// Limits of the format, version 2.
const (
	// windowBlocks is the span of file blocks whose extents are loaded and changed together: 4 MiB of
	// a file.
	windowBlocks = 1024
	// extentBlocks is the span of file blocks that an extent keeps to: none crosses a multiple of it.
	// The tags of an extent are one record, which a change within it writes anew: docs/adr/0009 says
	// what that costs.
	extentBlocks = 64
	// inlineBytes is the largest file whose only block stays in the metadata store for good.
	inlineBytes = 3072
	// maxClientKey and maxClientValue are those of vfs.ClientRecords, in bytes.
	maxClientKey   = 1024
	maxClientValue = 4096
	// maxCounter is what no counter gets to.
	maxCounter = 1 << 63
	// maxInodes is what StatFS reports as the number of files there can be.
	maxInodes = 1 << 48
)

// Limits of our choosing.
const (
	// directBlocks is from how many whole blocks on a durable write goes to the volume at once instead of
	// being gathered in memory: more than a commit takes along. directUnstableBlocks is the same for one that need not be
	// durable: 64 KiB, which is what clients with small transfers send, and where gathering costs more than it saves. Where a file has as
	// much unstable content as that, more than a commit takes along, directStreamBlocks are enough.
	directBlocks         = 17
	directUnstableBlocks = 16
	directStreamBlocks   = 4
	// behindBytes is how much of unstable writes is in memory at most that is yet to be stored, in bytes, for each store; beyond it a
	// write returns when it is stored. behindWorkers goroutines store it, up to behindTransfer bytes at a time: no
	// more is before the disk at once, so that who waits for another file's data does not wait for all of it.
	behindBytes    = 32 << 20
	behindWorkers  = 4
	behindTransfer = 2 << 20
	// journalCommitBlocks is up to how many blocks a commit takes along in the metadata batch, which
	// saves the flush of the volume.
	journalCommitBlocks = 16
	// migrateBlocks bounds the blocks that are moved from the journal to the volume in one round.
	migrateBlocks = 1024
	// switchBlocks bounds those among them that the metadata are switched to at a time.
	switchBlocks = 32
	// pieceBlocks bounds the blocks of the intent log that are flushed at a time.
	pieceBlocks = 256
	// togetherBlocks is from how many blocks on the flush of several small files takes no more; roundFiles is how many files
	// the flusher takes at a time while there is too much unstable data.
	togetherBlocks = 256
	roundFiles     = 64
	// migrateInodes bounds the files that one round holds.
	migrateInodes = 256
	// minMoveBytes is how much gathers in the journal at least before it is moved without being old.
	minMoveBytes = 1 << 20
	// transferBlocks bounds the blocks of one call to Space.Write or Space.Read.
	transferBlocks = 1024

	// readDirRun is how many entries of a directory get their attributes together; nearSteps up to how
	// many records are stepped over to the next one instead of being sought.
	readDirRun = 128
	nearSteps  = 4
	// maxKeptNames is how many names a directory has at most whose names stay in memory: 5 MiB, if they
	// are short. keptNameBytes is what one takes beside its bytes. All names of a store have one part in nameShare
	// of what there is for extents, and for inodes and extents, at most.
	maxKeptNames  = 1 << 17
	keptNameBytes = 24
	nameShare     = 8

	// nearExtents is how many extents an insertion changes without further memory: those of a mebibyte, a
	// neighbour at each side and what is left of them.
	nearExtents = 12

	// poolRunBlocks is how many blocks the pool takes from the space at least; poolSpareBlocks how
	// many it keeps beyond what is reserved.
	poolRunBlocks   = 256
	poolSpareBlocks = 512

	// asideBlocks is how many blocks each file system with content sets aside for overwrites on a full
	// volume, or one in asideShare of what it could have; an overwrite that is larger finds no space there.
	asideBlocks = 512
	asideShare  = 32
	// nearlyFullBlocks is what a volume has free when it counts as nearly full.
	nearlyFullBlocks = 4096

	// pointDeletes is up to how many extents of a file are deleted key by key; more go by range, and
	// their blocks are freed in the background, reapBatch runs at a time. maxReaps bounds the files
	// that wait for that.
	pointDeletes = 512
	reapBatch    = 4096
	maxReaps     = 64

	// extentWeight is how many bytes of tags count as one extent in memory.
	extentWeight = 4 * tagBytes

	// scrubBlocks is what a scrub reads at a time, a multiple of extentBlocks; scrubRecords of the
	// metadata.
	scrubBlocks  = 256
	scrubRecords = 4096
	// maxRepairs bounds the leaks that one Inspect ends.
	maxRepairs = 1 << 20

	// allocateExtents bounds the extents that Allocate records in one step: 16 GiB, if the volume has
	// long runs.
	allocateExtents = 4096

	// cloneBlocks bounds the blocks that Clone does in one step: 1 GiB. The tags of its extents are in
	// one batch.
	cloneBlocks = 1 << 18

	// Who has read aheadAfter bytes of a file in sequence, in more than one call and with up to aheadReaders
	// calls at once, has up to maxAheadBytes read ahead, as much as one call asks for but minAheadBytes at
	// least. A read that is up to aheadNear times its length, but no more than maxAheadBytes, from where the last
	// one ended counts as in sequence. After what was in the cache already the next look is aheadCached further on. maxAheadOrders
	// are those that wait, in a store.
	aheadAfter     = 64 << 10
	aheadReaders   = 2
	aheadNear      = 4
	minAheadBytes  = 256 << 10
	maxAheadBytes  = 1 << 20
	aheadCached    = 4 << 20
	maxAheadOrders = 16

	// minCacheBytes is the least memory for caches.
	minCacheBytes = 4 << 20

	// metaCacheShare says which part of a store's own cache is for metadata: one in so many.
	metaCacheShare = 4

	// What is for what in memory that stores share: three eighths are for decrypted content, one part in
	// metaShare for the cache of metadata, of which up to one in memTablesShare is memtables; one in
	// dirtyShare for unstable data, as much again for what of it is yet to be stored but no more than one store may have, one in
	// nodeShare for inodes and extents. The rest, three eighths, is for
	// what is not counted, buffers above all, and for what the collector has not found yet.
	contentEighths = 3
	metaShare      = 8
	memTablesShare = 16
	dirtyShare     = 16
	nodeShare      = 16
	// buffersBytes is what buffers outside the Go heap take at most: those of package blockdev, and of the
	// server that the store is behind. heapEighths is what the heap has at least.
	buffersBytes = 128 << 20
	heapEighths  = 3

	// minMemTableBytes is the size with which Pebble begins, maxMemTableBytes that beyond which a larger
	// one gains nothing.
	minMemTableBytes = 256 << 10
	maxMemTableBytes = 16 << 20

	// inodeBytes and extentBytes are what an inode and an extent take in memory, about.
	inodeBytes  = 1024
	extentBytes = 64

	// Who changes metadata waits when Pebble has metaStallTables memtables that are not written out, or
	// metaStallSublevels layers of tables that are not merged. Pebble itself would let them wait far
	// beyond that: see metaStall.
	metaStallTables    = 4
	metaStallSublevels = 24
	hardStallTables    = 64
	hardStallSublevels = 1000
	// maxMetaFailures is how often in a row Pebble's work may fail that somebody waits for: a second's
	// worth, as failureTime is between two.
	maxMetaFailures = 100
	failureTime     = 10 * time.Millisecond

	// A new key's content is moved to at most one part in rekeyShare of the free space before what that
	// frees is free. rekeyRecords bounds the records of moved runs that one batch deletes. After a round in
	// which nothing could be done the next one is rekeyIdleTime later, and after more of them up to 32 times that.
	// With damage, rekeyPatience such rounds are enough.
	rekeyShare    = 2
	rekeyRecords  = 1024
	rekeyIdleTime = 100 * time.Millisecond
	rekeyPatience = 8

	// shards is how many parts the table of inodes has.
	shards = 64
	// extentShare: see tooManyExtents.
	extentShare = 4
	// evictSteps bounds the search for an inode that can leave the cache, and in a shard for those that can do without
	// their extents; relieveSteps that one in all shards, for each window that comes.
	evictSteps   = 32
	relieveSteps = 256

	// Leases of counters: how many values one durable update covers.
	inodeLease  = 4096
	changeLease = 1 << 32

	// discardRuns is how many runs the device is told of in one round: between two a check can begin.
	discardRuns = 256

	// flushers is how many files the background flusher and Close flush at a time.
	flushers = 4
	// abandonTime is how long Close waits for the goroutines of a metadata store that has failed.
	abandonTime = 2 * time.Second
	// minTick and maxTick bound how often the background looks at ages, which is four times within
	// the shortest one.
	minTick = time.Millisecond
	maxTick = 500 * time.Millisecond
)
