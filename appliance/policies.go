package appliance

import (
	"context"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/policy"
)

// nobody allows nothing. It stands in for a policy on record that can't be read, so that damage
// closes a file system and does not open it.
var nobody = &policy.Document{}

// announcePolicies tells the table the policies on record, before any file system is served.
func (a *Appliance) announcePolicies(ctx context.Context) error {
	records, err := a.catalog.Policies(ctx)
	if err != nil {
		return err
	}
	for id, text := range records {
		d, err := policy.Parse(policy.Resource, text)
		if err != nil {
			a.log.Error("policy on record is not understood, nobody may mount the file system until it is put anew",
				zap.String("file_system", id), zap.Error(err))
			d = nobody
		}
		a.table.setPolicy(id, d)
	}
	return nil
}

// PutFileSystemPolicy implements api.Backend. An error of the policy's own is policy.ErrMalformed.
func (a *Appliance) PutFileSystemPolicy(ctx context.Context, id, text string) error {
	d, err := policy.Parse(policy.Resource, text)
	if err != nil {
		return err
	}
	a.admin.Lock()
	defer a.admin.Unlock()
	if err := a.catalog.PutPolicy(ctx, id, text); err != nil {
		return err
	}
	a.table.setPolicy(id, d)
	a.log.Info("policy of a file system put", zap.String("file_system", id))
	return nil
}

// FileSystemPolicy implements api.Backend.
func (a *Appliance) FileSystemPolicy(ctx context.Context, id string) (string, error) {
	return a.catalog.Policy(ctx, id)
}

// DeleteFileSystemPolicy implements api.Backend.
func (a *Appliance) DeleteFileSystemPolicy(ctx context.Context, id string) error {
	a.admin.Lock()
	defer a.admin.Unlock()
	if err := a.catalog.DeletePolicy(ctx, id); err != nil {
		return err
	}
	a.table.setPolicy(id, nil)
	a.log.Info("policy of a file system deleted", zap.String("file_system", id))
	return nil
}
