package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// ErrNoPolicy says that a file system has no policy of its own, or a user none of that name.
var ErrNoPolicy = errors.New("catalog: no policy")

const policyPrefix = "policy/"

type policyRecord struct {
	Format int    `json:"format"`
	Policy string `json:"policy"`
}

// PutPolicy gives the file system id, which must be Available, a policy in place of what it had. The
// text is kept as it is.
func (c *Catalog) PutPolicy(ctx context.Context, id, text string) error {
	record, err := json.Marshal(policyRecord{recordFormat, text})
	if err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	for range maxRetries {
		revision, err := c.available(ctx, id)
		if err != nil {
			return err
		}
		result, err := c.store.Txn(ctx, Txn{
			If:   []Compare{{fsPrefix + id, revision}},
			Then: []Op{Put(policyPrefix+id, record)},
		})
		if err != nil || result.Succeeded {
			return err
		}
	}
	return ErrConflict
}

// available returns the revision of the file system id if it is Available.
func (c *Catalog) available(ctx context.Context, id string) (int64, error) {
	f, revision, err := c.get(ctx, id)
	if err == nil && f.State != Available {
		err = fmt.Errorf("%w: %s is %s", ErrWrongState, id, f.State)
	}
	return revision, err
}

// Policy returns the policy of the file system id, ErrNoPolicy or ErrNotFound.
func (c *Catalog) Policy(ctx context.Context, id string) (string, error) {
	if _, err := c.Get(ctx, id); err != nil {
		return "", err
	}
	kv, found, _, err := c.store.Get(ctx, policyPrefix+id)
	if err != nil {
		return "", err
	}
	if !found {
		return "", fmt.Errorf("%w: %s", ErrNoPolicy, id)
	}
	return decodePolicy(&kv)
}

// Policies returns all policies by file system id. A damaged record is an empty text.
func (c *Catalog) Policies(ctx context.Context) (map[string]string, error) {
	kvs, _, err := c.store.Range(ctx, policyPrefix)
	if err != nil {
		return nil, err
	}
	all := make(map[string]string, len(kvs))
	for i := range kvs {
		text, err := decodePolicy(&kvs[i])
		if errors.Is(err, ErrNewerFormat) {
			return nil, err
		}
		all[strings.TrimPrefix(kvs[i].Key, policyPrefix)] = text
	}
	return all, nil
}

func decodePolicy(kv *KeyValue) (string, error) {
	var record policyRecord
	if err := json.Unmarshal(kv.Value, &record); err != nil {
		return "", fmt.Errorf("catalog: record %q is damaged", kv.Key)
	}
	if record.Format > recordFormat {
		return "", fmt.Errorf("%w: record %q has format %d", ErrNewerFormat, kv.Key, record.Format)
	}
	return record.Policy, nil
}

// DeletePolicy takes the policy of the file system id away; it need not have one.
func (c *Catalog) DeletePolicy(ctx context.Context, id string) error {
	for range maxRetries {
		revision, err := c.available(ctx, id)
		if err != nil {
			return err
		}
		result, err := c.store.Txn(ctx, Txn{
			If:   []Compare{{fsPrefix + id, revision}},
			Then: []Op{Delete(policyPrefix + id)},
		})
		if err != nil || result.Succeeded {
			return err
		}
	}
	return ErrConflict
}
