package nfs4_test

import (
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// listed is a directory as a client sees it, by name, in as many pages as it takes.
func (s *session) listed(maxCount uint32, attrs ...wire.AttrNumber) (entries map[string]wire.Attrs, pages int) {
	s.r.t.Helper()
	entries = make(map[string]wire.Attrs)
	for cookie := uint64(0); ; pages++ {
		page := last[readdirRes](s.r.t, s.ok(putRoot, readdir(cookie, 0, maxCount, attrs...)))
		for _, e := range page.entries {
			if _, twice := entries[string(e.Name)]; twice || e.Cookie <= cookie {
				s.r.t.Fatalf("%q came twice, or cookie %d after %d", e.Name, e.Cookie, cookie)
			}
			entries[string(e.Name)], cookie = e.Attrs, e.Cookie
		}
		if page.eof {
			return entries, pages + 1
		}
		if len(page.entries) == 0 {
			s.r.t.Fatal("a page without entries")
		}
	}
}

var listedAttrs = []wire.AttrNumber{wire.FATTR4_TYPE, wire.FATTR4_CHANGE, wire.FATTR4_SIZE, wire.FATTR4_FILEID,
	wire.FATTR4_RDATTR_ERROR, wire.FATTR4_TIME_MODIFY}

// holding says that the client has made files of size bytes of what it holds.
func holding(size uint64) wire.Attrs {
	return wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_CHANGE, wire.FATTR4_SIZE), Change: 1 << 40, Size: size}
}

// READDIR tells of delegated files what their holders say, as GETATTR does, and of the others what the server has.
func TestReaddirOfDelegatedFiles(t *testing.T) {
	r := newRig(t, nil)
	holder, client := r.newCalled("holder")
	second, secondClient := r.newCalled("second holder")
	other := r.newSession("other")
	other.makeFile("plain", 0o644)
	holder.delegated("a", forBoth)
	holder.delegated("read", forRead)
	second.delegated("b", forBoth)
	client.with(func() { client.attrs = holding(99) })
	secondClient.with(func() { secondClient.attrs = holding(77) })

	before, _ := holder.listed(1<<15, wire.FATTR4_TYPE) // nothing that anybody need be asked about
	client.quiet()
	secondClient.quiet()
	got, _ := other.listed(1<<15, listedAttrs...)
	client.expect(wire.OP_CB_GETATTR)
	secondClient.expect(wire.OP_CB_GETATTR)
	for name, size := range map[string]uint64{"a": 99, "b": 77, "read": 5, "plain": 0, "probe": 0} {
		e := got[name]
		if e.Size != size || e.RdattrError != wire.NFS4_OK || !e.Mask.Has(wire.FATTR4_SIZE) {
			t.Errorf("%s: %+v", name, e)
		}
		a := last[wire.GetAttrRes](t, other.ok(putRoot, lookup(name), getAttr(listedAttrs[:4]...))).Attrs
		if a.Size != e.Size || a.Change != e.Change || a.FileID != e.FileID {
			t.Errorf("%s: READDIR says %d and change %d, GETATTR %d and %d", name, e.Size, e.Change, a.Size, a.Change)
		}
	}
	if len(got) != 5 || len(before) != 5 {
		t.Errorf("listed %v, and before %v", maps.Keys(got), maps.Keys(before))
	}

	client.with(func() { client.attrs = holding(100) })
	if again, _ := other.listed(1<<15, listedAttrs...); again["a"].Size != 100 || again["a"].Change <= got["a"].Change ||
		again["b"].Change != got["b"].Change {
		t.Errorf("after one more change: %+v, then %+v", got, again)
	}
	if own, _ := second.listed(1<<15, listedAttrs...); own["b"].Size != 5 {
		t.Errorf("the holder itself is told of another's size: %+v", own["b"])
	}
}

// A list of more files than are asked about at once comes in pages, each file with what its holder said.
func TestReaddirOfManyDelegatedFiles(t *testing.T) {
	const files = 150
	r := newRig(t, nil)
	holder, client := r.newCalled("holder")
	other := r.newSession("other")
	for i := range files {
		holder.delegated(fmt.Sprint("file ", i), forBoth)
	}
	client.got = make(chan seen, 10*files)
	client.with(func() { client.attrs = holding(1234) })
	got, pages := other.listed(1<<18, listedAttrs...)
	for i := range files {
		if e := got[fmt.Sprint("file ", i)]; e.Size != 1234 {
			t.Errorf("file %d: %+v", i, e)
		}
	}
	if pages != 3 || len(client.got) != files {
		t.Errorf("%d pages, %d callbacks", pages, len(client.got))
	}
	// In small pages each is asked about in its own; what did not fit into one counts for the next.
	got, _ = other.listed(1<<10, listedAttrs...)
	for name, e := range got {
		if e.Size != 1234 && name != "probe" {
			t.Errorf("%q in small pages: %+v", name, e)
		}
	}
}

// A holder that does not answer delays what is told of its files, and nothing else.
func TestReaddirWithSilentHolder(t *testing.T) {
	r := newRig(t, nil)
	holder, client := r.newCalled("holder")
	other := r.newSession("other")
	other.makeFile("plain", 0o644)
	h, open := holder.delegated("f", forBoth)
	client.with(func() {
		client.attrs = holding(99)
		got, _ := other.listed(1<<15, listedAttrs...)
		if e := got["f"]; e.RdattrError != wire.NFS4ERR_DELAY || e.Type != wire.NF4REG || e.FileID == 0 ||
			!e.Mask.And(wire.BitmapOf(wire.FATTR4_CHANGE, wire.FATTR4_SIZE, wire.FATTR4_TIME_MODIFY)).IsZero() {
			t.Errorf("its file: %+v", e)
		}
		if e := got["plain"]; e.RdattrError != wire.NFS4_OK || !e.Mask.Has(wire.FATTR4_SIZE) {
			t.Errorf("another: %+v", e)
		}
		other.fails(wire.NFS4ERR_DELAY, putRoot, readdir(0, 0, 1<<15, wire.FATTR4_SIZE))
	})
	client.expect(wire.OP_CB_GETATTR) // all asked the same question
	if got, _ := other.listed(1<<15, listedAttrs...); got["f"].Size != 99 || got["f"].RdattrError != wire.NFS4_OK {
		t.Errorf("once it answers: %+v", got["f"])
	}
	client.drain() // it was asked once more, unless its first answer came just then

	client.with(func() { client.statuses = []wire.Status{wire.NFS4ERR_BADHANDLE} })
	if got, _ := other.listed(1<<15, listedAttrs...); got["f"].RdattrError != wire.NFS4ERR_DELAY {
		t.Errorf("it refused: %+v", got["f"])
	}
	client.expect(wire.OP_CB_GETATTR)
	recall := client.expect(wire.OP_CB_RECALL)
	holder.ok(putFH(h), giveBack(recall.recall.Stateid), closeFile(open.Stateid))
	if got, _ := other.listed(1<<15, listedAttrs...); got["f"].Size != 5 || got["f"].RdattrError != wire.NFS4_OK {
		t.Errorf("given back: %+v", got["f"])
	}
	client.quiet()
}

// A list does not wait for the delegation of a holder that won't tell: it may have many such files.
func TestReaddirDoesNotWaitForDelegations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		holder, client := r.newCalled("holder")
		other := r.newSession("other")
		holder.delegated("f", forBoth)
		client.with(func() { client.statuses = []wire.Status{wire.NFS4ERR_BADHANDLE} })
		began := time.Now()
		got, _ := other.listed(1<<15, listedAttrs...)
		if d := time.Since(began); d != 0 {
			t.Errorf("waited for %v", d)
		}
		if got["f"].RdattrError != wire.NFS4ERR_DELAY {
			t.Errorf("told %+v", got["f"])
		}
		client.expect(wire.OP_CB_GETATTR)
		client.expect(wire.OP_CB_RECALL)
		if got := r.s.Stats().RecallWaits; got != (nfs4.RecallStats{}) {
			t.Errorf("counted %+v", got)
		}
	})
}
