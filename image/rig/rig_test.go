package rig

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/tree"
	"github.com/nfseal/nfseal/internal/uml"
)

const (
	image = "../../out/image/nfseal.raw"
	// bootTime is what a start may take on a busy machine that emulates the processor.
	bootTime = 25 * time.Minute
	// clientTime is what the client may take for a job of its own there, such as reading all files again.
	clientTime = 15 * time.Minute
	// sayEvery is how often the log says what is waited for.
	sayEvery = 20 * time.Second
	dataSize = 3 << 30
)

// world is a network with a place for the image and a client.
type world struct {
	t       *testing.T
	network *uml.Network
	dir     string
	agent   string
	options Options
	machine *Machine
	nfseal  string   // the operator's command
	env     []string // of calls to the API
	card    string   // the image's network card
	// bootTime is how long what a start brings is waited for.
	bootTime time.Duration
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getenv("NFSEAL_LONG") == "" {
		t.Skip("runs the disk image for minutes: runs with NFSEAL_LONG=1 (make rig)")
	}
	if _, err := os.Stat(image); err != nil && os.Getenv("NFSEAL_VERSIONS") == "" {
		t.Skip("there is no disk image yet: runs after make image (make rig)")
	}
	return makeWorld(t)
}

// makeWorld makes a world whose machine has no system yet but the image.
func makeWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), bootTime: bootTime}
	if kept := os.Getenv("NFSEAL_RIG_DIR"); kept != "" {
		w.keep(filepath.Join(kept, t.Name()))
	}
	var err error
	w.network, err = uml.NewNetwork()
	w.must(err)
	t.Cleanup(func() { w.network.Close() })
	w.must(Connect(t.Context(), w.network, w.dir))
	w.nfseal = w.build("nfseal")
	w.options = Options{System: image, Dir: w.dir, Data: filepath.Join(w.dir, "data.raw")}
	f, err := os.Create(w.options.Data)
	w.must(err)
	w.must(errors.Join(f.Truncate(dataSize), f.Close()))
	return w
}

// keep has the test use a directory that stays if it fails, with what the machines have said and written.
func (w *world) keep(dir string) {
	w.t.Helper()
	w.dir = dir
	w.must(os.RemoveAll(dir))
	w.must(os.MkdirAll(dir, 0o755))
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("consoles, disks and the TPM's state are in %s", dir)
			return
		}
		w.must(os.RemoveAll(dir))
	})
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// start starts the image.
func (w *world) start() {
	w.t.Helper()
	var err error
	w.machine, err = Start(w.network, w.options)
	w.must(err)
	w.t.Cleanup(func() { _ = w.machine.Kill() }) // it may be off already
}

// await waits for words on the console.
func (w *world) await(expression string) []string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), w.bootTime)
	defer cancel()
	began := time.Now()
	found, err := w.machine.Await(ctx, expression)
	w.must(err)
	w.t.Logf("after %v: %s", time.Since(began).Round(100*time.Millisecond), expression)
	return found
}

// client boots a client with the mount helper.
func (w *world) client() *uml.Guest {
	w.t.Helper()
	var err error
	w.agent, err = uml.BuildAgent(w.dir)
	w.must(err)
	g, err := w.network.StartGuest(w.t.Context(), uml.Options{Agent: w.agent})
	w.must(err)
	w.t.Cleanup(func() { w.tellOf(g) })
	w.run(g, "cp", w.build("mount.nfseal"), "/sbin/mount.nfseal")
	return g
}

// tellOf logs what a client knows of its mount, if the test has failed: it is gone with its network.
func (w *world) tellOf(g *uml.Guest) {
	if !w.t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the test's own is over
	defer cancel()
	for _, command := range []string{
		"cat /var/log/nfseal/mount.log", "ss -tinoe", "cat /proc/net/tls_stat", "dmesg | tail -40", "cat /proc/self/mountstats | tail -60",
		"for p in /proc/[0-9]*; do [ ! -e $p/exe ] || echo $p $(cat $p/comm $p/wchan; tr '\\0' ' ' <$p/cmdline | cut -c1-100); done",
		"pkill -QUIT mount.nfseal; sleep 2; tail -c 20000 /var/log/nfseal/mount.log",
	} {
		out, err := g.Must(ctx, "sh", "-c", command)
		w.t.Logf("client: %s: %v\n%s", command, err, out)
	}
}

// build builds one of our commands.
func (w *world) build(name string) string {
	w.t.Helper()
	program := filepath.Join(w.dir, name)
	cmd := exec.Command("go", "build", "-o", program, "github.com/nfseal/nfseal/cmd/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	return program
}

// during does f, which may take limit, and says meanwhile what is waited for, and how far it is.
func (w *world) during(limit time.Duration, what string, progress func() string, f func(context.Context) error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	for {
		select {
		case err := <-done:
			if err != nil {
				w.t.Fatalf("%s: %v, after %v%s", what, err, time.Since(began).Round(time.Second), progress())
			}
			w.t.Logf("%s: done in %v%s", what, time.Since(began).Round(100*time.Millisecond), progress())
			return
		case <-time.After(sayEvery):
			w.t.Logf("%s: waiting since %v%s", what, time.Since(began).Round(time.Second), progress())
		}
	}
}

func noProgress() string { return "" }

func (w *world) run(g *uml.Guest, args ...string) string {
	w.t.Helper()
	var out string
	w.during(clientTime, "client: "+args[0], noProgress, func(ctx context.Context) (err error) {
		out, err = g.Must(ctx, args...)
		return err
	})
	return out
}

// takeCA takes the CA's certificate from the network, and holds it against its fingerprint on the console.
func (w *world) takeCA() string {
	w.t.Helper()
	fingerprint := w.await(`CA certificate\s+SHA-256 ([0-9A-F:]{95})`)[1]
	text := w.asked("curl", "--silent", "--show-error", "--fail", "http://"+imageAddress+":2050/ca.pem")
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		w.t.Fatalf("%q is no certificate", text)
	}
	if got := fmt.Sprintf("%X", sha256.Sum256(block.Bytes)); got != strings.ReplaceAll(fingerprint, ":", "") {
		w.t.Fatalf("the CA's certificate is %s, the console says %s", got, fingerprint)
	}
	file := filepath.Join(w.dir, "ca.pem")
	w.must(os.WriteFile(file, []byte(text), 0o644))
	return file
}

// createFileSystem has the aws CLI make a file system.
func (w *world) createFileSystem() string {
	w.t.Helper()
	out := w.asked("aws", "--output", "json", "--endpoint-url", "https://"+imageAddress+":2051", "efs", "create-file-system",
		"--creation-token", "rig", "--encrypted")
	var made struct {
		FileSystemID string `json:"FileSystemId"`
	}
	w.must(json.Unmarshal([]byte(out), &made))
	return made.FileSystemID
}

// files makes a tree whose times are whole seconds: a client sees no more of the host's.
func (w *world) files(n int) (string, []tree.Entry) {
	w.t.Helper()
	root := filepath.Join(w.t.TempDir(), "files")
	r := rand.NewChaCha8([32]byte{1})
	for i := range n {
		dir := filepath.Join(root, fmt.Sprint(i%7))
		content := make([]byte, i*509%70000)
		_, _ = r.Read(content) // it never fails
		w.must(errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), content, 0o640)))
	}
	entries, err := tree.Scan(root, 2)
	w.must(err)
	for _, e := range entries {
		w.must(os.Chtimes(filepath.Join(root, e.Path), time.Unix(1700000000, 0), time.Unix(1700000000, 0)))
	}
	entries, err = tree.Scan(root, 2)
	w.must(err)
	return root, entries
}

func (w *world) same(g *uml.Guest, dir string, want []tree.Entry) {
	w.t.Helper()
	got, err := tree.Read(strings.NewReader(w.run(g, w.agent, "scan", dir)))
	w.must(err)
	if diffs := tree.Compare(want, got, 10); diffs != nil {
		w.t.Fatalf("the trees differ:\n%s", strings.Join(diffs, "\n"))
	}
}

// lines counts lines that are written to it.
type lines struct {
	mu sync.Mutex
	n  int
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n += strings.Count(string(p), "\n")
	return len(p), nil
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// The main job on the image: it takes the empty disk and the TPM, a client mounts, the power fails while it writes,
// and nothing is lost that was said to be stable. Another kernel image on the same disks gets nothing from the TPM.
func TestServesAndSurvivesALossOfPower(t *testing.T) {
	w := newWorld(t)
	w.options.TPM = filepath.Join(w.dir, "tpm")
	w.options.Credentials = map[string]string{"nfseal.tpm-pcrs": "7+11"}
	began := time.Now()
	w.start()
	recovery := w.await(`The recovery key.*\s+(\S+)\s`)[1]
	ca, fs, target := w.serve()
	w.await(`root key\s+the TPM at /dev/tpmrm0`)

	g := w.client()
	w.run(g, "mkdir", "/mnt/seal")
	mount := mountArguments(ca, fs, target)
	w.run(g, mount...)
	t.Logf("from power on to the first mount: %v", time.Since(began).Round(time.Second))
	t.Log(strings.TrimSpace(w.run(g, "grep", "/mnt/seal", "/proc/mounts")))
	if stat := w.run(g, "cat", "/proc/net/tls_stat"); regexp.MustCompile(`TlsCurrTxSw\s+0`).MatchString(stat) {
		t.Errorf("the client's kernel carries no session:\n%s", stat)
	}
	w.checkKernelTLS(ca, fs, target)
	want := w.cutPowerDuringCopy(g)
	w.await(`root key\s+the TPM at /dev/tpmrm0`)
	w.run(g, "umount", "/mnt/seal") // what is compared comes from the image, not from the client's memory
	w.run(g, mount...)
	w.same(g, "/mnt/seal/copy", want)
	w.run(g, "umount", "/mnt/seal")
	for _, secret := range []string{"AWS_SECRET_ACCESS_KEY", recovery} {
		if strings.Contains(w.machine.Console(), secret) {
			t.Errorf("%.21s is shown at the second start too", secret)
		}
	}
	w.must(w.machine.Kill())
	w.refusesAnotherKernelImage()
}

// serve waits until a fresh image serves, looks at its parts, and makes a file system with a mount target.
func (w *world) serve() (ca, fs, target string) {
	w.t.Helper()
	key := w.await(`AWS_ACCESS_KEY_ID=(\S+)\s+AWS_SECRET_ACCESS_KEY=(\S+)\s`)
	ca = w.takeCA()
	w.signIn(ca, key[1], key[2])
	w.checkParts()
	fs = w.createFileSystem()
	target = w.createTarget(fs)
	w.await(`serving, file systems: 1`)
	return ca, fs, target
}

// mountArguments mount a file system on the client, whose kernel has to carry the session.
func mountArguments(ca, fs, target string) []string {
	return []string{"mount", "-t", "nfseal", "-o", "tls,ktls=on,cafile=" + ca + ",mounttargetip=" + target, fs + ":/", "/mnt/seal"}
}

// cutPowerDuringCopy copies files into the mount, takes the power away meanwhile, and starts the image again. The copy
// goes on by itself, to its end; what is to be there then is returned.
func (w *world) cutPowerDuringCopy(g *uml.Guest) []tree.Entry {
	w.t.Helper()
	source, want := w.files(300)
	var synced lines
	progress := func() string { return fmt.Sprintf(", %d of %d lines", synced.count(), len(want)) }
	copied := make(chan error, 1)
	go func() {
		code, err := g.Exec(w.t.Context(), uml.Command{Args: []string{w.agent, "copy", "-sync", source, "/mnt/seal/copy"}, Stdout: &synced})
		if err == nil && code != 0 {
			err = fmt.Errorf("status %d", code)
		}
		copied <- err
	}()
	w.during(clientTime, "the first files are copied", progress, func(ctx context.Context) error {
		for synced.count() < 100 {
			select {
			case err := <-copied:
				return fmt.Errorf("the copy ended early: %w", err)
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(50 * time.Millisecond):
			}
		}
		return nil
	})
	w.must(w.machine.Kill())
	w.t.Logf("power cut after %d files", synced.count())
	w.start()
	w.await(`serving, file systems: 1`)
	w.during(clientTime, "the client goes on after the power cut", progress, func(ctx context.Context) error {
		select {
		case err := <-copied:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return want
}

// refusesAnotherKernelImage starts a kernel image that was changed, which nobody notices without Secure Boot but the
// TPM: the root key stays closed.
func (w *world) refusesAnotherKernelImage() {
	w.t.Helper()
	w.options.System = w.changedKernelImage(image)
	w.start()
	w.await(`the daemon does not serve: .*PCR 11`)
	w.must(w.machine.Kill())
	w.must(os.Remove(w.options.System))
}

// changedKernelImage changes one letter of the command line in the kernel image, in a copy of the disk image.
func (w *world) changedKernelImage(disk string) string {
	w.t.Helper()
	content, err := os.ReadFile(disk)
	w.must(err)
	const was, is = " quiet loglevel=4", " quiet loglevel=5"
	if n := bytes.Count(content, []byte(was)); n != 1 {
		w.t.Fatalf("the command line is in the image %d times", n)
	}
	changed := filepath.Join(w.dir, "changed.raw")
	w.must(os.WriteFile(changed, bytes.Replace(content, []byte(was), []byte(is), 1), 0o600))
	return changed
}

// signIn has all calls to the API use a key.
func (w *world) signIn(ca, id, secret string) {
	w.env = []string{
		"AWS_ACCESS_KEY_ID=" + id, "AWS_SECRET_ACCESS_KEY=" + secret, "AWS_CA_BUNDLE=" + ca, "AWS_REGION=local-1", "AWS_DEFAULT_REGION=local-1",
		"AWS_EC2_METADATA_DISABLED=true", "HOME=" + w.dir, "NFSEAL_ENDPOINT_URL=https://" + imageAddress + ":2051",
	}
}

// asked runs a program on the image's network, which speaks to its API.
func (w *world) asked(args ...string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), clientTime)
	defer cancel()
	out, err := w.network.Run(ctx, append(append([]string{"env"}, w.env...), args...)...)
	w.must(err)
	return out
}

// status is the image's, as the operator's command has it.
type status struct {
	Features []struct {
		Name, Detail string
		On           bool
	}
	Host struct {
		MemoryBytes, MemoryAvailableBytes, DaemonBytes int64
		KernelTLS                                      map[string]int64
	}
}

func (w *world) status() status {
	w.t.Helper()
	var s status
	w.must(json.Unmarshal([]byte(w.asked(w.nfseal, "status", "--json")), &s))
	return s
}

func (s *status) part(name string) (detail string, on bool) {
	for _, f := range s.Features {
		if f.Name == name {
			return f.Detail, f.On
		}
	}
	return "there is no such part", false
}

// maxIdleBytes is what an image that serves nobody yet may take of its memory.
const maxIdleBytes = 300 << 20

// checkParts looks at the image before it has anything to do.
func (w *world) checkParts() {
	w.t.Helper()
	s := w.status()
	detail, on := s.part("XDP gate")
	if found := regexp.MustCompile(`(\S+) native`).FindStringSubmatch(detail); !on || found == nil {
		w.t.Errorf("the gate: %s", detail)
	} else {
		w.card = found[1]
	}
	if detail, on := s.part("kernel TLS"); !on {
		w.t.Errorf("kernel TLS: %s", detail)
	}
	used := s.Host.MemoryBytes - s.Host.MemoryAvailableBytes
	w.t.Logf("memory at idle: %d MiB of %d, of which the daemon's %d", used>>20, s.Host.MemoryBytes>>20, s.Host.DaemonBytes>>20)
	if used > maxIdleBytes {
		w.t.Errorf("%d MiB of memory are used at idle", used>>20)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	if conn, err := w.network.Dial(ctx, "tcp", imageAddress+":5355"); err == nil {
		conn.Close()
		w.t.Error("a port is open that nobody needs")
	}
}

var someID = regexp.MustCompile(`(subnet|sg|fsmt)-[0-9a-f]{17}`)

// createTarget serves a file system at an address that is steered, to everybody on the networks of the rig.
func (w *world) createTarget(fs string) string {
	w.t.Helper()
	const address = "10.96.0.20"
	subnet := someID.FindString(w.asked(w.nfseal, "subnet", "create", "--interface", w.card, "--prefix", "10.96.0.0/24"))
	group := someID.FindString(w.asked(w.nfseal, "group", "create", "clients"))
	w.asked(w.nfseal, "group", "allow", group, "--from", "10.96.0.0/16", "--from", "10.99.0.0/16")
	w.asked("aws", "--endpoint-url", "https://"+imageAddress+":2051", "efs", "create-mount-target", "--file-system-id", fs,
		"--subnet-id", subnet, "--ip-address", address, "--security-groups", group)
	s := w.status()
	if detail, on := s.part("sk_lookup steering"); !on {
		w.t.Errorf("steering: %s", detail)
	}
	return address
}

// checkKernelTLS has a client that speaks TLS 1.2, as amazon-efs-utils may, and looks whether the image's kernel takes
// its session: of TLS 1.3 it takes none, for it takes no new keys before Linux 6.14.
func (w *world) checkKernelTLS(ca, fs, target string) {
	w.t.Helper()
	before := w.status().Host.KernelTLS
	client := exec.Command("openssl", "s_client", "-connect", target+":2049", "-tls1_2", "-quiet", "-verify_return_error", "-CAfile", ca,
		"-servername", fs+".efs.local-1.nfseal.internal")
	in, err := client.StdinPipe()
	w.must(err)
	w.must(w.network.Start(client))
	defer func() {
		w.must(errors.Join(in.Close(), client.Process.Kill()))
		_ = client.Wait() // it was killed
	}()
	w.during(clientTime, "the image's kernel takes a session of TLS 1.2", noProgress, func(ctx context.Context) error {
		for {
			if now := w.status().Host.KernelTLS; now["TlsTxSw"] > before["TlsTxSw"] && now["TlsRxSw"] > before["TlsRxSw"] {
				return nil
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%w: %v", ctx.Err(), w.status().Host.KernelTLS)
			case <-time.After(time.Second):
			}
		}
	})
}

// A root that is not the one that was built is not run.
func TestRefusesADamagedRoot(t *testing.T) {
	w := newWorld(t)
	w.options.System = filepath.Join(w.dir, "damaged.raw")
	w.must(exec.Command("cp", "--sparse=always", image, w.options.System).Run())
	f, err := os.OpenFile(w.options.System, os.O_RDWR, 0)
	w.must(err)
	// One bit of the first block behind the EFI system partition: the root's superblock.
	const offset = 65<<20 + 100
	var b [1]byte
	_, err = f.ReadAt(b[:], offset)
	w.must(err)
	b[0] ^= 1
	_, err = f.WriteAt(b[:], offset)
	w.must(errors.Join(err, f.Close()))
	w.start()
	w.await(`(?i)dm-verity device corrupted|device-mapper: verity: .*is corrupted`)
	if strings.Contains(w.machine.Console(), "state  ") {
		t.Errorf("the system has started:\n%s", w.machine.Console())
	}
}

// A disk with data stays as it is.
func TestLeavesADiskWithDataAlone(t *testing.T) {
	w := newWorld(t)
	w.must(exec.Command("/usr/sbin/mkfs.ext4", "-q", "-F", w.options.Data).Run())
	before := w.hash()
	w.start()
	w.await(`waiting for a disk: there is no empty disk`)
	w.must(w.machine.Kill())
	if w.hash() != before {
		t.Error("the disk has changed")
	}
}

// hash is of the data disk.
func (w *world) hash() [32]byte {
	w.t.Helper()
	f, err := os.Open(w.options.Data)
	w.must(err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, bufio.NewReaderSize(f, 1<<20))
	w.must(err)
	return [32]byte(h.Sum(nil))
}
