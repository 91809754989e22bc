package appliance

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// keysFormat is the newest version of keys.json. Version 1 has data keys under the root key, version 2
// under a KMS key, version 3, of file systems that were given others, a list of them under either.
const (
	rootKeysFormat   = 1
	kmsKeysFormat    = 2
	listedKeysFormat = 3
	keysFormat       = listedKeysFormat
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
	// MetadataKey and DataKey are wrapped; in listedKeysFormat DataKeys has them.
	MetadataKey []byte     `json:"metadataKey,omitempty"`
	DataKey     []byte     `json:"dataKey,omitempty"`
	DataKeys    []dataKeys `json:"dataKeys,omitempty"`
	// HandleKey is the key of file handles, sealed under the current metadata key; without it, it is derived
	// from that.
	HandleKey []byte `json:"handleKey,omitempty"`
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
		Format: kmsKeysFormat, ID: f.ID, CreationToken: f.CreationToken, Created: f.Created,
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
	if k.Format < 1 || k.ID != id || !k.sound() {
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

// identity is what a file system calls itself to NFS clients: derived from its unit and its id
// alone, so that it is the same wherever the unit is served.
func identity(unit, id string) []byte { return []byte("nfseal/" + unit + "/" + id) }

// fsidOf is the number that clients tell file systems apart by.
func fsidOf(id string) nfs4.FSID {
	sum := sha256.Sum256([]byte("nfseal fsid v1 " + id))
	return nfs4.FSID{Major: binary.BigEndian.Uint64(sum[:8]), Minor: binary.BigEndian.Uint64(sum[8:16])}
}
