package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/nfseal/nfseal/internal/daemon"
	"github.com/nfseal/nfseal/internal/tree"
	"github.com/nfseal/nfseal/internal/uml"
)

// Options say what the demo uses.
type Options struct {
	// BinDir holds nfseald, nfseal, mount.nfseal and nfseal-guest.
	BinDir string
	// Source is the tree to copy; empty is the Go toolchain's own sources.
	Source string
	// VolumeSize is what nfseald is told.
	VolumeSize string
	// Keep leaves the data directory and the capture where they are.
	Keep bool
	// Out gets progress and summary.
	Out io.Writer
}

// EnsureDefaults fills in what was left out.
func (o *Options) EnsureDefaults() error {
	if o.VolumeSize == "" {
		o.VolumeSize = "1GiB"
	}
	if o.Source != "" {
		return nil
	}
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("demo: find the Go toolchain's sources: %w", err)
	}
	o.Source = filepath.Join(strings.TrimSpace(string(out)), "src")
	return nil
}

// Validate says what is missing.
func (o *Options) Validate() error {
	for _, name := range []string{"nfseald", "nfseal", "mount.nfseal", "nfseal-guest"} {
		if _, err := os.Stat(filepath.Join(o.BinDir, name)); err != nil {
			return fmt.Errorf("demo: the programs are not built (make build): %w", err)
		}
	}
	if !filepath.IsAbs(o.BinDir) || !filepath.IsAbs(o.Source) {
		return fmt.Errorf("demo: %q and %q must be absolute paths", o.BinDir, o.Source)
	}
	if info, err := os.Stat(o.Source); err != nil || !info.IsDir() {
		return fmt.Errorf("demo: the source %s is not a directory", o.Source)
	}
	return nil
}

// serverIP is an address of the server that is not the wire's own.
const serverIP = "10.97.0.1"

// mountPoint is in the client.
const mountPoint = "/mnt"

// demo is one run.
type demo struct {
	o       Options
	began   time.Time
	dir     string // all that is written
	network *uml.Network
	guest   *uml.Guest
	daemon  *daemon.Daemon
	kernel  string // of the client

	fs      string
	source  []tree.Entry
	extras  string // a small tree of what the source has none of
	extra   []tree.Entry
	needles *Needles
	capture *Capture // of the wire while the mount stands
	canary  []byte   // crosses the wire in the clear, for the control

	copyTime, checkTime, compareTime time.Duration
}

// Run runs the demo. It stops all that it started before it returns.
func Run(ctx context.Context, o Options) (err error) {
	if err := o.EnsureDefaults(); err != nil {
		return err
	}
	if err := o.Validate(); err != nil {
		return err
	}
	d := &demo{o: o, began: time.Now()}
	d.dir, err = os.MkdirTemp("", "nfseal-demo-")
	if err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	defer func() { err = errors.Join(err, d.close()) }()
	for _, step := range []func(context.Context) error{
		d.readSource, d.startServer, d.bootClient, d.controlWire, d.useMount, d.stopServer, d.searchAll,
	} {
		if err := step(ctx); err != nil {
			if ctx.Err() != nil {
				return errors.New("demo: interrupted; everything it started is being stopped")
			}
			return err
		}
	}
	d.summary()
	return nil
}

// say prints one line of progress with the time since the start.
func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.o.Out, "%6.1f s  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

// close stops and removes all there is, in the order in which it depends on each other.
func (d *demo) close() error {
	if d.guest != nil {
		d.guest.Shutdown()
	}
	if d.daemon != nil {
		d.daemon.Kill()
	}
	if d.network != nil {
		d.network.Close()
	}
	if d.o.Keep {
		d.say("kept: %s", d.dir)
		return nil
	}
	if err := os.RemoveAll(d.dir); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	return nil
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

// readSource describes what will be copied, and chooses what to search for.
func (d *demo) readSource(context.Context) (err error) {
	d.say("reading the source tree %s", d.o.Source)
	if d.source, err = tree.Scan(d.o.Source, 2); err != nil {
		return err
	}
	files, size := tree.Summary(d.source)
	d.extras = d.path("extras")
	if err := makeExtras(d.extras); err != nil {
		return err
	}
	if d.extra, err = tree.Scan(d.extras, 1); err != nil {
		return err
	}
	names, contents, err := Pick(d.o.Source, d.source, 1)
	if err != nil {
		return err
	}
	if d.needles, err = NewNeedles(append(names, contents...)); err != nil {
		return err
	}
	d.say("  %d files, %s; %d of their names and %d pieces of their contents will be searched for",
		files, megabytes(size), len(names), len(contents))
	control, err := d.needles.SearchDir(d.o.Source)
	if err != nil {
		return err
	}
	if len(control.Hits) != d.needles.Len() {
		return fmt.Errorf("demo: the search finds only %d of %d in the source itself", len(control.Hits), d.needles.Len())
	}
	d.say("  control: the search finds all %d of them in the source itself", len(control.Hits))
	return nil
}

var fileSystemID = regexp.MustCompile(`\bfs-[0-9a-f]{17}\b`)

func (d *demo) startServer(ctx context.Context) (err error) {
	if d.network, err = uml.NewNetwork(); err != nil {
		return err
	}
	if err := d.network.AddAddress(serverIP + "/32"); err != nil {
		return err
	}
	data := d.path("data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	d.daemon, err = daemon.Start(ctx, daemon.Options{
		Network: d.network, BinDir: d.o.BinDir, DataDir: data, IP: serverIP,
		Args: []string{"-volume-size", d.o.VolumeSize},
	})
	if err != nil {
		return err
	}
	d.say("nfseald serves, with a new data directory: key file, volume of %s, certificate authority", d.o.VolumeSize)
	out, err := d.daemon.Command(ctx, "fs", "create", "--name", "demo")
	if err != nil {
		return err
	}
	if d.fs = fileSystemID.FindString(out); d.fs == "" {
		return fmt.Errorf("demo: nfseal fs create printed no id: %s", out)
	}
	d.say("file system %s created", d.fs)
	return nil
}

func (d *demo) bootClient(ctx context.Context) (err error) {
	began := time.Now()
	o := uml.Options{Agent: filepath.Join(d.o.BinDir, "nfseal-guest"), HostKernel: uml.HostHasNFS()}
	if d.guest, err = d.network.StartGuest(ctx, o); err != nil {
		return err
	}
	if d.kernel, err = d.guest.Must(ctx, "uname", "-sr"); err != nil {
		return err
	}
	d.kernel = strings.TrimSpace(d.kernel)
	what := "in user-mode Linux"
	if o.HostKernel {
		what = "this machine's own, in namespaces"
	}
	d.say("client booted in %.1f s: %s (%s)", time.Since(began).Seconds(), d.kernel, what)
	_, err = d.guest.Must(ctx, "cp", filepath.Join(d.o.BinDir, "mount.nfseal"), "/sbin/mount.nfseal")
	return err
}

func (d *demo) stopServer(context.Context) error {
	if err := d.daemon.Stop(); err != nil {
		return err
	}
	d.say("nfseald has drained and ended with status 0")
	return nil
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

func rate(n int64, d time.Duration) string {
	return fmt.Sprintf("%.1f MB/s", float64(n)/1e6/max(d.Seconds(), 1e-9))
}

func (d *demo) summary() {
	files, size := tree.Summary(d.source)
	fmt.Fprintf(d.o.Out, `
%d files, %s, through the Linux NFS client (%s) over TLS
  copied in         %6.1f s   %s, %.0f files/s
  checksums there   %6.1f s   %s
  compared, fresh   %6.1f s   %s: every byte, mode, owner, time and link is the same
  on the wire       %s in %d frames
  searched for      %d names and pieces of contents: none in the volume, the metadata or on the wire
  altogether        %6.1f s
`,
		files, megabytes(size), d.kernel,
		d.copyTime.Seconds(), rate(size, d.copyTime), float64(files)/d.copyTime.Seconds(),
		d.checkTime.Seconds(), rate(size, d.checkTime),
		d.compareTime.Seconds(), rate(size, d.compareTime),
		megabytes(d.capture.Bytes()), d.capture.Frames(), d.needles.Len(), time.Since(d.began).Seconds())
}
