package blockdev

import "testing"

// The arena does not take from a small machine what the caches need.
func TestArenaFollowsTheMachine(t *testing.T) {
	for _, c := range []struct {
		machine int64
		want    int
	}{
		{256 << 20, 8 << 20},
		{1 << 30, 16 << 20},
		{1<<30 - 1, 15 << 20},
		{2 << 30, 32 << 20},
		{64 << 30, 32 << 20},
	} {
		got := arenaBytes(c.machine)
		if got != c.want || got%maxPooledBytes != 0 {
			t.Errorf("of %d bytes: %d, not %d", c.machine, got, c.want)
		}
	}
}
