package configfile

const (
	// MaxBytes is the largest file that is read.
	MaxBytes = 256 << 10
	// maxText is the longest value.
	maxText = 4096
	// maxEntries is the longest list.
	maxEntries = 1024
	// maxProblems is how many are told at once.
	maxProblems = 20
)
