package xdr

import (
	"encoding/binary"
	"errors"
)

// What a Decoder reports. Errors of the protocols above are put in with [Decoder.Fail].
var (
	// ErrShort: the record ended before the item did.
	ErrShort = errors.New("xdr: record too short")
	// ErrTooLong: a variable-length item is longer than its declared maximum.
	ErrTooLong = errors.New("xdr: item longer than its limit")
	// ErrBadBool: a boolean is neither 0 nor 1 (RFC 4506 §4.4).
	ErrBadBool = errors.New("xdr: boolean is neither 0 nor 1")
	// ErrPadding: the bytes that fill an item up to four are not zero (RFC 4506 §3).
	ErrPadding = errors.New("xdr: padding is not zero")
)

// Decoder is a cursor over one record. It is a small value: copying it forks the cursor. The zero
// value is a decoder over nothing.
type Decoder struct {
	buf []byte // cut at off by the first failure, so that later reads come up short by themselves
	off int
	err error
}

// NewDecoder returns a cursor at the start of record. What it hands out points into record.
func NewDecoder(record []byte) Decoder { return Decoder{buf: record} }

// Uint32 reads an unsigned int, an int or an enum (RFC 4506 §4.1 to §4.3).
func (d *Decoder) Uint32() uint32 {
	if b := d.buf[d.off:]; len(b) >= 4 {
		d.off += 4
		return binary.BigEndian.Uint32(b)
	}
	d.Fail(ErrShort)
	return 0
}

// Uint64 reads an unsigned hyper (RFC 4506 §4.5).
func (d *Decoder) Uint64() uint64 {
	if b := d.buf[d.off:]; len(b) >= 8 {
		d.off += 8
		return binary.BigEndian.Uint64(b)
	}
	d.Fail(ErrShort)
	return 0
}

// Int64 reads a hyper (RFC 4506 §4.5).
func (d *Decoder) Int64() int64 { return int64(d.Uint64()) }

// Bool reads a boolean; anything but 0 and 1 is an error.
func (d *Decoder) Bool() bool {
	v := d.Uint32()
	if v > 1 {
		d.Fail(ErrBadBool)
	}
	return v == 1
}

// Opaque reads variable-length bytes of at most max. The slice points into the record and cannot be
// appended to without a copy.
func (d *Decoder) Opaque(max int) []byte {
	n := d.Uint32()
	if uint64(n) > uint64(max) {
		d.Fail(ErrTooLong)
		return nil
	}
	return d.Fixed(int(n))
}

// String reads a string of at most max bytes as they stand in the record: whether they must be UTF-8
// is for the protocol above to say.
func (d *Decoder) String(max int) []byte { return d.Opaque(max) }

// Fixed reads n bytes and their padding. The slice points into the record.
func (d *Decoder) Fixed(n int) []byte {
	b := d.buf[d.off:]
	if n < 0 || n > len(b) || len(b)-n < pad(n) {
		d.Fail(ErrShort)
		return nil
	}
	end := n + pad(n)
	for _, z := range b[n:end] {
		if z != 0 {
			d.Fail(ErrPadding)
			return nil
		}
	}
	d.off += end
	return b[:n:n]
}

// Rest is what has not been read, and stays so: all of it, whatever its length.
func (d *Decoder) Rest() []byte { return d.buf[d.off:len(d.buf):len(d.buf)] }

// Count reads the length of an array whose elements take at least elemBytes each, and fails when it is
// above max or when the rest of the record could not hold so many: what is made for the array
// afterwards is bounded by bytes that did arrive.
func (d *Decoder) Count(max, elemBytes int) int {
	n := uint64(d.Uint32())
	switch {
	case n > uint64(max):
		d.Fail(ErrTooLong)
		return 0
	case n*uint64(elemBytes) > uint64(d.Remaining()):
		d.Fail(ErrShort)
		return 0
	}
	return int(n)
}

// Remaining is the number of bytes not yet read; 0 after a failure.
func (d *Decoder) Remaining() int { return len(d.buf) - d.off }

// Offset is the number of bytes read so far; after a failure, up to the failing item.
func (d *Decoder) Offset() int { return d.off }

// Since returns the bytes read since the cursor stood at offset from.
func (d *Decoder) Since(from int) []byte {
	if from < 0 || from > d.off {
		return nil
	}
	return d.buf[from:d.off:d.off]
}

// Err is the first failure, or nil.
func (d *Decoder) Err() error { return d.err }

// Fail makes err the decoder's failure, if it has none yet, and ends the record here.
func (d *Decoder) Fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.buf = d.buf[:d.off]
}

// pad is the number of zero bytes that follow n bytes.
func pad(n int) int { return -n & 3 }
