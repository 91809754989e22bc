package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
)

// rsyslog is Debian's rsyslogd, which keeps what it is sent in a file.
type rsyslog struct {
	dir  string
	port int
	cmd  *exec.Cmd
}

func (r *rsyslog) output() string { return filepath.Join(r.dir, "received") }
func (r *rsyslog) socket() string { return filepath.Join(r.dir, "log") }

// start starts it, over TCP and at a socket; it is a receiver as others configure it, but for its places.
func (r *rsyslog) start(t *testing.T) {
	t.Helper()
	path, err := exec.LookPath("/usr/sbin/rsyslogd")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(r.dir, "rsyslog.conf")
	text := fmt.Sprintf(`global(workDirectory="%[1]s" maxMessageSize="80k")
module(load="imtcp") module(load="imuxsock" SysSock.Use="off")
input(type="imtcp" address="127.0.0.1" port="%[2]d")
input(type="imuxsock" Socket="%[1]s/log" UseSpecialParser="off")
template(name="raw" type="string" string="%%syslogfacility%% %%app-name%% %%msgid%% %%msg%%\n")
action(type="omfile" file="%[1]s/received" template="raw")
`, r.dir, r.port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.cmd = exec.Command(path, "-n", "-f", config, "-i", filepath.Join(r.dir, "pid"))
	r.cmd.Stderr = os.Stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.kill)
}

func (r *rsyslog) kill() {
	r.cmd.Process.Kill() // it may have been killed
	r.cmd.Wait()
}

// freePort is a port of TCP that nobody has now.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// auditLines are the audit log's own lines.
func auditLines(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "audit", "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	var all []string
	for _, name := range names {
		all = append(all, linesOf(t, name)...)
	}
	return all
}

func linesOf(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(string(text), "\n"), func(s string) bool { return !strings.HasSuffix(s, "}") })
}

// once leaves out what came before, and what rsyslog says before a message.
func once(lines []string) []string {
	var all []string
	seen := map[string]bool{}
	for _, line := range lines {
		if i := strings.Index(line, `{"hash"`); i > 0 {
			line = line[i:]
		}
		if !seen[line] {
			seen[line] = true
			all = append(all, line)
		}
	}
	return all
}

// TestAuditReachesRsyslog kills rsyslogd and the daemon with SIGKILL while calls are made, over TCP and a Unix socket: what rsyslogd and a
// file have in the end is the audit log, line by line.
func TestAuditReachesRsyslog(t *testing.T) {
	for _, transport := range []string{"tcp", "unix"} {
		t.Run(transport, func(t *testing.T) {
			short, err := os.MkdirTemp("", "rsys") // the path of a socket is short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(short) })
			r := &rsyslog{dir: short, port: freePort(t)}
			r.start(t)
			to := fmt.Sprintf("tcp:127.0.0.1:%d", r.port)
			if transport == "unix" {
				to = "unix:" + r.socket()
			}
			dir, file := t.TempDir(), filepath.Join(t.TempDir(), "audit.jsonl")
			start := func() *daemon { return startDaemon(t, dir, "-audit-syslog", to, "-audit-file", file) }
			d := start()
			calls := func(n int) {
				for range n {
					d.api.CreateFileSystem(t.Context(), api.CreateFileSystemRequest{}) // without a token: an error, on record
				}
			}
			for range 2 {
				calls(20)
				r.kill()
				calls(20)
				d.signal(t, syscall.SIGKILL)
				d = start()
				calls(20)
				r.start(t)
			}
			if _, err := d.api.CreateFileSystem(t.Context(), api.CreateFileSystemRequest{CreationToken: "t"}); err != nil {
				t.Fatal(err)
			}
			deadline := time.Now().Add(2 * time.Minute)
			want := auditLines(t, dir)
			if len(want) < 120 {
				t.Fatalf("%d records of 120 calls", len(want))
			}
			for ; ; time.Sleep(100 * time.Millisecond) {
				received, kept := once(linesOf(t, r.output())), linesOf(t, file)
				if slices.Equal(received, want) && slices.Equal(once(kept), want) {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("of %d records %d reached rsyslogd and %d the file, in the log's order", len(want), len(received), len(once(kept)))
				}
			}
			if first := linesOf(t, r.output())[0]; !strings.HasPrefix(first, "13 nfseald ") {
				t.Errorf("rsyslogd has understood: %s", first[:min(len(first), 60)])
			}
			d.signal(t, syscall.SIGTERM)
		})
	}
}
