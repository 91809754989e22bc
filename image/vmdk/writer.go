package vmdk

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	sectorBytes       = 512
	grainSectors      = 128
	grainBytes        = grainSectors * sectorBytes
	tableGrains       = 512 // entries of a grain table
	descriptorSectors = 20
	overheadSectors   = 128 // before the first grain
	directoryAtEnd    = ^uint64(0)
	flags             = 1 | 1<<16 | 1<<17 // newlines can be checked; compressed grains; markers
)

// Kinds of markers.
const (
	markEnd       = 0
	markTable     = 1
	markDirectory = 2
	markFooter    = 3
)

// A writer keeps where it is.
type writer struct {
	to        io.Writer
	at        uint64 // sectors written
	capacity  uint64 // sectors of the disk
	table     []uint32
	directory []uint32
	compress  *zlib.Writer
	packed    bytes.Buffer
	err       error
}

// Write writes the disk image of sizeBytes that r has, called name in its descriptor. The size has to be a multiple of 64 KiB.
func Write(to io.Writer, r io.Reader, sizeBytes int64, name string) error {
	if sizeBytes <= 0 || sizeBytes%grainBytes != 0 {
		return fmt.Errorf("vmdk: a disk of %d bytes is not of whole grains of %d", sizeBytes, grainBytes)
	}
	w := &writer{to: to, capacity: uint64(sizeBytes / sectorBytes)}
	var err error
	if w.compress, err = zlib.NewWriterLevel(&w.packed, zlib.BestCompression); err != nil {
		return fmt.Errorf("vmdk: %w", err)
	}
	w.begin(name)
	grain, zeros := make([]byte, grainBytes), make([]byte, grainBytes)
	for sector := uint64(0); sector < w.capacity && w.err == nil; sector += grainSectors {
		if _, err := io.ReadFull(r, grain); err != nil {
			return fmt.Errorf("vmdk: the disk ends at sector %d of %d: %w", sector, w.capacity, err)
		}
		if bytes.Equal(grain, zeros) {
			w.table = append(w.table, 0)
		} else {
			w.grain(sector, grain)
		}
		if len(w.table) == tableGrains {
			w.endTable()
		}
	}
	w.end()
	if w.err != nil {
		return fmt.Errorf("vmdk: %w", w.err)
	}
	return nil
}

// sectors writes whole sectors, the last one filled up with zeros.
func (w *writer) sectors(b []byte) {
	if w.err != nil {
		return
	}
	n := (len(b) + sectorBytes - 1) / sectorBytes
	padded := append(bytes.Clone(b), make([]byte, n*sectorBytes-len(b))...)
	_, w.err = w.to.Write(padded)
	w.at += uint64(n)
}

func (w *writer) begin(name string) {
	w.sectors(w.header(directoryAtEnd))
	text := make([]byte, descriptorSectors*sectorBytes)
	if copy(text, w.descriptor(name)); text[len(text)-1] != 0 {
		w.err = errors.New("the descriptor is too long")
	}
	w.sectors(text)
	w.sectors(make([]byte, (overheadSectors-1-descriptorSectors)*sectorBytes))
}

// header is of the extent; the directory's place is known at the end.
func (w *writer) header(directory uint64) []byte {
	b := make([]byte, 0, sectorBytes)
	le := binary.LittleEndian
	b = append(b, "KDMV"...)
	b = le.AppendUint32(b, 3) // version
	b = le.AppendUint32(b, flags)
	for _, v := range []uint64{w.capacity, grainSectors, 1, descriptorSectors} {
		b = le.AppendUint64(b, v)
	}
	b = le.AppendUint32(b, tableGrains)
	b = le.AppendUint64(b, 0) // no second directory
	b = le.AppendUint64(b, directory)
	b = le.AppendUint64(b, overheadSectors)
	b = append(b, 0, '\n', ' ', '\r', '\n') // it was closed; what a transfer as text would change
	return le.AppendUint16(b, 1)            // deflate
}

// descriptor says what the extent is. The content's identifier is for chains of disks, of which this is none.
func (w *writer) descriptor(name string) string {
	const heads, trackSectors = 255, 63
	return fmt.Sprintf(`# Disk DescriptorFile
version=1
CID=6e667365
parentCID=ffffffff
createType="streamOptimized"

# Extent description
RW %d SPARSE %q

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "%d"
ddb.geometry.heads = "%d"
ddb.geometry.sectors = "%d"
ddb.virtualHWVersion = "13"
`, w.capacity, name, min(w.capacity/heads/trackSectors, 65535), heads, trackSectors)
}

// grain writes one, compressed, behind its sector number and size.
func (w *writer) grain(sector uint64, content []byte) {
	w.packed.Reset()
	w.compress.Reset(&w.packed)
	_, err := w.compress.Write(content)
	if err = errors.Join(err, w.compress.Close()); err != nil {
		w.err = errors.Join(w.err, err)
		return
	}
	if w.at > uint64(^uint32(0)) {
		w.err = errors.Join(w.err, errors.New("the file is too large for the format"))
		return
	}
	w.table = append(w.table, uint32(w.at))
	b := binary.LittleEndian.AppendUint64(nil, sector)
	b = binary.LittleEndian.AppendUint32(b, uint32(w.packed.Len()))
	w.sectors(append(b, w.packed.Bytes()...))
}

// endTable writes the grain table, unless all of its grains are zeros.
func (w *writer) endTable() {
	used := false
	for _, at := range w.table {
		used = used || at != 0
	}
	if !used {
		w.directory, w.table = append(w.directory, 0), w.table[:0]
		return
	}
	w.table = append(w.table, make([]uint32, tableGrains-len(w.table))...)
	b := encode(w.table)
	w.marker(len(b)/sectorBytes, markTable)
	w.directory, w.table = append(w.directory, uint32(w.at)), w.table[:0]
	w.sectors(b)
}

func encode(entries []uint32) []byte {
	b := make([]byte, 0, 4*len(entries))
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint32(b, e)
	}
	return b
}

// marker says what the next sectors are.
func (w *writer) marker(sectors int, kind uint32) {
	b := binary.LittleEndian.AppendUint64(nil, uint64(sectors))
	b = binary.LittleEndian.AppendUint32(b, 0)
	w.sectors(binary.LittleEndian.AppendUint32(b, kind))
}

func (w *writer) end() {
	if len(w.table) > 0 {
		w.endTable()
	}
	b := encode(w.directory)
	w.marker((len(b)+sectorBytes-1)/sectorBytes, markDirectory)
	directory := w.at
	w.sectors(b)
	w.marker(1, markFooter)
	w.sectors(w.header(directory))
	w.marker(0, markEnd)
}
