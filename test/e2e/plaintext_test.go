package e2e

import (
	"testing"

	"github.com/nfseal/nfseal/internal/demo"
	"github.com/nfseal/nfseal/internal/tree"
)

// checkNoPlaintext searches everything below dir for names and contents of the tree at source, after
// the same search has found them in source itself.
func checkNoPlaintext(t *testing.T, dir, source string, entries []tree.Entry) {
	t.Helper()
	names, contents, err := demo.Pick(source, entries, 1)
	if err != nil {
		t.Fatal(err)
	}
	needles, err := demo.NewNeedles(append(names, contents...))
	if err != nil {
		t.Fatal(err)
	}
	control, err := needles.SearchDir(source)
	if err != nil {
		t.Fatal(err)
	}
	if len(control.Hits) != needles.Len() || needles.Len() < 1000 {
		t.Fatalf("the search finds %d of %d in the source itself", len(control.Hits), needles.Len())
	}
	found, err := needles.SearchDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for needle := range found.Hits {
		t.Errorf("in the clear below %s: %q", dir, needle)
	}
	if found.Bytes < control.Bytes {
		t.Fatalf("only %d bytes were searched, and %d stored", found.Bytes, control.Bytes)
	}
	t.Logf("%d names and pieces: all in %d bytes of the source, none in %d bytes of the server's", needles.Len(), control.Bytes, found.Bytes)
}
