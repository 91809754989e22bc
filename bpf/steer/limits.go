package steer

import "time"

const (
	// MaxTargets is how many mount target addresses there can be; MaxListeners how many listening
	// sockets. They are the sizes of the maps in steer.bpf.c.
	MaxTargets   = 4096
	MaxListeners = 128

	// DefaultPort is NFS.
	DefaultPort = 2049
	// backlog is how many connections may wait in each accept queue; the kernel lowers it to
	// net.core.somaxconn, 4096 by default. Above that, SYNs are dropped, and clients send them again.
	backlog = 65535

	// maxStored bounds the sockets taken over from a service manager, and maxNameBytes the name under
	// which they are kept there (systemd's limit).
	maxStored    = MaxListeners
	maxNameBytes = 255

	// takeoverTimeout bounds each message of a takeover, and maxMessageBytes its size.
	takeoverTimeout = 5 * time.Second
	maxMessageBytes = 64
	// maxTakers bounds those that ask for the sockets at once.
	maxTakers = 4
	// acceptPause follows a failed accept, as when file descriptors run out.
	acceptPause = 100 * time.Millisecond
)
