package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/daemon"
	"github.com/nfseal/nfseal/internal/tree"
	"github.com/nfseal/nfseal/internal/uml"
)

// world is what the tests of this package share: built programs, a network, one client on it.
type world struct {
	bin     string // nfseald, nfseal, mount.nfseal
	agent   string
	work    string // workload
	network *uml.Network
	guest   *uml.Guest
	servers atomic.Int32 // ever started: each has an address of its own
}

var theWorld = sync.OnceValues(func() (*world, error) {
	dir, err := os.MkdirTemp("", "nfseal-e2e-")
	if err != nil {
		return nil, err
	}
	w := &world{bin: dir, work: filepath.Join(dir, "workload")}
	if err := w.build(); err != nil {
		return w, err
	}
	if w.network, err = uml.NewNetwork(); err != nil {
		return w, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	w.guest, err = w.client(ctx)
	return w, err
})

var worldUsed atomic.Bool

func TestMain(m *testing.M) {
	code := m.Run()
	if worldUsed.Load() {
		w, _ := theWorld() // its error has been reported by the tests
		w.close()
	}
	os.Exit(code)
}

func (w *world) close() {
	if w == nil {
		return
	}
	if w.network != nil {
		w.network.Close()
	}
	os.RemoveAll(w.bin)
}

// build builds everything that runs, with the race detector off and on alike: what is tested is what
// is shipped.
func (w *world) build() error {
	for out, pkg := range map[string]string{
		"nfseald": "cmd/nfseald", "nfseal": "cmd/nfseal", "mount.nfseal": "cmd/mount.nfseal", "workload": "test/e2e/workload", "units": "test/e2e/units",
	} {
		cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(w.bin, out), "github.com/nfseal/nfseal/"+pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", out, err, text)
		}
	}
	var err error
	w.agent, err = uml.BuildAgent(w.bin)
	return err
}

// client boots a client with the mount helper in its place.
func (w *world) client(ctx context.Context) (*uml.Guest, error) {
	g, err := w.network.StartGuest(ctx, uml.Options{Agent: w.agent})
	if err != nil {
		return nil, err
	}
	if _, err := g.Must(ctx, "cp", filepath.Join(w.bin, "mount.nfseal"), "/sbin/mount.nfseal"); err != nil {
		return nil, err
	}
	return g, nil
}

// anotherClient boots a client that ends with the test.
func (w *world) anotherClient(t *testing.T) *uml.Guest {
	t.Helper()
	g, err := w.client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Shutdown)
	return g
}

// getWorld skips the test where there can be no guest.
func getWorld(t *testing.T) *world {
	t.Helper()
	if err := uml.Supported(); err != nil {
		t.Skip(err, "(runs as root where scripts/deps.sh has run: make test, .ci/run)")
	}
	worldUsed.Store(true)
	w, err := theWorld()
	if err != nil {
		t.Fatal(err)
	}
	w.replaceHungClient(t)
	return w
}

// replaceHungClient gives the tests that follow a fresh client if the one there is does not answer any more. The
// test that lost it has failed; the others have nothing to do with that.
func (w *world) replaceHungClient(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := w.guest.Answers(ctx)
	if err == nil {
		return
	}
	t.Logf("a client that hangs is replaced: %v", err)
	w.guest.Shutdown()
	if w.guest, err = w.client(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// newAddress adds an address to the host's side of the network that nobody had before.
func (w *world) newAddress(t *testing.T) string {
	t.Helper()
	ip := fmt.Sprintf("10.97.0.%d", w.servers.Add(1))
	if err := w.network.AddAddress(ip + "/32"); err != nil {
		t.Fatal(err)
	}
	return ip
}

// server is a daemon with a data directory, and one file system on it.
type server struct {
	*daemon.Daemon
	t  *testing.T
	w  *world
	ip string
	// data is the data directory.
	data string
	// fs is the id of its first file system.
	fs string
}

// smallVolume is enough for every test that does not say otherwise.
const smallVolume = "2GiB"

// startServer starts a daemon at an address that no other had. Further arguments go to nfseald.
func startServer(t *testing.T, w *world, args ...string) *server {
	t.Helper()
	s := &server{t: t, w: w, ip: w.newAddress(t), data: filepath.Join(t.TempDir(), "data")}
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := daemon.Start(t.Context(), s.options(args))
	if err != nil {
		t.Fatal(err)
	}
	s.Daemon = d
	t.Cleanup(s.stop)
	s.fs = s.createFileSystem("first")
	return s
}

func (s *server) options(args []string) daemon.Options {
	volume := []string{"-volume-size", smallVolume}
	if strings.Contains(strings.Join(args, " "), "-volume-size") {
		volume = nil
	}
	return daemon.Options{Network: s.w.network, BinDir: s.w.bin, DataDir: s.data, IP: s.ip, Args: append(volume, args...)}
}

func (s *server) stop() {
	err := s.Stop()
	if err != nil {
		s.t.Error(err)
	}
	if s.t.Failed() {
		s.t.Logf("nfseald's log ends:\n%s", s.Log())
	}
}

// restart starts the daemon again on the same data, after Kill or Stop.
func (s *server) restart() {
	s.t.Helper()
	d, err := s.Restart(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.Daemon = d
}

var fileSystemID = regexp.MustCompile(`\bfs-[0-9a-f]{17}\b`)

// createFileSystem makes one with the operator's command.
func (s *server) createFileSystem(name string) string {
	s.t.Helper()
	out, err := s.Command(s.t.Context(), "fs", "create", "--name", name)
	if err != nil {
		s.t.Fatal(err)
	}
	id := fileSystemID.FindString(out)
	if id == "" {
		s.t.Fatalf("fs create printed no id: %s", out)
	}
	return id
}

// caFile is the CA's certificate, for clients.
func (s *server) caFile() string { return filepath.Join(s.data, "pki", "ca.pem") }

// mountArgs are the arguments of mount(8).
func (s *server) mountArgs(fs, dir string, more ...string) []string {
	o := append([]string{"tls", "cafile=" + s.caFile(), "mounttargetip=" + s.ip}, more...)
	return []string{"mount", "-t", "nfseal", "-o", strings.Join(o, ","), fs + ":/", dir}
}

// mount mounts a file system in a client and unmounts it at the end of the test.
func (s *server) mount(g *uml.Guest, fs string, more ...string) string {
	s.t.Helper()
	return s.mountAs(g, fs, fs, more...)
}

// mountAs is mount on a directory with a name of its own.
func (s *server) mountAs(g *uml.Guest, name, fs string, more ...string) string {
	s.t.Helper()
	dir := "/mnt/" + strings.NewReplacer("/", "-", " ", "-").Replace(s.t.Name()) + "-" + name
	must(s.t, g, "mkdir", "-p", dir)
	must(s.t, g, s.mountArgs(fs, dir, more...)...)
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		r, err := g.Run(ctx, "umount", dir)
		for strings.Contains(r.Stderr, "busy") { // a program that was killed may not have gone yet
			time.Sleep(100 * time.Millisecond)
			r, err = g.Run(ctx, "umount", dir)
		}
		if err != nil || r.Code != 0 && !strings.Contains(r.Stderr, "not mounted") {
			s.t.Errorf("umount: %v %v", r.Err(), err)
		}
	})
	return dir
}

// remount empties the client's cache by unmounting and mounting again.
func (s *server) remount(g *uml.Guest, fs, dir string) {
	s.t.Helper()
	must(s.t, g, "umount", dir)
	must(s.t, g, s.mountArgs(fs, dir)...)
}

// commandTimeout bounds a command in a client: one that hangs fails its test, and says where.
const commandTimeout = 6 * time.Minute

func must(t *testing.T, g *uml.Guest, args ...string) string {
	t.Helper()
	out, err := run(t, g, args...)
	if err == nil {
		err = out.Err()
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out.Stdout)
	}
	return strings.TrimSpace(out.Stdout)
}

// run is must for commands that may fail.
func run(t *testing.T, g *uml.Guest, args ...string) (uml.Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	r, err := g.Run(ctx, args...)
	if ctx.Err() != nil {
		t.Logf("%v\n%s\n%s", err, r.Stdout, stuck(g))
	}
	return r, err
}

// stuck tells where the processes of a client wait in its kernel, and what that has said.
func stuck(g *uml.Guest) string {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	const look = `for p in /proc/[0-9]*; do echo "$(tr '\0' ' ' < $p/cmdline): $(cat $p/wchan)"; done | grep -v ': 0$'; dmesg | tail -n 20`
	r, err := g.Run(ctx, "sh", "-c", look)
	return fmt.Sprintf("%s%s%v", r.Stdout, r.Stderr, err)
}

// copyArgs are the arguments that copy a tree of the host's, with all that was found there: through
// hostfs a client sees whole seconds only.
func copyArgs(t *testing.T, w *world, g *uml.Guest, source string, entries []tree.Entry, to string, flags ...string) []string {
	t.Helper()
	f, err := os.CreateTemp(g.ShareDir, "description-")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tree.Write(f, entries), f.Close()); err != nil {
		t.Fatal(err)
	}
	args := append([]string{w.agent, "copy", "-like", f.Name()}, flags...)
	return append(args, source, to)
}

// scanIn describes a tree as the client sees it.
func scanIn(t *testing.T, w *world, g *uml.Guest, dir string) []tree.Entry {
	t.Helper()
	entries, err := tree.Read(strings.NewReader(must(t, g, w.agent, "scan", dir)))
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func scanHere(t *testing.T, dir string) []tree.Entry {
	t.Helper()
	entries, err := tree.Scan(dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func sameTrees(t *testing.T, want, got []tree.Entry) {
	t.Helper()
	if diffs := tree.Compare(want, got, 10); diffs != nil {
		t.Fatalf("the trees differ:\n%s", strings.Join(diffs, "\n"))
	}
}

// long skips a test that takes minutes.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("NFSEAL_LONG") == "" {
		t.Skip("takes minutes: runs in make test-long")
	}
}

// eventually waits until the condition holds.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}
