package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nfseal/nfseal/image/disks"
	"github.com/nfseal/nfseal/image/gpt"
	"github.com/nfseal/nfseal/image/verity"
	"golang.org/x/sys/unix"
)

const (
	// diskWait is how long a disk may take to appear.
	diskWait = 60 * time.Second
	// readingTime is how long what is wrong stands on the console before the machine starts again.
	readingTime = 30 * time.Second

	modulesDir = "/modules"
	// extraDir is where systemd's stub leaves what a TPM's policies are signed with (systemd-stub(7)), and policyDir
	// where systems look for it.
	extraDir  = "/.extra"
	policyDir = "/run/systemd"
	newRoot   = "/sysroot"
	system    = "/usr/lib/systemd/systemd"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "stage1: only for the first process of a machine")
		os.Exit(2)
	}
	err := start()
	fmt.Println("nfseal: the system can't be started:", err)
	time.Sleep(readingTime)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // does not return where it can be done
}

// start returns only if something is wrong.
func start() error {
	if err := mountAll(); err != nil {
		return err
	}
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	root, err := rootOf(string(cmdline))
	if err != nil {
		return err
	}
	if err := loadModules(); err != nil {
		return err
	}
	partition, err := await(diskWait, func() (string, error) { return find(disks.System, root) })
	if err != nil {
		return err
	}
	device, err := verity.Open("root", partition, root)
	if err != nil {
		return err
	}
	device, err = await(diskWait, func() (string, error) { _, err := os.Stat(device); return device, err })
	if err != nil {
		return err
	}
	if err := unix.Mount(device, newRoot, "squashfs", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount the root file system of %s: %w", partition, err)
	}
	fmt.Println("nfseal: verified root", partition)
	if err := handOver(extraDir, policyDir); err != nil {
		return err
	}
	return become()
}

// rootOf finds the root file system in the kernel's command line.
func rootOf(cmdline string) (verity.Root, error) {
	for _, word := range strings.Fields(cmdline) {
		if text, ok := strings.CutPrefix(word, "nfseal.root="); ok {
			return verity.ParseRoot(text)
		}
	}
	return verity.Root{}, errors.New("the kernel's command line has no nfseal.root")
}

// mounts are moved into the root file system later.
var mounts = []struct {
	kind, path string
	flags      uintptr
	data       string
}{
	{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=755"},
	{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=755,size=20%"},
}

func mountAll() error {
	for _, m := range mounts {
		err := unix.Mount(m.kind, m.path, m.kind, m.flags, m.data)
		if err != nil && !errors.Is(err, unix.EBUSY) { // the kernel may have mounted /dev itself
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	return nil
}

// loadModules loads all. Those of devices that are not there do nothing or say ENODEV, and those that need
// such a one ENOENT: it has no symbols then. What is really missing shows when the root is opened.
func loadModules() error {
	order, err := os.ReadFile(filepath.Join(modulesDir, "order"))
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(order)) {
		err := loadModule(filepath.Join(modulesDir, name))
		if err != nil && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("module %s: %w", name, err)
		}
	}
	return nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// errNotYet says that a disk has not appeared.
var errNotYet = errors.New("no disk has the root file system of this kernel image")

// find gives the partition with a root file system. Which one, if there are two, does not matter: the hash
// decides on what is read.
func find(tree disks.Tree, root verity.Root) (string, error) {
	id := gpt.FromHash(root.Hash)
	found, err := tree.Partition(func(p gpt.Partition) bool { return p.Type == gpt.TypeRoot && p.ID == id })
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return findOnCD(tree, root)
	}
	return found[0], nil
}

// findOnCD makes a device of the partition on a CD, where the kernel looks for none.
func findOnCD(tree disks.Tree, root verity.Root) (string, error) {
	all, err := tree.CDs()
	if err != nil {
		return "", err
	}
	for _, d := range all {
		table, err := d.Table()
		if err != nil {
			continue // it is a CD of something else, or is not ready
		}
		if p, ok := table.Find(gpt.FromHash(root.Hash)); ok && p.Type == gpt.TypeRoot {
			offset, size := table.Range(p)
			return verity.Linear("medium", d.Path, offset, size)
		}
	}
	return "", errNotYet
}

// await tries again for a while as long as something is not there.
func await(most time.Duration, try func() (string, error)) (string, error) {
	for end := time.Now().Add(most); ; time.Sleep(20 * time.Millisecond) {
		found, err := try()
		if err == nil || time.Now().After(end) || !errors.Is(err, errNotYet) && !errors.Is(err, fs.ErrNotExist) {
			return found, err
		}
	}
}

// policyFiles are of an image that was built with a key for TPM policies.
var policyFiles = []string{"tpm2-pcr-signature.json", "tpm2-pcr-public-key.pem"}

// handOver copies what of policyFiles is there.
func handOver(from, to string) error {
	for _, name := range policyFiles {
		text, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// become makes newRoot the root and starts the system in this process.
func become() error {
	for _, m := range mounts {
		if err := unix.Mount(m.path, newRoot+m.path, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", m.path, err)
		}
	}
	// What is left in the initramfs is memory that nobody would get back.
	if err := errors.Join(os.RemoveAll(modulesDir), os.RemoveAll(extraDir), os.Remove("/init")); err != nil {
		return err
	}
	if err := os.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return fmt.Errorf("start %s: %w", system, unix.Exec(system, []string{system}, []string{"TERM=linux"}))
}
