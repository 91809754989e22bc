package catalog

const (
	// MaxKeyBytes and MaxValueBytes bound one record.
	MaxKeyBytes   = 1024
	MaxValueBytes = 128 << 10
	// MaxTxnOps bounds the operations of one side of a Txn, and its comparisons (etcd's default).
	MaxTxnOps = 128
	// MaxFileSystems is how many file systems there may be: EFS's own default limit.
	MaxFileSystems = 1000
	// MaxTags is how many tags a file system may have (EFS).
	MaxTags = 50
	// MaxUsers and MaxRoles are how many users and roles there may be, MaxAccessKeys and MaxUserPolicies how
	// many of those each may have (IAM allows two keys).
	MaxUsers        = 1000
	MaxRoles        = 1000
	MaxAccessKeys   = 2
	MaxUserPolicies = 10
	// MaxAccessPoints is how many access points a file system may have (EFS).
	MaxAccessPoints = 1000
	// maxHistory is how many changes are kept for watchers that are behind.
	maxHistory = 1024
	// memTableBytes and cacheBytes keep Pebble small: the catalog is some thousand short records.
	memTableBytes = 1 << 20
	cacheBytes    = 1 << 20
	// maxRetries bounds how often a Txn that lost a race is tried again.
	maxRetries = 16
)

// Limits of what networks are made of. All groups together fit the gate.
const (
	MaxSubnets        = 256
	MaxSecurityGroups = 500
	MaxMountTargets   = 1000
	// MaxTargetGroups is how many security groups a mount target may have (EFS).
	MaxTargetGroups = 5
	// MaxGroupRules is how many rules a security group may have, MaxRules how many all may have.
	MaxGroupRules = 256
	MaxRules      = 4000
	// MaxRuleSources is how many prefixes a rule may have, MaxSources how many all may have.
	MaxRuleSources = 1000
	MaxSources     = 120_000
	// maxNameChars and maxDescriptionChars bound names and descriptions, in characters.
	maxNameChars        = 255
	maxDescriptionChars = 255
	// reservedAddresses at the beginning of a subnet are not given to mount targets that ask for none,
	// and maxAddressTries bounds the search for a free one.
	reservedAddresses = 4
	maxAddressTries   = 1 << 16
)
