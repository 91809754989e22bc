package e2e

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
)

// packagedFiles are all of the client's packages, with their modes.
var packagedFiles = []string{
	"-rw-r--r-- /etc/logrotate.d/nfseal-client",
	"-rw-r--r-- /etc/nfseal/mount.conf",
	"-rw-r--r-- /usr/lib/systemd/system/nfseal-tunnels.service",
	"-rw-r--r-- /usr/share/doc/nfseal-client/copyright",
	"-rw-r--r-- /usr/share/man/man5/nfseal-mount.conf.5.gz",
	"-rw-r--r-- /usr/share/man/man8/mount.nfseal.8.gz",
	"-rw-r--r-- /usr/share/man/man8/nfseal-tunnels.8.gz",
	"-rwxr-xr-x /sbin/mount.nfseal",
}

// host runs a command on this machine and gives its output.
func host(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func only(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q, %v", pattern, found, err)
	}
	return found[0]
}

// Both packages are built; the deb is installed in a fresh Debian, where fstab, mount, findmnt and umount use it with the
// Linux client, and removed. The rpm has a test of its own.
func TestPackages(t *testing.T) {
	long(t)
	w := getWorld(t)
	dir := t.TempDir()
	host(t, "../../scripts/packages.sh", dir)
	root := filepath.Join(dir, "root")
	host(t, "mmdebstrap", "--quiet", "--variant=essential", "--include=mount", "bookworm", root)
	host(t, "cp", only(t, dir+"/*.deb"), root+"/client.deb")
	host(t, "chroot", root, "dpkg", "-i", "/client.deb")
	if changed := host(t, "chroot", root, "dpkg", "--verify", "nfseal-client"); changed != "" {
		t.Errorf("dpkg --verify: %s", changed)
	}
	usePackage(t, w, root)
}

// The rpm is read, installed into a tree by rpm itself, which runs its scripts there, upgraded and removed. There is no
// distribution of rpm's here: the tree has a shell and nothing else, so what the package needs is read and not looked for.
func TestRPM(t *testing.T) {
	long(t)
	if _, err := exec.LookPath("rpm"); err != nil || os.Getuid() != 0 {
		t.Skip("needs rpm (Debian package rpm) and root: runs in make test-long")
	}
	dir, root := t.TempDir(), t.TempDir()
	host(t, "../../scripts/packages.sh", dir)
	file := only(t, dir+"/*.rpm")
	checkRPM(t, file)
	copyWithLibraries(t, root, "/bin/sh", "/bin/ls")
	host(t, "mkdir", root+"/dev")
	host(t, "mknod", root+"/dev/null", "c", "1", "3")
	rpm := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "rpm", append([]string{"--root", root}, args...)...).CombinedOutput()
		return string(out), err
	}
	succeeds := func(args ...string) {
		t.Helper()
		out, err := rpm(args...)
		for line := range strings.Lines(out) { // Debian's rpm says that it is not for Debian's own packages
			if err == nil && !strings.HasPrefix(line, "rpm: ") {
				err = errors.New("it says something")
			}
		}
		if err != nil {
			t.Fatalf("rpm %q: %v\n%s", args, err, out)
		}
	}
	succeeds("-i", "--nodeps", file)
	succeeds("-V", "--nodeps", "nfseal-client")
	for _, want := range packagedFiles {
		mode, path, _ := strings.Cut(want, " ")
		if got := strings.TrimSpace(host(t, "stat", "-c", "%A %U:%G", root+path)); got != mode+" root:root" {
			t.Errorf("%s is installed as %s", path, got)
		}
	}
	if said := host(t, "chroot", root, "/sbin/mount.nfseal", "-h"); !strings.Contains(said, "mount.nfseal") {
		t.Errorf("mount.nfseal -h in the tree: %q", said)
	}

	tunnel := root + "/run/nfseal/tunnel.json"
	if err := errors.Join(os.MkdirAll(filepath.Dir(tunnel), 0o700), os.WriteFile(tunnel, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	succeeds("-U", "--nodeps", "--replacepkgs", file) // an upgrade is no removal
	if out, err := rpm("-e", "nfseal-client"); err == nil || !strings.Contains(out, "unmount") {
		t.Errorf("removed under a mount: %v\n%s", err, out)
	}
	succeeds("-V", "--nodeps", "nfseal-client")
	if err := os.Remove(tunnel); err != nil {
		t.Fatal(err)
	}
	succeeds("-e", "nfseal-client")
	for _, file := range packagedFiles {
		_, path, _ := strings.Cut(file, " ")
		if _, err := os.Lstat(root + path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left behind: %v", path, err)
		}
	}
}

// checkRPM reads what is in the package and what it needs.
func checkRPM(t *testing.T, rpm string) {
	t.Helper()
	got := strings.Split(strings.TrimSpace(host(t, "rpm", "-qp", "--qf", "[%{FILEMODES:perms} %{FILENAMES}\n]", rpm)), "\n")
	slices.Sort(got)
	if !slices.Equal(got, packagedFiles) {
		t.Errorf("the rpm holds %q", got)
	}
	if said := host(t, "rpm", "-K", rpm); !strings.Contains(said, "digests OK") {
		t.Errorf("rpm -K: %s", said)
	}
	if needs := host(t, "rpm", "-qp", "--requires", rpm); strings.Contains(needs, ".so") || !strings.Contains(needs, "util-linux") {
		t.Errorf("the rpm needs %s", needs)
	}
}

// copyWithLibraries copies programs of this machine to a tree, with what they are linked to.
func copyWithLibraries(t *testing.T, root string, programs ...string) {
	t.Helper()
	files := slices.Clone(programs)
	for _, program := range programs {
		for _, word := range strings.Fields(host(t, "ldd", program)) {
			if strings.HasPrefix(word, "/") {
				files = append(files, word)
			}
		}
	}
	for _, file := range files {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(file)), 0o755); err != nil {
			t.Fatal(err)
		}
		host(t, "cp", "-L", file, root+file)
	}
}

// usePackage mounts by the package that is installed below root.
func usePackage(t *testing.T, w *world, root string) {
	t.Helper()
	s := startServer(t, w)
	g, err := w.network.StartGuest(t.Context(), uml.Options{Agent: w.agent})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Shutdown)
	in := func(args ...string) string {
		t.Helper()
		return must(t, g, append([]string{"chroot", root}, args...)...)
	}
	must(t, g, "mount", "--rbind", "/proc", root+"/proc")
	must(t, g, "mount", "--rbind", "/dev", root+"/dev")
	must(t, g, "cp", s.caFile(), root+"/etc/nfseal/ca.pem")
	line := s.fs + ":/ /mnt nfseal _netdev,tls,mounttargetip=" + s.ip + " 0 0\n"
	must(t, g, "sh", "-c", "printf '%s' '"+line+"' >"+root+"/etc/fstab")
	in("mount", "-a")
	in("mount", "-a") // it knows that it is mounted
	if said := in("findmnt", "-nro", "SOURCE,FSTYPE", "/mnt"); said != s.fs+":/ nfs4" {
		t.Errorf("findmnt: %q", said)
	}
	in("sh", "-c", "echo hello >/mnt/file && sync /mnt/file")
	if said := in("cat", "/mnt/file"); said != "hello" {
		t.Errorf("read %q", said)
	}
	if r, err := run(t, g, "chroot", root, "dpkg", "-r", "nfseal-client"); err != nil || r.Code == 0 || !strings.Contains(r.Stderr, "unmount") {
		t.Errorf("removed under a mount: %v %s", err, r.Stderr)
	}
	in("umount", "/mnt")
	eventually(t, time.Minute, "the tunnel ends", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
		defer cancel()
		r, err := g.Run(ctx, "pgrep", "-af", "mount.nfseal tunnel")
		return err == nil && r.Stdout == ""
	})
	in("dpkg", "-r", "nfseal-client")
	if _, err := os.Stat(root + "/sbin/mount.nfseal"); err != nil {
		t.Errorf("the guest changed the host: %v", err)
	}
	if r, err := run(t, g, "test", "-e", root+"/sbin/mount.nfseal"); err != nil || r.Code == 0 {
		t.Errorf("it is still there after its removal: %v", err)
	}
}
