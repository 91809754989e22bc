package nfs4_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// sequenceAt is where the sequence id of a request with a tag of one byte is.
const sequenceAt = 4 + 4 + 4 + 4 + 4 + 16

// repeater sends one request over and over, each time with the next sequence id.
type repeater struct {
	s     *session
	args  []byte
	call  rpc.Call
	reply xdr.Encoder
}

func newRepeater(s *session, ops ...call) *repeater {
	args := s.encode(ops...)
	s.seq--
	return &repeater{s: s, args: args, reply: xdr.NewEncoder(make([]byte, 0, 2<<20))}
}

func (p *repeater) send(t testing.TB) {
	p.s.seq++
	binary.BigEndian.PutUint32(p.args[sequenceAt:], p.s.seq)
	p.call = rpc.Call{Program: wire.Program, Version: 4, Procedure: 1, Auth: p.s.auth, Args: xdr.NewDecoder(p.args)}
	p.reply.Truncate(0)
	p.s.b.Handle(context.Background(), &p.call, &p.reply)
	if st := binary.BigEndian.Uint32(p.reply.Bytes()[24:]); st != 0 {
		t.Fatal(wire.Status(st))
	}
}

// hotPaths are the requests that a client sends all the time.
func hotPaths(s *session, h []byte, id wire.Stateid) map[string][]call {
	return map[string][]call{
		"SEQUENCE": nil,
		"GETATTR": {putFH(h), getAttr(wire.FATTR4_TYPE, wire.FATTR4_CHANGE, wire.FATTR4_SIZE, wire.FATTR4_FSID, wire.FATTR4_FILEID,
			wire.FATTR4_MODE, wire.FATTR4_NUMLINKS, wire.FATTR4_OWNER, wire.FATTR4_OWNER_GROUP, wire.FATTR4_RAWDEV,
			wire.FATTR4_SPACE_USED, wire.FATTR4_TIME_ACCESS, wire.FATTR4_TIME_METADATA, wire.FATTR4_TIME_MODIFY, wire.FATTR4_MOUNTED_ON_FILEID)},
		"READ":      {putFH(h), read(id, 0, 4096)},
		"READ_PLUS": {putFH(h), readPlus(id, 0, 4096)},
		"WRITE":     {putFH(h), write(id, 0, string(make([]byte, 4096))), getAttr(wire.FATTR4_CHANGE, wire.FATTR4_SIZE)},
		"ACCESS":    {putFH(h), access(0x2d), getAttr(wire.FATTR4_CHANGE)},
		"COMMIT":    {putFH(h), commit(0)},
		"STATFS":    {putFH(h), getAttr(wire.FATTR4_SPACE_FREE, wire.FATTR4_FILES_FREE)},
	}
}

func TestHotPathsAllocateNothing(t *testing.T) {
	r := newRig(t, nil)
	r.o.FS = r.mem
	r.restart()
	s := r.newSession42("c")
	s.auth = sysAuth(0, 0, 1, 2, 3)
	h, id := s.makeFile("f", 0o644)
	for name, ops := range hotPaths(s, h, id) {
		p := newRepeater(s, ops...)
		p.send(t)
		if n := testing.AllocsPerRun(200, func() { p.send(t) }); n >= 1 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestListingAllocatesNothing lists a directory: the entries cost no memory, however many there are.
func TestListingAllocatesNothing(t *testing.T) {
	r := newRig(t, nil)
	r.o.FS = r.mem
	r.restart()
	s := r.newSession("c")
	attrs := []wire.AttrNumber{wire.FATTR4_TYPE, wire.FATTR4_CHANGE, wire.FATTR4_SIZE, wire.FATTR4_FILEHANDLE}
	allocations := func() float64 {
		p := newRepeater(s, putRoot, readdir(0, 0, 1<<18, attrs...))
		return testing.AllocsPerRun(50, func() { p.send(t) })
	}
	few := allocations()
	for n := range 200 {
		s.makeFile(fmt.Sprint("file ", n), 0o644)
	}
	if many := allocations(); many > few+20 {
		t.Errorf("%v allocations for 200 entries, %v for few", many, few)
	}
}

func BenchmarkCompound(b *testing.B) {
	r := newRig(b, nil)
	r.o.FS = r.mem
	r.restart()
	s := r.newSession42("c")
	h, id := s.makeFile("f", 0o644)
	for name, ops := range hotPaths(s, h, id) {
		b.Run(name, func(b *testing.B) {
			p := newRepeater(s, ops...)
			b.ReportAllocs()
			for b.Loop() {
				p.send(b)
			}
		})
	}
}
