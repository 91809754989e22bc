package tlsrecord

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// tcp is wire with the ends' own type.
func tcp(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	x, y := wire(t)
	return x.(*net.TCPConn), y.(*net.TCPConn)
}

// moveAll gets all that a session receives by way of another connection.
func moveAll(t *testing.T) func(*Conn) outcome {
	return func(from *Conn) (o outcome) {
		a, b := tcp(t)
		var moved atomic.Uint64
		ended := make(chan error, 1)
		go func() {
			ended <- from.MoveTo(a, &moved)
			a.Close()
		}()
		got, err := io.ReadAll(b)
		if err != nil {
			t.Error(err)
		}
		o.text, o.err = string(got), <-ended
		if o.err == nil {
			o.err = io.EOF
		}
		if moved.Load() != uint64(len(got)) {
			t.Errorf("%d bytes are counted, %d arrived", moved.Load(), len(got))
		}
		return o
	}
}

// TestMove: the same bytes arrive both ways at once, to an orderly end, and all are counted.
func TestMove(t *testing.T) { eachVersion(t, testMove) }

func testMove(t *testing.T, version uint16) {
	data := random(8<<20 + 777)
	for _, peer := range []string{"ours", "crypto/tls"} {
		rawServer, rawClient := wire(t)
		s, c := shake(t, version, peer, "ours", rawServer, rawClient)
		ours := c.(*Conn)
		local, app := tcp(t)
		var up, down atomic.Uint64
		errs := make(chan error, 6)
		go func() { errs <- errors.Join(ours.MoveFrom(local, &up), ours.CloseWrite()) }()
		go func() { errs <- errors.Join(ours.MoveTo(local, &down), local.CloseWrite()) }()
		for _, ends := range [][2]duplex{{app, s}, {s, app}} {
			go func() { errs <- send(ends[0], data) }()
			go func() {
				got, err := receive(ends[1])
				if err == nil && !bytes.Equal(got, data) {
					err = fmt.Errorf("%d bytes arrived, not the %d that were sent", len(got), len(data))
				}
				errs <- err
			}()
		}
		for range 6 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if n := uint64(len(data)); up.Load() != n || down.Load() != n {
			t.Errorf("%d and %d bytes are counted of %d", up.Load(), down.Load(), n)
		}
	}
}

// TestMoveFillsRecords: what is there goes out in records that are full, but for the last.
func TestMoveFillsRecords(t *testing.T) { eachKind(t, testMoveFillsRecords) }

func testMoveFillsRecords(t *testing.T, v13 bool) {
	h := newHostile(t, v13)
	local, app := tcp(t)
	data := random(2*MaxPlaintextBytes + 100)
	if _, err := app.Write(data); err != nil {
		t.Fatal(err)
	}
	app.CloseWrite()
	time.Sleep(50 * time.Millisecond) // all of it has arrived
	var moved atomic.Uint64
	if err := h.conn.MoveFrom(local, &moved); err != nil || moved.Load() != uint64(len(data)) {
		t.Fatalf("%d bytes, %v", moved.Load(), err)
	}
	for _, size := range []int{MaxPlaintextBytes, MaxPlaintextBytes, 100} {
		kind, plain, err := h.next()
		if err != nil || kind != TypeApplication || !bytes.Equal(plain, data[:size]) {
			t.Fatalf("type %d, %d bytes, %v; want %d", kind, len(plain), err, size)
		}
		data = data[size:]
	}
}

// TestMoveWhatWasRead: what was received before, in part, comes first.
func TestMoveWhatWasRead(t *testing.T) { eachKind(t, testMoveWhatWasRead) }

func testMoveWhatWasRead(t *testing.T, v13 bool) {
	h := newHostile(t, v13)
	h.raw.Write(append(h.record(TypeApplication, []byte("head and tail, ")), h.record(TypeApplication, []byte("more, "))...))
	buf := make([]byte, 5)
	if _, err := io.ReadFull(h.conn, buf); err != nil || string(buf) != "head " {
		t.Fatalf("%q, %v", buf, err)
	}
	h.raw.Write(append(h.record(TypeApplication, []byte("and the last")), h.record(TypeAlert, []byte{1, 0})...))
	if got := moveAll(t)(h.conn); got.err != io.EOF || got.text != "and tail, more, and the last" {
		t.Errorf("%q, %v", got.text, got.err)
	}
}

// TestMoveSmallRecords: many in one buffer, more than go out at once, arrive in their order.
func TestMoveSmallRecords(t *testing.T) { eachKind(t, testMoveSmallRecords) }

func testMoveSmallRecords(t *testing.T, v13 bool) {
	h := newHostile(t, v13)
	var all []byte
	var want strings.Builder
	for i := range 5*maxPieces + 1 {
		text := fmt.Sprint(i, ",")
		want.WriteString(text)
		all = append(all, h.record(TypeApplication, []byte(text))...)
	}
	all = append(all, h.record(TypeAlert, []byte{1, 0})...)
	h.raw.Write(all)
	if got := moveAll(t)(h.conn); got.err != io.EOF || got.text != want.String() {
		t.Errorf("%d bytes of %d, %v", len(got.text), want.Len(), got.err)
	}
}

// TestMoveKeyUpdate: keys change on the way, when the peer announces it and when it asks for it.
func TestMoveKeyUpdate(t *testing.T) {
	h := newHostile(t, true)
	local, app := tcp(t)
	var moved atomic.Uint64
	ended := make(chan error, 2)
	go func() { ended <- h.conn.MoveTo(local, &moved) }()
	h.raw.Write(append(h.record(TypeApplication, []byte("old ")), h.record(TypeHandshake, []byte{messageKeyUpdate, 0, 0, 1, updateRequested})...))
	if err := h.out.update(); err != nil {
		t.Fatal(err)
	}
	h.raw.Write(h.record(TypeApplication, []byte("new")))
	got := make([]byte, len("old new"))
	if _, err := io.ReadFull(app, got); err != nil || string(got) != "old new" {
		t.Fatalf("%q, %v", got, err)
	}
	go func() { ended <- h.conn.MoveFrom(local, &moved) }()
	h.expect(t, TypeHandshake, KeyUpdate[:], func() error { _, err := app.Write([]byte("data")); return err })
	if err := h.in.update(); err != nil {
		t.Fatal(err)
	}
	h.expect(t, TypeApplication, []byte("data"), func() error { return nil })
	app.Close()
	h.conn.raw.Close()
	<-ended
	<-ended
}

// TestMoveEnds: a deadline or Close ends both directions, whatever they wait for.
func TestMoveEnds(t *testing.T) { eachKind(t, testMoveEnds) }

func testMoveEnds(t *testing.T, v13 bool) {
	for name, end := range map[string]func(ours *Conn, local *net.TCPConn){
		"deadline": func(ours *Conn, local *net.TCPConn) {
			ours.SetDeadline(time.Unix(1, 0))
			local.SetDeadline(time.Unix(1, 0))
		},
		"close": func(ours *Conn, local *net.TCPConn) {
			local.Close()
			ours.Close()
		},
	} {
		for _, stuck := range []bool{false, true} {
			h := newHostile(t, v13)
			local, app := tcp(t)
			var moved atomic.Uint64
			errs := make(chan error, 2)
			go func() { errs <- h.conn.MoveFrom(local, &moved) }()
			go func() { errs <- h.conn.MoveTo(local, &moved) }()
			if stuck { // nobody reads what arrives
				go app.Write(make([]byte, 64<<20))
				go func() {
					for plain := make([]byte, MaxPlaintextBytes); ; {
						if _, err := h.raw.Write(h.record(TypeApplication, plain)); err != nil {
							return
						}
					}
				}()
			}
			time.Sleep(100 * time.Millisecond)
			end(h.conn, local)
			for range 2 {
				if err := <-errs; !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
					t.Errorf("%s, stuck %v: %v", name, stuck, err)
				}
			}
			h.raw.Close()
		}
	}
}
