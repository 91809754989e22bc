package filestore

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/cryptfs"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// intentRig is a store with an open intent log, in a world that can lose power, whose background does nothing by itself.
type intentRig struct {
	*rig
	w *world
}

func newIntentRig(t *testing.T, deviceBytes int64, change func(*Options)) *intentRig {
	t.Helper()
	w := newWorld(deviceBytes, rand.New(rand.NewPCG(1, 1)))
	r := newRigOn(t, worldDevice{w.dev, w}, w.steps(), func(o *Options) {
		o.IntentBytes = minIntentBytes
		o.UnstableAge, o.JournalAge = time.Hour, time.Hour
		if change != nil {
			change(o)
		}
	})
	return &intentRig{rig: r, w: w}
}

// large makes a file whose blocks are on the volume, and sees to it that the log is open.
func (r *intentRig) large(name string, blocks int) (vfs.FileID, []byte) {
	r.t.Helper()
	id, content := r.file(name), noise(uint64(blocks), blocks*blockBytes)
	r.Store.writeStable(r.t, id, 0, content)
	r.openLog()
	return id, content
}

// openLog has a write be logged, and with that the log be made.
func (r *intentRig) openLog() {
	r.t.Helper()
	before, id := r.Stats().LoggedWrites, r.file("opener")
	r.Store.writeStable(r.t, id, 0, noise(1, 400*blockBytes))
	at := uint64(0)
	r.eventually("log is open", func() bool {
		r.Store.writeStable(r.t, id, at, []byte("x"))
		at = (at + blockBytes) % (400 * blockBytes)
		return r.Stats().LoggedWrites > before
	})
	if err := r.remove("opener"); err != nil {
		r.t.Fatal(err)
	}
}

// writeStable is a stable write.
func (s *Store) writeStable(t testing.TB, id vfs.FileID, offset uint64, p []byte) {
	t.Helper()
	got, err := s.Write(bg, nil, false, id, offset, p, vfs.FileSync)
	if err != nil || got != vfs.FileSync {
		t.Fatal(got, err)
	}
}

// overwrite makes a stable write and changes the content that is expected. logged says whether it is to be logged.
func (r *intentRig) overwrite(id vfs.FileID, want []byte, offset, n int, logged bool) {
	r.t.Helper()
	p := noise(uint64(offset)+r.Stats().Writes, n)
	before := r.Stats().LoggedWrites
	r.Store.writeStable(r.t, id, uint64(offset), p)
	copy(want[offset:], p)
	if got := r.Stats().LoggedWrites > before; got != logged {
		r.t.Errorf("%d bytes at %d: logged %v", n, offset, got)
	}
}

// crash lets power fail and starts again; only what was synced is left.
func (r *intentRig) crash() {
	r.t.Helper()
	if err := r.restart(nil); err != nil {
		r.t.Fatal(err)
	}
	r.check()
}

func (r *intentRig) version() uint32 {
	r.t.Helper()
	_, version, err := readFormat(r.opts.Meta, r.opts.MetaDir)
	if err != nil {
		r.t.Fatal(err)
	}
	return version
}

func (r *intentRig) attr(id vfs.FileID) (a vfs.Attr) {
	r.t.Helper()
	if err := r.GetAttr(bg, id, &a); err != nil {
		r.t.Fatal(err)
	}
	return a
}

// TestIntent overwrites pieces of a file: they are logged, durable, and there after a crash, with the attributes of then.
func TestIntent(t *testing.T) {
	r := newIntentRig(t, 64<<20, nil)
	id, want := r.large("f", 100)
	flushes := r.Stats().Flushes
	r.overwrite(id, want, 5*blockBytes, blockBytes, true)
	r.overwrite(id, want, 5*blockBytes+100, 50, true)
	r.overwrite(id, want, 70*blockBytes-10, 2*blockBytes, true)
	r.overwrite(id, want, 100*blockBytes-1, 1, true)
	r.overwrite(id, want, 20*blockBytes, maxIntentBytes, true) // the longest
	if err := r.Commit(bg, id, 0, 0); err != nil {
		t.Fatal(err)
	}
	if n := r.Stats().Flushes; n != flushes {
		t.Errorf("%d flushes", n-flushes)
	}
	before := r.attr(id)
	if r.version() != intentFormat {
		t.Error("the format is that of programs without a log")
	}
	r.crash()
	if n := r.Stats().ReplayedWrites; n < 5 {
		t.Errorf("%d writes were carried out again", n)
	}
	r.wantContent(id, want)
	if after := r.attr(id); after.Change <= before.Change || after.MTime != before.MTime || after.CTime != before.CTime ||
		after.Mode != before.Mode || after.Size != before.Size {
		t.Errorf("attributes %+v, before the crash %+v", after, before)
	}
	if r.version() != formatVersion {
		t.Error("the format is that of a log after its end")
	}
	r.crash()
	if n := r.Stats().ReplayedWrites; n != 0 {
		t.Errorf("%d writes were carried out twice", n)
	}
	r.wantContent(id, want)
}

// TestNotLogged goes through the writes that must be committed.
func TestNotLogged(t *testing.T) {
	r := newIntentRig(t, 64<<20, nil)
	id, want := r.large("f", 100)
	r.overwrite(id, want, 0, maxIntentBytes, true)
	r.overwrite(id, want, 0, maxIntentBytes+1, false)
	r.write(id, 9000, []byte("x"), vfs.Unstable)
	want[9000] = 'x'
	r.overwrite(id, want, 0, 1, false) // takes the unstable one along
	r.overwrite(id, want, 0, 1, true)

	twin := r.file("twin")
	if err := r.Clone(bg, nil, id, twin, 0, 0, 0, new(vfs.Attr)); err != nil {
		t.Fatal(err)
	}
	copied := bytes.Clone(want)
	r.overwrite(twin, copied, 3*blockBytes, blockBytes, false) // shared
	r.overwrite(id, want, 200, 10, false)

	apart, content := r.file("apart"), make([]byte, 3*blockBytes+10)
	r.overwrite(apart, content, 3*blockBytes, 10, true) // while blocks of others are shared
	r.crash()
	r.wantContent(id, want)
	r.wantContent(twin, copied)
	r.wantContent(apart, content)
}

// TestIntentGrow lets files grow by logged writes: at their end, behind it, into holes and into what is reserved, and from
// nothing. What they have grown by is durable, and counted as before.
func TestIntentGrow(t *testing.T) {
	r := newIntentRig(t, 64<<20, nil)
	id, want := r.large("f", 100)
	grow := func(id vfs.FileID, want []byte, offset, n int) []byte {
		t.Helper()
		want = append(want, make([]byte, max(0, offset+n-len(want)))...)
		r.overwrite(id, want, offset, n, true)
		if a := r.attr(id); a.Size != uint64(len(want)) {
			t.Errorf("%d bytes, should be %d", a.Size, len(want))
		}
		return want
	}
	for _, n := range []int{1, 200, blockBytes, 3 * blockBytes, maxIntentBytes} {
		want = grow(id, want, len(want), n)
	}
	want = grow(id, want, len(want)+5*blockBytes+7, 100)
	smallID := r.file("small")
	small := grow(smallID, grow(smallID, nil, 0, 100), 100, 100)
	if err := r.SetAttr(bg, nil, smallID, &vfs.SetAttr{Mask: vfs.SetSize, Size: 10 * blockBytes}, new(vfs.Attr)); err != nil {
		t.Fatal(err)
	}
	small = append(small, make([]byte, 10*blockBytes-len(small))...)
	small = grow(smallID, small, 5*blockBytes, 10) // a hole
	small = grow(smallID, small, 5*blockBytes, 10) // in memory
	if err := r.Allocate(bg, nil, smallID, 20*blockBytes, 10*blockBytes, new(vfs.Attr)); err != nil {
		t.Fatal(err)
	}
	small = append(small, make([]byte, 30*blockBytes-len(small))...)
	used := r.attr(smallID).Used
	small = grow(smallID, small, 22*blockBytes-100, blockBytes) // reserved, and a block of it in part
	if a := r.attr(smallID); a.Used != used {
		t.Errorf("%d bytes are used, before what was reserved was written %d", a.Used, used)
	}
	before, beforeSmall := r.attr(id), r.attr(smallID)
	r.crash()
	r.wantContent(id, want)
	r.wantContent(smallID, small)
	for id, was := range map[vfs.FileID]vfs.Attr{id: before, smallID: beforeSmall} {
		if a := r.attr(id); a.Size != was.Size || a.Used != was.Used || a.MTime != was.MTime {
			t.Errorf("attributes %+v, before the crash %+v", a, was)
		}
	}
}

// TestIntentGrowPieces flushes a file that has grown by logged writes piece by piece, and crashes between two: what is stored
// ends where the file does, and the rest is carried out again.
func TestIntentGrowPieces(t *testing.T) {
	r := newIntentRig(t, 64<<20, func(o *Options) { o.pieceBlocks = 2 })
	id, want := r.large("f", 20)
	want = append(want, make([]byte, 7*blockBytes+100)...)
	for file := 20; file < 27; file++ {
		r.overwrite(id, want[:(file+1)*blockBytes], file*blockBytes, blockBytes, true)
	}
	r.overwrite(id, want, 27*blockBytes, 100, true)
	i := r.pin(id.Inode)
	used := r.attr(id).Used
	f, _, err := r.sealPiece(i, []uint64{20, 21})
	if err != nil {
		t.Fatal(err)
	}
	if a := r.attr(id); a.Used != used {
		t.Errorf("%d bytes are used while a piece is flushed, %d before", a.Used, used)
	}
	r.unseal(f)
	for _, piece := range [][]uint64{{20, 21}, {26, 27}} {
		if _, err := r.flushPiece(i, piece); err != nil {
			t.Fatal(err)
		}
		end := min((piece[1]+1)*blockBytes, uint64(len(want)))
		if i.size != end {
			t.Errorf("%d bytes are stored behind the piece %d, should be %d", i.size, piece, end)
		}
	}
	r.unpin(i)
	r.crash()
	r.wantContent(id, want)
}

// TestIntentOrder crashes behind changes that records must not undo: flushes of later writes, a new size, a hole, a
// clone, a removal, other attributes.
func TestIntentOrder(t *testing.T) {
	var a vfs.Attr
	for name, change := range map[string]func(r *intentRig, id vfs.FileID, want *[]byte) error{
		"a committed write": func(r *intentRig, id vfs.FileID, want *[]byte) error {
			r.write(id, 4*blockBytes, []byte("later"), vfs.Unstable)
			copy((*want)[4*blockBytes:], "later")
			return r.Commit(bg, id, 0, 0)
		},
		"a smaller size": func(r *intentRig, id vfs.FileID, want *[]byte) error {
			*want = (*want)[:4*blockBytes+7]
			return r.SetAttr(bg, nil, id, &vfs.SetAttr{Mask: vfs.SetSize, Size: uint64(len(*want))}, &a)
		},
		"a size that comes back": func(r *intentRig, id vfs.FileID, want *[]byte) error {
			clear((*want)[4*blockBytes:])
			return errors.Join(r.SetAttr(bg, nil, id, &vfs.SetAttr{Mask: vfs.SetSize, Size: 4 * blockBytes}, &a),
				r.SetAttr(bg, nil, id, &vfs.SetAttr{Mask: vfs.SetSize, Size: uint64(len(*want))}, &a))
		},
		"a hole": func(r *intentRig, id vfs.FileID, want *[]byte) error {
			clear((*want)[4*blockBytes : 6*blockBytes])
			return r.Deallocate(bg, nil, id, 4*blockBytes, 2*blockBytes, &a)
		},
		"a clone": func(r *intentRig, id vfs.FileID, want *[]byte) error {
			copy((*want)[4*blockBytes:5*blockBytes], (*want)[8*blockBytes:])
			return r.Clone(bg, nil, id, id, 8*blockBytes, 4*blockBytes, blockBytes, &a)
		},
		"a removal": func(r *intentRig, _ vfs.FileID, want *[]byte) error {
			*want = nil
			return r.remove("f")
		},
		"another mode": func(r *intentRig, id vfs.FileID, _ *[]byte) error {
			return r.SetAttr(bg, nil, id, &vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o4711}, &a)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newIntentRig(t, 64<<20, nil)
			id, want := r.large("f", 40)
			other, kept := r.large("other", 20)
			r.overwrite(other, kept, blockBytes, blockBytes, true)
			r.overwrite(id, want, 4*blockBytes, blockBytes, true)
			if err := change(r, id, &want); err != nil {
				t.Fatal(err)
			}
			r.overwrite(other, kept, 2*blockBytes, blockBytes, true)
			var before vfs.Attr
			if want != nil {
				before = r.attr(id)
			}
			r.crash()
			r.wantContent(other, kept)
			if want == nil {
				if err := r.GetAttr(bg, id, &a); !errors.Is(err, vfs.ErrStale) {
					t.Errorf("what was removed: %v", err)
				}
				return
			}
			r.wantContent(id, want)
			if after := r.attr(id); after.Mode != before.Mode || after.Change <= before.Change || after.MTime != before.MTime {
				t.Errorf("attributes %+v, before the crash %+v", after, before)
			}
		})
	}
}

// TestIntentRetire writes several times what the log holds, to two files, with crashes: the halves are used in turn.
func TestIntentRetire(t *testing.T) {
	r := newIntentRig(t, 64<<20, nil)
	a, wantA := r.large("a", 64)
	b, wantB := r.large("b", 64)
	rng := rand.New(rand.NewPCG(seed(t), 3))
	logged := r.Stats().LoggedWrites
	for n := range 600 {
		id, want := a, wantA
		if n%3 == 0 {
			id, want = b, wantB
		}
		length := 1 + rng.IntN(2*blockBytes)
		at := rng.IntN(len(want) - length)
		p := noise(uint64(n), length)
		r.Store.writeStable(t, id, uint64(at), p)
		copy(want[at:], p)
		if n%100 == 99 {
			logged = r.Stats().LoggedWrites - logged
			if logged < 20 {
				t.Errorf("%d of 100 writes were logged", logged)
			}
			r.crash()
			r.wantContent(a, wantA)
			r.wantContent(b, wantB)
			r.openLog()
			logged = r.Stats().LoggedWrites
		}
	}
}

// TestIntentFull fills the volume behind logged writes, and carries them out again there.
func TestIntentFull(t *testing.T) {
	r := newIntentRig(t, 16<<20, func(o *Options) { o.JournalAge = 5 * time.Millisecond })
	id, want := r.large("f", 512)
	rng := rand.New(rand.NewPCG(seed(t), 4))
	logged := r.Stats().LoggedWrites
	overwrite := func(n int) {
		length := 1 + rng.IntN(30<<10)
		at := rng.IntN(len(want) - length)
		p := noise(uint64(n), length)
		r.Store.writeStable(t, id, uint64(at), p)
		copy(want[at:], p)
	}
	for n := range 50 {
		overwrite(n)
	}
	if n := r.Stats().LoggedWrites - logged; n < 10 {
		t.Errorf("%d writes were logged", n)
	}
	r.eventually("journal is empty", func() bool { return r.Stats().JournalBytes == 0 })
	r.fill()
	for range 3 {
		r.crash()
		r.wantContent(id, want)
		for n := range 100 {
			overwrite(n)
		}
	}
	r.crash()
	r.wantContent(id, want)
}

// TestIntentFullStored carries writes out again on a full volume, to blocks that are in the metadata store: those stay there.
func TestIntentFullStored(t *testing.T) {
	r := newIntentRig(t, 16<<20, nil)
	id, want := r.large("f", 40)
	for file := range 3 { // to the journal
		r.write(id, uint64(file*blockBytes), noise(uint64(file), blockBytes), vfs.Unstable)
		copy(want[file*blockBytes:], noise(uint64(file), blockBytes))
	}
	if err := r.Commit(bg, id, 0, 0); err != nil {
		t.Fatal(err)
	}
	small, inline, tiny := r.file("small"), noise(9, 200), r.file("tiny")
	for id, p := range map[vfs.FileID][]byte{small: inline, tiny: noise(10, 60)} {
		r.write(id, 0, p, vfs.Unstable)
		if err := r.Commit(bg, id, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	if s := r.Stats(); s.JournalBytes < 3*blockBytes || s.InlineBlocks == 0 {
		t.Fatalf("not stored as this test needs it: %+v", s)
	}
	r.fill()
	r.pool.mu.Lock() // not even what is set aside
	r.pool.aside, r.pool.keep = 0, 0
	r.pool.mu.Unlock()
	again := func(id vfs.FileID, want []byte, offset, n int) {
		p := noise(uint64(offset), n)
		copy(want[offset:], p)
		i := r.pin(id.Inode)
		defer r.unpin(i)
		x := intentRecord{inode: id.Inode, offset: uint64(offset), change: 1 << 20, time: vfs.Time{Sec: 77}, mode: 0o600}
		if err := r.rewrite(i, &x, p); err != nil {
			t.Fatalf("%d bytes at %d: %v", n, offset, err)
		}
	}
	again(id, want, 100, 50)
	again(id, want, 3*blockBytes-100, 200) // the journal and the volume
	again(id, want, 9*blockBytes+5, 2*blockBytes)
	again(small, inline, 50, 20)
	want = append(want, make([]byte, 5000)...)
	again(id, want, 40*blockBytes, 5000) // behind the end
	inline = append(inline, make([]byte, 300)...)
	again(small, inline, 190, 310)
	i, part := r.pin(id.Inode), noise(50, 100)
	if err := r.spill(i, 50, 10, part); err != nil { // behind the end, where nothing is left of the volume
		t.Fatal(err)
	}
	r.unpin(i)
	want = append(append(want, make([]byte, 50*blockBytes+10-len(want))...), part...)
	i = r.pin(tiny.Inode)
	if err := r.patch(i, 0, inInode, 50, part); err != nil { // beyond the end, in the inode
		t.Fatal(err)
	}
	r.unpin(i)
	r.wantContent(tiny, append(noise(10, 60)[:50], part...))
	r.wantContent(id, want)
	r.wantContent(small, inline)
	if err := r.flushAll(); err != nil {
		t.Fatal(err)
	}
	r.crash()
	r.wantContent(id, want)
	r.wantContent(small, inline)
	r.wantContent(tiny, append(noise(10, 60)[:50], part...))
	for _, id := range []vfs.FileID{id, small} {
		if a := r.attr(id); a.Change <= 1<<20 || a.MTime.Sec != 77 || a.Mode != 0o600 {
			t.Errorf("attributes %+v", a)
		}
	}
}

// TestIntentFailure fails the log's files: what waits for them is committed, and the log is made anew.
func TestIntentFailure(t *testing.T) {
	now := time.Unix(1000, 0)
	r := newIntentRig(t, 64<<20, func(o *Options) { o.Clock = func() time.Time { return now } })
	id, want := r.large("f", 40)
	r.overwrite(id, want, 0, 100, true)
	r.intent.fail(errMedium)
	r.overwrite(id, want, 50, 100, false)
	r.overwrite(id, want, 3*blockBytes, blockBytes, false)
	r.openLog()
	r.overwrite(id, want, 7*blockBytes, 100, true)
	r.crash()
	r.wantContent(id, want)
}

// TestIntentClosed checks that an orderly stop leaves what a program without a log can open.
func TestIntentClosed(t *testing.T) {
	r := newIntentRig(t, 64<<20, nil)
	id, want := r.large("f", 40)
	r.overwrite(id, want, 0, 100, true)
	r.rig.close()
	if r.version() != formatVersion {
		t.Error("the format is that of a log")
	}
	names, err := r.opts.Meta.List(r.opts.MetaDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name == intentNames[0] || name == intentNames[1] {
			t.Errorf("%s is left", name)
		}
	}
	r.opts.IntentBytes = 0
	r.open()
	r.wantContent(id, want)
	r.overwrite(id, want, 0, 100, false)
}

// TestIntentRekey gives the metadata another key: nothing of the log is under the old one after that, and writes are
// logged again.
func TestIntentRekey(t *testing.T) {
	w := newWorld(64<<20, rand.New(rand.NewPCG(1, 1)))
	old, key := newMetaKey(t), newMetaKey(t)
	fs := encrypted(t, w.steps(), old).(*cryptfs.FS)
	r := &intentRig{w: w, rig: newRigOn(t, worldDevice{w.dev, w}, fs, func(o *Options) { o.IntentBytes = minIntentBytes })}
	id, want := r.large("f", 40)
	r.overwrite(id, want, 0, 100, true)
	if err := fs.Rekey(key); err != nil {
		t.Fatal(err)
	}
	r.overwrite(id, want, 50, 100, true)
	if err := r.RewriteMetadata(bg, steadyMeta); err != nil {
		t.Fatal(err)
	}
	fs.EndRekey()
	r.openLog()
	r.overwrite(id, want, 3*blockBytes, 100, true)
	w.mu.Lock()
	w.crashLocked(memdev.LoseAll, 0)
	w.mu.Unlock()
	if err := r.Store.Close(); err != nil {
		t.Fatal(err)
	}
	r.drop()
	r.dev, r.meta = w.crashed.dev, encrypted(t, w.crashed.meta, key)
	r.opts.Meta = r.meta
	r.opts.Epoch++
	r.open()
	if n := r.Stats().ReplayedWrites; n == 0 {
		t.Error("nothing was carried out again")
	}
	r.wantContent(id, want)
}

// TestIntentReader reads records back, and nothing behind one that is not whole.
func TestIntentReader(t *testing.T) {
	var log []byte
	for n := range uint64(3) {
		x := intentRecord{number: 7 + n, inode: n, offset: 1 << 40, change: 9, time: vfs.Time{Sec: -5, Nsec: 3}, mode: 0o755}
		log = x.append(log, noise(n, int(100*(n+1))))
	}
	whole := func(b []byte) (records int) {
		d := intentReader{from: bytes.NewReader(b)}
		for {
			x, content, err := d.next()
			if errors.Is(err, io.EOF) {
				return records
			}
			if err != nil {
				t.Fatal(err)
			}
			n := uint64(records)
			want := intentRecord{number: 7 + n, inode: n, offset: 1 << 40, change: 9, time: vfs.Time{Sec: -5, Nsec: 3}, mode: 0o755}
			if x != want || !bytes.Equal(content, noise(n, int(100*(n+1)))) {
				t.Fatalf("record %d: %+v", n, x)
			}
			records++
		}
	}
	if n := whole(append(bytes.Clone(log), noise(1, 5000)...)); n != 3 {
		t.Errorf("%d records of 3", n)
	}
	second := intentHeaderBytes + 100
	for at := range log {
		b := bytes.Clone(log)
		b[at] ^= 1
		want := 0
		if at >= second {
			want = 1
		}
		if at >= second+intentHeaderBytes+200 {
			want = 2
		}
		if n := whole(b); n != want {
			t.Fatalf("%d records with byte %d changed, not %d", n, at, want)
		}
		if n := whole(log[:at]); n != want {
			t.Fatalf("%d records of the first %d bytes, not %d", n, at, want)
		}
	}
}

// TestIntentPieces flushes a file piece by piece: its last blocks stay, so that a flush of the file follows that says which
// records it has.
func TestIntentPieces(t *testing.T) {
	r := newIntentRig(t, 64<<20, func(o *Options) { o.pieceBlocks = 2 })
	id, want := r.large("f", 40)
	for file := range 8 {
		r.overwrite(id, want, file*blockBytes, blockBytes, true)
	}
	i := r.pin(id.Inode)
	defer r.unpin(i)
	if err := r.flushPieces(i); err != nil {
		t.Fatal(err)
	}
	if n := len(i.active.dirty); n != 2 || i.record == 0 || r.records(tableFlushed) != 0 {
		t.Errorf("behind the pieces: %d blocks, record %d, %d flushed", n, i.record, r.records(tableFlushed))
	}
	if err := r.flushLogged(); err != nil {
		t.Fatal(err)
	}
	if n := len(i.active.dirty); n != 0 || i.record != 0 || r.records(tableFlushed) != 1 {
		t.Errorf("behind the flush: %d blocks, record %d, %d flushed", n, i.record, r.records(tableFlushed))
	}
	r.overwrite(id, want, 3*blockBytes, blockBytes, true)
	r.wantContent(id, want)
}

// TestIntentStart checks what a retired half leaves: the number that records begin to count at, and no file below it.
func TestIntentStart(t *testing.T) {
	r := newIntentRig(t, 64<<20, nil)
	id, want := r.large("f", 64)
	for n := range 60 {
		r.Store.writeStable(t, id, uint64(n)*blockBytes, noise(uint64(n), 2*blockBytes))
		copy(want[n*blockBytes:], noise(uint64(n), 2*blockBytes))
	}
	start := uint64(0)
	r.eventually("a half is retired", func() bool {
		half, _ := r.intent.full()
		var err error
		start, err = r.readCounter(counterIntent)
		return err == nil && half < 0 && start > 16
	})
	err := r.scan([]byte{tableFlushed}, []byte{tableFlushed + 1}, func(key, value []byte) error {
		inode, number, err := decodeFlushed(key, value)
		if number < start {
			t.Errorf("inode %d is flushed up to %d, records count from %d on", inode, number, start)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r.crash()
	r.wantContent(id, want)
}

// TestIntentTogether: where records have come together, who writes next lets those that are ready queue theirs, and writes
// them too.
func TestIntentTogether(t *testing.T) {
	var files [2]pebblevfs.File
	for k := range files {
		file, err := pebblevfs.NewMem().Create(intentNames[k], intentCategory)
		if err != nil {
			t.Fatal(err)
		}
		files[k] = file
	}
	var l intentLog
	l.init()
	l.open(files)
	put := func() uint64 {
		r := intentRecord{inode: 1}
		if ok, _ := l.put(&r, []byte("content"), minIntentBytes); !ok {
			t.Error("no room")
		}
		return r.number
	}
	yields := 0
	l.yield = func() {
		yields++
		put()
	}
	for _, c := range []struct{ records, yields, durable int }{{1, 0, 1}, {2, 0, 3}, {1, 1, 5}, {1, 2, 7}} {
		var last uint64
		for range c.records {
			last = put()
		}
		if err := l.wait(last); err != nil || yields != c.yields || l.durable != uint64(c.durable) {
			t.Errorf("%+v: %d yields, durable up to %d, %v", c, yields, l.durable, err)
		}
	}
	l.yield = func() { yields++ }
	for range 2 { // the first of these still follows one of two records
		if err := l.wait(put()); err != nil {
			t.Error(err)
		}
	}
	if yields != 3 || l.durable != l.last {
		t.Errorf("one at a time: %d yields, durable up to %d of %d", yields, l.durable, l.last)
	}
}
