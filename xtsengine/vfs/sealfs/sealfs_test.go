package sealfs_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/vfs/memvfs"
	"github.com/nfseal/nfseal/xtsengine/vfs/sealfs"
	"github.com/nfseal/nfseal/xtsengine/vfs/vfstest"
)

func newMem(t *testing.T, now func() vfs.Time) *memvfs.FS {
	t.Helper()
	o := memvfs.Options{MaxBytes: 1 << 62}
	if now != nil {
		o.Now = func() time.Time { return time.Unix(now().Sec, int64(now().Nsec)) }
	}
	fs, err := memvfs.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fs.Close() })
	return fs
}

// TestContract: what was sealed and unsealed keeps the contract.
func TestContract(t *testing.T) {
	vfstest.Run(t, func(t *testing.T, now func() vfs.Time) vfs.FileSystem {
		inner := newMem(t, now)
		fs := sealfs.New(inner)
		fs.Seal()
		if err := fs.Unseal(context.Background(), inner, true); err != nil {
			t.Fatal(err)
		}
		return fs
	})
}

// counting counts what reaches the file system below.
type counting struct {
	vfs.FileSystem
	holds    map[vfs.FileID]int
	ends     int
	verifier [8]byte
	holdErr  error
}

func (c *counting) Hold(id vfs.FileID) error {
	if c.holdErr != nil {
		return c.holdErr
	}
	c.holds[id]++
	return nil
}
func (c *counting) Drop(id vfs.FileID)                { c.holds[id]-- }
func (c *counting) EndRecovery(context.Context) error { c.ends++; return nil }
func (c *counting) WriteVerifier() [8]byte            { return c.verifier }

func TestSealed(t *testing.T) {
	ctx, mem := t.Context(), newMem(t, nil)
	open := func(n byte) *counting { return &counting{mem, map[vfs.FileID]int{}, 0, [8]byte{n}, nil} }
	first := open(1)
	fs := sealfs.New(first)
	root, a, b := fs.Root(), vfs.FileID{Inode: 7}, vfs.FileID{Inode: 8}
	for _, id := range []vfs.FileID{a, a, b} {
		if err := fs.Hold(id); err != nil {
			t.Fatal(err)
		}
	}
	fs.Seal()
	fs.Seal()
	var attr vfs.Attr
	if err := fs.GetAttr(ctx, root, &attr); !errors.Is(err, vfs.ErrKeyUnavailable) {
		t.Errorf("GetAttr: %v", err)
	}
	if err := fs.Hold(b); !errors.Is(err, vfs.ErrKeyUnavailable) {
		t.Errorf("Hold: %v", err)
	}
	if _, err := fs.Write(ctx, nil, false, a, 0, []byte("x"), vfs.FileSync); !errors.Is(err, vfs.ErrKeyUnavailable) {
		t.Errorf("Write: %v", err)
	}
	if err := fs.DeleteClientRecord(ctx, []byte("c")); !errors.Is(err, vfs.ErrKeyUnavailable) {
		t.Errorf("DeleteClientRecord: %v", err) // or its client could reclaim after a restart
	}
	if fs.Root() != root || fs.WriteVerifier() != first.verifier {
		t.Error("root or verifier has changed")
	}
	fs.Drop(b)
	if err := fs.EndRecovery(ctx); err != nil {
		t.Error(err)
	}

	second := open(2)
	second.holdErr = vfs.ErrIO
	if err := fs.Unseal(ctx, second, true); !errors.Is(err, vfs.ErrIO) {
		t.Errorf("unsealed with what can't hold: %v", err)
	}
	second.holdErr = nil
	if err := fs.Unseal(ctx, second, true); err != nil {
		t.Fatal(err)
	}
	if second.holds[a] != 2 || second.holds[b] != 0 || second.ends != 1 {
		t.Errorf("carried over: %+v", second)
	}
	if fs.WriteVerifier() != first.verifier {
		t.Error("nothing was lost, and clients would send it again")
	}
	if err := fs.GetAttr(ctx, root, &attr); err != nil {
		t.Error(err)
	}
	if err := fs.Unseal(ctx, second, true); err == nil {
		t.Error("unsealed twice")
	}
	fs.Drop(b) // of no hold
	fs.Drop(a)
	if second.holds[a] != 1 || second.holds[b] != 0 {
		t.Errorf("dropped: %+v", second)
	}

	fs.Seal()
	third := open(3)
	third.holdErr = vfs.ErrStale
	if err := fs.Unseal(ctx, third, false); err != nil {
		t.Fatal(err)
	}
	if fs.WriteVerifier() != third.verifier {
		t.Error("something was lost, and clients would not know")
	}
	fs.Drop(a)
	if third.holds[a] != 0 {
		t.Error("dropped what could not be held again")
	}
}
