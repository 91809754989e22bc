package lint

import (
	"go/ast"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestEveryPackageHasADocument(t *testing.T) {
	documented := make(map[string]bool)
	eachFile(t, func(p *pkg, path string, _ *token.FileSet, f *ast.File) {
		if filepath.Base(path) != "doc.go" || f.Doc == nil {
			return
		}
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command " + filepath.Base(p.Dir) + " "
		}
		if text := f.Doc.Text(); strings.HasPrefix(text, want) && len(text) > 100 {
			documented[p.room()] = true
		}
	})
	for _, p := range listPackages(t) {
		if !documented[p.room()] {
			t.Errorf("%s: no doc.go whose package comment begins with its name and says something", p.room())
		}
	}
}

var emptyNames = regexp.MustCompile(`(^|[_./-])(utils?|common|helpers?|misc)([_./-]|$)`)

func TestNamesMeanSomething(t *testing.T) {
	for _, p := range listPackages(t) {
		if emptyNames.MatchString(p.room()) || emptyNames.MatchString(p.Name) {
			t.Errorf("package %s: its name says nothing", p.room())
		}
		for _, path := range p.files() {
			if emptyNames.MatchString(filepath.Base(path)) {
				t.Errorf("%s: its name says nothing", path)
			}
		}
	}
}

func TestNothingIsLeftForLater(t *testing.T) {
	later := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b`)
	eachFile(t, func(_ *pkg, path string, set *token.FileSet, f *ast.File) {
		for _, group := range f.Comments {
			if later.MatchString(group.Text()) {
				t.Errorf("%s: do it now, or write an issue", set.Position(group.Pos()))
			}
		}
	})
}

var whereItRuns = regexp.MustCompile(`\bruns? |make test|NFSEAL_LONG`)

// A test that is skipped here has to say where it is not.
func TestSkipsSayWhereTheTestRuns(t *testing.T) {
	eachCall(t, func(where token.Position, name string, source string) {
		switch name {
		case "SkipNow":
			t.Errorf("%s: use Skip, and say where the test runs", where)
		case "Skip", "Skipf":
			if !whereItRuns.MatchString(source) {
				t.Errorf("%s: say where the test runs: %s", where, source)
			}
		}
	})
}

// eachCall visits the method calls in all test files.
func eachCall(t *testing.T, visit func(where token.Position, name, source string)) {
	t.Helper()
	eachFile(t, func(_ *pkg, path string, set *token.FileSet, f *ast.File) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if method, ok := call.Fun.(*ast.SelectorExpr); ok {
				var source strings.Builder
				if err := printer.Fprint(&source, set, call); err != nil {
					t.Error(err)
				}
				visit(set.Position(call.Pos()), method.Sel.Name, source.String())
			}
			return true
		})
	})
}

func TestFuzzTargetsHaveSeeds(t *testing.T) {
	eachFile(t, func(p *pkg, path string, set *token.FileSet, f *ast.File) {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Fuzz") || !strings.HasSuffix(path, "_test.go") {
				continue
			}
			var source strings.Builder
			if err := printer.Fprint(&source, set, fn); err != nil {
				t.Error(err)
			}
			_, err := os.Stat(filepath.Join(p.Dir, "testdata", "fuzz", fn.Name.Name))
			if err != nil && !strings.Contains(source.String(), ".Add(") && !strings.Contains(source.String(), "eed") {
				t.Errorf("%s: %s has no seeds", set.Position(fn.Pos()), fn.Name.Name)
			}
		}
	})
}

// Settings come down as Options; a variable of the environment would reach past all of them.
func TestEnvironmentIsReadInCommandsOnly(t *testing.T) {
	reads := regexp.MustCompile(`^(Getenv|LookupEnv|Environ)$`)
	eachFile(t, func(p *pkg, path string, set *token.FileSet, f *ast.File) {
		tests := strings.HasSuffix(path, "_test.go") || strings.HasSuffix(p.Name, "test")
		if p.Name == "main" || tests || strings.HasPrefix(p.room(), "internal/") || strings.HasPrefix(p.room(), "test/") {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "os" && reads.MatchString(s.Sel.Name) {
				t.Errorf("%s: os.%s below cmd", set.Position(s.Pos()), s.Sel.Name)
			}
			return true
		})
	})
}

// What the Makefile promises and does not do yet stands in docs/status.md.
func TestStatusNamesWhatIsNotBuilt(t *testing.T) {
	status := readFile(t, "docs/status.md")
	unbuilt := regexp.MustCompile(`(?m)'(make [a-z-]+): not built yet`).FindAllStringSubmatch(readFile(t, "Makefile"), -1)
	if len(unbuilt) == 0 && strings.Contains(readFile(t, "Makefile"), "not built") {
		t.Fatal("the Makefile's words for what is not built have changed: change this test with them")
	}
	for _, m := range unbuilt {
		if !strings.Contains(status, "`"+m[1]+"`") {
			t.Errorf("docs/status.md does not name `%s`, which is not built", m[1])
		}
	}
}
