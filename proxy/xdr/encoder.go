package xdr

import (
	"encoding/binary"
	"errors"
)

// ErrLimit: what was to be written does not fit under the encoder's limit.
var ErrLimit = errors.New("xdr: encoding is over its limit")

// Grower gives an encoder a bigger buffer: it returns a slice with the contents of old and room for at
// least need bytes altogether, and may recycle old. It returns nil when it has none so big.
type Grower interface {
	Grow(old []byte, need int) []byte
}

// Encoder appends to a buffer that the caller owns. The zero value has no room at all.
type Encoder struct {
	buf   []byte // cap(buf) is the room under the limit; none of it after a failure
	whole []byte // the same memory with its own capacity
	limit int
	err   error
	grow  Grower
}

// NewEncoder returns an encoder that writes from the start of buf up to its capacity.
func NewEncoder(buf []byte) Encoder {
	var e Encoder
	e.Reset(buf, cap(buf), nil)
	return e
}

// Reset starts over in buf (its length is ignored), with a limit in bytes that may be above cap(buf)
// when grow is there to provide for it.
func (e *Encoder) Reset(buf []byte, limit int, grow Grower) {
	*e = Encoder{whole: buf[:0], limit: limit, grow: grow}
	e.open(0)
}

// open makes what is between n and the limit writable.
func (e *Encoder) open(n int) {
	room := min(cap(e.whole), e.limit)
	e.buf = e.whole[:n:max(room, n)]
}

// Uint32 appends an unsigned int, an int or an enum.
func (e *Encoder) Uint32(v uint32) {
	if cap(e.buf)-len(e.buf) >= 4 || e.makeRoom(4) {
		e.buf = binary.BigEndian.AppendUint32(e.buf, v)
	}
}

// Uint64 appends an unsigned hyper.
func (e *Encoder) Uint64(v uint64) {
	if cap(e.buf)-len(e.buf) >= 8 || e.makeRoom(8) {
		e.buf = binary.BigEndian.AppendUint64(e.buf, v)
	}
}

// Int64 appends a hyper.
func (e *Encoder) Int64(v int64) { e.Uint64(uint64(v)) }

// Bool appends a boolean.
func (e *Encoder) Bool(v bool) {
	var n uint32
	if v {
		n = 1
	}
	e.Uint32(n)
}

// Opaque appends variable-length bytes: length, bytes, padding.
func (e *Encoder) Opaque(b []byte) {
	_, p := e.ReserveOpaque(len(b))
	copy(p, b)
}

// String appends a string: length, bytes, padding.
func (e *Encoder) String(s string) {
	_, p := e.ReserveOpaque(len(s))
	copy(p, s)
}

// Fixed appends b and its padding, without a length.
func (e *Encoder) Fixed(b []byte) { copy(e.Reserve(len(b)), b) }

// Append appends bytes that are XDR already; their number is a multiple of four.
func (e *Encoder) Append(b []byte) { copy(e.next(len(b)), b) }

// Reserve appends n bytes and their padding and returns the n bytes for the caller to fill in place:
// all of them, since they hold whatever the buffer held before. It returns nil when they do not fit.
// The slice is good until the next append, which may move the buffer.
func (e *Encoder) Reserve(n int) []byte {
	p := e.next(n + pad(n))
	if p == nil {
		return nil
	}
	clear(p[n:])
	return p[:n:n]
}

// ReserveOpaque is Reserve with the length in front; at is what [Encoder.TrimOpaque] wants when fewer
// bytes come than were reserved.
func (e *Encoder) ReserveOpaque(n int) (at int, p []byte) {
	at = len(e.buf)
	e.Uint32(uint32(n))
	return at, e.Reserve(n)
}

// TrimOpaque shortens the opaque that ReserveOpaque put at offset at to n bytes. Nothing may have been
// appended after it.
func (e *Encoder) TrimOpaque(at, n int) {
	if e.err != nil {
		return
	}
	e.PutUint32At(at, uint32(n))
	end := at + 4 + n
	clear(e.buf[end : end+pad(n)])
	e.buf = e.buf[:end+pad(n)]
}

// Len is the number of bytes written.
func (e *Encoder) Len() int { return len(e.buf) }

// Room is the number of bytes that may still be written before the limit; 0 after a failure.
func (e *Encoder) Room() int {
	if e.err != nil {
		return 0
	}
	if e.grow == nil {
		return cap(e.buf) - len(e.buf)
	}
	return max(e.limit-len(e.buf), 0)
}

// Spare is for how many bytes, within the limit, there is memory already.
func (e *Encoder) Spare() int { return cap(e.buf) - len(e.buf) }

// Provide sees to it that n more bytes can be written, and gets the memory for them now. It says false, and the encoder has
// failed, if they are above the limit or there is no memory; n = 0 fails where more than the limit is written already.
func (e *Encoder) Provide(n int) bool {
	if e.err == nil && n > e.limit-len(e.buf) {
		e.Fail(ErrLimit)
	}
	return e.err == nil && (cap(e.buf)-len(e.buf) >= n || e.makeRoom(n))
}

// Limit is the greatest length the encoding may reach.
func (e *Encoder) Limit() int { return e.limit }

// SetLimit changes the limit. What is written already stays, even above the new one.
func (e *Encoder) SetLimit(n int) {
	e.limit = n
	if e.err == nil {
		e.open(len(e.buf))
	}
}

// Truncate takes the cursor back to n bytes and clears a failure.
func (e *Encoder) Truncate(n int) {
	e.err = nil
	e.open(min(n, len(e.buf)))
}

// PutUint32At overwrites the four bytes at offset at, which have been written before.
func (e *Encoder) PutUint32At(at int, v uint32) {
	if at >= 0 && at+4 <= len(e.buf) {
		binary.BigEndian.PutUint32(e.buf[at:], v)
	}
}

// Bytes is what has been written. It is the caller's buffer, or the Grower's last one.
func (e *Encoder) Bytes() []byte { return e.buf }

// Err is ErrLimit once something did not fit, or what Fail was given.
func (e *Encoder) Err() error { return e.err }

// Fail makes err the encoder's failure, if it has none yet; nothing more is written until Truncate.
func (e *Encoder) Fail(err error) {
	if e.err == nil {
		e.err = err
	}
	e.buf = e.buf[:len(e.buf):len(e.buf)]
}

// next appends n bytes of room and returns them, or nil. n = 0 yields an empty slice.
func (e *Encoder) next(n int) []byte {
	if cap(e.buf)-len(e.buf) < n && !e.makeRoom(n) {
		return nil
	}
	at := len(e.buf)
	e.buf = e.buf[:at+n]
	return e.buf[at:]
}

// makeRoom asks the Grower for room for n more bytes, and fails without one.
func (e *Encoder) makeRoom(n int) bool {
	at := len(e.buf)
	if e.err != nil || e.grow == nil || n > e.limit-at {
		e.Fail(ErrLimit)
		return false
	}
	bigger := e.grow.Grow(e.whole[:at], at+n)
	if cap(bigger) < at+n {
		e.Fail(ErrLimit)
		return false
	}
	e.whole = bigger[:0]
	e.open(at)
	return true
}
