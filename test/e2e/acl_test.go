package e2e

import (
	"strings"
	"testing"
)

// The tools that others have for access control lists show a file's mode as a list, set one that a mode can keep, and
// are refused what it can't, with nothing changed.
func TestACLs(t *testing.T) {
	w := getWorld(t)
	s, g := startServer(t, w), w.guest
	file := s.mount(g, s.fs) + "/f"
	must(t, g, "sh", "-c", "touch "+file+" && chmod 640 "+file)
	list := func() string {
		_, entries, _ := strings.Cut(must(t, g, "nfs4_getfacl", file), "\n") // without the line that names the file
		return entries
	}
	state := func() string { return must(t, g, "stat", "-c", "mode %a, changed %z", file) + "\n" + list() }
	// Everybody may see the attributes (t) and this list (c), the owner may set them (T, C). y is synchronous I/O.
	if got, want := list(), "A::OWNER@:rwatTcCy\nA:g:GROUP@:rtcy\nA::EVERYONE@:tcy"; got != want {
		t.Errorf("the list of mode 640 is\n%s\nwant\n%s", got, want)
	}
	before := state()
	for name, acl := range map[string]string{
		"a user":            "A::1234:r,A::OWNER@:rwatTcCy,A:g:GROUP@:rtcy,A::EVERYONE@:tcy",
		"append alone":      "A::OWNER@:ratTcCy,A:g:GROUP@:rtcy,A::EVERYONE@:tcy",
		"deletion":          "A::OWNER@:rwadtTcCy,A:g:GROUP@:rtcy,A::EVERYONE@:tcy",
		"an entry to audit": "U:S:EVERYONE@:r,A::OWNER@:rwatTcCy,A:g:GROUP@:rtcy,A::EVERYONE@:tcy",
	} {
		r, err := run(t, g, "nfs4_setfacl", "-s", acl, file)
		if err != nil || r.Code == 0 || !strings.Contains(r.Stdout+r.Stderr, "Failed setxattr") {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		if got := state(); got != before {
			t.Errorf("%s: refused, and what was\n%s\nis\n%s", name, before, got)
		}
	}
	must(t, g, "nfs4_setfacl", "-s", "A::OWNER@:rtTcCy,A:g:GROUP@:rwatcy,A::EVERYONE@:tcy", file)
	if got := must(t, g, "stat", "-c", "%a", file); got != "460" {
		t.Errorf("a list that mode 460 keeps has made it %s", got)
	}
}
