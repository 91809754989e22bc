package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/internal/uml"
)

// TestUsers lets one user in, by the access key that the mount helper proves to have, and nobody else;
// until the user is gone.
func TestUsers(t *testing.T) {
	w := getWorld(t)
	s, g := startServer(t, w), w.guest
	operator := func(args ...string) string {
		t.Helper()
		out, err := s.Command(t.Context(), args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	operator("user", "create", "bob")
	key := operator("user", "key", "create", "bob")
	operator("fs", "policy", "put", s.fs, onlyUser(t, "bob"))

	must(t, g, "mkdir", "-p", "/mnt/anonymous")
	refused, err := run(t, g, s.mountArgs(s.fs, "/mnt/anonymous")...)
	if err != nil || refused.Code != 32 || !strings.Contains(refused.Stderr, "denied") {
		t.Errorf("without a key: %v %v", refused.Err(), err)
	}

	install := "umask 077; mkdir -p /root/.aws; printf '[default]\\n%s' '" + key + "' > /root/.aws/credentials"
	must(t, g, "sh", "-c", install)
	dir := s.mount(g, s.fs, "iam")
	must(t, g, "sh", "-c", "echo bob > "+dir+"/file; sync "+dir+"/file")

	operator("user", "delete", "bob")
	eventually(t, 10*time.Second, "a write is refused after the user's end", func() bool {
		r, err := run(t, g, "sh", "-c", "echo more > "+dir+"/other && sync "+dir+"/other")
		return err == nil && denied(r)
	})
}

// onlyUser is a file with a policy that lets one user in, over TLS.
func onlyUser(t *testing.T, name string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.json")
	text := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/` + name + `"},
		"Action":"elasticfilesystem:Client*","Condition":{"Bool":{"aws:SecureTransport":"true"}}}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func denied(r uml.Result) bool {
	return r.Code != 0 && (strings.Contains(r.Stderr, "Permission denied") || strings.Contains(r.Stderr, "Read-only file system"))
}
