package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/internal/uml"
)

const (
	// startTimeout bounds Start.
	startTimeout = 60 * time.Second
	// stopTimeout is how long the daemon may drain before Stop kills it.
	stopTimeout = 30 * time.Second
	// startPoll is how often Start asks whether the daemon serves.
	startPoll = 20 * time.Millisecond
	// maxLogBytes of the log's end are quoted.
	maxLogBytes = 6 << 10
)

// Options say how to run the daemon.
type Options struct {
	// Network is where it listens.
	Network *uml.Network
	// BinDir holds nfseald and nfseal.
	BinDir string
	// DataDir is its data directory.
	DataDir string
	// IP is its address.
	IP string
	// Args are further arguments, for nfseald.
	Args []string
}

// Daemon is a running nfseald.
type Daemon struct {
	// Client speaks to its API.
	Client *api.Client

	options Options
	cmd     *exec.Cmd
	log     string
	ended   chan struct{} // closed when the process has been waited for
	status  error         // how it ended, after ended
}

// Start starts the daemon and returns when all of it serves. Its log goes to a file beside the data
// directory, so that it is not searched with it.
func Start(ctx context.Context, o Options) (*Daemon, error) {
	d := &Daemon{
		Client:  api.NewClient(filepath.Join(o.DataDir, "api.sock")),
		options: o,
		log:     o.DataDir + ".log",
		ended:   make(chan struct{}),
	}
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("daemon: %w", err)
	}
	defer log.Close()
	d.cmd = exec.Command(filepath.Join(o.BinDir, "nfseald"), d.args()...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := o.Network.Start(d.cmd); err != nil {
		return nil, fmt.Errorf("daemon: start nfseald: %w", err)
	}
	go func() {
		d.status = d.cmd.Wait()
		close(d.ended)
	}()
	if err := d.waitUntilHealthy(ctx); err != nil {
		d.Kill()
		return nil, fmt.Errorf("%w; its log ends:\n%s", err, d.Log())
	}
	return d, nil
}

func (d *Daemon) args() []string {
	args := []string{
		"-data", d.options.DataDir,
		"-listen", net.JoinHostPort(d.options.IP, "2049"),
		"-ocsp-listen", net.JoinHostPort(d.options.IP, "2050"),
		"-advertise", d.options.IP,
	}
	return append(args, d.options.Args...)
}

func (d *Daemon) waitUntilHealthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(startPoll)
	defer tick.Stop()
	for {
		err := d.healthy(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-d.ended:
			return fmt.Errorf("daemon: nfseald ended at its start: %w", exitError(d.status))
		case <-ctx.Done():
			return fmt.Errorf("daemon: nfseald does not serve: %w", errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

func exitError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// healthy asks for the status and wants every unit to serve.
func (d *Daemon) healthy(ctx context.Context) error {
	s, err := d.Client.Status(ctx)
	if err != nil {
		return err
	}
	for _, u := range s.Units {
		if u.State != "serving" {
			return fmt.Errorf("unit %s: %s %s", u.ID, u.State, u.Reason)
		}
	}
	if len(s.Units) == 0 {
		return errors.New("no unit yet")
	}
	return nil
}

// Pid is the process's id.
func (d *Daemon) Pid() int { return d.cmd.Process.Pid }

// Kill ends the process as a power cut would, and returns when it has gone.
func (d *Daemon) Kill() {
	_ = d.cmd.Process.Kill() // it may have ended already
	<-d.ended
	d.Client.Close()
}

// Stop asks the daemon to drain, with SIGTERM, and wants status 0.
func (d *Daemon) Stop() error {
	defer d.Client.Close()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("daemon: %w", err)
	}
	select {
	case <-d.ended:
	case <-time.After(stopTimeout):
		d.Kill()
		return fmt.Errorf("daemon: nfseald did not drain within %v; its log ends:\n%s", stopTimeout, d.Log())
	}
	if d.status != nil {
		return fmt.Errorf("daemon: nfseald ended with %w; its log ends:\n%s", d.status, d.Log())
	}
	return nil
}

// Restart starts the daemon again with the same options, after Kill or Stop.
func (d *Daemon) Restart(ctx context.Context) (*Daemon, error) { return Start(ctx, d.options) }

// Log is the end of what the daemon has logged.
func (d *Daemon) Log() string {
	text, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-maxLogBytes):])
}

// Command runs bin/nfseal on the daemon's API and returns what it prints.
func (d *Daemon) Command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(d.options.BinDir, "nfseal"), args...)
	cmd.Env = append(os.Environ(), "NFSEAL_SOCKET="+filepath.Join(d.options.DataDir, "api.sock"))
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("daemon: nfseal %s: %w: %s", strings.Join(args, " "), err, text)
	}
	return text, nil
}
