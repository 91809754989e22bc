package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nfseal/nfseal/image/verity"
)

// overlay holds the image's own settings, as paths below its root.
const overlay = "image/files"

// serviceUnit is the daemon's, as everywhere; overlay has what is different in the image.
const serviceUnit = "packaging/nfseald.service"

// removed is what packages bring and nobody reads in an image without shell users and package manager.
var removed = []string{
	"boot", "home", "media", "mnt", "opt", "srv", "root/.bashrc", "root/.profile",
	"etc/apt", "etc/cron.*", "etc/dpkg", "etc/init.d", "etc/rc?.d", "etc/skel", "etc/default/useradd",
	"etc/machine-id", "etc/nvme/hostid", "etc/nvme/hostnqn", "etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-",
	"etc/.pwd.lock", "etc/resolv.conf", "etc/hostname", "etc/systemd/system/*.wants/e2scrub*",
	"usr/bin/perl*", "usr/lib/*/perl*", "usr/lib/*/libperl*", "usr/share/perl*", "usr/lib/apt", "usr/lib/dpkg", "usr/bin/dpkg*", "usr/sbin/dpkg*",
	"usr/share/bash-completion", "usr/share/zsh", "usr/share/bug", "usr/share/common-licenses", "usr/share/doc", "usr/share/doc-base",
	"usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/man", "usr/share/menu", "usr/share/pam-configs", "usr/share/debconf",
	"usr/share/initramfs-tools", "usr/share/i18n", "usr/share/dpkg", "usr/share/gcc", "usr/share/gdb", "usr/share/tabset",
	"usr/lib/systemd/system/e2scrub*", "usr/lib/systemd/system/dpkg-db-backup*", "usr/lib/udev/hwdb.d",
	"usr/lib/x86_64-linux-gnu/gconv", "var/*",
}

// enabled are units and the targets that want them.
var enabled = map[string]string{
	"systemd-networkd.service":             "multi-user.target.wants",
	"systemd-networkd.socket":              "sockets.target.wants",
	"systemd-networkd-wait-online.service": "network-online.target.wants",
	"systemd-resolved.service":             "sysinit.target.wants",
	"systemd-timesyncd.service":            "sysinit.target.wants",
	"nfseald.service":                      "multi-user.target.wants",
	"nfseal-boot.service":                  "multi-user.target.wants",
	"nfseal-console.service":               "multi-user.target.wants",
	"nfseal-power.path":                    "multi-user.target.wants",
	"nfseal-small.service":                 "multi-user.target.wants",
	"nfseal-settings.path":                 "multi-user.target.wants",
	"nfseal-upgrade.path":                  "multi-user.target.wants",
	"nfseal-bless.service":                 "multi-user.target.wants",
}

// masked are units that would ask for a user, or write where nothing can be written.
var masked = []string{
	"getty@.service", "serial-getty@.service", "console-getty.service", "autovt@.service", "getty.target",
	"debug-shell.service", "systemd-firstboot.service", "systemd-machine-id-commit.service", "ldconfig.service",
	"systemd-hwdb-update.service", "systemd-update-done.service", "systemd-boot-system-token.service",
	"systemd-homed.service", "systemd-pcrphase.service", "systemd-pcrphase-sysinit.service", "fstrim.timer",
	"ctrl-alt-del.target", "systemd-rfkill.service", "systemd-rfkill.socket", "systemd-pstore.service",
}

// programs are what is built of this repository.
type programs struct {
	dir   string
	names []string // in the root file system
}

func (p programs) path(name string) string { return filepath.Join(p.dir, name) }

// programs builds the daemon, the operator's command, and what the image starts by.
func (b *builder) programs() (programs, error) {
	p := programs{dir: filepath.Join(b.work, "bin"), names: []string{"nfseald", "nfseal", "nfseal-boot"}}
	b.step("our programs, version %s", b.version)
	packages := map[string]string{"nfseald": "./cmd/nfseald", "nfseal": "./cmd/nfseal", "nfseal-boot": "./image/nfseal-boot", "stage1": "./image/stage1"}
	for name, pkg := range packages {
		cmd := b.command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+b.version, "-o", p.path(name), pkg)
		cmd.Env = append(cmd.Env, "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1")
		if _, err := outputOf(cmd); err != nil {
			return p, err
		}
	}
	return p, nil
}

// rootImage is the verified root file system.
type rootImage struct {
	file string
	root verity.Root
	size int64
}

// root makes the root file system and its hash tree.
func (b *builder) root(d debs, k *kernel, p programs) (rootImage, error) {
	var r rootImage
	tar, err := b.base(d)
	if err != nil {
		return r, err
	}
	b.step("root file system of the image")
	tree := filepath.Join(b.work, "root")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return r, err
	}
	if err := b.do("tar", "--extract", "--file", tar, "--directory", tree, "--numeric-owner", "--xattrs", "--xattrs-include=*", "--preserve-permissions"); err != nil {
		return r, err
	}
	for _, change := range []func() error{
		func() error { return prune(tree) },
		func() error { return b.addModules(tree, k) },
		func() error { return addPrograms(tree, p) },
		func() error { return copyTree(overlay, tree) },
		func() error {
			return copyFile(serviceUnit, filepath.Join(tree, "usr/lib/systemd/system/nfseald.service"), 0o644)
		},
		func() error { return b.identify(tree) },
		func() error { return b.addKeys(filepath.Join(tree, updateKeys)) },
		func() error { return choose(tree) },
	} {
		if err := change(); err != nil {
			return r, err
		}
	}
	return b.squash(tree)
}

func prune(tree string) error {
	for _, pattern := range removed {
		paths, err := filepath.Glob(filepath.Join(tree, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// addModules copies modules and has depmod list those that are there.
func (b *builder) addModules(tree string, k *kernel) error {
	chosen, err := k.index.Closure(rootModules)
	if err != nil {
		return err
	}
	dir := filepath.Join(tree, "usr/lib/modules", k.version)
	for _, name := range append(chosen, "modules.builtin", "modules.builtin.modinfo", "modules.order") {
		if err := copyFile(filepath.Join(k.modules, name), filepath.Join(dir, name), 0o644); err != nil {
			return err
		}
	}
	return b.do("depmod", "--basedir", tree, k.version)
}

func addPrograms(tree string, p programs) error {
	for _, name := range p.names {
		if err := copyFile(p.path(name), filepath.Join(tree, "usr/bin", name), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// identify says what the image is, and leaves to each machine who it is.
func (b *builder) identify(tree string) error {
	if err := os.WriteFile(filepath.Join(tree, "usr/lib/os-release"), []byte(b.osRelease()), 0o644); err != nil {
		return err
	}
	// Empty: systemd makes one for each start and does not take the start for the first.
	if err := os.WriteFile(filepath.Join(tree, "etc/machine-id"), nil, 0o444); err != nil {
		return err
	}
	return os.Symlink("/run/systemd/resolve/stub-resolv.conf", filepath.Join(tree, "etc/resolv.conf"))
}

func (b *builder) osRelease() string {
	return fmt.Sprintf("ID=nfseal\nID_LIKE=debian\nNAME=nfseal\nPRETTY_NAME=\"nfseal %s\"\nVERSION_ID=%q\nIMAGE_ID=nfseal\nIMAGE_VERSION=%q\n", b.version, b.version, b.version)
}

// choose says which units start.
func choose(tree string) error {
	system := filepath.Join(tree, "etc/systemd/system")
	for unit, wants := range enabled {
		if err := link("/usr/lib/systemd/system/"+unit, filepath.Join(system, wants, unit)); err != nil {
			return err
		}
	}
	for _, unit := range masked {
		if err := link("/dev/null", filepath.Join(system, unit)); err != nil {
			return err
		}
	}
	for _, generator := range []string{"systemd-getty-generator", "systemd-gpt-auto-generator"} {
		if err := link("/dev/null", filepath.Join(tree, "etc/systemd/system-generators", generator)); err != nil {
			return err
		}
	}
	return link("/usr/lib/systemd/system/multi-user.target", filepath.Join(system, "default.target"))
}

// link makes a symbolic link in place of what was there.
func link(to, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(to, path)
}

// copyTree copies folders and files; what one may execute here, one may there.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is no file", path)
		}
		return copyFile(path, filepath.Join(to, name), 0o644|info.Mode()&0o111)
	})
}

// copyFile copies one file, makes the folders above it, and follows no link at its end.
func copyFile(from, to string, mode fs.FileMode) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(os.WriteFile(to, content, mode), os.Chmod(to, mode))
}

// squash compresses a tree and puts its hash tree behind it.
func (b *builder) squash(tree string) (rootImage, error) {
	r := rootImage{file: filepath.Join(b.work, "root.squashfs")}
	b.step("compress it, and make its hash tree")
	seconds := fmt.Sprint(b.made.Unix())
	cmd := b.command("mksquashfs", tree, r.file, "-noappend", "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "9",
		"-b", "256K", "-mkfs-time", seconds, "-all-time", seconds)
	cmd.Env = withoutSourceDate(cmd.Env)
	if _, err := outputOf(cmd); err != nil {
		return r, err
	}
	info, err := os.Stat(r.file)
	if err != nil {
		return r, err
	}
	if info.Size()%verity.BlockBytes != 0 {
		return r, fmt.Errorf("%s is not of whole blocks", r.file)
	}
	blocks := info.Size() / verity.BlockBytes
	hash, err := b.hashTree(r.file, blocks)
	if err != nil {
		return r, err
	}
	if r.root, err = verity.ParseRoot(fmt.Sprintf("%s:%d", hash, blocks)); err != nil {
		return r, err
	}
	info, err = os.Stat(r.file)
	if err == nil {
		r.size = info.Size()
	}
	return r, err
}

// withoutSourceDate is for mksquashfs, which takes either that or its own options.
func withoutSourceDate(env []string) []string {
	var kept []string
	for _, e := range env {
		if !strings.HasPrefix(e, "SOURCE_DATE_EPOCH=") {
			kept = append(kept, e)
		}
	}
	return kept
}
