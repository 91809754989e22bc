package disks

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/nfseal/nfseal/image/gpt"
)

// A Disk is a whole block device with storage of its own.
type Disk struct {
	Name        string // as nvme0n1
	Path        string // its device
	SizeBytes   int64
	SectorBytes int
	ReadOnly    bool
	Serial      string // "" where it tells none
	WWID        string
	Partitions  map[int]string // devices of those that the kernel sees, by number
	InUse       bool           // by another device, as a member of an array
}

// A Tree is where the kernel shows block devices and their nodes.
type Tree struct {
	Sys string // usually /sys
	Dev string // usually /dev
}

// System is the running kernel's.
var System = Tree{Sys: "/sys", Dev: "/dev"}

// virtual are names of devices that have no storage of their own, or whose medium changes.
var virtual = []string{"loop", "ram", "zram", "dm-", "md", "nbd", "sr", "fd", "mtdblock"}

// List gives the disks that have a medium, sorted by name.
func (t Tree) List() ([]Disk, error) {
	entries, err := os.ReadDir(filepath.Join(t.Sys, "block"))
	if err != nil {
		return nil, fmt.Errorf("disks: %w", err)
	}
	var all []Disk
	for _, e := range entries {
		if slices.ContainsFunc(virtual, func(prefix string) bool { return strings.HasPrefix(e.Name(), prefix) }) {
			continue
		}
		d, err := t.read(e.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was taken away meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("disks: %s: %w", e.Name(), err)
		}
		if d.SizeBytes > 0 {
			all = append(all, d)
		}
	}
	return all, nil
}

func (t Tree) read(name string) (Disk, error) {
	dir := filepath.Join(t.Sys, "block", name)
	d := Disk{Name: name, Path: filepath.Join(t.Dev, name)}
	sectors, err := number(filepath.Join(dir, "size"))
	if err != nil {
		return d, err
	}
	block, err := number(filepath.Join(dir, "queue", "logical_block_size"))
	if err != nil {
		return d, err
	}
	readOnly, err := number(filepath.Join(dir, "ro"))
	if err != nil {
		return d, err
	}
	d.SizeBytes, d.SectorBytes, d.ReadOnly = sectors*512, int(block), readOnly != 0
	d.Serial = text(filepath.Join(dir, "device", "serial"), filepath.Join(dir, "serial"))
	d.WWID = text(filepath.Join(dir, "wwid"), filepath.Join(dir, "device", "wwid"))
	holders, err := os.ReadDir(filepath.Join(dir, "holders"))
	if err != nil {
		return d, err
	}
	d.InUse = len(holders) > 0
	return d, t.partitions(dir, &d)
}

func (t Tree) partitions(dir string, d *Disk) error {
	d.Partitions = make(map[int]string)
	files, err := filepath.Glob(filepath.Join(dir, "*", "partition"))
	if err != nil {
		return err
	}
	for _, file := range files {
		n, err := number(file)
		if err != nil {
			return err
		}
		d.Partitions[int(n)] = filepath.Join(t.Dev, filepath.Base(filepath.Dir(file)))
	}
	return nil
}

// CDs gives the optical drives with a medium that can be read. Their tables are in blocks of 512 bytes, as on the image that was
// written to them: Table reads those.
func (t Tree) CDs() ([]Disk, error) {
	names, err := filepath.Glob(filepath.Join(t.Sys, "block", "sr*"))
	if err != nil {
		return nil, fmt.Errorf("disks: %w", err)
	}
	var all []Disk
	for _, name := range names {
		d := Disk{Name: filepath.Base(name), Path: filepath.Join(t.Dev, filepath.Base(name)), SectorBytes: 512, ReadOnly: true}
		// The kernel knows the size when it was opened.
		f, err := os.Open(d.Path)
		if err != nil {
			continue // there is no medium
		}
		d.SizeBytes, err = f.Seek(0, io.SeekEnd)
		if errors.Join(err, f.Close()) == nil && d.SizeBytes > 0 {
			all = append(all, d)
		}
	}
	return all, nil
}

func number(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// text is what the first of the files that is there holds.
func text(paths ...string) string {
	for _, path := range paths {
		if b, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(b))
		}
	}
	return ""
}

// Table reads the disk's partition table; errors are those of gpt.Read.
func (d Disk) Table() (*gpt.Table, error) {
	f, err := os.Open(d.Path)
	if err != nil {
		return nil, fmt.Errorf("disks: %w", err)
	}
	defer f.Close()
	return gpt.Read(f, d.SizeBytes, d.SectorBytes)
}

// Partition gives the devices of the partitions that match, on all disks.
func (t Tree) Partition(match func(gpt.Partition) bool) ([]string, error) {
	all, err := t.List()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, d := range all {
		table, err := d.Table()
		if err != nil {
			continue // without a table it has no partition that is looked for
		}
		for _, p := range table.Partitions {
			if device, ok := d.Partitions[p.Number]; ok && match(p) {
				found = append(found, device)
			}
		}
	}
	return found, nil
}
