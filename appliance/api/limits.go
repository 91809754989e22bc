package api

import "time"

// Ours.
const (
	maxConnections  = 64
	minScrubBytes   = 64 << 10 // a second
	maxBodyBytes    = 256 << 10
	maxHeaderBytes  = 24 << 10 // a web identity token of the longest in a query
	readTimeout     = 10 * time.Second
	idleTimeout     = 60 * time.Second
	shutdownTimeout = 5 * time.Second
	// callsASecond is how often a principal may call from afar for long, callBurst at once.
	callsASecond = 50
	callBurst    = 200
	// unsignedASecond and unsignedBurst are those of an address whose calls are not signed, of which maxUnsignedBytes are
	// read; maxBuckets is how many addresses or principals are told apart.
	unsignedASecond  = 10
	unsignedBurst    = 50
	maxUnsignedBytes = 64 << 10
	maxBuckets       = 4096
	// maxMeasure bounds how long programs are timed for one answer.
	maxMeasure = 8 * time.Second
)

// EFS's.
const (
	maxTokenChars    = 64
	maxTags          = 50
	maxTagKeyChars   = 128
	maxTagValueChars = 256
	maxPage          = 1000
	defaultPage      = 100
	maxMarkerChars   = 128
	// maxRootPathChars, maxRootPathDepth and maxSecondaryGIDs bound access points.
	maxRootPathChars = 100
	maxRootPathDepth = 4
	maxSecondaryGIDs = 16
)

// KMS's.
const (
	maxDescriptionBytes = 8192
	maxKeyNameChars     = 2048
	maxRandomBytes      = 1024
	defaultRotationDays = 365
)
