package appliance

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/xtsengine/filestore"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// CheckFileSystem implements api.Backend.
func (a *Appliance) CheckFileSystem(ctx context.Context, id string) (api.Check, error) {
	u, err := a.unitOf(ctx, id)
	if err != nil {
		return api.Check{}, err
	}
	u.mu.Lock()
	fs := u.served[id]
	var store *filestore.Store
	if fs != nil {
		store = fs.store
	}
	u.mu.Unlock()
	if store == nil {
		return api.Check{}, fmt.Errorf("%w: %s", ErrNotServing, id)
	}
	report, err := store.CheckOnline(ctx) // a store that is closed meanwhile says so
	if err != nil {
		return api.Check{}, err
	}
	c := checkOf(u.id, id, report)
	c.Online = true
	return c, nil
}

// checkOf is a report as it is shown.
func checkOf(unit, id string, r *filestore.Report) api.Check {
	c := api.Check{
		Unit: unit, FileSystem: id, Found: r.Found, Leaks: r.Leaks, Repaired: r.Repaired, Problems: r.Problems,
		Inodes: r.Inodes, Directories: r.Directories, Entries: r.Entries, Extents: r.Extents,
		VolumeBlocks: r.VolumeBlocks, JournalBlocks: r.JournalBlocks, InlineBlocks: r.InlineBlocks,
	}
	if c.Problems == nil {
		c.Problems = []string{}
	}
	return c
}

// Fsck checks all units and file systems of a data directory that no daemon serves. It changes nothing,
// unless it is told to repair: then leaks are ended where there are no other problems. The error says
// why the directory can't be looked at; what is wrong in it is in the result.
func Fsck(ctx context.Context, o Options, repair bool) ([]api.Check, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(o.DataDir); err != nil {
		return nil, fmt.Errorf("appliance: %w", err)
	}
	d, err := openDataDir(ctx, o.DataDir, o.Root, nil)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if d.fresh {
		return nil, fmt.Errorf("appliance: %s is empty", d.dir)
	}
	keys, err := kms.New(kms.Options{Root: d.root.key, Audit: &pendingLog{}})
	if err != nil {
		return nil, err
	}
	if err := d.check(ctx, keys, &o); err != nil {
		return nil, err
	}
	client, done, err := d.kmsReadOnly(ctx, keys, &o)
	if err != nil {
		return nil, err
	}
	defer done()
	dirs, err := unitDirs(d.units())
	var checks []api.Check
	for _, dir := range dirs {
		u, err := NewUnit(dir, UnitOptions{Keys: keys, KMS: client, Clock: o.Clock, Log: o.Log})
		if err != nil {
			return checks, err
		}
		of, err := u.fsck(ctx, repair)
		if err != nil {
			return checks, fmt.Errorf("unit %s: %w", u.id, err)
		}
		checks = append(checks, of...)
	}
	return checks, err
}

// fsck checks a unit that is stopped.
func (u *Unit) fsck(ctx context.Context, repair bool) (checks []api.Check, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	lock, err := volume.LockFile(u.volumePath())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, u.releaseLocked(), lock.Close()) }()
	if u.volume, err = u.openVolumeLocked(ctx, u.id); err != nil {
		return nil, err
	}
	ids, err := u.listFileSystems()
	if err != nil {
		return nil, err
	}
	of, err := u.fsckVolume(ids, repair)
	if err != nil {
		return nil, err
	}
	checks = append(checks, of)
	for _, id := range ids {
		c, err := u.fsckFileSystem(ctx, id, repair)
		if err != nil {
			c = api.Check{Unit: u.id, FileSystem: id, Failure: err.Error(), Problems: []string{}}
		}
		checks = append(checks, c)
	}
	return checks, nil
}

// fsckVolume looks for chunks that are leased to no file system of the unit.
func (u *Unit) fsckVolume(ids []string, repair bool) (api.Check, error) {
	known := map[volume.SpaceID]bool{}
	for _, id := range ids {
		for _, owner := range spacesOf(id) {
			known[owner] = true
		}
	}
	c := api.Check{Unit: u.id, Problems: []string{}}
	for _, owner := range u.volume.Spaces() {
		if known[owner] {
			continue
		}
		if repair {
			if err := u.volume.DestroySpace(owner); err != nil {
				return c, err
			}
			c.Repaired++
			continue
		}
		c.Found, c.Leaks = c.Found+1, c.Leaks+1
		c.Problems = append(c.Problems, fmt.Sprintf("chunks are leased to space %v, of which there is no file system", owner))
	}
	return c, nil
}

// fsckFileSystem checks one file system. One without keys is what a creation or a deletion left that
// was cut short: the next start ends it.
func (u *Unit) fsckFileSystem(ctx context.Context, id string, repair bool) (c api.Check, err error) {
	if _, err := os.Stat(u.fsDir(id).keys()); errors.Is(err, os.ErrNotExist) {
		return api.Check{Unit: u.id, FileSystem: id, Found: 1, Leaks: 1,
			Problems: []string{"there are no keys: its creation or deletion was cut short, and the next start ends that"}}, nil
	}
	fs := &fileSystem{id: id}
	defer func() { err = errors.Join(err, fs.Close()) }()
	if err := u.unlock(ctx, id, &fs.engine); err != nil {
		return c, err
	}
	report, err := filestore.Inspect(ctx, filestore.Options{
		ID: spaceOf(id, 1), SpaceOwner: fs.space.Owner(), Space: fs.space, Meta: fs.meta, MetaDir: u.fsDir(id).meta(),
	}, repair)
	if err != nil {
		return c, err
	}
	return checkOf(u.id, id, report), nil
}
