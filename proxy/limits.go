package proxy

import "time"

const (
	// DefaultMaxConnections is how many connections are served at once.
	DefaultMaxConnections = 16384
	// DefaultDrainTimeout is how long Close lets calls under way finish.
	DefaultDrainTimeout = 10 * time.Second
	// DefaultResolveTimeout bounds Resolver.Resolve.
	DefaultResolveTimeout = 30 * time.Second
	// forceGrace is what replies get after DrainTimeout before their connections are closed.
	forceGrace = time.Second

	// A peer that has vanished is noticed after keepAliveIdle + keepAliveCount×keepAliveInterval.
	keepAliveIdle     = 60 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 4

	// Pauses after a failed accept, as when file descriptors run out.
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second

	// Of the same message, this many a second are logged, then each logEvery-th.
	logFirst = 10
	logEvery = 100
)
