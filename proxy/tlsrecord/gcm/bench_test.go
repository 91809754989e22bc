package gcm

import (
	"fmt"
	"testing"
)

// BenchmarkSeal and BenchmarkOpen measure one record, in cache, on each path.
func BenchmarkSeal(b *testing.B) {
	benchmark(b, func(a AEAD, dst, nonce, plain, _ []byte) { a.Seal(dst, nonce, plain, nonce) })
}

func BenchmarkOpen(b *testing.B) {
	benchmark(b, func(a AEAD, dst, nonce, _, sealed []byte) {
		if _, err := a.Open(dst, nonce, sealed, nonce); err != nil {
			b.Fatal(err)
		}
	})
}

func benchmark(b *testing.B, f func(a AEAD, dst, nonce, plain, sealed []byte)) {
	eachPath(b, func(b *testing.B, p path) {
		a := mustMake(b, testKey(1), p)
		for _, n := range []int{150, 4096 + 150, 16384} {
			b.Run(fmt.Sprint(n), func(b *testing.B) {
				nonce, plain := make([]byte, NonceBytes), make([]byte, n)
				sealed, dst := a.Seal(nil, nonce, plain, nonce), make([]byte, 0, n+TagBytes)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					f(a, dst, nonce, plain, sealed)
				}
			})
		}
	})
}
