package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// Limits of a Service; zero means the default.
type Limits = state.Limits

// What we chose.
const (
	// MaxIOBytes is the most data that one READ or WRITE moves, in bytes.
	MaxIOBytes = 1 << 20
	// minLentBytes is from what length on a READ is worth sending from where the data lies.
	minLentBytes = 64 << 10
	// headerBytes is what a request or reply of MaxIOBytes may have around the data.
	headerBytes = 16 << 10
	// maxSessionBytes bounds a session's requests and replies (ca_maxrequestsize,
	// ca_maxresponsesize). rpc.DefaultMaxRecordBytes is above it.
	maxSessionBytes = MaxIOBytes + headerBytes
	// maxReaddirBytes bounds one READDIR.
	maxReaddirBytes = 256 << 10
	// minListBytes is how much memory must be there for a list to begin without more.
	minListBytes = 1 << 10
	// maxAttempts is how often an operation tries again after an expired client was moved out of
	// its way, or after the file it found was removed before it could be held.
	maxAttempts = 8
	// tailBytes are kept free behind each result of a COMPOUND for the failure of the next one.
	tailBytes = 16
	// reapsPerLease is how often in a lease period expired clients are looked for.
	reapsPerLease = 5

	// maxCopyBytes bounds what one COPY moves, and so how long its client waits.
	maxCopyBytes = 64 << 20
	// maxSegments bounds the segments of one READ_PLUS, each of which is looked up.
	maxSegments = 128
	// maxOnceRequests and maxOnceBytes bound what is kept of requests of minor version 0 that may come
	// twice: how many, and the longest reply.
	maxOnceRequests = 1024
	maxOnceBytes    = 2 << 10
	// maxFormerRequests bounds what is kept of requests of former starts that may come once more: the last
	// of so many slots. formerLeases is for how many lease periods after the start.
	maxFormerRequests = 1 << 16
	formerLeases      = 240
	// maxDepth is how far up a directory's root is looked for.
	maxDepth = 4096
	// maxMinorVersion is the latest minor version that is served.
	maxMinorVersion = 2

	maxNameBytes = vfs.MaxNameBytes
)
