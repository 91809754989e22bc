package rpc

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// attachingHandler answers with so many bytes as it is asked for, a part of data, which it attaches if it can.
type attachingHandler struct {
	data     []byte
	fail     atomic.Bool // the encoder, after something was attached
	silent   atomic.Bool // the reply is taken back, after something was attached
	attached atomic.Int32
	returned atomic.Int32
}

// views are an attachment.
type views struct {
	h *attachingHandler
	v [][]byte
}

func (a *views) Views() [][]byte { return a.v }

func (a *views) Return() {
	a.h.returned.Add(1)
	a.v = nil
}

func (h *attachingHandler) Handle(_ context.Context, call *Call, reply *xdr.Encoder) {
	data := h.data[:call.Args.Uint32()]
	call.Succeed(reply)
	if !call.CanAttach() {
		reply.Opaque(data)
		return
	}
	reply.Uint32(uint32(len(data)))
	a := &views{h: h}
	for rest := data; len(rest) > 0; {
		n := min(len(rest), 50_001)
		a.v, rest = append(a.v, rest[:n]), rest[n:]
	}
	h.attached.Add(1)
	call.Attach(a, len(data))
	if h.fail.Load() {
		reply.Fail(xdr.ErrLimit)
	}
	if h.silent.Load() {
		reply.Truncate(0)
	}
}

// asking is a call for n bytes.
func asking(xid uint32, n int) []byte {
	e := xdr.NewEncoder(make([]byte, 0, 200))
	AppendCall(&e, xid, testProgram, 3, procEcho, &Auth{})
	e.Uint32(uint32(n))
	return record(e.Bytes(), 1000)
}

// pieceConn is a connection that writes several slices as one stream.
type pieceConn struct{ net.Conn }

func (c pieceConn) WriteBuffers(v [][]byte) (int64, error) {
	n, err := c.Write(bytes.Join(v, nil))
	return int64(n), err
}

// plainConn is one that does not.
type plainConn struct{ net.Conn }

// serveAttached serves a handler on a connection until the test is over, and checks that all was given back.
func serveAttached(t *testing.T, h *attachingHandler, wrap func(net.Conn) net.Conn) (client net.Conn, wait func()) {
	t.Helper()
	client, server := tcpPair(t)
	done := make(chan error, 1)
	go func() { done <- ServeConn(context.Background(), wrap(server), h, Options{}) }()
	return client, func() {
		client.Close()
		<-done
		if a, r := h.attached.Load(), h.returned.Load(); a != r {
			t.Errorf("%d attached, %d returned", a, r)
		}
	}
}

// TestAttach: what is attached arrives as the end of the reply, padded, alone and with other replies beside it, on connections of all
// kinds, and is given back.
func TestAttach(t *testing.T) {
	data := make([]byte, 1<<20)
	rand.Read(data)
	for name, c := range map[string]struct {
		wrap     func(net.Conn) net.Conn
		attaches bool
	}{
		"socket":  {func(c net.Conn) net.Conn { return c }, true},
		"buffers": {func(c net.Conn) net.Conn { return pieceConn{c} }, true},
		"plain":   {func(c net.Conn) net.Conn { return plainConn{c} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := &attachingHandler{data: data}
			client, wait := serveAttached(t, h, c.wrap)
			sizes := []int{0, 1, 2, 3, 4, 65_535, 65_536, 1 << 20, 300_001}
			for xid, n := range sizes {
				if _, err := client.Write(asking(uint32(xid), n)); err != nil {
					t.Fatal(err)
				}
			}
			for range sizes {
				reply, err := readRecord(client)
				if err != nil {
					t.Fatal(err)
				}
				xid, d, err := ParseReply(reply)
				if err != nil {
					t.Fatal(err)
				}
				if got := d.Opaque(2 << 20); !bytes.Equal(got, data[:sizes[xid]]) || d.Err() != nil || d.Remaining() != 0 {
					t.Errorf("%d bytes of %d, %v, %d behind them", len(got), sizes[xid], d.Err(), d.Remaining())
				}
			}
			wait()
			want := int32(0)
			if c.attaches {
				want = int32(len(sizes))
			}
			if n := h.attached.Load(); n != want {
				t.Errorf("%d replies with something attached, want %d", n, want)
			}
		})
	}
}

// TestAttachFails: what is attached to a reply that fails, or that nobody takes, is given back, and not sent.
func TestAttachFails(t *testing.T) {
	h := &attachingHandler{data: make([]byte, 1<<20)}
	h.fail.Store(true)
	client, wait := serveAttached(t, h, func(c net.Conn) net.Conn { return c })
	if _, err := client.Write(asking(1, 70_000)); err != nil {
		t.Fatal(err)
	}
	reply, err := readRecord(client)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ParseReply(reply); fmt.Sprint(err) != fmt.Sprint(&RejectedError{Accept: SystemErr}) || len(reply) != 24 {
		t.Errorf("a reply that failed: %d bytes, %v", len(reply), err)
	}
	h.fail.Store(false)
	for xid := range uint32(50) { // more than the socket's buffers hold
		if _, err := client.Write(asking(xid, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); h.attached.Load() < 20; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d calls handled", h.attached.Load())
		}
	}
	wait()
}

// TestAttachToNothing: of a reply that the handler takes back nothing is sent, what it attached neither.
func TestAttachToNothing(t *testing.T) {
	h := &attachingHandler{data: make([]byte, 1<<20)}
	h.silent.Store(true)
	client, wait := serveAttached(t, h, func(c net.Conn) net.Conn { return c })
	if _, err := client.Write(asking(1, 70_000)); err != nil {
		t.Fatal(err)
	}
	for h.returned.Load() == 0 { // the handler is through with it
		time.Sleep(time.Millisecond)
	}
	h.silent.Store(false)
	if _, err := client.Write(asking(2, 4)); err != nil {
		t.Fatal(err)
	}
	reply, err := readRecord(client)
	if err != nil {
		t.Fatal(err)
	}
	if xid, _, err := ParseReply(reply); err != nil || xid != 2 {
		t.Errorf("%d bytes, call %d, %v", len(reply), xid, err)
	}
	wait()
}

// TestAttachAllocatesNothing: nor does what is attached cost memory.
func TestAttachAllocatesNothing(t *testing.T) {
	h := &sameHandler{v: [][]byte{make([]byte, 100_000), make([]byte, 28_000)}}
	client, server := tcpPair(t)
	done := make(chan error, 1)
	go func() { done <- ServeConn(context.Background(), server, h, Options{}) }()
	wantNoAllocation(t, client, asking(1, 128_000), 4+24+4+128_000)
	client.Close()
	<-done
}

// wantNoAllocation makes a call again and again whose reply has so many bytes, its mark among them.
func wantNoAllocation(t *testing.T, client net.Conn, call []byte, replyBytes int) {
	t.Helper()
	reply := make([]byte, replyBytes)
	one := func() {
		if _, err := client.Write(call); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(client, reply); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		one()
	}
	if n := testing.AllocsPerRun(200, one); n >= 1 && !raceEnabled {
		t.Errorf("%v allocations a call", n)
	}
}

// sameHandler attaches the same to all replies.
type sameHandler struct{ v [][]byte }

func (h *sameHandler) Handle(_ context.Context, call *Call, reply *xdr.Encoder) {
	call.Succeed(reply)
	reply.Uint32(128_000)
	call.Attach(h, 128_000)
}

func (h *sameHandler) Views() [][]byte { return h.v }
func (h *sameHandler) Return()         {}
