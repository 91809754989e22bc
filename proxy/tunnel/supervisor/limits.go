package supervisor

import "time"

const (
	// restartPause is the time between the death of a tunnel and the start of the next one. It doubles with each
	// that dies within steadyTime, up to maxRestartPause.
	restartPause    = 20 * time.Millisecond
	maxRestartPause = 800 * time.Millisecond
	steadyTime      = 5 * time.Second
	// bindPause is how often a port is tried that a tunnel should have and somebody listens on.
	bindPause = 100 * time.Millisecond
	// redialPause is how often a tunnel looks for a Supervisor.
	redialPause = 100 * time.Millisecond
	// reviveJitter bounds the random time that a tunnel leaves to others to start one.
	reviveJitter = 400 * time.Millisecond
	// tick is how often tunnels are pinged and looked at without a change of the mount table.
	tick = time.Second
	// healthTimeout is how long a tunnel may leave pings unanswered.
	healthTimeout = 30 * time.Second
	// startTimeout is how long a new tunnel may take until it serves, stopTimeout how long one that was
	// told to end.
	startTimeout = 20 * time.Second
	stopTimeout  = 5 * time.Second
	// lockTimeout is how long the lock is waited for: a predecessor that was killed may still be ending.
	lockTimeout = 2 * time.Second
	lockPause   = 50 * time.Millisecond
	// reconnectTime is longer than a client takes to renew its lease, and so to connect again.
	reconnectTime = 45 * time.Second
	// writeTimeout bounds the sending of one message.
	writeTimeout = 5 * time.Second

	maxMessageBytes  = 8 << 20
	maxMountInfoLine = 64 << 10
	maxTunnels       = 400
	maxQueue         = 64
)
