package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// encode returns the bytes of c.
func encode(t testing.TB, c codec) []byte {
	t.Helper()
	e := xdr.NewEncoder(make([]byte, 0, 1<<16))
	c.Encode(&e)
	if e.Err() != nil {
		t.Fatalf("%T: %v", c, e.Err())
	}
	return e.Bytes()
}

// forgetRaw clears what only a decoded Attrs has, wherever there is one in v.
func forgetRaw(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		forgetRaw(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			forgetRaw(v.Index(i))
		}
	case reflect.Struct:
		if a, ok := v.Addr().Interface().(*Attrs); ok {
			a.Raw = nil
			return
		}
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() || v.Type() == reflect.TypeFor[listing]() {
				forgetField(v, i)
			}
		}
	}
}

func forgetField(v reflect.Value, i int) {
	if l, ok := v.Addr().Interface().(*listing); ok {
		for j := range l.entries {
			l.entries[j].Attrs.Raw = nil
		}
		return
	}
	forgetRaw(v.Field(i))
}

// Every sample comes back as it was, uses its bytes exactly, and fails when it is cut anywhere.
func TestRoundTrip(t *testing.T) {
	for _, s := range allSamples() {
		for i, sample := range s.args.list {
			t.Run(fmt.Sprintf("%s %d", s.op, i), func(t *testing.T) { roundTrip(t, sample, s.args.make) })
		}
		for i, sample := range s.res.list {
			t.Run(fmt.Sprintf("%s result %d", s.op, i), func(t *testing.T) { roundTrip(t, sample, s.res.make) })
		}
	}
}

func roundTrip(t *testing.T, sample codec, make func() codec) {
	b := encode(t, sample)
	got := make()
	d := xdr.NewDecoder(b)
	got.Decode(&d)
	if d.Err() != nil || d.Remaining() != 0 {
		t.Fatalf("%x: %v, %d bytes left", b, d.Err(), d.Remaining())
	}
	forgetRaw(reflect.ValueOf(got))
	if !reflect.DeepEqual(got, sample) {
		t.Errorf("got %+v, want %+v", got, sample)
	}
	if again := encode(t, got); !bytes.Equal(again, b) {
		t.Errorf("encoded again: %x, want %x", again, b)
	}
	for n := range b {
		d := xdr.NewDecoder(b[:n])
		make().Decode(&d)
		if !errors.Is(d.Err(), xdr.ErrShort) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(b), d.Err())
		}
	}
	for n := range len(b) {
		e := xdr.NewEncoder(b[:0:0])
		e.Reset(bytes.Clone(b)[:0], n, nil)
		sample.Encode(&e)
		if e.Err() == nil {
			t.Fatalf("fits into %d of %d bytes", n, len(b))
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Bytes put together by hand from RFC 8881.
func TestBytes(t *testing.T) {
	const stateid = "00000003 0102030405060708090a0b0c"
	for _, c := range []struct {
		name  string
		value codec
		bytes string
	}{
		{"SETXATTR", &SetXattrArgs{Option: SETXATTR4_CREATE, Name: []byte("k"), Value: []byte("value")},
			"00000001 00000001 6b000000 00000005 76616c7565000000"},
		{"LISTXATTRS result", &names{ListXattrsRes{Cookie: 1<<32 | 2, Names: [][]byte{[]byte("k")}, EOF: true}},
			"0000000100000002 00000001 00000001 6b000000 00000001"},
		{"SEQUENCE", &SequenceArgs{SessionID: sampleSession, SequenceID: 1, SlotID: 2, HighestSlot: 3, CacheThis: true},
			"0f0e0d0c0b0a09080706050403020100 00000001 00000002 00000003 00000001"},
		{"READ", &ReadArgs{Stateid: sampleStateid, Offset: 0x100, Count: 0x1000}, stateid + "0000000000000100 00001000"},
		{"READ result", &ReadRes{EOF: true, Data: []byte("abcde")}, "00000001 00000005 6162636465000000"},
		{"WRITE", &WriteArgs{Stateid: sampleStateid, Offset: 1, Stable: FILE_SYNC4, Data: []byte("abc")},
			stateid + "0000000000000001 00000002 00000003 61626300"},
		{"GETATTR", &GetAttrArgs{Request: BitmapOf(FATTR4_TYPE, FATTR4_SIZE, FATTR4_MODE)}, "00000002 00000012 00000002"},
		{"attributes", &sampleAttrs, `00000002 00000010 00400012
			00000024
			000000000000004d  000001a0  00000004 31303030
			00000001 fffffffffffffffb 00000006`},
		{"EXCHANGE_ID", &ExchangeIDArgs{Verifier: sampleVerifier, OwnerID: []byte("me"), Flags: 0x101},
			"0807060504030201 00000002 6d650000 00000101 00000000 00000000"},
		{"OPEN of a new file", &OpenArgs{ShareAccess: 2, Owner: sampleOwner, Create: true, CreateMode: EXCLUSIVE4_1,
			Verifier: sampleVerifier, Attrs: Attrs{Mask: BitmapOf(FATTR4_MODE), Mode: 0o644}, Name: []byte("f")},
			`00000000 00000002 00000000  1122334455667788 00000005 6f776e6572000000
			00000001 00000003 0807060504030201  00000002 00000000 00000002 00000004 000001a4
			00000000 00000001 66000000`},
		{"LOCK by a new owner", &LockArgs{Type: READ_LT, Length: 1, NewOwner: true, OpenStateid: sampleStateid, Owner: sampleOwner},
			"00000001 00000000 0000000000000000 0000000000000001 00000001 00000000" + stateid +
				"00000000 1122334455667788 00000005 6f776e6572000000"},
		{"RENAME result", &RenameRes{Source: sampleDir}, `00000001 0000000000000029 000000000000002a
			00000000 0000000000000000 0000000000000000`},
		{"READDIR result", &listing{eof: true, entries: []DirEntry{{Cookie: 3, Name: []byte("a")}}},
			`0807060504030201 00000001 0000000000000003 00000001 61000000 00000000 00000000 00000000 00000001`},
	} {
		if got, want := encode(t, c.value), unhex(t, c.bytes); !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %x", c.name, got, want)
		}
	}
}

// Enums that decide what follows, and lengths over their limits.
func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		into  codec
		bytes string
		want  error
	}{
		{"filehandle of 129 bytes", &PutFHArgs{}, "00000081" + strings.Repeat("00", 132), xdr.ErrTooLong},
		{"owner of 1025 bytes", &ExchangeIDArgs{}, "0000000000000000 00000401" + strings.Repeat("00", 1028), xdr.ErrTooLong},
		{"protection 3", &ExchangeIDArgs{}, "0000000000000000 00000000 00000000 00000003", ErrBadUnion},
		{"two implementation ids", &ExchangeIDArgs{}, "0000000000000000 00000000 00000000 00000000 00000002", xdr.ErrTooLong},
		{"stability 3", &WriteArgs{}, strings.Repeat("00", 24) + "00000003 00000000", ErrBadUnion},
		{"open type 2", &OpenArgs{}, strings.Repeat("00", 24) + "00000002", ErrBadUnion},
		{"create mode 4", &OpenArgs{}, strings.Repeat("00", 24) + "00000001 00000004", ErrBadUnion},
		{"claim 7", &OpenArgs{}, strings.Repeat("00", 24) + "00000000 00000007", ErrBadUnion},
		{"lock type 0", &LockTArgs{}, "00000000", ErrBadUnion},
		{"lock type 5", &LockArgs{}, "00000005", ErrBadUnion},
		{"netloc type 4", &CopyArgs{}, strings.Repeat("00", 64) + "00000001 00000004 00000000", ErrBadUnion},
		{"17 source servers", &CopyArgs{}, strings.Repeat("00", 64) + "00000011" + strings.Repeat("00", 136), xdr.ErrTooLong},
		{"two callback ids", &CopyRes{}, "00000002" + strings.Repeat("00", 40), xdr.ErrTooLong},
		{"setxattr option 3", &SetXattrArgs{}, "00000003", ErrBadUnion},
		{"segment of kind 2", &segments{}, "00000000 00000001 00000002" + strings.Repeat("00", 16), ErrBadUnion},
		{"4097 entries of an ACL", &Attrs{}, "00000001 00001000 00010010 00001001" + strings.Repeat("00", 65548), xdr.ErrTooLong},
		{"secinfo style 2", &SecinfoNoNameArgs{}, "00000002", ErrBadUnion},
		{"callback flavour 2", &BackchannelCtlArgs{}, "00000000 00000001 00000002", ErrBadUnion},
		{"17 callback flavours", &BackchannelCtlArgs{}, "00000000 00000011" + strings.Repeat("00", 68), xdr.ErrTooLong},
		{"17 groups", &BackchannelCtlArgs{}, "00000000 00000001 00000001 00000000 00000000 00000000 00000000 00000011" +
			strings.Repeat("00", 68), xdr.ErrTooLong},
		{"delegation type 6", &Delegation{}, "00000006", ErrBadUnion},
		{"space limit 3", &Delegation{}, "00000002" + strings.Repeat("00", 20) + "00000003", ErrBadUnion},
		{"2^28 stateids", &TestStateidArgs{}, "10000000", xdr.ErrTooLong},
		{"33 bitmap words", &GetAttrArgs{}, "00000021" + strings.Repeat("00", 132), xdr.ErrTooLong},
		{"attribute values left over", &Attrs{}, "00000001 00000010 0000000c 0000000000000001 00000001", xdr.ErrTooLong},
		{"attribute values missing", &Attrs{}, "00000001 00000010 00000004 00000001", xdr.ErrShort},
		{"boolean attribute 2", &Attrs{}, "00000001 00000020 00000004 00000002", xdr.ErrBadBool},
	} {
		d := xdr.NewDecoder(unhex(t, c.bytes))
		c.into.Decode(&d)
		if !errors.Is(d.Err(), c.want) {
			t.Errorf("%s: %v, want %v", c.name, d.Err(), c.want)
		}
	}
}

// Callbacks with RPCSEC_GSS are not made, but what clients say of it is read over; what they offer for an SSV is read.
func TestReadsOver(t *testing.T) {
	ssv := unhex(t, `0000000000000000 00000001 61000000 00000000
		00000002 00000000 00000000
		00000001 00000003 01020300  00000002 00000001 01000000 00000000
		00000001 00000002  00000000`)
	var a ExchangeIDArgs
	d := xdr.NewDecoder(ssv)
	a.Decode(&d)
	want := SSVParms{HashAlgs: [][]byte{{1, 2, 3}}, EncrAlgs: [][]byte{{1}, {}}, Window: 1, NumHandles: 2}
	if d.Err() != nil || d.Remaining() != 0 || a.Protect != SP4_SSV || !reflect.DeepEqual(a.SSV, want) {
		t.Errorf("SSV: %v, %d bytes left, %+v", d.Err(), d.Remaining(), a.SSV)
	}
	gss := unhex(t, "00000007 00000002 00000006 00000001 00000001 61000000 00000000 00000000")
	var b BackchannelCtlArgs
	d = xdr.NewDecoder(gss)
	b.Decode(&d)
	if d.Err() != nil || d.Remaining() != 0 || len(b.Sec) != 2 || b.Sec[0].Flavor != 6 {
		t.Errorf("GSS callback: %v, %d bytes left, %+v", d.Err(), d.Remaining(), b)
	}
	secinfo := unhex(t, "00000002 00000006 00000003 01020300 00000000 00000001 00000001")
	var r SecinfoRes
	d = xdr.NewDecoder(secinfo)
	r.Decode(&d)
	if d.Err() != nil || d.Remaining() != 0 || !reflect.DeepEqual(r.Flavors, []uint32{6, 1}) {
		t.Errorf("SECINFO: %v, %d bytes left, %v", d.Err(), d.Remaining(), r.Flavors)
	}
	for _, c := range []codec{
		&ExchangeIDArgs{Protect: 3}, &BackchannelCtlArgs{Sec: []CallbackSec{{Flavor: 6}}}, &SecinfoRes{Flavors: []uint32{6}},
	} {
		e := xdr.NewEncoder(make([]byte, 0, 999))
		if c.Encode(&e); !errors.Is(e.Err(), ErrBadUnion) {
			t.Errorf("%T writes what it cannot: %v", c, e.Err())
		}
	}
}

func TestCompoundHeads(t *testing.T) {
	a := CompoundArgs{Tag: []byte("tag"), MinorVersion: 1, Ops: 2}
	b := append(encode(t, &a), 0, 0, 0, byte(OP_SAVEFH), 0, 0, 0, byte(OP_RESTOREFH))
	var got CompoundArgs
	d := xdr.NewDecoder(b)
	got.Decode(&d)
	if !reflect.DeepEqual(got, a) || ReadOp(&d) != OP_SAVEFH || ReadOp(&d) != OP_RESTOREFH || d.Err() != nil {
		t.Errorf("%+v, %v", got, d.Err())
	}
	d = xdr.NewDecoder(b[:len(b)-4])
	if got.Decode(&d); !errors.Is(d.Err(), xdr.ErrShort) {
		t.Errorf("more operations announced than there can be: %v", d.Err())
	}

	var w CompoundWriter
	e := xdr.NewEncoder(make([]byte, 0, 200))
	w.Begin(&e, []byte("tag"))
	at := w.BeginOp(OP_PUTROOTFH)
	w.EndOp(at, NFS4_OK)
	at = w.BeginOp(OP_READ)
	e.Reserve(500)
	w.Rewind(at)
	w.EndOp(at, NFS4ERR_REP_TOO_BIG)
	w.End(NFS4ERR_REP_TOO_BIG)
	want := unhex(t, "00002752 00000003 74616700 00000002 00000018 00000000 00000019 00002752")
	if e.Err() != nil || !bytes.Equal(e.Bytes(), want) || w.Ops() != 2 {
		t.Errorf("%x, %v; want %x", e.Bytes(), e.Err(), want)
	}
	d = xdr.NewDecoder(want)
	var r CompoundRes
	r.Decode(&d)
	op, status := ReadResult(&d)
	if r.Status != NFS4ERR_REP_TOO_BIG || r.Ops != 2 || string(r.Tag) != "tag" || op != OP_PUTROOTFH || status != NFS4_OK {
		t.Errorf("%+v, %v %v", r, op, status)
	}
}

func TestReadWriter(t *testing.T) {
	for n := range 9 {
		e := xdr.NewEncoder(bytes.Repeat([]byte{0xee}, 64))
		var w ReadWriter
		p := w.Begin(&e, 8)
		copy(p, "abcdefgh")
		w.End(n, n == 3)
		want := encode(t, &ReadRes{EOF: n == 3, Data: []byte("abcdefgh"[:n])})
		if !bytes.Equal(e.Bytes(), want) {
			t.Errorf("%d bytes: %x, want %x", n, e.Bytes(), want)
		}
	}
	e := xdr.NewEncoder(make([]byte, 0, 64))
	var w ReadWriter
	if p := w.Begin(&e, 100); p != nil || e.Err() == nil {
		t.Error("there is room where there is none")
	}
}

// Entries are added up to each of the three limits, and no byte further.
func TestReaddirLimits(t *testing.T) {
	attrs := Attrs{Mask: BitmapOf(FATTR4_FILEID), FileID: 5}
	one := len(encode(t, &listing{eof: true, entries: []DirEntry{{Cookie: 9, Name: []byte("name"), Attrs: attrs}}}))
	const empty = 16
	each := one - empty
	for _, c := range []struct {
		name               string
		dirCount, maxCount uint32
		room               int
		want               int
		status             Status
	}{
		{"none fits", 0, uint32(one - 1), 1 << 10, 0, NFS4ERR_TOOSMALL},
		{"one fits", 0, uint32(one), 1 << 10, 1, NFS4_OK},
		{"three fit", 0, uint32(empty + 3*each), 1 << 10, 3, NFS4_OK},
		{"not quite four", 0, uint32(empty + 4*each - 1), 1 << 10, 3, NFS4_OK},
		{"the reply is full", 0, 1 << 20, empty + 2*each + 5, 2, NFS4_OK},
		{"dircount", 3 * 16, 1 << 20, 1 << 10, 3, NFS4_OK},
		{"dircount too small for one", 1, 1 << 20, 1 << 10, 1, NFS4_OK},
		{"not even the verifier", 0, 4, 1 << 10, 0, NFS4ERR_TOOSMALL},
		{"no room at all", 0, 100, 0, 0, NFS4ERR_TOOSMALL},
	} {
		e := xdr.NewEncoder(make([]byte, 0, c.room))
		var w ReaddirWriter
		w.Begin(&e, sampleVerifier, c.dirCount, c.maxCount)
		for cookie := uint64(3); cookie < 20 && w.Add(cookie, "name", &attrs); cookie++ {
		}
		status := w.End(false)
		if w.Entries() != c.want || status != c.status {
			t.Errorf("%s: %d entries, %v; want %d, %v", c.name, w.Entries(), status, c.want, c.status)
		}
		if status != NFS4_OK {
			continue
		}
		if e.Err() != nil || e.Len() > int(c.maxCount) || e.Len() > c.room {
			t.Errorf("%s: %d bytes, %v", c.name, e.Len(), e.Err())
		}
		var l listing
		d := xdr.NewDecoder(e.Bytes())
		if l.Decode(&d); d.Err() != nil || d.Remaining() != 0 || len(l.entries) != c.want || l.eof {
			t.Errorf("%s: read back %d entries, %v", c.name, len(l.entries), d.Err())
		}
	}
}

func TestCheckComponent(t *testing.T) {
	for name, want := range map[string]Status{
		"a": NFS4_OK, "...": NFS4_OK, "a b\n": NFS4_OK, "\xff\xfe": NFS4_OK, strings.Repeat("n", 255): NFS4_OK,
		"": NFS4ERR_INVAL, ".": NFS4ERR_BADNAME, "..": NFS4ERR_BADNAME, "a/b": NFS4ERR_BADCHAR, "a\x00": NFS4ERR_BADCHAR,
		strings.Repeat("n", 256): NFS4ERR_NAMETOOLONG,
	} {
		if got := CheckComponent([]byte(name), 255); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

func TestStateids(t *testing.T) {
	a := TestStateidArgs{}
	a.Add(sampleStateid)
	a.Add(CurrentStateid)
	if a.Len() != 2 || a.At(0) != sampleStateid || a.At(1) != CurrentStateid {
		t.Errorf("%d stateids: %v, %v", a.Len(), a.At(0), a.At(1))
	}
}

func TestStrings(t *testing.T) {
	for got, want := range map[string]string{
		NFS4ERR_DELAY.String(): "NFS4ERR_DELAY", Status(4711).Error(): "nfsstat4(4711)", NFS4_OK.String(): "NFS4_OK",
		OP_SEQUENCE.String(): "SEQUENCE", OP_ILLEGAL.String(): "ILLEGAL", Op(2).String(): "nfs_opnum4(2)", Op(76).String(): "nfs_opnum4(76)",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if NFS4_OK.Err() != nil || NFS4ERR_IO.Err() != NFS4ERR_IO {
		t.Error("Err")
	}
}

func TestOpIn(t *testing.T) {
	for _, c := range []struct {
		op Op
		in [4]bool
	}{
		{0, [4]bool{}}, {2, [4]bool{}}, {OP_ACCESS, [4]bool{true, true, true}},
		{OP_RELEASE_LOCKOWNER, [4]bool{true, true, true}}, {OP_BACKCHANNEL_CTL, [4]bool{false, true, true}},
		{OP_RECLAIM_COMPLETE, [4]bool{false, true, true}}, {OP_ALLOCATE, [4]bool{false, false, true}},
		{OP_REMOVEXATTR, [4]bool{false, false, true}}, {76, [4]bool{}}, {OP_ILLEGAL, [4]bool{}},
	} {
		for minor, want := range c.in {
			if got := c.op.In(uint32(minor)); got != want {
				t.Errorf("%v in minor version %d: %v", c.op, minor, got)
			}
		}
	}
}

func TestAllocations(t *testing.T) {
	buf := make([]byte, 0, 8192)
	data, handle := make([]byte, 4096), []byte("handle")
	mask := KnownAttrs.Without(BitmapOf(FATTR4_FILEHANDLE))
	reply := new(xdr.Encoder) // a server's is on the heap, as part of its reply
	for name, f := range map[string]func(){
		"SEQUENCE": func() {
			e := xdr.NewEncoder(buf)
			(&SequenceArgs{}).Encode(&e)
			(&SequenceRes{}).Encode(&e)
			d := xdr.NewDecoder(e.Bytes())
			(&SequenceArgs{}).Decode(&d)
			(&SequenceRes{}).Decode(&d)
		},
		"READ": func() {
			e := reply
			e.Reset(buf, cap(buf), nil)
			(&PutFHArgs{Handle: handle}).Encode(e)
			(&ReadArgs{}).Encode(e)
			var w ReadWriter
			w.Begin(e, 4096)
			w.End(4000, true)
			d := xdr.NewDecoder(e.Bytes())
			(&PutFHArgs{}).Decode(&d)
			(&ReadArgs{}).Decode(&d)
			(&ReadRes{}).Decode(&d)
		},
		"WRITE": func() {
			e := xdr.NewEncoder(buf)
			(&WriteArgs{Data: data}).Encode(&e)
			(&WriteRes{}).Encode(&e)
			d := xdr.NewDecoder(e.Bytes())
			(&WriteArgs{}).Decode(&d)
			(&WriteRes{}).Decode(&d)
		},
		"GETATTR": func() {
			e := xdr.NewEncoder(buf)
			(&GetAttrArgs{Request: mask}).Encode(&e)
			a := Attrs{Mask: mask}
			a.Encode(&e)
			d := xdr.NewDecoder(e.Bytes())
			(&GetAttrArgs{}).Decode(&d)
			a.Decode(&d)
			if d.Err() != nil {
				t.Error(d.Err())
			}
		},
		"READDIR": func() {
			reply.Reset(buf, cap(buf), nil)
			a := Attrs{Mask: BitmapOf(FATTR4_FILEID)}
			var w ReaddirWriter
			w.Begin(reply, Verifier{}, 0, 4096)
			w.Add(3, "name", &a)
			w.End(true)
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
