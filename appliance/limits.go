package appliance

import "time"

const (
	// maxJSONBytes bounds the small files that describe things.
	maxJSONBytes = 64 << 10
	// minVolumeBytes is the smallest volume that is made.
	minVolumeBytes = 16 << 20
	// defaultVolumeBytes is the size of the volume of a first start, if the host has
	// defaultVolumeShare times as much free space; else that share of it.
	defaultVolumeBytes = 10 << 30
	defaultVolumeShare = 2
	// spareBytes is what stays free on the host beside a new volume, for metadata and logs.
	spareBytes = 256 << 20
	// One byte of memory in cacheOfMemory is for caches by default, and maxDefaultCacheBytes at most. All
	// file systems share them.
	cacheOfMemory        = 4
	maxDefaultCacheBytes = 1 << 30
	minCacheBytes        = 16 << 20
	// A memtable of a metadata store, of which each has two, is one byte in memTableShare of the caches,
	// out of which it is taken.
	memTableShare    = 128
	minMemTableBytes = 1 << 20
	maxMemTableBytes = 16 << 20
	// memoryBesideCache is what the daemon may need besides the cache: buffers, session replies,
	// metadata stores. The Go runtime's soft limit is that and its share of the cache: file content, the
	// rest of the cache, is not in its heap.
	memoryBesideCache = 1 << 30
	heapOfCache       = 4 // one byte in so many
	// maxUnits bounds the units of one appliance.
	maxUnits = 64
	// ocspTimeout bounds one request to the OCSP responder; maxOCSPConnections how many there are.
	ocspTimeout        = 10 * time.Second
	maxOCSPConnections = 256
	// maxWorkers bounds the sockets that connections are steered to, one a processor.
	maxWorkers = 64
	// tamperQueue bounds the blocks that wait for the audit log, maxTamperRecords those that one start
	// puts on record.
	tamperQueue      = 256
	maxTamperRecords = 4096
	// defaultScrubBytes is how much a scrub reads a second unless it is told; a record of metadata
	// counts as scrubRecordBytes. maxScrubBad bounds the bad blocks that it lists.
	defaultScrubBytes = 64 << 20
	scrubRecordBytes  = 128
	maxScrubBad       = 1000
	// retireTimeout bounds how long a successor waits for the daemon before it to drain and go.
	retireTimeout = 2 * time.Minute
)
