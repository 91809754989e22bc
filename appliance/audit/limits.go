package audit

const (
	// MaxLineBytes bounds one line, in bytes with its newline; an Event that needs more is refused.
	MaxLineBytes = 64 << 10
	// defaultMaxFileBytes is when the next file is begun.
	defaultMaxFileBytes = 64 << 20
	// maxFiles is the greatest file number: eight digits.
	maxFiles = 99_999_999
)
