package aes256

const (
	// KeyBytes is the length of a key.
	KeyBytes = 32
	// BlockBytes is the length of a block.
	BlockBytes = 16
	// ScheduleBytes is the length of a schedule.
	ScheduleBytes = 15 * BlockBytes
)

// Schedule is the round keys of a key, in order of use. Whoever has one wipes it.
type Schedule [ScheduleBytes]byte
