// Package bpffs finds or mounts the file system in which programs, maps and links stay when the
// process that made them has gone, and locks directories in it.
//
// It has no state and no goroutines. A mount that Root makes belongs to the mount namespace of the
// process: under a service manager that gives each start a mount namespace of its own, what is pinned
// there is gone with it. systemd mounts /sys/fs/bpf at boot, so Root has nothing to do there.
package bpffs
