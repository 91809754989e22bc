package rpc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/proxy/xdr"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A call made by hand from RFC 5531 §9 and appendix A.
const handMadeCall = `
	0000002a 00000000 00000002  000186a3 00000004 00000001
	00000001 00000024  00000009 00000004 686f7374 000003e8 00000064 00000003 0000000a 0000000b 0000000c
	00000000 00000000
	aabbccdd`

func TestCall(t *testing.T) {
	b := unhex(t, handMadeCall)
	var c Call
	if err := c.parse(b); err != nil {
		t.Fatal(err)
	}
	want := Auth{Flavor: AuthSys, Stamp: 9, Machine: []byte("host"), UID: 1000, GID: 100, GIDs: []uint32{10, 11, 12}}
	if c.XID != 42 || c.Program != 100003 || c.Version != 4 || c.Procedure != 1 || !reflect.DeepEqual(c.Auth, want) {
		t.Errorf("%+v", c)
	}
	if v := c.Args.Uint32(); v != 0xaabbccdd || c.Args.Remaining() != 0 {
		t.Errorf("arguments begin with %x, %d bytes left", v, c.Args.Remaining())
	}
	e := xdr.NewEncoder(make([]byte, 0, 200))
	AppendCall(&e, 42, 100003, 4, 1, &want)
	if !bytes.Equal(e.Bytes(), b[:len(b)-4]) {
		t.Errorf("written %x", e.Bytes())
	}
	for n := range len(b) - 4 {
		if err := c.parse(b[:n]); err == nil {
			t.Errorf("cut to %d bytes it is still a call", n)
		}
	}
}

func TestCallWithoutCredential(t *testing.T) {
	for _, flavor := range []Flavor{AuthNone, AuthTLS} {
		e := xdr.NewEncoder(make([]byte, 0, 200))
		AppendCall(&e, 1, 2, 3, 0, &Auth{Flavor: flavor})
		var c Call
		err := c.parse(e.Bytes())
		if e.Len() != 40 || c.Auth.Flavor != flavor || (flavor == AuthNone) != (err == nil) {
			t.Errorf("flavour %d: %d bytes, %v", flavor, e.Len(), err)
		}
	}
}

func TestReplies(t *testing.T) {
	c := Call{XID: 7}
	const accepted = "00000007 00000001 00000000 00000000 00000000"
	for _, r := range []struct {
		name  string
		write func(*xdr.Encoder)
		bytes string
		err   *RejectedError
	}{
		{"success", func(e *xdr.Encoder) { c.Succeed(e); e.Uint32(5) }, accepted + "00000000 00000005", nil},
		{"program", c.ProgUnavail, accepted + "00000001", &RejectedError{Accept: ProgUnavail}},
		{"version", func(e *xdr.Encoder) { c.ProgMismatch(e, 3, 4) }, accepted + "00000002 00000003 00000004",
			&RejectedError{Accept: ProgMismatch}},
		{"procedure", c.ProcUnavail, accepted + "00000003", &RejectedError{Accept: ProcUnavail}},
		{"garbage", c.GarbageArgs, accepted + "00000004", &RejectedError{Accept: GarbageArgs}},
		{"system", c.SystemErr, accepted + "00000005", &RejectedError{Accept: SystemErr}},
		{"auth", func(e *xdr.Encoder) { c.AuthError(e, AuthTooWeak) }, "00000007 00000001 00000001 00000001 00000005",
			&RejectedError{Denied: true, Auth: AuthTooWeak}},
		{"rpc version", c.versionMismatch, "00000007 00000001 00000001 00000000 00000002 00000002",
			&RejectedError{Denied: true}},
	} {
		e := xdr.NewEncoder(make([]byte, 0, 200))
		r.write(&e)
		if want := unhex(t, r.bytes); !bytes.Equal(e.Bytes(), want) {
			t.Errorf("%s: %x, want %x", r.name, e.Bytes(), want)
		}
		xid, d, err := ParseReply(e.Bytes())
		var rejected *RejectedError
		switch {
		case xid != 7:
			t.Errorf("%s: xid %d", r.name, xid)
		case r.err == nil && (err != nil || d.Uint32() != 5):
			t.Errorf("%s: %v", r.name, err)
		case r.err != nil && (!errors.As(err, &rejected) || *rejected != *r.err || err.Error() == ""):
			t.Errorf("%s: %v", r.name, err)
		}
	}
	for _, s := range []string{"", "00000007 00000000 00000000", "00000007 00000001 00000002",
		accepted, "00000007 00000001 00000001 00000002 00000000", "00000007 00000001 00000001 00000001"} {
		if _, _, err := ParseReply(unhex(t, s)); !errors.Is(err, ErrReply) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name  string
		o     Options
		valid bool
	}{
		{"defaults", Options{}, true},
		{"tiny records", Options{MaxRecordBytes: 10}, false},
		{"huge records", Options{MaxRecordBytes: 1 << 30}, false},
		{"tiny replies", Options{MaxReplyBytes: 10}, false},
		{"no calls", Options{MaxInFlight: -1}, false},
		{"no timeouts", Options{IdleTimeout: -1, RecordTimeout: -1, WriteTimeout: -1, DrainTimeout: -1, Takeover: -1}, true},
	} {
		c.o.EnsureDefaults()
		if err := c.o.Validate(); (err == nil) != c.valid {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	client, server := tcpPair(t)
	if err := ServeConn(t.Context(), server, nil, Options{MaxInFlight: -1}); err == nil {
		t.Error("ServeConn takes options that are not valid")
	}
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the connection is still open: %v", err)
	}
}

func TestBuffers(t *testing.T) {
	p := NewBuffers(DefaultBufferBytes)
	for _, n := range []int{0, 1, readAheadBytes, readAheadBytes + 1, 64 << 10, 256 << 10, 1 << 20, DefaultMaxRecordBytes, 5 << 20} {
		b := p.get(n)
		if len(b.Mem) < n || n > 0 && len(b.Mem) > 10*n && len(b.Mem) > readAheadBytes {
			t.Errorf("%d bytes are wanted, %d given", n, len(b.Mem))
		}
		p.put(b)
	}
	p.put(nil)
	if s := p.Stats(); s != (BufferStats{MaxBytes: DefaultBufferBytes}) {
		t.Errorf("at the end: %+v", s)
	}
}

func TestRecordReader(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	stream := append(record([]byte("one"), 2), record(nil, 9)...)
	stream = append(stream, record(big, 100_000)...)
	stream = append(stream, record([]byte("last"), 100)...)
	r := NewRecordReader(bytes.NewReader(stream), 1<<20)
	var buf []byte
	for _, want := range [][]byte{[]byte("one"), nil, big, []byte("last")} {
		b, err := r.Next(buf)
		if err != nil || !bytes.Equal(b, want) {
			t.Fatalf("%d bytes, %v; want %d", len(b), err, len(want))
		}
		buf = b
	}
	if _, err := r.Next(nil); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for n := 1; n < 10; n++ {
		r := NewRecordReader(bytes.NewReader(stream[:n]), 1<<20)
		if _, err := r.Next(nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	r = NewRecordReader(bytes.NewReader(stream), 2)
	if _, err := r.Next(nil); !errors.Is(err, ErrRecordTooBig) {
		t.Errorf("over the limit: %v", err)
	}
}

// FuzzRecords reads arbitrary bytes, in arbitrary pieces, as records: what comes out are the bytes that
// went in, and no more memory is taken than about twice what arrived.
func FuzzRecords(f *testing.F) {
	f.Add(record([]byte("hello, world"), 5), uint8(3))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3}, uint8(1))
	f.Add(make([]byte, 64), uint8(7))
	f.Fuzz(func(t *testing.T, stream []byte, step uint8) {
		r := NewRecordReader(&stepReader{stream, int(step) + 1}, 1<<16)
		total := 0
		for {
			b, err := r.Next(nil)
			if err != nil {
				return
			}
			total += len(b) + markBytes
			if total > len(stream) || cap(b) > firstRoomBytes {
				t.Fatalf("%d bytes out of %d, room for %d", total, len(stream), cap(b))
			}
		}
	})
}

// stepReader gives a few bytes at a time.
type stepReader struct {
	b    []byte
	step int
}

func (r *stepReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b[:min(r.step, len(r.b))])
	r.b = r.b[n:]
	return n, nil
}

// FuzzCall parses arbitrary bytes as a call, AUTH_SYS included. What is understood can be written again
// and means the same.
func FuzzCall(f *testing.F) {
	f.Add(message(1, procEcho, []byte("argument")))
	e := xdr.NewEncoder(make([]byte, 0, 500))
	AppendCall(&e, 1, 2, 3, 4, &Auth{Flavor: AuthSys, Machine: bytes.Repeat([]byte{'m'}, 255), GIDs: make([]uint32, 16)})
	f.Add(e.Bytes())
	e = xdr.NewEncoder(make([]byte, 0, 500))
	AppendCall(&e, 1, 2, 3, 4, &Auth{})
	f.Add(e.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		var c, again Call
		if c.parse(data) != nil || c.Auth.Flavor == AuthGSS { // FuzzGSS
			return
		}
		if len(c.Auth.GIDs) > MaxGroups || len(c.Auth.Machine) > MaxMachineBytes || c.Args.Offset() > len(data) {
			t.Fatalf("%+v", c)
		}
		e := xdr.NewEncoder(make([]byte, 0, 1000))
		AppendCall(&e, c.XID, c.Program, c.Version, c.Procedure, &c.Auth)
		if err := again.parse(e.Bytes()); err != nil {
			t.Fatal(err)
		}
		c.Args, again.Args = xdr.Decoder{}, xdr.Decoder{}
		if len(c.Auth.GIDs) == 0 {
			c.Auth.GIDs, again.Auth.GIDs = nil, nil
		}
		if !reflect.DeepEqual(c, again) {
			t.Fatalf("%+v, then %+v", c, again)
		}
	})
}

// FuzzReply parses arbitrary bytes as a reply.
func FuzzReply(f *testing.F) {
	c := Call{XID: 7}
	for _, write := range []func(*xdr.Encoder){c.Succeed, c.ProcUnavail, c.versionMismatch,
		func(e *xdr.Encoder) { c.AuthError(e, AuthBadCred) }} {
		e := xdr.NewEncoder(make([]byte, 0, 100))
		write(&e)
		f.Add(e.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, d, err := ParseReply(data); err == nil && d.Offset() > len(data) {
			t.Fatal("results beyond the record")
		}
	})
}

// FuzzServe throws arbitrary bytes at a served connection: it ends, and nothing is left.
func FuzzServe(f *testing.F) {
	f.Add(record(message(1, procEcho, []byte("x")), 1000))
	f.Add(append(record(message(1, procBig, []byte{0, 0, 1, 0}), 30), record(message(2, procFail, nil), 1000)...))
	f.Add([]byte{0x80, 0, 0, 4, 1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, stream []byte) {
		stats := new(Stats)
		gate := make(chan struct{})
		close(gate)
		conn := &scriptConn{in: bytes.NewReader(stream)}
		ServeConn(t.Context(), conn, &testHandler{gate: gate}, Options{Stats: stats, MaxRecordBytes: 1 << 16, MaxReplyBytes: 1 << 16})
		if stats.InFlight.Load() != 0 || stats.Connections.Load() != 0 {
			t.Fatalf("%d calls, %d connections left", stats.InFlight.Load(), stats.Connections.Load())
		}
		for out := conn.out.Bytes(); len(out) > 0; {
			b, err := readRecord(bytes.NewReader(out))
			if err != nil {
				t.Fatalf("half a reply: %v", err)
			}
			if _, _, err := ParseReply(b); errors.Is(err, ErrReply) {
				t.Fatalf("not a reply: %x", b)
			}
			out = out[markBytes+len(b):]
		}
	})
}
