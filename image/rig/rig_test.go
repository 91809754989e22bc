package rig

import (
	"bufio"
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
	bootTime = 8 * time.Minute
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
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getenv("NFSEAL_LONG") == "" {
		t.Skip("runs the disk image for minutes: runs with NFSEAL_LONG=1 (make rig)")
	}
	if _, err := os.Stat(image); err != nil {
		t.Skip("there is no disk image yet: runs after make image (make rig)")
	}
	w := &world{t: t, dir: t.TempDir()}
	if kept := os.Getenv("NFSEAL_RIG_DIR"); kept != "" {
		w.dir = filepath.Join(kept, t.Name())
		w.must(os.MkdirAll(w.dir, 0o755))
	}
	var err error
	w.network, err = uml.NewNetwork()
	w.must(err)
	t.Cleanup(func() { w.network.Close() })
	w.must(Connect(t.Context(), w.network, w.dir))
	w.options = Options{System: image, Dir: w.dir, Data: filepath.Join(w.dir, "data.raw")}
	f, err := os.Create(w.options.Data)
	w.must(err)
	w.must(errors.Join(f.Truncate(dataSize), f.Close()))
	return w
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
	ctx, cancel := context.WithTimeout(w.t.Context(), bootTime)
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
	helper := filepath.Join(w.dir, "mount.nfseal")
	build := exec.Command("go", "build", "-o", helper, "github.com/nfseal/nfseal/cmd/mount.nfseal")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	g, err := w.network.StartGuest(w.t.Context(), uml.Options{Agent: w.agent})
	w.must(err)
	w.run(g, "cp", helper, "/sbin/mount.nfseal")
	return g
}

func (w *world) run(g *uml.Guest, args ...string) string {
	w.t.Helper()
	out, err := g.Must(w.t.Context(), args...)
	w.must(err)
	return out
}

// takeCA takes the CA's certificate from the console, and holds it against its fingerprint there.
func (w *world) takeCA() string {
	w.t.Helper()
	fingerprint := w.await(`CA certificate\s+SHA-256 ([0-9A-F:]{95})`)[1]
	text := strings.ReplaceAll(w.await(`(?s)-----BEGIN CERTIFICATE-----.*-----END CERTIFICATE-----\r?\n`)[0], "\r", "")
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
func (w *world) createFileSystem(ca, id, secret string) string {
	w.t.Helper()
	out, err := w.network.Run(w.t.Context(), "env", "AWS_ACCESS_KEY_ID="+id, "AWS_SECRET_ACCESS_KEY="+secret, "AWS_CA_BUNDLE="+ca,
		"AWS_DEFAULT_REGION=local-1", "AWS_EC2_METADATA_DISABLED=true", "HOME="+w.dir, "aws", "--output", "json",
		"--endpoint-url", "https://"+imageAddress+":2051", "efs", "create-file-system", "--creation-token", "rig", "--encrypted")
	w.must(err)
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

// The main job on the image: it takes the empty disk, a client mounts, the power fails while it writes, and
// nothing is lost that was said to be stable.
func TestServesAndSurvivesALossOfPower(t *testing.T) {
	w := newWorld(t)
	w.start()
	key := w.await(`AWS_ACCESS_KEY_ID=(\S+)\s+AWS_SECRET_ACCESS_KEY=(\S+)\s`)
	ca := w.takeCA()
	fs := w.createFileSystem(ca, key[1], key[2])
	w.await(`serving, file systems: 1`)

	g := w.client()
	w.run(g, "mkdir", "/mnt/seal")
	w.run(g, "mount", "-t", "nfseal", "-o", "tls,cafile="+ca+",mounttargetip="+imageAddress, fs+":/", "/mnt/seal")
	t.Log(strings.TrimSpace(w.run(g, "grep", "/mnt/seal", "/proc/mounts")))
	source, want := w.files(300)
	var synced lines
	copied := make(chan error, 1)
	go func() {
		code, err := g.Exec(t.Context(), uml.Command{Args: []string{w.agent, "copy", "-sync", source, "/mnt/seal/copy"}, Stdout: &synced})
		if err == nil && code != 0 {
			err = fmt.Errorf("status %d", code)
		}
		copied <- err
	}()
	for synced.count() < 100 {
		select {
		case err := <-copied:
			t.Fatalf("the copy ended early, after %d files: %v", synced.count(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	w.must(w.machine.Kill())
	t.Logf("power cut after %d files", synced.count())
	w.start()
	w.await(`serving, file systems: 1`)
	w.must(<-copied)
	w.same(g, "/mnt/seal/copy", want)
	w.run(g, "umount", "/mnt/seal")
	if strings.Contains(w.machine.Console(), "AWS_SECRET_ACCESS_KEY") {
		t.Error("the administrator's key is shown at the second start too")
	}
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
