package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/xdr"
)

const (
	testProgram = 400100
	procEcho    = 1 // answers its argument, an opaque
	procWait    = 2 // waits for gate, then answers like procEcho
	procFail    = 3 // leaves the reply in error
	procSilent  = 4 // does not answer
	procBig     = 5 // answers as many bytes as it is asked for
)

// testHandler is a program with the procedures above.
type testHandler struct {
	gate  chan struct{}
	quick atomic.Bool // all calls are said to be quick
	mu    sync.Mutex
	max   int // of calls at once
	now   int
}

func (h *testHandler) Handle(ctx context.Context, call *Call, reply *xdr.Encoder) {
	h.count(1)
	defer h.count(-1)
	switch {
	case call.Program != testProgram:
		call.ProgUnavail(reply)
	case call.Version != 3:
		call.ProgMismatch(reply, 3, 3)
	case call.Procedure > procBig:
		call.ProcUnavail(reply)
	case call.Procedure == procSilent:
	case call.Procedure == procFail:
		call.Succeed(reply)
		reply.Fail(xdr.ErrLimit)
	case call.Procedure == procBig:
		n := call.Args.Uint32()
		call.Succeed(reply)
		clear(reply.Reserve(int(n)))
	default:
		h.echo(ctx, call, reply)
	}
}

func (h *testHandler) Quick(*Call) bool { return h.quick.Load() }

func (h *testHandler) count(d int) {
	h.mu.Lock()
	h.now += d
	h.max = max(h.max, h.now)
	h.mu.Unlock()
}

func (h *testHandler) running() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *testHandler) echo(ctx context.Context, call *Call, reply *xdr.Encoder) {
	data := call.Args.Opaque(2 << 20)
	if call.Args.Err() != nil {
		call.GarbageArgs(reply)
		return
	}
	if call.Procedure == procWait {
		select {
		case <-h.gate:
		case <-ctx.Done():
		}
	}
	call.Succeed(reply)
	reply.Opaque(data)
}

// served is a connection to a ServeConn that runs until the test is over.
type served struct {
	net.Conn
	t      *testing.T
	stats  *Stats
	cancel context.CancelFunc
	done   chan error
	h      *testHandler
}

func serve(t *testing.T, o Options) *served {
	t.Helper()
	client, server := tcpPair(t)
	return serveOn(t, client, server, o)
}

func serveOn(t *testing.T, client, server net.Conn, o Options) *served {
	ctx, cancel := context.WithCancel(context.Background())
	s := &served{
		Conn: client, t: t, stats: new(Stats), cancel: cancel, done: make(chan error, 1),
		h: &testHandler{gate: make(chan struct{})},
	}
	o.Stats = s.stats
	go func() { s.done <- ServeConn(ctx, server, s.h, o) }()
	t.Cleanup(func() {
		client.Close()
		cancel()
		if s.done != nil {
			s.wait()
		}
	})
	return s
}

// wait returns what ServeConn returned.
func (s *served) wait() error {
	s.t.Helper()
	select {
	case err := <-s.done:
		s.done = nil
		return err
	case <-time.After(10 * time.Second):
		s.t.Fatal("ServeConn does not return")
		return nil
	}
}

func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// record puts marks around a message, in fragments of at most size bytes.
func record(message []byte, size int) []byte {
	var out []byte
	for {
		n := min(size, len(message))
		mark := uint32(n)
		if n == len(message) {
			mark |= lastFragment
		}
		out = binary.BigEndian.AppendUint32(out, mark)
		out = append(out, message[:n]...)
		if message = message[n:]; len(message) == 0 {
			return out
		}
	}
}

// message is a call with an opaque argument.
func message(xid, procedure uint32, arg []byte) []byte {
	e := xdr.NewEncoder(make([]byte, 0, len(arg)+200))
	AppendCall(&e, xid, testProgram, 3, procedure, &Auth{Flavor: AuthSys, UID: 7, GIDs: []uint32{1, 2}})
	e.Opaque(arg)
	return e.Bytes()
}

func (s *served) send(b []byte) {
	s.t.Helper()
	if _, err := s.Write(b); err != nil {
		s.t.Fatal(err)
	}
}

func (s *served) receive() []byte {
	s.t.Helper()
	s.SetReadDeadline(time.Now().Add(10 * time.Second))
	b, err := readRecord(s.Conn)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func readRecord(r io.Reader) ([]byte, error) {
	var mark [4]byte
	if _, err := io.ReadFull(r, mark[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(mark[:])&^lastFragment)
	_, err := io.ReadFull(r, b)
	return b, err
}

// echoed receives a reply and checks that it is arg for xid.
func (s *served) echoed(xid uint32, arg []byte) {
	s.t.Helper()
	got, d, err := ParseReply(s.receive())
	if err != nil || got != xid {
		s.t.Fatalf("reply to %d: xid %d, %v", xid, got, err)
	}
	if data := d.Opaque(2 << 20); !bytes.Equal(data, arg) || d.Err() != nil {
		s.t.Fatalf("reply to %d has %d bytes, want %d; %v", xid, len(data), len(arg), d.Err())
	}
}

// scriptConn is a connection whose client has said everything at once.
type scriptConn struct {
	in  *bytes.Reader
	mu  sync.Mutex
	out bytes.Buffer
}

func (c *scriptConn) Read(p []byte) (int, error) { return c.in.Read(p) }

func (c *scriptConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func (c *scriptConn) Close() error                     { return nil }
func (c *scriptConn) LocalAddr() net.Addr              { return nil }
func (c *scriptConn) RemoteAddr() net.Addr             { return nil }
func (c *scriptConn) SetDeadline(time.Time) error      { return nil }
func (c *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }

// lockFreeHandler answers quick calls without touching anything but its gate, for which the first one waits.
type lockFreeHandler struct{ gate chan struct{} }

func (h *lockFreeHandler) Handle(_ context.Context, call *Call, reply *xdr.Encoder) {
	if call.XID == 0 {
		<-h.gate
	}
	call.Succeed(reply)
}

func (h *lockFreeHandler) Quick(*Call) bool { return true }
