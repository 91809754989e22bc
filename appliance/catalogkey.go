package appliance

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/xtsengine/cryptfs"
	"github.com/nfseal/nfseal/xtsengine/keyring"
)

// catalogKeyFile is catalog/key.json.
type catalogKeyFile struct {
	Format int    `json:"format"`
	Key    []byte `json:"key"` // wrapped
}

const catalogKeyFormat = 1

var catalogContext = keyring.Context{"nfseal:purpose": "catalog"}

func readCatalogKey(l layout) (catalogKeyFile, error) {
	var f catalogKeyFile
	text, err := durable.ReadFile(l.catalogKey(), maxJSONBytes)
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(text, &f); err != nil || f.Format < 1 {
		return f, fmt.Errorf("appliance: %s is damaged", l.catalogKey())
	}
	if f.Format > catalogKeyFormat {
		return f, fmt.Errorf("%w: %s has format %d, this version knows %d", ErrNewerFormat, l.catalogKey(), f.Format, catalogKeyFormat)
	}
	return f, nil
}

// makeCatalogKey makes the key of a catalog that does not exist yet.
func makeCatalogKey(ctx context.Context, l layout, keys keyring.Wrapper) error {
	if _, err := os.Stat(l.store()); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("appliance: the key of the catalog, %s, is missing", l.catalogKey())
	}
	if err := durable.MakeDir(l.catalog(), 0o700); err != nil {
		return fmt.Errorf("appliance: %w", err)
	}
	key, err := keyring.NewDataKey(rand.Reader)
	if err != nil {
		return err
	}
	defer key.Close()
	wrapped, err := keys.Wrap(ctx, key, catalogContext)
	if err != nil {
		return err
	}
	return writeJSON(l.catalogKey(), catalogKeyFile{Format: catalogKeyFormat, Key: wrapped})
}

// openCatalog opens the catalog's store, and makes it at first. The key is the caller's, who closes
// it after the store.
func openCatalog(ctx context.Context, l layout, keys keyring.Wrapper, onFailure func(error)) (*catalog.Local, *keyring.DataKey, error) {
	f, err := readCatalogKey(l)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeCatalogKey(ctx, l, keys); err != nil {
			return nil, nil, err
		}
		f, err = readCatalogKey(l)
	}
	if err != nil {
		return nil, nil, err
	}
	return openCatalogAs(ctx, keys, f, catalog.LocalOptions{Dir: l.store(), OnFailure: onFailure})
}

// openCatalogAs opens the store that o says, whose file system it fills in.
func openCatalogAs(ctx context.Context, keys keyring.Unwrapper, f catalogKeyFile, o catalog.LocalOptions) (*catalog.Local, *keyring.DataKey, error) {
	key, err := keys.Unwrap(ctx, f.Key, catalogContext)
	if err != nil {
		return nil, nil, fmt.Errorf("key of the catalog: %w", err)
	}
	if o.FS, err = cryptfs.New(vfs.Default, key); err != nil {
		return nil, nil, errors.Join(err, key.Close())
	}
	store, err := catalog.OpenLocal(o)
	if err != nil {
		return nil, nil, errors.Join(err, key.Close())
	}
	return store, key, nil
}
