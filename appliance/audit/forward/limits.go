package forward

import "time"

const (
	// batchBytes is how much is handed to a sink at once, one record at least.
	batchBytes = 128 << 10
	// maxDatagramBytes is what fits into a datagram: of UDP over IPv4, and of a Unix socket with ordinary buffers.
	maxDatagramBytes = 65507
	// settleTime is how long a connection has to live on before what it took counts as delivered. What is outstanding is
	// kept in mind in steps of settleStep.
	settleTime = 5 * time.Second
	settleStep = 250 * time.Millisecond
	// cursorEvery is how often the cursor is written at most.
	cursorEvery = time.Second
	// lookEvery is how often it is looked whether something was delivered.
	lookEvery = 500 * time.Millisecond
	// dialTimeout and sendTimeout bound how long a receiver that does not answer, or takes nothing, is waited for.
	dialTimeout = 10 * time.Second
	sendTimeout = 30 * time.Second
	// firstPause and longestPause are between attempts.
	firstPause   = 500 * time.Millisecond
	longestPause = time.Minute
	// closeTimeout is how long Close goes on sending.
	closeTimeout = 3 * time.Second
	// maxCursorBytes bounds the cursor file.
	maxCursorBytes = 4 << 10
	// maxCAFileBytes bounds the file with CAs.
	maxCAFileBytes = 1 << 20
)
