package nfsclient

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// keeper is a server that takes down the data of each WRITE, by its offset, and answers READ with pattern.
type keeper struct {
	t    *testing.T
	mu   sync.Mutex
	data map[uint64][]byte
}

func (k *keeper) Handle(_ context.Context, call *rpc.Call, reply *xdr.Encoder) {
	var head wire.CompoundArgs
	head.Decode(&call.Args)
	var seq wire.SequenceArgs
	wire.ReadOp(&call.Args)
	seq.Decode(&call.Args)
	var fh wire.PutFHArgs
	wire.ReadOp(&call.Args)
	fh.Decode(&call.Args)
	op := wire.ReadOp(&call.Args)
	call.Succeed(reply)
	var c wire.CompoundWriter
	c.Begin(reply, nil)
	at := c.BeginOp(wire.OP_SEQUENCE)
	res := wire.SequenceRes{SessionID: seq.SessionID, SequenceID: seq.SequenceID, SlotID: seq.SlotID}
	res.Encode(reply)
	c.EndOp(at, wire.NFS4_OK)
	c.EndOp(c.BeginOp(wire.OP_PUTFH), wire.NFS4_OK)
	at = c.BeginOp(op)
	k.transfer(op, &call.Args, reply)
	if n := call.Args.Remaining(); n > 0 || call.Args.Err() != nil {
		k.t.Errorf("%d bytes behind the last operation, %v", n, call.Args.Err())
	}
	c.EndOp(at, wire.NFS4_OK)
	c.End(wire.NFS4_OK)
}

func (k *keeper) transfer(op wire.Op, args *xdr.Decoder, reply *xdr.Encoder) {
	if op == wire.OP_READ {
		var a wire.ReadArgs
		a.Decode(args)
		res := wire.ReadRes{Data: pattern(a.Offset, int(a.Count))}
		res.Encode(reply)
		return
	}
	var a wire.WriteArgs
	a.Decode(args)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.data[a.Offset] = bytes.Clone(a.Data)
	res := wire.WriteRes{Count: uint32(len(a.Data))}
	res.Encode(reply)
}

// pattern is n bytes of a file in which every eight repeat.
func pattern(offset uint64, n int) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint64(nil, offset), n/8+1)[:n]
}

// sessionOn is a client on conn that has a session of so many slots already.
func sessionOn(conn net.Conn, slots int) *Client {
	c := &Client{
		t: newTransport(conn, rpc.Auth{Flavor: rpc.AuthSys}, DefaultMaxBytes), slots: make(chan *call, slots), raw: make(chan *call, 1),
		maxRead: 1 << 17, maxWrite: 1 << 17, o: Options{Slots: slots}, fore: wire.ChannelAttrs{MaxRequests: uint32(slots)},
		stop: make(chan struct{}),
	}
	for i := range slots {
		c.slots <- c.t.newCall(i, c.slots)
	}
	c.raw <- c.t.newCall(slots, c.raw)
	return c
}

// serveOn serves h to the client's end of a connection that it returns.
func serveOn(t *testing.T, h rpc.Handler) net.Conn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- rpc.ServeConn(context.Background(), far, h, rpc.Options{}) }()
	t.Cleanup(func() {
		near.Close()
		if err := <-served; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return near
}

// TestFileData: data of all lengths around those that are sent from where they are arrives, on connections that write several
// slices at once and on those that do not, and what is read is not mixed up while it is looked at.
func TestFileData(t *testing.T) {
	for name, hidden := range map[string]bool{"writev": false, "together": true} {
		t.Run(name, func(t *testing.T) {
			server := &keeper{t: t, data: map[uint64][]byte{}}
			conn := serveOn(t, server)
			if hidden {
				conn = struct{ net.Conn }{conn}
			}
			const slots = 8
			c := sessionOn(conn, slots)
			defer c.t.close(ErrClosed)
			lengths := []int{0, 1, behindBytes - 1, behindBytes, behindBytes + 1, behindBytes + 3, behindBytes + 4, c.maxRead, c.maxRead + 4}
			var wg sync.WaitGroup
			for k := range 40 * len(lengths) {
				wg.Go(func() { transferOne(t, &File{c: c}, server, uint64(k)<<32, lengths[k%len(lengths)]) })
			}
			wg.Wait()
			if n := len(c.t.records.free); n > slots+1 {
				t.Errorf("%d records are kept", n)
			}
		})
	}
}

// transferOne writes n bytes and reads them in both ways.
func transferOne(t *testing.T, f *File, server *keeper, offset uint64, n int) {
	data, most := pattern(offset, n), min(n, f.c.maxWrite)
	if res, err := f.WriteAt(t.Context(), data, offset, wire.UNSTABLE4); err != nil || int(res.Count) != most {
		t.Errorf("%d bytes: %+v, %v", n, res, err)
	}
	server.mu.Lock()
	if !bytes.Equal(server.data[offset], data[:most]) {
		t.Errorf("%d bytes arrived as %d, or others", n, len(server.data[offset]))
	}
	server.mu.Unlock()
	_, err := f.View(t.Context(), offset, n, func(got []byte) error {
		for range 3 { // while other replies come
			if !bytes.Equal(got, data[:most]) {
				t.Errorf("%d bytes read at %x are others", n, offset)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	p := make([]byte, n)
	if m, _, err := f.ReadAt(t.Context(), p, offset); err != nil || !bytes.Equal(p[:m], data[:most]) {
		t.Errorf("%d of %d bytes read, %v", m, n, err)
	}
}

// TestRecordsGivenAway: a reply that RawCall gave away is not used again, and a slot that is held and given back gives no memory
// back twice.
func TestRecordsGivenAway(t *testing.T) {
	c := sessionOn(serveOn(t, echo{}), 1)
	defer c.t.close(ErrClosed)
	for k := range byte(20) {
		want := bytes.Repeat([]byte{k}, 1000)
		_, record, err := c.RawCall(t.Context(), 1, 2, 3, func(e *xdr.Encoder) { e.Opaque(want) })
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			echoOne(t, c.slots, bytes.Repeat([]byte{99}, 1000))
		}
		if !bytes.HasSuffix(record, want) {
			t.Fatal("a record that was given away is used again")
		}
	}
	for range 3 {
		_, next, release, err := c.HoldSlot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		release(next)
	}
	seen := map[*byte]bool{}
	for _, b := range c.t.records.free {
		if seen[&b[:1][0]] {
			t.Fatal("a record is free twice")
		}
		seen[&b[:1][0]] = true
	}
}

// slowConn is a connection whose first Write waits, and whose WriteBuffers takes its time over what it is given, as one does
// that encrypts.
type slowConn struct {
	net.Conn
	first, goOn chan struct{}
	found       chan int // how many bytes of 1 it was given
}

func (c *slowConn) Write(p []byte) (int, error) {
	close(c.first)
	<-c.goOn
	return len(p), nil
}

func (c *slowConn) WriteBuffers(v [][]byte) (int64, error) {
	time.Sleep(100 * time.Millisecond)
	n := 0
	for _, p := range v {
		n += bytes.Count(p, []byte{1})
	}
	c.found <- n
	return 0, net.ErrClosed
}

// TestClosedSendsNothing: once a client is closed, nothing of what was to be written is read any more.
func TestClosedSendsNothing(t *testing.T) {
	near, far := net.Pipe()
	conn := &slowConn{near, make(chan struct{}), make(chan struct{}), make(chan int, 1)}
	c := sessionOn(conn, 2)
	f := &File{c: c}
	var wg sync.WaitGroup
	wg.Go(func() { f.ReadAt(context.Background(), make([]byte, 10), 0) }) // sends what comes meanwhile too
	<-conn.first
	p := make([]byte, behindBytes)
	ended := make(chan error, 1)
	wg.Go(func() {
		_, err := f.WriteAt(context.Background(), p, 0, wire.UNSTABLE4)
		ended <- err
	})
	for queued := false; !queued; time.Sleep(time.Millisecond) {
		c.t.mu.Lock()
		queued = len(c.t.queue) > 0
		c.t.mu.Unlock()
	}
	close(conn.goOn)
	far.Close()
	if err := <-ended; err == nil {
		t.Error("a write succeeds without a server")
	}
	c.Abandon()
	for i := range p {
		p[i] = 1
	}
	if n := <-conn.found; n > 40 { // those of the request's head
		t.Errorf("%d of the caller's later bytes were sent", n)
	}
	wg.Wait()
}
