package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/image/gpt"
	"github.com/nfseal/nfseal/image/lock"
	"github.com/nfseal/nfseal/image/verity"
)

func TestTakesOnlyWhatTheLockNames(t *testing.T) {
	content := []byte("package")
	sum := sha256.Sum256(content)
	p := lock.Package{Name: "libc6", Version: "1", SHA256: hex.EncodeToString(sum[:])}
	fetched := func(name string, content []byte) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	d := debs{dir: t.TempDir()}
	if err := d.take(fetched("any-name.deb", content), []lock.Package{p}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(d.file(p)); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%q, %v", got, err)
	}
	if err := d.take(fetched("libc6_1_amd64.deb", []byte("another")), []lock.Package{p}); err == nil || !strings.Contains(err.Error(), "another hash") {
		t.Errorf("a file with another hash: %v", err)
	}
}

func TestStanzas(t *testing.T) {
	text := "Package: a\nVersion: 1:2-3\nDescription: one\n Package: not this\n\nPackage: b\n\nNote: none\n"
	got := slices.Collect(stanzas(text))
	want := []map[string]string{{"Package": "a", "Version": "1:2-3", "Description": "one"}, {"Package": "b"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

// tree makes files below a new folder.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range names {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(name), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestPrune(t *testing.T) {
	root := tree(t, "usr/share/doc/x/copyright", "usr/bin/perl5.36", "var/lib/dpkg/status", "usr/bin/mount", "etc/passwd")
	if err := prune(root); err != nil {
		t.Fatal(err)
	}
	for name, stays := range map[string]bool{
		"usr/share/doc": false, "usr/bin/perl5.36": false, "var/lib": false, "var": true, "usr/bin/mount": true, "etc/passwd": true,
	} {
		if _, err := os.Lstat(filepath.Join(root, name)); (err == nil) != stays {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestChoose(t *testing.T) {
	root := tree(t, "etc/systemd/system/getty.target")
	if err := choose(root); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"etc/systemd/system/getty.target":                                  "/dev/null",
		"etc/systemd/system/multi-user.target.wants/nfseald.service":       "/usr/lib/systemd/system/nfseald.service",
		"etc/systemd/system/default.target":                                "/usr/lib/systemd/system/multi-user.target",
		"etc/systemd/system-generators/systemd-gpt-auto-generator":         "/dev/null",
		"etc/systemd/system/sockets.target.wants/systemd-networkd.socket":  "/usr/lib/systemd/system/systemd-networkd.socket",
		"etc/systemd/system/sysinit.target.wants/systemd-resolved.service": "/usr/lib/systemd/system/systemd-resolved.service",
	} {
		if got, err := os.Readlink(filepath.Join(root, name)); got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestCopyTreeReplacesLinksAndKeepsExecutables(t *testing.T) {
	from := tree(t, "etc/fstab", "usr/bin/tool")
	if err := os.Chmod(filepath.Join(from, "usr/bin/tool"), 0o700); err != nil {
		t.Fatal(err)
	}
	to := tree(t, "outside")
	if err := link(filepath.Join(to, "outside"), filepath.Join(to, "etc/fstab")); err != nil {
		t.Fatal(err)
	}
	if err := copyTree(from, to); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(to, "outside")); string(got) != "outside" {
		t.Errorf("written through a link: %q, %v", got, err)
	}
	for name, mode := range map[string]fs.FileMode{"etc/fstab": 0o644, "usr/bin/tool": 0o744} {
		if info, err := os.Lstat(filepath.Join(to, name)); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestFillMakesADiskThatStage1Reads(t *testing.T) {
	dir := tree(t, "esp", "root")
	root, err := verity.ParseRoot(strings.Repeat("5a", 32) + ":3")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 2*edgeBytes + espBytes + mib
	if err := errors.Join(f.Truncate(size), fill(f, size, filepath.Join(dir, "esp"), rootImage{filepath.Join(dir, "root"), root, 4})); err != nil {
		t.Fatal(err)
	}
	table, err := gpt.Read(f, size, 512)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := table.Find(gpt.FromHash(root.Hash))
	if !ok || p.Type != gpt.TypeRoot || p.Number != 2 {
		t.Fatalf("%+v", table)
	}
	offset, _ := table.Range(p)
	content := make([]byte, 4)
	if _, err := f.ReadAt(content, offset); err != nil || string(content) != "root" {
		t.Errorf("%q, %v", content, err)
	}
}

func TestCopyIntoKeepsHoles(t *testing.T) {
	dir := t.TempDir()
	want := append(make([]byte, 2*mib), []byte("end")...)
	if err := os.WriteFile(filepath.Join(dir, "from"), want, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "to"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := copyInto(f, mib, filepath.Join(dir, "from")); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(f, mib, 4*mib))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// The same commit and keys give the same bytes, whatever was in the cache.
func TestTwoBuildsAreEqual(t *testing.T) {
	if os.Getenv("NFSEAL_LONG") == "" {
		t.Skip("builds two images: runs with NFSEAL_LONG=1 (make test-long)")
	}
	if out, err := exec.Command("../../scripts/deps.sh", "image").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Chdir("../..")
	key := filepath.Join(t.TempDir(), "policy-key.pem")
	if out, err := exec.Command("openssl", "genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var sums [2]string
	for i := range sums {
		out := t.TempDir()
		if err := run(t.Context(), []string{"-out", out, "-cache", t.TempDir(), "-version", "1.0-test", "-policy-key", key}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(out, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(text)
		if info, err := os.Stat(filepath.Join(out, "nfseal.raw")); err != nil || info.Size() >= 200*mib {
			t.Errorf("the image has %d bytes, %v", info.Size(), err)
		}
	}
	if sums[0] != sums[1] {
		t.Errorf("two builds differ:\n%s\n%s", sums[0], sums[1])
	}
}
