package main

import "time"

const (
	// nfsPort is the server's port unless port= says otherwise.
	nfsPort = 2049
	// verifyTimeout bounds the first connection altogether.
	verifyTimeout = 60 * time.Second
	// startTimeout bounds the start of the supervisor, startPoll is how often it is looked for.
	startTimeout = 20 * time.Second
	startPoll    = 20 * time.Millisecond
	// idleTimeout is how long a supervisor that is not systemd's stays without tunnels.
	idleTimeout = 10 * time.Second
	// standbyPause is the time between the death of a standby and the start of the next one.
	standbyPause = 200 * time.Millisecond

	maxConfigBytes = 64 << 10
	maxCAFileBytes = 4 << 20
)

// Where things are.
const (
	configPath      = "/etc/nfseal/mount.conf"
	defaultCAPath   = "/etc/nfseal/ca.pem"
	statePath       = "/run/nfseal"
	credentialsPath = "/root/.aws/credentials"
	logPath         = "/var/log/nfseal/mount.log"
)

// What the server's names are made of unless said otherwise.
const (
	defaultRegion  = "local-1"
	defaultSuffix  = "nfseal.internal"
	defaultProfile = "default"
)

// Exit statuses of mount(8).
const (
	exitOK     = 0
	exitUsage  = 1
	exitSystem = 2
	exitMount  = 32
)
