package lint

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The cipher that copies is for a benchmark. With its build tag the daemon does not compile, and
// without it there is no such cipher.
func TestNullCipherIsInNoRelease(t *testing.T) {
	files := func(tags, room string) []string {
		cmd := exec.Command("go", "list", "-tags", tags, "-f", `{{join .GoFiles "\n"}}`, "./"+room)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(out))
	}
	if slices.Contains(files("", "xtsengine/xts"), "null_on.go") {
		t.Error("xts has the null cipher without the tag")
	}
	if !slices.Contains(files("nullcipher", "cmd/nfseald"), "nullcipher.go") {
		t.Fatal("the daemon's guard is not part of it under the tag")
	}
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, filepath.Join(root, "cmd/nfseald/nullcipher.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	check := types.Config{Importer: importer.Default()}
	if _, err := check.Check("main", set, []*ast.File{f}, nil); err == nil {
		t.Error("the daemon's guard compiles")
	}
}

var tagUse = regexp.MustCompile(`(?m)^.*-tags.*nullcipher.*$`)

// Nothing but the benchmark's target names the tag.
func TestNullCipherIsAskedForByTheBenchmarkOnly(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join(root, "scripts/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(scripts, filepath.Join(root, "Makefile")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range tagUse.FindAllString(string(text), -1) {
			if !strings.Contains(line, "test -tags nullcipher -run '^TestEngine") {
				t.Errorf("%s: %s", path, line)
			}
		}
	}
}
