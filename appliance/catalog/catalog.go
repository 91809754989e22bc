package catalog

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// What the catalog can answer.
var (
	ErrNotFound    = errors.New("catalog: no such file system")
	ErrTokenExists = errors.New("catalog: creation token is in use")
	ErrLimit       = errors.New("catalog: limit of file systems reached")
	ErrWrongState  = errors.New("catalog: file system is not in the right life cycle state")
	ErrConflict    = errors.New("catalog: too many changes at once, try again")
	ErrTagLimit    = errors.New("catalog: limit of tags reached")
)

// State is where a file system is in its life (EFS LifeCycleState).
type State string

// The states. A file system that is Creating or Deleting when the daemon starts is finished or
// removed by reconciliation.
const (
	Creating  State = "creating"
	Available State = "available"
	Deleting  State = "deleting"
)

// Tag is a name and a value that users give.
type Tag struct {
	Key   string
	Value string
}

// FileSystem is what is known of one file system.
type FileSystem struct {
	ID              string    `json:"id"` // fs- and 17 hexadecimal digits
	CreationToken   string    `json:"creationToken"`
	Created         time.Time `json:"created"`
	State           State     `json:"state"`
	Unit            string    `json:"unit"` // UUID of the unit that holds it
	PerformanceMode string    `json:"performanceMode"`
	ThroughputMode  string    `json:"throughputMode"`
	Tags            []Tag     `json:"tags,omitempty"`
	QuotaBytes      uint64    `json:"quotaBytes,omitempty"` // 0: none
	Key             string    `json:"key,omitempty"`        // of KMS; empty: under the root key

	Lifecycle []LifecyclePolicy `json:"lifecycle,omitempty"`
	// BackupPolicy is what was put (EFS BackupPolicy.Status); empty: nothing was.
	BackupPolicy string `json:"backupPolicy,omitempty"`
	// OverwriteProtection is EFS's ReplicationOverwriteProtection; empty: ENABLED.
	OverwriteProtection string `json:"overwriteProtection,omitempty"`
}

// Name is the value of the tag "Name", which EFS shows as the file system's name.
func (f *FileSystem) Name() string { return nameIn(f.Tags) }

func nameIn(tags []Tag) string {
	for _, tag := range tags {
		if tag.Key == "Name" {
			return tag.Value
		}
	}
	return ""
}

// recordFormat is the version of the JSON below.
const recordFormat = 1

type fileSystemRecord struct {
	Format int `json:"format"`
	FileSystem
}

var idPattern = regexp.MustCompile(`^fs-[0-9a-f]{17}$`)

// ValidID says whether id has the shape of a file system id.
func ValidID(id string) bool { return idPattern.MatchString(id) }

// NewID returns a random file system id.
func NewID() string {
	var b [9]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return "fs-" + hex.EncodeToString(b[:])[:17]
}

// Catalog is the typed side of a Store. Its methods may be called concurrently.
type Catalog struct{ store Store }

// New returns the catalog in store, which stays its caller's.
func New(store Store) *Catalog { return &Catalog{store} }

const (
	fsPrefix    = "fs/"
	tokenPrefix = "token/"
	countKey    = "count/fs"
)

// Create records a new file system in state Creating; f.ID may be empty for a new one. With a
// creation token that is in use it returns that file system and ErrTokenExists.
func (c *Catalog) Create(ctx context.Context, f FileSystem) (FileSystem, error) {
	f.State = Creating
	return c.insert(ctx, f)
}

// Adopt records a file system that came with a unit from elsewhere, as it is.
func (c *Catalog) Adopt(ctx context.Context, f FileSystem) (FileSystem, error) {
	return c.insert(ctx, f)
}

func (c *Catalog) insert(ctx context.Context, f FileSystem) (FileSystem, error) {
	givenID := f.ID
	for range maxRetries {
		if f.ID = givenID; givenID == "" {
			f.ID = NewID()
		}
		existing, err := c.byToken(ctx, f.CreationToken)
		if err == nil {
			return existing, ErrTokenExists
		}
		if !errors.Is(err, ErrNotFound) {
			return FileSystem{}, err
		}
		done, err := c.tryInsert(ctx, &f)
		if err != nil || done {
			return f, err
		}
	}
	return FileSystem{}, ErrConflict
}

// tryInsert is one attempt: false if something changed meanwhile.
func (c *Catalog) tryInsert(ctx context.Context, f *FileSystem) (bool, error) {
	count, countRevision, err := c.countAt(ctx, countKey)
	if err != nil {
		return false, err
	}
	if count >= MaxFileSystems {
		return false, fmt.Errorf("%w: %d", ErrLimit, MaxFileSystems)
	}
	record, err := json.Marshal(fileSystemRecord{recordFormat, *f})
	if err != nil {
		return false, fmt.Errorf("catalog: %w", err)
	}
	result, err := c.store.Txn(ctx, Txn{
		If: []Compare{{Key: fsPrefix + f.ID}, {Key: tokenPrefix + f.CreationToken}, {countKey, countRevision}},
		Then: []Op{
			Put(fsPrefix+f.ID, record),
			Put(tokenPrefix+f.CreationToken, []byte(f.ID)),
			Put(countKey, []byte(strconv.Itoa(count+1))),
		},
	})
	return result.Succeeded, err
}

// countAt reads a record that counts others.
func (c *Catalog) countAt(ctx context.Context, key string) (count int, revision int64, err error) {
	kv, found, _, err := c.store.Get(ctx, key)
	if err != nil || !found {
		return 0, 0, err
	}
	count, err = strconv.Atoi(string(kv.Value))
	if err != nil {
		return 0, 0, fmt.Errorf("catalog: record %q is damaged", key)
	}
	return count, kv.ModRevision, nil
}

func (c *Catalog) byToken(ctx context.Context, token string) (FileSystem, error) {
	kv, found, _, err := c.store.Get(ctx, tokenPrefix+token)
	if err != nil {
		return FileSystem{}, err
	}
	if !found {
		return FileSystem{}, ErrNotFound
	}
	return c.Get(ctx, string(kv.Value))
}

// Get returns the file system id or ErrNotFound.
func (c *Catalog) Get(ctx context.Context, id string) (FileSystem, error) {
	f, _, err := c.get(ctx, id)
	return f, err
}

func (c *Catalog) get(ctx context.Context, id string) (FileSystem, int64, error) {
	kv, found, _, err := c.store.Get(ctx, fsPrefix+id)
	if err != nil {
		return FileSystem{}, 0, err
	}
	if !found {
		return FileSystem{}, 0, ErrNotFound
	}
	f, err := decodeFileSystem(&kv)
	return f, kv.ModRevision, err
}

// List returns all file systems in the order of their ids.
func (c *Catalog) List(ctx context.Context) ([]FileSystem, error) {
	kvs, _, err := c.store.Range(ctx, fsPrefix)
	if err != nil {
		return nil, err
	}
	list := make([]FileSystem, 0, len(kvs))
	for i := range kvs {
		f, err := decodeFileSystem(&kvs[i])
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

func decodeFileSystem(kv *KeyValue) (FileSystem, error) {
	var record fileSystemRecord
	if err := json.Unmarshal(kv.Value, &record); err != nil || kv.Key != fsPrefix+record.ID {
		return FileSystem{}, fmt.Errorf("catalog: record %q is damaged", kv.Key)
	}
	if record.Format > recordFormat {
		return FileSystem{}, fmt.Errorf("%w: record %q has format %d", ErrNewerFormat, kv.Key, record.Format)
	}
	return record.FileSystem, nil
}

// SetState moves the file system id to state to if it is in one of from, else ErrWrongState. One that
// has mount targets can't become Deleting: ErrInUse. It returns the record after that.
func (c *Catalog) SetState(ctx context.Context, id string, to State, from ...State) (FileSystem, error) {
	for range maxRetries {
		f, revision, err := c.get(ctx, id)
		if err != nil {
			return FileSystem{}, err
		}
		if !slices.Contains(from, f.State) {
			return f, fmt.Errorf("%w: %s is %s", ErrWrongState, id, f.State)
		}
		f.State = to
		record, err := json.Marshal(fileSystemRecord{recordFormat, f})
		if err != nil {
			return FileSystem{}, fmt.Errorf("catalog: %w", err)
		}
		conditions := []Compare{{fsPrefix + id, revision}}
		if to == Deleting {
			n, err := c.Network(ctx)
			if err != nil {
				return FileSystem{}, err
			}
			if count := n.TargetsOf(id); count > 0 {
				return FileSystem{}, fmt.Errorf("%w: %s has %d mount targets", ErrInUse, id, count)
			}
			conditions = append(conditions, Compare{networkKey, n.revision})
		}
		result, err := c.store.Txn(ctx, Txn{
			If:   conditions,
			Then: []Op{Put(fsPrefix+id, record)},
		})
		if err != nil || result.Succeeded {
			return f, err
		}
	}
	return FileSystem{}, ErrConflict
}

// Remove forgets the file system id, which must be Creating or Deleting, its creation token, its policy
// and its access points.
func (c *Catalog) Remove(ctx context.Context, id string) error {
	for range maxRetries {
		f, revision, err := c.get(ctx, id)
		if err != nil {
			return err
		}
		if f.State == Available {
			return fmt.Errorf("%w: %s is %s", ErrWrongState, id, f.State)
		}
		if err := c.deleteAccessPoints(ctx, id); err != nil {
			return err
		}
		count, countRevision, err := c.countAt(ctx, countKey)
		if err != nil {
			return err
		}
		result, err := c.store.Txn(ctx, Txn{
			If: []Compare{{fsPrefix + id, revision}, {countKey, countRevision}},
			Then: []Op{
				Delete(fsPrefix + id),
				Delete(tokenPrefix + f.CreationToken),
				Delete(policyPrefix + id),
				Delete(pointCountPrefix + id),
				Put(countKey, []byte(strconv.Itoa(count-1))),
			},
		})
		if err != nil || result.Succeeded {
			return err
		}
	}
	return ErrConflict
}
