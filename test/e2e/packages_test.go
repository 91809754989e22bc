package e2e

import (
	"context"
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

// Both packages are built; rpm reads the one; the other is installed in a fresh Debian, where fstab, mount, findmnt and
// umount use it with the Linux client, and removed.
func TestPackages(t *testing.T) {
	long(t)
	w := getWorld(t)
	dir := t.TempDir()
	host(t, "../../scripts/packages.sh", dir)
	rpm := only(t, dir+"/*.rpm")
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
	root := filepath.Join(dir, "root")
	host(t, "mmdebstrap", "--quiet", "--variant=essential", "--include=mount", "bookworm", root)
	host(t, "cp", only(t, dir+"/*.deb"), root+"/client.deb")
	host(t, "chroot", root, "dpkg", "-i", "/client.deb")
	if changed := host(t, "chroot", root, "dpkg", "--verify", "nfseal-client"); changed != "" {
		t.Errorf("dpkg --verify: %s", changed)
	}
	usePackage(t, w, root)
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
