package wire

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// oneByOne encodes a as Encode does what is not plain.
type oneByOne struct{ *Attrs }

func (a oneByOne) Encode(e *xdr.Encoder) {
	a.Mask.Encode(e)
	at := e.Len()
	e.Uint32(0)
	for n := range a.Mask.All() {
		a.encodeOne(e, n)
	}
	e.PutUint32At(at, uint32(e.Len()-at-4))
}

func (oneByOne) Decode(*xdr.Decoder) {}

// randomPlain are random values of plain attributes, of all lengths that they can have.
func randomPlain(r *rand.Rand) Attrs {
	a := fullAttrs()
	for n := range plainAttrs.All() {
		if a.Mask.Clear(n); r.IntN(4) > 0 {
			a.Mask.Set(n)
		}
	}
	a.Mask = a.Mask.And(plainAttrs)
	a.Filehandle = bytes.Repeat([]byte{0xa5}, r.IntN(MaxHandleBytes+1))
	for _, p := range []*Principal{&a.Owner, &a.OwnerGroup} {
		*p = Principal{ID: r.Uint32() >> r.IntN(32)}
		if r.IntN(3) == 0 {
			p.Name = bytes.Repeat([]byte{'n'}, r.IntN(40))
		}
	}
	a.Change, a.Size, a.TimeModify = r.Uint64(), r.Uint64(), Time{Sec: -r.Int64(), Nsec: r.Uint32()}
	return a
}

// What is written at one go is what is written one by one, and there is as much room for it.
func TestAttrsPlain(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		a := randomPlain(r)
		want := encode(t, oneByOne{&a})
		if got := encode(t, &a); !bytes.Equal(got, want) {
			t.Fatalf("%+v:\n%x, want\n%x", a, got, want)
		}
		dirty := bytes.Repeat([]byte{0xff}, 2*len(want)+1024)
		e := xdr.NewEncoder(dirty)
		if a.Encode(&e); !bytes.Equal(e.Bytes(), want) {
			t.Fatalf("%+v: in a used buffer %x, want %x", a, e.Bytes(), want)
		}
		e.Reset(dirty, len(want), nil)
		if a.Encode(&e); e.Err() != nil || !bytes.Equal(e.Bytes(), want) {
			t.Fatalf("%+v: where there is just the room: %v", a, e.Err())
		}
		e.Reset(dirty, len(want)-4, nil)
		if a.Encode(&e); e.Err() == nil {
			t.Fatalf("%+v: there was the room for it without the last four bytes", a)
		}
	}
}

// Encode takes the short way for plain attributes, and for no others.
func TestEncodePlain(t *testing.T) {
	full := fullAttrs()
	for n := range KnownAttrs.All() {
		mask := plainAttrs
		mask.Set(n)
		full.Mask = mask
		want := encode(t, oneByOne{&full})
		if got := encode(t, &full); !bytes.Equal(got, want) {
			t.Errorf("with attribute %d: %x, want %x", n, got, want)
		}
	}
	full.Mask = plainAttrs
	e := xdr.NewEncoder(make([]byte, 0, 1<<10))
	want := encode(t, oneByOne{&full})[4+2*4:] // behind the set
	if !full.encodePlain(&e, &full.Mask) || !bytes.Equal(e.Bytes(), want) {
		t.Errorf("plain attributes: %x, want %x", e.Bytes(), want)
	}
}
