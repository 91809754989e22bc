package api

import "time"

// Ours.
const (
	maxConnections  = 64
	minScrubBytes   = 64 << 10 // a second
	maxBodyBytes    = 256 << 10
	maxHeaderBytes  = 16 << 10
	readTimeout     = 10 * time.Second
	idleTimeout     = 60 * time.Second
	shutdownTimeout = 5 * time.Second
	// callsASecond is how often a principal may call from afar for long, callBurst at once.
	callsASecond = 50
	callBurst    = 200
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
