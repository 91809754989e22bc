package appliance

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// startUnit starts a unit and makes what is on it what the catalog says. The caller holds admin.
// File systems that can't be served are logged and do not keep others from being served.
func (a *Appliance) startUnit(ctx context.Context, u *Unit) error {
	if err := u.Start(ctx); err != nil {
		return err
	}
	records, err := a.catalog.List(ctx)
	if err != nil {
		return err
	}
	for i := range records {
		if records[i].Unit != u.ID() {
			continue
		}
		if err := a.reconcile(ctx, u, &records[i]); err != nil {
			u.log.Error("file system is not served", zap.String("file_system", records[i].ID), zap.Error(err))
		}
	}
	return a.adopt(ctx, u, records)
}

// reconcile brings one file system of u to what its record says, or ends what was under way.
func (a *Appliance) reconcile(ctx context.Context, u *Unit, f *catalog.FileSystem) error {
	switch f.State {
	case catalog.Available:
		return u.Open(ctx, f.ID)
	case catalog.Creating:
		u.log.Info("creation of a file system was cut short and is begun anew", zap.String("file_system", f.ID))
		_, err := a.make(ctx, u, f)
		return err
	case catalog.Deleting:
		u.log.Info("deletion of a file system was cut short and is finished", zap.String("file_system", f.ID))
		return a.unmake(ctx, u, f)
	}
	return fmt.Errorf("appliance: life cycle state %q is not known", f.State)
}

// make makes f, whose record says that it is being created, and serves it. If it can't be made, the
// record goes too.
func (a *Appliance) make(ctx context.Context, u *Unit, f *catalog.FileSystem) (catalog.FileSystem, error) {
	err := a.grantKey(ctx, f)
	if err == nil {
		err = u.Create(ctx, f)
	}
	if err != nil {
		return catalog.FileSystem{}, errors.Join(err, a.retireKey(ctx, f), a.catalog.Remove(ctx, f.ID))
	}
	made, err := a.catalog.SetState(ctx, f.ID, catalog.Available, catalog.Creating)
	if err != nil {
		return catalog.FileSystem{}, err
	}
	return made, u.Open(ctx, f.ID)
}

// unmake destroys f, whose record says that it is being deleted, its keys first, ends its grant, and then
// the record.
func (a *Appliance) unmake(ctx context.Context, u *Unit, f *catalog.FileSystem) error {
	if err := u.Destroy(f.ID); err != nil {
		return err
	}
	if err := a.retireKey(ctx, f); err != nil {
		return err
	}
	if err := a.catalog.Remove(ctx, f.ID); err != nil {
		return err
	}
	a.table.forget(f.ID)
	return nil
}

// adopt takes up the file systems that came with a unit from elsewhere: they have keys and no record.
func (a *Appliance) adopt(ctx context.Context, u *Unit, records []catalog.FileSystem) error {
	ids, err := u.listFileSystems()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if slices.ContainsFunc(records, func(f catalog.FileSystem) bool { return f.ID == id }) {
			continue
		}
		if err := a.adoptOne(ctx, u, id); err != nil {
			u.log.Error("file system that came with the unit is not served", zap.String("file_system", id), zap.Error(err))
		}
	}
	return nil
}

func (a *Appliance) adoptOne(ctx context.Context, u *Unit, id string) error {
	k, err := readKeysFile(u.fsDir(id).keys(), id)
	if err != nil {
		return err
	}
	f := k.record(u.ID())
	if err := a.adoptKey(ctx, u, &f); err != nil {
		return err
	}
	_, err = a.catalog.Adopt(ctx, f)
	if errors.Is(err, catalog.ErrTokenExists) { // of another file system, made here
		f.CreationToken = id
		_, err = a.catalog.Adopt(ctx, f)
	}
	if err != nil {
		return err
	}
	u.log.Info("file system came with the unit and is taken up", zap.String("file_system", id))
	return u.Open(ctx, id)
}
