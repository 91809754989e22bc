package filestore

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// lendingCache has a cache in which a run of each shard may be lent.
func lendingCache(o *Options) { o.CacheBytes = 24 << 20 }

// cached makes a file of so many bytes, all of which the cache has, and returns its content.
func (r *rig) cached(name string, n int) (vfs.FileID, []byte) {
	r.t.Helper()
	id, want := r.file(name), noise(uint64(n), n)
	r.write(id, 0, want, vfs.FileSync)
	r.reopen() // what was written through memory is read from the volume then
	r.wantContent(id, want)
	return id, want
}

// borrow lends a range, or fails.
func (r *rig) borrow(id vfs.FileID, offset uint64, length int) (vfs.Loan, bool) {
	r.t.Helper()
	l, eof := r.Lend(bg, nil, id, offset, length)
	if l == nil {
		r.t.Fatalf("%d bytes at %d are not lent", length, offset)
	}
	return l, eof
}

// joined is a loan's content in one piece.
func joined(l vfs.Loan) []byte { return bytes.Join(l.Views(), nil) }

// TestLend lends ranges of a file that the cache has: what is lent is what is there, up to its end.
func TestLend(t *testing.T) {
	r := newRig(t, 64<<20, lendingCache)
	const size = 300<<10 + 777
	id, want := r.cached("f", size)
	for _, c := range []struct {
		offset uint64
		length int
		eof    bool
	}{
		{0, 1, false}, {0, blockBytes, false}, {1, blockBytes, false}, {4095, 2, false}, {5000, 123_456, false},
		{0, size, true}, {0, size - 1, false}, {17, 1 << 20, true}, {size - 1, 1, true}, {size - 5, 100, true},
	} {
		before := r.Stats()
		l, eof := r.borrow(id, c.offset, c.length)
		end := min(int(c.offset)+c.length, size)
		if !bytes.Equal(joined(l), want[c.offset:end]) || eof != c.eof {
			t.Errorf("%d bytes at %d: %d other bytes, end %v", c.length, c.offset, len(joined(l)), eof)
		}
		l.Return()
		now := r.Stats()
		if now.Reads-before.Reads != 1 || now.Lends-before.Lends != 1 || now.BytesRead-before.BytesRead != uint64(end)-c.offset {
			t.Errorf("%d bytes at %d are counted as %d reads, %d lent, %d bytes", c.length, c.offset, now.Reads-before.Reads,
				now.Lends-before.Lends, now.BytesRead-before.BytesRead)
		}
	}
	l, _ := r.borrow(id, 0, 256<<10)
	if n := len(l.Views()); n > 16 {
		t.Errorf("64 blocks that were put one after the other are %d pieces", n)
	}
	l.Return()
}

// TestLendNot: what is not in the cache, or not allowed, or not there is not lent.
func TestLendNot(t *testing.T) {
	r := newRig(t, 64<<20, lendingCache)
	const size = 256 << 10
	id, want := r.cached("f", size)
	stranger := &vfs.Cred{UID: 7, GID: 7}
	if err := r.SetAttr(bg, nil, id, &vfs.SetAttr{Mask: vfs.SetMode, Mode: 0o600}, new(vfs.Attr)); err != nil {
		t.Fatal(err)
	}
	not := func(what string, cred *vfs.Cred, id vfs.FileID, offset uint64, length int) {
		t.Helper()
		if l, _ := r.Lend(bg, cred, id, offset, length); l != nil {
			l.Return()
			t.Errorf("%s is lent", what)
		}
	}
	not("what one may not read", stranger, id, 0, size)
	not("a directory", nil, r.Root(), 0, 1)
	not("what is no file", nil, vfs.FileID{Inode: 4711, Generation: 1}, 0, 1)
	not("nothing", nil, id, 0, 0)
	not("what is behind the end", nil, id, size, 1)
	not("what is far behind the end", nil, id, 1<<63-1, 1)
	r.write(id, 100, want[100:200], vfs.Unstable)
	not("a block that was written", nil, id, 0, blockBytes)
	not("a range with a block that was written", nil, id, 0, size)
	if l, _ := r.borrow(id, blockBytes, size-blockBytes); !bytes.Equal(joined(l), want[blockBytes:]) {
		t.Error("the range beside it is another")
	} else {
		l.Return()
	}
	r.write(id, size+blockBytes, want[:blockBytes], vfs.FileSync)
	not("a hole", nil, id, size, 10)
	r.cache.wipe()
	not("what the cache lacks", nil, id, blockBytes, size-blockBytes)
	if n := r.lentSlots(); n != 0 {
		t.Errorf("%d blocks are still lent", n)
	}
}

// lentSlots is how many slots of the rig's cache readers have.
func (r *rig) lentSlots() (n int) {
	for k := range r.cache.shared.shards {
		sh := &r.cache.shared.shards[k]
		sh.mu.Lock()
		n += sh.lent
		sh.mu.Unlock()
	}
	return n
}

// TestLentStays: what is lent stays as it was while the file is overwritten, its blocks are freed and used again, and others want
// the cache. When it is returned nothing of it is left, for the cache was wiped meanwhile.
func TestLentStays(t *testing.T) {
	r := newRig(t, 64<<20, lendingCache)
	const size = 1 << 20
	id, want := r.cached("f", size)
	l, _ := r.borrow(id, 0, size)
	again, _ := r.borrow(id, 100, 200<<10)
	for n := range 5 {
		r.write(id, 0, noise(uint64(100+n), size), vfs.FileSync)
		other, content := r.file(string(rune('a'+n))), noise(uint64(200+n), 4<<20)
		r.write(other, 0, content, vfs.FileSync)
		r.wantContent(other, content)
		r.wantContent(id, noise(uint64(100+n), size))
	}
	r.cache.wipe()
	if n := r.cache.count(); n != 0 {
		t.Errorf("%d blocks in a wiped cache", n)
	}
	if !bytes.Equal(joined(l), want) || !bytes.Equal(joined(again), want[100:100+200<<10]) {
		t.Error("what is lent has changed")
	}
	memory := l.Views()
	kept := append([][]byte(nil), memory...)
	l.Return()
	if !bytes.Equal(joined(again), want[100:100+200<<10]) {
		t.Error("what another one has, too, has changed")
	}
	again.Return()
	for _, view := range kept {
		if len(trim(view)) != 0 {
			t.Fatal("of what was wiped plaintext stays")
		}
	}
	if n := r.lentSlots(); n != 0 {
		t.Errorf("%d blocks are still lent", n)
	}
}

// TestLentShare: readers have a quarter of the cache at most, and with that lent it goes on to work.
func TestLentShare(t *testing.T) {
	const limit = 64 * cacheShards
	c := newCache(t, limit)
	content := make([]byte, blockBytes)
	var out []*loan
	lent := 0
	for b := range volume.Block(4 * limit) {
		c.put(b, content)
		l := c.borrow()
		if c.lend(l, b, 0, blockBytes) {
			lent++
		}
		out = append(out, l)
	}
	if lent != limit/lentShare {
		t.Errorf("%d of %d blocks are lent", lent, limit)
	}
	if n := c.count(); n > limit {
		t.Errorf("%d blocks, limit %d", n, limit)
	}
	for _, l := range out {
		l.Return()
	}
	l := c.borrow()
	if !c.lend(l, 4*limit-1, 0, blockBytes) {
		t.Error("nothing is lent any more")
	}
	l.Return()
}

// TestLendPieces: blocks that are put one after the other into slots that were used before lie in one piece.
func TestLendPieces(t *testing.T) {
	c := newCache(t, 4*cacheRun*cacheShards)
	content := make([]byte, cacheRun*blockBytes)
	for range 3 {
		c.put(0, content)
		l := c.borrow()
		if !c.lend(l, 0, 0, len(content)) || len(l.Views()) != 1 {
			t.Errorf("%d blocks are lent in %d pieces", cacheRun, len(l.Views()))
		}
		l.Return()
		c.drop([]volume.Run{{Start: 0, Count: cacheRun}})
	}
}

// TestCloseAwaitsLoans: memory that readers have is not given back under them.
func TestCloseAwaitsLoans(t *testing.T) {
	c := newCache(t, minMappedCache/blockBytes)
	want := noise(1, 4*blockBytes)
	c.put(8, want)
	l := c.borrow()
	if !c.lend(l, 8, 0, len(want)) {
		t.Fatal("not lent")
	}
	closed := make(chan error)
	go func() { closed <- c.close() }()
	select {
	case <-closed:
		t.Fatal("closed under a reader")
	case <-time.After(20 * time.Millisecond):
	}
	if !bytes.Equal(joined(l), want) {
		t.Error("what is lent has changed")
	}
	l.Return()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestLendBeside has readers who keep what they are lent for a while, beside writers, a truncation now and then, and a cache that is too
// small: each sees what one write wrote, and it stays so.
func TestLendBeside(t *testing.T) {
	r := newRig(t, 128<<20, lendingCache)
	const regions, regionBytes = 160, 128 << 10 // more than the cache has room for
	id := r.file("f")
	whole := make([]byte, regions*regionBytes)
	r.write(id, 0, whole, vfs.FileSync)
	var readers, writers sync.WaitGroup
	var done atomic.Bool
	var lent atomic.Int32
	for n := range 4 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(n), 8))
			p := make([]byte, regionBytes)
			for !done.Load() {
				offset := uint64(rng.IntN(regions)) * regionBytes
				l, _ := r.Lend(bg, nil, id, offset, regionBytes)
				if l == nil {
					if _, _, err := r.Read(bg, nil, id, offset, p); err != nil {
						t.Error(err)
						return
					}
					continue
				}
				lent.Add(1)
				first := bytes.Clone(joined(l))
				time.Sleep(time.Duration(rng.IntN(300)) * time.Microsecond)
				if !bytes.Equal(joined(l), first) || len(bytes.Trim(first, string(first[:1]))) != 0 {
					t.Error("what is lent is of several writes, or has changed")
				}
				l.Return()
			}
		})
	}
	for n := range 2 {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(n), 9))
			for k := range 300 {
				p := bytes.Repeat([]byte{byte(1 + k%200)}, regionBytes)
				offset := uint64(rng.IntN(regions)) * regionBytes
				if _, err := r.Write(bg, nil, false, id, offset, p, vfs.Stability(rng.IntN(3))); err != nil {
					t.Error(err)
					return
				}
				if k%100 == 99 {
					for _, size := range []uint64{regions * regionBytes / 2, regions * regionBytes} {
						if err := r.SetAttr(bg, nil, id, &vfs.SetAttr{Mask: vfs.SetSize, Size: size}, new(vfs.Attr)); err != nil {
							t.Error(err)
						}
					}
				}
			}
		})
	}
	writers.Wait()
	done.Store(true)
	readers.Wait()
	if lent.Load() < 100 {
		t.Errorf("%d loans only", lent.Load())
	}
	if n := r.lentSlots(); n != 0 {
		t.Errorf("%d blocks are still lent", n)
	}
}

// TestLendAtRandom does random things to a cache while readers have parts of it: what they have is what was put, and when all is
// returned the cache is as large as before.
func TestLendAtRandom(t *testing.T) {
	const limit = 8 * cacheShards
	c := newCache(t, limit)
	rng := rand.New(rand.NewPCG(5, 6))
	model := map[volume.Block]byte{} // what a block holds, if it was put since it was freed
	type borrowed struct {
		l    *loan
		want []byte // of each block
	}
	var out []borrowed
	giveBack := func(k int) {
		content := joined(out[k].l)
		for n, want := range out[k].want {
			if content[n*blockBytes] != want || content[(n+1)*blockBytes-1] != want {
				t.Fatalf("block %d of a loan is %d, want %d", n, content[n*blockBytes], want)
			}
		}
		out[k].l.Return()
		out = append(out[:k], out[k+1:]...)
	}
	lent := 0
	for range 200_000 {
		b := volume.Block(rng.IntN(300))
		switch rng.IntN(5) {
		case 0, 1:
			if _, ok := model[b]; !ok {
				model[b] = byte(rng.Uint32())
			}
			put := c.put
			if rng.IntN(2) == 0 {
				put = c.putAhead // which the first reader does not make one that is wanted again
			}
			put(b, bytes.Repeat([]byte{model[b]}, blockBytes))
		case 2:
			n := uint32(1 + rng.IntN(3))
			c.drop([]volume.Run{{Start: b, Count: n}})
			for k := range n {
				delete(model, b+volume.Block(k))
			}
		case 3:
			l, n := c.borrow(), 1+rng.IntN(3)
			if !c.lend(l, b, 0, n*blockBytes) {
				l.Return()
				continue
			}
			lent++
			one := borrowed{l: l}
			for k := range n {
				one.want = append(one.want, model[b+volume.Block(k)])
			}
			out = append(out, one)
		default:
			if len(out) > 10 || len(out) > 0 && rng.IntN(20) == 0 { // some for long, so that others want their slots
				giveBack(rng.IntN(len(out)))
			}
		}
	}
	if lent < 1000 {
		t.Errorf("%d loans only", lent)
	}
	for len(out) > 0 {
		giveBack(0)
	}
	if room := c.shared.room.Load() + c.count(); room != limit {
		t.Errorf("room for %d blocks altogether, want %d", room, limit)
	}
	for k := range c.shared.shards {
		sh := &c.shared.shards[k]
		if n := len(sh.idle) + sh.main.length + sh.fresh.length; n != len(sh.slots) || sh.lent != 0 {
			t.Errorf("shard %d: %d of %d slots are somewhere, %d lent", k, n, len(sh.slots), sh.lent)
		}
	}
}
