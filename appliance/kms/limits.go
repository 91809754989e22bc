package kms

const (
	// KeyBytes is the length of the root key.
	KeyBytes = 32
	// maxSecretBytes bounds what Seal takes: a private key in PEM is far smaller.
	maxSecretBytes = 64 << 10
)

// The KMS API's limits.
const (
	// MaxPlaintextBytes is how much Encrypt takes.
	MaxPlaintextBytes = 4096
	minDeletionDays   = 7
	maxDeletionDays   = 30
	minRotationDays   = 90
	maxRotationDays   = 2560
	maxPolicyBytes    = 32 << 10
	maxAliases        = 50
	maxTags           = 50
	maxTagKeyBytes    = 128
	maxTagValueBytes  = 256
	maxOnDemand       = 25
	maxPrincipalBytes = 256
	// managedRotationDays is how often the keys that are managed for services are rotated.
	managedRotationDays = 365
)

// Ours: how many keys there may be, how many grants and how many versions each; how often a change that lost a race is
// tried again.
const (
	maxKeys     = 10_000
	maxGrants   = 10_000
	maxVersions = 300
	maxRetries  = 16
)
