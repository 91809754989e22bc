package uml

import "time"

const (
	// bootTimeout bounds Start; an idle machine needs a second and a half.
	bootTimeout = 90 * time.Second
	// shutdownGrace is how long a guest may take to end by itself before it is killed.
	shutdownGrace = 5 * time.Second
	// dialTimeout bounds each attempt to reach the guest. What else runs on the machine can keep it from running for
	// long, as with a measurement at real-time priority, and it is none the worse for it.
	dialTimeout = 45 * time.Second
	// lookTimeout bounds a look at the wires of one that was not reached.
	lookTimeout = 5 * time.Second

	// maxGuests of one Network: N in 10.99.N.0/24.
	maxGuests = 200
	// minMemMB is the least that boots and mounts.
	minMemMB = 192
	// mtu of both wires. Segmentation is left to the interfaces, which pass up to 64 KiB at once.
	mtu = 1500
	// maxConsoleBytes of the console's end are kept in an error.
	maxConsoleBytes = 8 << 10
)
