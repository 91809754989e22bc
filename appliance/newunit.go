package appliance

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// MakeUnit makes a unit in a directory of its own under root and returns the directory. It appears whole or not at all; a
// device is not empty any more after an error.
func MakeUnit(root string, v NewVolume, now time.Time) (string, error) {
	uuid, err := volume.NewUUID(nil)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, uuid.String())
	unfinished := dir + unfinishedSuffix
	if err := durable.MakeDir(unfinished, 0o700); err != nil {
		return "", fmt.Errorf("appliance: %w", err)
	}
	if err := fillUnit(unfinished, uuid, v, now); err != nil {
		return "", errors.Join(err, os.RemoveAll(unfinished))
	}
	if err := os.Rename(unfinished, dir); err != nil {
		return "", fmt.Errorf("appliance: %w", err)
	}
	if err := durable.SyncDir(root); err != nil {
		return "", fmt.Errorf("appliance: %w", err)
	}
	return dir, nil
}

func fillUnit(dir string, uuid volume.UUID, v NewVolume, now time.Time) error {
	if err := v.make(filepath.Join(dir, "volume"), uuid); err != nil {
		return err
	}
	if err := durable.MakeDir(filepath.Join(dir, "fs"), 0o700); err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	return writeJSON(filepath.Join(dir, "unit.json"), unitFile{Format: unitFormat, UUID: uuid.String(), Created: now.UTC()})
}

// removeUnfinished takes away units whose making was cut short: nothing was ever kept in them.
func removeUnfinished(root string) error {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), unfinishedSuffix) {
			continue
		}
		dir := filepath.Join(root, e.Name())
		if err := emptyAgain(filepath.Join(dir, "volume"), strings.TrimSuffix(e.Name(), unfinishedSuffix)); err != nil {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("appliance: %w", err)
		}
	}
	return nil
}
