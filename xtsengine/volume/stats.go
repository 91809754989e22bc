package volume

import (
	"sync/atomic"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
)

// counters counts for the whole volume.
type counters struct {
	reads, writes           atomic.Uint64
	bytesRead, bytesWritten atomic.Uint64
	syncs, tableUpdates     atomic.Uint64
	discards, errors        atomic.Uint64
	tagErrors               atomic.Uint64
	bytesDiscarded          atomic.Uint64
}

// Stats counts since Open.
type Stats struct {
	// Reads and Writes count transfers handed to the device, of up to 1 MiB each.
	Reads, Writes uint64
	// BytesRead and BytesWritten are data, without metadata.
	BytesRead, BytesWritten uint64
	// Syncs counts calls of Sync, several of which may share a flush.
	Syncs uint64
	// TableUpdates counts durable changes of a table page.
	TableUpdates uint64
	// Discards counts chunks whose contents the device was told to forget.
	Discards uint64
	// BytesDiscarded are freed blocks of other chunks that it was told to forget.
	BytesDiscarded uint64
	// Errors counts calls that the device failed.
	Errors uint64
	// TagErrors counts reads that met a block without its tag.
	TagErrors uint64
}

// Stats says what the volume did.
func (v *Volume) Stats() Stats {
	c := &v.counters
	return Stats{
		Reads: c.reads.Load(), Writes: c.writes.Load(),
		BytesRead: c.bytesRead.Load(), BytesWritten: c.bytesWritten.Load(),
		Syncs: c.syncs.Load(), TableUpdates: c.tableUpdates.Load(),
		Discards: c.discards.Load(), Errors: c.errors.Load(), TagErrors: c.tagErrors.Load(),
		BytesDiscarded: c.bytesDiscarded.Load(),
	}
}

// count adds the transfers of one call.
func (c *counters) count(calls, bytes *atomic.Uint64, requests []blockdev.Request) {
	total := 0
	for i := range requests {
		total += len(requests[i].Buf)
	}
	calls.Add(uint64(len(requests)))
	bytes.Add(uint64(total))
}
