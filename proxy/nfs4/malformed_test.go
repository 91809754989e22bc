package nfs4_test

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// peer is a client's end of a TCP connection, over which it sends what it likes.
type peer struct {
	t       *testing.T
	conn    net.Conn
	records *rpc.RecordReader
}

// dialTCP is a connection to the rig, and what is closed when its other end has ended.
func (r *rig) dialTCP(t *testing.T) (conn net.Conn, gone <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if conn, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return conn, r.serve(far)
}

func (r *rig) dial(t *testing.T) *peer {
	t.Helper()
	conn, served := r.dialTCP(t)
	t.Cleanup(func() {
		conn.Close()
		<-served
	})
	conn.SetDeadline(time.Now().Add(time.Minute))
	return &peer{t: t, conn: conn, records: rpc.NewRecordReader(conn, 2<<20)}
}

// send makes one call and returns its answer.
func (p *peer) send(args []byte) *answer {
	p.t.Helper()
	xid := lastXID.Add(1)
	e := xdr.NewEncoder(make([]byte, 0, len(args)+256))
	e.Uint32(0)
	auth := sysAuth(0, 0)
	rpc.AppendCall(&e, xid, wire.Program, wire.RPCVersion, wire.ProcCompound, &auth)
	e.Append(args)
	e.PutUint32At(0, 1<<31|uint32(e.Len()-4))
	if _, err := p.conn.Write(e.Bytes()); err != nil {
		p.t.Fatal(err)
	}
	record, err := p.records.Next(nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if got := binary.BigEndian.Uint32(record); got != xid {
		p.t.Fatalf("the answer is to call %d, not %d", got, xid)
	}
	return parseAnswer(record)
}

// cut is b without its last n bytes.
func cut(b []byte, n int) []byte { return b[:len(b)-n] }

// patched is b with a number at a place counted from the end.
func patched(b []byte, fromEnd int, n uint32) []byte {
	binary.BigEndian.PutUint32(b[len(b)-fromEnd:], n)
	return b
}

// A COMPOUND that cannot be read, or asks for what there is not, is told so, and the connection and the clients
// that use it go on.
func TestMalformedCompoundsLeaveTheConnection(t *testing.T) {
	r := newRig(t, nil)
	s, o := r.newSession42("c"), r.newOld("old")
	h, id := s.makeFile("f", 0o644)
	s.ok(putFH(h), write(id, 0, "content"))
	h40, id40 := o.makeFile("g")
	o.ok(putFH(h40), write(id40, 0, "other content"))
	p := r.dial(t)
	for _, c := range []struct {
		name   string
		args   func() []byte
		accept rpc.AcceptStatus
		want   wire.Status
	}{
		{"nothing", func() []byte { return nil }, rpc.GarbageArgs, 0},
		{"half a header", func() []byte { return encodeCompound("tag", 1)[:10] }, rpc.GarbageArgs, 0},
		{"a tag longer than all", func() []byte { return []byte{0xff, 0xff, 0xff, 0xff} }, rpc.GarbageArgs, 0},
		{"4294967295 operations", func() []byte { return patched(encodeCompound("", 0), 4, ^uint32(0)) }, rpc.GarbageArgs, 0},
		{"more operations than bytes", func() []byte { return patched(encodeCompound("", 2, putRoot), 8, 3) }, rpc.GarbageArgs, 0},
		{"minor version 9", func() []byte { return encodeCompound("", 9, putRoot) }, 0, wire.NFS4ERR_MINOR_VERS_MISMATCH},
		{"half an EXCHANGE_ID", func() []byte { return cut(encodeCompound("", 1, exchangeID("x")), 8) }, 0, wire.NFS4ERR_BADXDR},
		{"half a SEQUENCE", func() []byte { return cut(encodeCompound("", 1, s.sequence()), 8) }, 0, wire.NFS4ERR_BADXDR},
		{"half a SETCLIENTID", func() []byte { return cut(encodeCompound("", 0, setClientID("x", 1)), 8) }, 0, wire.NFS4ERR_BADXDR},
		{"half a WRITE", func() []byte { return cut(s.encode(putFH(h), write(id, 0, "12345678")), 4) }, 0, wire.NFS4ERR_BADXDR},
		{"half a WRITE of version 0", func() []byte { return cut(encodeCompound("", 0, putFH(h40), write(id40, 0, "1234")), 4) }, 0, wire.NFS4ERR_BADXDR},
		{"half a SETXATTR", func() []byte { return cut(s.encode(putFH(h), setXattr("k", "value", 0)), 4) }, 0, wire.NFS4ERR_BADXDR},
		{"a name of 4 GiB", func() []byte { return patched(s.encode(putRoot, remove("")), 4, ^uint32(0)) }, 0, wire.NFS4ERR_BADXDR},
		{"4294967295 stateids", func() []byte {
			return patched(s.encode(call{wire.OP_TEST_STATEID, &wire.TestStateidArgs{}}), 4, ^uint32(0))
		}, 0, wire.NFS4ERR_BADXDR},
		{"an endless bitmap", func() []byte { return patched(s.encode(putRoot, getAttr()), 4, ^uint32(0)) }, 0, wire.NFS4ERR_BADXDR},
		{"an operation announced and not sent", func() []byte { return cut(s.encode(putRoot, getFH), 4) }, 0, wire.NFS4ERR_BADXDR},
		{"an unknown operation", func() []byte { return s.encode(putRoot, call{op: 77}) }, 0, wire.NFS4ERR_OP_ILLEGAL},
		{"an absurd operation", func() []byte { return encodeCompound("", 1, call{op: 1 << 31}) }, 0, wire.NFS4ERR_OP_ILLEGAL},
		{"SEQUENCE in version 0", func() []byte { return encodeCompound("", 0, s.sequence()) }, 0, wire.NFS4ERR_OP_ILLEGAL},
		{"SEEK in version 1", func() []byte {
			return encodeCompound("", 1, seek(id, 0, wire.NFS4_CONTENT_DATA))
		}, 0, wire.NFS4ERR_OP_ILLEGAL},
		{"GETXATTR in version 0", func() []byte { return encodeCompound("", 0, putFH(h40), getXattr("k")) }, 0, wire.NFS4ERR_OP_ILLEGAL},
	} {
		a := p.send(c.args())
		if a.accept != c.accept || a.status != c.want || (a.raw == nil) != (c.accept == rpc.GarbageArgs) {
			t.Errorf("%s: accepted %d, %v; want %d, %v", c.name, a.accept, a.status, c.accept, c.want)
		}
		wantData(t, c.name, p.send(s.encode(putFH(h), read(id, 0, 100))), "content")
		wantData(t, c.name, p.send(encodeCompound("", 0, putFH(h40), read(id40, 0, 100))), "other content")
	}
}

func wantData(t *testing.T, after string, a *answer, want string) {
	t.Helper()
	if a.raw == nil || a.status != wire.NFS4_OK {
		t.Fatalf("after %s: %+v", after, a)
	}
	if got := string(last[wire.ReadRes](t, a).Data); got != want {
		t.Fatalf("after %s: read %q", after, got)
	}
}
