package memvfs_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nfseal/nfseal/xtsengine/vfs"
	"github.com/nfseal/nfseal/xtsengine/vfs/memvfs"
	"github.com/nfseal/nfseal/xtsengine/vfs/vfstest"
)

// TestContract runs the suite that every file system passes.
func TestContract(t *testing.T) {
	maker := func(t *testing.T, now func() vfs.Time) vfs.FileSystem {
		fs, err := memvfs.New(memvfs.Options{
			MaxBytes: 1 << 62,
			Now:      func() time.Time { return time.Unix(now().Sec, int64(now().Nsec)) },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { fs.Close() })
		return fs
	}
	vfstest.Run(t, maker)
	vfstest.RunRanges(t, maker)
}

// TestCapacity fills a small file system, frees it and fills it again.
func TestCapacity(t *testing.T) {
	ctx := context.Background()
	fs, err := memvfs.New(memvfs.Options{MaxBytes: 8 * 4096})
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	for range 3 {
		var made vfs.CreateResult
		req := vfs.CreateRequest{Kind: vfs.Regular, Mode: vfs.Guarded}
		if err := fs.Create(ctx, nil, fs.Root(), "f", &req, &made); err != nil {
			t.Fatal(err)
		}
		id := made.Attr.ID
		if _, err := fs.Write(ctx, nil, false, id, 0, make([]byte, 8*4096), vfs.Unstable); err != nil {
			t.Fatal(err)
		}
		if _, err := fs.Write(ctx, nil, false, id, 8*4096, []byte{1}, vfs.Unstable); !errors.Is(err, vfs.ErrNoSpace) {
			t.Fatalf("write into a full file system: %v", err)
		}
		var attr vfs.Attr
		if _, err := fs.Remove(ctx, nil, fs.Root(), "f", &attr); err != nil {
			t.Fatal(err)
		}
		var stat vfs.StatFS
		if err := fs.StatFS(ctx, &stat); err != nil || stat.UsedBytes != 0 {
			t.Fatalf("used %d after the removal, %v", stat.UsedBytes, err)
		}
	}
}

// TestClosed checks that a stopped file system says so.
func TestClosed(t *testing.T) {
	fs, err := memvfs.New(memvfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	fs.Close()
	var attr vfs.Attr
	if err := fs.GetAttr(context.Background(), fs.Root(), &attr); !errors.Is(err, vfs.ErrClosed) {
		t.Fatalf("GetAttr after Close: %v", err)
	}
}

// TestOptions checks what is refused.
func TestOptions(t *testing.T) {
	for _, o := range []memvfs.Options{{RootMode: 0o10000}, {MaxBytes: 1 << 63}} {
		if fs, err := memvfs.New(o); err == nil {
			t.Errorf("New(%+v) made %v", o, fs)
		}
	}
}
