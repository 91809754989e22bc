package pki

import "time"

const (
	// DefaultLeafValidity is how long a server certificate is valid; it is renewed after two thirds.
	DefaultLeafValidity = 90 * 24 * time.Hour
	// DefaultCAValidity is how long the CA is valid.
	DefaultCAValidity = 20 * 365 * 24 * time.Hour
	// DefaultResponseValidity is how long an OCSP response is fresh, and so how long a revocation
	// may go unseen by a client that is shown an old one. Staples are replaced at half of it.
	DefaultResponseValidity = 4 * time.Hour

	// backdate is how far before now certificates and responses begin, for clients whose clocks
	// are behind.
	backdate = time.Hour
	// responseBackdate likewise for thisUpdate of OCSP responses.
	responseBackdate = time.Minute
	// keepExpired is how long an expired certificate stays in the index.
	keepExpired = 30 * 24 * time.Hour
	// retryRenewal is the pause after a failed renewal.
	retryRenewal = time.Minute

	maxNames         = 100
	maxIndexEntries  = 100_000
	maxFileBytes     = 64 << 20
	maxRequestBytes  = 4 << 10
	maxCacheEntries  = 4096
	maxSigning       = 2
	maxSigningQueued = 64
	serialBytes      = 16
)
