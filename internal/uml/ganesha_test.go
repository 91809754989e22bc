package uml

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/tree"
)

const ganeshaConfig = `
NFS_CORE_PARAM { Protocols = 4; NFS_Port = 2049; Enable_NLM = false; Enable_RQUOTA = false; Bind_addr = %s; }
NFSV4 { Graceless = true; Lease_Lifetime = 15; Minor_Versions = 1; RecoveryRoot = %q; }
EXPORT { Export_Id = 1; Path = %q; Pseudo = /; Access_Type = RW; Squash = No_Root_Squash; SecType = sys; Protocols = 4; FSAL { Name = VFS; } }
`

// startGanesha serves dir from inside the network: a server that is not ours, so that the client is
// known to be right before ours is judged by it.
func startGanesha(t *testing.T, n *Network, ip, dir string) {
	t.Helper()
	server, err := exec.LookPath("ganesha.nfsd")
	if err != nil {
		t.Skip("needs nfs-ganesha and nfs-ganesha-vfs: runs where scripts/deps.sh has run (make test, .ci/run)")
	}
	work := t.TempDir()
	conf, log := filepath.Join(work, "ganesha.conf"), filepath.Join(work, "ganesha.log")
	if err := os.WriteFile(conf, fmt.Appendf(nil, ganeshaConfig, ip, work, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(server, "-F", "-L", log, "-f", conf, "-p", filepath.Join(work, "pid"))
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it was killed
		if text, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("ganesha:\n%s", text)
		}
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := n.Dial(t.Context(), "tcp", ip+":2049")
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("ganesha does not listen: %v", err)
		}
	}
}

func TestMountsAnotherServer(t *testing.T) {
	n := testNetwork(t)
	g := testGuest(t, n, Options{})
	dir := t.TempDir()
	startGanesha(t, n, g.HostIP, dir)
	must(t, g, "mount", "-t", "nfs4", "-o", "vers=4.1", g.HostIP+":/", "/mnt")

	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(goroot)), "src", "encoding")
	began := time.Now()
	must(t, g, agent, "copy", source, "/mnt/encoding")
	t.Logf("copied in %v", time.Since(began).Round(time.Millisecond))
	must(t, g, "umount", "/mnt")
	must(t, g, "mount", "-t", "nfs4", "-o", "vers=4.1", g.HostIP+":/", "/mnt")

	want, err := tree.Scan(source, 2)
	if err != nil {
		t.Fatal(err)
	}
	through, err := tree.Read(strings.NewReader(must(t, g, agent, "scan", "/mnt/encoding")))
	if err != nil {
		t.Fatal(err)
	}
	if diffs := tree.Compare(want, through, 10); diffs != nil {
		t.Fatalf("through the mount:\n%s", strings.Join(diffs, "\n"))
	}
	behind, err := tree.Scan(filepath.Join(dir, "encoding"), 2)
	if err != nil {
		t.Fatal(err)
	}
	if diffs := tree.Compare(want, behind, 10); diffs != nil {
		t.Fatalf("behind the server:\n%s", strings.Join(diffs, "\n"))
	}
	t.Logf("64 MiB: %s", must(t, g, "sh", "-c", "dd if=/dev/zero of=/mnt/z bs=1M count=64 conv=fsync 2>&1 | tail -1"))
}
