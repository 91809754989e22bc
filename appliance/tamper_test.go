package appliance

import (
	"testing"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/xtsengine/filestore"
)

// TestTamperLog: each block is on record once, no more than the bound are, and what is over is said.
func TestTamperLog(t *testing.T) {
	var got []audit.Event
	gate := make(chan struct{})
	l := newTamperLog(func(e audit.Event) error {
		<-gate
		got = append(got, e)
		return nil
	}, zap.NewNop())
	for range 3 {
		l.note("fs-1", filestore.TamperedBlock{Inode: 7, FileBlock: 1, Block: 99})
	}
	l.note("fs-2", filestore.TamperedBlock{Inode: 7, FileBlock: 1, Block: 99})
	for n := range uint64(tamperQueue + 10) { // nobody reads: some are lost, none waits
		l.note("fs-1", filestore.TamperedBlock{Inode: n})
	}
	close(gate)
	l.close()
	if len(got) < 3 || len(got) > tamperQueue+3 {
		t.Fatalf("%d records", len(got))
	}
	first := got[0]
	if first.Name != "TamperedBlock" || first.Resources[0] != "fs-1" || first.Parameters["inode"] != "7" ||
		first.Parameters["fileBlock"] != "1" || first.Parameters["volumeBlock"] != "99" || got[1].Resources[0] != "fs-2" {
		t.Errorf("%+v, %+v", first, got[1])
	}
	if last := got[len(got)-1]; last.Name != "TamperedBlocksNotRecorded" || last.Parameters["count"] == "0" {
		t.Errorf("the last one: %+v", last)
	}
}
