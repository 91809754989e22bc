package apitest

import (
	"bytes"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/kms"
)

// NewKeys returns the keys of a KMS that has none yet, over a catalog in memory; the end of the test closes that.
func NewKeys(t testing.TB, region string, clock func() time.Time) *kms.Keys {
	t.Helper()
	store, err := catalog.OpenLocal(catalog.LocalOptions{FS: vfs.NewMem(), Dir: "catalog"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	root, err := kms.NewRootKey(bytes.Repeat([]byte{7}, kms.KeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := kms.NewKeys(kms.KeysOptions{Store: store, Root: root, Region: region, Account: "000000000000", Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
