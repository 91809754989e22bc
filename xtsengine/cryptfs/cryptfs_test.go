package cryptfs

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/xtsengine/keyring"
)

func newKey(t testing.TB) *keyring.DataKey {
	t.Helper()
	k, err := keyring.NewDataKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func newFS(t testing.TB, base vfs.FS, key *keyring.DataKey) *FS {
	t.Helper()
	fs, err := New(base, key)
	if err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestPebbleReopens(t *testing.T) {
	base, key := vfs.NewMem(), newKey(t)
	for range 2 {
		db, err := pebble.Open("db", &pebble.Options{FS: newFS(t, base, key)})
		if err != nil {
			t.Fatal(err)
		}
		if v, c, err := db.Get([]byte("name")); err == nil {
			if !bytes.Equal(v, []byte("value")) {
				t.Fatalf("got %q", v)
			}
			_ = c.Close()
		}
		if err := db.Set([]byte("name"), []byte("value"), pebble.Sync); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
