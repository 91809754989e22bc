package appliance

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// SetQuota implements api.Backend.
func (a *Appliance) SetQuota(ctx context.Context, id string, quotaBytes uint64) error {
	a.admin.Lock()
	defer a.admin.Unlock()
	if _, err := a.catalog.SetQuota(ctx, id, quotaBytes); err != nil {
		return err
	}
	for _, u := range a.units {
		if err := u.setQuota(id, quotaBytes); err != nil {
			return err
		}
	}
	a.log.Info("quota of a file system set", zap.String("file_system", id), zap.Uint64("bytes", quotaBytes))
	return nil
}

// quotaOf is what is on record for a file system that is about to be opened; 0 for one that is
// not.
func (a *Appliance) quotaOf(ctx context.Context, id string) (uint64, error) {
	f, err := a.catalog.Get(ctx, id)
	if errors.Is(err, catalog.ErrNotFound) {
		return 0, nil
	}
	return f.QuotaBytes, err
}

// setQuota sets the quota of a file system if the unit serves it.
func (u *Unit) setQuota(id string, quotaBytes uint64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	fs := u.served[id]
	if fs == nil || fs.store == nil { // it is asked for when it is opened
		return nil
	}
	return fs.store.SetQuota(quotaBytes)
}
