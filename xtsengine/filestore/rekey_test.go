package filestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/cryptfs"
	"github.com/nfseal/nfseal/xtsengine/keyring"
	"github.com/nfseal/nfseal/xtsengine/mac"
	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/vfs/memvfs"
	"github.com/nfseal/nfseal/xtsengine/vfs/vfstest"
	"github.com/nfseal/nfseal/xtsengine/volume"
	"github.com/nfseal/nfseal/xtsengine/xts"
)

// nextKey is another data key, of the owner with a number.
func nextKey(t testing.TB, number byte) volume.SpaceKey {
	t.Helper()
	key := bytes.Repeat([]byte{number}, xts.KeyBytes)
	for i := range key {
		key[i] += byte(i)
	}
	c, err := xts.New(key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := mac.New(key[:mac.KeyBytes])
	if err != nil {
		t.Fatal(err)
	}
	return volume.SpaceKey{Owner: volume.SpaceID{1, 2, 3, number}, Cipher: c, Tags: k}
}

// rekey retires the data key for another one.
func (r *rig) rekey(number byte) {
	r.t.Helper()
	k := nextKey(r.t, number)
	if err := r.space.Rekey(k); err != nil {
		r.t.Fatal(err)
	}
	old := r.spaceKey()
	r.old, r.cipher, r.tags, r.opts.SpaceOwner = &old, k.Cipher, k.Tags, k.Owner
}

// steady lets a move go on without an end of its own.
func steady(MoveProgress) error { return nil }

func steadyMeta(int64) error { return nil }

// moveAll moves everything, and looks whether the old key is gone.
func (r *rig) moveAll() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(bg, time.Minute)
	defer cancel()
	last := MoveProgress{}
	err := r.MoveContent(ctx, func(p MoveProgress) error {
		last = p
		return nil
	})
	if err != nil {
		r.t.Fatalf("moving: %v, at %+v", err, last)
	}
	if r.space.Rekeying() || slices.Contains(r.vol.Spaces(), r.old.Owner) {
		r.t.Fatal("the old key has chunks yet")
	}
	r.old = nil
	if n := r.records(tableMoved); n != 0 {
		r.t.Errorf("%d records of moved runs are left", n)
	}
}

// records counts those of a table.
func (r *rig) records(table byte) (n int) {
	r.t.Helper()
	if err := r.scan([]byte{table}, []byte{table + 1}, func([]byte, []byte) error { n++; return nil }); err != nil {
		r.t.Fatal(err)
	}
	return n
}

func (r *rig) put(id vfs.FileID, offset uint64, p []byte) {
	r.t.Helper()
	if _, err := r.Write(bg, nil, false, id, offset, p, vfs.FileSync); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) cloneAll(from, to vfs.FileID) {
	r.t.Helper()
	var out vfs.Attr
	if err := r.Clone(bg, nil, from, to, 0, 0, 0, &out); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) holds(id vfs.FileID, want []byte) {
	r.t.Helper()
	p := make([]byte, len(want)+1)
	n, _, err := r.Read(bg, nil, id, 0, p)
	if err != nil || !bytes.Equal(p[:n], want) {
		r.t.Fatalf("%v holds something else: %d bytes, %v; %s", id, n, err, difference(p[:n], want))
	}
}

func (r *rig) report() *Report {
	r.t.Helper()
	report, err := r.Store.Check(bg)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, problem := range report.Problems {
		r.t.Errorf("check: %s", problem)
	}
	return report
}

// TestMoveContent moves files of all kinds: content and sharing stay what they are, and nothing grows.
func TestMoveContent(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	want := map[vfs.FileID][]byte{}
	add := func(name string, n int) vfs.FileID {
		id := r.file(name)
		want[id] = noise(uint64(len(want)+1), n)
		r.put(id, 0, want[id])
		return id
	}
	big := add("big", 9<<20+77)
	add("inline", 1000)
	add("journal", 20000)
	for n := range 30 {
		add(fmt.Sprint("small", n), 100<<10+n)
	}
	for n := range 5 {
		id := r.file(fmt.Sprint("clone", n))
		r.cloneAll(big, id)
		want[id] = bytes.Clone(want[big])
		patch := noise(uint64(n+100), 70<<10)
		copy(want[id][n<<20:], patch)
		r.put(id, uint64(n)<<20, patch)
	}
	part := r.file("part of a clone")
	var out vfs.Attr
	if err := r.Clone(bg, nil, big, part, 5<<12, 3<<12, 100<<12, &out); err != nil {
		t.Fatal(err)
	}
	want[part] = append(make([]byte, 3<<12), want[big][5<<12:105<<12]...)
	if err := r.Clone(bg, nil, part, part, 3<<12, 200<<12, 100<<12, &out); err != nil { // twice in one window
		t.Fatal(err)
	}
	want[part] = append(want[part], make([]byte, 97<<12)...)
	want[part] = append(want[part], want[big][5<<12:105<<12]...)
	kept := r.file("reserved")
	if err := r.Allocate(bg, nil, kept, 0, 3<<20, &out); err != nil {
		t.Fatal(err)
	}
	want[kept] = make([]byte, 3<<20)
	copy(want[kept][1<<20:], noise(5, 40<<10))
	r.put(kept, 1<<20, want[kept][1<<20:1<<20+40<<10])
	if err := r.moveRoundAll(); err != nil {
		t.Fatal(err)
	}
	before := r.report()
	for number := byte(50); number < 53; number++ {
		r.rekey(number)
		for id, p := range want {
			r.holds(id, p)
		}
		r.moveAll()
		after := r.report()
		if after.VolumeBlocks != before.VolumeBlocks || after.SharedBlocks != before.SharedBlocks || after.ReservedBlocks != before.ReservedBlocks {
			t.Errorf("%d blocks on the volume, %d shared, %d reserved; before %d, %d, %d", after.VolumeBlocks, after.SharedBlocks,
				after.ReservedBlocks, before.VolumeBlocks, before.SharedBlocks, before.ReservedBlocks)
		}
		for id, p := range want {
			r.holds(id, p)
		}
		r.reopen()
		for id, p := range want {
			r.holds(id, p)
		}
	}
}

// moveRoundAll empties the journal, while the store's own mover does nothing.
func (r *rig) moveRoundAll() error {
	r.background.pause.Lock()
	defer r.background.pause.Unlock()
	for r.journaled.Load() > 0 {
		if _, err := r.move(r.journal.oldest(1<<20, farFuture)); err != nil {
			return err
		}
	}
	return nil
}

// TestMoveContentStops ends a move at every step and goes on, some of it after another start.
func TestMoveContentStops(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	big, other := r.file("a"), r.file("b")
	p := noise(1, 6<<20)
	r.put(big, 0, p)
	r.cloneAll(big, other)
	before := r.report()
	r.rekey(50)
	enough := errors.New("enough")
	for n := 0; ; n++ {
		steps := 0
		err := r.MoveContent(bg, func(MoveProgress) error {
			if steps++; steps > 2 {
				return enough
			}
			return nil
		})
		if err == nil {
			break
		}
		if !errors.Is(err, enough) {
			t.Fatal(err)
		}
		if n > 100 {
			t.Fatal("it does not come to an end")
		}
		r.check()
		if n%2 == 0 {
			r.reopen()
		}
		r.holds(big, p)
		r.holds(other, p)
	}
	r.old = nil
	if after := r.report(); after.VolumeBlocks != before.VolumeBlocks || after.SharedBlocks != before.SharedBlocks {
		t.Errorf("%d blocks, %d shared; before %d, %d", after.VolumeBlocks, after.SharedBlocks, before.VolumeBlocks, before.SharedBlocks)
	}
}

// TestMovedCopyOutlivesFiles: what was copied for a clone stays for the others, though who was moved first
// is no more; and goes with the last.
func TestMovedCopyOutlivesFiles(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	p := noise(1, 2<<20)
	first, second := r.file("a"), r.file("b")
	r.put(first, 0, p)
	r.cloneAll(first, second)
	r.rekey(50)
	enough := errors.New("enough")
	err := r.MoveContent(bg, func(m MoveProgress) error {
		if m.MovedBytes > 0 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || r.records(tableMoved) == 0 {
		t.Fatalf("%v, %d records of moved runs", err, r.records(tableMoved))
	}
	var out vfs.Attr
	if _, err := r.Remove(bg, nil, r.Root(), "a", &out); err != nil {
		t.Fatal(err)
	}
	r.reopen()
	r.holds(second, p)
	if _, err := r.Remove(bg, nil, r.Root(), "b", &out); err != nil {
		t.Fatal(err)
	}
	r.moveAll()
	if got := r.report(); got.VolumeBlocks != 0 {
		t.Errorf("%d blocks are left of nothing", got.VolumeBlocks)
	}
}

// TestMoveContentOnFullVolume moves with little space, chunk by chunk, in files that are strewn over all of
// them; and waits where there is none.
func TestMoveContentOnFullVolume(t *testing.T) {
	r := newRig(t, 24<<20, nil)
	rng := rand.New(rand.NewPCG(seed(t), 8))
	want := map[vfs.FileID][]byte{}
	var ids []vfs.FileID
	for n := range 40 {
		id := r.file(fmt.Sprint(n))
		ids, want[id] = append(ids, id), make([]byte, 500<<10)
	}
	for n := range 125 { // turn by turn, so that each chunk has some of every file
		for _, id := range ids {
			q := noise(rng.Uint64(), 4096)
			copy(want[id][n*4096:], q)
			if _, err := r.Write(bg, nil, false, id, uint64(n)*4096, q, vfs.Unstable); err != nil {
				t.Fatal(err)
			}
		}
		if n%5 == 0 {
			if err := r.flushAll(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(r.flushAll(), r.moveRoundAll()); err != nil {
		t.Fatal(err)
	}
	ballast := r.file("ballast")
	var st vfs.StatFS
	if err := r.StatFS(bg, &st); err != nil {
		t.Fatal(err)
	}
	var out vfs.Attr
	if err := r.Allocate(bg, nil, ballast, 0, st.FreeBytes, &out); err != nil {
		t.Fatal(err)
	}
	r.rekey(50)
	enough := errors.New("enough")
	full := 0
	err := r.MoveContent(bg, func(p MoveProgress) error {
		if p.Full {
			full++
		}
		if full == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatalf("on a full volume: %v", err)
	}
	if _, err := r.Remove(bg, nil, r.Root(), "ballast", &out); err != nil {
		t.Fatal(err)
	}
	for id, p := range want {
		r.holds(id, p)
	}
	r.moveAll()
	for id, p := range want {
		r.holds(id, p)
	}
}

// TestMovedBlocksUsedAgain frees blocks of which a copy for another file is known, on a full volume, where what is freed is
// set aside and used again: what is written there does not become that copy.
func TestMovedBlocksUsedAgain(t *testing.T) {
	r := newRig(t, 12<<20, func(o *Options) { o.UnstableAge, o.JournalAge = time.Hour, time.Hour })
	p, own := noise(1, 1<<20), noise(2, 2<<20)
	first, second, other := r.file("a"), r.file("b"), r.file("other")
	r.put(first, 0, p)
	r.cloneAll(first, second)
	r.put(other, 0, own)
	r.rekey(50)
	enough := errors.New("enough")
	err := r.MoveContent(bg, func(m MoveProgress) error {
		if r.records(tableMoved) > 0 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	r.fill()
	const part = 40 * blockBytes // of what is set aside
	aside := r.pool.counts().aside
	if _, err := r.Write(bg, nil, false, second, 0, own[:part], vfs.FileSync); !errors.Is(err, vfs.ErrNoSpace) {
		t.Errorf("an overwrite of what is not set aside again: %v", err)
	}
	if now := r.pool.counts().aside; now != aside {
		t.Errorf("%d blocks are set aside, %d were", now, aside)
	}
	r.write(other, 0, p[:part], vfs.Unstable)
	if err := r.remove("b"); err != nil {
		t.Fatal(err)
	}
	copy(own, p[:part])
	for n := range 8 { // until all that is set aside was used
		q := noise(uint64(n+3), part)
		copy(own[n*part:], q)
		r.put(other, uint64(n*part), q)
	}
	r.holds(other, own)
	if err := r.remove("filler"); err != nil {
		t.Fatal(err)
	}
	r.moveAll()
	r.holds(first, p)
	r.holds(other, own)
}

// TestMoveContentBadBlock: what can't be read keeps its place and says so, and all else is moved.
func TestMoveContentBadBlock(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	good, bad := r.file("good"), r.file("bad")
	p := noise(1, 3<<20)
	r.put(good, 0, p)
	r.put(bad, 0, p)
	e, err := readExtents(r.db, bad.Inode, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	flipBit(t, r.dev.(*memdev.Device), e[0].start+3)
	r.rekey(50)
	last := MoveProgress{}
	err = r.MoveContent(bg, func(p MoveProgress) error { last = p; return nil })
	if !errors.Is(err, vfs.ErrCorrupt) || last.BadBlocks == 0 || last.BadBlocks > extentBlocks || last.BadInode != bad.Inode {
		t.Fatalf("%v, %+v", err, last)
	}
	if left := r.space.Stat().Retired; left != last.BadBlocks {
		t.Errorf("%d blocks are left, %d are bad", left, last.BadBlocks)
	}
	r.holds(good, p)
	var out vfs.Attr
	if _, err := r.Remove(bg, nil, r.Root(), "bad", &out); err != nil {
		t.Fatal(err)
	}
	r.moveAll()
}

// rewriteRig is a rig with encrypted metadata.
func rekeyMetaRig(t *testing.T) (*rig, *cryptfs.FS, *pebblevfs.MemFS) {
	base := pebblevfs.NewMem()
	fs := encrypted(t, base, newMetaKey(t)).(*cryptfs.FS)
	return newRigOn(t, memdev.New(64<<20), fs, nil), fs, base
}

// TestRewriteMetadata: the old key opens no file of the metadata any more, the new one all of them.
func TestRewriteMetadata(t *testing.T) {
	r, fs, base := rekeyMetaRig(t)
	want := map[vfs.FileID][]byte{}
	for n := range 300 {
		id := r.file(fmt.Sprint(n))
		want[id] = noise(uint64(n+1), 50*n)
		r.put(id, 0, want[id])
	}
	if err := r.db.Flush(); err != nil {
		t.Fatal(err)
	}
	key := newMetaKey(t)
	if err := fs.Rekey(key); err != nil {
		t.Fatal(err)
	}
	lefts := []int64{}
	if err := r.RewriteMetadata(bg, func(left int64) error { lefts = append(lefts, left); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(lefts) < 3 || lefts[0] == 0 || lefts[len(lefts)-1] != 0 {
		t.Errorf("left: %d", lefts)
	}
	fs.EndRekey()
	for id, p := range want {
		r.holds(id, p)
	}
	r.opts.Meta = encrypted(t, base, key)
	r.reopen()
	for id, p := range want {
		r.holds(id, p)
	}
}

// TestRekeyRefusals: calls that have nothing to do, and ones that can't.
func TestRekeyRefusals(t *testing.T) {
	r := newRig(t, 64<<20, nil)
	if err := r.MoveContent(bg, steady); err != nil {
		t.Errorf("without a retired key: %v", err)
	}
	if err := r.RewriteMetadata(bg, steadyMeta); !errors.Is(err, vfs.ErrInvalid) {
		t.Errorf("metadata without encryption: %v", err)
	}
	r.rekeying.Lock()
	if err := r.MoveContent(bg, steady); !errors.Is(err, vfs.ErrInvalid) {
		t.Errorf("two at once: %v", err)
	}
	r.rekeying.Unlock()
	ctx, cancel := context.WithCancel(bg)
	cancel()
	if err := r.MoveContent(ctx, steady); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// FuzzMoved decodes a record of any content, and encodes what it finds.
func FuzzMoved(f *testing.F) {
	m := movedRun{volume.Run{Start: 7, Count: 2}, 9, 3, bytes.Repeat([]byte{5}, 2*tagBytes)}
	f.Add(movedKey(m.from.Start), m.append(nil))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		m, err := decodeMoved(key, value)
		if err != nil {
			if !errors.Is(err, vfs.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if m.from.Count == 0 || len(m.tags) != int(m.from.Count)*tagBytes || !bytes.Equal(m.append(nil), value) ||
			!bytes.Equal(movedKey(m.from.Start)[1:], key[1:]) {
			t.Fatalf("%+v", m)
		}
	})
}

// TestRekeyCrash is TestCrash with new keys under way: power fails at random points, and everything goes on
// with both keys, to the end, where the new ones do alone.
func TestRekeyCrash(t *testing.T) { atPoints(t, 40, rekeyCrashOnce) }

func rekeyCrashOnce(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 9))
	w := newWorld([]int64{40 << 20, 8 << 20}[rng.IntN(2)], rng)
	oldKey, key := newMetaKey(t), newMetaKey(t)
	meta := encrypted(t, w.steps(), oldKey).(*cryptfs.FS)
	r := newRigOn(t, worldDevice{w.dev, w}, meta, func(o *Options) {
		crashOptions(o)
		intentOptions(o, rng)
	})
	var workers []*crashWorker
	for n := range 3 {
		workers = append(workers, newCrashWorker(r, w, n, rng.Uint64()))
		workers[n].overwrites = r.opts.IntentBytes > 0
	}
	for range rng.IntN(400) { // something to be moved
		for _, c := range workers {
			if err := c.one(); err != nil {
				t.Fatal(err)
			}
		}
	}
	writeLarge(w, rng, workers)
	w.arm(1 + rng.IntN(1500))
	begun := rng.IntN(10) > 0
	if begun {
		r.rekey(50)
		if err := meta.Rekey(key); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(bg)
	var wait, moving sync.WaitGroup
	if begun {
		moving.Go(func() { r.rekeyUntil(ctx) })
	}
	for _, c := range workers {
		wait.Go(c.run)
	}
	wait.Wait()
	w.fail()
	cancel()
	moving.Wait()
	if err := r.Store.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	r.drop()

	survived := encrypted(t, w.crashed.meta, oldKey)
	if begun {
		survived = rekeyed(t, w.crashed.meta, key, oldKey)
	}
	after := r.afterCrash(w, survived)
	for _, c := range workers {
		c.r = after
		c.verify()
	}
	if !begun {
		after.close()
		return
	}
	if rng.IntN(2) == 0 {
		after.reopen()
	}
	freeRoom(after)
	after.moveAll()
	if err := after.RewriteMetadata(bg, steadyMeta); err != nil {
		t.Fatal(err)
	}
	after.check()
	for _, c := range workers {
		c.verify()
	}
	after.opts.Meta = encrypted(t, w.crashed.meta, key)
	after.reopen()
	for _, c := range workers {
		c.verify()
	}
	if err := after.EndRecovery(bg); err != nil {
		t.Errorf("end of recovery: %v", err)
	}
	after.close()
}

// freeRoom grows a volume that may be full, so that what is left can be moved.
func freeRoom(r *rig) {
	r.t.Helper()
	if err := r.vol.Grow(r.dev.SizeBytes() + 8<<20); err != nil {
		r.t.Fatal(err)
	}
}

func rekeyed(t *testing.T, base pebblevfs.FS, key, old *keyring.DataKey) *cryptfs.FS {
	t.Helper()
	fs, err := cryptfs.NewRekeyed(base, key, old)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

// rekeyUntil moves and rewrites until it is told to stop, or all is done.
func (r *rig) rekeyUntil(ctx context.Context) {
	done := func(err error) bool {
		if err != nil && !errors.Is(err, context.Canceled) {
			r.t.Errorf("new keys: %v", err)
		}
		return err == nil
	}
	if done(r.MoveContent(ctx, steady)) {
		done(r.RewriteMetadata(ctx, steadyMeta))
	}
}

// TestRekeyTwins is TestTwins while the store gets one data key after the other.
func TestRekeyTwins(t *testing.T) {
	steps := 6_000
	if long() {
		steps = 300_000
	}
	seed := seed(t)
	w := &vfstest.Twins{RestartEvery: 1500}
	now := func() time.Time { return time.Unix(w.Now().Sec, int64(w.Now().Nsec)) }
	model, err := memvfs.New(memvfs.Options{Now: now, MaxBytes: 1 << 50})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, 64<<20, func(o *Options) {
		o.Clock = now
		o.CachedInodes, o.CachedExtents = shards, windowBlocks
		o.DirtyBytes, o.UnstableBytes, o.JournalBytes = 1<<20, 2<<20, 1<<20
		o.IntentBytes = minIntentBytes
	})
	number, keys := byte(50), 0
	begin := func() (end func()) {
		ctx, cancel := context.WithCancel(bg)
		var wait sync.WaitGroup
		wait.Go(func() {
			for ctx.Err() == nil {
				if r.old == nil {
					r.rekey(number)
					number++
				}
				err := r.MoveContent(ctx, steady)
				if err == nil {
					r.old = nil
					keys++
				} else if !errors.Is(err, context.Canceled) {
					t.Errorf("moving: %v", err)
					return
				}
			}
		})
		return func() {
			cancel()
			wait.Wait()
		}
	}
	end := begin()
	w.A, w.B = model, r.Store
	w.Restart = func() vfs.FileSystem {
		end()
		r.reopen()
		end = begin()
		return r.Store
	}
	w.Run(t, seed, steps)
	end()
	if keys == 0 {
		t.Error("no key was ever changed whole")
	}
	t.Logf("%d data keys", keys)
}

// flipBit changes a block behind the volume's back.
func flipBit(t *testing.T, dev *memdev.Device, block volume.Block) {
	t.Helper()
	buf := blockdev.Alloc(blockBytes)
	defer blockdev.Free(buf)
	request := []blockdev.Request{{Offset: int64(block) * blockBytes, Buf: buf}}
	if err := dev.Read(request); err != nil {
		t.Fatal(err)
	}
	buf[17] ^= 4
	if err := dev.Write(request); err != nil {
		t.Fatal(err)
	}
}
