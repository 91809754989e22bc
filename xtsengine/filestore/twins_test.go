package filestore

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/vfs/memvfs"
	"github.com/nfseal/nfseal/xtsengine/vfs/vfstest"
)

// long says that tests may take minutes: NFSEAL_LONG=1.
func long() bool { return os.Getenv("NFSEAL_LONG") != "" }

// seed is a new one each time, or NFSEAL_SEED.
func seed(t testing.TB) uint64 {
	n, err := strconv.ParseUint(os.Getenv("NFSEAL_SEED"), 10, 64)
	if err != nil {
		n = uint64(time.Now().UnixNano())
	}
	t.Logf("NFSEAL_SEED=%d", n)
	return n
}

// TestTwins does random operations to a store, with restarts, and to the model, and compares.
func TestTwins(t *testing.T) {
	steps := 20_000
	if long() {
		steps = 1_000_000
	}
	runTwins(t, seed(t), steps)
}

func runTwins(t *testing.T, seed uint64, steps int) {
	w := &vfstest.Twins{RestartEvery: 1500}
	now := func() time.Time { return time.Unix(w.Now().Sec, int64(w.Now().Nsec)) }
	model, err := memvfs.New(memvfs.Options{Now: now, MaxBytes: 1 << 50})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, 48<<20, func(o *Options) {
		o.Clock = now
		o.CachedInodes = shards // one a shard, so that inodes come and go
		o.CachedExtents = windowBlocks
		o.DirtyBytes = 1 << 20
		o.UnstableBytes = 2 << 20
		o.UnstableAge = 10 * time.Second
		o.JournalBytes = 1 << 20
		o.JournalAge = 10 * time.Second
		intentOptions(o, rand.New(rand.NewPCG(seed, 4)))
	})
	w.A, w.B = model, r.Store
	w.Restart = func() vfs.FileSystem {
		r.reopen()
		return r.Store
	}
	w.Run(t, seed, steps)
}
