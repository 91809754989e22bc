package forward

import "github.com/nfseal/nfseal/appliance/audit"

// sink is an open way to a receiver. It is used by one goroutine. After an error it is of no use but for Close.
type sink interface {
	// Add takes a record up to be sent, and copies what it needs of it.
	Add(e *audit.Entry) error
	// Send sends what was added.
	Send() error
	// Sent is how many bytes were sent, and Taken how many of them the receiver has taken for certain.
	Sent() int64
	Taken() (int64, error)
	// Settles says whether what was taken may be lost still, so that it is delivered only after settleTime.
	Settles() bool
	// Gone is closed when the receiver is known to have gone; nil if that can't be known.
	Gone() <-chan struct{}
	// Abort has a Send that waits, and all later ones, fail. It may be called from another goroutine.
	Abort()
	Close() error
}
