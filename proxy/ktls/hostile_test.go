package ktls

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/tlsrecord"
	"github.com/nfseal/nfseal/proxy/tlsrecord/sessiontest"
)

// sealer makes and opens the records of one direction, right ones and wrong ones.
type sealer struct {
	keys tlsrecord.Traffic
	aead cipher.AEAD
	seq  uint64
}

func newSealer(keys tlsrecord.Traffic) *sealer {
	block, err := aes.NewCipher(keys.Key())
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return &sealer{keys, aead, keys.Seq()}
}

// update goes on to the next keys.
func (s *sealer) update() {
	if err := s.keys.Update(); err != nil {
		panic(err)
	}
	*s = *newSealer(s.keys)
}

// nonce13 is that of the next record of TLS 1.3.
func (s *sealer) nonce13() []byte {
	nonce := append([]byte(nil), s.keys.IV()...)
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^s.seq)
	return nonce
}

// extra12 is the additional data of a record of TLS 1.2.
func (s *sealer) extra12(kind byte, n int) []byte {
	extra := binary.BigEndian.AppendUint64(nil, s.seq)
	return binary.BigEndian.AppendUint16(append(extra, kind, 3, 3), uint16(n))
}

// record seals one.
func (s *sealer) record(kind byte, plain ...byte) []byte {
	defer func() { s.seq++ }()
	if s.keys.IsTLS13() {
		header := binary.BigEndian.AppendUint16([]byte{23, 3, 3}, uint16(len(plain)+1+16))
		return s.aead.Seal(header, s.nonce13(), append(append([]byte(nil), plain...), kind), header)
	}
	out := binary.BigEndian.AppendUint16([]byte{kind, 3, 3}, uint16(8+len(plain)+16))
	out = binary.BigEndian.AppendUint64(out, s.seq)
	nonce := append(append([]byte(nil), s.keys.IV()[:4]...), out[5:]...)
	return s.aead.Seal(out, nonce, plain, s.extra12(kind, len(plain)))
}

// open opens a record.
func (s *sealer) open(record []byte) (kind byte, plain []byte, err error) {
	defer func() { s.seq++ }()
	if s.keys.IsTLS13() {
		plain, err = s.aead.Open(nil, s.nonce13(), record[5:], record[:5])
		if err != nil {
			return 0, nil, err
		}
		return plain[len(plain)-1], plain[:len(plain)-1], nil
	}
	nonce := append(append([]byte(nil), s.keys.IV()[:4]...), record[5:13]...)
	plain, err = s.aead.Open(nil, nonce, record[13:], s.extra12(record[0], len(record)-13-16))
	return record[0], plain, err
}

// hostile is a session of ours, a server's, and at the other end of its connection what makes any record.
type hostile struct {
	ours    Session
	raw     *net.TCPConn
	to      *sealer
	from    *sealer
	carrier *Carrier
}

func newHostile(t *testing.T, p path) *hostile {
	t.Helper()
	a, b := sessiontest.Wire(t)
	serverConfig, clientConfig := sessiontest.Configs(t, p.version)
	h := &hostile{raw: b, carrier: p.carrier}
	result := make(chan error, 1)
	go func() {
		k, err := tlsrecord.ClientKeys(t.Context(), b, clientConfig)
		if err == nil {
			in, out := k.Traffic()
			h.to, h.from = newSealer(out), newSealer(in)
		}
		result <- err
	}()
	var err error
	h.ours, err = p.carry(t, a, serverConfig, true)
	if err := errors.Join(err, <-result); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.ours.Close() })
	h.ours.SetReadDeadline(time.Now().Add(20 * time.Second))
	return h
}

// next reads and opens the next record that ours sends.
func (h *hostile) next() (kind byte, plain []byte, err error) {
	h.raw.SetReadDeadline(time.Now().Add(10 * time.Second))
	record := make([]byte, 5)
	if _, err := io.ReadFull(h.raw, record); err != nil {
		return 0, nil, err
	}
	record = append(record, make([]byte, binary.BigEndian.Uint16(record[3:]))...)
	if _, err := io.ReadFull(h.raw, record[5:]); err != nil {
		return 0, nil, err
	}
	return h.from.open(record)
}

// hostileCase is something wrong that follows a good record.
type hostileCase struct {
	bytes func(h *hostile) []byte
	err   error
	alert tlsrecord.Alert
	only  uint16 // that version; 0 is both
}

// none is the alert that is not sent.
const none = tlsrecord.Alert(255)

// flip makes a record with one bit changed, of a byte counted from its end if at is negative.
func flip(at int) func(h *hostile) []byte {
	return func(h *hostile) []byte {
		b := h.to.record(tlsrecord.TypeApplication, []byte("sixteen bytes....")...)
		b[(at+len(b))%len(b)] ^= 1
		return b
	}
}

// header makes a record of zeros.
func header(kind byte, length uint16) func(h *hostile) []byte {
	return func(*hostile) []byte {
		b := make([]byte, 5+int(length))
		b[0], b[1], b[2] = kind, 3, 3
		binary.BigEndian.PutUint16(b[3:], length)
		return b
	}
}

// genuine makes a record of that type.
func genuine(kind byte, data ...byte) func(h *hostile) []byte {
	return func(h *hostile) []byte { return h.to.record(kind, data...) }
}

// many is one record more than is put up with.
func many(kind byte, data ...byte) func(h *hostile) []byte {
	return func(h *hostile) (all []byte) {
		for range tlsrecord.MaxUseless + 1 {
			all = append(all, h.to.record(kind, data...)...)
		}
		return all
	}
}

const (
	v12, v13    = tls.VersionTLS12, tls.VersionTLS13
	application = tlsrecord.TypeApplication
	alerts      = tlsrecord.TypeAlert
	handshakes  = tlsrecord.TypeHandshake
)

// hostileRecords mean the same to both paths.
var hostileRecords = map[string]hostileCase{
	"flipped nonce":      {flip(5), tlsrecord.ErrBadRecord, tlsrecord.AlertBadRecordMAC, 0},
	"flipped ciphertext": {flip(20), tlsrecord.ErrBadRecord, tlsrecord.AlertBadRecordMAC, 0},
	"flipped tag":        {flip(-1), tlsrecord.ErrBadRecord, tlsrecord.AlertBadRecordMAC, 0},
	"another version":    {flip(2), tlsrecord.ErrVersion, tlsrecord.AlertProtocolVersion, 0},
	"repeated": {func(h *hostile) []byte {
		b := h.to.record(application, []byte("once")...)
		return append(b, b...)
	}, tlsrecord.ErrBadRecord, tlsrecord.AlertBadRecordMAC, 0},
	"left out": {func(h *hostile) []byte {
		h.to.record(application, []byte("lost")...)
		return h.to.record(application, []byte("next")...)
	}, tlsrecord.ErrBadRecord, tlsrecord.AlertBadRecordMAC, 0},
	"change cipher spec": {genuine(20, 1), tlsrecord.ErrUnexpected, tlsrecord.AlertUnexpectedMessage, 0},
	"long alert":         {genuine(alerts, 2, 40, 0), nil, tlsrecord.AlertDecodeError, 0},
	"alert of no level":  {genuine(alerts, 7, 40), nil, tlsrecord.AlertDecodeError, 0},
	"fatal alert":        {genuine(alerts, 2, 40), tlsrecord.Alert(40), none, 0},
	"end":                {genuine(alerts, 1, 0), io.EOF, none, 0},
	"fatal end":          {genuine(alerts, 2, 0), io.EOF, none, 0},
	"endless warnings":   {many(alerts, 1, 90), tlsrecord.ErrUnexpected, tlsrecord.AlertUnexpectedMessage, 0},
	"data behind the flaw": {func(h *hostile) []byte {
		return append(flip(-1)(h), h.to.record(application, []byte("after")...)...)
	}, tlsrecord.ErrBadRecord, tlsrecord.AlertBadRecordMAC, 0},

	"another type":      {flip(0), tlsrecord.ErrBadRecord, tlsrecord.AlertBadRecordMAC, v12},
	"no room for a tag": {header(application, 23), tlsrecord.ErrBadRecord, tlsrecord.AlertBadRecordMAC, v12},
	"too long":          {header(application, 1<<14+8+16+1), tlsrecord.ErrOverflow, tlsrecord.AlertRecordOverflow, v12},
	"hello request":     {genuine(handshakes, 0, 0, 0, 0), tlsrecord.ErrRenegotiation, tlsrecord.AlertNoRenegotiation, v12},

	"too long for 1.3":   {header(application, 1<<14+256+1), tlsrecord.ErrOverflow, tlsrecord.AlertRecordOverflow, v13},
	"a warning":          {genuine(alerts, 1, 40), tlsrecord.Alert(40), none, v13},
	"client hello":       {genuine(handshakes, 1, 0, 0, 0), tlsrecord.ErrUnexpected, tlsrecord.AlertUnexpectedMessage, v13},
	"ticket of a client": {genuine(handshakes, 4, 0, 0, 1, 0), tlsrecord.ErrUnexpected, tlsrecord.AlertUnexpectedMessage, v13},
	"empty handshake":    {genuine(handshakes), tlsrecord.ErrUnexpected, tlsrecord.AlertUnexpectedMessage, v13},
	"part of a message":  {genuine(handshakes, tlsrecord.KeyUpdate[:4]...), tlsrecord.ErrUnexpected, tlsrecord.AlertUnexpectedMessage, v13},
	"update of no kind":  {genuine(handshakes, 24, 0, 0, 1, 2), tlsrecord.ErrHandshake, tlsrecord.AlertDecodeError, v13},
	"two updates": {genuine(handshakes, 24, 0, 0, 1, 0, 24, 0, 0, 1, 0),
		tlsrecord.ErrUnexpected, tlsrecord.AlertUnexpectedMessage, v13},
}

// TestHostileRecords: what is wrong with a record ends the session, with the alert that says so, and
// nothing that came after it is read.
func TestHostileRecords(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		for name, c := range hostileRecords {
			if c.only == 0 || c.only == p.version {
				t.Run(name, func(t *testing.T) { c.try(t, newHostile(t, p), received) })
			}
		}
	})
}

// received is what a session receives.
func received(from net.Conn) ([]byte, error) { return sessiontest.Receive(from) }

// try has all that arrives received to the end.
func (c *hostileCase) try(t *testing.T, h *hostile, receive func(net.Conn) ([]byte, error)) {
	good := h.to.record(application, []byte("good")...)
	if _, err := h.raw.Write(append(good, c.bytes(h)...)); err != nil {
		t.Fatal(err)
	}
	got, err := receive(h.ours)
	if err == nil {
		err = io.EOF
	}
	if c.err != nil && !errors.Is(err, c.err) || strings.TrimSuffix(string(got), "once") != "good" {
		t.Fatalf("read %q, %v; want %v", got, err, c.err)
	}
	if n, again := h.ours.Read(make([]byte, 10)); n != 0 || again != err {
		t.Errorf("a second read: %d, %v", n, again)
	}
	if c.alert == none {
		return
	}
	kind, plain, err := h.next()
	if err != nil || kind != alerts || len(plain) != 2 || tlsrecord.Alert(plain[1]) != c.alert {
		t.Errorf("the answer is of type %d, %d, %v; want alert %d", kind, plain, err, c.alert)
	}
	if _, err := h.ours.Write([]byte("more")); !errors.Is(err, tlsrecord.ErrShut) {
		t.Errorf("a write after the alert: %v", err)
	}
}

// TestEmptyRecords between data, and large control records in front of small reads, change nothing.
func TestEmptyRecords(t *testing.T) { eachPath(t, testEmptyRecords) }

func testEmptyRecords(t *testing.T, p path) {
	h := newHostile(t, p)
	var all []byte
	for range 3 * tlsrecord.MaxUseless {
		all = append(all, h.to.record(application)...)
		if p.version == v12 {
			all = append(all, h.to.record(alerts, 1, 90)...)
		}
		all = append(all, h.to.record(application, 'x')...)
	}
	all = append(all, h.to.record(alerts, 1, 0)...)
	h.raw.Write(all)
	if got, err := sessiontest.Receive(h.ours); err != nil || string(got) != strings.Repeat("x", 3*tlsrecord.MaxUseless) {
		t.Errorf("%q, %v", got, err)
	}
}

// TestKeyUpdate: keys change in both directions where that is possible, and where it is not the session ends with
// ErrRenew and is counted.
func TestKeyUpdate(t *testing.T) { eachPath(t, testKeyUpdate) }

func testKeyUpdate(t *testing.T, p path) {
	if p.version != v13 {
		return // has none
	}
	h := newHostile(t, p)
	buf := make([]byte, 100)
	exchange := func(text string) error {
		h.raw.Write(h.to.record(application, []byte(text)...))
		n, err := h.ours.Read(buf)
		if err == nil && string(buf[:n]) != text {
			err = errors.New("other text: " + string(buf[:n]))
		}
		return err
	}
	if err := exchange("before"); err != nil {
		t.Fatal(err)
	}
	h.raw.Write(h.to.record(handshakes, 24, 0, 0, 1, 1))
	h.to.update()
	err := exchange("after")
	if p.kernel && !Probe().Rekey {
		h.mustRenew(t, err, tlsrecord.AlertInternalError)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.ours.Write([]byte("data")); err != nil {
		t.Fatal(err)
	}
	if kind, plain, err := h.next(); err != nil || kind != handshakes || string(plain) != string(tlsrecord.KeyUpdate[:]) {
		t.Fatalf("no KeyUpdate in answer: type %d, %q, %v", kind, plain, err)
	}
	h.from.update()
	if kind, plain, err := h.next(); err != nil || kind != application || string(plain) != "data" {
		t.Errorf("type %d, %q, %v", kind, plain, err)
	}
	if want := (Stats{Kernel: 1, Open: 1, Rekeyed: 2}); p.kernel && p.carrier.Stats() != want {
		t.Errorf("%+v", p.carrier.Stats())
	}
}

// mustRenew checks the end of a session whose keys were to change and could not.
func (h *hostile) mustRenew(t *testing.T, err error, want tlsrecord.Alert) {
	t.Helper()
	if !errors.Is(err, ErrRenew) || h.carrier.Stats().Renew != 1 {
		t.Errorf("%v, %+v", err, h.carrier.Stats())
	}
	if kind, plain, err := h.next(); err != nil || kind != alerts || tlsrecord.Alert(plain[1]) != want {
		t.Errorf("type %d, %q, %v; want alert %d", kind, plain, err, want)
	}
}

// TestManyRecords: before too many records have gone under one key, it is changed, or the session ends in an orderly
// way: who reads and who writes are told.
func TestManyRecords(t *testing.T) {
	p := path{v13, carrierFor(t, true), true}
	h := newHostile(t, p)
	h.ours.(*Conn).out.records = tlsrecord.UpdateRecords
	reads := make(chan error, 1)
	go func() {
		_, err := h.ours.Read(make([]byte, 10))
		reads <- err
	}()
	time.Sleep(50 * time.Millisecond)
	_, err := h.ours.Write([]byte("data"))
	if !Probe().Rekey {
		h.mustRenew(t, err, tlsrecord.AlertCloseNotify)
		if err := <-reads; !errors.Is(err, ErrRenew) {
			t.Errorf("a read: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if kind, plain, err := h.next(); err != nil || kind != handshakes || string(plain) != string(tlsrecord.KeyUpdate[:]) {
		t.Fatalf("type %d, %q, %v", kind, plain, err)
	}
	h.from.update()
	if kind, plain, err := h.next(); err != nil || kind != application || string(plain) != "data" {
		t.Errorf("type %d, %q, %v", kind, plain, err)
	}
	h.ours.Close()
	<-reads
}
