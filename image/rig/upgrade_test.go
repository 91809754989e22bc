package rig

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/image/update"
)

// versions is where `make rig-upgrade` leaves two versions of the image, 0.1 in old and 0.2 in new, signed for Secure
// Boot and the TPM, and the keys that signed them and their bundles.
func versions(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("NFSEAL_VERSIONS")
	if dir == "" {
		t.Skip("needs two versions of the image: runs in make rig-upgrade")
	}
	return dir
}

// onDiskOfItsOwn gives the machine the old version on a disk that is written to, and has room for another one.
func (w *world) onDiskOfItsOwn(dir string) {
	w.t.Helper()
	w.options.System, w.options.KeepSystem = filepath.Join(w.dir, "system.raw"), true
	w.must(exec.Command("cp", "--sparse=always", filepath.Join(dir, "old", "nfseal.raw"), w.options.System).Run())
	w.must(os.Truncate(w.options.System, 512<<20))
}

// off waits until the machine has ended by itself: QEMU is told not to start it again.
func (w *world) off() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), w.bootTime)
	defer cancel()
	w.must(w.machine.AwaitOff(ctx))
}

// serveOld starts the old version, with a file system.
func (w *world) serveOld() {
	w.t.Helper()
	w.start()
	key := w.await(`AWS_ACCESS_KEY_ID=(\S+)\s+AWS_SECRET_ACCESS_KEY=(\S+)\s`)
	w.signIn(w.takeCA(), key[1], key[2])
	w.createFileSystem()
}

// securely gives the machine a TPM, and firmware that starts what the builder has signed.
func (w *world) securely(dir string) {
	w.t.Helper()
	w.options.TPM = filepath.Join(w.dir, "tpm")
	text, err := os.ReadFile(filepath.Join(dir, "boot.pem"))
	w.must(err)
	block, _ := pem.Decode(text)
	if block == nil {
		w.t.Fatalf("%q is no certificate", text)
	}
	w.options.SecureBoot = block.Bytes
}

// A signed bundle brings the next version, which proves itself and stays. Secure Boot starts both, and the TPM opens for
// both what was sealed for the first.
func TestUpgrade(t *testing.T) {
	dir := versions(t)
	w := newWorld(t)
	w.onDiskOfItsOwn(dir)
	w.securely(dir)
	w.serveOld()
	w.await(`Secure Boot\s+on, kernel lockdown: integrity`)
	w.await(`root key\s+the TPM at /dev/tpmrm0, for systems that their builder has signed`)
	began := time.Now()
	t.Log(strings.TrimSpace(w.asked(w.nfseal, "upgrade", filepath.Join(dir, "new", "nfseal.update"))))
	t.Logf("sent, checked and written after %v", time.Since(began).Round(time.Second))
	w.off()
	w.start()
	w.await(`version 0\.2 has proved itself`)
	w.await(`serving, file systems: 1`)
	w.await(`root key\s+the TPM at /dev/tpmrm0, for systems that their builder has signed`)
	w.state("blessed", "0.2")
}

// With Secure Boot, the firmware starts no kernel image that was changed.
func TestSecureBootRefusesAChangedImage(t *testing.T) {
	dir := versions(t)
	w := newWorld(t)
	w.securely(dir)
	w.options.System = w.changedKernelImage(filepath.Join(dir, "old", "nfseal.raw"))
	w.start()
	w.await(`(?i)Access denied|Security (policy )?violation`)
	if strings.Contains(w.machine.Console(), "nfseal: verified root") {
		t.Errorf("it was started:\n%s", w.machine.Console())
	}
}

// A version whose root is not the one that its kernel image names, so that the kernel stops, is tried three times, and then
// the one from before runs again, with its data.
func TestBadUpgradeFallsBack(t *testing.T) {
	dir := versions(t)
	w := newWorld(t)
	w.onDiskOfItsOwn(dir)
	w.serveOld()
	t.Log(strings.TrimSpace(w.asked(w.nfseal, "upgrade", w.bad(dir))))
	w.off()
	for try := range 3 {
		w.start()
		w.await(`dm-verity device corrupted`)
		w.off()
		t.Logf("try %d has failed", try+1)
	}
	w.start()
	w.await(`nfseal 0\.1`)
	w.await(`serving, file systems: 1`)
	w.state("back", "0.3")
}

// state waits until an upgrade is in a state.
func (w *world) state(state, version string) {
	w.t.Helper()
	var got struct{ State, Version string }
	for range 60 {
		w.must(json.Unmarshal([]byte(w.asked(w.nfseal, "upgrade", "show", "--json")), &got))
		if got.State == state && got.Version == version {
			return
		}
		time.Sleep(time.Second)
	}
	w.t.Errorf("the upgrade is %+v, not %s %s", got, version, state)
}

// bad makes a bundle, rightly signed, of the new version's kernel with a root that is none.
func (w *world) bad(dir string) string {
	w.t.Helper()
	kernel := bytes.Replace(w.member(filepath.Join(dir, "new", "nfseal.update"), "kernel.efi"),
		[]byte(`IMAGE_VERSION="0.2"`), []byte(`IMAGE_VERSION="0.3"`), 1)
	_, after, ok := bytes.Cut(kernel, []byte("nfseal.root="))
	if !ok {
		w.t.Fatal("the kernel image names no root")
	}
	root, _, _ := strings.Cut(string(after[:100]), " ")
	_, blocks, _ := strings.Cut(root, ":")
	other := strings.Repeat("ab", 32) + ":" + blocks
	kernel = bytes.Replace(kernel, []byte(root), []byte(other), 1)
	kernelFile, rootFile, bundle := filepath.Join(w.dir, "kernel"), filepath.Join(w.dir, "root"), filepath.Join(w.dir, "bad.update")
	w.must(os.WriteFile(kernelFile, kernel, 0o600))
	w.must(os.WriteFile(rootFile, w.member(filepath.Join(dir, "new", "nfseal.update"), "root.img"), 0o600))
	key, err := update.ReadPrivateKey(filepath.Join(dir, "key.pem"))
	w.must(err)
	f, err := os.Create(bundle)
	w.must(err)
	w.must(errors.Join(update.Make(f, key, time.Unix(1700000000, 0), "0.3", other, kernelFile, rootFile), f.Close()))
	return bundle
}

// member is one of a bundle.
func (w *world) member(bundle, name string) []byte {
	w.t.Helper()
	f, err := os.Open(bundle)
	w.must(err)
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		w.must(err)
		if h.Name == name {
			content, err := io.ReadAll(r)
			w.must(err)
			return content
		}
	}
}
