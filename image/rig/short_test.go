package rig

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
)

const (
	// buildTime is what the image may take that has no cache yet, on a busy machine.
	buildTime = 10 * time.Minute
	// shortBootTime is what a start may take where all tests are run, so that one which hangs fails with what it has said.
	shortBootTime = 8 * time.Minute
)

// What of the rig a run of all tests can have: the image is built and started, a client writes and reads, and the
// machine is stopped in order.
func TestShort(t *testing.T) {
	if err := supported(); err != nil {
		t.Skip(err, "(runs as root where scripts/deps.sh has run: make test, .ci/run)")
	}
	w := makeWorld(t)
	w.bootTime = shortBootTime
	w.options.System = w.buildImage()
	began := time.Now()
	w.start()
	ca, fs, target := w.serve()

	g := w.client()
	w.run(g, "mkdir", "/mnt/seal")
	mount := mountArguments(ca, fs, target)
	w.run(g, mount...)
	t.Logf("from power on to the first mount: %v", time.Since(began).Round(time.Second))
	source, want := w.files(40)
	w.run(g, w.agent, "copy", "-sync", source, "/mnt/seal/copy")
	w.run(g, "umount", "/mnt/seal") // what is compared comes from the image, not from the client's memory
	w.run(g, mount...)
	w.same(g, "/mnt/seal/copy", want)
	w.run(g, "umount", "/mnt/seal")

	ctx, cancel := context.WithTimeout(t.Context(), w.bootTime)
	defer cancel()
	w.must(w.machine.PressPower(ctx))
	w.must(w.machine.AwaitOff(ctx))
}

// supported says what this machine lacks for an image and its client.
func supported() error {
	if err := uml.Supported(); err != nil {
		return err
	}
	for _, program := range []string{"mmdebstrap", "qemu-system-x86_64"} {
		if _, err := exec.LookPath(program); err != nil {
			return err
		}
	}
	return nil
}

// buildImage builds the image of this tree. What the packages make is kept in out/cache, as make image does it. Of packages
// that Debian's mirror no longer has, it takes those that came after.
func (w *world) buildImage() string {
	w.t.Helper()
	out, lock := filepath.Join(w.dir, "image"), filepath.Join(w.dir, "packages.lock")
	text, err := w.builder("-out", out)
	if err != nil && strings.Contains(text, staleLock) {
		w.t.Logf("the lock of packages is old, a new one is tried: %s", text)
		if text, err = w.builder("-lock", lock, "lock"); err == nil {
			text, err = w.builder("-out", out, "-lock", lock)
		}
	}
	if err != nil {
		w.t.Fatalf("%v: %s", err, text)
	}
	return filepath.Join(out, "nfseal.raw")
}

// staleLock is what the builder says of packages that are no more.
const staleLock = "make image-lock"

// builder runs the image's, and gives what it says.
func (w *world) builder(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(w.t.Context(), buildTime)
	defer cancel()
	began := time.Now()
	cmd := exec.CommandContext(ctx, "go", append([]string{"run", "./image/build", "-version", "0.0.1-test"}, args...)...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	text, err := cmd.CombinedOutput()
	w.t.Logf("image %q: %v\n%s", args, time.Since(began).Round(time.Second), text)
	return string(text), err
}
