package filestore

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
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
