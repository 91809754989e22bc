package install

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/image/firstboot"
	"github.com/nfseal/nfseal/image/gpt"
	"github.com/nfseal/nfseal/image/verity"
)

// InstallerName is the name of the EFI partition of a medium for installations, as make iso makes it: a system that was started from
// one takes no disk by itself.
const InstallerName = "nfseal-installer"

const (
	// roomBytes is left free behind the root, for a second one.
	roomBytes = 512 << 20
	// MinDiskBytes is the smallest disk with room for all.
	MinDiskBytes = 4 << 30
	// wipeBytes at both ends of a disk are filled with zeros first: tables, and signatures of file systems and arrays.
	wipeBytes = 4 << 20
	// copyBytes are copied or read back at a time.
	copyBytes = 1 << 20
	// sectorBytes is the one size of logical blocks that the EFI partition of the image is made for.
	sectorBytes = 512
)

var (
	// ErrMedium says that the medium is not one of this system.
	ErrMedium = errors.New("install: the medium has not the system that runs")
	// ErrWritten says that the disk gives back something else than what was written.
	ErrWritten = errors.New("install: the disk gives back something else than what was written to it")
)

// A Medium is what is copied.
type Medium struct {
	io.ReaderAt
	SizeBytes int64
	Root      verity.Root // of the system that runs
}

// Parts are the partitions of a medium that are copied.
type Parts struct {
	ESP, Root gpt.Partition
	table     *gpt.Table
}

// Find looks for the parts. A CD's table is in blocks of 512 bytes, as on a disk.
func (m *Medium) Find() (Parts, error) {
	table, err := gpt.Read(m, m.SizeBytes, sectorBytes)
	if err != nil {
		return Parts{}, err
	}
	p := Parts{table: table}
	var ok bool
	if p.Root, ok = table.Find(gpt.FromHash(m.Root.Hash)); !ok {
		return p, ErrMedium
	}
	for _, q := range table.Partitions {
		if q.Type == gpt.TypeESP {
			p.ESP = q
			return p, nil
		}
	}
	return p, fmt.Errorf("%w: it has no EFI partition", ErrMedium)
}

// Write writes the system to a disk of size bytes, whatever is on it, and gives the SHA-256 of the root as it was read back. tell is told
// how many bytes of how many were written or read back.
func Write(m *Medium, disk *os.File, size int64, logicalBytes int, tell func(done, total int64)) (string, error) {
	if logicalBytes != sectorBytes {
		return "", fmt.Errorf("install: the disk has logical blocks of %d bytes, and the system can be started from blocks of %d only", logicalBytes, sectorBytes)
	}
	if size < MinDiskBytes {
		return "", fmt.Errorf("install: the disk has %d bytes, and %d are needed", size, int64(MinDiskBytes))
	}
	from, err := m.Find()
	if err != nil {
		return "", err
	}
	table, esp, root, err := layout(from, size)
	if err != nil {
		return "", err
	}
	if err := wipe(disk, size); err != nil {
		return "", fmt.Errorf("install: %w", err)
	}
	c := &copier{medium: m, disk: disk, tell: tell, total: 2 * (from.sizeOf(from.ESP) + from.sizeOf(from.Root))}
	if _, err := c.part(from, from.ESP, table, esp); err != nil {
		return "", err
	}
	sum, err := c.part(from, from.Root, table, root)
	if err != nil {
		return "", err
	}
	offset, length := table.Range(root)
	if err := verity.Check(io.NewSectionReader(disk, offset, length), length, m.Root); err != nil {
		return "", fmt.Errorf("%w: %w", ErrWritten, err)
	}
	if err := errors.Join(table.Write(disk), disk.Sync()); err != nil {
		return "", fmt.Errorf("install: partition table: %w", err)
	}
	return sum, nil
}

func (p Parts) sizeOf(q gpt.Partition) int64 {
	_, size := p.table.Range(q)
	return size
}

// layout is the table of the disk.
func layout(from Parts, size int64) (table *gpt.Table, esp, root gpt.Partition, err error) {
	if table, err = gpt.New(firstboot.RandomID(), size, sectorBytes); err != nil {
		return nil, esp, root, err
	}
	room := firstboot.RandomID()
	if esp, err = table.Add(gpt.TypeESP, firstboot.RandomID(), "esp", from.sizeOf(from.ESP)); err != nil {
		return nil, esp, root, err
	}
	if root, err = table.Add(gpt.TypeRoot, from.Root.ID, from.Root.Name, from.sizeOf(from.Root)); err != nil {
		return nil, esp, root, err
	}
	if _, err = table.Add(gpt.TypeRoot, room, "room", roomBytes); err != nil {
		return nil, esp, root, err
	}
	if err = firstboot.AddPartitions(table); err != nil {
		return nil, esp, root, err
	}
	table.Remove(room)
	return table, esp, root, nil
}

// wipe fills both ends of a disk with zeros.
func wipe(disk *os.File, size int64) error {
	zeros := make([]byte, wipeBytes)
	for _, offset := range []int64{0, size - wipeBytes} {
		if _, err := disk.WriteAt(zeros, offset); err != nil {
			return err
		}
	}
	return disk.Sync()
}

// A copier copies parts and reads them back.
type copier struct {
	medium      *Medium
	disk        *os.File
	tell        func(done, total int64)
	done, total int64
}

// Write counts what is copied and what is read back: each passes here once.
func (c *copier) Write(b []byte) (int, error) {
	c.done += int64(len(b))
	c.tell(c.done, c.total)
	return len(b), nil
}

// part copies one, and gives the SHA-256 of what the disk gives back.
func (c *copier) part(source Parts, p gpt.Partition, target *gpt.Table, to gpt.Partition) (string, error) {
	from, size := source.table.Range(p)
	at, _ := target.Range(to)
	buffer := make([]byte, copyBytes)
	want, got := sha256.New(), sha256.New()
	// MultiWriter keeps the copy from being taken out of our hands by a call of the kernel's.
	into := io.MultiWriter(io.NewOffsetWriter(c.disk, at), want, c)
	if _, err := io.CopyBuffer(into, io.NewSectionReader(c.medium, from, size), buffer); err != nil {
		return "", fmt.Errorf("install: write %s: %w", p.Name, err)
	}
	if err := errors.Join(c.disk.Sync(), unix.Fadvise(int(c.disk.Fd()), 0, 0, unix.FADV_DONTNEED)); err != nil {
		return "", fmt.Errorf("install: write %s: %w", p.Name, err)
	}
	if _, err := io.CopyBuffer(io.MultiWriter(got, c), io.NewSectionReader(c.disk, at, size), buffer); err != nil {
		return "", fmt.Errorf("install: read %s back: %w", p.Name, err)
	}
	if [32]byte(want.Sum(nil)) != [32]byte(got.Sum(nil)) {
		return "", fmt.Errorf("%w: %s", ErrWritten, p.Name)
	}
	return hex.EncodeToString(got.Sum(nil)), nil
}
