package volume

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
)

// newRand gives a generator whose seed is printed when the test fails; NFSEAL_SEED sets it.
func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("NFSEAL_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("NFSEAL_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0))
}

// fill allocates everything that there is and returns its number of blocks.
func fill(t testing.TB, s *Space) int {
	t.Helper()
	for total := 0; ; {
		run, err := s.Alloc(1000)
		if errors.Is(err, ErrNoSpace) {
			return total
		}
		if err != nil {
			t.Fatal(err)
		}
		total += int(run.Count)
	}
}

// TestChunkMap compares every search with a list of booleans.
func TestChunkMap(t *testing.T) {
	rng := newRand(t)
	const blocks = 256
	c := newChunkMap(0, blocks)
	var model [blocks]bool
	for range 3000 {
		at := uint32(rng.IntN(blocks))
		n := uint32(1 + rng.IntN(min(90, blocks-int(at))))
		used := model[at]
		same := true
		for i := at; i < at+n; i++ {
			same = same && model[i] == used
		}
		if got := c.all(at, n, used); got != same {
			t.Fatalf("all(%d, %d, %v) is %v", at, n, used, got)
		}
		if same {
			for i := at; i < at+n; i++ {
				model[i] = !used
			}
			if used {
				c.give(at, n)
			} else {
				c.take(at, n)
			}
		}
		checkChunk(t, c, model[:], uint32(1+rng.IntN(100)))
	}
}

// checkChunk compares counters and find with the model.
func checkChunk(t *testing.T, c *chunkMap, model []bool, want uint32) {
	t.Helper()
	var free, run, longest uint32
	for _, used := range model {
		if used {
			run = 0
			continue
		}
		free++
		run++
		longest = max(longest, run)
	}
	if c.free != free || c.longest < longest || (c.longest == 0) != (free == 0) {
		t.Fatalf("free %d, longest %d; the model has %d, %d", c.free, c.longest, free, longest)
	}
	start, length := c.find(want)
	if length < min(want, longest) {
		t.Fatalf("find(%d) gave %d, the longest is %d", want, length, longest)
	}
	for i := start; i < start+length; i++ {
		if model[i] {
			t.Fatalf("find(%d) gave %d blocks at %d, of which %d is used", want, length, start, i)
		}
	}
	if length < want && c.longest != longest {
		t.Fatalf("after a failed find longest is %d, want %d", c.longest, longest)
	}
}

// checkIndex says whether every chunk is in the list of its class.
func checkIndex(t *testing.T, s *Space) {
	t.Helper()
	seen := map[*chunkMap]bool{}
	for class, c := range s.index.heads {
		for ; c != nil; c = c.next {
			if int(c.class) != class || c.longest>>class != 1 || seen[c] {
				t.Fatalf("chunk %d with longest %d is in class %d", c.chunk, c.longest, class)
			}
			seen[c] = true
		}
	}
	for _, c := range s.chunks {
		if seen[c] == (c.longest == 0) {
			t.Fatalf("chunk %d with longest %d is in a list: %v", c.chunk, c.longest, seen[c])
		}
	}
	if len(seen) > len(s.chunks) {
		t.Fatal("the index lists a chunk that the space does not have")
	}
}

// TestAllocAgainstModel does random allocations, frees and trims in two spaces of one volume.
func TestAllocAgainstModel(t *testing.T) {
	rng := newRand(t)
	const chunks = 12
	v, _ := newVolume(t, chunks)
	owner := map[Block]int{}
	var spaces [2]*Space
	var runs [2][]Run
	for i := range spaces {
		spaces[i] = openSpace(t, v, byte(i+1))
		spaces[i].Loaded()
	}
	for range 20000 {
		i := rng.IntN(2)
		switch n := rng.IntN(100); {
		case n < 52:
			want := uint32(1 + rng.IntN(1<<rng.IntN(8)))
			run, err := spaces[i].Alloc(want)
			if errors.Is(err, ErrNoSpace) {
				checkFull(t, v, spaces[i])
				continue
			}
			if err != nil || run.Count == 0 || run.Count > want {
				t.Fatalf("Alloc(%d): %v, %v", want, run, err)
			}
			for b := run.Start; b < run.end(); b++ {
				if other, used := owner[b]; used {
					t.Fatalf("block %d was given to space %d and belongs to %d", b, i, other)
				}
				owner[b] = i
			}
			runs[i] = append(runs[i], run)
		case n < 99 && len(runs[i]) > 0:
			at := rng.IntN(len(runs[i]))
			run := runs[i][at]
			runs[i][at] = runs[i][len(runs[i])-1]
			runs[i] = runs[i][:len(runs[i])-1]
			if err := spaces[i].Free(run); err != nil {
				t.Fatal(err)
			}
			if err := spaces[i].Free(run); !errors.Is(err, ErrNotAllocated) && !errors.Is(err, ErrNotOwned) {
				t.Fatalf("freeing twice: %v", err)
			}
			for b := run.Start; b < run.end(); b++ {
				delete(owner, b)
			}
		case n == 99:
			if _, err := spaces[i].Trim(rng.IntN(3)); err != nil {
				t.Fatal(err)
			}
		}
		checkIndex(t, spaces[i])
	}
	var used [2]uint64
	for _, i := range owner {
		used[i]++
	}
	for i, s := range spaces {
		if st := s.Stat(); st.Used != used[i] || st.Leased != st.Used+st.Free {
			t.Errorf("space %d: %+v, the model has %d used", i, st, used[i])
		}
	}
	if got := v.Stat().FreeChunks + uint32(len(spaces[0].chunks)+len(spaces[1].chunks)); got != chunks-1 {
		t.Errorf("%d chunks are free or leased, want %d", got, chunks-1)
	}
}

// checkFull says whether ErrNoSpace was right: no block is free in the space, no chunk anywhere.
func checkFull(t *testing.T, v *Volume, s *Space) {
	t.Helper()
	if st := s.Stat(); st.Free != 0 || st.VolumeFree != 0 {
		t.Fatalf("ErrNoSpace with %+v", st)
	}
	for _, other := range v.spaces {
		for _, c := range other.chunks {
			if other != s && c.free == c.blocks() {
				t.Fatalf("ErrNoSpace although space %v has all of chunk %d free", other.owner, c.chunk)
			}
		}
	}
}

// TestLongRuns checks that allocation on a fresh space is contiguous, call after call.
func TestLongRuns(t *testing.T) {
	v, _ := newVolume(t, 8)
	s := openSpace(t, v, 1)
	s.Loaded()
	var last Run
	breaks := 0
	for range 200 {
		run, err := s.Alloc(2)
		if err != nil || run.Count != 2 {
			t.Fatalf("%v, %v", run, err)
		}
		if run.Start != last.end() {
			breaks++
		}
		last = run
	}
	if breaks > 7 {
		t.Errorf("200 allocations of 2 blocks were interrupted %d times, chunks have 64 blocks", breaks)
	}
}

func TestLoading(t *testing.T) {
	v, dev := newVolume(t, 6)
	s, other := openSpace(t, v, 1), openSpace(t, v, 2)
	if _, err := s.Alloc(1); !errors.Is(err, ErrMisuse) {
		t.Errorf("Alloc before Loaded: %v", err)
	}
	if err := s.Free(Run{64, 1}); !errors.Is(err, ErrMisuse) {
		t.Errorf("Free before Loaded: %v", err)
	}
	s.Loaded()
	other.Loaded()
	run, err := s.Alloc(10)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.Alloc(10)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.MarkUsed(run); !errors.Is(err, ErrMisuse) {
		t.Errorf("MarkUsed after Loaded: %v", err)
	}
	if _, err := v.OpenSpace(SpaceID{1}, testCipher(t, 1), testTags(t, 1)); !errors.Is(err, ErrSpaceOpen) {
		t.Errorf("opening twice: %v", err)
	}
	for _, id := range []SpaceID{freeChunk, headerChunk} {
		if _, err := v.OpenSpace(id, testCipher(t, 1), testTags(t, 1)); !errors.Is(err, ErrMisuse) {
			t.Errorf("opening space %v: %v", id, err)
		}
	}

	s = openSpace(t, openVolume(t, dev.CrashClone(memdev.LoseAll, nil)), 1)
	for _, bad := range []Run{foreign, {0, 1}, {1 << 60, 1}, {^Block(0), 2}, {run.Start - 1, 1 << 20}, {6 * 64, 1}} {
		if err := s.MarkUsed(bad); !errors.Is(err, ErrCorrupt) {
			t.Errorf("MarkUsed(%v): %v, want ErrCorrupt", bad, err)
		}
	}
	if err := s.MarkUsed(run); err != nil {
		t.Fatal(err)
	}
	if err := s.MarkUsed(Run{run.end() - 1, 2}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("MarkUsed twice: %v, want ErrCorrupt", err)
	}
	s.Loaded()
	if st := s.Stat(); st.Used != 10 {
		t.Errorf("%+v after loading 10 blocks", st)
	}
	if err := errors.Join(s.Free(run)); err != nil {
		t.Error(err)
	}
}

// TestReclaim: a space that freed everything does not keep another one from the volume.
func TestReclaim(t *testing.T) {
	v, _ := newVolume(t, 6)
	a, b := openSpace(t, v, 1), openSpace(t, v, 2)
	a.Loaded()
	b.Loaded()
	if fill(t, a) != 5*64 {
		t.Fatal("a space can't have the whole volume")
	}
	if _, err := b.Alloc(1); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("Alloc on a full volume: %v", err)
	}
	if err := a.Free(Run{64, 3*64 + 1}); err != nil {
		t.Fatal(err)
	}
	if got := fill(t, b); got != 3*64 {
		t.Errorf("the other space got %d blocks, want the three chunks that are free", got)
	}
	if got := fill(t, a); got != 1 {
		t.Errorf("the first space got %d blocks, want the one that is left", got)
	}
}

func TestDestroySpace(t *testing.T) {
	v, dev := newVolume(t, 6)
	s := openSpace(t, v, 1)
	s.Loaded()
	run, err := s.Alloc(64)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write([]IO{tagged(run.Start, pattern(64, 1))}); err != nil {
		t.Fatal(err)
	}
	if err := v.DestroySpace(SpaceID{1}); !errors.Is(err, ErrSpaceOpen) {
		t.Errorf("destroying an open space: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := v.DestroySpace(SpaceID{1}); err != nil {
			t.Fatal(err)
		}
	}
	if st := v.Stat(); st.FreeChunks != 5 || len(v.Spaces()) != 0 {
		t.Errorf("after destruction: %+v, %v", st, v.Spaces())
	}
	if b := readBlock(t, dev, int64(run.Start)); string(b) != string(make([]byte, BlockBytes)) {
		t.Error("the device was not told to discard")
	}
	if st := openVolume(t, dev.CrashClone(memdev.LoseAll, nil)).Stat(); st.FreeChunks != 5 {
		t.Errorf("after a crash: %+v", st)
	}
	for name, err := range map[string]error{
		"Alloc": func() error { _, err := s.Alloc(1); return err }(), "Free": s.Free(run),
		"Write": s.Write([]IO{tagged(run.Start, pattern(1, 1))}), "Read": s.Read([]IO{tagged(run.Start, pattern(1, 1))}), "Close": s.Close(),
		"Trim": func() error { _, err := s.Trim(0); return err }(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s on a closed space: %v", name, err)
		}
	}
}

// TestConcurrentSpaces has several goroutines in each of three spaces on a volume that is too small
// for them, so that chunks wander; each checks that nobody touches what it wrote.
func TestConcurrentSpaces(t *testing.T) {
	v, _ := newVolume(t, 20)
	var wg sync.WaitGroup
	for id := range byte(3) {
		s := openSpace(t, v, id+1)
		s.Loaded()
		for g := range byte(3) {
			wg.Go(func() { wander(t, s, id*3+g) })
		}
	}
	wg.Wait()
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

// wander allocates, writes, checks and frees.
func wander(t *testing.T, s *Space, seed byte) {
	rng := rand.New(rand.NewPCG(uint64(seed), 3))
	type held struct {
		run  Run
		seed byte
		tags []byte
	}
	var have []held
	for round := range 150 {
		run, err := s.Alloc(uint32(1 + rng.IntN(60)))
		if err == nil {
			h := held{run: run, seed: seed + byte(round)*9}
			io := tagged(run.Start, pattern(int(run.Count), h.seed))
			if err := s.Write([]IO{io}); err != nil {
				t.Error(err)
				return
			}
			h.tags = io.Tags
			have = append(have, h)
		} else if !errors.Is(err, ErrNoSpace) {
			t.Error(err)
			return
		}
		for len(have) > 4 || (err != nil && len(have) > 0) {
			h := have[0]
			have = have[1:]
			got := make([]byte, int(h.run.Count)*BlockBytes)
			io := tagged(h.run.Start, got)
			io.Tags = h.tags
			if err := s.Read([]IO{io}); err != nil || string(got) != string(pattern(int(h.run.Count), h.seed)) {
				t.Errorf("%v holds something else (%v)", h.run, err)
				return
			}
			if err := s.Free(h.run); err != nil {
				t.Error(err)
				return
			}
		}
		if round%20 == 0 {
			if _, err := s.Trim(1); err != nil {
				t.Error(err)
				return
			}
		}
	}
}

func BenchmarkAllocFree(b *testing.B) {
	dev := memdev.New(1 << 30)
	if err := Format(dev, Options{UUID: testUUID}); err != nil {
		b.Fatal(err)
	}
	s := openSpace(b, openVolume(b, dev), 1)
	s.Loaded()
	var runs [1000]Run
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		at := i * 7919 % len(runs)
		if runs[at].Count > 0 {
			if err := s.Free(runs[at]); err != nil {
				b.Fatal(err)
			}
		}
		var err error
		if runs[at], err = s.Alloc(uint32(1 + i%256)); err != nil {
			b.Fatal(err)
		}
	}
}
