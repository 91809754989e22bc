package memvfs_test

import (
	"testing"
	"time"

	"github.com/nfseal/nfseal/xtsengine/vfs/memvfs"
	"github.com/nfseal/nfseal/xtsengine/vfs/vfstest"
)

// TestTwins holds the model against itself: what Twins compares does not depend on chance or order.
func TestTwins(t *testing.T) {
	w := new(vfstest.Twins)
	now := func() time.Time { return time.Unix(w.Now().Sec, int64(w.Now().Nsec)) }
	var err error
	if w.A, err = memvfs.New(memvfs.Options{Now: now, MaxBytes: 1 << 50}); err != nil {
		t.Fatal(err)
	}
	if w.B, err = memvfs.New(memvfs.Options{Now: now, MaxBytes: 1 << 50}); err != nil {
		t.Fatal(err)
	}
	w.Run(t, 1, 5000)
}
