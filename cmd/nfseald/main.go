package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance"
	"github.com/nfseal/nfseal/appliance/durable"
)

// version is set by the linker.
var version = "unknown"

// The exit statuses.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	trySeconds := takeTrySeconds()
	c, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintln(stderr, "nfseald:", err)
		return exitUsage
	}
	if c.showVersion {
		fmt.Fprintln(stdout, "nfseald", version)
		return exitOK
	}
	if err := appliance.Harden(); err != nil {
		fmt.Fprintln(stderr, "nfseald:", err)
		return exitFailure
	}
	if err := errors.Join(appliance.ShortenSlices(), appliance.CalmMonitor()); err != nil { // works without
		fmt.Fprintln(stderr, "nfseald:", err)
	}
	serve := func(c *config, stdout, stderr io.Writer) error { return serveFile(c, args, trySeconds, stdout, stderr) }
	switch {
	case c.check:
		serve = check
	case c.fsck:
		serve = fsck
	case c.moveTo != nil:
		serve = moveRoot
	case c.removeNet:
		serve = removeNetwork
	}
	err = serve(c, stdout, stderr)
	if errors.Is(err, errAgain) {
		err = again(c.trySeconds)
	}
	if err != nil {
		why := strings.ReplaceAll(err.Error(), "\n", "; ")
		fmt.Fprintln(stderr, "nfseald:", why)
		noteFailure(c.failureFile, why, stderr)
		return exitFailure
	}
	return exitOK
}

// noteFailure leaves what a console can show where the log can't be read; "" leaves nothing.
func noteFailure(path, why string, stderr io.Writer) {
	if path == "" {
		return
	}
	if err := durable.WriteFile(path, []byte(why+"\n"), 0o600); err != nil {
		fmt.Fprintln(stderr, "nfseald:", err)
	}
}

// serve runs the daemon until a signal, or until it is to start again, with errAgain.
func serve(c *config, k *keeper, stdout, stderr io.Writer) error {
	level := zap.InfoLevel
	if c.debug {
		level = zap.DebugLevel
	}
	log, err := newLogger(c.logFormat, level, stderr)
	if err != nil {
		return err
	}
	defer log.Sync()
	// From here on a SIGHUP, whose usual effect is to end the process, is kept for when the start is complete.
	hangUps := make(chan os.Signal, 1)
	signal.Notify(hangUps, syscall.SIGHUP)
	log.Debug("starting", zap.String("version", version))
	c.options.Log = log
	c.options.ServiceManager = serviceManager()
	c.options.EnsureDefaults()
	debug.SetMemoryLimit(c.options.MemoryLimit())

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal has its usual effect: it ends the process
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	if k != nil {
		c.options.Configurations = k
		k.end = func() { end(errAgain) }
	}

	a, err := appliance.Open(ctx, c.options)
	if err != nil {
		return err
	}
	for _, f := range a.Features() {
		log.Info("feature", zap.String("name", f.Name), zap.Bool("on", f.On), zap.String("detail", f.Detail))
	}
	defer reloads(ctx, a, log, hangUps)()
	for _, line := range a.Banner() {
		fmt.Fprintln(stdout, line)
	}
	defer k.tryFor(log)()
	if err := errors.Join(a.Run(ctx), a.Close()); err != nil {
		return err
	}
	if errors.Is(context.Cause(ctx), errAgain) {
		log.Info("starting again with another configuration")
		return errAgain
	}
	log.Info("stopped")
	return nil
}

// reloads has each of hangUps take certificates in files in again; the function it returns ends that, and closes
// hangUps.
func reloads(ctx context.Context, a *appliance.Appliance, log *zap.Logger, hangUps chan os.Signal) (end func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for range hangUps {
			if err := a.Reload(ctx); err != nil {
				log.Error("not reloaded: what was before goes on", zap.Error(err))
			}
		}
	})
	return func() {
		signal.Stop(hangUps)
		close(hangUps)
		wg.Wait()
	}
}

// keptEnvironment is what serviceManager has taken and a program that takes this one's place is to have. Sockets are not of
// it: they are closed by then.
var keptEnvironment = map[string]string{}

// serviceManager takes what it reads out of the environment: it is for this process alone.
func serviceManager() appliance.ServiceManager {
	take := func(name string) string {
		value := os.Getenv(name)
		os.Unsetenv(name)
		if value != "" && name == "NOTIFY_SOCKET" {
			keptEnvironment[name] = value
		}
		return value
	}
	return appliance.ServiceManager{
		NotifySocket: take("NOTIFY_SOCKET"),
		ListenPID:    take("LISTEN_PID"), ListenFDs: take("LISTEN_FDS"), ListenFDNames: take("LISTEN_FDNAMES"),
	}
}

// moveRoot has another root of trust keep the root key.
func moveRoot(c *config, stdout, _ io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	moved, err := appliance.MoveRoot(ctx, c.options, *c.moveTo)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, `The root key %s has taken the place of %s, and %d keys were wrapped anew.
It is kept by %s.
Start the daemon with -root %s. What kept the former root key opens nothing here any more, but it opens
backups and copies from before: destroy both when the new root of trust has proved itself.
`, moved.To, moved.From, moved.Changes, moved.About, c.moveTo.String())
	return nil
}

func removeNetwork(c *config, _, _ io.Writer) error { return appliance.RemoveNetwork(c.options) }

// fsck prints what is wrong in a data directory; its exit status says only whether it could look.
func fsck(c *config, stdout, _ io.Writer) error {
	checks, err := appliance.Fsck(context.Background(), c.options, c.repair)
	if err != nil {
		return err
	}
	e := json.NewEncoder(stdout)
	e.SetIndent("", "  ")
	return e.Encode(checks)
}

// check looks at the data directory and the host without changing anything.
func check(c *config, stdout, _ io.Writer) error {
	report, err := appliance.Check(context.Background(), c.options)
	for _, f := range report {
		state := "off"
		if f.On {
			state = "on"
		}
		fmt.Fprintf(stdout, "%-24s %-4s %s\n", f.Name, state, f.Detail)
	}
	return err
}
