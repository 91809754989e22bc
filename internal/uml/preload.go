package uml

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/cpu"
)

// compiler is the C compiler, any that there is.
const compiler = "cc"

//go:embed xstate.c
var preloadSource []byte

// needsPreload says whether the processor has more registers than user-mode Linux has room for. Without help it does not
// get as far as its first process there: "ptrace set fp regs failed, errno = 14".
func needsPreload() bool { return cpu.X86.HasAMXTile }

// buildPreload compiles xstate.c into dir and returns the library's path.
func buildPreload(dir string) (string, error) {
	source, library := filepath.Join(dir, "xstate.c"), filepath.Join(dir, "xstate.so")
	if err := os.WriteFile(source, preloadSource, 0o644); err != nil {
		return "", fmt.Errorf("uml: %w", err)
	}
	if out, err := exec.Command(compiler, "-shared", "-fPIC", "-O2", "-o", library, source).CombinedOutput(); err != nil {
		return "", fmt.Errorf("uml: %s: %w: %s", compiler, err, out)
	}
	return library, nil
}
