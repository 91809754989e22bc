package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// version is set by the linker.
var version = "unknown"

// Where things are in the image.
const (
	stateDir = "/var/lib/nfseal-state"
	dataDir  = "/var/lib/nfseal"
	runDir   = "/run/nfseal"
	user     = "nfseal"
	// daemonDir is where the daemon leaves what the console shows.
	daemonDir = runDir + "/daemon"
	// policyDir is where stage1 leaves signed TPM policies.
	policyDir = "/run/systemd"
	// pinDir is where the daemon pins programs of the kernel: package bpffs names it.
	pinDir = "/sys/fs/bpf/nfseal"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "nfseal-boot:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	if len(args) == 1 && args[0] == "disks" {
		return prepareDisks(ctx, os.Getenv("CREDENTIALS_DIRECTORY"))
	}
	if len(args) == 1 && args[0] == "daemon" {
		return prepareDaemon(ctx)
	}
	if len(args) == 1 && args[0] == "console" {
		return showConsole(ctx)
	}
	if len(args) == 1 && args[0] == "upgrade" {
		return upgrade()
	}
	if len(args) == 1 && args[0] == "bless" {
		return bless(ctx)
	}
	return fmt.Errorf("usage: %s disks | daemon | console | upgrade | bless", filepath.Base(os.Args[0]))
}
