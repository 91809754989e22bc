package appliance

import "time"

const (
	// maxJSONBytes bounds the small files that describe things.
	maxJSONBytes = 64 << 10
	// maxKeyCopyBytes bounds the copy of a KMS key, with all its versions, beside a file system.
	maxKeyCopyBytes = 256 << 10
	// deviceEdgeBytes at both ends of a device are read to see whether it is empty.
	deviceEdgeBytes = 4 << 20
	// minVolumeBytes is the smallest volume that is made.
	minVolumeBytes = 16 << 20
	// defaultVolumeBytes is the size of the volume of a first start, if the host has
	// defaultVolumeShare times as much free space; else that share of it.
	defaultVolumeBytes = 10 << 30
	defaultVolumeShare = 2
	// spareBytes is what stays free on the host beside a new volume, for metadata and logs.
	spareBytes = 256 << 20
	// One byte of the machine's memory in memoryOfMachine is the daemon's by default, and
	// maxDefaultMemoryBytes at most. How it is divided says package filestore.
	memoryOfMachine       = 4
	maxDefaultMemoryBytes = 1 << 30
	minMemoryBytes        = 16 << 20
	// minHeapBytes is the least soft limit for the Go runtime: with less, the collector would never rest.
	minHeapBytes = 64 << 20
	// Long calls and their replies have bufferEighths of the memory up to what a rpc.Buffers has by default, or one byte in
	// bufferShare if that is more, but minBufferBytes at least.
	bufferEighths  = 5
	bufferShare    = 4
	minBufferBytes = 32 << 20
	// addressLook is how often it is looked whether the machine has other addresses.
	addressLook = 2 * time.Second
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
	// defaultRotationBytes is how much a change of data keys encrypts a second unless it is told;
	// rotationSpareBytes what it needs beside two chunks of the volume.
	defaultRotationBytes = 64 << 20
	rotationSpareBytes   = 8 << 20
	// defaultKeyCheckSeconds and maxKeyCheckSeconds are how often it is looked whether keys can be used.
	defaultKeyCheckSeconds = 10
	maxKeyCheckSeconds     = 60
	// retireTimeout bounds how long a successor waits for the daemon before it to drain and go.
	retireTimeout = 2 * time.Minute
)
