package appliance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/xtsengine/blockdev"
	"github.com/nfseal/nfseal/xtsengine/filestore"
	"github.com/nfseal/nfseal/xtsengine/keyring"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// check refuses what could not be opened (newer formats, truncated volumes, keys of other roots)
// before anything is written.
func (d *dataDir) check(ctx context.Context, keys keyring.Wrapper, o *Options) error {
	if err := catalog.CheckFormat(vfs.Default, d.store()); err != nil {
		return err
	}
	if _, err := readCatalogKey(d.layout); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dirs, err := unitDirs(d.units())
	if err != nil {
		return err
	}
	client, done, err := d.kmsReadOnly(ctx, keys, o)
	if err != nil {
		return err
	}
	defer done()
	for _, dir := range dirs {
		if err := checkUnit(ctx, dir, &wrapping{keys, client}); err != nil {
			return fmt.Errorf("unit %s: %w", filepath.Base(dir), err)
		}
	}
	return nil
}

// kmsReadOnly opens the keys of KMS without writing anything, until done is called. The client is nil while
// there is no catalog.
func (d *dataDir) kmsReadOnly(ctx context.Context, keys keyring.Wrapper, o *Options) (client *kms.Client, done func(), err error) {
	f, err := readCatalogKey(d.layout)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, func() {}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(d.store()); errors.Is(err, fs.ErrNotExist) {
		return nil, func() {}, nil
	}
	store, key, err := openCatalogAs(ctx, keys, f, catalog.LocalOptions{Dir: d.store(), ReadOnly: true})
	if errors.Is(err, pebble.ErrDBDoesNotExist) { // its making was cut short
		return nil, func() {}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	done = func() {
		store.Close() // nothing was written
		key.Close()
	}
	all, err := kms.NewKeys(kms.KeysOptions{Store: store, Root: d.root.key, Region: o.Region, Account: api.OwnerID, Clock: o.Clock})
	if err != nil {
		done()
		return nil, nil, err
	}
	return kms.NewClient(all, &pendingLog{}, kms.EFS), done, nil
}

// unfinishedSuffix marks the directory of a unit that was being made.
const unfinishedSuffix = ".new"

// unitDirs lists the units of a data directory.
func unitDirs(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("appliance: %w", err)
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() && !strings.HasSuffix(e.Name(), unfinishedSuffix) {
			dirs = append(dirs, filepath.Join(root, e.Name()))
		}
	}
	if len(dirs) > maxUnits {
		return nil, fmt.Errorf("appliance: %s holds %d units, at most %d are served", root, len(dirs), maxUnits)
	}
	return dirs, nil
}

func checkUnit(ctx context.Context, dir string, keys *wrapping) error {
	u, err := NewUnit(dir, UnitOptions{})
	if err != nil {
		return err
	}
	if filepath.Base(dir) != u.id {
		return fmt.Errorf("the directory is not named after the unit in it, %s", u.id)
	}
	if err := u.checkVolume(); err != nil {
		return err
	}
	ids, err := u.listFileSystems()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := checkFileSystem(ctx, u.fsDir(id), id, keys); err != nil {
			return fmt.Errorf("file system %s: %w", id, err)
		}
	}
	return nil
}

// checkVolume opens the volume and closes it again, which writes nothing.
func (u *Unit) checkVolume() error {
	device, err := blockdev.OpenFile(u.volumePath(), blockdev.Options{})
	if err != nil {
		return err
	}
	v, err := volume.Open(device, volume.Options{})
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", u.volumePath(), err), device.Close())
	}
	if v.UUID() != u.uuid {
		err = fmt.Errorf("the volume belongs to unit %s", v.UUID())
	}
	return errors.Join(err, v.Close(), device.Close())
}

// checkFileSystem looks at the formats of a file system. One without keys is what a creation or
// deletion left that was cut short: reconciliation deals with it. One that is damaged keeps no other
// from being served: that shows when it is opened.
func checkFileSystem(ctx context.Context, dir fsDir, id string, keys *wrapping) error {
	k, err := readKeysFile(dir.keys(), id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if k.Key != "" && keys.kms == nil {
		return nil // it came with a unit, and its key too
	}
	meta, closeKeys, err := keys.unlockMetadata(ctx, k)
	if k.Key != "" && err != nil && !errors.Is(err, kms.ErrInvalidCiphertext) {
		return nil // its key can't be used now: that shows when it is opened, before anything is written
	}
	if err != nil {
		return err
	}
	defer closeKeys() // which can't fail in a way that matters
	if err := filestore.CheckFormat(meta, dir.meta()); errors.Is(err, filestore.ErrNewerFormat) {
		return err
	}
	return nil
}

// pendingLog takes records while the audit log is not open yet, since nothing may be written before
// the checks are over. A start that is refused served nothing, and leaves no record.
type pendingLog struct {
	mu     sync.Mutex
	events []audit.Event
	log    *audit.Log
}

// Append implements kms.Recorder.
func (p *pendingLog) Append(e audit.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.log != nil {
		return p.log.Append(e)
	}
	p.events = append(p.events, e)
	return nil
}

// attach writes what came so far to log, where everything goes from then on.
func (p *pendingLog) attach(log *audit.Log) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if err := log.Append(e); err != nil {
			return err
		}
	}
	p.events, p.log = nil, log
	return nil
}
