package gcm

import (
	"bytes"
	"crypto/fips140"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// testKey is 32 bytes of a seed.
func testKey(seed byte) []byte {
	key := make([]byte, KeyBytes)
	rand.NewChaCha8([32]byte{seed}).Read(key)
	return key
}

// runner is *testing.T or *testing.B.
type runner[T any] interface {
	testing.TB
	Run(name string, f func(T)) bool
}

// needs says of each path what processor it is for.
var needs = [pathCount]string{
	pathVAES:    "AVX2, VAES and VPCLMULQDQ",
	pathVAES512: "AVX-512, VAES and VPCLMULQDQ",
}

// eachPath runs f on every path that this processor has.
func eachPath[T runner[T]](t T, f func(t T, p path)) {
	for p := range pathCount {
		t.Run(p.String(), func(t T) {
			if !available(p) {
				t.Skip("runs on a processor with " + needs[p])
			}
			f(t, p)
		})
	}
}

// eachOwn is eachPath without crypto/cipher's.
func eachOwn(t *testing.T, f func(t *testing.T, p path)) {
	eachPath(t, func(t *testing.T, p path) {
		if p != pathStandard {
			f(t, p)
		}
	})
}

// mustMake is newOnPath.
func mustMake(t testing.TB, key []byte, p path) AEAD {
	t.Helper()
	a, err := newOnPath(key, p)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestVectors are those of McGrew and Viega, "The Galois/Counter Mode of Operation", with keys of 256 bits and nonces of
// 96: test cases 13 to 16.
func TestVectors(t *testing.T) {
	const (
		key   = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
		nonce = "cafebabefacedbaddecaf888"
		text  = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
		code  = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
	)
	zeros := func(n int) string { return hex.EncodeToString(make([]byte, n)) }
	for _, v := range []struct{ key, nonce, text, extra, sealed string }{
		{zeros(32), zeros(12), "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
		{zeros(32), zeros(12), zeros(16), "", "cea7403d4d606b6e074ec5d3baf39d18" + "d0d1c8a799996bf0265b98b5d48ab919"},
		{key, nonce, text + "1aafd255", "", code + "898015ad" + "b094dac5d93471bdec1a502270e3cc6c"},
		{key, nonce, text, "feedfacedeadbeeffeedfacedeadbeefabaddad2", code + "76fc6ece0f4e1768cddf8853bb2d551b"},
	} {
		eachPath(t, func(t *testing.T, p path) {
			a := mustMake(t, unhex(t, v.key), p)
			if got := a.Seal(nil, unhex(t, v.nonce), unhex(t, v.text), unhex(t, v.extra)); hex.EncodeToString(got) != v.sealed {
				t.Errorf("sealed %x, want %s", got, v.sealed)
			}
			got, err := a.Open(nil, unhex(t, v.nonce), unhex(t, v.sealed), unhex(t, v.extra))
			if err != nil || hex.EncodeToString(got) != v.text {
				t.Errorf("opened %x, %v, want %s", got, err, v.text)
			}
		})
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAgainstStandard compares all lengths up to some groups, and those around what one call of assembly does, apart and in
// place, with additional data of many lengths.
func TestAgainstStandard(t *testing.T) {
	const most = 1 << 20
	lengths := []int{16384, most - 1, most, most + 1, most + 256, most + 512, 2*most + 1000}
	for n := range 3*512 + 70 {
		lengths = append(lengths, n)
	}
	eachOwn(t, func(t *testing.T, p path) {
		rng := rand.New(rand.NewPCG(1, 2))
		for _, n := range lengths {
			key := make([]byte, KeyBytes)
			nonce, extra, plain := make([]byte, NonceBytes), make([]byte, rng.IntN(50)), make([]byte, n)
			for _, b := range [][]byte{key, nonce, extra, plain} {
				fill(rng, b)
			}
			checkSame(t, mustMake(t, key, p), mustMake(t, key, pathStandard), nonce, extra, plain)
		}
	})
}

func fill(rng *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
}

// checkSame seals and opens with both, apart and in place.
func checkSame(t *testing.T, own, standard AEAD, nonce, extra, plain []byte) {
	t.Helper()
	want := standard.Seal(nil, nonce, plain, extra)
	prefix := []byte("before")
	if got := own.Seal(bytes.Clone(prefix), nonce, plain, extra); !bytes.Equal(got, append(prefix, want...)) {
		t.Fatalf("%d bytes with %d: sealed differently", len(plain), len(extra))
	}
	place := append(make([]byte, 0, len(want)), plain...)
	if got := own.Seal(place[:0], nonce, place, extra); !bytes.Equal(got, want) {
		t.Fatalf("%d bytes with %d: sealed differently in place", len(plain), len(extra))
	}
	longer := standard.Seal(nil, nonce, append(bytes.Clone(plain), 23), extra)
	for _, a := range []AEAD{own, standard} {
		if got := a.SealWith(bytes.Clone(prefix), nonce, plain, 23, extra); !bytes.Equal(got, append(prefix, longer...)) {
			t.Fatalf("%d bytes with %d: sealed differently with a byte behind them", len(plain), len(extra))
		}
		place := append(make([]byte, 0, len(longer)), plain...)
		if got := a.SealWith(place[:0], nonce, place, 23, extra); !bytes.Equal(got, longer) || &got[0] != &place[:1][0] {
			t.Fatalf("%d bytes with %d: sealed differently in place with a byte behind them", len(plain), len(extra))
		}
	}
	if got, err := own.Open(bytes.Clone(prefix), nonce, want, extra); err != nil || !bytes.Equal(got, append(prefix, plain...)) {
		t.Fatalf("%d bytes with %d: opened differently, %v", len(plain), len(extra), err)
	}
	if got, err := own.Open(want[:0], nonce, want, extra); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("%d bytes with %d: opened differently in place, %v", len(plain), len(extra), err)
	}
}

// TestForged changes every bit of messages, tags and additional data, and the nonce: none opens, and nothing is left of what
// was decrypted.
func TestForged(t *testing.T) {
	eachOwn(t, func(t *testing.T, p path) {
		a := mustMake(t, testKey(2), p)
		for _, n := range []int{0, 5, 16, 300, 600, 1024} {
			checkForged(t, a, n)
		}
	})
}

func checkForged(t *testing.T, a AEAD, n int) {
	nonce, extra, plain := make([]byte, NonceBytes), []byte("additional data"), bytes.Repeat([]byte{0xa5}, n)
	sealed := a.Seal(nil, nonce, plain, extra)
	for _, part := range [][]byte{nonce, extra, sealed} {
		for bit := range 8 * len(part) {
			part[bit/8] ^= 1 << (bit % 8)
			dst := make([]byte, 0, n)
			if _, err := a.Open(dst, nonce, sealed, extra); err == nil {
				t.Fatalf("%d bytes: opened with bit %d changed", n, bit)
			}
			if !bytes.Equal(dst[:n], make([]byte, n)) {
				t.Fatalf("%d bytes: plaintext is left", n)
			}
			part[bit/8] ^= 1 << (bit % 8)
		}
	}
	for short := range min(len(sealed), TagBytes) {
		if _, err := a.Open(nil, nonce, sealed[:short], extra); err == nil {
			t.Fatalf("opened %d bytes", short)
		}
	}
	if _, err := a.Open(nil, nonce, sealed, extra); err != nil {
		t.Fatalf("%d bytes: the genuine one is refused: %v", n, err)
	}
}

// TestWithinBounds works right before memory that can't be read or written: in place with the tag at its end, from a
// plaintext at its end, and to one.
func TestWithinBounds(t *testing.T) {
	const room = 4096
	m, err := unix.Mmap(-1, 0, 2*room, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	if err := unix.Mprotect(m[room:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	eachOwn(t, func(t *testing.T, p path) {
		a := mustMake(t, testKey(3), p)
		for n := range 1200 {
			checkInPlace(t, a, m[:room], n)
			checkAtEnd(t, a, m[:room], n)
		}
	})
}

// checkInPlace seals n bytes at the end of m.
func checkInPlace(t *testing.T, a AEAD, m []byte, n int) {
	nonce, at, guard := make([]byte, NonceBytes), len(m)-n-TagBytes, byte(n)
	m[at-1] = guard
	sealed := a.Seal(m[at:at], nonce, m[at:at+n], m[len(m)-5:])
	if len(sealed) != n+TagBytes || &sealed[0] != &m[at] {
		t.Fatalf("%d bytes: not in place", n)
	}
	if _, err := a.Open(make([]byte, 0, n), nonce, sealed, nil); err == nil {
		t.Fatalf("%d bytes: opened without the additional data", n)
	}
	if m[at-1] != guard {
		t.Fatalf("%d bytes: something before them was written", n)
	}
}

// checkAtEnd seals n bytes that are at the end of m, and opens them to where they were.
func checkAtEnd(t *testing.T, a AEAD, m []byte, n int) {
	nonce, at, guard := make([]byte, NonceBytes), len(m)-n, byte(n+1)
	plain := m[at:]
	for i := range plain {
		plain[i] = byte(i * 3)
	}
	m[at-1] = guard
	want, sealed := bytes.Clone(plain), a.Seal(nil, nonce, plain, nil)
	clear(plain)
	if _, err := a.Open(m[at:at], nonce, sealed, nil); err != nil || !bytes.Equal(plain, want) {
		t.Fatalf("%d bytes: opened differently at the end, %v", n, err)
	}
	if m[at-1] != guard {
		t.Fatalf("%d bytes: something before them was written", n)
	}
}

// TestMisuse panics.
func TestMisuse(t *testing.T) {
	eachOwn(t, func(t *testing.T, p path) {
		a := mustMake(t, testKey(4), p)
		for name, f := range map[string]func(){
			"seal":             func() { a.Seal(nil, make([]byte, 11), nil, nil) },
			"open":             func() { a.Open(nil, make([]byte, 13), make([]byte, TagBytes), nil) },
			"seal with a byte": func() { a.SealWith(nil, make([]byte, 11), nil, 23, nil) },
		} {
			t.Run(name, func(t *testing.T) {
				defer func() {
					if recover() == nil {
						t.Error("a nonce of another length is taken")
					}
				}()
				f()
			})
		}
	})
	if _, err := New(make([]byte, 16)); err == nil {
		t.Error("a key of 16 bytes is taken")
	}
}

// TestChoice: the widest path is taken, and says the same about sizes as the standard's.
func TestChoice(t *testing.T) {
	a, err := New(testKey(5))
	if err != nil {
		t.Fatal(err)
	}
	if a.NonceSize() != NonceBytes || a.Overhead() != TagBytes {
		t.Errorf("nonces of %d, %d more", a.NonceSize(), a.Overhead())
	}
	best := pathStandard
	for p := range pathCount {
		if available(p) && !fips140.Enabled() {
			best = p
		}
	}
	if bestPath() != best {
		t.Errorf("%s is taken, not %s", bestPath(), best)
	}
}

// TestNoAllocation seals and opens into memory that is there.
func TestNoAllocation(t *testing.T) {
	eachPath(t, func(t *testing.T, p path) {
		a := mustMake(t, testKey(6), p)
		nonce, plain := make([]byte, NonceBytes), make([]byte, 5000)
		sealed := a.Seal(nil, nonce, plain, nonce)
		dst := make([]byte, 0, len(sealed)+1)
		if n := testing.AllocsPerRun(10, func() {
			a.Seal(dst, nonce, plain, nonce)
			a.SealWith(dst, nonce, plain, 23, nonce)
			if _, err := a.Open(dst, nonce, sealed, nonce); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// FuzzAgainstStandard compares each path with crypto/cipher on any message.
func FuzzAgainstStandard(f *testing.F) {
	f.Add(make([]byte, KeyBytes), make([]byte, NonceBytes), []byte("extra"), []byte("text"))
	f.Add(testKey(7), testKey(8)[:NonceBytes], []byte{}, make([]byte, 700))
	f.Fuzz(func(t *testing.T, key, nonce, extra, plain []byte) {
		if len(key) != KeyBytes || len(nonce) != NonceBytes {
			return
		}
		for p := pathStandard + 1; p < pathCount; p++ {
			if available(p) {
				checkSame(t, mustMake(t, key, p), mustMake(t, key, pathStandard), nonce, extra, plain)
			}
		}
	})
}
