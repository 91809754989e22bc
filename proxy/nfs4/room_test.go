package nfs4_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// busyFS knows whether it is asked for a list: it can't be stopped then.
type busyFS struct {
	*spyFS
	busy bool
}

func (f *busyFS) ReadDir(ctx context.Context, cred *vfs.Cred, dir vfs.FileID, after uint64, withAttr bool,
	visit func(*vfs.DirEntry) bool) (bool, error) {
	f.busy = true
	defer func() { f.busy = false }()
	return f.spyFS.ReadDir(ctx, cred, dir, after, withAttr, visit)
}

func (f *busyFS) ListXattrs(ctx context.Context, cred *vfs.Cred, id vfs.FileID, after uint64,
	visit func(string, uint64) bool) (bool, error) {
	f.busy = true
	defer func() { f.busy = false }()
	return f.spyFS.ListXattrs(ctx, cred, id, after, visit)
}

// idleGrower counts how often memory is taken while the file system is busy, and while it is not.
type idleGrower struct {
	of         *busyFS
	busy, idle int
}

func (g *idleGrower) Grow(old []byte, need int) []byte {
	if g.of.busy {
		g.busy++
	} else {
		g.idle++
	}
	return append(make([]byte, 0, need), old...)
}

// A list that fits into the memory of every reply takes no more, whatever the client gives room for; what does not is the same list as
// with all memory at once.
func TestShortListsTakeNoMemory(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession42("c")
	h, _ := s.makeFile("f", 0o644)
	list := func(room int, ops ...call) (raw []byte, grown int) {
		grow := &idleGrower{of: &busyFS{}}
		c := rpc.Call{XID: lastXID.Add(1), Program: wire.Program, Version: wire.RPCVersion, Procedure: wire.ProcCompound,
			Auth: s.auth, Args: xdr.NewDecoder(s.encode(ops...))}
		var e xdr.Encoder
		e.Reset(make([]byte, 0, room), 1<<20, grow)
		r.b.Handle(context.Background(), &c, &e)
		a := parseAnswer(e.Bytes())
		wantStatus(t, a, wire.NFS4_OK)
		return a.raw[resultsAt(a):], grow.idle
	}
	for n := range 200 {
		s.ok(putRoot, mkdir(fmt.Sprint(n, strings.Repeat("x", 100)), 0o755))
		s.ok(putFH(h), setXattr(fmt.Sprint(n, strings.Repeat("x", 100)), "", wire.SETXATTR4_CREATE))
		if n%40 != 39 {
			continue
		}
		for _, max := range []uint32{2000, 7000, 9000, 30000, 1 << 20} {
			for _, dirCount := range []uint32{0, 5000, 1 << 20} {
				for _, ops := range [][]call{
					{putRoot, readdir(0, dirCount, max, wire.FATTR4_TYPE, wire.FATTR4_FILEID, wire.FATTR4_SIZE)},
					{putFH(h), listXattrs(0, max)},
				} {
					all, _ := list(1<<20, ops...)
					got, grown := list(8<<10, ops...)
					if !bytes.Equal(got, all) {
						t.Errorf("%v of %d bytes: %d, not the same %d", ops[1].op, max, len(got), len(all))
					}
					if long := len(all) > 7900; grown > 1 || long != (grown == 1) {
						t.Errorf("%v of %d bytes: memory for %d was taken %d times", ops[1].op, max, len(all), grown)
					}
				}
			}
		}
	}
}

// resultsAt is where the results behind SEQUENCE begin.
func resultsAt(a *answer) int { return 12 + len(a.tag) + 4 + 48 }

// Who writes a list does not wait for memory while the file system waits for it.
func TestListsHaveTheirMemoryBefore(t *testing.T) {
	var fs *busyFS
	r := newRig(t, func(o *nfs4.Options) {
		fs = &busyFS{spyFS: o.FS.(*spyFS)}
		o.FS = fs
	})
	s := r.newSession42("c")
	h, _ := s.makeFile("f", 0o644)
	for k := range 200 {
		s.ok(putRoot, mkdir(fmt.Sprint(k, strings.Repeat("x", 100)), 0o755))
		s.ok(putFH(h), setXattr(fmt.Sprint(k, strings.Repeat("x", 100)), "", wire.SETXATTR4_CREATE))
	}
	s.ok(putRoot, mkdir("empty", 0o755))
	for _, max := range []uint32{0, 7, 15} {
		s.fails(wire.NFS4ERR_TOOSMALL, putRoot, lookup("empty"), readdir(0, 0, max, wire.FATTR4_TYPE))
	}
	s.ok(putRoot, lookup("empty"), readdir(0, 0, 16, wire.FATTR4_TYPE))
	for _, max := range []uint32{0, 7, 15, 16, 50} {
		s.fails(wire.NFS4ERR_TOOSMALL, putRoot, readdir(0, 0, max, wire.FATTR4_TYPE))
		s.fails(wire.NFS4ERR_TOOSMALL, putFH(h), listXattrs(0, max))
	}
	for _, max := range []uint32{200, 1000, 1020, 4000, 8000, 1 << 20} {
		for _, ops := range [][]call{
			{putRoot, readdir(0, 0, max, wire.FATTR4_TYPE, wire.FATTR4_FILEID, wire.FATTR4_SIZE)},
			{putFH(h), listXattrs(0, max)},
		} {
			grow := &idleGrower{of: fs}
			c := rpc.Call{XID: lastXID.Add(1), Program: wire.Program, Version: wire.RPCVersion, Procedure: wire.ProcCompound,
				Auth: s.auth, Args: xdr.NewDecoder(s.encode(ops...))}
			var e xdr.Encoder
			e.Reset(make([]byte, 0, 1024), 1<<20, grow)
			r.b.Handle(context.Background(), &c, &e)
			a := parseAnswer(e.Bytes())
			wantStatus(t, a, wire.NFS4_OK)
			if grow.busy != 0 || max > 1000 && grow.idle == 0 {
				t.Errorf("%v of %d bytes: memory was taken %d times while the file system was busy, %d times while it was not",
					ops[1].op, max, grow.busy, grow.idle)
			}
			if size := int(max) + 200; len(a.raw) > size || max <= 8000 && len(a.raw) < int(max)-400 {
				t.Errorf("%v of %d bytes: %d", ops[1].op, max, len(a.raw))
			}
		}
	}
}
