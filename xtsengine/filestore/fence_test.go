package filestore

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/blockdev/memdev"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// A new MANIFEST's name is as durable as its content: a marker that chooses it can't be there without it.
func TestManifestHasItsNameFirst(t *testing.T) {
	for name, sync := range map[string]func(pebblevfs.File) error{"Sync": pebblevfs.File.Sync, "SyncData": pebblevfs.File.SyncData} {
		t.Run(name, func(t *testing.T) {
			fs := pebblevfs.NewCrashableMem()
			f := newMetaFence(fs, func(err error) error { return err })
			f.opened(nil)
			file, err := f.Create("MANIFEST-000084", pebblevfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.Write([]byte("edits")); err != nil {
				t.Fatal(err)
			}
			lost := fs.CrashClone(pebblevfs.CrashCloneCfg{RNG: rand.New(rand.NewPCG(1, 1))})
			if _, err := lost.Stat("MANIFEST-000084"); err == nil {
				t.Fatal("it is there without a sync: the clone says nothing")
			}
			if err := sync(file); err != nil {
				t.Fatal(err)
			}
			kept := fs.CrashClone(pebblevfs.CrashCloneCfg{RNG: rand.New(rand.NewPCG(1, 1))})
			if info, err := kept.Stat("MANIFEST-000084"); err != nil || info.Size() != 5 {
				t.Errorf("after a sync and a loss of power: %v, %v", info, err)
			}
		})
	}
}

// If its directory can't be synced, the MANIFEST isn't, so that Pebble makes no marker.
func TestManifestWithoutName(t *testing.T) {
	broken := errors.New("no directories today")
	fs := errorfs.Wrap(pebblevfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpOpenDir {
			return broken
		}
		return nil
	}))
	f := newMetaFence(fs, func(err error) error { return err })
	f.opened(nil)
	file, err := f.Create("MANIFEST-000001", pebblevfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := file.Sync(); !errors.Is(err, broken) {
			t.Errorf("synced: %v", err)
		}
	}
}

// statFS fails to tell the length of a log that is used again.
type statFS struct {
	pebblevfs.FS
	broken *atomic.Bool
}

func (fs statFS) ReuseForWrite(old, name string, c pebblevfs.DiskWriteCategory) (pebblevfs.File, error) {
	file, err := fs.FS.ReuseForWrite(old, name, c)
	if err != nil {
		return nil, err
	}
	return statFile{file, fs.broken}, nil
}

type statFile struct {
	pebblevfs.File
	broken *atomic.Bool
}

func (f statFile) Stat() (pebblevfs.FileInfo, error) {
	if f.broken.Load() {
		return nil, errMedium
	}
	return f.File.Stat()
}

// A log whose length can't be told when it is used again stops the store, not the process.
func TestLogWithoutLength(t *testing.T) {
	var broken atomic.Bool
	fs := statFS{pebblevfs.NewMem(), &broken}
	r := newRigOn(t, memdev.New(32<<20), fs, func(o *Options) { o.MemTableBytes = 1 << 20 })
	id := r.file("f")
	change := func(k uint64) error {
		_, err := r.SetXattr(bg, nil, id, "x", noise(k, 60<<10), vfs.XattrEither)
		return err
	}
	for k := range uint64(200) { // until logs are used again
		if err := change(k); err != nil {
			t.Fatal(err)
		}
	}
	broken.Store(true)
	var err error
	for k := uint64(0); err == nil && k < 1000; k++ {
		err = change(k)
	}
	if !errors.Is(err, vfs.ErrIO) {
		t.Errorf("changes: %v", err)
	}
	if err := r.Store.Close(); !errors.Is(err, vfs.ErrIO) {
		t.Errorf("close: %v", err)
	}
	r.drop()
	broken.Store(false)
	r.open()
}

// TestOpenWithoutManifest: where Pebble's Open has no table to write and can't make its list of tables, it waits for a goroutine
// that has ended. The start fails instead, and the next one finds everything.
func TestOpenWithoutManifest(t *testing.T) {
	var broken atomic.Bool
	mem := pebblevfs.NewCrashableMem()
	failing := func(fs pebblevfs.FS) pebblevfs.FS {
		return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if broken.Load() && op.Kind == errorfs.OpCreate && strings.Contains(op.Path, "MANIFEST-") {
				return errMedium
			}
			return nil
		}))
	}
	r := newRigOn(t, memdev.New(32<<20), failing(mem), nil)
	r.file("f")
	r.flushMeta() // the log is empty, and the power fails
	r.opts.Meta = failing(mem.CrashClone(pebblevfs.CrashCloneCfg{}))
	r.close()
	broken.Store(true)
	opened := make(chan error, 1)
	go func() { opened <- r.tryOpen() }()
	select {
	case err := <-opened:
		if !errors.Is(err, vfs.ErrIO) {
			t.Errorf("the start says: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the start does not end")
	}
	r.drop()
	broken.Store(false)
	r.open()
	if err := r.Lookup(bg, nil, r.Root(), "f", new(vfs.Attr)); err != nil {
		t.Errorf("the file: %v", err)
	}
}
