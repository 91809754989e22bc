package nfsclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
	"github.com/nfseal/nfseal/proxy/nfsclient/bench"
)

// ganesha starts an independent server to try the client against.
func ganesha(t *testing.T) *bench.Process {
	t.Helper()
	return ganeshaWith(t, bench.GaneshaOptions{})
}

func ganeshaWith(t *testing.T, o bench.GaneshaOptions) *bench.Process {
	t.Helper()
	o.Dir = t.TempDir()
	if os.Geteuid() != 0 {
		t.Skip("nfs-ganesha needs root; `make test` as root runs this")
	}
	p, err := bench.StartGanesha(t.Context(), o)
	if errors.Is(err, bench.ErrNotInstalled) {
		t.Skipf("%v; `make test` installs it", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// connect makes a client of p.
func connect(t *testing.T, p *bench.Process, o nfsclient.Options) (*nfsclient.Client, nfsclient.Handle) {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := nfsclient.New(t.Context(), conn, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	root, err := c.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c, root
}

func TestGanesha(t *testing.T) {
	p := ganesha(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *bench.Process)
	}{
		{"names", testNames},
		{"data", testData},
		{"open modes", testOpenModes},
		{"readdir", testReadDir},
		{"locks", testLocks},
		{"attributes", testAttributes},
		{"exactly once", testExactlyOnce},
		{"many at once", testManyAtOnce},
		{"abandoned calls", testAbandonedCalls},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, p) })
	}
}

// must fails the test for an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails checks that err is the status given.
func fails(t *testing.T, err error, want wire.Status) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func testNames(t *testing.T, p *bench.Process) {
	ctx := t.Context()
	c, root := connect(t, p, nfsclient.Options{MinorVersion: 2})
	dir, err := c.Mkdir(ctx, root, "names", 0o750)
	must(t, err)
	_, err = c.Mkdir(ctx, root, "names", 0o750)
	fails(t, err, wire.NFS4ERR_EXIST)
	must(t, c.WriteFile(ctx, dir, "file", []byte("contents"), 0o640))
	file, a, err := c.Lookup(ctx, dir, "file")
	must(t, err)
	if a.Type != wire.NF4REG || a.Size != 8 || a.Mode != 0o640 || a.NumLinks != 1 {
		t.Errorf("attributes %+v", a)
	}
	must(t, c.Link(ctx, file, dir, "second"))
	must(t, c.Rename(ctx, dir, "file", root, "moved"))
	_, _, err = c.Lookup(ctx, dir, "file")
	fails(t, err, wire.NFS4ERR_NOENT)
	link, err := c.Symlink(ctx, dir, "link", "../moved")
	must(t, err)
	if target, err := c.Readlink(ctx, link); err != nil || target != "../moved" {
		t.Errorf("Readlink: %q, %v", target, err)
	}
	h, a, err := c.LookupPath(ctx, "/names//second")
	if err != nil || h != file || a.NumLinks != 2 {
		t.Errorf("LookupPath: same %v, %d links, %v", h == file, a.NumLinks, err)
	}
	if up, err := c.LookupParent(ctx, dir); err != nil || up != root {
		t.Errorf("LookupParent: same %v, %v", up == root, err)
	}
	_, err = c.Create(ctx, dir, &wire.CreateArgs{Type: wire.NF4FIFO, Name: []byte("fifo"),
		Attrs: wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_MODE), Mode: 0o600}})
	must(t, err)
	if _, a, err := c.Lookup(ctx, dir, "fifo"); err != nil || a.Type != wire.NF4FIFO {
		t.Errorf("fifo: type %d, %v", a.Type, err)
	}
	fails(t, c.Remove(ctx, root, "names"), wire.NFS4ERR_NOTEMPTY)
	for _, name := range []string{"second", "link", "fifo"} {
		must(t, c.Remove(ctx, dir, name))
	}
	must(t, c.Remove(ctx, root, "names"))
	must(t, c.Remove(ctx, root, "moved"))
}

// A path with more names than one COMPOUND takes.
func TestGaneshaLongPath(t *testing.T) {
	ctx := t.Context()
	c, dir := connect(t, ganesha(t), nfsclient.Options{})
	path := ""
	for i := range 25 {
		name := fmt.Sprintf("d%d", i)
		path += "/" + name
		var err error
		if dir, err = c.Mkdir(ctx, dir, name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if h, _, err := c.LookupPath(ctx, path); err != nil || h != dir {
		t.Errorf("same handle %v, %v", h == dir, err)
	}
}

func testData(t *testing.T, p *bench.Process) {
	ctx := t.Context()
	c, root := connect(t, p, nfsclient.Options{})
	data := make([]byte, 3<<20+777)
	rand.NewChaCha8([32]byte{1}).Read(data)
	must(t, c.WriteFile(ctx, root, "data", data, 0o600))
	got, err := c.ReadFile(ctx, root, "data")
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes came back, equal %v, %v", len(got), bytes.Equal(got, data), err)
	}

	f, _, err := c.Open(ctx, root, "data", nfsclient.OpenOptions{Read: true, Write: true})
	must(t, err)
	eof, err := f.View(ctx, 1<<20, 999, func(p []byte) error {
		if !bytes.Equal(p, data[1<<20:1<<20+999]) {
			return fmt.Errorf("%d bytes are not those of the file", len(p))
		}
		return nil
	})
	if err != nil || eof {
		t.Errorf("View: eof %v, %v", eof, err)
	}
	res, err := f.WriteAt(ctx, []byte("unstable"), 5, wire.UNSTABLE4)
	must(t, err)
	v, err := f.Commit(ctx, 0, 0)
	must(t, err)
	if v != res.Verifier || res.Count != 8 {
		t.Errorf("WRITE %+v, COMMIT verifier %x", res, v)
	}
	must(t, f.Truncate(ctx, 13))
	buf := make([]byte, 100)
	n, eof, err := f.ReadAt(ctx, buf, 5)
	if err != nil || !eof || string(buf[:n]) != "unstable" {
		t.Errorf("ReadAt: %q, eof %v, %v", buf[:n], eof, err)
	}
	must(t, f.Close(ctx))
	if fs, err := c.StatFS(ctx, root); err != nil || fs.SpaceTotal == 0 || fs.FilesTotal == 0 {
		t.Errorf("StatFS: %+v, %v", fs, err)
	}
	must(t, c.Remove(ctx, root, "data"))
}

func testOpenModes(t *testing.T, p *bench.Process) {
	ctx := t.Context()
	c, root := connect(t, p, nfsclient.Options{})
	must(t, c.WriteFile(ctx, root, "modes", []byte("x"), 0o600))
	_, _, err := c.Open(ctx, root, "modes", nfsclient.OpenOptions{Write: true, Create: true, How: wire.GUARDED4})
	fails(t, err, wire.NFS4ERR_EXIST)
	_, _, err = c.Open(ctx, root, "modes", nfsclient.OpenOptions{Write: true, Create: true, How: wire.EXCLUSIVE4_1})
	fails(t, err, wire.NFS4ERR_EXIST)

	exclusive := nfsclient.OpenOptions{
		Read: true, Write: true, Create: true, How: wire.EXCLUSIVE4_1, Verifier: wire.Verifier{1, 2, 3},
	}
	f, _, err := c.Open(ctx, root, "exclusive", exclusive)
	must(t, err)
	again, _, err := c.Open(ctx, root, "exclusive", exclusive)
	if err != nil || again.Handle() != f.Handle() {
		t.Errorf("the same exclusive create again: %v", err)
	}
	// A downgrade must be to what some of the opens asked for: this is one for reading alone.
	_, _, err = c.Open(ctx, root, "exclusive", nfsclient.OpenOptions{Read: true})
	must(t, err)
	must(t, again.Downgrade(ctx, nfsclient.OpenOptions{Read: true}))
	must(t, again.Close(ctx))
	_, _, err = again.ReadAt(ctx, make([]byte, 1), 0)
	fails(t, err, wire.NFS4ERR_BAD_STATEID)

	reader, _, err := c.Open(ctx, root, "modes", nfsclient.OpenOptions{Read: true})
	must(t, err)
	_, err = reader.WriteAt(ctx, []byte("x"), 0, wire.FILE_SYNC4)
	fails(t, err, wire.NFS4ERR_OPENMODE)
	must(t, reader.Close(ctx))

	byHandle, _, err := c.Open(ctx, f.Handle(), "", nfsclient.OpenOptions{Read: true, Claim: wire.CLAIM_FH})
	must(t, err)
	must(t, byHandle.Close(ctx))
	must(t, c.Remove(ctx, root, "exclusive"))
	must(t, c.Remove(ctx, root, "modes"))
}

func testReadDir(t *testing.T, p *bench.Process) {
	ctx := t.Context()
	c, root := connect(t, p, nfsclient.Options{MaxBytes: 16 << 10})
	dir, err := c.Mkdir(ctx, root, "many", 0o755)
	must(t, err)
	const files = 500
	var want []string
	var wg sync.WaitGroup
	for i := range files {
		name := fmt.Sprintf("entry %04d %s", i, "long enough for several pages"[:i%29])
		want = append(want, name)
		wg.Go(func() {
			if err := c.WriteFile(ctx, dir, name, nil, 0o644); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var got []string
	must(t, c.ReadDir(ctx, dir, nfsclient.BasicAttrs, func(e *wire.DirEntry) bool {
		if e.Attrs.Type != wire.NF4REG {
			t.Errorf("%s has type %d", e.Name, e.Attrs.Type)
		}
		got = append(got, string(e.Name))
		return true
	}))
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	seen := 0
	must(t, c.ReadDir(ctx, dir, wire.Bitmap{}, func(*wire.DirEntry) bool { seen++; return seen < 7 }))
	if seen != 7 {
		t.Errorf("visit stopped after %d entries, want 7", seen)
	}
}

func testLocks(t *testing.T, p *bench.Process) {
	ctx := t.Context()
	one, root := connect(t, p, nfsclient.Options{})
	two, _ := connect(t, p, nfsclient.Options{})
	must(t, one.WriteFile(ctx, root, "locked", []byte("0123456789"), 0o600))
	rw := nfsclient.OpenOptions{Read: true, Write: true}
	f1, _, err := one.Open(ctx, root, "locked", rw)
	must(t, err)
	f2, _, err := two.Open(ctx, root, "locked", rw)
	must(t, err)

	must(t, f1.Lock(ctx, nfsclient.Range{Offset: 2, Length: 3, Write: true}))
	err = f2.Lock(ctx, nfsclient.Range{Offset: 0, Write: true})
	var locked *nfsclient.LockedError
	if !errors.As(err, &locked) || locked.Holder.Offset != 2 || locked.Holder.Length != 3 {
		t.Errorf("lock over a lock: %v", err)
	}
	fails(t, f2.TestLock(ctx, nfsclient.Range{Offset: 4, Length: 1}), wire.NFS4ERR_DENIED)
	must(t, f2.TestLock(ctx, nfsclient.Range{Offset: 5, Length: 1}))
	must(t, f1.Unlock(ctx, nfsclient.Range{Offset: 2, Length: 3}))
	must(t, f2.Lock(ctx, nfsclient.Range{Offset: 0, Write: true}))
	must(t, f2.Lock(ctx, nfsclient.Range{Offset: 9, Length: 4, Write: true}))
	must(t, f2.Unlock(ctx, nfsclient.Range{}))
	must(t, f1.Lock(ctx, nfsclient.Range{Offset: 2, Length: 3, Owner: "another owner"}))
	must(t, f1.Unlock(ctx, nfsclient.Range{Owner: "another owner"}))
	must(t, f1.Close(ctx))
	must(t, f2.Close(ctx))
}

func testAttributes(t *testing.T, p *bench.Process) {
	ctx := t.Context()
	c, root := connect(t, p, nfsclient.Options{})
	must(t, c.WriteFile(ctx, root, "attrs", []byte("abc"), 0o600))
	h, _, err := c.Lookup(ctx, root, "attrs")
	must(t, err)
	mtime := wire.Time{Sec: 1_000_000_007, Nsec: 123_456_789}
	must(t, c.SetAttr(ctx, h, wire.AnonymousStateid, &wire.Attrs{
		Mask: wire.BitmapOf(wire.FATTR4_MODE, wire.FATTR4_OWNER, wire.FATTR4_OWNER_GROUP, wire.FATTR4_TIME_MODIFY_SET),
		Mode: 0o4751, Owner: wire.Principal{ID: 1234}, OwnerGroup: wire.Principal{ID: 4_000_000_000},
		TimeModifySet: wire.SetTime{Client: true, Time: mtime},
	}))
	var a wire.Attrs
	must(t, c.GetAttr(ctx, h, nfsclient.BasicAttrs, &a))
	if a.Mode&0o777 != 0o751 || a.Owner.ID != 1234 || a.OwnerGroup.ID != 4_000_000_000 || a.TimeModify != mtime {
		t.Errorf("attributes %+v", a)
	}
	must(t, c.GetAttr(ctx, h, wire.BitmapOf(wire.FATTR4_SUPPORTED_ATTRS), &a))
	readable := wire.KnownAttrs.And(a.SupportedAttrs).Without(
		wire.BitmapOf(wire.FATTR4_TIME_ACCESS_SET, wire.FATTR4_TIME_MODIFY_SET))
	must(t, c.GetAttr(ctx, h, readable, &a))
	if a.Mask != readable {
		t.Errorf("asked for %x, got %x", readable, a.Mask)
	}
	if a.Unknown || a.Size != 3 || !a.SupportedAttrs.Has(wire.FATTR4_SIZE) || string(a.Filehandle) != string(h) {
		t.Errorf("attributes %+v", a)
	}
	must(t, c.SetAttr(ctx, h, wire.AnonymousStateid, &wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_SIZE), Size: 1 << 33}))
	must(t, c.GetAttr(ctx, h, nfsclient.BasicAttrs, &a))
	if a.Size != 1<<33 {
		t.Errorf("size %d", a.Size)
	}
	acc, err := c.Access(ctx, h, wire.ACCESS4_READ|wire.ACCESS4_MODIFY)
	if err != nil || acc.Access != wire.ACCESS4_READ|wire.ACCESS4_MODIFY {
		t.Errorf("ACCESS %+v, %v", acc, err)
	}
	must(t, c.Remove(ctx, root, "attrs"))
}

// The same request in the same slot with the same sequence id is answered from the slot's cache.
func testExactlyOnce(t *testing.T, p *bench.Process) {
	ctx := t.Context()
	c, root := connect(t, p, nfsclient.Options{})
	slot, seq, release, err := c.HoldSlot(ctx)
	must(t, err)
	ops := func(seq uint32) []nfsclient.RawOp {
		return []nfsclient.RawOp{
			{Op: wire.OP_SEQUENCE, Args: &wire.SequenceArgs{
				SessionID: c.SessionID(), SequenceID: seq, SlotID: slot, HighestSlot: slot, CacheThis: true}},
			{Op: wire.OP_PUTFH, Args: &wire.PutFHArgs{Handle: []byte(root)}},
			{Op: wire.OP_CREATE, Args: &wire.CreateArgs{Type: wire.NF4DIR, Name: []byte("once")}},
		}
	}
	first, err := c.Compound(ctx, 1, ops(seq)...)
	must(t, err)
	again, err := c.Compound(ctx, 1, ops(seq)...)
	must(t, err)
	if first.Status != wire.NFS4_OK || !bytes.Equal(first.Record[4:], again.Record[4:]) {
		t.Errorf("%v, then %v; equal %v", first.Status, again.Status, bytes.Equal(first.Record[4:], again.Record[4:]))
	}
	next, err := c.Compound(ctx, 1, ops(seq+1)...)
	if err != nil || next.Status != wire.NFS4ERR_EXIST {
		t.Errorf("the next request: %v, %v", next.Status, err)
	}
	skipped, err := c.Compound(ctx, 1, ops(seq+7)...)
	if err != nil || skipped.Status != wire.NFS4ERR_SEQ_MISORDERED {
		t.Errorf("a request out of order: %v, %v", skipped.Status, err)
	}
	release(seq + 2)
	must(t, c.Remove(ctx, root, "once"))
}

func testManyAtOnce(t *testing.T, p *bench.Process) {
	ctx := t.Context()
	c, root := connect(t, p, nfsclient.Options{Slots: 16})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			name, data := fmt.Sprintf("many%d", i), bytes.Repeat([]byte{byte(i)}, i*5000)
			if err := c.WriteFile(ctx, root, name, data, 0o600); err != nil {
				t.Error(err)
			}
			if got, err := c.ReadFile(ctx, root, name); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
			if err := c.Remove(ctx, root, name); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// A caller that gives up does not spoil its slot for the next.
func testAbandonedCalls(t *testing.T, p *bench.Process) {
	c, root := connect(t, p, nfsclient.Options{Slots: 4})
	gaveUp := 0
	for i := range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*2*time.Microsecond)
		if _, err := c.Access(ctx, root, wire.ACCESS4_READ); err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			gaveUp++
		}
		cancel()
	}
	if gaveUp == 0 {
		t.Error("no call was given up")
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := c.Access(t.Context(), root, wire.ACCESS4_READ); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// When the server is gone, calls fail instead of waiting.
func TestGaneshaGoesAway(t *testing.T) {
	p := ganesha(t)
	c, root := connect(t, p, nfsclient.Options{})
	f, _, err := c.Open(t.Context(), root, "file", nfsclient.OpenOptions{Write: true, Create: true})
	must(t, err)
	must(t, p.Close())
	<-c.Done()
	for range 100 { // more than there are slots
		if _, err := f.WriteAt(t.Context(), []byte("x"), 0, wire.FILE_SYNC4); err == nil {
			t.Fatal("a write succeeds without a server")
		}
	}
	c.Abandon()
}

// An idle client keeps its lease, and one that does not renew loses it.
func TestGaneshaLease(t *testing.T) {
	if os.Getenv("NFSEAL_LONG") == "" {
		t.Skip("waits for a lease to run out; `make test-long` runs this")
	}
	p := ganeshaWith(t, bench.GaneshaOptions{LeaseSeconds: 3})
	keeps, root := connect(t, p, nfsclient.Options{})
	loses, _ := connect(t, p, nfsclient.Options{NoRenew: true})
	must(t, keeps.WriteFile(t.Context(), root, "file", []byte("x"), 0o600))
	time.Sleep(4 * keeps.Lease())
	if _, err := keeps.ReadFile(t.Context(), root, "file"); err != nil {
		t.Error(err)
	}
	if _, err := loses.ReadFile(t.Context(), root, "file"); err == nil {
		t.Error("the lease never runs out")
	}
	loses.Abandon()
}

// READ, WRITE and GETATTR allocate nothing in a steady state.
func TestGaneshaAllocations(t *testing.T) {
	ctx := t.Context()
	c, root := connect(t, ganesha(t), nfsclient.Options{Slots: 1, NoRenew: true})
	f, _, err := c.Open(ctx, root, "file", nfsclient.OpenOptions{Read: true, Write: true, Create: true})
	must(t, err)
	buf, large := make([]byte, 4096), make([]byte, 64<<10)
	see := func(data []byte) error {
		if len(data) != len(buf) {
			return fmt.Errorf("%d bytes", len(data))
		}
		return nil
	}
	if _, err := f.WriteAt(ctx, large, 0, wire.UNSTABLE4); err != nil {
		t.Fatal(err)
	}
	var a wire.Attrs
	for name, op := range map[string]func() error{
		"WRITE":         func() error { _, err := f.WriteAt(ctx, buf, 0, wire.UNSTABLE4); return err },
		"large WRITE":   func() error { _, err := f.WriteAt(ctx, large, 0, wire.UNSTABLE4); return err },
		"READ":          func() error { _, _, err := f.ReadAt(ctx, buf, 0); return err },
		"READ in place": func() error { _, err := f.View(ctx, 0, len(buf), see); return err },
		"GETATTR":       func() error { return c.GetAttr(ctx, root, nfsclient.BasicAttrs, &a) },
	} {
		must(t, op())
		if n := testing.AllocsPerRun(100, func() {
			if err := op(); err != nil {
				t.Error(err)
			}
		}); n >= 1 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	must(t, f.Close(ctx))
}
