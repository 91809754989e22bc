package tlsrecord

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"math"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/tlsrecord/sessiontest"
)

// secretPair returns two directions with different keys.
func secretPair(v13 bool) (a, b *direction) {
	a, b = &direction{seq: 1, v13: v13}, &direction{seq: 1, v13: v13}
	for i, d := range []*direction{a, b} {
		copy(d.key[:], sessiontest.Random(32+i))
		copy(d.secret[:], sessiontest.Random(48+i))
		copy(d.iv[:saltBytes], sessiontest.Random(4+i))
		if v13 {
			copy(d.iv[:], sessiontest.Random(12+i))
		}
	}
	return a, b
}

// eachKind runs f with records of TLS 1.2 and of 1.3.
func eachKind(t *testing.T, f func(t *testing.T, v13 bool)) {
	t.Run("TLS 1.2", func(t *testing.T) { f(t, false) })
	t.Run("TLS 1.3", func(t *testing.T) { f(t, true) })
}

// hostile is a Conn and, at the other end of its connection, halves that make any record.
type hostile struct {
	conn *Conn
	raw  net.Conn
	out  half // to conn
	in   half // from conn
}

func newHostile(t testing.TB, v13 bool) *hostile {
	t.Helper()
	a, b := sessiontest.Wire(t)
	in, out := secretPair(v13)
	h := &hostile{raw: b}
	var err error
	if h.conn, err = newConn(a, in, out); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.out.init(in), h.in.init(out)); err != nil {
		t.Fatal(err)
	}
	h.conn.isServer = true
	t.Cleanup(func() { h.conn.Close() })
	return h
}

// record seals one.
func (h *hostile) record(kind byte, plain []byte) []byte {
	b := make([]byte, len(plain)+overheadBytes)
	n, err := h.out.seal(b, kind, plain)
	if err != nil {
		panic(err)
	}
	return b[:n]
}

// next reads and opens the next record that conn sends.
func (h *hostile) next() (kind byte, plain []byte, err error) {
	h.raw.SetReadDeadline(time.Now().Add(10 * time.Second))
	header := make([]byte, headerBytes)
	if _, err := io.ReadFull(h.raw, header); err != nil {
		return 0, nil, err
	}
	record := append(header, make([]byte, binary.BigEndian.Uint16(header[3:]))...)
	if _, err := io.ReadFull(h.raw, record[headerBytes:]); err != nil {
		return 0, nil, err
	}
	return h.in.open(nil, record)
}

// alert reads the next record that conn sends, which is to be an alert.
func (h *hostile) alert() (Alert, error) {
	kind, plain, err := h.next()
	if err != nil || kind != TypeAlert || len(plain) != alertBytes {
		return 0, errors.Join(err, errors.New("not an alert"))
	}
	return Alert(plain[1]), nil
}

// hostileCase is something wrong that follows a good record.
type hostileCase struct {
	bytes func(h *hostile) []byte
	err   error
	alert Alert
}

// none is the alert that is not sent.
const none = Alert(255)

// flip makes a record with one bit changed, of a byte counted from its end if at is negative.
func flip(at int) func(h *hostile) []byte {
	return func(h *hostile) []byte {
		b := h.record(TypeApplication, []byte("sixteen bytes...."))
		b[(at+len(b))%len(b)] ^= 1
		return b
	}
}

// header makes a record of zeros.
func header(kind byte, version, length uint16) func(h *hostile) []byte {
	return func(*hostile) []byte {
		b := make([]byte, headerBytes+int(length))
		b[0] = kind
		binary.BigEndian.PutUint16(b[1:], version)
		binary.BigEndian.PutUint16(b[3:], length)
		return b
	}
}

// genuine makes a record of that type.
func genuine(kind byte, data ...byte) func(h *hostile) []byte {
	return func(h *hostile) []byte { return h.record(kind, data) }
}

// behind makes a record of data after what first makes.
func behind(first func(h *hostile) []byte) func(h *hostile) []byte {
	return func(h *hostile) []byte { return append(first(h), h.record(TypeApplication, []byte("after"))...) }
}

// hostileRecords are those of both versions.
var hostileRecords = map[string]hostileCase{
	"flipped nonce":      {flip(5), ErrBadRecord, AlertBadRecordMAC},
	"flipped ciphertext": {flip(20), ErrBadRecord, AlertBadRecordMAC},
	"flipped tag":        {flip(-1), ErrBadRecord, AlertBadRecordMAC},
	"another version":    {flip(2), ErrVersion, AlertProtocolVersion},
	"repeated": {func(h *hostile) []byte {
		b := h.record(TypeApplication, []byte("once"))
		return append(b, b...)
	}, ErrBadRecord, AlertBadRecordMAC},
	"left out": {func(h *hostile) []byte {
		h.record(TypeApplication, []byte("lost"))
		return h.record(TypeApplication, []byte("next"))
	}, ErrBadRecord, AlertBadRecordMAC},
	"unknown type":         {header(99, version, 40), ErrUnexpected, AlertUnexpectedMessage},
	"change cipher spec":   {genuine(20, 1), ErrUnexpected, AlertUnexpectedMessage},
	"long alert":           {genuine(TypeAlert, 2, 40, 0), errAlert, AlertDecodeError},
	"alert of no level":    {genuine(TypeAlert, 7, 40), errAlert, AlertDecodeError},
	"fatal alert":          {genuine(TypeAlert, 2, 40), Alert(40), none},
	"end":                  {genuine(TypeAlert, 1, 0), io.EOF, none},
	"fatal end":            {genuine(TypeAlert, 2, 0), io.EOF, none},
	"endless empty ones":   {func(h *hostile) []byte { return many(h, TypeApplication) }, ErrUnexpected, AlertUnexpectedMessage},
	"endless warnings":     {func(h *hostile) []byte { return many(h, TypeAlert, 1, 90) }, ErrUnexpected, AlertUnexpectedMessage},
	"plaintext":            {func(*hostile) []byte { return []byte("GET / HTTP/1.1\r\n") }, ErrUnexpected, AlertUnexpectedMessage},
	"data behind the flaw": {behind(flip(-1)), ErrBadRecord, AlertBadRecordMAC},
}

// hostile12 and hostile13 are those of one.
var hostile12 = map[string]hostileCase{
	"another type":      {flip(0), ErrBadRecord, AlertBadRecordMAC}, // a handshake record that is not genuine
	"no room for a tag": {header(TypeApplication, version, 23), ErrBadRecord, AlertBadRecordMAC},
	"too long":          {header(TypeApplication, version, max12Bytes-headerBytes+1), ErrOverflow, AlertRecordOverflow},
	"hello request":     {genuine(TypeHandshake, 0, 0, 0, 0), ErrRenegotiation, AlertNoRenegotiation},
}

var hostile13 = map[string]hostileCase{
	"another type":      {flip(0), ErrUnexpected, AlertUnexpectedMessage},
	"no room for a tag": {header(TypeApplication, version, 16), ErrBadRecord, AlertBadRecordMAC},
	"too long":          {header(TypeApplication, version, maxRecordBytes-headerBytes+1), ErrOverflow, AlertRecordOverflow},
	"too much in it":    {genuine(TypeApplication, make([]byte, MaxPlaintextBytes+1)...), ErrOverflow, AlertRecordOverflow},
	"nothing but zeros": {genuine(0, 0, 0), ErrUnexpected, AlertUnexpectedMessage},
	"a warning":         {genuine(TypeAlert, 1, 40), Alert(40), none},
	"client hello":      {genuine(TypeHandshake, 1, 0, 0, 0), ErrUnexpected, AlertUnexpectedMessage},
	"ticket of a client": {
		genuine(TypeHandshake, messageTicket, 0, 0, 1, 0), ErrUnexpected, AlertUnexpectedMessage,
	},
	"empty handshake":      {genuine(TypeHandshake), ErrUnexpected, AlertUnexpectedMessage},
	"part of a message":    {genuine(TypeHandshake, KeyUpdate[:4]...), ErrUnexpected, AlertUnexpectedMessage},
	"part of a header":     {genuine(TypeHandshake, 24, 0), ErrUnexpected, AlertUnexpectedMessage},
	"update of no kind":    {genuine(TypeHandshake, 24, 0, 0, 1, 2), ErrHandshake, AlertDecodeError},
	"empty update":         {genuine(TypeHandshake, 24, 0, 0, 0), ErrHandshake, AlertDecodeError},
	"two updates":          {genuine(TypeHandshake, 24, 0, 0, 1, 0, 24, 0, 0, 1, 0), ErrUnexpected, AlertUnexpectedMessage},
	"old keys after it":    {behind(genuine(TypeHandshake, KeyUpdate[:]...)), ErrBadRecord, AlertBadRecordMAC},
	"endless new keys":     {endlessUpdates, ErrUnexpected, AlertUnexpectedMessage},
	"unencrypted, genuine": {header(TypeHandshake, version, 40), ErrUnexpected, AlertUnexpectedMessage},
}

// endlessUpdates changes the keys without end.
func endlessUpdates(h *hostile) []byte {
	var all []byte
	for range MaxUseless + 1 {
		all = append(all, h.record(TypeHandshake, KeyUpdate[:])...)
		if err := h.out.update(); err != nil {
			panic(err)
		}
	}
	return all
}

// TestHostileRecords: what is wrong with a record ends the session, with the alert that says so, and
// nothing that came after it is read.
func TestHostileRecords(t *testing.T) {
	eachKind(t, func(t *testing.T, v13 bool) {
		cases := maps.Clone(hostileRecords)
		if v13 {
			maps.Copy(cases, hostile13)
		} else {
			maps.Copy(cases, hostile12)
		}
		for name, c := range cases {
			t.Run(name, func(t *testing.T) { c.try(t, newHostile(t, v13), readAll) })
			t.Run(name+", moved on", func(t *testing.T) { c.try(t, newHostile(t, v13), moveAll(t)) })
		}
	})
}

// try has all that arrives read.
func (c *hostileCase) try(t *testing.T, h *hostile, read func(*Conn) outcome) {
	good := h.record(TypeApplication, []byte("good"))
	if _, err := h.raw.Write(append(good, c.bytes(h)...)); err != nil {
		t.Fatal(err)
	}
	got := read(h.conn)
	if !errors.Is(got.err, c.err) || strings.TrimSuffix(got.text, "once") != "good" {
		t.Fatalf("read %q, %v; want %v", got.text, got.err, c.err)
	}
	if again := readAll(h.conn); again.err != got.err || again.text != "" {
		t.Errorf("a second read: %q, %v", again.text, again.err)
	}
	if c.alert == none {
		return
	}
	if alert, err := h.alert(); err != nil || alert != c.alert {
		t.Errorf("alert %d, %v; want %d", alert, err, c.alert)
	}
	if _, err := h.conn.Write([]byte("more")); !errors.Is(err, ErrShut) {
		t.Errorf("a write after the alert: %v", err)
	}
}

// TestKeyUpdate: keys change in both directions, when the peer asks for it and when enough was sent, and
// the secrets of a session that is over are gone.
func TestKeyUpdate(t *testing.T) {
	h := newHostile(t, true)
	exchange := func(text string) {
		t.Helper()
		h.raw.Write(h.record(TypeApplication, []byte(text)))
		buf := make([]byte, 10)
		if n, err := h.conn.Read(buf); err != nil || string(buf[:n]) != text {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	}
	exchange("before")
	h.raw.Write(h.record(TypeHandshake, []byte{messageKeyUpdate, 0, 0, 1, updateRequested}))
	if err := h.out.update(); err != nil {
		t.Fatal(err)
	}
	exchange("after")
	h.expect(t, TypeHandshake, KeyUpdate[:], func() error { _, err := h.conn.Write([]byte("data")); return err })
	if err := h.in.update(); err != nil {
		t.Fatal(err)
	}
	h.expect(t, TypeApplication, []byte("data"), nil)
	h.conn.out.seq, h.in.seq = UpdateRecords, UpdateRecords
	h.expect(t, TypeHandshake, KeyUpdate[:], func() error { _, err := h.conn.Write([]byte("more")); return err })
	if err := h.in.update(); err != nil {
		t.Fatal(err)
	}
	h.expect(t, TypeApplication, []byte("more"), nil)
	h.conn.Close()
	if none := [secretBytes]byte{}; h.conn.in.secret != none || h.conn.out.secret != none {
		t.Error("a secret is left after Close")
	}
}

// expect runs do, if it is not nil, and reads one record that conn sends.
func (h *hostile) expect(t *testing.T, kind byte, plain []byte, do func() error) {
	t.Helper()
	if do != nil {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	gotKind, got, err := h.next()
	if err != nil || gotKind != kind || !bytes.Equal(got, plain) {
		t.Fatalf("a record of type %d with %q, %v; want %d, %q", gotKind, got, err, kind, plain)
	}
}

// many is one record more than is put up with.
func many(h *hostile, kind byte, data ...byte) []byte {
	var all []byte
	for range MaxUseless + 1 {
		all = append(all, h.record(kind, data)...)
	}
	return all
}

type outcome struct {
	text string
	err  error
}

// readAll reads until there is nothing more.
func readAll(c *Conn) outcome {
	var o outcome
	buf := make([]byte, 100)
	for {
		n, err := c.Read(buf)
		o.text += string(buf[:n])
		if err != nil {
			o.err = err
			return o
		}
	}
}

// TestWarningsAreLetPass, and empty records, as long as data comes between.
func TestWarningsAreLetPass(t *testing.T) {
	h := newHostile(t, false)
	for range 3 * MaxUseless {
		h.raw.Write(h.record(TypeApplication, nil))
		h.raw.Write(h.record(TypeAlert, []byte{levelWarning, 90}))
		h.raw.Write(h.record(TypeApplication, []byte("x")))
	}
	h.raw.Write(h.record(TypeAlert, []byte{levelWarning, 0}))
	if got := readAll(h.conn); got.err != io.EOF || got.text != strings.Repeat("x", 3*MaxUseless) {
		t.Errorf("%q, %v", got.text, got.err)
	}
}

// TestTruncation: an end of the connection is not the session's end.
func TestTruncation(t *testing.T) { eachKind(t, testTruncation) }

func testTruncation(t *testing.T, v13 bool) {
	for name, cut := range map[string]int{"between records": 0, "within a record": 3, "within a header": 30} {
		h := newHostile(t, v13)
		b := h.record(TypeApplication, []byte("good"))
		b = append(b, h.record(TypeApplication, []byte("cut"))...)
		h.raw.Write(b[:len(b)-cut])
		h.raw.Close()
		got := readAll(h.conn)
		if !errors.Is(got.err, ErrTruncated) || !errors.Is(got.err, io.ErrUnexpectedEOF) || errors.Is(got.err, io.EOF) {
			t.Errorf("%s: %v", name, got.err)
		}
	}
}

// TestSequenceOverflow: the last sequence number is not used, and none is used twice.
func TestSequenceOverflow(t *testing.T) { eachKind(t, testSequenceOverflow) }

func testSequenceOverflow(t *testing.T, v13 bool) {
	h := newHostile(t, v13)
	h.conn.out.seq = math.MaxUint64 - 1
	if v13 {
		h.conn.out.seq++ // with one left, Write would change the keys
	} else if _, err := h.conn.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := h.conn.Write([]byte("one more")); !errors.Is(err, ErrExhausted) {
			t.Errorf("write: %v", err)
		}
	}
	h.out.seq, h.conn.in.seq = math.MaxUint64-1, math.MaxUint64-1
	last := h.record(TypeApplication, []byte("last"))
	h.raw.Write(append(last, last...))
	if got := readAll(h.conn); got.text != "last" || !errors.Is(got.err, ErrExhausted) {
		t.Errorf("read: %q, %v", got.text, got.err)
	}
}

// TestReadDeadline: a read that waited in vain, in the middle of a record, can be done again.
func TestReadDeadline(t *testing.T) { eachKind(t, testReadDeadline) }

func testReadDeadline(t *testing.T, v13 bool) {
	h := newHostile(t, v13)
	b := h.record(TypeApplication, []byte("late"))
	h.raw.Write(b[:20])
	h.conn.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	if got := readAll(h.conn); !errors.Is(got.err, os.ErrDeadlineExceeded) || got.text != "" {
		t.Fatalf("%q, %v", got.text, got.err)
	}
	h.conn.SetReadDeadline(time.Time{})
	h.raw.Write(b[20:])
	buf := make([]byte, 10)
	if n, err := h.conn.Read(buf); err != nil || string(buf[:n]) != "late" {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

// TestWriteDeadline: a write that a peer does not fetch fails, and so do all that follow.
func TestWriteDeadline(t *testing.T) { eachKind(t, testWriteDeadline) }

func testWriteDeadline(t *testing.T, v13 bool) {
	h := newHostile(t, v13)
	h.conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := h.conn.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	h.conn.SetWriteDeadline(time.Time{})
	if _, err := h.conn.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// TestCloseUnderCalls: Close ends a read and a write that wait, and gives their memory back.
func TestCloseUnderCalls(t *testing.T) { eachKind(t, testCloseUnderCalls) }

func testCloseUnderCalls(t *testing.T, v13 bool) {
	h := newHostile(t, v13)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := h.conn.Read(make([]byte, 10)); err == nil {
			t.Error("read something")
		}
	})
	wg.Go(func() {
		if _, err := h.conn.Write(make([]byte, 64<<20)); err == nil {
			t.Error("wrote all")
		}
	})
	time.Sleep(50 * time.Millisecond)
	start := time.Now()
	if err := h.conn.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if time.Since(start) > AlertTimeout {
		t.Error("Close waited for the writer")
	}
	if h.conn.in.buf != nil {
		t.Error("a buffer is left")
	}
	if err := h.conn.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a second Close: %v", err)
	}
}

// TestIdleMemory: nothing is held while nothing was received, little while a record is incomplete.
func TestIdleMemory(t *testing.T) { eachKind(t, testIdleMemory) }

func testIdleMemory(t *testing.T, v13 bool) {
	h := newHostile(t, v13)
	held := func(wait time.Duration) int {
		h.conn.SetReadDeadline(time.Now().Add(wait))
		for {
			if _, err := h.conn.Read(make([]byte, 1<<20)); err != nil {
				break
			}
		}
		if h.conn.in.buf == nil {
			return 0
		}
		return len(h.conn.in.buf.Mem)
	}
	if n := held(20 * time.Millisecond); n != 0 {
		t.Errorf("%d bytes before anything came", n)
	}
	big := h.record(TypeApplication, make([]byte, MaxPlaintextBytes))
	h.raw.Write(append(bytes.Clone(big), h.record(TypeApplication, []byte("a"))[:7]...))
	if n := held(100 * time.Millisecond); n != smallBytes {
		t.Errorf("%d bytes with the beginning of a record", n)
	}
}

// TestAlertOfOthers: crypto/tls understands why it is dropped.
func TestAlertOfOthers(t *testing.T) {
	a, b := sessiontest.Wire(t)
	s, c := shake(t, tls.VersionTLS12, "ours", "crypto/tls", a, b)
	b.Write(make([]byte, 0))
	b.Write([]byte{TypeApplication, 3, 3, 0, 24, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, ErrBadRecord) {
		t.Errorf("server: %v", err)
	}
	_, err := c.Read(make([]byte, 1))
	var alert tls.AlertError
	if err == nil || !errors.As(err, &alert) && !strings.Contains(err.Error(), "bad record MAC") {
		t.Errorf("client: %v", err)
	}
}

// FuzzRead: whatever is done to the stream, what is read is the beginning of what was sent.
func FuzzRead(f *testing.F) {
	for _, v13 := range []bool{false, true} {
		f.Add([]byte{}, uint16(0), byte(0), uint8(1), v13)
		f.Add([]byte("abc"), uint16(3), byte(1), uint8(7), v13)
		f.Add(bytes.Repeat([]byte{23, 3, 3, 0, 40}, 20), uint16(60), byte(0x80), uint8(200), v13)
	}
	f.Fuzz(func(t *testing.T, data []byte, at uint16, mask byte, step uint8, v13 bool) {
		in, out := secretPair(v13)
		var sealer half
		if err := sealer.init(in); err != nil {
			t.Fatal(err)
		}
		var stream []byte
		for rest := data; len(rest) > 0; {
			n := min(len(rest), int(rest[0])+1)
			b := make([]byte, n+overheadBytes)
			size, _ := sealer.seal(b, TypeApplication, rest[:n])
			stream, rest = append(stream, b[:size]...), rest[n:]
		}
		intact := len(stream) == 0 || mask == 0
		if !intact {
			stream[int(at)%len(stream)] ^= mask
		}
		stream = append(stream, data...) // and then something that is no record, or one that is not genuine
		conn, err := newConn(&tape{stream: stream, step: int(step) + 1}, in, out)
		if err != nil {
			t.Fatal(err)
		}
		got := readAll(conn)
		if !bytes.HasPrefix(data, []byte(got.text)) || got.err == nil || got.err == io.EOF {
			t.Fatalf("read %d bytes of %d, %v", len(got.text), len(data), got.err)
		}
		if intact && got.text != string(data) {
			t.Fatalf("only %d bytes of %d", len(got.text), len(data))
		}
	})
}

// tape is a connection from which a stream comes in steps.
type tape struct {
	net.Conn
	stream []byte
	step   int
}

func (p *tape) Read(b []byte) (int, error) {
	if len(p.stream) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.stream[:min(p.step, len(p.stream))])
	p.stream = p.stream[n:]
	return n, nil
}

func (p *tape) Write(b []byte) (int, error)        { return len(b), nil }
func (p *tape) SetWriteDeadline(t time.Time) error { return nil }

// TestPendingPart: the beginning of a record that was taken from the socket with the record before is pending.
func TestPendingPart(t *testing.T) {
	eachKind(t, func(t *testing.T, v13 bool) {
		h := newHostile(t, v13)
		one, two := h.record(TypeApplication, []byte("one")), h.record(TypeApplication, []byte("two"))
		h.raw.Write(slices.Concat(one, two[:10]))
		time.Sleep(20 * time.Millisecond) // so that one read takes it all
		if n, err := h.conn.Read(make([]byte, 8)); n != 3 || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
		if !h.conn.Pending() {
			t.Error("the beginning of a record is not pending")
		}
		h.raw.Write(two[10:])
		if n, err := h.conn.Read(make([]byte, 8)); n != 3 || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
		if h.conn.Pending() {
			t.Error("something is pending when all is read")
		}
	})
}
