package appliance

import "testing"

// TestCacheFor checks the default of the caches: a quarter, within bounds.
func TestCacheFor(t *testing.T) {
	for _, test := range []struct{ memoryBytes, want int64 }{
		{24 << 30, 1 << 30},
		{4 << 30, 1 << 30},
		{2 << 30, 512 << 20},
		{256 << 20, 64 << 20},
		{32 << 20, minCacheBytes},
	} {
		if got := cacheFor(test.memoryBytes); got != test.want {
			t.Errorf("caches for %d bytes of memory: %d, want %d", test.memoryBytes, got, test.want)
		}
	}
	if got := defaultCache(); got < minCacheBytes || got > maxDefaultCacheBytes {
		t.Errorf("the default here is %d", got)
	}
}
