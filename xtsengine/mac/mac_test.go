package mac

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// runner is what *testing.T and *testing.B share to run a subtest.
type runner[T any] interface {
	testing.TB
	Run(name string, f func(T)) bool
}

// eachPath runs f on every path that this processor has.
func eachPath[T runner[T]](t T, f func(T, path)) {
	for p := pathGeneric; p < pathCount; p++ {
		t.Run(p.String(), func(t T) {
			if !available(p) {
				t.Skipf("this processor has no %s; runs on one that has", p)
			}
			f(t, p)
		})
	}
}

func mustOpen(t testing.TB, key []byte) *Key {
	t.Helper()
	return mustOpenOn(t, key, bestPath())
}

func mustOpenOn(t testing.TB, key []byte, p path) *Key {
	t.Helper()
	k, err := newOnPath(key, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestAgainstModel(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		r := rand.New(rand.NewPCG(1, 2))
		key := randomBytes(r, KeyBytes)
		k := mustOpenOn(t, key, p)
		for _, blockBytes := range []int{64, 128, 192, 512, 4032, 4096, 4160, 12288, 65536} {
			for _, count := range []int{1, 2, 17} {
				checkRun(t, r, key, k, blockBytes, count)
			}
		}
	})
}

// checkRun compares the tags of a run of blocks, at an odd address, with the model.
func checkRun(t *testing.T, r *rand.Rand, key []byte, k *Key, blockBytes, count int) {
	t.Helper()
	data := randomBytes(r, blockBytes*count+3)[3:]
	first, generation := r.Uint64(), r.Uint64()
	got := make([]byte, count*TagBytes)
	k.Tags(got, data, blockBytes, first, generation)
	for i := range count {
		tag := got[i*TagBytes:][:TagBytes]
		want := modelTag(t, key, data[i*blockBytes:][:blockBytes], first+uint64(i), generation)
		if !bytes.Equal(tag, want) {
			t.Fatalf("block %d of %d of %d bytes: tag %x, want %x", i, count, blockBytes, tag, want)
		}
	}
	if bad := k.Verify(got, data, blockBytes, first, generation); bad != -1 {
		t.Fatalf("%d blocks of %d bytes: block %d is said to be bad", count, blockBytes, bad)
	}
}

// TestNH compares every path of NH with the generic one on every length.
func TestNH(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		r := rand.New(rand.NewPCG(7, 8))
		key := (*[nhKeyBytes]byte)(randomBytes(r, nhKeyBytes))
		for n := BlockUnitBytes; n <= pieceBytes; n += BlockUnitBytes {
			piece := randomBytes(r, n+1)[1:]
			var want, got [passes]uint64
			nhGeneric(&want, key, piece)
			nh(p, &got, key, piece)
			if got != want {
				t.Fatalf("%d bytes: %x, want %x", n, got, want)
			}
		}
	})
}

// TestNHFour compares four blocks side by side with each by itself, on every length, on the paths that have such a way.
func TestNHFour(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		r := rand.New(rand.NewPCG(9, 10))
		key := (*[nhKeyBytes]byte)(randomBytes(r, nhKeyBytes))
		for n := BlockUnitBytes; n <= pieceBytes; n += BlockUnitBytes {
			blocks := randomBytes(r, fourBlocks*n+1)[1:]
			var want [passes]uint64
			var got [fourBlocks * passes]uint64
			done := nhFour(p, &got, key, blocks)
			if done != (p == pathAVX512) {
				t.Fatalf("done side by side: %v", done)
			}
			for i := 0; i < fourBlocks && done; i++ {
				nhGeneric(&want, key, blocks[i*n:(i+1)*n])
				if [passes]uint64(got[i*passes:]) != want {
					t.Fatalf("block %d of %d bytes: %x, want %x", i, n, got[i*passes:(i+1)*passes], want)
				}
			}
		}
	})
}

// TestExtremes has every word of block, number and generation at its greatest, where carries meet.
func TestExtremes(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		key := bytes.Repeat([]byte{0xff}, KeyBytes)
		k := mustOpenOn(t, key, p)
		for _, fill := range []byte{0, 0xff} {
			data := bytes.Repeat([]byte{fill}, MaxBlockBytes)
			for _, n := range []uint64{0, ^uint64(0)} {
				got := make([]byte, TagBytes)
				k.Tags(got, data, MaxBlockBytes, n, n)
				if want := modelTag(t, key, data, n, n); !bytes.Equal(got, want) {
					t.Fatalf("all %#x, numbers %#x: tag %x, want %x", fill, n, got, want)
				}
			}
		}
	})
}

// TestSelfTest: every path here passes, and the best one is among them.
func TestSelfTest(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		if !selfTest(p) {
			t.Fatal("refused")
		}
	})
	k := mustOpen(t, make([]byte, KeyBytes))
	if p := bestPath(); !available(p) || k.Path() != p.String() {
		t.Fatalf("%s was chosen, a key is on %s", p, k.Path())
	}
}

// TestChanges does to stored blocks what a device or a thief can do.
func TestChanges(t *testing.T) {
	const blockBytes, count, first, generation = 4096, 20, 1000, 7
	r := rand.New(rand.NewPCG(3, 4))
	k := mustOpen(t, randomBytes(r, KeyBytes))
	block := func(data []byte, i int) []byte { return data[i*blockBytes:][:blockBytes] }
	for name, c := range map[string]struct {
		do              func(data, tags []byte)
		first, gen      uint64
		size, wantIndex int
	}{
		"nothing":           {func(_, _ []byte) {}, first, generation, blockBytes, -1},
		"first bit":         {func(data, _ []byte) { data[0] ^= 1 }, first, generation, blockBytes, 0},
		"last bit":          {func(data, _ []byte) { data[len(data)-1] ^= 0x80 }, first, generation, blockBytes, count - 1},
		"bit of a tag":      {func(_, tags []byte) { tags[17*TagBytes+9] ^= 4 }, first, generation, blockBytes, 17},
		"two words swapped": {func(data, _ []byte) { swap(block(data, 3)[:4], block(data, 3)[4:8]) }, first, generation, blockBytes, 3},
		"two blocks swapped with their tags": {func(data, tags []byte) {
			swap(block(data, 4), block(data, 18))
			swap(tags[4*TagBytes:][:TagBytes], tags[18*TagBytes:][:TagBytes])
		}, first, generation, blockBytes, 4},
		"another place":      {func(_, _ []byte) {}, first + 1, generation, blockBytes, 0},
		"another generation": {func(_, _ []byte) {}, first, generation + 1, blockBytes, 0},
		"another size":       {func(_, _ []byte) {}, first, generation, 2 * blockBytes, 0},
	} {
		t.Run(name, func(t *testing.T) {
			data := randomBytes(r, count*blockBytes)
			tags := make([]byte, count*TagBytes)
			k.Tags(tags, data, blockBytes, first, generation)
			c.do(data, tags)
			if bad := k.Verify(tags, data, c.size, c.first, c.gen); bad != c.wantIndex {
				t.Fatalf("bad block %d, want %d", bad, c.wantIndex)
			}
		})
	}
}

func swap(a, b []byte) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}

// TestEveryBit flips each bit of a small block, of its number and of its generation.
func TestEveryBit(t *testing.T) {
	const blockBytes = 256
	r := rand.New(rand.NewPCG(5, 6))
	k := mustOpen(t, randomBytes(r, KeyBytes))
	data := randomBytes(r, blockBytes)
	var tag [TagBytes]byte
	k.Tags(tag[:], data, blockBytes, 1, 2)
	for bit := range blockBytes * 8 {
		data[bit/8] ^= 1 << (bit % 8)
		if k.Verify(tag[:], data, blockBytes, 1, 2) != 0 {
			t.Fatalf("bit %d of the block is not noticed", bit)
		}
		data[bit/8] ^= 1 << (bit % 8)
	}
	for bit := range 64 {
		flip := uint64(1) << bit
		if k.Verify(tag[:], data, blockBytes, 1^flip, 2) != 0 || k.Verify(tag[:], data, blockBytes, 1, 2^flip) != 0 {
			t.Fatalf("bit %d of number or generation is not noticed", bit)
		}
	}
}

func TestKeyBytes(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33, 64} {
		if _, err := New(make([]byte, n)); !errors.Is(err, ErrKeyBytes) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestMisusePanics(t *testing.T) {
	k := mustOpen(t, make([]byte, KeyBytes))
	closed := mustOpen(t, make([]byte, KeyBytes))
	closed.Close()
	tags, data := make([]byte, 2*TagBytes), make([]byte, 8192)
	for name, f := range map[string]func(){
		"no size":        func() { k.Tags(tags, data, 0, 0, 0) },
		"odd size":       func() { k.Tags(tags, data, 96, 0, 0) },
		"large size":     func() { k.Tags(tags, make([]byte, MaxBlockBytes+64), MaxBlockBytes+64, 0, 0) },
		"part of block":  func() { k.Verify(tags, data[:4097], 4096, 0, 0) },
		"too few tags":   func() { k.Verify(tags[:31], data, 4096, 0, 0) },
		"closed":         func() { closed.Tags(tags, data, 4096, 0, 0) },
		"closed, verify": func() { closed.Verify(tags, data, 4096, 0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if s, _ := recover().(string); !strings.HasPrefix(s, "mac: ") {
					t.Fatal("no panic of mac")
				}
			}()
			f()
		})
	}
	k.Tags(nil, nil, 4096, 0, 0) // nothing to do is no misuse
	if k.Verify(nil, nil, 4096, 0, 0) != -1 {
		t.Fatal("nothing is bad")
	}
}

func TestNoAllocation(t *testing.T) {
	k := mustOpen(t, make([]byte, KeyBytes))
	tags, data := make([]byte, 16*TagBytes), make([]byte, 65536)
	n := testing.AllocsPerRun(100, func() {
		k.Tags(tags, data, 4096, 1, 2)
		if k.Verify(tags, data, 4096, 1, 2) != -1 {
			t.Fatal("bad")
		}
	})
	if n != 0 && !raceEnabled {
		t.Fatalf("%v allocations a run", n)
	}
}

// TestClose looks for what is left of a key, and at what every formatter says of it.
func TestClose(t *testing.T) {
	k := mustOpen(t, make([]byte, KeyBytes))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		if s := fmt.Sprintf(verb, k); s != "mac.Key(redacted)" {
			t.Errorf("%s prints %q", verb, s)
		}
	}
	if j, err := json.Marshal(k); err != nil || string(j) != `"mac.Key(redacted)"` {
		t.Errorf("JSON %s, %v", j, err)
	}
	k.Close()
	if k.nh != [nhKeyBytes]byte{} || k.factors != [factorCount]factor{} || k.aes != nil {
		t.Fatal("Close left a key")
	}
	k.Close()
}
