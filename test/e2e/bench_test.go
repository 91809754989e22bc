package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestBench measures a daemon with the command that ships, and finds the daemon as it was before: the file
// system that the command made is deleted.
func TestBench(t *testing.T) {
	w := getWorld(t)
	s := startServer(t, w)
	before, err := s.Command(t.Context(), "fs", "list")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(w.bin, "nfseal"), "bench",
		"-workload", "getattr-d16", "-workload", "write-4k-sync-d1", "-rounds", "1", "-duration", "50ms", "-file-mib", "1")
	cmd.Env = append(os.Environ(), "NFSEAL_SOCKET="+filepath.Join(s.data, "api.sock"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := w.network.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	for _, line := range []string{"getattr-d16              nfseal ", "write-4k-sync-d1         nfseal "} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("no line %q in\n%s", line, out.String())
		}
	}
	if after, err := s.Command(t.Context(), "fs", "list"); err != nil || after != before {
		t.Errorf("left behind: %v\n%s\nwas\n%s", err, after, before)
	}
}
