package main

import "time"

const (
	// nfsPort is the server's port unless port= says otherwise.
	nfsPort = 2049
	// verifyTimeout bounds the first connection altogether.
	verifyTimeout = 60 * time.Second
	// startTimeout bounds the start of the tunnel process, stopTimeout its end.
	startTimeout = 10 * time.Second
	stopTimeout  = 10 * time.Second
	// watchTick is how often the tunnel looks at its mount without being told of a change.
	watchTick = 5 * time.Second
	// goneTick is how often it looks for the kernel's last connection once the mount is gone.
	goneTick = 200 * time.Millisecond
	// reconnectTime is longer than a client takes to renew its lease.
	reconnectTime = 45 * time.Second

	maxConfigBytes   = 64 << 10
	maxCAFileBytes   = 4 << 20
	maxMountInfoLine = 64 << 10
	maxSettingsBytes = 8 << 20
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
