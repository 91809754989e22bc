package appliance

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/api"
)

// TestGrowVolume enlarges the volume of a unit through the API's socket while it serves: what is refused
// changes nothing, and the new size and its space are there at once and after a restart.
func TestGrowVolume(t *testing.T) {
	const grown = testVolumeBytes + 32<<20
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	id := r.create(t, "a")
	unit := r.units[0].ID()
	c := api.NewClient(filepath.Join(dir, "api.sock"))
	defer c.Close()
	free := r.statOf(t, id).FreeBytes
	for size, want := range map[int64]string{
		testVolumeBytes - 1<<20: "does not shrink",
		testVolumeBytes + 4096:  "not a multiple",
		0:                       "a size is needed",
		1 << 50:                 "are free on its disk",
		-1:                      "not possible",
	} {
		var refused *api.Error
		if _, err := c.GrowVolume(t.Context(), unit, size); !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Errorf("to %d bytes: %v", size, err)
		}
	}
	if _, err := c.GrowVolume(t.Context(), "other", grown); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("of another unit: %v", err)
	}
	if now := r.statOf(t, id).FreeBytes; now != free {
		t.Errorf("%d bytes are free after refusals, %d before", now, free)
	}
	for range 2 { // the second time it has that size already
		if size, err := c.GrowVolume(t.Context(), unit, grown); err != nil || size != grown {
			t.Fatalf("%d bytes, %v", size, err)
		}
	}
	check := func(when string) {
		t.Helper()
		s, err := r.Status(t.Context())
		if err != nil || s.Units[0].VolumeBytes != grown {
			t.Errorf("%s: %+v, %v", when, s.Units, err)
		}
		if now := r.statOf(t, id).FreeBytes; now < free+16<<20 {
			t.Errorf("%s: %d bytes are free, %d before", when, now, free)
		}
	}
	check("at once")
	r.stop(t)
	r = start(t, testOptions(dir))
	check("after a restart")
	r.stop(t)
}
