package certfile

import "time"

// Our own choices.
const (
	// DefaultPoll is how often the files are looked at.
	DefaultPoll = 5 * time.Second
	// DefaultOCSPTimeout bounds one question to a responder.
	DefaultOCSPTimeout = 10 * time.Second

	// MaxPairs bounds the certificates of a Source.
	MaxPairs = 16

	maxFileBytes  = 1 << 20
	maxChain      = 10
	minRSABits    = 2048
	retryStaple   = time.Minute // the pause after a failed question
	minStapleWait = time.Second // between two questions, however short a response's time
	// warnBefore is how long before its end a certificate is told of, every warnEvery.
	warnBefore = 14 * 24 * time.Hour
	warnEvery  = 24 * time.Hour
)
