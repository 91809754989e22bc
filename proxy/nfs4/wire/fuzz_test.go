package wire

import (
	"bytes"
	"testing"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// FuzzArgs decodes the arguments and the results of every operation from arbitrary bytes. Nothing
// panics; what decodes can be encoded, decodes again, and is the same the second time.
func FuzzArgs(f *testing.F) {
	all := allSamples()
	for i, s := range all {
		for _, c := range s.args.list {
			f.Add(uint8(i), false, encode(f, c))
		}
		for _, c := range s.res.list {
			f.Add(uint8(i), true, encode(f, c))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, results bool, data []byte) {
		s := all[int(which)%len(all)]
		kind := s.args
		if results {
			kind = s.res
		}
		if kind.make != nil {
			stable(t, kind.make, data)
		}
	})
}

// FuzzAttrs does the same for attributes.
func FuzzAttrs(f *testing.F) {
	full := fullAttrs()
	f.Add(encode(f, &full))
	f.Add(encode(f, &sampleAttrs))
	f.Add([]byte{0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		stable(t, func() codec { return new(Attrs) }, data)
	})
}

// FuzzCompound walks a whole COMPOUND as a server does.
func FuzzCompound(f *testing.F) {
	all := make(map[Op]opSamples)
	for _, s := range allSamples() {
		all[s.op] = s
		b := encode(f, &CompoundArgs{Tag: []byte("t"), MinorVersion: 1, Ops: 1})
		b = append(b, 0, 0, 0, byte(s.op))
		for _, c := range s.args.list {
			f.Add(append(bytes.Clone(b), encode(f, c)...))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := xdr.NewDecoder(data)
		var head CompoundArgs
		head.Decode(&d)
		if head.Ops > len(data)/4 {
			t.Fatalf("%d operations in %d bytes", head.Ops, len(data))
		}
		for range head.Ops {
			s, known := all[ReadOp(&d)]
			if !known || d.Err() != nil {
				return
			}
			if s.args.make != nil {
				s.args.make().Decode(&d)
			}
		}
	})
}

// stable decodes, encodes and decodes again.
func stable(t *testing.T, make_ func() codec, data []byte) {
	first := make_()
	d := xdr.NewDecoder(data)
	first.Decode(&d)
	if d.Err() != nil {
		return
	}
	if d.Offset() > len(data) {
		t.Fatalf("read %d bytes of %d", d.Offset(), len(data))
	}
	b, ok := tryEncode(first, len(data)+1024)
	if !ok {
		return // read over, not to be written: RPCSEC_GSS
	}
	second := make_()
	d = xdr.NewDecoder(b)
	second.Decode(&d)
	if d.Err() != nil || d.Remaining() != 0 {
		t.Fatalf("%x encodes as %x, which does not decode: %v", data, b, d.Err())
	}
	if again, _ := tryEncode(second, len(b)); !bytes.Equal(again, b) {
		t.Fatalf("%x, then %x", b, again)
	}
}

func tryEncode(c codec, limit int) ([]byte, bool) {
	e := xdr.NewEncoder(make([]byte, 0, limit))
	c.Encode(&e)
	return e.Bytes(), e.Err() == nil
}
