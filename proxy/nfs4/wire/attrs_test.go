package wire

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// fullAttrs has a different value in every field.
func fullAttrs() Attrs {
	a := Attrs{Mask: KnownAttrs}
	v := reflect.ValueOf(&a).Elem()
	n := uint64(1)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name == "Mask" || name == "Unknown" || name == "Raw" {
			continue
		}
		fillValue(v.Field(i), &n)
	}
	a.Owner.Name, a.OwnerGroup.ID = nil, 0
	return a
}

// fillValue puts successive numbers into v.
func fillValue(v reflect.Value, n *uint64) {
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(*n)
	case reflect.Int64:
		v.SetInt(-int64(*n))
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			v.Set(reflect.MakeSlice(v.Type(), 2, 2))
			fillValue(v.Index(0), n)
			fillValue(v.Index(1), n)
			return
		}
		v.SetBytes([]byte{byte(*n), 'x'})
	case reflect.Array:
		for i := range v.Len() {
			fillValue(v.Index(i), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fillValue(v.Field(i), n)
		}
	}
}

// Each attribute travels alone and with all others, and no other field changes.
func TestAttrsEach(t *testing.T) {
	full := fullAttrs()
	for n := range KnownAttrs.All() {
		one := full
		one.Mask = BitmapOf(n)
		b := encode(t, &one)
		var got Attrs
		d := xdr.NewDecoder(b)
		got.Decode(&d)
		if d.Err() != nil || got.Unknown || got.Mask != one.Mask || len(got.Raw) == 0 {
			t.Fatalf("attribute %d: %x, %v", n, b, d.Err())
		}
		if changed := nonZero(&got); len(changed) != 1 {
			t.Errorf("attribute %d sets %v", n, changed)
		}
		if again := encode(t, &got); !bytes.Equal(again, b) {
			t.Errorf("attribute %d: %x, then %x", n, b, again)
		}
	}
	var got Attrs
	d := xdr.NewDecoder(encode(t, &full))
	got.Decode(&d)
	got.Raw = nil
	if d.Err() != nil || !reflect.DeepEqual(got, full) {
		t.Errorf("all: got %+v, want %+v", got, full)
	}
}

// nonZero names the fields that have a value.
func nonZero(a *Attrs) (names []string) {
	v := reflect.ValueOf(a).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if !v.Field(i).IsZero() && name != "Mask" && name != "Raw" {
			names = append(names, name)
		}
	}
	return names
}

// Unknown attributes are never written, and make a decoded set unknown as a whole.
func TestAttrsUnknown(t *testing.T) {
	a := Attrs{Mask: BitmapOf(FATTR4_ARCHIVE, FATTR4_SIZE, FATTR4_SEC_LABEL), Size: 5}
	if got, want := encode(t, &a), unhex(t, "00000001 00000010 00000008 0000000000000005"); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	for _, s := range []string{
		"00000001 00004010 00000004 aabbccdd",                            // archive
		"00000004 00000010 00000000 00000000 00000001 00000004 aabbccdd", // number 96
	} {
		var got Attrs
		d := xdr.NewDecoder(unhex(t, s))
		got.Decode(&d)
		if d.Err() != nil || !got.Unknown || d.Remaining() != 0 || len(got.Raw) != 4 {
			t.Errorf("%s: unknown %v, %v", s, got.Unknown, d.Err())
		}
	}
	var got Attrs
	d := xdr.NewDecoder(unhex(t, "00000005 00000010 00000000 00000000 00000000 00000000 00000008 0000000000000007"))
	if got.Decode(&d); d.Err() != nil || got.Unknown || got.Size != 7 {
		t.Errorf("empty words: unknown %v, size %d, %v", got.Unknown, got.Size, d.Err())
	}
}

func TestPrincipal(t *testing.T) {
	for text, want := range map[string]Principal{
		"0": {}, "7": {ID: 7}, "4294967295": {ID: 4294967295},
		"4294967296": {Name: []byte("4294967296")}, "99999999999": {Name: []byte("99999999999")},
		"007": {Name: []byte("007")}, "": {Name: []byte{}}, "-1": {Name: []byte("-1")}, "12a": {Name: []byte("12a")},
		"root@example.org": {Name: []byte("root@example.org")},
	} {
		e := xdr.NewEncoder(make([]byte, 0, 64))
		e.String(text)
		d := xdr.NewDecoder(e.Bytes())
		var p Principal
		p.Decode(&d)
		if d.Err() != nil || !reflect.DeepEqual(p, want) {
			t.Errorf("%q: %+v, want %+v", text, p, want)
		}
		again := xdr.NewEncoder(make([]byte, 0, 64))
		if p.Encode(&again); !bytes.Equal(again.Bytes(), e.Bytes()) {
			t.Errorf("%q comes back as %x", text, again.Bytes())
		}
	}
}

func TestBitmap(t *testing.T) {
	b := BitmapOf(0, 31, 32, 95)
	b.Set(96)
	b.Set(4_000_000_000)
	if b != (Bitmap{1 | 1<<31, 1, 1 << 31}) {
		t.Errorf("%x", b)
	}
	if !b.Has(95) || b.Has(94) || b.Has(96) {
		t.Error("Has")
	}
	if got := slices.Collect(b.All()); !slices.Equal(got, []AttrNumber{0, 31, 32, 95}) {
		t.Errorf("All: %v", got)
	}
	for n := range b.All() {
		if n == 31 {
			break
		}
	}
	b.Clear(95)
	b.Clear(96)
	if b.And(BitmapOf(31, 33)) != BitmapOf(31) || b.Or(BitmapOf(33)) != BitmapOf(0, 31, 32, 33) || b.Without(BitmapOf(0, 1)) != BitmapOf(31, 32) {
		t.Error("And, Or or Without")
	}
	if b.IsZero() || !b.Without(b).IsZero() {
		t.Error("IsZero")
	}
	if got := encode(t, &GetAttrArgs{Request: b}); !bytes.Equal(got, unhex(t, "00000002 80000001 00000001")) {
		t.Errorf("encoded %x", got)
	}
	if got := encode(t, &GetAttrArgs{}); !bytes.Equal(got, make([]byte, 4)) {
		t.Errorf("the empty set is %x", got)
	}
}
