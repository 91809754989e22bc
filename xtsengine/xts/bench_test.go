package xts

import (
	"crypto/aes"
	"fmt"
	"math/rand/v2"
	"testing"

	reference "golang.org/x/crypto/xts"
)

// BenchmarkEncrypt measures one call on a run of units: 64 KiB in all, or one unit where that is
// larger. One processor core, data in its cache.
func BenchmarkEncrypt(b *testing.B) { benchmark(b, (*Cipher).Encrypt) }

// BenchmarkDecrypt is the other way.
func BenchmarkDecrypt(b *testing.B) { benchmark(b, (*Cipher).Decrypt) }

func benchmark(b *testing.B, f func(c *Cipher, dst, src []byte, unitBytes int, first Unit)) {
	key := testKey(rand.New(rand.NewPCG(1, 2)))
	eachPath(b, func(b *testing.B, p path) {
		c := mustOpen(b, key, p)
		for _, size := range []struct{ unit, run int }{
			{512, 512}, {512, 65536}, {4096, 4096}, {4096, 65536}, {65536, 65536},
		} {
			b.Run(fmt.Sprintf("unit=%d/run=%d", size.unit, size.run), func(b *testing.B) {
				src, dst := make([]byte, size.run), make([]byte, size.run)
				b.SetBytes(int64(size.run))
				b.ReportAllocs()
				for b.Loop() {
					f(c, dst, src, size.unit, UnitOf(1))
				}
			})
		}
	})
}

// BenchmarkReference is golang.org/x/crypto/xts, for comparison.
func BenchmarkReference(b *testing.B) {
	c, err := reference.NewCipher(aes.NewCipher, testKey(rand.New(rand.NewPCG(1, 2))))
	if err != nil {
		b.Fatal(err)
	}
	src, dst := make([]byte, 4096), make([]byte, 4096)
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		c.Encrypt(dst, src, 1)
	}
}
