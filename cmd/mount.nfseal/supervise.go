package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/proxy/tunnel/supervisor"
)

// superviseWord as the first argument makes this program the supervisor. The state directory and the log follow
// if they are not the usual ones.
const superviseWord = "supervise"

// standbyWord instead makes it one that waits for the supervisor's end to take its place.
const standbyWord = "standby"

// unit is the supervisor's where systemd runs.
const unit = "nfseal-tunnels.service"

// superviseMain is the supervisor, at once or (wait) when the present one has ended.
func superviseMain(args []string, wait bool) int {
	dir, logPath := statePath, logPath
	if len(args) == 2 {
		dir, logPath = args[0], args[1]
	}
	log, closeLog := openLog(logPath)
	defer closeLog()
	file := openLogFile(logPath)
	defer file.Close()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	o := supervisor.Options{
		Dir: dir, Log: log.Named("supervisor"), Wait: wait,
		Command: func(path string) *exec.Cmd { return ourselves(file, tunnelWord, path) },
	}
	if dir != statePath || !bySystemd() {
		var standby sync.WaitGroup
		defer standby.Wait()
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		o.IdleTimeout = idleTimeout
		o.Started = func() { standby.Go(func() { keepStandby(ctx, file, dir, logPath) }) }
	}
	err := supervisor.New(o).Run(ctx)
	switch {
	case errors.Is(err, supervisor.ErrRunning):
		return exitOK
	case err != nil:
		fmt.Fprintf(os.Stderr, "mount.nfseal: %v\n", err)
		log.Error("supervisor failed", zap.Error(err))
		return exitSystem
	}
	return exitOK
}

// ourselves gives a command that runs this program with other arguments, and nothing of our environment. What it says
// at its end, if that is an unexpected one, goes to the log.
func ourselves(log *os.File, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "mount.nfseal"
	cmd.Dir = "/"
	cmd.Env = []string{"GOGC=50"} // little memory matters more here than few collections
	if log != nil {
		cmd.Stderr = log
	}
	return cmd
}

// keepStandby has another process wait for our end, where systemd doesn't. Otherwise nobody would be left where the
// supervisor and the only tunnel die within a moment.
func keepStandby(ctx context.Context, log *os.File, dir, logPath string) {
	for ctx.Err() == nil {
		cmd := ourselves(log, standbyWord, dir, logPath)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err == nil {
			stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
			cmd.Wait()
			stop()
		}
		select {
		case <-ctx.Done():
		case <-time.After(standbyPause):
		}
	}
}

// bySystemd says whether the supervisor is systemd's affair.
func bySystemd() bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return false
	}
	for _, dir := range []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
		if _, err := os.Stat(filepath.Join(dir, unit)); err == nil {
			return true
		}
	}
	return false
}

// systemctls are where distributions have systemctl. mount(8) gives its helpers no PATH (seen of util-linux 2.38).
var systemctls = []string{"/usr/bin/systemctl", "/bin/systemctl"}

// startUnit has the first of programs that there is start a unit.
func startUnit(programs []string, unit string) error {
	for _, program := range programs {
		if _, err := os.Stat(program); err != nil {
			continue
		}
		if out, err := exec.Command(program, "start", unit).CombinedOutput(); err != nil {
			return fmt.Errorf("%s start %s: %w: %s", program, unit, err, out)
		}
		return nil
	}
	return fmt.Errorf("start %s: there is no %s", unit, strings.Join(programs, " and no "))
}

// startSupervisor starts one, as a service or as a daemon.
func startSupervisor(dir, logPath string) error {
	if dir == statePath && bySystemd() {
		return startUnit(systemctls, unit)
	}
	file := openLogFile(logPath)
	defer file.Close()
	cmd := ourselves(file, superviseWord, dir, logPath)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("the tunnel supervisor doesn't start: %w", err)
	}
	go cmd.Wait() // for as long as we last
	return nil
}

// reviveSupervisor is what a tunnel does when the supervisor has gone. systemd does it itself, unless it was told
// to stop it.
func reviveSupervisor(dir, logPath string, log *zap.Logger) {
	if dir == statePath && bySystemd() {
		return
	}
	if err := startSupervisor(dir, logPath); err != nil {
		log.Error("supervisor not started", zap.Error(err))
	}
}

// reachSupervisor connects to the supervisor, and starts one if there is none.
func reachSupervisor(dir, logPath string) (*supervisor.Client, error) {
	c, err := supervisor.Dial(dir)
	if err == nil {
		return c, nil
	}
	if err := startSupervisor(dir, logPath); err != nil {
		return nil, err
	}
	for end := time.Now().Add(startTimeout); time.Now().Before(end); time.Sleep(startPoll) {
		if c, err = supervisor.Dial(dir); err == nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("the tunnel supervisor doesn't come up: %w; see %s", err, logPath)
}

// openTunnel has a tunnel made. A supervisor that is killed meanwhile has a successor.
func openTunnel(dir, logPath string, s supervisor.State) (*supervisor.Client, int, error) {
	for end := time.Now().Add(startTimeout); ; {
		c, err := reachSupervisor(dir, logPath)
		if err != nil {
			return nil, 0, err
		}
		port, err := c.Open(s)
		if err == nil {
			return c, port, nil
		}
		c.Close()
		if !errors.Is(err, supervisor.ErrGone) || time.Now().After(end) {
			return nil, 0, err
		}
	}
}
