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
	// maxHistory is how many changes are kept for watchers that are behind.
	maxHistory = 1024
	// memTableBytes and cacheBytes keep Pebble small: the catalog is some thousand short records.
	memTableBytes = 1 << 20
	cacheBytes    = 1 << 20
	// maxRetries bounds how often a Txn that lost a race is tried again.
	maxRetries = 16
)
