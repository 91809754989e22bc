package appliance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/durable"
)

// UpgradeOptions say where bundles with another version are left for the part of the image that has the right to write
// it, and where that says what became of them. The zero UpgradeOptions take none.
type UpgradeOptions struct {
	Dir   string // of this user's; it is made if it does not exist
	State string // file that another user writes
}

const (
	bundleName = "bundle"
	// maxUpgradeStateBytes bounds what is read of the state's file.
	maxUpgradeStateBytes = 64 << 10
)

// upgrades implements api.Upgrades.
type upgrades struct {
	o  UpgradeOptions
	mu sync.Mutex // held while a bundle arrives
}

// openUpgrades gives nil where there is no image to upgrade.
func openUpgrades(o UpgradeOptions) (api.Upgrades, error) {
	if o.Dir == "" {
		return nil, nil
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("appliance: upgrades: %w", err)
	}
	if err := os.Remove(filepath.Join(o.Dir, bundleName+durable.TempSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("appliance: upgrades: %w", err)
	}
	return &upgrades{o: o}, nil
}

// TakeUpgrade implements api.Upgrades. The bundle is there under its name only when all of it is.
func (u *upgrades) TakeUpgrade(_ context.Context, r io.Reader) error {
	if !u.mu.TryLock() {
		return api.UpgradeBusy("another bundle is on its way")
	}
	defer u.mu.Unlock()
	path := filepath.Join(u.o.Dir, bundleName)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return api.UpgradeBusy("another bundle is being written")
	}
	temp := path + durable.TempSuffix
	if err := receive(temp, r); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("appliance: upgrade: %w", err)
	}
	return durable.SyncDir(u.o.Dir)
}

func receive(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("appliance: upgrade: %w", err)
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("appliance: the bundle did not arrive: %w", err)
	}
	return nil
}

// UpgradeState implements api.Upgrades.
func (u *upgrades) UpgradeState(context.Context) (api.UpgradeState, error) {
	if _, err := os.Lstat(filepath.Join(u.o.Dir, bundleName)); err == nil {
		return api.UpgradeState{State: api.UpgradeWriting}, nil
	}
	state := api.UpgradeState{State: api.UpgradeNone}
	text, err := durable.ReadFile(u.o.State, maxUpgradeStateBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return state, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &state)
	}
	if err != nil {
		return state, fmt.Errorf("appliance: state of the upgrade: %w", err)
	}
	return state, nil
}
