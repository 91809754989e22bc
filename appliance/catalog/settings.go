package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// LifecyclePolicy is one transition between storage classes (EFS LifecyclePolicy): one of its fields is set.
type LifecyclePolicy struct {
	TransitionToIA                  string `json:"transitionToIA,omitempty"`
	TransitionToPrimaryStorageClass string `json:"transitionToPrimaryStorageClass,omitempty"`
	TransitionToArchive             string `json:"transitionToArchive,omitempty"`
}

// ChangeFileSystem replaces the record of the file system id, which must be Available, by what change makes
// of it, and returns that. An error of change ends it; it may be called more than once. Id, creation
// token and state are not for change.
func (c *Catalog) ChangeFileSystem(ctx context.Context, id string, change func(*FileSystem) error) (FileSystem, error) {
	for range maxRetries {
		f, revision, err := c.get(ctx, id)
		if err != nil {
			return FileSystem{}, err
		}
		if f.State != Available {
			return f, fmt.Errorf("%w: %s is %s", ErrWrongState, id, f.State)
		}
		if err := change(&f); err != nil {
			return FileSystem{}, err
		}
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

// ChangeAccessPoint replaces the record of the access point id by what change makes of it, and returns
// that. An error of change ends it; it may be called more than once. Id, file system and token are not for
// change.
func (c *Catalog) ChangeAccessPoint(ctx context.Context, id string, change func(*AccessPoint) error) (AccessPoint, error) {
	for range maxRetries {
		a, revision, err := c.getPoint(ctx, id)
		if err != nil {
			return AccessPoint{}, err
		}
		if err := change(&a); err != nil {
			return AccessPoint{}, err
		}
		record, err := putRecord(pointKey(&a), a)
		if err != nil {
			return AccessPoint{}, err
		}
		result, err := c.store.Txn(ctx, Txn{If: []Compare{{pointKey(&a), revision}}, Then: []Op{record}})
		if err != nil || result.Succeeded {
			return a, err
		}
	}
	return AccessPoint{}, ErrConflict
}

// WithTags returns tags with more added, each in the place of the one with its key; ErrTagLimit if that makes
// more than MaxTags.
func WithTags(tags, more []Tag) ([]Tag, error) {
	all := slices.Clone(tags)
	for _, tag := range more {
		if i := slices.IndexFunc(all, func(t Tag) bool { return t.Key == tag.Key }); i >= 0 {
			all[i] = tag
			continue
		}
		all = append(all, tag)
	}
	if len(all) > MaxTags {
		return nil, fmt.Errorf("%w: %d", ErrTagLimit, MaxTags)
	}
	return all, nil
}

// WithoutTags returns tags without those with the keys, which need not be there.
func WithoutTags(tags []Tag, keys []string) []Tag {
	return slices.DeleteFunc(slices.Clone(tags), func(t Tag) bool { return slices.Contains(keys, t.Key) })
}

// SortedTags returns tags in the order of their keys.
func SortedTags(tags []Tag) []Tag {
	return slices.SortedFunc(slices.Values(tags), func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
}
