package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/nfseal/nfseal"

// root of the module, from this package's directory.
const root = "../.."

// pkg is what `go list -json` says of a package, as far as it matters here.
type pkg struct {
	ImportPath, Dir, Name              string
	Imports                            []string
	GoFiles, TestGoFiles, XTestGoFiles []string
	IgnoredGoFiles, CgoFiles           []string
}

// room is the import path without the module.
func (p *pkg) room() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

// files are all Go files of the package with their paths.
func (p *pkg) files() []string {
	var paths []string
	for _, list := range [][]string{p.GoFiles, p.CgoFiles, p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles} {
		for _, name := range list {
			paths = append(paths, filepath.Join(p.Dir, name))
		}
	}
	return paths
}

var packages = sync.OnceValues(func() ([]*pkg, error) {
	list := exec.Command("go", "list", "-e", "-json", "./...")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		return nil, err
	}
	var all []*pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := new(pkg)
		switch err := d.Decode(p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, p)
	}
})

func listPackages(t *testing.T) []*pkg {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

// eachFile parses every Go file of the module, comments included.
func eachFile(t *testing.T, visit func(p *pkg, path string, set *token.FileSet, f *ast.File)) {
	t.Helper()
	for _, p := range listPackages(t) {
		for _, path := range p.files() {
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				continue
			}
			visit(p, path, set, f)
		}
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
