package audit

const (
	// maxLineBytes bounds one line; an Event that needs more is refused.
	maxLineBytes = 64 << 10
	// defaultMaxFileBytes is when the next file is begun.
	defaultMaxFileBytes = 64 << 20
	// maxFiles is the greatest file number: eight digits.
	maxFiles = 99_999_999
)
