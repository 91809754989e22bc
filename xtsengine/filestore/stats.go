package filestore

import "sync/atomic"

// counters counts for one store.
type counters struct {
	reads, writes, commits, namespace atomic.Uint64
	ranges                            atomic.Uint64
	bytesRead, bytesWritten           atomic.Uint64
	batches, inodeLoads, extentLoads  atomic.Uint64
	journaledBlocks, migratedBlocks   atomic.Uint64
	inlineBlocks, placedBlocks        atomic.Uint64
	flushes, flushFailures            atomic.Uint64
	freedBlocks, throttled, failures  atomic.Uint64
	tampered, aheadBlocks, lends      atomic.Uint64
	loggedWrites, replayedWrites      atomic.Uint64
}

// Stats counts since Open, and says what is in memory.
type Stats struct {
	// Reads, Writes, Commits and Namespace count calls; Namespace those that change names or
	// attributes.
	Reads, Writes, Commits, Namespace uint64
	// Ranges counts calls of Allocate, Deallocate, Clone and Seek.
	Ranges                  uint64
	BytesRead, BytesWritten uint64
	// Batches counts durable updates of metadata.
	Batches uint64
	// InodeLoads and ExtentLoads count what was not in memory.
	InodeLoads, ExtentLoads uint64
	// JournaledBlocks went into the metadata store first, MigratedBlocks were moved from there to the
	// volume, InlineBlocks stay there, PlacedBlocks went to the volume at once.
	JournaledBlocks, MigratedBlocks, InlineBlocks, PlacedBlocks uint64
	// Flushes made a file's data stable.
	Flushes, FlushFailures uint64
	FreedBlocks            uint64
	// LoggedWrites became durable in the intent log; ReplayedWrites are those that the start found there.
	LoggedWrites, ReplayedWrites uint64
	// Lends counts those of Reads whose content was lent.
	Lends uint64
	// AheadBlocks were read into the cache before they were asked for.
	AheadBlocks uint64
	// Throttled counts what had to wait for memory, or for the metadata store to catch up.
	Throttled uint64
	// Tampered counts reads of blocks that were not what was written there.
	Tampered uint64
	// Stopped is 1 once the store has stopped.
	Stopped uint64

	// DirtyBytes is unstable data in memory, UnstableBytes on the volume, JournalBytes stable data
	// that is yet to be moved.
	DirtyBytes, UnstableBytes, JournalBytes int64
	// BehindBytes is what of UnstableBytes the volume is yet to be given.
	BehindBytes int64
	// CachedInodes and CachedExtents are in memory; four tags count as an extent.
	CachedInodes, CachedExtents int64
	// CachedBlocks are decrypted blocks of content in memory.
	CachedBlocks int64
}

// Stats says what the store did.
func (s *Store) Stats() Stats {
	c := &s.stats
	return Stats{
		Reads: c.reads.Load(), Writes: c.writes.Load(), Commits: c.commits.Load(), Namespace: c.namespace.Load(),
		Ranges:    c.ranges.Load(),
		BytesRead: c.bytesRead.Load(), BytesWritten: c.bytesWritten.Load(),
		Batches: c.batches.Load(), InodeLoads: c.inodeLoads.Load(), ExtentLoads: c.extentLoads.Load(),
		JournaledBlocks: c.journaledBlocks.Load(), MigratedBlocks: c.migratedBlocks.Load(),
		InlineBlocks: c.inlineBlocks.Load(), PlacedBlocks: c.placedBlocks.Load(),
		Flushes: c.flushes.Load(), FlushFailures: c.flushFailures.Load(),
		LoggedWrites: c.loggedWrites.Load(), ReplayedWrites: c.replayedWrites.Load(),
		FreedBlocks: c.freedBlocks.Load(), Throttled: c.throttled.Load(), Stopped: c.failures.Load(),
		Tampered: c.tampered.Load(), AheadBlocks: c.aheadBlocks.Load(), Lends: c.lends.Load(),
		DirtyBytes: s.dirtyMem.load(), UnstableBytes: s.unstable.load(),
		JournalBytes: s.journaled.Load() * blockBytes, BehindBytes: s.behindMem.load(),
		CachedInodes: s.table.count(), CachedExtents: s.extents.Load(),
		CachedBlocks: s.cache.count(),
	}
}
