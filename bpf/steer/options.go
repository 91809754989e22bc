package steer

import (
	"errors"
	"path/filepath"
)

// Options configure a Steer.
type Options struct {
	// PinDir is a directory on a BPF file system, for this Steer alone; see package bpffs. It is
	// made if it does not exist.
	PinDir string
	// Port is the one to steer from, DefaultPort by default.
	Port uint16
	// Netns is the path of the network namespace; that of the calling thread by default.
	Netns string
}

// EnsureDefaults fills what was left zero.
func (o *Options) EnsureDefaults() {
	if o.Port == 0 {
		o.Port = DefaultPort
	}
	if o.Netns == "" {
		o.Netns = "/proc/thread-self/ns/net"
	}
}

// Validate says what can't work.
func (o *Options) Validate() error {
	if !filepath.IsAbs(o.PinDir) {
		return errors.New("steer: PinDir must be an absolute path")
	}
	return nil
}
