package uml

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var agent string

func TestMain(m *testing.M) {
	os.Exit(withAgent(m.Run))
}

func withAgent(run func() int) int {
	dir, err := os.MkdirTemp("", "nfseal-uml-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if agent, err = BuildAgent(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return run()
}

func testNetwork(t *testing.T) *Network {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skip(err, "(runs as root where scripts/deps.sh has run: make test, .ci/run)")
	}
	n, err := NewNetwork()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func testGuest(t *testing.T, n *Network, o Options) *Guest {
	t.Helper()
	o.Agent = agent
	began := time.Now()
	g, err := n.StartGuest(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("booted in %v", time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("console:\n%s", g.Console())
		}
		g.Shutdown()
	})
	return g
}

func must(t *testing.T, g *Guest, args ...string) string {
	t.Helper()
	out, err := g.Must(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// What processors with AMX need does no harm on others, and registers last through switches between programs: each
// of these goes over its bytes with them.
func TestPreload(t *testing.T) {
	n := testNetwork(t)
	if _, err := exec.LookPath(compiler); err != nil {
		t.Skip(err, "(runs where scripts/deps.sh has run)")
	}
	g := testGuest(t, n, Options{preload: true})
	const sums = `head -c 3000000 /proc/self/exe /bin/sh > /tmp/x; sha256sum < /tmp/x > /tmp/want
		for i in 1 2 3 4; do (for j in 1 2 3; do sha256sum < /tmp/x | cmp - /tmp/want || echo differs; done) & done; wait`
	if out := must(t, g, "sh", "-c", sums); out != "" {
		t.Error(out)
	}
}

func TestGuest(t *testing.T) {
	n := testNetwork(t)
	g := testGuest(t, n, Options{ShareDir: t.TempDir()})
	t.Run("it is another kernel with NFS", func(t *testing.T) {
		if got := must(t, g, "cat", "/proc/filesystems"); !strings.Contains(got, "\tnfs4") {
			t.Fatalf("no nfs4 in:\n%s", got)
		}
		if got := must(t, g, "uname", "-nr"); !strings.HasPrefix(got, "guest1 ") {
			t.Fatalf("got %q", got)
		}
	})
	t.Run("streams and exit status", func(t *testing.T) { checkStreams(t, g) })
	t.Run("what it writes stays in it", func(t *testing.T) { checkIsolation(t, g) })
	t.Run("the shared directory is shared", func(t *testing.T) { checkShare(t, g) })
	t.Run("a cancelled command is killed", func(t *testing.T) { checkCancel(t, g) })
	t.Run("network", func(t *testing.T) { checkNetwork(t, n, g) })
	t.Run("it ends, and nothing is left", func(t *testing.T) { checkShutdown(t, g) })
}

func checkStreams(t *testing.T, g *Guest) {
	var out, errOut strings.Builder
	code, err := g.Exec(t.Context(), Command{
		Args:  []string{"sh", "-c", "cat; echo $A >&2; pwd; exit 32"},
		Env:   []string{"A=b c"},
		Dir:   "/usr",
		Stdin: []byte("in "), Stdout: &out, Stderr: &errOut,
	})
	if err != nil || code != 32 {
		t.Fatalf("got %d, %v, want 32", code, err)
	}
	if out.String() != "in /usr\n" || errOut.String() != "b c\n" {
		t.Fatalf("got %q and %q", out.String(), errOut.String())
	}
	if _, err := g.Run(t.Context(), "/no/such/command"); err == nil {
		t.Fatal("a command that is not there ran")
	}
	if r, err := g.Run(t.Context(), "sh", "-c", "kill -9 $$"); err != nil || r.Code != 137 {
		t.Fatalf("got %+v, %v, want code 137", r, err)
	}
}

func checkIsolation(t *testing.T, g *Guest) {
	probe := filepath.Join(t.TempDir(), "probe")
	if err := os.WriteFile(probe, []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := must(t, g, "cat", probe); got != "host" {
		t.Fatalf("the guest reads %q", got)
	}
	must(t, g, "sh", "-c", "echo guest > "+probe+" && cp /bin/true /sbin/mount.probe && /sbin/mount.probe")
	if got, err := os.ReadFile(probe); err != nil || string(got) != "host" {
		t.Fatalf("the guest changed the host's file: %q, %v", got, err)
	}
	if _, err := os.Stat("/sbin/mount.probe"); err == nil {
		t.Fatal("the guest made a file on the host")
	}
	// Nor can it by going around its own overlay.
	around := "mkdir /mnt/h && mount -t hostfs none /mnt/h -o / && echo x > /mnt/h" + probe
	if r, err := g.Run(t.Context(), "sh", "-c", around); err != nil || r.Code == 0 {
		t.Fatalf("got %+v, %v, want a refusal", r, err)
	} else if !strings.Contains(r.Stderr, "Read-only") {
		t.Fatalf("refused with %q", r.Stderr)
	}
}

func checkShare(t *testing.T, g *Guest) {
	if err := os.WriteFile(g.ShareDir+"/down", []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	must(t, g, "cp", g.ShareDir+"/down", g.ShareDir+"/up")
	if got, err := os.ReadFile(g.ShareDir + "/up"); err != nil || string(got) != "1" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func checkCancel(t *testing.T, g *Guest) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := g.Run(ctx, "sh", "-c", "sleep 4321 & sleep 4321"); err == nil {
		t.Fatal("no error")
	}
	for end := time.Now().Add(10 * time.Second); ; {
		r, err := g.Run(t.Context(), "pgrep", "-f", "sleep 4321")
		if err != nil {
			t.Fatal(err)
		}
		if r.Code == 1 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still there: %s", r.Stdout)
		}
	}
}

func checkNetwork(t *testing.T, n *Network, g *Guest) {
	if err := n.AddAddress("10.97.0.10/32"); err != nil {
		t.Fatal(err)
	}
	for _, ip := range []string{g.HostIP, "10.97.0.10"} {
		l, err := n.Listen("tcp", ip+":0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if conn, err := l.Accept(); err == nil {
				_, _ = io.WriteString(conn, "from "+conn.RemoteAddr().(*net.TCPAddr).IP.String())
				conn.Close()
			}
		}()
		port := l.Addr().(*net.TCPAddr).Port
		got := must(t, g, "bash", "-c", fmt.Sprintf("cat < /dev/tcp/%s/%d", ip, port))
		if got != "from "+g.GuestIP {
			t.Fatalf("%s: got %q", ip, got)
		}
		l.Close()
	}
	if out, err := n.Run(t.Context(), "ip", "-br", "link"); err != nil || !strings.Contains(out, g.Interface) {
		t.Fatalf("got %q, %v", out, err)
	}
	if _, err := net.InterfaceByName(g.Interface); err == nil {
		t.Fatal("the wire is in the host's own namespace")
	}
}

func checkShutdown(t *testing.T, g *Guest) {
	dir, began := g.dir, time.Now()
	g.Shutdown()
	t.Logf("ended in %v", time.Since(began).Round(time.Millisecond))
	if time.Since(began) > shutdownGrace {
		t.Errorf("it had to be killed")
	}
	if out, err := exec.Command("pgrep", "-f", dir).Output(); err == nil {
		t.Errorf("left behind: processes %s", out)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("left behind: %s", dir)
	}
	if _, err := g.Run(t.Context(), "true"); err == nil {
		t.Error("a guest that has ended ran a command")
	}
}

// A guest that gets no processor time for a while is not lost.
func TestGuestThatPauses(t *testing.T) {
	g := testGuest(t, testNetwork(t), Options{})
	if err := g.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	const pause = 6 * time.Second // it stops answering SYNs too: the third comes after three seconds, the fourth after seven
	time.AfterFunc(pause, func() { g.cmd.Process.Signal(syscall.SIGCONT) })
	began := time.Now()
	must(t, g, "true")
	if took := time.Since(began); took < pause {
		t.Errorf("answered after %v", took)
	}
}

// A guest that hangs, with a hard mount of a server that is gone, ends all the same.
func TestGuestOfDeadServerEnds(t *testing.T) {
	n := testNetwork(t)
	g := testGuest(t, n, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	// Nobody listens at that address; a hard mount waits for it.
	if _, err := g.Run(ctx, "mount", "-t", "nfs4", "-o", "hard,port=2049", "10.99.1.77:/", "/mnt"); err == nil {
		t.Fatal("mounted nothing")
	}
	checkShutdown(t, g)
}

func TestHostKernelGuest(t *testing.T) {
	n := testNetwork(t)
	g := testGuest(t, n, Options{HostKernel: true, ShareDir: t.TempDir()})
	t.Run("streams and exit status", func(t *testing.T) { checkStreams(t, g) })
	t.Run("what it writes stays in it", func(t *testing.T) {
		probe := filepath.Join(t.TempDir(), "probe")
		must(t, g, "sh", "-c", "mkdir -p "+filepath.Dir(probe)+" && echo guest > "+probe+" && cp /bin/true /sbin/mount.probe")
		for _, path := range []string{probe, "/sbin/mount.probe"} {
			if _, err := os.Stat(path); err == nil {
				t.Errorf("the guest made %s on the host", path)
			}
		}
	})
	t.Run("the shared directory is shared", func(t *testing.T) { checkShare(t, g) })
	t.Run("a mount stays in it", func(t *testing.T) {
		must(t, g, "mount", "-t", "tmpfs", "probe-"+g.Interface, "/mnt")
		table, err := os.ReadFile("/proc/mounts")
		if err != nil || strings.Contains(string(table), "probe-"+g.Interface) {
			t.Fatalf("the guest's mount is the host's, %v", err)
		}
	})
	t.Run("network", func(t *testing.T) { checkNetwork(t, n, g) })
	t.Run("it ends, and nothing is left", func(t *testing.T) { checkShutdown(t, g) })
}
