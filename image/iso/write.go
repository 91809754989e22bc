package iso

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// SectorBytes is that of a CD.
const SectorBytes = 2048

// Sectors of the structures.
const (
	primarySector = 16 + iota
	bootSector
	endSector
	catalogueSector
	littlePathsSector
	bigPathsSector
	rootSector
	fileSector
	// EndSector is the first that is not written to.
	EndSector
)

const (
	fileName   = "README.TXT;1"
	rootBytes  = SectorBytes
	pathsBytes = 10
	// maxLabel is how long the name of a volume may be.
	maxLabel = 32
)

// Options say what a CD has.
type Options struct {
	Label     string // of letters, digits and underscores, at most 32
	SizeBytes int64  // of the image
	ESPOffset int64  // of its EFI partition, a multiple of SectorBytes
	Readme    string // at most SectorBytes
	Made      time.Time
}

func (o *Options) validate() error {
	switch {
	case len(o.Label) > maxLabel || strings.Trim(o.Label, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "":
		return fmt.Errorf("iso: the label %q has not at most 32 capital letters, digits and underscores", o.Label)
	case o.SizeBytes%SectorBytes != 0 || o.SizeBytes/SectorBytes > 1<<32-1:
		return fmt.Errorf("iso: an image of %d bytes", o.SizeBytes)
	case o.ESPOffset%SectorBytes != 0 || o.ESPOffset < EndSector*SectorBytes || o.ESPOffset >= o.SizeBytes:
		return fmt.Errorf("iso: an EFI partition at %d", o.ESPOffset)
	case len(o.Readme) > SectorBytes:
		return errors.New("iso: the text is too long")
	}
	return nil
}

// Write writes the structures into the gap of an image.
func Write(w io.WriterAt, o Options) error {
	if err := o.validate(); err != nil {
		return err
	}
	b := make([]byte, (EndSector-primarySector)*SectorBytes)
	at := func(sector int) []byte {
		return b[(sector-primarySector)*SectorBytes:][:SectorBytes]
	}
	o.primary(at(primarySector))
	bootRecord(at(bootSector))
	copy(at(endSector), "\xffCD001\x01")
	o.catalogue(at(catalogueSector))
	paths(at(littlePathsSector), binary.LittleEndian)
	paths(at(bigPathsSector), binary.BigEndian)
	o.root(at(rootSector))
	copy(at(fileSector), o.Readme)
	if _, err := w.WriteAt(b, primarySector*SectorBytes); err != nil {
		return fmt.Errorf("iso: %w", err)
	}
	return nil
}

// both32 writes a number in both orders (ECMA-119, 7.3.3), both16 as well (7.2.3).
func both32(b []byte, n uint32) {
	binary.LittleEndian.PutUint32(b, n)
	binary.BigEndian.PutUint32(b[4:], n)
}

func both16(b []byte, n uint16) {
	binary.LittleEndian.PutUint16(b, n)
	binary.BigEndian.PutUint16(b[2:], n)
}

// text writes a field that is filled up with spaces.
func text(b []byte, s string) { copy(b, s+strings.Repeat(" ", len(b)-len(s))) }

// primary is the primary volume descriptor (ECMA-119, 8.4).
func (o *Options) primary(b []byte) {
	copy(b, "\x01CD001\x01")
	text(b[8:40], "")
	text(b[40:72], o.Label)
	both32(b[80:], uint32(o.SizeBytes/SectorBytes))
	both16(b[120:], 1) // volumes in the set
	both16(b[124:], 1) // this one's number
	both16(b[128:], SectorBytes)
	both32(b[132:], pathsBytes)
	binary.LittleEndian.PutUint32(b[140:], littlePathsSector)
	binary.BigEndian.PutUint32(b[148:], bigPathsSector)
	o.record(b[156:190], "\x00", rootSector, rootBytes, true)
	text(b[190:813], "") // who made it, and of what
	for i := range 4 {   // times of making, changing, and of no end
		field := b[813+17*i:][:17]
		if i < 2 {
			copy(field, o.Made.UTC().Format("20060102150405")+"00")
			continue
		}
		copy(field, strings.Repeat("0", 16))
	}
	b[881] = 1 // version of the structure
}

// bootRecord names the catalogue (El Torito, 2.0).
func bootRecord(b []byte) {
	copy(b, "\x00CD001\x01EL TORITO SPECIFICATION")
	binary.LittleEndian.PutUint32(b[71:], catalogueSector)
}

// platformEFI is that of the entry (UEFI specification 2.10, section 13.3.2.1).
const platformEFI = 0xef

// catalogue has one entry (El Torito, 2.1 and 2.2): an image without emulation, which goes on to the end of the medium, as a count of 0
// says to EFI: the count has 16 bits, too few for a partition of 64 MiB.
func (o *Options) catalogue(b []byte) {
	b[0], b[1], b[30], b[31] = 1, platformEFI, 0x55, 0xaa
	var sum uint16
	for i := 0; i < 32; i += 2 {
		sum += binary.LittleEndian.Uint16(b[i:])
	}
	binary.LittleEndian.PutUint16(b[28:], -sum)
	b[32] = 0x88 // it can be started
	binary.LittleEndian.PutUint32(b[40:], uint32(o.ESPOffset/SectorBytes))
}

// paths is a path table with the root alone (ECMA-119, 9.4).
func paths(b []byte, order binary.ByteOrder) {
	b[0] = 1
	order.PutUint32(b[2:], rootSector)
	order.PutUint16(b[6:], 1)
}

// root is the root directory: itself, twice, and the file.
func (o *Options) root(b []byte) {
	n := o.record(b, "\x00", rootSector, rootBytes, true)
	n += o.record(b[n:], "\x01", rootSector, rootBytes, true)
	o.record(b[n:], fileName, fileSector, uint32(len(o.Readme)), false)
}

// record is a directory record (ECMA-119, 9.1), and gives its length.
func (o *Options) record(b []byte, name string, sector, size uint32, directory bool) int {
	length := 33 + len(name) + (len(name)+1)%2
	b[0] = byte(length)
	both32(b[2:], sector)
	both32(b[10:], size)
	t := o.Made.UTC()
	copy(b[18:], []byte{byte(t.Year() - 1900), byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second()), 0})
	if directory {
		b[25] = 2
	}
	both16(b[28:], 1)
	b[32] = byte(len(name))
	copy(b[33:], name)
	return length
}
