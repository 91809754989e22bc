package xts

import (
	"bytes"
	"crypto/aes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	reference "golang.org/x/crypto/xts"

	"github.com/nfseal/nfseal/internal/aes256"
	"github.com/nfseal/nfseal/internal/x86"
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
				t.Skipf("this processor has no %s; runs on one that has, and where there is AVX-512 TestTraced stands in for VAES and VAES-512", p)
			}
			f(t, p)
		})
	}
}

func mustOpen(t testing.TB, key []byte, p path) *Cipher {
	t.Helper()
	c, err := newOnPath(key, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func testKey(r *rand.Rand) []byte { return randomBytes(r, KeyBytes) }

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestAgainstReference(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		r := rand.New(rand.NewPCG(1, 2))
		key := testKey(r)
		ref, err := reference.NewCipher(aes.NewCipher, key)
		if err != nil {
			t.Fatal(err)
		}
		c := mustOpen(t, key, p)
		for _, unitBytes := range []int{16, 112, 128, 240, 384, 512, 640, 1024, 1536, 4096, 65536} {
			for _, units := range []int{1, 2, 4, 5, 6, 7, 8, 9, 17} {
				checkRun(t, r, ref, c, unitBytes, units)
			}
		}
		for _, unitBytes := range []int{128, 256, 640} { // more than one batch of first tweaks
			for _, units := range []int{64, 65, 131} {
				checkRun(t, r, ref, c, unitBytes, units)
			}
		}
	})
}

// checkRun compares a run of units with the reference, out of place and in place, at odd addresses.
func checkRun(t *testing.T, r *rand.Rand, ref *reference.Cipher, c *Cipher, unitBytes, units int) {
	t.Helper()
	first := r.Uint64()>>1 | 1
	src := randomBytes(r, unitBytes*units+3)[3:]
	want := make([]byte, len(src))
	for i := 0; i < units; i++ {
		ref.Encrypt(want[i*unitBytes:][:unitBytes], src[i*unitBytes:][:unitBytes], first+uint64(i))
	}
	got := make([]byte, len(src)+1)[1:]
	c.Encrypt(got, src, unitBytes, UnitOf(first))
	if !bytes.Equal(got, want) {
		t.Fatalf("%d units of %d bytes: ciphertext differs from the reference", units, unitBytes)
	}
	inPlace := bytes.Clone(src)
	c.Encrypt(inPlace, inPlace, unitBytes, UnitOf(first))
	if !bytes.Equal(inPlace, want) {
		t.Fatalf("%d units of %d bytes: ciphertext in place differs", units, unitBytes)
	}
	back := make([]byte, len(src))
	c.Decrypt(back, got, unitBytes, UnitOf(first))
	c.Decrypt(inPlace, inPlace, unitBytes, UnitOf(first))
	if !bytes.Equal(back, src) || !bytes.Equal(inPlace, src) {
		t.Fatalf("%d units of %d bytes: plaintext does not come back", units, unitBytes)
	}
}

// TestPaths compares every path with the generic one on every length: with and without ciphertext
// stealing, and with all remainders of the interleaving.
func TestPaths(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		r := rand.New(rand.NewPCG(3, 4))
		key := testKey(r)
		c, g := mustOpen(t, key, p), mustOpen(t, key, pathGeneric)
		for n := BlockBytes; n < 1200; n++ {
			src, unit := randomBytes(r, n), Unit{r.Uint64(), r.Uint64()}
			want, got := make([]byte, n), make([]byte, n)
			g.Encrypt(want, src, n, unit)
			c.Encrypt(got, src, n, unit)
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes: ciphertext differs", n)
			}
			c.Decrypt(got, got, n, unit)
			if !bytes.Equal(got, src) {
				t.Fatalf("%d bytes: plaintext does not come back", n)
			}
		}
	})
}

// TestStolenUnits has every unit of a run end with ciphertext stealing, and the last one shorter.
func TestStolenUnits(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		r := rand.New(rand.NewPCG(5, 6))
		c := mustOpen(t, testKey(r), p)
		const unitBytes, units, tail = 205, 11, 17
		src := randomBytes(r, unitBytes*units+tail)
		got := make([]byte, len(src))
		c.Encrypt(got, src, unitBytes, UnitOf(9))
		for i := range units + 1 {
			at := i * unitBytes
			n := min(unitBytes, len(src)-at)
			one := make([]byte, n)
			c.Encrypt(one, src[at:at+n], unitBytes, UnitOf(9+uint64(i)))
			if !bytes.Equal(one, got[at:at+n]) {
				t.Fatalf("unit %d of the run differs from itself alone", i)
			}
		}
		c.Decrypt(got, got, unitBytes, UnitOf(9))
		if !bytes.Equal(got, src) {
			t.Fatal("plaintext does not come back")
		}
	})
}

// TestParts takes one unit to pieces at every boundary.
func TestParts(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		r := rand.New(rand.NewPCG(7, 8))
		c := mustOpen(t, testKey(r), p)
		src := randomBytes(r, 4096)
		want, got := make([]byte, len(src)), make([]byte, len(src))
		c.Encrypt(want, src, len(src), Unit{1, 2})
		for at := 0; at <= len(src); at += BlockBytes {
			clear(got)
			c.EncryptPart(got[at:], src[at:], Unit{1, 2}, at/BlockBytes)
			c.EncryptPart(got[:at], src[:at], Unit{1, 2}, 0)
			if !bytes.Equal(got, want) {
				t.Fatalf("cut at %d: ciphertext differs", at)
			}
			c.DecryptPart(got[at:], got[at:], Unit{1, 2}, at/BlockBytes)
			if !bytes.Equal(got[at:], src[at:]) {
				t.Fatalf("cut at %d: plaintext does not come back", at)
			}
		}
	})
}

// TestAdvance compares long steps with single ones, through every carry.
func TestAdvance(t *testing.T) {
	t0 := [BlockBytes]byte{0: 1, 7: 0x80, 15: 0xff}
	single := t0
	for n := range 2000 {
		once := t0
		advance(&once, n)
		if once != single {
			t.Fatalf("α^%d: %x, want %x", n, once, single)
		}
		double(&single)
	}
}

// TestUnitCarry has the unit number cross 2^64 and 2^128 within a run.
func TestUnitCarry(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		r := rand.New(rand.NewPCG(9, 10))
		c := mustOpen(t, testKey(r), p)
		const max = ^uint64(0)
		for _, first := range []Unit{{0, max - 1}, {41, max - 2}, {max, max - 1}} {
			src := randomBytes(r, 64*12)
			got, want := make([]byte, len(src)), make([]byte, len(src))
			c.Encrypt(got, src, 64, first)
			u := first
			for i := 0; i < len(src); i += 64 {
				c.Encrypt(want[i:i+64], src[i:i+64], 64, u)
				if u.Lo++; u.Lo == 0 {
					u.Hi++
				}
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("run from %v differs from its units", first)
			}
		}
	})
}

func TestBadKeys(t *testing.T) {
	if _, err := New(make([]byte, 32)); !errors.Is(err, ErrKeyBytes) {
		t.Fatalf("short key: %v", err)
	}
	if _, err := New(bytes.Repeat([]byte{7}, KeyBytes)); !errors.Is(err, ErrEqualHalves) {
		t.Fatalf("equal halves: %v", err)
	}
}

func TestMisusePanics(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	c := mustOpen(t, testKey(r), bestPath())
	closed := mustOpen(t, testKey(r), bestPath())
	closed.Close()
	b := make([]byte, 4096)
	for name, f := range map[string]func(){
		"short unit":           func() { c.Encrypt(b, b, 15, Unit{}) },
		"long unit":            func() { c.Encrypt(b, b, MaxUnitBytes+1, Unit{}) },
		"short destination":    func() { c.Encrypt(b[:16], b[:32], 512, Unit{}) },
		"short last unit":      func() { c.Encrypt(b[:527], b[:527], 512, Unit{}) },
		"short only unit":      func() { c.Encrypt(b[:15], b[:15], 512, Unit{}) },
		"overlap":              func() { c.Encrypt(b[1:513], b[:512], 512, Unit{}) },
		"overlap from below":   func() { c.Decrypt(b[:512], b[1:513], 512, Unit{}) },
		"closed":               func() { closed.Encrypt(b, b, 512, Unit{}) },
		"part of a block":      func() { c.EncryptPart(b[:17], b[:17], Unit{}, 0) },
		"part before its unit": func() { c.DecryptPart(b, b, Unit{}, -1) },
		"part after its unit":  func() { c.DecryptPart(b, b, Unit{}, 1<<20-255) },
		"part too far out":     func() { c.DecryptPart(b, b, Unit{}, int(^uint(0)>>1)) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if s, _ := recover().(string); !strings.HasPrefix(s, "xts: ") {
					t.Fatal("no panic of xts")
				}
			}()
			f()
		})
	}
	c.Encrypt(b, nil, 512, Unit{}) // nothing to do is no misuse
	c.EncryptPart(b, nil, Unit{}, 1<<20)
	c.Encrypt(b, b[:528], 512, Unit{}) // neither is a last unit of one block
	c.EncryptPart(b, b, Unit{}, 1<<20-256)
}

// TestLongestUnit does a unit of 2^20 blocks.
func TestLongestUnit(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		key := testKey(rand.New(rand.NewPCG(13, 14)))
		c := mustOpen(t, key, p)
		ref, err := reference.NewCipher(aes.NewCipher, key)
		if err != nil {
			t.Fatal(err)
		}
		got, want := make([]byte, MaxUnitBytes), make([]byte, MaxUnitBytes)
		c.Encrypt(got, got, MaxUnitBytes, UnitOf(3))
		ref.Encrypt(want, want, 3)
		if !bytes.Equal(got, want) {
			t.Fatal("ciphertext differs from the reference")
		}
	})
}

// TestSelfTest: every path here passes, and a path with one wrong bit in either direction does not.
func TestSelfTest(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		if !selfTest(p) {
			t.Fatal("refused")
		}
	})
	if p := bestPath(); !available(p) {
		t.Fatalf("%s was chosen", p)
	}
	key := testKey(rand.New(rand.NewPCG(19, 20)))
	g := mustOpen(t, key, pathGeneric)
	if c := mustOpen(t, key, bestPath()); c.path != pathGeneric {
		for _, keys := range []*aes256.Schedule{&c.enc, &c.dec, &c.tweak} {
			keys[100] ^= 1
			if sameAnswers(c, g) {
				t.Fatal("a wrong bit went unnoticed")
			}
			keys[100] ^= 1
		}
		if !sameAnswers(c, g) {
			t.Fatal("a right path was refused")
		}
	}
}

// TestFastestFirst: no assembly path is forgotten, narrower registers come later, and carry-less
// multiplication is for the vendor whose AES units do not share it.
func TestFastestFirst(t *testing.T) {
	if fastestFirst("") == nil {
		t.Skip("runs where there is assembly")
	}
	shifts := []path{pathVAES512, pathVAES, pathAESNI}
	for vendor, want := range map[string][]path{
		"GenuineIntel": append([]path{pathVAES512Mul}, shifts...),
		"AuthenticAMD": shifts,
		"":             shifts,
	} {
		if got := fastestFirst(vendor); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", vendor, got, want)
		}
	}
	if best := bestPath(); available(pathVAES512Mul) && x86.Vendor() == "GenuineIntel" && best != pathVAES512Mul {
		t.Errorf("%s was chosen", best)
	}
}

// TestPath: New takes the best path and says which.
func TestPath(t *testing.T) {
	c, err := New(testKey(rand.New(rand.NewPCG(21, 22))))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Path() != bestPath().String() {
		t.Fatalf("path %q, want %q", c.Path(), bestPath())
	}
}

func TestNoAllocation(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		c := mustOpen(t, testKey(rand.New(rand.NewPCG(15, 16))), p)
		dst, src := make([]byte, 65536), make([]byte, 65536)
		n := testing.AllocsPerRun(100, func() {
			c.Encrypt(dst, src, 4096, UnitOf(1))
			c.Decrypt(dst[:1017], src[:1017], 500, UnitOf(1))
			c.EncryptPart(dst[:64], src[:64], UnitOf(1), 5)
		})
		if n != 0 && !raceEnabled {
			t.Fatalf("%v allocations a run", n)
		}
	})
}

// TestClose looks for what is left of a key, and at what every formatter says of it.
func TestClose(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		key := testKey(rand.New(rand.NewPCG(17, 18)))
		c := mustOpen(t, key, p)
		if p != pathGeneric && !bytes.Equal(c.enc[:32], key[:32]) {
			t.Fatal("a schedule does not begin with its key: this test looks in the wrong place")
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
			if s := fmt.Sprintf(verb, c); s != "xts.Cipher(redacted)" {
				t.Errorf("%s prints %q", verb, s)
			}
		}
		if j, err := json.Marshal(c); err != nil || string(j) != `"xts.Cipher(redacted)"` {
			t.Errorf("JSON %s, %v", j, err)
		}
		c.Close()
		var zero aes256.Schedule
		var wide wideSchedule
		if c.wide.enc != wide || c.wide.dec != wide || c.wide.tweak != wide {
			t.Fatal("Close left a wide schedule")
		}
		if c.enc != zero || c.dec != zero || c.tweak != zero || c.data != nil || c.tweaks != nil {
			t.Fatal("Close left a schedule")
		}
		c.Close()
	})
}
