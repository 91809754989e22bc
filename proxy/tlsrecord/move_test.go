package tlsrecord

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/tlsrecord/sessiontest"
)

// moveAll gets all that a session receives by way of another connection.
func moveAll(t *testing.T) func(*Conn) outcome {
	return func(from *Conn) (o outcome) {
		got, err := sessiontest.MoveAll(t, from)
		if err == nil {
			err = io.EOF
		}
		return outcome{text: string(got), err: err}
	}
}

// TestMoveFillsRecords: what is there goes out in records that are full, but for the last.
func TestMoveFillsRecords(t *testing.T) { eachKind(t, testMoveFillsRecords) }

func testMoveFillsRecords(t *testing.T, v13 bool) {
	h := newHostile(t, v13)
	local, app := sessiontest.Wire(t)
	data := sessiontest.Random(2*MaxPlaintextBytes + 100)
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
	local, app := sessiontest.Wire(t)
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

// TestMoveExpects: of a session in between, calls and answers are waited for together, in the kernel.
func TestMoveExpects(t *testing.T) {
	rawServer, rawClient := sessiontest.Wire(t)
	s, c := shake(t, tls.VersionTLS12, "crypto/tls", "ours", rawServer, rawClient)
	local, app := sessiontest.Wire(t)
	between := c.(*Conn)
	var up, down atomic.Uint64
	var moves sync.WaitGroup
	moves.Go(func() {
		if err := between.MoveFrom(local, &up); err != nil {
			t.Error(err)
		}
		between.CloseWrite()
	})
	moves.Go(func() {
		if err := between.MoveTo(local, &down); err != nil {
			t.Error(err)
		}
	})
	go io.Copy(s, s)
	p := []byte("x")
	for range 2000 {
		app.Write(p)
		if _, err := app.Read(p); err != nil {
			t.Fatal(err)
		}
	}
	app.CloseWrite()
	s.CloseWrite()
	moves.Wait()
	if between.source.Met()+between.in.expect.Met() == 0 {
		t.Error("of 2,000 calls and answers none was waited for in the kernel")
	}
}
