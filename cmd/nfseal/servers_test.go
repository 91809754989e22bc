package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfsclient/bench"
)

// TestServersAreRead: what -server can't be says why.
func TestServersAreRead(t *testing.T) {
	s := &servers{}
	for given, want := range map[string]bench.Target{
		"h:2049":            {Name: "h:2049", Address: "h:2049"},
		"knfsd=[::1]:1/a/b": {Name: "knfsd", Address: "[::1]:1", Dir: "a/b"},
	} {
		got, err := s.target(given)
		if err != nil || got.Name != want.Name || got.Address != want.Address || got.Dir != want.Dir || got.Dial == nil {
			t.Errorf("%s: %+v, %v", given, got, err)
		}
	}
	for given, want := range map[string]string{
		"host": "missing port", "x=tls:h:2049": "-server-ca", "/dir": "missing port",
	} {
		if _, err := s.target(given); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", given, err, want)
		}
	}
}

// TestBenchServers measures nfs-ganesha as any server, plain and behind stunnel, with no daemon about.
func TestBenchServers(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // the test's directory is for its owner alone
		t.Fatal(err)
	}
	export := filepath.Join(dir, "export")
	if err := os.MkdirAll(filepath.Join(export, "work"), 0o755); err != nil {
		t.Fatal(err)
	}
	server, err := bench.StartGanesha(t.Context(), bench.GaneshaOptions{Dir: dir, Export: export})
	if errors.Is(err, bench.ErrNotInstalled) {
		t.Skipf("%v; `make test` installs it", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	o, _, err := frontOptions(dir)
	if err != nil {
		t.Fatal(err)
	}
	o.Connect = server.Addr
	front, err := bench.StartStunnel(t.Context(), o)
	if errors.Is(err, bench.ErrNotInstalled) {
		t.Skipf("%v; `make test` installs it", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	var out, problems bytes.Buffer
	code := run(t.Context(), &env{stdout: &out, stderr: &problems}, []string{
		"bench", "-server", "plain=" + server.Addr + "/work", "-server", "secure=tls:" + front.Addr + "/work", "-server-ca", o.CertFile,
		"-server-name", benchName, "-server-noocsp", "-workload", "getattr-d16", "-rounds", "1", "-duration", "50ms", "-file-mib", "1",
	})
	if code != 0 {
		t.Fatalf("%d: %s", code, problems.String())
	}
	for _, name := range []string{"plain", "secure"} {
		if !strings.Contains(out.String(), "getattr-d16              "+name) {
			t.Errorf("no line of %s in\n%s", name, out.String())
		}
	}
	if left, err := os.ReadDir(filepath.Join(export, "work")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
