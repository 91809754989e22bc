package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

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
	commands := map[string]func(context.Context) error{
		"disks":    func(ctx context.Context) error { return prepareDisks(ctx, os.Getenv("CREDENTIALS_DIRECTORY")) },
		"daemon":   prepareDaemon,
		"console":  showConsole,
		"maintain": maintain,
		"power":    func(context.Context) error { return power(daemonDir) },
		"settings": func(ctx context.Context) error { return followSettings(ctx, configFile, thisMachine) },
		"upgrade":  func(context.Context) error { return upgrade() },
		"bless":    bless,
	}
	if len(args) != 1 || commands[args[0]] == nil {
		return fmt.Errorf("usage: %s %s", filepath.Base(os.Args[0]), strings.Join(slices.Sorted(maps.Keys(commands)), " | "))
	}
	return commands[args[0]](ctx)
}
