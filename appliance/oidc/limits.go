package oidc

import "time"

// AWS's.
const (
	maxTokenChars    = 20000
	maxSubjectChars  = 255
	maxIssuerChars   = 255
	maxAudienceChars = 255
	maxAudiences     = 100
	maxProviders     = 100
)

// Ours.
const (
	// skew is how far the clocks of provider and appliance may be apart.
	skew         = 5 * time.Minute
	maxFileBytes = 256 << 10
	maxKeys      = 100
	minRSABits   = 2048
	maxRSABits   = 8192
	maxAMR       = 10
)
