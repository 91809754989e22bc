package volume

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
)

func testSpaceKey(t testing.TB, id byte) SpaceKey {
	return SpaceKey{SpaceID{id}, testCipher(t, id), testTags(t, id)}
}

// storedRun is a run with what was written to it.
type storedRun struct {
	run  Run
	io   IO
	want []byte
}

// rekeyRun is a space that gets new keys, and what should be in it.
type rekeyRun struct {
	t    *testing.T
	rng  *rand.Rand
	dev  *memdev.Device
	v    *Volume
	s    *Space
	key  SpaceKey
	old  *SpaceKey
	runs []storedRun
	next byte
}

func (r *rekeyRun) open() {
	r.t.Helper()
	r.v = openVolume(r.t, r.dev)
	var err error
	if r.old == nil {
		r.s, err = r.v.OpenSpace(r.key.Owner, r.key.Cipher, r.key.Tags)
	} else {
		r.s, err = r.v.OpenRekeyed(r.key, *r.old)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	for _, x := range r.runs {
		if err := r.s.MarkUsed(x.run); err != nil {
			r.t.Fatal(err)
		}
	}
	r.s.Loaded()
}

func (r *rekeyRun) add(want uint32) bool {
	r.t.Helper()
	run, err := r.s.Alloc(want)
	if errors.Is(err, ErrNoSpace) {
		return false
	}
	if err != nil {
		r.t.Fatal(err)
	}
	if got := r.v.owners[run.Start/64]; got != r.key.Owner {
		r.t.Fatalf("%v is in a chunk of %v, the space is %v", run, got, r.key.Owner)
	}
	x := storedRun{run: run, want: pattern(int(run.Count), byte(r.rng.IntN(256)))}
	x.io = tagged(run.Start, x.want)
	if err := r.s.Write([]IO{x.io}); err != nil {
		r.t.Fatal(err)
	}
	r.runs = append(r.runs, x)
	return true
}

func (r *rekeyRun) drop(at int) {
	r.t.Helper()
	if err := r.s.Free(r.runs[at].run); err != nil {
		r.t.Fatal(err)
	}
	r.runs = append(r.runs[:at], r.runs[at+1:]...)
}

// check reads everything, in one batch that the keys cut.
func (r *rekeyRun) check() {
	r.t.Helper()
	var batch []IO
	used := uint64(0)
	for _, x := range r.runs {
		io := x.io
		io.Buf = make([]byte, len(x.want))
		batch = append(batch, io)
		used += uint64(x.run.Count)
		if !r.s.InUse(x.run) {
			r.t.Fatalf("%v is not in use", x.run)
		}
	}
	if err := r.s.Read(batch); err != nil {
		r.t.Fatal(err)
	}
	for k, x := range r.runs {
		if !bytes.Equal(batch[k].Buf, x.want) {
			r.t.Fatalf("%v is not what was written", x.run)
		}
	}
	st := r.s.Stat()
	if st.Used != used || st.Leased != st.Used+st.Free+st.Stranded || (r.old == nil) != !r.s.Rekeying() {
		r.t.Fatalf("%+v with %d used blocks, rekeying %v", st, used, r.s.Rekeying())
	}
	retired := uint64(0)
	if all := r.s.RetiredChunks(1<<40, nil); all.Count() > 0 {
		for _, x := range r.runs {
			for rest := x.run; rest.Count > 0; {
				var in bool
				var first Run
				if first, in, rest = all.Cut(rest); in {
					retired += uint64(first.Count)
				}
			}
		}
	}
	if st.Retired != retired {
		r.t.Fatalf("%+v with %d blocks in retired chunks", st, retired)
	}
}

// TestRekeyAgainstModel gives a space new keys again and again, while blocks are written, read and freed,
// it is opened anew, and others take chunks.
func TestRekeyAgainstModel(t *testing.T) {
	r := &rekeyRun{t: t, rng: newRand(t), key: testSpaceKey(t, 1), next: 2}
	_, r.dev = newVolume(t, 24)
	r.open()
	rekeys := 0
	for step := range 4000 {
		switch n := r.rng.IntN(100); {
		case n < 40:
			r.add(uint32(1 + r.rng.IntN(80)))
		case n < 75 && len(r.runs) > 0:
			r.drop(r.rng.IntN(len(r.runs)))
		case n < 80:
			if _, err := r.s.TrimRetired(); err != nil {
				t.Fatal(err)
			}
		case n < 84:
			if _, err := r.s.DiscardFreed(3); err != nil {
				t.Fatal(err)
			}
		case n < 90:
			if r.old == nil {
				r.rekey()
				rekeys++
			} else {
				r.moveSome()
			}
		case n < 92 && step%3 == 0:
			if err := r.v.Close(); err != nil {
				t.Fatal(err)
			}
			r.open()
		}
		if step%50 == 0 {
			r.check()
		}
	}
	if rekeys < 5 {
		t.Errorf("only %d new keys", rekeys)
	}
}

func (r *rekeyRun) rekey() {
	r.t.Helper()
	k := testSpaceKey(r.t, r.next)
	r.next++
	if err := r.s.Rekey(k); err != nil {
		r.t.Fatal(err)
	}
	r.old, r.key = &SpaceKey{r.key.Owner, r.key.Cipher, r.key.Tags}, k
	if err := r.s.Rekey(testSpaceKey(r.t, 255)); !errors.Is(err, ErrMisuse) {
		r.t.Fatalf("a key over a key: %v", err)
	}
}

// moveSome empties the chunks that are chosen, and ends the old key with the last.
func (r *rekeyRun) moveSome() {
	r.t.Helper()
	chosen := r.s.RetiredChunks(uint64(r.rng.IntN(200)), nil)
	for at := 0; at < len(r.runs); {
		if _, in, _ := chosen.Cut(r.runs[at].run); !in {
			at++
			continue
		}
		r.drop(at)
	}
	if got := r.s.RetiredChunks(0, nil); got.Count() > 0 && got.Used > 0 {
		if err := r.s.EndRekey(); !errors.Is(err, ErrMisuse) {
			r.t.Fatalf("the end of a key that is in use: %v", err)
		}
		return
	}
	if r.s.Stat().Retired > 0 {
		return
	}
	err := r.s.EndRekey()
	if err != nil {
		r.t.Fatal(err)
	}
	for chunk, owner := range r.v.owners {
		if owner == r.old.Owner {
			r.t.Fatalf("chunk %d is still the old owner's", chunk)
		}
	}
	r.old = nil
}

// TestRekeyOnFullVolume: a retired chunk that is empty is the next one that the space gets.
func TestRekeyOnFullVolume(t *testing.T) {
	r := &rekeyRun{t: t, rng: newRand(t), key: testSpaceKey(t, 1), next: 2}
	_, r.dev = newVolume(t, 6)
	r.open()
	for r.add(16) {
	}
	r.rekey()
	if _, err := r.s.Alloc(1); !errors.Is(err, ErrNoSpace) {
		t.Fatalf("a block under the new key on a full volume: %v", err)
	}
	chosen := r.s.RetiredChunks(0, nil)
	if chosen.Count() != 1 || chosen.Used != 64 {
		t.Fatalf("%d chunks with %d used blocks are chosen, want one", chosen.Count(), chosen.Used)
	}
	var emptied Run
	for at := 0; at < len(r.runs); {
		if _, in, _ := chosen.Cut(r.runs[at].run); in {
			emptied = r.runs[at].run
			r.drop(at)
		} else {
			at++
		}
	}
	left := r.s.RetiredChunks(1<<40, &chosen)
	if left.Count() != 4 {
		t.Errorf("%d chunks are left, want 4", left.Count())
	}
	if !r.add(64) {
		t.Fatal("no block, though a retired chunk is empty")
	}
	if fresh := r.runs[len(r.runs)-1].run; fresh.Start/64 != emptied.Start/64 {
		t.Fatalf("%v is not in the chunk of %v", fresh, emptied)
	} else if _, in, _ := chosen.Cut(fresh); in {
		t.Fatal("a chunk that was given back is still one of those to be emptied")
	}
	chosen.Join(&left)
	if got := r.s.RetiredChunks(1<<40, &chosen); got.Count() != 0 {
		t.Errorf("%d chunks beside all", got.Count())
	}
	r.check()
}

// TestRetiredKeyOpensNothingNew: what is written after Rekey is under the new key alone, what was allocated
// before it under the old one.
func TestRetiredKeyOpensNothingNew(t *testing.T) {
	r := &rekeyRun{t: t, rng: newRand(t), key: testSpaceKey(t, 1), next: 2}
	_, r.dev = newVolume(t, 12)
	r.open()
	r.add(8)
	before, err := r.s.Alloc(8)
	if err != nil {
		t.Fatal(err)
	}
	r.rekey()
	late := tagged(before.Start, pattern(int(before.Count), 3))
	if err := r.s.Write([]IO{late}); err != nil {
		t.Fatal(err)
	}
	r.add(8)
	if err := r.v.Close(); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		key   SpaceKey
		reads []IO
		not   []IO
	}{
		"old": {*r.old, []IO{r.runs[0].io, late}, []IO{r.runs[1].io}},
		"new": {r.key, []IO{r.runs[1].io}, []IO{r.runs[0].io, late}},
	} {
		v := openVolume(t, r.dev)
		s, err := v.OpenSpace(test.key.Owner, test.key.Cipher, test.key.Tags)
		if err != nil {
			t.Fatal(err)
		}
		for _, io := range test.reads {
			if err := s.Read([]IO{io}); err != nil {
				t.Errorf("%s key: %v", name, err)
			}
		}
		for _, io := range test.not {
			if err := s.Read([]IO{io}); !errors.Is(err, ErrNotOwned) {
				t.Errorf("%s key: what is the other's: %v", name, err)
			}
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRekeyRefusals: what is refused changes nothing.
func TestRekeyRefusals(t *testing.T) {
	v, dev := newVolume(t, 8)
	s, other := openSpace(t, v, 1), openSpace(t, v, 2)
	s.Loaded()
	other.Loaded()
	if _, err := other.Alloc(1); err != nil {
		t.Fatal(err)
	}
	k := testSpaceKey(t, 3)
	for name, test := range map[string]struct {
		key  SpaceKey
		want error
	}{
		"no cipher":     {SpaceKey{k.Owner, nil, k.Tags}, ErrMisuse},
		"no tags":       {SpaceKey{k.Owner, k.Cipher, nil}, ErrMisuse},
		"owner is free": {SpaceKey{SpaceID{}, k.Cipher, k.Tags}, ErrMisuse},
		"owner is open": {SpaceKey{SpaceID{2}, k.Cipher, k.Tags}, ErrSpaceOpen},
	} {
		if err := s.Rekey(test.key); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Rekey(SpaceKey{SpaceID{2}, k.Cipher, k.Tags}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an owner with chunks: %v", err)
	}
	if s.Rekeying() || s.Owner() != (SpaceID{1}) || s.EndRekey() != nil {
		t.Error("a refusal has changed the space")
	}
	if err := s.Rekey(k); err != nil {
		t.Fatal(err)
	}
	for _, id := range []byte{1, 3} {
		if _, err := v.OpenSpace(SpaceID{id}, k.Cipher, k.Tags); !errors.Is(err, ErrSpaceOpen) {
			t.Errorf("owner %d: %v", id, err)
		}
		if err := v.DestroySpace(SpaceID{id}); !errors.Is(err, ErrSpaceOpen) {
			t.Errorf("destroying owner %d: %v", id, err)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = openVolume(t, dev)
	if _, err := v.OpenRekeyed(k, k); !errors.Is(err, ErrMisuse) {
		t.Errorf("one owner for both: %v", err)
	}
	if _, err := v.OpenRekeyed(k, SpaceKey{Owner: SpaceID{1}}); !errors.Is(err, ErrMisuse) {
		t.Errorf("an old key without a cipher: %v", err)
	}
}

// TestRekeyCrashes: a crash at any moment of a rekeying space leaves each chunk with one of its owners, and
// what is marked as used opens.
func TestRekeyCrashes(t *testing.T) {
	rng := newRand(t)
	for range 20 {
		r := &rekeyRun{t: t, rng: rng, key: testSpaceKey(t, 1), next: 2}
		_, r.dev = newVolume(t, 14)
		r.open()
		for range 10 {
			r.add(uint32(1 + rng.IntN(64)))
		}
		r.rekey()
		for range 30 {
			if rng.IntN(2) == 0 {
				r.add(uint32(1 + rng.IntN(64)))
			} else if r.old != nil && rng.IntN(4) == 0 {
				r.moveSome()
			} else if len(r.runs) > 0 {
				r.drop(rng.IntN(len(r.runs)))
			}
			if err := r.s.Sync(); err != nil {
				t.Fatal(err)
			}
			clone := *r
			clone.dev = r.dev.CrashClone(memdev.Torn, rng)
			clone.open()
			clone.check()
		}
	}
}
