package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance"
	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// asDaemon makes the test's own binary the daemon.
const asDaemon = "NFSEALD_TEST_AS_DAEMON"

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) != "" {
		main()
	}
	if os.Getenv(asPlainListener) != "" {
		plainListener()
	}
	if address := os.Getenv(asCrowd); address != "" {
		crowd(address)
	}
	os.Exit(m.Run())
}

func daemonCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asDaemon+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// output runs the daemon to its end.
func output(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := daemonCommand(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// daemon is a running nfseald.
type daemon struct {
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	banner []string
	api    *api.Client
}

func flagsFor(dir string, more ...string) []string {
	return append([]string{
		"-data", dir, "-listen", "127.0.0.1:0", "-ocsp-listen", "127.0.0.1:0", "-api-listen", "127.0.0.1:0", "-advertise", "127.0.0.1",
		"-volume-size", "16MiB", "-memory", "16MiB", "-log", "json",
	}, more...)
}

// startDaemon returns when the banner is complete, which is when everything is served.
func startDaemon(t *testing.T, dir string, more ...string) *daemon {
	t.Helper()
	d := &daemon{cmd: daemonCommand(flagsFor(dir, more...)...), stderr: &bytes.Buffer{}, api: api.NewClient(appliance.SocketPath(dir))}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.cmd.Stderr = d.stderr
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.api.Close()
		d.cmd.Process.Kill()
		d.cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		d.banner = append(d.banner, lines.Text())
		if strings.Contains(lines.Text(), "mount -t nfseal") {
			return d
		}
	}
	d.cmd.Wait()
	t.Fatalf("the daemon ended: %s", d.stderr)
	return nil
}

// signal sends s and returns the exit status.
func (d *daemon) signal(t *testing.T, s os.Signal) int {
	t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	d.cmd.Wait()
	return d.cmd.ProcessState.ExitCode()
}

func TestLifeCycle(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	d := startDaemon(t, dir)
	banner := strings.Join(d.banner, "\n")
	for _, want := range []string{"mounttargetip=127.0.0.1", filepath.Join(dir, "pki", "ca.pem"), "http://127.0.0.1:", "/ocsp"} {
		if !strings.Contains(banner, want) {
			t.Errorf("the banner does not tell %s:\n%s", want, banner)
		}
	}
	made, err := d.api.CreateFileSystem(t.Context(), api.CreateFileSystemRequest{CreationToken: "t"})
	if err != nil {
		t.Fatal(err)
	}
	_, stderr, status := output(t, flagsFor(dir)...)
	if want := fmt.Sprintf("in use: %s by nfseald with pid %d", dir, d.cmd.Process.Pid); status != exitFailure || !strings.Contains(stderr, want) {
		t.Errorf("second start: status %d, %s", status, stderr)
	}
	if status := d.signal(t, syscall.SIGTERM); status != exitOK {
		t.Fatalf("SIGTERM: status %d\n%s", status, d.stderr)
	}
	for _, want := range []string{`"feature"`, `"name":"XDP gate","on":false`, `"name":"encryption at rest","on":true`, `"draining"`, `"stopped"`} {
		if !strings.Contains(d.stderr.String(), want) {
			t.Errorf("the log does not tell %s", want)
		}
	}
	stdout, stderr, status := output(t, "-check", "-data", dir)
	if status != exitOK || !strings.Contains(stdout, "root key") {
		t.Errorf("-check: status %d, %s%s", status, stdout, stderr)
	}
	d = startDaemon(t, dir)
	list, err := d.api.FileSystems(t.Context())
	if err != nil || len(list) != 1 || list[0].FileSystemID != made.FileSystemID {
		t.Fatalf("after the restart: %+v, %v", list, err)
	}
	if status := d.signal(t, syscall.SIGINT); status != exitOK {
		t.Errorf("SIGINT: status %d", status)
	}
}

// TestHangUpReloadsCertificates: SIGHUP does not end the daemon, takes certificates in, and keeps the old ones if the
// new ones are of no use.
func TestHangUpReloadsCertificates(t *testing.T) {
	ca := transporttest.NewOpenSSLCA(t)
	cert, key := ca.Issue(t, "one", transporttest.OpenSSLLeaf{NoAIA: true})
	dir := t.TempDir()
	if _, stderr, status := output(t, flagsFor(dir, "-tls-cert", cert)...); status != exitUsage || !strings.Contains(stderr, "needs a file with its key") {
		t.Errorf("no key: %d, %q", status, stderr)
	}
	if _, stderr, status := output(t, flagsFor(dir, "-tls-cert", cert, "-tls-key", cert)...); status != exitFailure || !strings.Contains(stderr, "no private key") {
		t.Errorf("a certificate as key: %d, %q", status, stderr)
	}
	d := startDaemon(t, dir, "-tls-key", key, "-tls-cert", cert)
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	d.cmd.Process.Signal(syscall.SIGHUP)
	status := d.signal(t, syscall.SIGTERM)
	if text := d.stderr.String(); status != exitOK || !strings.Contains(text, "not reloaded: what was before goes on") {
		t.Errorf("status %d\n%s", status, text)
	}
}

// TestHangUpWhileStarting: one that comes before the start is complete does not end the daemon, which takes
// certificates in when it has started.
func TestHangUpWhileStarting(t *testing.T) {
	stderr, line, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd := daemonCommand(append(flagsFor(t.TempDir()), "-debug")...)
	cmd.Stderr = line
	err = cmd.Start()
	line.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	var log []string
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		log = append(log, lines.Text())
		switch {
		case strings.Contains(lines.Text(), `"starting"`):
			cmd.Process.Signal(syscall.SIGHUP)
		case strings.Contains(lines.Text(), `"name":"encryption at rest"`):
			cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != exitOK {
		t.Errorf("%v\n%s", cmd.ProcessState, strings.Join(log, "\n"))
	}
}

func TestProcessCannotBeDumped(t *testing.T) {
	d := startDaemon(t, t.TempDir())
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", d.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "Max core file size") && (fields[4] != "0" || fields[5] != "0") {
			t.Errorf("%s", line)
		}
	}
	s, err := d.api.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(s.Features, func(f api.Feature) bool { return f.Name == "no core dumps" })
	if i < 0 || !s.Features[i].On {
		t.Errorf("the kernel says that the process can be dumped: %+v", s.Features)
	}
}

// TestKilledWhileMakingFileSystems kills the daemon at random moments while file systems are made and
// deleted. What was answered must hold after each restart, and what was not must be whole or gone.
func TestKilledWhileMakingFileSystems(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := filepath.Join(t.TempDir(), "data")
	known := &answers{made: map[string]bool{}, gone: map[string]bool{}}
	for range 5 {
		d := startDaemon(t, dir)
		known.check(t, d)
		var workers sync.WaitGroup
		for worker := range 3 {
			r := rand.New(rand.NewPCG(seed, rng.Uint64()+uint64(worker)))
			workers.Go(func() { known.churn(t.Context(), d.api, r) })
		}
		time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
		d.signal(t, syscall.SIGKILL)
		workers.Wait()
	}
	d := startDaemon(t, dir)
	known.check(t, d)
	if status := d.signal(t, syscall.SIGTERM); status != exitOK {
		t.Errorf("SIGTERM: status %d", status)
	}
	if _, _, err := audit.Verify(filepath.Join(dir, "audit"), nil); err != nil {
		t.Error(err)
	}
}

// answers is what the daemon has said.
type answers struct {
	mu   sync.Mutex
	made map[string]bool // ids that were answered as made, and whose deletion was not asked for
	gone map[string]bool // ids that were answered as deleted
}

// churn makes and deletes until the daemon is gone.
func (a *answers) churn(ctx context.Context, c *api.Client, rng *rand.Rand) {
	for {
		f, err := c.CreateFileSystem(ctx, api.CreateFileSystemRequest{CreationToken: fmt.Sprint(rng.Uint64())})
		if err != nil {
			return
		}
		a.mu.Lock()
		a.made[f.FileSystemID] = true
		a.mu.Unlock()
		if rng.IntN(2) == 0 {
			continue
		}
		a.mu.Lock()
		delete(a.made, f.FileSystemID)
		a.mu.Unlock()
		if c.DeleteFileSystem(ctx, f.FileSystemID) != nil {
			return
		}
		a.mu.Lock()
		a.gone[f.FileSystemID] = true
		a.mu.Unlock()
	}
}

// check compares the daemon with what was said, and takes over what was left open.
func (a *answers) check(t *testing.T, d *daemon) {
	t.Helper()
	s, err := d.api.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, f := range s.FileSystems {
		have[f.ID] = true
		if a.gone[f.ID] {
			t.Errorf("%s was deleted, and is back", f.ID)
		}
		if f.State != "available" {
			t.Errorf("%s is %s: %s", f.ID, f.State, f.Reason)
		}
	}
	for id := range a.made {
		if !have[id] {
			t.Errorf("%s was made, and is gone", id)
		}
	}
	a.made = have
}

func TestCommandLine(t *testing.T) {
	stdout, _, status := output(t, "-version")
	if status != exitOK || stdout != "nfseald unknown\n" {
		t.Errorf("-version: %d %q", status, stdout)
	}
	for _, args := range [][]string{
		{"-no-such-flag"}, {"argument"}, {"-volume-size", "big"}, {"-volume-size", "16MiB", "-volume-device", "/dev/null"}, {"-volume-size", "1K"}, {"-squash", "some"},
		{"-listen", "nowhere"}, {"-mount-target", "x"}, {"-mount-target", "10.0.0.1=home"}, {"-listen", ""},
	} {
		if _, stderr, status := output(t, args...); status != exitUsage || stderr == "" {
			t.Errorf("%q: status %d, %q", args, status, stderr)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		flagsFor(dir), {"-check", "-data", dir}, {"-check", "-data", filepath.Join(dir, "missing")}, flagsFor(t.TempDir(), "-log", "xml"),
	} {
		if _, stderr, status := output(t, args...); status != exitFailure || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: status %d, %q", args, status, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "missing")); err == nil {
		t.Error("-check made a directory")
	}
	failure := filepath.Join(t.TempDir(), "failure")
	_, stderr, _ := output(t, flagsFor(dir, "-failure-file", failure)...)
	if text, err := os.ReadFile(failure); err != nil || stderr != "nfseald: "+string(text) {
		t.Errorf("%q, %v; said %q", text, err, stderr)
	}
}
