package rpc

import (
	"encoding/binary"
	"errors"
	"io"
)

// markBytes is the size of a record mark.
const markBytes = 4

// lastFragment is the mark's bit of that name.
const lastFragment = 1 << 31

// Why a stream of records cannot be read on.
var (
	// ErrRecordTooBig: a record mark announced more than the limit.
	ErrRecordTooBig = errors.New("rpc: record over the size limit")
	// ErrTooManyFragments: a record came in an absurd number of pieces.
	ErrTooManyFragments = errors.New("rpc: record in too many fragments")
)

// sink is where the bytes of a record go.
type sink interface {
	// room returns where up to want more bytes go, at least one.
	room(want int) []byte
	// add says how many bytes were put there.
	add(n int)
	// len is how many have been added altogether.
	len() int
}

// framer takes records off a stream (RFC 5531 §11). Small records come out of a read-ahead buffer,
// what a large one has beyond it is read straight into the sink.
type framer struct {
	src    io.Reader
	max    int    // bytes of a record
	ahead  []byte // bytes r to w have been read and not used
	r, w   int
	inside bool // a record has begun
	// sleep is called when src says errResting: it gives ahead up until more arrives.
	sleep func() error
}

// errResting: nothing has arrived for a while.
var errResting = errors.New("rpc: nothing arrives")

// buffered says whether more has been received already.
func (f *framer) buffered() bool { return f.w > f.r }

// first reads the mark of the next record's first fragment. io.EOF is an end between two records.
func (f *framer) first() (mark uint32, err error) {
	f.inside = f.buffered()
	return f.mark()
}

// rest reads the record that begins with mark, all its fragments.
func (f *framer) rest(to sink, mark uint32) error {
	for fragments := 1; ; fragments++ {
		f.inside = true
		n := int(mark &^ lastFragment)
		switch {
		case n > f.max-to.len():
			return ErrRecordTooBig
		case fragments > maxFragments:
			return ErrTooManyFragments
		}
		if err := f.body(to, n); err != nil {
			return noEOF(err)
		}
		if mark&lastFragment != 0 {
			return nil
		}
		var err error
		if mark, err = f.mark(); err != nil {
			return noEOF(err)
		}
	}
}

// mark reads a record mark.
func (f *framer) mark() (uint32, error) {
	if f.r == f.w {
		f.r, f.w = 0, 0
	} else if len(f.ahead)-f.r < markBytes {
		f.w = copy(f.ahead, f.ahead[f.r:f.w])
		f.r = 0
	}
	for f.w-f.r < markBytes {
		n, err := f.src.Read(f.ahead[f.w:])
		f.w += n
		if err == errResting {
			err = f.sleep()
		}
		f.inside = f.inside || f.buffered()
		if err == io.EOF && f.buffered() {
			return 0, io.ErrUnexpectedEOF
		}
		if err != nil && f.w-f.r < markBytes {
			return 0, err
		}
	}
	m := binary.BigEndian.Uint32(f.ahead[f.r:])
	f.r += markBytes
	return m, nil
}

// body moves n bytes to the sink: first what was read ahead, the rest straight from the stream.
func (f *framer) body(to sink, n int) error {
	for n > 0 {
		p := to.room(n)
		c := copy(p, f.ahead[f.r:f.w])
		f.r += c
		if c == 0 {
			var err error
			c, err = f.src.Read(p)
			if c == 0 && err != nil {
				return err
			}
		}
		to.add(c)
		n -= c
	}
	return nil
}

// noEOF says that the end came within a record.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// RecordReader reads records one after the other, for a client. It is not for concurrent use.
type RecordReader struct {
	f   framer
	buf growing
}

// NewRecordReader reads records of at most maxBytes from src.
func NewRecordReader(src io.Reader, maxBytes int) *RecordReader {
	return &RecordReader{f: framer{src: src, max: maxBytes, ahead: make([]byte, coalesceBytes)}}
}

// Next reads a record into buf, which may be nil, or into a bigger one if it does not fit, and returns
// it. io.EOF is an end between two records.
func (r *RecordReader) Next(buf []byte) ([]byte, error) {
	mark, err := r.f.first()
	if err != nil {
		return nil, err
	}
	r.buf = growing{b: buf[:0], max: r.f.max}
	if err := r.f.rest(&r.buf, mark); err != nil {
		return nil, err
	}
	return r.buf.b, nil
}

// growing is a sink on the heap that grows as bytes arrive.
type growing struct {
	b   []byte
	max int
}

func (g *growing) room(want int) []byte {
	n := len(g.b)
	if n == cap(g.b) {
		size := min(max(n+want, 2*n), g.max)
		if n == 0 {
			size = min(size, firstRoomBytes)
		}
		bigger := make([]byte, n, size)
		copy(bigger, g.b)
		g.b = bigger
	}
	return g.b[n:min(n+want, cap(g.b))]
}

func (g *growing) add(n int) { g.b = g.b[:len(g.b)+n] }

func (g *growing) len() int { return len(g.b) }
