package appliance

import (
	"context"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/catalog"
)

// ChangeFileSystem implements api.Backend. What is changed so is for those who ask for it: nothing here follows it.
func (a *Appliance) ChangeFileSystem(ctx context.Context, id string, change func(*catalog.FileSystem) error) (catalog.FileSystem, error) {
	f, err := a.catalog.ChangeFileSystem(ctx, id, change)
	if err == nil {
		a.log.Info("settings of a file system changed", zap.String("file_system", id))
	}
	return f, err
}

// ChangeAccessPoint implements api.Backend, for tags: those who came in through it are not told.
func (a *Appliance) ChangeAccessPoint(ctx context.Context, id string, change func(*catalog.AccessPoint) error) (catalog.AccessPoint, error) {
	return a.catalog.ChangeAccessPoint(ctx, id, change)
}
