package xdr

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// unhex turns hand-written bytes with spaces between into a slice.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every item, written and read, against bytes made by hand from RFC 4506.
func TestItems(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes string
		write func(*Encoder)
		read  func(*Decoder) bool
	}{
		{"unsigned int", "01020304", func(e *Encoder) { e.Uint32(0x01020304) },
			func(d *Decoder) bool { return d.Uint32() == 0x01020304 }},
		{"unsigned hyper", "0102030405060708", func(e *Encoder) { e.Uint64(0x0102030405060708) },
			func(d *Decoder) bool { return d.Uint64() == 0x0102030405060708 }},
		{"hyper", "ffffffffffffffff", func(e *Encoder) { e.Int64(-1) },
			func(d *Decoder) bool { return d.Int64() == -1 }},
		{"true", "00000001", func(e *Encoder) { e.Bool(true) }, func(d *Decoder) bool { return d.Bool() }},
		{"false", "00000000", func(e *Encoder) { e.Bool(false) }, func(d *Decoder) bool { return !d.Bool() }},
		{"empty opaque", "00000000", func(e *Encoder) { e.Opaque(nil) },
			func(d *Decoder) bool { return len(d.Opaque(0)) == 0 }},
		{"opaque of 1", "00000001 61000000", func(e *Encoder) { e.Opaque([]byte("a")) },
			func(d *Decoder) bool { return string(d.Opaque(1)) == "a" }},
		{"opaque of 4", "00000004 61626364", func(e *Encoder) { e.Opaque([]byte("abcd")) },
			func(d *Decoder) bool { return string(d.Opaque(9)) == "abcd" }},
		{"string of 5", "00000005 6162636465000000", func(e *Encoder) { e.String("abcde") },
			func(d *Decoder) bool { return string(d.String(5)) == "abcde" }},
		{"opaque[6]", "6162636465660000", func(e *Encoder) { e.Fixed([]byte("abcdef")) },
			func(d *Decoder) bool { return string(d.Fixed(6)) == "abcdef" }},
		{"opaque[0]", "", func(e *Encoder) { e.Fixed(nil) }, func(d *Decoder) bool { return len(d.Fixed(0)) == 0 }},
		{"array", "00000002 00000007 00000008", func(e *Encoder) { e.Uint32(2); e.Append([]byte{0, 0, 0, 7, 0, 0, 0, 8}) },
			func(d *Decoder) bool { return d.Count(2, 4) == 2 && d.Uint32() == 7 && d.Uint32() == 8 }},
		{"filled in place", "00000003 78797a00", func(e *Encoder) { _, p := e.ReserveOpaque(3); copy(p, "xyz") },
			func(d *Decoder) bool { return string(d.Opaque(3)) == "xyz" }},
		{"trimmed", "00000001 78000000", func(e *Encoder) {
			at, p := e.ReserveOpaque(9)
			copy(p, "xyzxyzxyz")
			e.TrimOpaque(at, 1)
		}, func(d *Decoder) bool { return string(d.Opaque(3)) == "x" }},
	} {
		want := unhex(t, c.bytes)
		dirty := bytes.Repeat([]byte{0xee}, 64)
		e := NewEncoder(dirty)
		c.write(&e)
		if e.Err() != nil || !bytes.Equal(e.Bytes(), want) {
			t.Errorf("%s: wrote %x, %v; want %x", c.name, e.Bytes(), e.Err(), want)
		}
		d := NewDecoder(want)
		if !c.read(&d) || d.Err() != nil || d.Remaining() != 0 || d.Offset() != len(want) {
			t.Errorf("%s: read wrongly: %v, %d bytes left", c.name, d.Err(), d.Remaining())
		}
		for n := range want {
			d := NewDecoder(want[:n])
			c.read(&d)
			if !errors.Is(d.Err(), ErrShort) {
				t.Errorf("%s cut to %d bytes: %v", c.name, n, d.Err())
			}
		}
		for n := range want {
			e := NewEncoder(make([]byte, 0, n))
			c.write(&e)
			if !errors.Is(e.Err(), ErrLimit) || cap(e.Bytes()) > n {
				t.Errorf("%s into %d bytes: %v", c.name, n, e.Err())
			}
		}
	}
}

func TestDecoderRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes string
		read  func(*Decoder)
		want  error
	}{
		{"boolean 2", "00000002", func(d *Decoder) { d.Bool() }, ErrBadBool},
		{"opaque over its maximum", "00000005 6162636465000000", func(d *Decoder) { d.Opaque(4) }, ErrTooLong},
		{"opaque of 4 GiB", "ffffffff 61626364", func(d *Decoder) { d.Opaque(1 << 40) }, ErrShort},
		{"padding not zero", "00000001 61000001", func(d *Decoder) { d.Opaque(4) }, ErrPadding},
		{"padding missing", "00000001 6100", func(d *Decoder) { d.Opaque(4) }, ErrShort},
		{"negative length", "00000000", func(d *Decoder) { d.Fixed(-1) }, ErrShort},
		{"array over its maximum", "00000003 00000000", func(d *Decoder) { d.Count(2, 4) }, ErrTooLong},
		{"array that cannot be there", "40000000 00000000", func(d *Decoder) { d.Count(1<<31, 4) }, ErrShort},
	} {
		b := unhex(t, c.bytes)
		d := NewDecoder(b)
		c.read(&d)
		if !errors.Is(d.Err(), c.want) {
			t.Errorf("%s: %v, want %v", c.name, d.Err(), c.want)
		}
		if d.Uint32() != 0 || d.Uint64() != 0 || len(d.Opaque(9)) != 0 || d.Remaining() != 0 || !errors.Is(d.Err(), c.want) {
			t.Errorf("%s: the failure does not stick", c.name)
		}
	}
}

// What a decoder hands out points into the record and cannot run over what follows.
func TestDecoderDoesNotCopy(t *testing.T) {
	record := unhex(t, "00000001 61000000 00000007")
	d := NewDecoder(record)
	b := d.Opaque(4)
	record[4] = 'z'
	if string(b) != "z" {
		t.Error("the opaque is a copy")
	}
	_ = append(b, 1, 2, 3, 4, 5, 6, 7, 8)
	if d.Uint32() != 7 {
		t.Error("appending to an opaque writes into the record")
	}
	if got := d.Since(8); !bytes.Equal(got, record[8:]) {
		t.Errorf("Since(8) is %x", got)
	}
	if d.Since(-1) != nil || d.Since(99) != nil {
		t.Error("Since goes out of the record")
	}
}

func TestDecoderFork(t *testing.T) {
	d := NewDecoder(unhex(t, "00000001 00000002"))
	d.Uint32()
	fork := d
	fork.Fail(ErrTooLong)
	if d.Uint32() != 2 || d.Err() != nil {
		t.Error("a failure of the copy reaches the original")
	}
}

func TestEncoderTruncate(t *testing.T) {
	e := NewEncoder(make([]byte, 0, 12))
	e.Uint32(1)
	e.Uint32(2)
	e.Opaque([]byte("too long"))
	if !errors.Is(e.Err(), ErrLimit) {
		t.Fatal("the limit does not hold")
	}
	e.Uint32(3)
	if e.Room() != 0 {
		t.Error("there is room after a failure")
	}
	e.Truncate(4)
	e.Uint32(4)
	e.PutUint32At(0, 9)
	e.PutUint32At(8, 9)
	e.PutUint32At(-4, 9)
	if want := unhex(t, "00000009 00000004"); e.Err() != nil || !bytes.Equal(e.Bytes(), want) {
		t.Errorf("%x, %v; want %x", e.Bytes(), e.Err(), want)
	}
	if e.Room() != 4 {
		t.Errorf("room for %d bytes, want 4", e.Room())
	}
}

func TestEncoderSetLimit(t *testing.T) {
	e := NewEncoder(make([]byte, 0, 64))
	e.Uint64(1)
	e.SetLimit(12)
	e.Uint32(2)
	if e.Err() != nil || e.Room() != 0 || e.Limit() != 12 {
		t.Fatalf("%v, room %d", e.Err(), e.Room())
	}
	e.Uint32(3)
	if e.Err() == nil || e.Len() != 12 {
		t.Fatalf("the limit does not hold: %d bytes", e.Len())
	}
	e.SetLimit(64)
	e.Truncate(4)
	e.SetLimit(2)
	if e.Len() != 4 {
		t.Error("a low limit takes away what is written")
	}
	e.Uint32(1)
	if e.Err() == nil {
		t.Error("the limit below the length does not hold")
	}
}

// doubler is a Grower up to max bytes.
type doubler struct{ max, calls int }

func (g *doubler) Grow(old []byte, need int) []byte {
	if need > g.max {
		return nil
	}
	g.calls++
	bigger := make([]byte, max(need, 2*len(old)))
	copy(bigger, old)
	clear(old)
	return bigger
}

func TestEncoderGrows(t *testing.T) {
	var e Encoder
	g := &doubler{max: 1 << 20}
	e.Reset(make([]byte, 8), 1<<16, g)
	if e.Room() != 1<<16 {
		t.Errorf("room for %d bytes", e.Room())
	}
	for i := range uint32(1000) {
		e.Uint32(i)
	}
	p := e.Reserve(1<<16 - 4000)
	if p == nil || e.Err() != nil || g.calls > 12 {
		t.Fatalf("%v after %d calls of Grow", e.Err(), g.calls)
	}
	d := NewDecoder(e.Bytes())
	for i := range uint32(1000) {
		if d.Uint32() != i {
			t.Fatalf("item %d is lost", i)
		}
	}
	e.Uint32(1)
	if !errors.Is(e.Err(), ErrLimit) {
		t.Error("it grows over the limit")
	}
	e.Reset(make([]byte, 8), 1<<30, &doubler{max: 16})
	if e.Reserve(100) != nil || !errors.Is(e.Err(), ErrLimit) {
		t.Error("it goes on when the Grower has no more")
	}
}

func TestEncoderProvides(t *testing.T) {
	var e Encoder
	g := &doubler{max: 1 << 10}
	e.Reset(make([]byte, 8), 64, g)
	e.Uint64(1)
	if !e.Provide(56) || g.calls != 1 || e.Len() != 8 {
		t.Fatalf("room that there is: %v after %d calls of Grow", e.Err(), g.calls)
	}
	if e.Reserve(56) == nil || g.calls != 1 {
		t.Errorf("%d calls of Grow for room that was provided", g.calls)
	}
	e.SetLimit(60)
	if e.Provide(0) || !errors.Is(e.Err(), ErrLimit) || e.Provide(0) {
		t.Error("there is room above the limit")
	}
	e.Reset(make([]byte, 8), 1<<30, g)
	if e.Provide(2<<10) || !errors.Is(e.Err(), ErrLimit) {
		t.Error("there is memory that the Grower has not")
	}
}

func TestEncoderFail(t *testing.T) {
	e := NewEncoder(make([]byte, 0, 64))
	e.Uint32(1)
	own := errors.New("own")
	e.Fail(own)
	e.Fail(ErrLimit)
	e.Uint32(2)
	e.TrimOpaque(0, 0)
	if e.Err() != own || e.Len() != 4 {
		t.Errorf("%v, %d bytes", e.Err(), e.Len())
	}
	var zero Encoder
	zero.Uint32(1)
	if !errors.Is(zero.Err(), ErrLimit) {
		t.Error("the zero encoder takes something")
	}
}

func TestAllocations(t *testing.T) {
	buf, name := make([]byte, 0, 256), []byte("a name")
	if n := testing.AllocsPerRun(100, func() {
		e := NewEncoder(buf)
		e.Uint32(1)
		e.Uint64(2)
		e.Bool(true)
		e.Opaque(name)
		e.String("text")
		e.Fixed(name)
		d := NewDecoder(e.Bytes())
		d.Uint32()
		d.Uint64()
		d.Bool()
		d.Opaque(99)
		d.String(99)
		d.Fixed(len(name))
		if d.Err() != nil || d.Remaining() != 0 {
			t.Fatal(d.Err())
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzDecoder reads arbitrary items from arbitrary bytes: nothing panics, nothing comes from outside the
// record, and failures stick.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6}, []byte("\x00\x00\x00\x04abcd\x00\x00\x00\x01"))
	f.Add([]byte{3, 3, 3}, []byte("\x00\x00\x00\x01a\x00\x00\x00\xff\xff\xff\xff"))
	f.Add([]byte{6, 4, 0}, []byte("\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x02"))
	f.Fuzz(func(t *testing.T, program, record []byte) {
		d := NewDecoder(record)
		for i, op := range program {
			before, failed := d.Offset(), d.Err() != nil
			var out []byte
			switch op % 7 {
			case 0:
				d.Uint32()
			case 1:
				d.Uint64()
			case 2:
				d.Bool()
			case 3:
				out = d.Opaque(int(op))
			case 4:
				out = d.Fixed(int(op) - i)
			case 5:
				out = d.Since(int(op) - 100)
			case 6:
				if n := d.Count(int(op), 4); n*4 > d.Remaining() {
					t.Fatalf("%d elements announced, %d bytes left", n, d.Remaining())
				}
			}
			if d.Offset() < before || d.Offset() > len(record) || len(out) > len(record) || d.Remaining() < 0 {
				t.Fatalf("offset %d to %d of %d", before, d.Offset(), len(record))
			}
			if failed && d.Err() == nil {
				t.Fatal("the failure is gone")
			}
		}
	})
}

func BenchmarkUint32(b *testing.B) {
	record := make([]byte, 4096)
	b.SetBytes(int64(len(record)))
	var sum uint32
	for b.Loop() {
		d := NewDecoder(record)
		for range len(record) / 4 {
			sum += d.Uint32()
		}
	}
	_ = sum
}

func BenchmarkEncodeUint32(b *testing.B) {
	buf := make([]byte, 0, 4096)
	b.SetBytes(int64(cap(buf)))
	for b.Loop() {
		e := NewEncoder(buf)
		for i := range uint32(1024) {
			e.Uint32(i)
		}
	}
}
