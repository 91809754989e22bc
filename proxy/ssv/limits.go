package ssv

import "crypto/aes"

// What the standard fixes.
const (
	// maxHashBytes is the longest HMAC.
	maxHashBytes = 64
	ivBytes      = aes.BlockSize
)

// What we chose.
const (
	// MaxWindow is how many versions of an SSV are kept at most.
	MaxWindow = 8
	// WindowLen is how many sequence numbers of a handle may be under way (seq_window, RFC 2203 §5.2.3.1): clients are not told of
	// it, so it is well above the slots of their sessions.
	WindowLen = 256

	confounderBytes = 16
)
