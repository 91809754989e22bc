package gpt

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"
)

// Remove takes the partition with an ID out of the table; without one nothing changes.
func (t *Table) Remove(id GUID) {
	t.Partitions = slices.DeleteFunc(t.Partitions, func(p Partition) bool { return p.ID == id })
}

// Place adds a partition of sizeBytes where there is room for it first, under the lowest number that is free; both ends
// are multiples of 1 MiB. Add is for tables that are made, Place for those of disks in use.
func (t *Table) Place(kind, id GUID, name string, sizeBytes int64) (Partition, error) {
	if len(utf16.Encode([]rune(name))) > nameUnits {
		return Partition{}, fmt.Errorf("gpt: the name %q is too long", name)
	}
	if sizeBytes < 1 {
		return Partition{}, fmt.Errorf("gpt: a partition of %d bytes", sizeBytes)
	}
	number := 1
	for slices.ContainsFunc(t.Partitions, func(p Partition) bool { return p.Number == number }) {
		number++
	}
	if number > entries {
		return Partition{}, errors.New("gpt: too many partitions")
	}
	unit := uint64(alignBytes / t.SectorBytes)
	need := (uint64(sizeBytes) + alignBytes - 1) / alignBytes * unit
	used := slices.Clone(t.Partitions)
	slices.SortFunc(used, func(a, b Partition) int {
		if a.First < b.First {
			return -1
		}
		return 1
	})
	first := unit
	for _, u := range append(used, Partition{First: t.lastUsable() + 1, Last: t.lastUsable()}) {
		if first+need <= u.First {
			p := Partition{Number: number, Type: kind, ID: id, First: first, Last: first + need - 1, Name: name}
			t.Partitions = append(t.Partitions, p)
			return p, nil
		}
		first = max(first, (u.Last+unit)/unit*unit)
	}
	return Partition{}, fmt.Errorf("gpt: no room for partition %s of %d bytes", name, sizeBytes)
}
