package appliance

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/nfseal/nfseal/xtsengine/blockdev/devicetest"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// TestUnfinishedDevice: a device whose unit was not finished is empty again for the next start, unless it is another one
// by then.
func TestUnfinishedDevice(t *testing.T) {
	device, _ := devicetest.Loop(t, 64<<20)
	uuid, other := volume.UUID{1}, volume.UUID{2}
	for name, c := range map[string]struct {
		unit  volume.UUID
		empty bool
	}{"its own": {uuid, true}, "another one by now": {other, false}} {
		root := t.TempDir()
		dir := filepath.Join(root, c.unit.String()+unfinishedSuffix)
		made := filepath.Join(dir, "volume")
		if err := errors.Join(os.Mkdir(dir, 0o700), checkEmptyDevice(device), NewVolume{Device: device}.make(made, uuid)); err != nil {
			t.Fatal(name, err)
		}
		if err := removeUnfinished(root); err != nil {
			t.Error(name, err)
		}
		if err := checkEmptyDevice(device); (err == nil) != c.empty {
			t.Errorf("%s: %v", name, err)
		}
		if names, _ := filepath.Glob(filepath.Join(root, "*")); len(names) > 0 {
			t.Errorf("%s: %v is left", name, names)
		}
		if err := emptyDevice(device); err != nil {
			t.Fatal(err)
		}
	}
}

func emptyDevice(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, deviceEdgeBytes))
	return errors.Join(err, f.Sync(), f.Close())
}
