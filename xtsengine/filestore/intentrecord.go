package filestore

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

const (
	// intentHeaderBytes is the length of a record before its content: docs/formats/metadata.md.
	intentHeaderBytes = 64
	// maxIntentBytes is the longest write that is logged.
	maxIntentBytes = 64 << 10
	// minIntentBytes is the shortest log: a half has room for the longest record.
	minIntentBytes = 4 * maxIntentBytes
	// intentRetryTime is how long nobody tries to make a log that could not be made.
	intentRetryTime = 10 * time.Second
	// maxIntentSpare is how much memory for records is kept for the next ones.
	maxIntentSpare = 1 << 20
)

// intentRecord is a write in the log, without its content.
type intentRecord struct {
	number uint64 // of the record: one more than that of the one before
	inode  uint64
	offset uint64
	change uint64 // the file's change attribute after the write
	time   vfs.Time
	mode   uint32 // and its mode
}

// append encodes a record.
func (r *intentRecord) append(b, content []byte) []byte {
	begin := len(b)
	b = be.AppendUint32(b, 0)
	b = be.AppendUint32(b, uint32(len(content)))
	b = be.AppendUint64(b, r.number)
	b = be.AppendUint64(b, r.inode)
	b = be.AppendUint64(b, r.offset)
	b = be.AppendUint64(b, r.change)
	b = be.AppendUint64(b, uint64(r.time.Sec))
	b = be.AppendUint32(b, r.time.Nsec)
	b = be.AppendUint32(b, r.mode)
	b = be.AppendUint64(b, 0)
	b = append(b, content...)
	be.PutUint32(b[begin:], crc32.Checksum(b[begin+4:], castagnoli))
	return b
}

// intentReader reads the records of one file of the log, in order.
type intentReader struct {
	from    io.Reader
	last    uint64 // the number of the last record; 0 before the first
	header  [intentHeaderBytes]byte
	content [maxIntentBytes]byte
}

// next reads a record; io.EOF says that there are no more. What does not look like the next record is the end: the
// file has other bytes behind what was written, and a crash can leave a part of what was never acknowledged.
func (d *intentReader) next() (r intentRecord, content []byte, err error) {
	if err := d.fill(d.header[:]); err != nil {
		return r, nil, err
	}
	h := d.header[:]
	n := be.Uint32(h[4:])
	r = intentRecord{number: be.Uint64(h[8:]), inode: be.Uint64(h[16:]), offset: be.Uint64(h[24:]), change: be.Uint64(h[32:]),
		time: vfs.Time{Sec: int64(be.Uint64(h[40:])), Nsec: be.Uint32(h[48:])}, mode: be.Uint32(h[52:])}
	if n == 0 || n > maxIntentBytes || r.number == 0 || (d.last > 0 && r.number != d.last+1) {
		return r, nil, io.EOF
	}
	content = d.content[:n]
	if err := d.fill(content); err != nil {
		return r, nil, err
	}
	if crc32.Update(crc32.Checksum(h[4:], castagnoli), castagnoli, content) != be.Uint32(h) {
		return r, nil, io.EOF
	}
	d.last = r.number
	return r, content, nil
}

// fill reads all of p, or says that the file has ended.
func (d *intentReader) fill(p []byte) error {
	_, err := io.ReadFull(d.from, p)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return io.EOF
	}
	return fmt.Errorf("%w: intent log: %w", vfs.ErrIO, err)
}
