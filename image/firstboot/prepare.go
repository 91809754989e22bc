package firstboot

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"github.com/nfseal/nfseal/image/disks"
	"github.com/nfseal/nfseal/image/gpt"
)

// Names of the partitions; with unfinishedSuffix until both file systems are whole.
const (
	stateName        = "nfseal-state"
	dataName         = "nfseal-data"
	volumeName       = "nfseal-volume"
	unfinishedSuffix = "-new"
)

// A System does what only the kernel and the tools of file systems can.
type System interface {
	// Reread has the kernel take in the partition table of a disk, and waits until count partitions are
	// there.
	Reread(disk disks.Disk, count int) error
	// Format makes an empty file system, whatever was there.
	Format(device, label string) error
	// Blank fills both ends of a device with zeros, so that it is taken for empty.
	Blank(device string) error
	// Check repairs what a loss of power leaves, and refuses more.
	Check(device string) error
}

// A Pair is where an appliance keeps what is its own.
type Pair struct {
	Disk        disks.Disk
	State, Data string   // devices
	Volume      string   // device; "" if the disk is from before there were such: the volume is a file then
	VolumeID    gpt.GUID // of its partition
	Fresh       bool     // made by this call
}

// Prepare finds the partitions, or makes them on the disk that may be taken.
func Prepare(tree disks.Tree, s System, c Choice) (*Pair, error) {
	all, err := tree.List()
	if err != nil {
		return nil, err
	}
	found, err := find(all, c)
	if err != nil {
		return nil, err
	}
	if found == nil {
		d, err := choose(all, c)
		if err != nil {
			return nil, err
		}
		if err := partition(d, s); err != nil {
			return nil, err
		}
		found = &candidate{disk: d, unfinished: true}
	}
	return found.open(tree, s)
}

// Count is how many disks have the partitions of an appliance.
func Count(tree disks.Tree) (int, error) {
	all, err := tree.List()
	if err != nil {
		return 0, err
	}
	found, err := candidates(all)
	return len(found), err
}

// A candidate is a disk with the partitions of an appliance.
type candidate struct {
	disk       disks.Disk
	table      *gpt.Table
	unfinished bool
}

// candidates gives all disks that have the partitions.
func candidates(all []disks.Disk) ([]*candidate, error) {
	var found []*candidate
	for _, d := range all {
		table, err := d.Table()
		if errors.Is(err, gpt.ErrNoTable) || errors.Is(err, gpt.ErrDamaged) {
			continue // choose refuses it, for it is not empty
		}
		if err != nil {
			return nil, fmt.Errorf("firstboot: %s: %w", d.Name, err)
		}
		own, err := ownPartitions(d, table)
		if err != nil {
			return nil, err
		}
		if own != nil {
			found = append(found, own)
		}
	}
	return found, nil
}

// find gives the disk that has the partitions, nil if none has.
func find(all []disks.Disk, c Choice) (*candidate, error) {
	found, err := candidates(all)
	if err != nil {
		return nil, err
	}
	if len(found) > 1 && !c.none() {
		found = matching(found, c)
	}
	switch {
	case len(found) == 0:
		return nil, nil
	case len(found) > 1:
		return nil, fmt.Errorf("%w: %s and %s both have the partitions of an appliance", ErrAmbiguous, found[0].disk.Name, found[1].disk.Name)
	case !c.none() && !c.matches(found[0].disk):
		return nil, fmt.Errorf("firstboot: the data is on %s, which is not the chosen disk", found[0].disk.Name)
	}
	return found[0], nil
}

func matching(all []*candidate, c Choice) []*candidate {
	var matches []*candidate
	for _, one := range all {
		if c.matches(one.disk) {
			matches = append(matches, one)
		}
	}
	if len(matches) == 0 {
		return all
	}
	return matches
}

// ownPartitions looks for exactly one of each kind, nil if there is none at all.
func ownPartitions(d disks.Disk, table *gpt.Table) (*candidate, error) {
	count := make(map[gpt.GUID]int)
	own, unfinished := 0, 0
	for _, p := range table.Partitions {
		name := nameOf(p.Type)
		if name == "" {
			continue
		}
		count[p.Type]++
		own++
		if p.Name == name+unfinishedSuffix {
			unfinished++
		}
	}
	if own == 0 {
		return nil, nil
	}
	if count[gpt.TypeState] != 1 || count[gpt.TypeData] != 1 || count[gpt.TypeVolume] > 1 || unfinished > 0 && unfinished != own {
		return nil, fmt.Errorf("firstboot: %s has %d partitions of kind STATE, %d of kind DATA and %d of kind VOLUME, not one of each",
			d.Name, count[gpt.TypeState], count[gpt.TypeData], count[gpt.TypeVolume])
	}
	return &candidate{disk: d, table: table, unfinished: unfinished > 0}, nil
}

// nameOf is the name of an appliance's partition once it is whole, "" for all others.
func nameOf(kind gpt.GUID) string {
	switch kind {
	case gpt.TypeState:
		return stateName
	case gpt.TypeData:
		return dataName
	case gpt.TypeVolume:
		return volumeName
	}
	return ""
}

// partition writes the table of a disk that is taken.
func partition(d disks.Disk, s System) error {
	table, err := gpt.New(RandomID(), d.SizeBytes, d.SectorBytes)
	if err != nil {
		return err
	}
	if err := AddPartitions(table); err != nil {
		return err
	}
	if err := write(d, table); err != nil {
		return err
	}
	return s.Reread(d, len(table.Partitions))
}

// AddPartitions adds those of an appliance behind the others of a table, unfinished, which Finish or the next start makes whole.
func AddPartitions(table *gpt.Table) error {
	diskBytes := int64(table.Sectors) * int64(table.SectorBytes)
	for _, p := range []struct {
		kind gpt.GUID
		size int64
	}{{gpt.TypeState, stateBytes}, {gpt.TypeData, dataSize(diskBytes)}, {gpt.TypeVolume, 0}} {
		if _, err := table.Add(p.kind, RandomID(), nameOf(p.kind)+unfinishedSuffix, p.size); err != nil {
			return err
		}
	}
	return nil
}

// Finish has the kernel take in a disk with partitions that AddPartitions has made, and makes them whole.
func Finish(tree disks.Tree, s System, d disks.Disk) (*Pair, error) {
	table, err := d.Table()
	if err != nil {
		return nil, fmt.Errorf("firstboot: %s: %w", d.Name, err)
	}
	if err := s.Reread(d, len(table.Partitions)); err != nil {
		return nil, err
	}
	own, err := ownPartitions(d, table)
	if err != nil {
		return nil, err
	}
	if own == nil {
		return nil, fmt.Errorf("firstboot: %s has no partitions of an appliance", d.Name)
	}
	return own.open(tree, s)
}

// dataSize is the size of DATA on a disk of diskBytes.
func dataSize(diskBytes int64) int64 {
	return min(diskBytes/dataShare, max(dataBytes, diskBytes/dataShareOfLarge))
}

// RandomID is one for a disk or a partition.
func RandomID() gpt.GUID {
	var g gpt.GUID
	_, _ = rand.Read(g[:])  // it never fails
	g[7] = g[7]&0x0f | 0x40 // version 4; the byte is the high one of a little-endian field
	g[8] = g[8]&0x3f | 0x80
	return g
}

func write(d disks.Disk, table *gpt.Table) error {
	f, err := os.OpenFile(d.Path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("firstboot: %w", err)
	}
	return errors.Join(table.Write(f), f.Sync(), f.Close())
}

// open gives the pair with whole file systems.
func (c *candidate) open(tree disks.Tree, s System) (*Pair, error) {
	p, table, err := c.devices(tree)
	if err != nil {
		return nil, err
	}
	if !c.unfinished {
		return p, errors.Join(s.Check(p.State), s.Check(p.Data))
	}
	p.Fresh = true
	for _, fs := range []struct{ device, label string }{{p.State, stateName}, {p.Data, dataName}} {
		if err := s.Format(fs.device, fs.label); err != nil {
			return nil, err
		}
	}
	if p.Volume != "" {
		if err := s.Blank(p.Volume); err != nil {
			return nil, err
		}
	}
	for i := range table.Partitions {
		if name := nameOf(table.Partitions[i].Type); name != "" {
			table.Partitions[i].Name = name
		}
	}
	return p, write(c.disk, table)
}

// devices asks the kernel again, which may know the partitions since a moment only.
func (c *candidate) devices(tree disks.Tree) (*Pair, *gpt.Table, error) {
	all, err := tree.List()
	if err != nil {
		return nil, nil, err
	}
	for _, d := range all {
		if d.Name != c.disk.Name {
			continue
		}
		table, err := d.Table()
		if err != nil {
			return nil, nil, err
		}
		p := &Pair{Disk: d}
		for _, q := range table.Partitions {
			switch q.Type {
			case gpt.TypeState:
				p.State = d.Partitions[q.Number]
			case gpt.TypeData:
				p.Data = d.Partitions[q.Number]
			case gpt.TypeVolume:
				p.Volume, p.VolumeID = d.Partitions[q.Number], q.ID
			}
		}
		if p.State != "" && p.Data != "" && (p.Volume != "" || p.VolumeID == gpt.GUID{}) {
			return p, table, nil
		}
	}
	return nil, nil, fmt.Errorf("firstboot: the kernel does not show the partitions of %s", c.disk.Name)
}
