package filestore

import (
	"testing"
	"time"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// TestDiscardOfFreedBlocks: soon after a file is removed the device has forgotten its blocks, though others of the same
// chunk are in use.
func TestDiscardOfFreedBlocks(t *testing.T) {
	r := newRig(t, 16<<20, func(o *Options) { o.DiscardEvery = time.Millisecond })
	kept, gone := r.file("kept"), r.file("gone")
	want := noise(1, 300<<10)
	r.write(kept, 0, want, vfs.FileSync)
	r.write(gone, 0, noise(2, 300<<10), vfs.FileSync)
	dev := r.dev.(*memdev.Device)
	before := dev.Counters().Discards
	if _, err := r.Remove(bg, nil, r.Root(), "gone", new(vfs.Attr)); err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		if dev.Counters().Discards > before {
			r.check()
			r.readAll(t, kept, want, 64<<10)
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Error("nothing was discarded")
}
