package nfs4_test

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// lendingFS lends whatever is there, in pieces, and counts.
type lendingFS struct {
	vfs.FileSystem
	lent, out atomic.Int32 // how often it has lent, and what of that was not returned yet
}

// pieces is a loan.
type pieces struct {
	f *lendingFS
	v [][]byte
}

func (p *pieces) Views() [][]byte { return p.v }

func (p *pieces) Return() {
	for _, view := range p.v {
		clear(view)
	}
	p.v = nil
	p.f.out.Add(-1)
}

func (f *lendingFS) Lend(ctx context.Context, cred *vfs.Cred, id vfs.FileID, offset uint64, length int) (vfs.Loan, bool) {
	p := make([]byte, length)
	n, eof, err := f.Read(ctx, cred, id, offset, p)
	if err != nil || n == 0 {
		return nil, false
	}
	f.lent.Add(1)
	f.out.Add(1)
	l := &pieces{f: f}
	for rest := p[:n]; len(rest) > 0; {
		k := min(len(rest), 30_001)
		l.v = append(l.v, rest[:k])
		rest = rest[k:]
	}
	return l, eof
}

// lendingRig is a rig whose file system lends, and a client of it over TCP.
func lendingRig(t *testing.T) (*rig, *lendingFS, *nfsclient.Client) {
	t.Helper()
	r := newRig(t, nil)
	f := &lendingFS{FileSystem: r.fs}
	r.o.FS = f
	r.restart()
	near, gone := r.dialTCP(t)
	c, err := nfsclient.New(t.Context(), near, nfsclient.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		<-gone
		if n := f.out.Load(); n != 0 {
			t.Errorf("%d loans were not returned", n)
		}
	})
	return r, f, c
}

// remote sends the next request of a session over RPC.
func (s *session) remote(t *testing.T, c *nfsclient.Client, ops ...call) *answer {
	t.Helper()
	args := s.encode(ops...)
	_, record, err := c.RawCall(t.Context(), wire.Program, wire.RPCVersion, wire.ProcCompound, func(e *xdr.Encoder) { e.Append(args) })
	if err != nil {
		t.Fatal(err)
	}
	return parseAnswer(record)
}

// TestReadLends: long READs and READ_PLUSes are sent from where the data lies, short ones and those that something follows are not, and all are
// what is in the file.
func TestReadLends(t *testing.T) {
	r, f, c := lendingRig(t)
	s := r.newSession42("owner of the session")
	h, id := s.makeFile("f", 0o644)
	content := make([]byte, 300_001)
	for i := range content {
		content[i] = byte(i*7>>5) | 1
	}
	s.ok(putFH(h), write(id, 0, string(content)))
	end := uint64(len(content))
	for _, x := range []struct {
		offset uint64
		count  uint32
		then   []call
		lent   int32
	}{
		{0, 65536, nil, 1},
		{1, 65537, nil, 1}, // three bytes of padding
		{4095, 100_002, nil, 1},
		{0, 1 << 20, nil, 1}, // to the end, with padding
		{end - 70_000, 70_000, nil, 1},
		{end, 70_000, nil, 0},
		{end + 5, 70_000, nil, 0},
		{0, 65535, nil, 0},
		{0, 65536, []call{getAttr(wire.FATTR4_SIZE)}, 0},
		{7, 65536, []call{read(id, 7, 65536)}, 1}, // the last of two
	} {
		t.Run(fmt.Sprint(x.offset, " ", x.count, " ", len(x.then)), func(t *testing.T) {
			before := f.lent.Load()
			a := s.remote(t, c, append([]call{putFH(h), read(id, x.offset, x.count)}, x.then...)...)
			wantStatus(t, a, wire.NFS4_OK)
			want := content[min(x.offset, end):min(x.offset+uint64(x.count), end)]
			got := at[wire.ReadRes](t, a, 2)
			if !bytes.Equal(got.Data, want) || got.EOF != (x.offset+uint64(x.count) >= end) {
				t.Errorf("%d bytes, end %v; want %d", len(got.Data), got.EOF, len(want))
			}
			if len(x.then) == 1 && x.then[0].op == wire.OP_READ && !bytes.Equal(at[wire.ReadRes](t, a, 3).Data, want) {
				t.Error("the second READ has other data")
			}
			if n := f.lent.Load() - before; n != x.lent {
				t.Errorf("lent %d times, want %d", n, x.lent)
			}
			if len(x.then) > 0 {
				return
			}
			before = f.lent.Load()
			a = s.remote(t, c, putFH(h), readPlus(id, x.offset, x.count))
			wantStatus(t, a, wire.NFS4_OK)
			plus := last[readPlusRes](t, a)
			var data []byte
			for _, segment := range plus.segments {
				data = append(data, segment.Data...)
			}
			if !bytes.Equal(data, want) || plus.eof != got.EOF || x.lent == 1 && (len(plus.segments) != 1 || plus.segments[0].Offset != x.offset) {
				t.Errorf("READ_PLUS: %d bytes in %d segments, end %v; want %d", len(data), len(plus.segments), plus.eof, len(want))
			}
			if n := f.lent.Load() - before; n != x.lent {
				t.Errorf("READ_PLUS: lent %d times, want %d", n, x.lent)
			}
		})
	}
}

// TestReadLendsNothingKept: a reply of minor version 0 that is kept for a retry has its data in it.
func TestReadLendsNothingKept(t *testing.T) {
	r, f, c := lendingRig(t)
	s := r.newSession("owner of the session")
	h, id := s.makeFile("f", 0o644)
	s.ok(putFH(h), write(id, 0, string(bytes.Repeat([]byte{1}, 100_000))))
	s.ok(putFH(h), closeFile(id))
	for name, first := range map[string][]call{"alone": nil, "behind MKDIR": {putRoot, mkdir("d", 0o755)}} {
		before := f.lent.Load()
		args := encodeCompound("v4.0", 0, append(first, putFH(h), read(wire.Stateid{}, 0, 70_000))...)
		_, record, err := c.RawCall(t.Context(), wire.Program, wire.RPCVersion, wire.ProcCompound, func(e *xdr.Encoder) { e.Append(args) })
		if err != nil {
			t.Fatal(err)
		}
		a := parseAnswer(record)
		if wantStatus(t, a, wire.NFS4_OK); len(last[wire.ReadRes](t, a).Data) != 70_000 {
			t.Errorf("%s: %d bytes", name, len(last[wire.ReadRes](t, a).Data))
		}
		if lent := f.lent.Load() > before; lent != (first == nil) {
			t.Errorf("%s: lent %v", name, lent)
		}
	}
}

var _ rpc.Attachment = (*pieces)(nil)
