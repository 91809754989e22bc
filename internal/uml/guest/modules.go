package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/internal/uml/control"
)

// loadModules inserts the plan's modules, each after those that it needs. No modprobe is involved:
// the package that has it is often not installed where user-mode Linux is.
func loadModules(plan *control.Plan) error {
	if plan.ModuleDir == "" || len(plan.Modules) == 0 {
		return nil
	}
	index, err := readModuleIndex(filepath.Join(plan.ModuleDir, "modules.dep"))
	if err != nil {
		return err
	}
	done := make(map[string]bool)
	for _, name := range plan.Modules {
		entry, ok := index[name]
		if !ok {
			return fmt.Errorf("%s has no module %s", plan.ModuleDir, name)
		}
		// modules.dep lists what a module needs from the nearest to the farthest.
		for i := len(entry) - 1; i >= 0; i-- {
			if done[entry[i]] {
				continue
			}
			done[entry[i]] = true
			if err := insertModule(filepath.Join(plan.ModuleDir, entry[i])); err != nil {
				return err
			}
		}
	}
	return nil
}

// readModuleIndex gives for each module name its file and those of all it needs.
func readModuleIndex(path string) (map[string][]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	index := make(map[string][]string)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		file, needs, ok := strings.Cut(lines.Text(), ":")
		if !ok {
			continue
		}
		name := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(file), ".ko"), "-", "_")
		index[name] = append([]string{file}, strings.Fields(needs)...)
	}
	return index, lines.Err()
}

func insertModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("module %s: %w", path, err)
	}
	return nil
}
