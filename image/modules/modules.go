package modules

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// An Index knows the modules of a kernel, by their paths below its folder of modules, and what each needs.
type Index struct {
	needs map[string][]string // the one that is to be loaded first stands last
	paths []string            // sorted
}

// Parse reads modules.dep.
func Parse(r io.Reader) (*Index, error) {
	x := &Index{needs: make(map[string][]string)}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		module, needs, ok := strings.Cut(lines.Text(), ":")
		if !ok || !strings.HasSuffix(module, ".ko") {
			return nil, fmt.Errorf("modules: %q is no line of modules.dep", lines.Text())
		}
		x.needs[module] = strings.Fields(needs)
		x.paths = append(x.paths, module)
	}
	slices.Sort(x.paths)
	return x, lines.Err()
}

// Closure gives the modules that patterns choose and all that they need, each behind what it needs. A
// pattern is a module's path, a path for path.Match, or with a slash at its end a folder. It is an error
// if one chooses none: the kernel has changed then, or there is a spelling mistake.
func (x *Index) Closure(patterns []string) ([]string, error) {
	var chosen []string
	have := make(map[string]bool)
	add := func(module string) {
		if !have[module] {
			have[module] = true
			chosen = append(chosen, module)
		}
	}
	for _, pattern := range patterns {
		found := false
		for _, module := range x.paths {
			if !matches(pattern, module) {
				continue
			}
			found = true
			for _, needed := range slices.Backward(x.needs[module]) {
				add(needed)
			}
			add(module)
		}
		if !found {
			return nil, fmt.Errorf("modules: the kernel has none that is %s", pattern)
		}
	}
	return chosen, nil
}

func matches(pattern, module string) bool {
	if strings.HasSuffix(pattern, "/") {
		return strings.HasPrefix(module, pattern)
	}
	ok, err := path.Match(pattern, module)
	return ok && err == nil
}
