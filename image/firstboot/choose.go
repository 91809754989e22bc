package firstboot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/nfseal/nfseal/image/disks"
)

var (
	// ErrNoDisk says that there is no disk to take.
	ErrNoDisk = errors.New("there is no empty disk for the data")
	// ErrAmbiguous says that somebody has to choose.
	ErrAmbiguous = errors.New("more than one disk could be meant: choose one by its serial number or WWID")
	// ErrNotEmpty says that the chosen disk has data.
	ErrNotEmpty = errors.New("the chosen disk is not empty")
)

// A Choice names a disk. The zero Choice names none.
type Choice struct{ Serial, WWID string }

// ParseChoice reads "serial:…", "wwid:…", or nothing.
func ParseChoice(s string) (Choice, error) {
	s = strings.TrimSpace(s)
	kind, value, _ := strings.Cut(s, ":")
	switch {
	case s == "":
		return Choice{}, nil
	case value != "" && kind == "serial":
		return Choice{Serial: value}, nil
	case value != "" && kind == "wwid":
		return Choice{WWID: value}, nil
	}
	return Choice{}, fmt.Errorf("firstboot: %q is not serial:… or wwid:…", s)
}

func (c Choice) matches(d disks.Disk) bool {
	return c.Serial != "" && c.Serial == d.Serial || c.WWID != "" && c.WWID == d.WWID
}

func (c Choice) none() bool { return c == Choice{} }

// choose gives the disk on which partitions may be made, or says why there is none.
func choose(all []disks.Disk, c Choice) (disks.Disk, error) {
	if !c.none() {
		return chosen(all, c)
	}
	var empty []disks.Disk
	reasons := []string{}
	for _, d := range all {
		why, err := whyNot(d)
		if err != nil {
			return disks.Disk{}, err
		}
		if why == "" {
			empty = append(empty, d)
			why = fmt.Sprintf("(serial:%s) is empty", d.Serial)
		}
		reasons = append(reasons, d.Name+" "+why)
	}
	switch len(empty) {
	case 1:
		return empty[0], nil
	case 0:
		return disks.Disk{}, fmt.Errorf("%w: %s", ErrNoDisk, strings.Join(reasons, ", "))
	}
	return disks.Disk{}, fmt.Errorf("%w: %s", ErrAmbiguous, strings.Join(reasons, ", "))
}

// chosen gives the disk that the choice names, if it may be taken.
func chosen(all []disks.Disk, c Choice) (disks.Disk, error) {
	var named []disks.Disk
	for _, d := range all {
		if c.matches(d) {
			named = append(named, d)
		}
	}
	switch len(named) {
	case 0:
		return disks.Disk{}, fmt.Errorf("%w: none is the chosen one", ErrNoDisk)
	case 1:
	default:
		return disks.Disk{}, fmt.Errorf("%w: %s and %s are the chosen one", ErrAmbiguous, named[0].Name, named[1].Name)
	}
	why, err := whyNot(named[0])
	if err == nil && why != "" {
		err = fmt.Errorf("%w: %s %s; to lose what is on it, blkdiscard it from another system", ErrNotEmpty, named[0].Name, why)
	}
	return named[0], err
}

// whyNot says why a disk is not taken, "" if it may be.
func whyNot(d disks.Disk) (string, error) {
	if why := Unfit(d); why != "" {
		return why, nil
	}
	return DataOn(d)
}

// Unfit says why nobody could take a disk, whatever is on it, "" if somebody could.
func Unfit(d disks.Disk) string {
	switch {
	case d.ReadOnly:
		return "is read-only"
	case d.InUse:
		return "is part of another device"
	case d.SizeBytes < minDiskBytes:
		return "is too small"
	}
	return ""
}

// DataOn says in words that a disk has data, "" if it is empty.
func DataOn(d disks.Disk) (string, error) {
	if len(d.Partitions) > 0 {
		return "has partitions", nil
	}
	f, err := os.Open(d.Path)
	if err != nil {
		return "", fmt.Errorf("firstboot: %w", err)
	}
	defer f.Close()
	empty, err := isEmpty(f, d.SizeBytes)
	if err != nil {
		return "", fmt.Errorf("firstboot: %s: %w", d.Name, err)
	}
	if !empty {
		return "has data", nil
	}
	return "", nil
}

// isEmpty says whether a disk of size bytes has nothing but zeros, or nothing but ones, wherever it is read.
func isEmpty(r io.ReaderAt, size int64) (bool, error) {
	var first [1]byte
	if _, err := r.ReadAt(first[:], 0); err != nil {
		return false, err
	}
	if first[0] != 0 && first[0] != 0xff {
		return false, nil
	}
	buffer, same := make([]byte, chunkBytes), bytes.Repeat(first[:], chunkBytes)
	uniform := func(offset, length int64) (bool, error) {
		for end := min(offset+length, size); offset < end; offset += chunkBytes {
			b := buffer[:min(chunkBytes, end-offset)]
			if _, err := r.ReadAt(b, offset); err != nil {
				return false, err
			}
			if !bytes.Equal(b, same[:len(b)]) {
				return false, nil
			}
		}
		return true, nil
	}
	for _, offset := range []int64{0, max(0, size-edgeBytes)} {
		if ok, err := uniform(offset, edgeBytes); !ok {
			return false, err
		}
	}
	for i := range int64(samples) {
		offset := size / samples * i / sampleBytes * sampleBytes
		if ok, err := uniform(offset, sampleBytes); !ok {
			return false, err
		}
	}
	return true, nil
}
