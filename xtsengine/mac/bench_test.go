package mac

import "testing"

// BenchmarkTags measures one call on sixteen blocks of 4 KiB in the cache.
func BenchmarkTags(b *testing.B) {
	eachPath(b, func(b *testing.B, p path) {
		k := mustOpenOn(b, make([]byte, KeyBytes), p)
		tags, data := make([]byte, 16*TagBytes), make([]byte, 16*4096)
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			k.Tags(tags, data, 4096, 1, 2)
		}
	})
}
