package catalog

import "context"

// SetQuota bounds what the file system id, which must be Available, may hold, in metered bytes; 0:
// nothing does. It returns the record after that.
func (c *Catalog) SetQuota(ctx context.Context, id string, quotaBytes uint64) (FileSystem, error) {
	return c.ChangeFileSystem(ctx, id, func(f *FileSystem) error {
		f.QuotaBytes = quotaBytes
		return nil
	})
}
