package filestore

import (
	"bytes"
	"errors"
	"testing"
	"time"

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

// TestMeteredAfterFailure has changes fail because the references to the file's blocks can't be read: what is metered, in memory as
// in the metadata store, stays as it was.
func TestMeteredAfterFailure(t *testing.T) {
	for name, change := range map[string]func(r *rig, id vfs.FileID) error{
		"truncate": func(r *rig, id vfs.FileID) error {
			return r.SetAttr(bg, nil, id, &vfs.SetAttr{Mask: vfs.SetSize}, new(vfs.Attr))
		},
		"remove": func(r *rig, _ vfs.FileID) error { return r.remove("f") },
		"commit": func(r *rig, id vfs.FileID) error {
			r.write(id, 10*blockBytes, noise(2, 40*blockBytes), vfs.Unstable)
			return r.Commit(bg, id, 0, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 16<<20, func(o *Options) { o.UnstableAge = time.Hour })
			id, other := r.file("f"), r.file("g")
			r.write(id, 0, noise(1, 40*blockBytes), vfs.FileSync)
			r.cloneAll(id, other)
			key := sharedKey(r.runsOf(id)[0])
			var was []byte
			if _, err := r.get(key, func(value []byte) error { was = bytes.Clone(value); return nil }); err != nil || was == nil {
				t.Fatal(was, err)
			}
			before := usage{r.quota.data.Load(), r.quota.meta.Load()}
			r.direct(key, []byte{1})
			for range 3 {
				if err := change(r, id); !errors.Is(err, vfs.ErrCorrupt) {
					t.Errorf("with a damaged record: %v", err)
				}
			}
			if got := (usage{r.quota.data.Load(), r.quota.meta.Load()}); got != before {
				t.Errorf("%v are metered, and were %v before anything failed", got, before)
			}
			r.direct(key, was)
		})
	}
}
