package update

import (
	"bytes"
	"crypto/sha256"
	"debug/pe"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nfseal/nfseal/image/gpt"
	"github.com/nfseal/nfseal/image/verity"
)

// A Target is a machine's system disk.
type Target struct {
	Disk        *os.File // whole, open for reading and writing
	SizeBytes   int64
	SectorBytes int
	ESP         string      // where its EFI partition is mounted
	Version     string      // that runs
	Root        verity.Root // that runs
}

// Write writes what a bundle holds beside the version that runs; the next start tries it. What runs is not touched.
// Errors are ErrOlder, ErrDamaged, those of the disk, and that the running version is on trial itself.
func (b *Bundle) Write(t *Target) error {
	if Compare(b.Version, t.Version) <= 0 {
		return fmt.Errorf("%w: it has version %s, and %s runs", ErrOlder, b.Version, t.Version)
	}
	trial, err := OnTrial(t.ESP, t.Version)
	if err != nil {
		return err
	}
	if trial {
		return fmt.Errorf("update: version %s is still on trial, and what is beside it is what it would go back to: wait until it is blessed", t.Version)
	}
	kernel, err := b.kernel()
	if err != nil {
		return err
	}
	if err := b.fits(kernel); err != nil {
		return err
	}
	if err := removeOthers(t.ESP, t.Version); err != nil {
		return err
	}
	if err := b.writeRoot(t); err != nil {
		return err
	}
	return addEntry(t.ESP, b.Version, kernel)
}

// fits says whether a kernel image opens the root that comes with it, and calls itself what the manifest does.
func (b *Bundle) fits(kernel []byte) error {
	f, err := pe.NewFile(bytes.NewReader(kernel))
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, kernelName, err)
	}
	for section, wanted := range map[string]string{
		".cmdline": "nfseal.root=" + b.Verity + " ",
		".osrel":   fmt.Sprintf("IMAGE_VERSION=%q\n", b.Version),
	} {
		s := f.Section(section)
		if s == nil {
			return fmt.Errorf("%w: %s has no %s", ErrDamaged, kernelName, section)
		}
		text, err := s.Data()
		if err != nil || !strings.Contains(string(text), wanted) {
			return fmt.Errorf("%w: %s does not belong to this manifest", ErrDamaged, kernelName)
		}
	}
	return nil
}

// writeRoot writes the root into free room, reads it back, and gives it an entry in the partition table.
func (b *Bundle) writeRoot(t *Target) error {
	table, err := gpt.Read(t.Disk, t.SizeBytes, t.SectorBytes)
	if err != nil {
		return err
	}
	running := gpt.FromHash(t.Root.Hash)
	if b.root().Hash == t.Root.Hash {
		return fmt.Errorf("%w: it has the root that runs, under another version", ErrDamaged)
	}
	if _, ok := table.Find(running); !ok {
		return errors.New("update: the partition that this system runs from is not on the disk")
	}
	for _, p := range append([]gpt.Partition(nil), table.Partitions...) {
		if p.Type == gpt.TypeRoot && p.ID != running {
			table.Remove(p.ID)
		}
	}
	root := b.root()
	p, err := table.Place(gpt.TypeRoot, gpt.FromHash(root.Hash), fmt.Sprintf("nfseal-root-%x", root.Hash[:4]), b.Root.SizeBytes)
	if err != nil {
		return fmt.Errorf("update: the system disk has no room for a second system beside the one that runs: %w", err)
	}
	offset, _ := table.Range(p)
	from, err := b.part(rootName, b.Root)
	if err != nil {
		return err
	}
	// The partition that was there before is no more before what it held is written over.
	without := *table
	without.Partitions = append([]gpt.Partition(nil), table.Partitions...)
	without.Remove(p.ID)
	if err := writeTable(t.Disk, &without); err != nil {
		return err
	}
	if err := copyVerified(t.Disk, offset, from, b.Root); err != nil {
		return err
	}
	return writeTable(t.Disk, table)
}

func writeTable(disk *os.File, table *gpt.Table) error {
	if err := errors.Join(table.Write(disk), disk.Sync()); err != nil {
		return fmt.Errorf("update: partition table: %w", err)
	}
	return nil
}

// copyVerified writes a part to an offset of a disk, and hashes what the disk gives back.
func copyVerified(disk *os.File, offset int64, from io.Reader, p Part) error {
	buffer := make([]byte, copyBytes)
	if _, err := io.CopyBuffer(io.NewOffsetWriter(disk, offset), io.LimitReader(from, p.SizeBytes), buffer); err != nil {
		return fmt.Errorf("update: write the root: %w", err)
	}
	if err := errors.Join(disk.Sync(), dropCache(disk)); err != nil {
		return fmt.Errorf("update: write the root: %w", err)
	}
	hash := sha256.New()
	n, err := io.CopyBuffer(hash, io.NewSectionReader(disk, offset, p.SizeBytes), buffer)
	if err != nil || n != p.SizeBytes {
		return fmt.Errorf("update: read the root back: %d bytes of %d, %w", n, p.SizeBytes, err)
	}
	if hex.EncodeToString(hash.Sum(nil)) != p.SHA256 {
		return fmt.Errorf("%w: what was written of %s has another hash than the manifest", ErrDamaged, rootName)
	}
	return nil
}

// dropCache has the next read come from the disk and not from memory, as far as the kernel goes along.
func dropCache(f *os.File) error { return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

// same reads a file back.
func same(f *os.File, want []byte) error {
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("the disk gives back something else than what was written")
	}
	return nil
}
