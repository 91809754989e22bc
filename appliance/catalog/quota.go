package catalog

import (
	"context"
	"encoding/json"
	"fmt"
)

// SetQuota bounds what the file system id, which must be Available, may hold, in metered bytes; 0:
// nothing does. It returns the record after that.
func (c *Catalog) SetQuota(ctx context.Context, id string, quotaBytes uint64) (FileSystem, error) {
	for range maxRetries {
		f, revision, err := c.get(ctx, id)
		if err != nil {
			return FileSystem{}, err
		}
		if f.State != Available {
			return f, fmt.Errorf("%w: %s is %s", ErrWrongState, id, f.State)
		}
		f.QuotaBytes = quotaBytes
		record, err := json.Marshal(fileSystemRecord{recordFormat, f})
		if err != nil {
			return FileSystem{}, fmt.Errorf("catalog: %w", err)
		}
		result, err := c.store.Txn(ctx, Txn{
			If:   []Compare{{fsPrefix + id, revision}},
			Then: []Op{Put(fsPrefix+id, record)},
		})
		if err != nil || result.Succeeded {
			return f, err
		}
	}
	return FileSystem{}, ErrConflict
}
