package tunnel

import "time"

// Where the kernel's client finds a tunnel.
const (
	// FirstPort and LastPort are the local ports that Listen tries.
	FirstPort = 20049
	LastPort  = 20449
)

const (
	// DefaultMaxConnections is how many connections one tunnel carries: nconnect is 16 at most,
	// and connections that end overlap with their successors.
	DefaultMaxConnections = 64
	// DefaultHoldTimeout is how long a local connection is held while the server can't be reached.
	DefaultHoldTimeout = 45 * time.Second

	// firstBytes is the most that is read before the server is dialled: a call that tries the server is 44 bytes.
	firstBytes = 4 << 10
	// bufferBytes is what one direction of a connection reads at once: sixteen TLS records.
	bufferBytes = 256 << 10

	// Pauses between dials.
	minDialPause = 50 * time.Millisecond
	maxDialPause = time.Second

	// Pauses after a failed accept.
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second

	// lingerTimeout is how long one direction may go on after the other's end.
	lingerTimeout = 10 * time.Second
)
