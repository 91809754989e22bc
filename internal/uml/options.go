package uml

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
)

// Options says what kind of guest to start.
type Options struct {
	// HostKernel makes a guest of namespaces of the host's own kernel, where that has NFS. The
	// default is user-mode Linux.
	HostKernel bool
	// Agent is the path of the binary built from ./internal/uml/guest; see BuildAgent.
	Agent string
	// ShareDir is the directory of the host that the guest can write to, under the same path. Empty
	// means one that Shutdown removes.
	ShareDir string
	// MemMB is the guest's memory in MiB, 1024 if 0. It is taken as it is used.
	MemMB int
	// Modules are loaded at boot, with all that they need. The default mounts NFS and has TLS.
	Modules []string

	preload bool // xstate.c is wanted; where it is needed, EnsureDefaults says so
}

// EnsureDefaults fills in what was left out.
func (o *Options) EnsureDefaults() {
	if o.MemMB == 0 {
		o.MemMB = 1024
	}
	if o.Modules == nil {
		o.Modules = []string{"nfsv4", "tls", "gcm", "ctr", "ghash_generic"} // the last three are AES-GCM
	}
	o.preload = o.preload || needsPreload()
}

// Validate says what is wrong with the options.
func (o *Options) Validate() error {
	if !filepath.IsAbs(o.Agent) {
		return fmt.Errorf("uml: the agent's path %q is not absolute", o.Agent)
	}
	if o.ShareDir != "" && !filepath.IsAbs(o.ShareDir) {
		return fmt.Errorf("uml: the shared directory's path %q is not absolute", o.ShareDir)
	}
	if o.MemMB < minMemMB {
		return fmt.Errorf("uml: %d MiB of memory, at least %d are needed", o.MemMB, minMemMB)
	}
	return nil
}

// BuildAgent builds the guest's binary into dir, with the go command, and returns its path.
// It works from anywhere inside this module.
func BuildAgent(dir string) (string, error) {
	path := filepath.Join(dir, "nfseal-guest")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "github.com/nfseal/nfseal/internal/uml/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("uml: build the guest's agent: %w: %s", err, out)
	}
	return path, nil
}

// findKernel returns user-mode Linux and the directory of its modules.
func findKernel() (kernel, modules string, err error) {
	const lack = "uml: user-mode Linux is not installed (Debian package user-mode-linux)"
	kernel, err = exec.LookPath("linux.uml")
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", lack, err)
	}
	found, err := filepath.Glob("/usr/lib/uml/modules/*/modules.dep")
	if err != nil {
		return "", "", err
	}
	if len(found) == 0 {
		return "", "", errors.New(lack + ": no modules below /usr/lib/uml/modules")
	}
	// There is one, unless a package was upgraded by hand.
	sort.Strings(found)
	return kernel, filepath.Dir(found[len(found)-1]), nil
}
