package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/internal/uml"
)

// TestAmazonEFSUtils mounts with the mount helper of amazon-efs-utils, as it is: from each of the checkouts that
// NFSEAL_EFS_UTILS names, separated by colons. They are not part of this repository, and nothing of them is.
//
//	git clone -b v1.36.0 https://github.com/aws/efs-utils /tmp/efs-utils-1
//	NFSEAL_EFS_UTILS=/tmp/efs-utils-1 go test -run TestAmazonEFSUtils -v ./test/e2e
func TestAmazonEFSUtils(t *testing.T) {
	checkouts := os.Getenv("NFSEAL_EFS_UTILS")
	if checkouts == "" {
		t.Skip("no checkout of amazon-efs-utils (runs by hand: NFSEAL_EFS_UTILS=DIR[:DIR...])")
	}
	w := getWorld(t)
	s, g := startServer(t, w), w.guest
	operator := func(args ...string) string {
		t.Helper()
		out, err := s.Command(t.Context(), args...)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	operator("user", "create", "efs")
	key := operator("user", "key", "create", "efs")
	must(t, g, "sh", "-c", "umask 077; mkdir -p /root/.aws; printf '[default]\\n%s\\n' '"+key+"' > /root/.aws/credentials")
	point := operator("ap", "create", s.fs, "--path", "/shared", "--user", "1000:1000", "--create-owner", "1000:1000")
	must(t, g, "sh", "-c", "echo "+s.ip+" "+s.fs+".efs.local-1.nfseal.internal >> /etc/hosts")

	for _, checkout := range strings.Split(checkouts, ":") {
		version := installEFSUtils(t, g, s, checkout)
		t.Run(version, func(t *testing.T) {
			defer func() {
				t.Log(must(t, g, "sh", "-c", "cat /var/log/amazon/efs/mount.log; : > /var/log/amazon/efs/mount.log"))
			}()
			for name, options := range map[string]string{
				"tls": "tls,stunnel", "OCSP": "tls,ocsp", "IAM": "tls,stunnel,iam", "access point": "tls,ocsp,iam,accesspoint=" + point,
				"by address": "tls,stunnel,mounttargetip=" + s.ip,
			} {
				if strings.HasPrefix(version, "1.") { // has nothing else, and no option to say so
					options = strings.ReplaceAll(options, "stunnel,", "")
					options = strings.ReplaceAll(options, ",stunnel", "")
				}
				t.Run(name, func(t *testing.T) { mountWithEFSUtils(t, s, g, options) })
			}
		})
	}
	operator("fs", "policy", "put", s.fs, onlyUser(t, "efs"))
	must(t, g, "mkdir", "-p", "/mnt/efs-refused")
	r, err := run(t, g, "mount", "-t", "efs", "-o", "tls,ocsp", s.fs+":/", "/mnt/efs-refused")
	if err != nil || r.Code == 0 || !strings.Contains(r.Stderr, "access denied by server") {
		t.Errorf("without a key, under a policy that lets one user in: %v, %v", r.Err(), err)
	}
	mountWithEFSUtils(t, s, g, "tls,ocsp,iam")
}

// installEFSUtils puts the files of a checkout where its package does, and a configuration for s.
func installEFSUtils(t *testing.T, g *uml.Guest, s *server, checkout string) (version string) {
	t.Helper()
	const script = `set -e
		cd "$1"
		mkdir -p /etc/amazon/efs /var/log/amazon/efs /var/run/efs
		cp src/mount_efs/__init__.py /sbin/mount.efs
		chmod 755 /sbin/mount.efs
		for d in efs_utils_common mount_efs; do
			if [ -e src/efs_utils_common ]; then mkdir -p /sbin/$d; cp src/$d/*.py /sbin/$d/; fi
		done
		sed -e 's/^dns_name_suffix = amazonaws.com$/dns_name_suffix = nfseal.internal/' -e 's/^#region = .*/region = local-1/' \
			-e "s|^stunnel_cafile = /etc/amazon.*|stunnel_cafile = $2|" dist/efs-utils.conf > /etc/amazon/efs/efs-utils.conf
		/sbin/mount.efs --version | sed 's/.*Version: //'`
	return must(t, g, "sh", "-c", script, "sh", checkout, s.caFile())
}

// mountWithEFSUtils mounts, writes, reads after another mount, and ends the tunnel, as the watchdog would.
func mountWithEFSUtils(t *testing.T, s *server, g *uml.Guest, options string) {
	t.Helper()
	dir := "/mnt/efs-" + strings.NewReplacer("/", "-", " ", "-").Replace(t.Name())
	must(t, g, "mkdir", "-p", dir)
	mount := []string{"mount", "-t", "efs", "-o", options, s.fs + ":/", dir}
	umount := func() {
		must(t, g, "umount", dir)
		must(t, g, "sh", "-c", "pkill -x stunnel || true; rm -rf /var/run/efs/*")
	}
	must(t, g, mount...)
	const write = `dd if=/dev/urandom of="$1"/file bs=1M count=3 status=none && sha256sum < "$1"/file`
	sum := must(t, g, "sh", "-c", write, "sh", dir)
	if line := must(t, g, "grep", " "+dir+" ", "/proc/mounts"); !strings.Contains(line, "addr=127.0.0.1") || !strings.Contains(line, "vers=4.1") {
		t.Errorf("the mount is not one of NFSv4.1 through a tunnel: %s", line)
	}
	umount()
	must(t, g, mount...)
	if got := must(t, g, "sh", "-c", `sha256sum < "$1"/file`, "sh", dir); got != sum {
		t.Error("what was read is not what was written")
	}
	if strings.Contains(options, "accesspoint") {
		if owner := must(t, g, "stat", "-c", "%u:%g", dir+"/file"); owner != "1000:1000" {
			t.Errorf("the file is of %s, not of the access point's user", owner)
		}
	}
	umount()
}
