package nfsclient

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// scripted is a server that answers the n-th call with the n-th script, whatever was asked: bytes that
// follow the xid, then the connection is closed.
func scripted(t testing.TB, scripts ...[]byte) net.Conn {
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer server.Close()
		records := rpc.NewRecordReader(server, 1<<20)
		for _, script := range scripts {
			call, err := records.Next(nil)
			if err != nil || len(call) < 4 {
				return
			}
			reply := binary.BigEndian.AppendUint32(nil, 1<<31|uint32(4+len(script)))
			reply = append(append(reply, call[:4]...), script...)
			if _, err := server.Write(reply); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		client.Close()
		<-done
	})
	return client
}

// compoundScript is a successful RPC reply with results.
func compoundScript(status wire.Status, results func(w *wire.CompoundWriter, e *xdr.Encoder)) []byte {
	e := xdr.NewEncoder(make([]byte, 0, 4096))
	e.Append(make([]byte, 20))
	binary.BigEndian.PutUint32(e.Bytes(), 1)
	var w wire.CompoundWriter
	w.Begin(&e, nil)
	results(&w, &e)
	w.End(status)
	return e.Bytes()
}

// one is the script of a single result.
func one(op wire.Op, status wire.Status, res Encoder) []byte {
	return compoundScript(status, func(w *wire.CompoundWriter, e *xdr.Encoder) {
		at := w.BeginOp(op)
		if res != nil {
			res.Encode(e)
		}
		w.EndOp(at, status)
	})
}

var (
	exchanged = one(wire.OP_EXCHANGE_ID, wire.NFS4_OK, &wire.ExchangeIDRes{ClientID: 7, SequenceID: 1})
	created   = one(wire.OP_CREATE_SESSION, wire.NFS4_OK, &wire.CreateSessionRes{
		SessionID: wire.SessionID{9}, SequenceID: 1,
		Fore: wire.ChannelAttrs{MaxRequestSize: 1 << 16, MaxResponseSize: 1 << 16, MaxRequests: 1},
	})
)

// What a server says that makes no sense is an error, at once.
func TestNewRefuses(t *testing.T) {
	sequence := func(res wire.SequenceRes) []byte { return one(wire.OP_SEQUENCE, wire.NFS4_OK, &res) }
	for _, c := range []struct {
		name    string
		scripts [][]byte
		want    error
	}{
		{"hangs up", nil, nil},
		{"program unavailable", [][]byte{{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}}, nil},
		{"half a reply", [][]byte{{0, 0, 0, 1, 0, 0}}, rpc.ErrReply},
		{"no result", [][]byte{compoundScript(wire.NFS4_OK, func(*wire.CompoundWriter, *xdr.Encoder) {})}, ErrProtocol},
		{"minor version", [][]byte{compoundScript(wire.NFS4ERR_MINOR_VERS_MISMATCH, func(*wire.CompoundWriter, *xdr.Encoder) {})},
			wire.NFS4ERR_MINOR_VERS_MISMATCH},
		{"another operation", [][]byte{one(wire.OP_READ, wire.NFS4_OK, nil)}, ErrProtocol},
		{"refuses the client", [][]byte{one(wire.OP_EXCHANGE_ID, wire.NFS4ERR_CLID_INUSE, nil)}, wire.NFS4ERR_CLID_INUSE},
		{"result cut short", [][]byte{one(wire.OP_EXCHANGE_ID, wire.NFS4_OK, nil)}, xdr.ErrShort},
		{"refuses the session", [][]byte{exchanged, one(wire.OP_CREATE_SESSION, wire.NFS4ERR_NOSPC, nil)}, wire.NFS4ERR_NOSPC},
		{"another session", [][]byte{exchanged, created, sequence(wire.SequenceRes{SequenceID: 1})}, ErrProtocol},
		{"another sequence id", [][]byte{exchanged, created, sequence(wire.SequenceRes{SessionID: wire.SessionID{9}, SequenceID: 2})},
			ErrProtocol},
		{"dead session", [][]byte{exchanged, created, one(wire.OP_SEQUENCE, wire.NFS4ERR_DEADSESSION, nil)}, wire.NFS4ERR_DEADSESSION},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(t.Context(), scripted(t, c.scripts...), Options{})
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// A server that does not answer is given up with the context.
func TestNewGivesUp(t *testing.T) {
	client, server := net.Pipe()
	defer server.Close()
	go io.Copy(io.Discard, server) // ends with the connection
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := New(ctx, client, Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestOptionsValidate(t *testing.T) {
	for _, c := range []struct {
		name  string
		o     Options
		valid bool
	}{
		{"defaults", Options{}, true},
		{"minor version 3", Options{MinorVersion: 3}, false},
		{"too many slots", Options{Slots: MaxSlots + 1}, false},
		{"no room", Options{MaxBytes: 100}, false},
		{"17 groups", Options{Groups: make([]uint32, 17)}, false},
		{"machine name", Options{Machine: string(make([]byte, 256))}, false},
	} {
		c.o.EnsureDefaults()
		if err := c.o.Validate(); (err == nil) != c.valid {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	var a, b Options
	a.EnsureDefaults()
	b.EnsureDefaults()
	if a.Owner == b.Owner {
		t.Error("two clients have the same owner by default")
	}
}

// Requests that become ready together go out whole, with writev and without, and each gets its reply.
func TestTransportManyWriters(t *testing.T) {
	for _, hidden := range []bool{false, true} {
		conn := serveOn(t, echo{})
		if hidden {
			conn = struct{ net.Conn }{conn}
		}
		free := make(chan *call, 32)
		tr := newTransport(conn, rpc.Auth{Flavor: rpc.AuthSys}, 1<<20)
		for i := range cap(free) {
			free <- tr.newCall(i, free)
		}
		var wg sync.WaitGroup
		for i := range 400 {
			wg.Go(func() { echoOne(t, free, bytes.Repeat([]byte{byte(i)}, i*i)) })
		}
		wg.Wait()
		tr.close(ErrClosed)
	}
}

// echo answers an opaque with itself.
type echo struct{}

func (echo) Handle(_ context.Context, call *rpc.Call, reply *xdr.Encoder) {
	call.Succeed(reply)
	reply.Opaque(call.Args.Opaque(1 << 20))
}

func echoOne(t *testing.T, free chan *call, data []byte) {
	c := <-free
	defer c.release()
	c.begin(1, 2, 3)
	c.enc.Opaque(data)
	if _, err := c.do(context.Background()); err != nil {
		t.Error(err)
		return
	}
	if got := c.results.Opaque(1 << 20); !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back of %d", len(got), len(data))
	}
}

// FuzzClient answers a client's calls with arbitrary bytes.
func FuzzClient(f *testing.F) {
	ok := func(w *wire.CompoundWriter, e *xdr.Encoder, op wire.Op, res Encoder) {
		at := w.BeginOp(op)
		if res != nil {
			res.Encode(e)
		}
		w.EndOp(at, wire.NFS4_OK)
	}
	page := compoundScript(wire.NFS4_OK, func(w *wire.CompoundWriter, e *xdr.Encoder) {
		ok(w, e, wire.OP_SEQUENCE, &wire.SequenceRes{SessionID: wire.SessionID{9}, SequenceID: 1})
		ok(w, e, wire.OP_PUTFH, nil)
		at := w.BeginOp(wire.OP_READDIR)
		var r wire.ReaddirWriter
		r.Begin(e, wire.Verifier{}, 0, 1000)
		r.Add(3, "name", &wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_FILEID), FileID: 3})
		r.End(true)
		w.EndOp(at, wire.NFS4_OK)
	})
	f.Add(page)
	f.Add(one(wire.OP_SEQUENCE, wire.NFS4ERR_BADSESSION, nil))
	f.Fuzz(func(t *testing.T, script []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		c, err := New(ctx, scripted(t, script), Options{})
		if err == nil {
			t.Fatal("one reply makes a client")
		}
		if c != nil {
			t.Fatal("a client and an error")
		}
		fuzzCall(ctx, t, script, func(c *Client) error {
			return c.ReadDir(ctx, "dir", BasicAttrs, func(*wire.DirEntry) bool { return true })
		})
		fuzzCall(ctx, t, script, func(c *Client) error {
			_, _, err := c.Open(ctx, "dir", "name", OpenOptions{})
			return err
		})
		fuzzCall(ctx, t, script, func(c *Client) error {
			n, _, err := (&File{c: c}).ReadAt(ctx, make([]byte, 10), 0)
			if n > 10 {
				t.Fatalf("%d bytes read", n)
			}
			return err
		})
	})
}

// fuzzCall makes one call of a client that has its session already.
func fuzzCall(ctx context.Context, t *testing.T, script []byte, f func(*Client) error) {
	c := &Client{
		t: newTransport(scripted(t, script), rpc.Auth{}, DefaultMaxBytes), sessionID: wire.SessionID{9},
		slots: make(chan *call, 1), maxRead: 1 << 16, maxWrite: 1 << 16,
		o: Options{Slots: 1}, fore: wire.ChannelAttrs{MaxRequests: 1},
	}
	c.slots <- c.t.newCall(0, c.slots)
	f(c)
	c.t.close(ErrClosed)
}
