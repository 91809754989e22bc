package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/image/disks"
	"github.com/nfseal/nfseal/image/gpt"
	"github.com/nfseal/nfseal/image/update"
	"github.com/nfseal/nfseal/image/verity"
)

const (
	// keysDir has the public keys that bundles are signed with.
	keysDir = "/usr/lib/nfseal/update-keys"
	// bundleFile is where the daemon, who may not write to disks, leaves a bundle.
	bundleFile = dataDir + "/upgrade/bundle"
	// espDir is where the EFI partition is mounted, for this process alone.
	espDir = runDir + "/esp"
	// readTime is how long the daemon can still be asked what became of a bundle before the machine starts again.
	readTime = 5 * time.Second
)

// upgrade writes the bundle that the daemon has left beside the version that runs, and has the machine start it.
func upgrade() error {
	wanted, err := writeBundle()
	state := api.UpgradeState{State: api.UpgradeWritten, Version: wanted}
	if err != nil {
		state.State, state.Detail = api.UpgradeFailed, err.Error()
	}
	// The daemon is told before the bundle goes, which says until then that it is being written.
	if err := errors.Join(err, writeState(state), os.Remove(bundleFile)); err != nil {
		return err
	}
	time.Sleep(readTime)
	return restart()
}

// writeBundle gives the version that the bundle brings, once its signature was found good.
func writeBundle() (string, error) {
	keys, err := update.ReadKeys(keysDir)
	if err != nil {
		return "", err
	}
	if len(keys) == 0 {
		return "", errors.New("this image was built without keys for updates, and takes none")
	}
	// The directory is the daemon's, and what is there must not lead elsewhere.
	f, err := os.OpenFile(bundleFile, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no file, %w", bundleFile, err)
	}
	b, err := update.Open(f, keys)
	if err != nil {
		return "", err
	}
	err = withSystemDisk(func(t *update.Target) error { return b.Write(t) })
	return b.Version, err
}

// withSystemDisk does something with the disk that this system was started from.
func withSystemDisk(do func(*update.Target) error) error {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	root, err := runningRoot(string(cmdline))
	if err != nil {
		return err
	}
	disk, esp, err := findSystem(disks.System, root)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(disk.Path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.MkdirAll(espDir, 0o700); err != nil {
		return err
	}
	if err := unix.Mount(esp, espDir, "vfat", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "umask=077"); err != nil {
		return fmt.Errorf("mount the EFI partition %s: %w", esp, err)
	}
	err = do(&update.Target{Disk: f, SizeBytes: disk.SizeBytes, SectorBytes: disk.SectorBytes, ESP: espDir, Version: version, Root: root})
	return errors.Join(err, unix.Unmount(espDir, 0))
}

// runningRoot is the verified root that this system has.
func runningRoot(cmdline string) (verity.Root, error) {
	for _, word := range strings.Fields(cmdline) {
		if text, ok := strings.CutPrefix(word, "nfseal.root="); ok {
			return verity.ParseRoot(text)
		}
	}
	return verity.Root{}, errors.New("the kernel's command line has no nfseal.root")
}

// findSystem gives the disk with a root, and the device of its EFI partition.
func findSystem(tree disks.Tree, root verity.Root) (disks.Disk, string, error) {
	all, err := tree.List()
	if err != nil {
		return disks.Disk{}, "", err
	}
	var found []disks.Disk
	var esp string
	for _, d := range all {
		table, err := d.Table()
		if err != nil {
			continue // the system is not on a disk without a table
		}
		if _, ok := table.Find(gpt.FromHash(root.Hash)); !ok {
			continue
		}
		found = append(found, d)
		for _, p := range table.Partitions {
			if p.Type == gpt.TypeESP {
				esp = d.Partitions[p.Number]
			}
		}
	}
	if len(found) != 1 || esp == "" {
		return disks.Disk{}, "", fmt.Errorf("%d disks have this system, and the EFI partition is %q: it has to be one disk with both", len(found), esp)
	}
	return found[0], esp, nil
}

// writeState tells the daemon, and the console.
func writeState(state api.UpgradeState) error { return writeStateTo(runDir, state) }

func writeStateTo(dir string, state api.UpgradeState) error {
	text, err := json.Marshal(state)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "upgrade.json"), append(text, '\n'))
}

// restart starts the machine again, after all that is running was ended in order.
func restart() error { return control("--no-block", "reboot") }
