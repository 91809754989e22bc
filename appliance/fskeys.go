package appliance

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/xtsengine/keyring"
	"github.com/nfseal/nfseal/xtsengine/mac"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// keysFormat is the newest version of keys.json. Version 1 has data keys under the root key, version 2
// under a KMS key.
const (
	keysFormat     = 2
	rootKeysFormat = 1
)

// keysFile is keys.json: what a file system needs to be opened, together with the root key or a KMS key,
// and what a catalog needs to take it up. It names no host.
type keysFile struct {
	Format          int           `json:"format"`
	ID              string        `json:"id"`
	CreationToken   string        `json:"creationToken"`
	Created         time.Time     `json:"created"`
	PerformanceMode string        `json:"performanceMode"`
	ThroughputMode  string        `json:"throughputMode"`
	Tags            []catalog.Tag `json:"tags,omitempty"`
	Key             string        `json:"key,omitempty"` // of KMS; empty: the root key
	MetadataKey     []byte        `json:"metadataKey"`   // wrapped
	DataKey         []byte        `json:"dataKey"`       // wrapped
}

// keyContext is the encryption context of a file system's data key.
func keyContext(id string) keyring.Context {
	return keyring.Context{"aws:elasticfilesystem:filesystem:id": id}
}

// metadataContext keeps the metadata key from being taken for the data key.
func metadataContext(id string) keyring.Context {
	ec := keyContext(id)
	ec["nfseal:purpose"] = "metadata"
	return ec
}

// wrapping makes and opens data keys: under the root key for file systems of old, under KMS keys for all
// others.
type wrapping struct {
	root keyring.Wrapper
	kms  *kms.Client
}

// newKeysFile makes two fresh keys for f, wrapped.
func (w *wrapping) newKeysFile(ctx context.Context, f *catalog.FileSystem) (*keysFile, error) {
	k := &keysFile{
		Format: keysFormat, ID: f.ID, CreationToken: f.CreationToken, Created: f.Created,
		PerformanceMode: f.PerformanceMode, ThroughputMode: f.ThroughputMode, Tags: f.Tags, Key: f.Key,
	}
	if f.Key == "" {
		k.Format = rootKeysFormat
	}
	var err error
	if k.MetadataKey, err = w.wrapNew(ctx, f.Key, metadataContext(f.ID)); err != nil {
		return nil, err
	}
	if k.DataKey, err = w.wrapNew(ctx, f.Key, keyContext(f.ID)); err != nil {
		return nil, err
	}
	return k, nil
}

// wrapNew makes a data key under the KMS key id, or under the root key if that is empty.
func (w *wrapping) wrapNew(ctx context.Context, id string, ec keyring.Context) ([]byte, error) {
	if id != "" {
		return w.kms.GenerateDataKeyWithoutPlaintext(ctx, id, ec)
	}
	key, err := keyring.NewDataKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	defer key.Close()
	return w.root.Wrap(ctx, key, ec)
}

// unwrapper is who opens the keys of k.
func (w *wrapping) unwrapper(k *keysFile) keyring.Unwrapper {
	if k.Key != "" {
		return w.kms
	}
	return w.root
}

// readKeysFile reads keys.json of the file system id.
func readKeysFile(path, id string) (*keysFile, error) {
	text, err := durable.ReadFile(path, maxJSONBytes)
	if err != nil {
		return nil, err
	}
	return parseKeysFile(text, path, id)
}

func parseKeysFile(text []byte, path, id string) (*keysFile, error) {
	var k keysFile
	if err := json.Unmarshal(text, &k); err != nil {
		return nil, fmt.Errorf("appliance: %s is damaged", path)
	}
	if k.Format > keysFormat {
		return nil, fmt.Errorf("%w: %s has format %d, this version knows %d", ErrNewerFormat, path, k.Format, keysFormat)
	}
	if k.Format < 1 || k.ID != id || len(k.MetadataKey) == 0 || len(k.DataKey) == 0 || (k.Key == "") != (k.Format == rootKeysFormat) {
		return nil, fmt.Errorf("appliance: %s is damaged, or is not of %s", path, id)
	}
	return &k, nil
}

// record is what a catalog is told of a file system that it does not know.
func (k *keysFile) record(unit string) catalog.FileSystem {
	return catalog.FileSystem{
		ID: k.ID, CreationToken: k.CreationToken, Created: k.Created, State: catalog.Available, Unit: unit,
		PerformanceMode: k.PerformanceMode, ThroughputMode: k.ThroughputMode, Tags: k.Tags, Key: k.Key,
	}
}

// unlocked is a file system's keys in memory.
type unlocked struct {
	metadata *keyring.DataKey
	data     *keyring.DataKey
}

func (w *wrapping) unlock(ctx context.Context, k *keysFile) (*unlocked, error) {
	unwrapper := w.unwrapper(k)
	metadata, err := unwrapper.Unwrap(ctx, k.MetadataKey, metadataContext(k.ID))
	if err != nil {
		return nil, fmt.Errorf("metadata key of %s: %w", k.ID, err)
	}
	data, err := unwrapper.Unwrap(ctx, k.DataKey, keyContext(k.ID))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("data key of %s: %w", k.ID, err), metadata.Close())
	}
	return &unlocked{metadata, data}, nil
}

// Close wipes both keys.
func (u *unlocked) Close() error { return errors.Join(u.metadata.Close(), u.data.Close()) }

// handleKey derives the key that authenticates file handles (HKDF-SHA-256 of the metadata key).
func (u *unlocked) handleKey(id string) (nfs4.HandleKey, error) {
	var key []byte
	var err error
	useErr := u.metadata.Use(func(secret []byte) {
		key, err = hkdf.Key(sha256.New, secret, nil, "nfseal file handles v1 "+id, nfs4.HandleKeyBytes)
	})
	return key, errors.Join(useErr, err)
}

// tagKey derives the key of the blocks' tags (HKDF-SHA-256 of the data key). The caller closes it.
func (u *unlocked) tagKey(id string) (*mac.Key, error) {
	var key *mac.Key
	var err error
	useErr := u.data.Use(func(secret []byte) {
		var derived []byte
		if derived, err = hkdf.Key(sha256.New, secret, nil, "nfseal block tags v1 "+id, mac.KeyBytes); err != nil {
			return
		}
		key, err = mac.New(derived)
		clear(derived)
	})
	return key, errors.Join(useErr, err)
}

// identity is what a file system calls itself to NFS clients: derived from its unit and its id
// alone, so that it is the same wherever the unit is served.
func identity(unit, id string) []byte { return []byte("nfseal/" + unit + "/" + id) }

// fsidOf is the number that clients tell file systems apart by.
func fsidOf(id string) nfs4.FSID {
	sum := sha256.Sum256([]byte("nfseal fsid v1 " + id))
	return nfs4.FSID{Major: binary.BigEndian.Uint64(sum[:8]), Minor: binary.BigEndian.Uint64(sum[8:16])}
}

// spaceOf names the file system's space on its unit's volume.
func spaceOf(id string) volume.SpaceID {
	sum := sha256.Sum256([]byte("nfseal space v1 " + id))
	return volume.SpaceID(sum[:16])
}
