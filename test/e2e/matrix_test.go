package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/internal/uml"
)

// TestPolicyMatrix mounts a file system under each set of rights, on a condition that a TLS connection meets and one
// that it does not, itself and by an access point: who may not mount does not, who may not write does not, and whose
// root a file's maker is, is its owner's number.
func TestPolicyMatrix(t *testing.T) {
	w := getWorld(t)
	s, g := startServer(t, w), w.guest
	all := s.mount(g, s.fs)
	must(t, g, "sh", "-c", "mkdir -m 1777 "+all+"/open && sync "+all+" && umount "+all)
	point, err := s.Command(t.Context(), "ap", "create", s.fs, "--path", "/open/point", "--user", "1000:1000", "--create-owner", "1000:1000")
	if err != nil {
		t.Fatal(err)
	}
	for _, secure := range []string{"true", "false"} {
		for _, rights := range []string{"Write", "Mount", "Mount Write", "Mount Write RootAccess"} {
			for _, accessPoint := range []string{"", strings.TrimSpace(point)} {
				c := matrixCase{secure == "true", strings.Fields(rights), accessPoint}
				t.Run(secure+" "+rights+" "+accessPoint, func(t *testing.T) { c.check(t, s, g) })
			}
		}
	}
}

// matrixCase is a policy that gives everybody rights if aws:SecureTransport is secure, and how it is mounted.
type matrixCase struct {
	secure      bool
	rights      []string
	accessPoint string
}

func (c *matrixCase) may(right string) bool { return c.secure && slices.Contains(c.rights, right) }

// policy is a file with it.
func (c *matrixCase) policy(t *testing.T) string {
	t.Helper()
	actions := `"elasticfilesystem:Client` + strings.Join(c.rights, `","elasticfilesystem:Client`) + `"`
	condition := map[bool]string{true: "true", false: "false"}[c.secure]
	text := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"*"},"Action":[` + actions +
		`],"Condition":{"Bool":{"aws:SecureTransport":"` + condition + `"}}}}`
	file := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (c *matrixCase) check(t *testing.T, s *server, g *uml.Guest) {
	if _, err := s.Command(t.Context(), "fs", "policy", "put", s.fs, c.policy(t)); err != nil {
		t.Fatal(err)
	}
	var options []string
	root := "/mnt/matrix/open"
	if c.accessPoint != "" {
		options, root = []string{"accesspoint=" + c.accessPoint}, "/mnt/matrix"
	}
	must(t, g, "mkdir", "-p", "/mnt/matrix")
	r, err := run(t, g, s.mountArgs(s.fs, "/mnt/matrix", options...)...)
	if err != nil {
		t.Fatal(err)
	}
	if !c.may("Mount") {
		if r.Code != 32 || !strings.Contains(r.Stderr, "denied") {
			t.Errorf("mount: %v", r.Err())
		}
		return
	}
	if r.Code != 0 {
		t.Fatalf("mount: %v", r.Err())
	}
	defer must(t, g, "umount", "/mnt/matrix")
	made, err := run(t, g, "sh", "-c", "ls "+root+" && touch "+root+"/made && stat -c owner=%u "+root+"/made && rm "+root+"/made")
	if err != nil {
		t.Fatal(err)
	}
	if !c.may("Write") {
		if !denied(made) {
			t.Errorf("a write without the right to: %q, %v", made.Stdout, made.Err())
		}
		return
	}
	want := "owner=65534"
	switch {
	case c.accessPoint != "":
		want = "owner=1000"
	case c.may("RootAccess"):
		want = "owner=0"
	}
	if made.Code != 0 || !strings.Contains(made.Stdout+"\n", want+"\n") {
		t.Errorf("made %q, want %s: %v", made.Stdout, want, made.Err())
	}
}
