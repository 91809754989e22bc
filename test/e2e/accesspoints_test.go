package e2e

import (
	"strings"
	"testing"
)

// TestAccessPoints mounts two access points of a file system and the file system itself on one client: each
// mount keeps its own user and root, though the client could take them for one server.
func TestAccessPoints(t *testing.T) {
	w := getWorld(t)
	s, g := startServer(t, w), w.guest
	point := func(args ...string) string {
		t.Helper()
		out, err := s.Command(t.Context(), append([]string{"ap", "create", s.fs}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	bob := s.mountAs(g, "bob", s.fs, "accesspoint="+point("--path", "/home/bob", "--user", "1000:1001", "--create-owner", "1000:1001", "--create-mode", "0700"))
	eve := s.mountAs(g, "eve", s.fs, "accesspoint="+point("--path", "/home/eve", "--user", "2000:2001", "--create-owner", "2000:2001"))
	all := s.mount(g, s.fs)
	for dir, content := range map[string]string{bob: "of bob", eve: "of eve"} {
		must(t, g, "sh", "-c", "echo "+content+" > "+dir+"/file && sync "+dir+"/file")
	}
	for path, want := range map[string]string{
		all + "/home/bob/file": "1000:1001", all + "/home/eve/file": "2000:2001", all + "/home/bob": "1000:1001",
		bob: "1000:1001", eve + "/file": "2000:2001",
	} {
		if got := strings.TrimSpace(must(t, g, "stat", "-c", "%u:%g", path)); got != want {
			t.Errorf("%s belongs to %s, want %s", path, got, want)
		}
	}
	if got := must(t, g, "cat", bob+"/file", eve+"/file"); got != "of bob\nof eve" {
		t.Errorf("read %q", got)
	}
}
