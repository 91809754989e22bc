package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"

	"github.com/nfseal/nfseal/image/disks"
	"github.com/nfseal/nfseal/image/gpt"
	"github.com/nfseal/nfseal/image/install"
	"github.com/nfseal/nfseal/image/verity"
)

// loaderPartition is the variable in which systemd-boot leaves the identifier of the partition that it came from (Boot Loader
// Interface). It has none where it came from a CD.
const loaderPartition = "/sys/firmware/efi/efivars/LoaderDevicePartUUID-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// A medium is what the system was started from.
type medium struct {
	disk      disks.Disk
	installer bool
}

// findMedium finds it among those that have the system: by the boot loader's word, or else it is a CD, or the only disk.
func findMedium(tree disks.Tree, variable string, root verity.Root) (medium, error) {
	wanted, err := readVariable(variable)
	if err != nil {
		return medium{}, err
	}
	all, err := tree.CDs()
	if err != nil {
		return medium{}, err
	}
	if wanted != "" {
		all = nil
	}
	hard, err := tree.List()
	if err != nil {
		return medium{}, err
	}
	for _, d := range append(all, hard...) {
		table, err := d.Table()
		if err != nil {
			continue // the system is not on a disk without a table
		}
		if _, ok := table.Find(gpt.FromHash(root.Hash)); !ok {
			continue
		}
		for _, p := range table.Partitions {
			if p.Type == gpt.TypeESP && (wanted == "" || strings.EqualFold(p.ID.String(), wanted)) {
				return medium{d, p.Name == install.InstallerName}, nil
			}
		}
	}
	return medium{}, errors.New("what this system was started from is not there any more")
}

// readVariable reads a text of UTF-16 behind the attributes of an EFI variable, "" if there is none.
func readVariable(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	const attributes = 4
	if len(b) < attributes || len(b)%2 != 0 {
		return "", fmt.Errorf("%s has %d bytes", filepath.Base(path), len(b))
	}
	var units []uint16
	for b = b[attributes:]; len(b) > 0; b = b[2:] {
		units = append(units, binary.LittleEndian.Uint16(b))
	}
	return strings.TrimRight(string(utf16.Decode(units)), "\x00"), nil
}

// thisMedium is the one that this system was started from.
func thisMedium() (medium, verity.Root, error) {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return medium{}, verity.Root{}, err
	}
	root, err := runningRoot(string(cmdline))
	if err != nil {
		return medium{}, root, err
	}
	m, err := findMedium(disks.System, loaderPartition, root)
	return m, root, err
}
