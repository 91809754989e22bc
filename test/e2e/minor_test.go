package e2e

import (
	"strings"
	"testing"
)

// The kernel's client at the minor versions that are not its default here, which TestFileOperations is about: the same
// files, and what minor version 2 has of its own.
func TestMinorVersions(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	for _, vers := range []string{"4.0", "4.2"} {
		t.Run(vers, func(t *testing.T) {
			s := *s
			s.t = t
			dir := s.mount(w.guest, s.fs, "minorversion="+vers[2:])
			if line := regexpFind(must(t, w.guest, "cat", "/proc/mounts"), `(?m)^\S+ `+dir+` nfs4 .*$`); !strings.Contains(line, "vers="+vers+",") {
				t.Fatalf("the mount is not of version %s: %q", vers, line)
			}
			if line := opened(s.Log(), s.fs); !strings.Contains(line, "TLS 1.3") {
				t.Errorf("the client's connection is not of TLS 1.3: %q", line)
			}
			passes(t, w, "ops", dir, "contents", "append", "rename", "unlinked", "access", "fcntl locks", "readdir", "times")
			if vers == "4.2" {
				passes(t, w, "ranges", dir)
			}
		})
	}
}

// opened is the line of a daemon's log for the last connection to a file system.
func opened(log, fs string) string {
	last := ""
	for line := range strings.Lines(log) {
		if strings.Contains(line, "connection opened") && strings.Contains(line, fs) {
			last = line
		}
	}
	return last
}

// passes runs checks of the workload in the client; each line of its output is a test.
func passes(t *testing.T, w *world, args ...string) {
	t.Helper()
	r, err := run(t, w.guest, append([]string{w.work}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(r.Stdout) {
		if name, failed := strings.CutPrefix(strings.TrimSpace(line), "FAIL "); failed {
			t.Error(name)
		}
	}
	if r.Code != 0 || strings.Count(r.Stdout, "ok ") < 6 {
		t.Errorf("%s: status %d\n%s%s", args[0], r.Code, r.Stdout, r.Stderr)
	}
}
