package update

const (
	// maxManifestBytes bounds what is read before the signature is known to be good.
	maxManifestBytes = 16 << 10
	// maxKernelBytes is the largest kernel image: the EFI partition has room for two.
	maxKernelBytes = 30 << 20
	// maxRootBytes is the largest root with its hash tree.
	maxRootBytes = 2 << 30
	// MaxBytes is the largest bundle, headers included.
	MaxBytes = maxKernelBytes + maxRootBytes + 1<<20
	// maxKeyBytes bounds the file of a key.
	maxKeyBytes = 16 << 10
	// tries is how often a version is started before it is given up.
	tries = 3
	// copyBytes are copied or read back at a time.
	copyBytes = 1 << 20
)
