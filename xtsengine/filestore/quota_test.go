package filestore

import (
	"errors"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// TestQuotaAfterDrop lets the last who held a removed file go while the reaper stands still. What the file had
// unstable counts no more, so that another file gets as much.
func TestQuotaAfterDrop(t *testing.T) {
	for name, size := range map[string]int{"in memory": 2 * blockBytes, "on the volume": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 16<<20, nil)
			id, other := r.file("f"), r.file("g")
			r.background.pause.Lock()
			defer r.background.pause.Unlock()
			if err := errors.Join(r.Hold(id), r.remove("f")); err != nil {
				t.Fatal(err)
			}
			r.write(id, 0, noise(1, size), vfs.Unstable)
			var st vfs.StatFS
			if err := r.StatFS(bg, &st); err != nil {
				t.Fatal(err)
			}
			if err := r.SetQuota(st.MeteredDataBytes + st.MeteredMetadataBytes + uint64(size)); err != nil {
				t.Fatal(err)
			}
			r.Drop(id)
			r.write(other, 0, noise(2, size), vfs.Unstable)
		})
	}
}
