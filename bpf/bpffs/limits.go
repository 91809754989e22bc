package bpffs

import "time"

const (
	// lockTimeout is how long Lock waits: whoever holds the lock does so for some system calls.
	lockTimeout = 5 * time.Second
	lockPause   = 2 * time.Millisecond
)
