package nfs4_test

import (
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

func TestQuick(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("c")
	h, id := s.makeFile("f", 0o644)
	for name, c := range map[string]struct {
		ops  []call
		want bool
	}{
		"renewal":      {nil, true},
		"GETATTR":      {[]call{putFH(h), getAttr(wire.FATTR4_SIZE)}, true},
		"ACCESS":       {[]call{putFH(h), access(1), getAttr(wire.FATTR4_SIZE)}, true},
		"small READ":   {[]call{putFH(h), read(id, 0, 4096)}, true},
		"large READ":   {[]call{putFH(h), read(id, 0, 1<<20)}, false},
		"WRITE":        {[]call{putFH(h), write(id, 0, "data")}, false},
		"COMMIT":       {[]call{putFH(h), commit(0)}, false},
		"only a PUTFH": {[]call{putFH(h)}, false},
	} {
		args := s.encode(c.ops...)
		whole := rpc.Call{Program: wire.Program, Version: 4, Procedure: wire.ProcCompound, Args: xdr.NewDecoder(args)}
		if got := s.b.Quick(&whole); got != c.want {
			t.Errorf("%s: quick %v", name, got)
		}
		if whole.Args.Offset() != 0 {
			t.Errorf("%s: the cursor has moved", name)
		}
		for n := range args { // cut short, it may be anything but a panic
			s.b.Quick(&rpc.Call{Program: wire.Program, Version: 4, Procedure: wire.ProcCompound, Args: xdr.NewDecoder(args[:n])})
		}
	}
	if !s.b.Quick(&rpc.Call{Program: wire.Program, Procedure: wire.ProcNull}) {
		t.Error("NULL is not quick")
	}
	if s.b.Quick(&rpc.Call{Program: 1, Procedure: wire.ProcCompound}) {
		t.Error("a call to another program is quick")
	}
}
