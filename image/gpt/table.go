package gpt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"unicode/utf16"
)

var (
	// ErrNoTable says that a disk has no partition table.
	ErrNoTable = errors.New("gpt: no partition table")
	// ErrDamaged says that both tables of a disk are damaged.
	ErrDamaged = errors.New("gpt: the partition table is damaged")
)

// A Partition is an entry of a table. First and Last are logical blocks, both belong to it.
type Partition struct {
	Number      int // from 1
	Type, ID    GUID
	First, Last uint64
	Name        string // at most 36 UTF-16 units
}

// A Table is the partition table of a disk.
type Table struct {
	ID          GUID
	SectorBytes int    // of a logical block: 512 to 4096, a power of two
	Sectors     uint64 // of the disk
	Partitions  []Partition
}

const (
	headerBytes  = 92
	entryBytes   = 128
	entries      = 128
	nameUnits    = 36
	alignBytes   = 1 << 20
	maxEntries   = 1024 // that are read of a foreign table
	maxEntrySize = 4096
)

var signature = []byte("EFI PART")

// New makes a table without partitions for a disk of sizeBytes.
func New(id GUID, sizeBytes int64, sectorBytes int) (*Table, error) {
	if !validSector(sectorBytes) || sizeBytes < 4*alignBytes {
		return nil, fmt.Errorf("gpt: a disk of %d bytes in blocks of %d can't be partitioned", sizeBytes, sectorBytes)
	}
	return &Table{ID: id, SectorBytes: sectorBytes, Sectors: uint64(sizeBytes) / uint64(sectorBytes)}, nil
}

func validSector(n int) bool { return n >= 512 && n <= 4096 && n&(n-1) == 0 }

// entrySectors is how many logical blocks the entries take.
func (t *Table) entrySectors() uint64 {
	return uint64((entries*entryBytes + t.SectorBytes - 1) / t.SectorBytes)
}

// lastUsable is the last logical block that a partition may have.
func (t *Table) lastUsable() uint64 { return t.Sectors - t.entrySectors() - 2 }

// Add appends a partition of sizeBytes behind the others, or of all that is left for 0; both ends are
// multiples of 1 MiB.
func (t *Table) Add(kind, id GUID, name string, sizeBytes int64) (Partition, error) {
	unit := uint64(alignBytes / t.SectorBytes)
	first := unit
	if n := len(t.Partitions); n > 0 {
		first = (t.Partitions[n-1].Last + unit) / unit * unit
	}
	end := (t.lastUsable() + 1) / unit * unit
	if sizeBytes != 0 {
		end = min(end, first+(uint64(sizeBytes)+alignBytes-1)/alignBytes*unit)
	}
	p := Partition{Number: len(t.Partitions) + 1, Type: kind, ID: id, First: first, Last: end - 1, Name: name}
	switch {
	case end <= first || int64(end-first)*int64(t.SectorBytes) < sizeBytes:
		return p, fmt.Errorf("gpt: no room for partition %s of %d bytes", name, sizeBytes)
	case len(utf16.Encode([]rune(name))) > nameUnits:
		return p, fmt.Errorf("gpt: the name %q is too long", name)
	case p.Number > entries:
		return p, errors.New("gpt: too many partitions")
	}
	t.Partitions = append(t.Partitions, p)
	return p, nil
}

// Range is where a partition is, in bytes.
func (t *Table) Range(p Partition) (offset, size int64) {
	return int64(p.First) * int64(t.SectorBytes), int64(p.Last-p.First+1) * int64(t.SectorBytes)
}

// Find gives the partition with an ID.
func (t *Table) Find(id GUID) (Partition, bool) {
	for _, p := range t.Partitions {
		if p.ID == id {
			return p, true
		}
	}
	return Partition{}, false
}

// Read takes the table from a disk of sizeBytes. The error is ErrNoTable, ErrDamaged, or that of r.
func Read(r io.ReaderAt, sizeBytes int64, sectorBytes int) (*Table, error) {
	if !validSector(sectorBytes) {
		return nil, fmt.Errorf("gpt: logical blocks of %d bytes", sectorBytes)
	}
	sectors := sizeBytes / int64(sectorBytes)
	if sectors < 4 {
		return nil, ErrNoTable
	}
	first, err := readAt(r, 1, uint64(sectors), sectorBytes)
	if err == nil {
		return first, nil
	}
	second, again := readAt(r, uint64(sectors)-1, uint64(sectors), sectorBytes)
	if again == nil {
		return second, nil
	}
	if errors.Is(err, ErrNoTable) && errors.Is(again, ErrDamaged) {
		return nil, again
	}
	return nil, err
}

// readAt reads the table whose header is at logical block lba.
func readAt(r io.ReaderAt, lba, sectors uint64, sectorBytes int) (*Table, error) {
	h := make([]byte, sectorBytes)
	if err := readFull(r, h, int64(lba)*int64(sectorBytes)); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(h, signature) {
		return nil, ErrNoTable
	}
	le := binary.LittleEndian
	size := le.Uint32(h[12:])
	if size < headerBytes || size > uint32(sectorBytes) || le.Uint64(h[24:]) != lba {
		return nil, ErrDamaged
	}
	sum := le.Uint32(h[16:])
	le.PutUint32(h[16:], 0)
	if crc32.ChecksumIEEE(h[:size]) != sum {
		return nil, ErrDamaged
	}
	start, count, each := le.Uint64(h[72:]), le.Uint32(h[80:]), le.Uint32(h[84:])
	if count > maxEntries || each < entryBytes || each > maxEntrySize || start >= sectors {
		return nil, ErrDamaged
	}
	raw := make([]byte, count*each)
	if err := readFull(r, raw, int64(start)*int64(sectorBytes)); err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(raw) != le.Uint32(h[88:]) {
		return nil, ErrDamaged
	}
	t := &Table{ID: GUID(h[56:72]), SectorBytes: sectorBytes, Sectors: sectors}
	return t, t.decode(raw, int(each))
}

func readFull(r io.ReaderAt, p []byte, offset int64) error {
	_, err := io.ReadFull(io.NewSectionReader(r, offset, int64(len(p))), p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrDamaged
	}
	return err
}

// decode takes the partitions from the entries; none may leave the disk.
func (t *Table) decode(raw []byte, each int) error {
	for i := 0; i*each < len(raw); i++ {
		e := raw[i*each : i*each+entryBytes]
		p := Partition{
			Number: i + 1, Type: GUID(e[:16]), ID: GUID(e[16:32]),
			First: binary.LittleEndian.Uint64(e[32:]), Last: binary.LittleEndian.Uint64(e[40:]),
		}
		if p.Type == (GUID{}) {
			continue
		}
		if p.First < 2 || p.Last < p.First || p.Last >= t.Sectors {
			return ErrDamaged
		}
		p.Name = decodeName(e[56:])
		t.Partitions = append(t.Partitions, p)
	}
	return nil
}

func decodeName(b []byte) string {
	units := make([]uint16, 0, nameUnits)
	for ; len(b) > 1; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// Write puts the table on a disk: the one at its end first, so that a loss of power leaves none or a
// whole one.
func (t *Table) Write(w io.WriterAt) error {
	raw := t.encode()
	last, length := t.Sectors-1, t.entrySectors()
	for _, part := range []struct {
		lba   uint64
		bytes []byte
	}{
		{last - length, raw},
		{last, t.header(last, 1, last-length, raw)},
		{0, t.protective()},
		{2, raw},
		{1, t.header(1, last, 2, raw)},
	} {
		if _, err := w.WriteAt(part.bytes, int64(part.lba)*int64(t.SectorBytes)); err != nil {
			return fmt.Errorf("gpt: write: %w", err)
		}
	}
	return nil
}

// encode makes the entries, in whole logical blocks.
func (t *Table) encode() []byte {
	raw := make([]byte, int(t.entrySectors())*t.SectorBytes)
	for _, p := range t.Partitions {
		e := raw[(p.Number-1)*entryBytes:]
		copy(e, p.Type[:])
		copy(e[16:], p.ID[:])
		binary.LittleEndian.PutUint64(e[32:], p.First)
		binary.LittleEndian.PutUint64(e[40:], p.Last)
		for i, u := range utf16.Encode([]rune(p.Name)) {
			binary.LittleEndian.PutUint16(e[56+2*i:], u)
		}
	}
	return raw
}

// header makes the header at logical block own; the other header is at other.
func (t *Table) header(own, other, start uint64, raw []byte) []byte {
	h := make([]byte, t.SectorBytes)
	le := binary.LittleEndian
	copy(h, signature)
	le.PutUint32(h[8:], 0x00010000)
	le.PutUint32(h[12:], headerBytes)
	le.PutUint64(h[24:], own)
	le.PutUint64(h[32:], other)
	le.PutUint64(h[40:], 2+t.entrySectors())
	le.PutUint64(h[48:], t.lastUsable())
	copy(h[56:], t.ID[:])
	le.PutUint64(h[72:], start)
	le.PutUint32(h[80:], entries)
	le.PutUint32(h[84:], entryBytes)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(raw[:entries*entryBytes]))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerBytes]))
	return h
}

// protective makes the MBR that tells old programs that the disk is in use.
func (t *Table) protective() []byte {
	b := make([]byte, t.SectorBytes)
	e := b[446:]
	e[2], e[4] = 0x02, 0xee
	e[5], e[6], e[7] = 0xff, 0xff, 0xff
	binary.LittleEndian.PutUint32(e[8:], 1)
	binary.LittleEndian.PutUint32(e[12:], uint32(min(t.Sectors-1, 0xffffffff)))
	b[510], b[511] = 0x55, 0xaa
	return b
}
