package lock

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// What packages are used for.
const (
	UseRoot   = "root"
	UseUnpack = "unpack"
)

// A Package is a Debian package in one version.
type Package struct {
	Use, Name, Version, Architecture string
	SHA256                           string // of its file, 64 digits
}

// Words that go to other programs as arguments: none begins with a dash or has a space.
var (
	validName    = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)
	validVersion = regexp.MustCompile(`^[0-9][A-Za-z0-9.+~:-]*$`)
	validArch    = regexp.MustCompile(`^(all|amd64)$`)
	validSum     = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func (p Package) validate() error {
	switch {
	case p.Use != UseRoot && p.Use != UseUnpack:
		return fmt.Errorf("%q is no use of a package", p.Use)
	case !validName.MatchString(p.Name):
		return fmt.Errorf("%q is no name of a package", p.Name)
	case !validVersion.MatchString(p.Version):
		return fmt.Errorf("%s: %q is no version", p.Name, p.Version)
	case !validArch.MatchString(p.Architecture):
		return fmt.Errorf("%s: %q is no architecture of the image", p.Name, p.Architecture)
	case !validSum.MatchString(p.SHA256):
		return fmt.Errorf("%s: %q is no SHA-256", p.Name, p.SHA256)
	}
	return nil
}

// Parse reads a list. No package may be in it twice.
func Parse(r io.Reader) ([]Package, error) {
	var all []Package
	seen := make(map[string]bool)
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 5 {
			return nil, fmt.Errorf("lock: line %d has %d words, not 5", n, len(f))
		}
		p := Package{f[0], f[1], f[2], f[3], f[4]}
		if err := p.validate(); err != nil {
			return nil, fmt.Errorf("lock: line %d: %w", n, err)
		}
		if seen[p.Name] {
			return nil, fmt.Errorf("lock: line %d: %s is there twice", n, p.Name)
		}
		seen[p.Name] = true
		all = append(all, p)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("lock: it is empty")
	}
	return all, nil
}

// Format writes a list, sorted by use and name, with comment above it.
func Format(w io.Writer, comment string, all []Package) error {
	sorted := slices.SortedFunc(slices.Values(all), func(a, b Package) int {
		return strings.Compare(a.Use+" "+a.Name, b.Use+" "+b.Name)
	})
	var text strings.Builder
	for line := range strings.Lines(comment) {
		fmt.Fprintf(&text, "# %s\n", strings.TrimSpace(line))
	}
	for _, p := range sorted {
		if err := p.validate(); err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		fmt.Fprintln(&text, p.Use, p.Name, p.Version, p.Architecture, p.SHA256)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// Of gives the packages of one use.
func Of(all []Package, use string) []Package {
	return slices.DeleteFunc(slices.Clone(all), func(p Package) bool { return p.Use != use })
}
