package appliance

import (
	"errors"
	"testing"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// statOf is what a file system shows of its capacity.
func (r *running) statOf(t *testing.T, id string) (st vfs.StatFS) {
	t.Helper()
	for _, u := range r.units {
		u.mu.Lock()
		if fs := u.served[id]; fs != nil {
			if err := fs.store.StatFS(t.Context(), &st); err != nil {
				t.Error(err)
			}
		}
		u.mu.Unlock()
	}
	return st
}

// TestQuota sets a quota, which holds at once and across a restart, and for no other file system.
func TestQuota(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	id, other := r.create(t, "a"), r.create(t, "b")
	if err := r.SetQuota(t.Context(), id, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := r.SetQuota(t.Context(), "fs-00000000000000099", 1); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("quota of nothing: %v", err)
	}
	check := func(when string, want uint64) {
		t.Helper()
		if st := r.statOf(t, id); st.QuotaBytes != want || (want > 0 && st.AvailBytes > want) {
			t.Errorf("%s: %+v", when, st)
		}
		if st := r.statOf(t, other); st.QuotaBytes != 0 || st.TotalBytes == 0 {
			t.Errorf("%s, the other: %+v", when, st)
		}
	}
	check("at once", 1<<20)
	if used, ok := r.UsedBytes(t.Context(), id); !ok || used != vfs.MeteredFile(0) {
		t.Errorf("an empty file system holds %d, %v", used, ok)
	}
	r.stop(t)
	r = start(t, testOptions(dir))
	check("after a restart", 1<<20)
	if err := r.SetQuota(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	check("without", 0)
	r.stop(t)
}
