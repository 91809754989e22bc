package kms

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/xtsengine/keyring"
)

func openKeys(t *testing.T, fs vfs.FS, root *RootKey) (*Keys, *catalog.Local) {
	t.Helper()
	store, err := catalog.OpenLocal(catalog.LocalOptions{FS: fs, Dir: "catalog"})
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKeys(KeysOptions{Store: store, Root: root, Region: "local-1", Account: "000000000000", Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return k, store
}

func rootForTest(t *testing.T) *RootKey {
	t.Helper()
	root, err := NewRootKey(bytes.Repeat([]byte{7}, KeyBytes))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// After a crash behind any step, torn as the disk likes, every key whose making was answered is there,
// and every ciphertext that was answered opens, whatever version made it.
func TestCrashLosesNoKey(t *testing.T) {
	root, ec := rootForTest(t), keyring.Context{"a": "b"}
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		fs := vfs.NewCrashableMem()
		k, store := openKeys(t, fs, root)
		var ids []string
		var blobs [][]byte
		for range 1 + rng.IntN(8) {
			if len(ids) == 0 || rng.IntN(3) == 0 {
				key, err := k.Create(t.Context(), "", "", nil)
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, key.ID)
			} else if _, err := k.Rotate(t.Context(), ids[rng.IntN(len(ids))]); err != nil {
				t.Fatal(err)
			}
			key, err := k.Find(t.Context(), ids[rng.IntN(len(ids))])
			if err != nil {
				t.Fatal(err)
			}
			blob, err := k.Encrypt(t.Context(), key, []byte("kept"), ec)
			if err != nil {
				t.Fatal(err)
			}
			blobs = append(blobs, blob)
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rand.New(rand.NewPCG(seed, 2))})
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		after, store := openKeys(t, crashed, root)
		if all, err := after.List(t.Context()); err != nil || len(all) != len(ids) {
			t.Errorf("seed %d: %d keys of %d, %v", seed, len(all), len(ids), err)
		}
		for i, blob := range blobs {
			if err := opens(t.Context(), after, blob, ec); err != nil {
				t.Errorf("seed %d: ciphertext %d: %v", seed, i, err)
			}
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func opens(ctx context.Context, k *Keys, blob []byte, ec keyring.Context) error {
	id, err := KeyOf(blob)
	if err != nil {
		return err
	}
	key, err := k.Find(ctx, id)
	if err != nil {
		return err
	}
	_, err = k.Decrypt(key, blob, ec)
	return err
}

// What is no name of an alias is refused in the words of KMS.
func TestAliasNames(t *testing.T) {
	for name, want := range map[string]string{
		"alias/a":                           "",
		"alias/a/_-9":                       "",
		"alias/" + strings.Repeat("a", 250): "",
		"alias/" + strings.Repeat("a", 251): "length less than or equal to 256",
		"alias/a!":                          "Value 'alias/a!' at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$",
		"":                                  "regular expression pattern",
		"alias/":                            "Invalid identifier",
		"a":                                 "Invalid identifier",
		"alias/a:b":                         "alias/a:b contains invalid characters for an alias",
		"alias/aws/x":                       "reserved",
	} {
		err := checkAlias(name)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

// No material and no plaintext is in a record, in any spelling.
func TestRecordsHoldNoMaterial(t *testing.T) {
	root := rootForTest(t)
	k, store := openKeys(t, vfs.NewMem(), root)
	defer store.Close()
	key, err := k.Create(t.Context(), "", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	material, err := root.open(kindSecret, key.Versions[0].Sealed, materialContext(key.ID, 1))
	if err != nil {
		t.Fatal(err)
	}
	kvs, _, err := store.Range(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	spelt, err := json.Marshal(material)
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range kvs {
		if bytes.Contains(kv.Value, material) || bytes.Contains(kv.Value, bytes.Trim(spelt, `"=`)) {
			t.Errorf("%s holds the material", kv.Key)
		}
	}
	if _, err := root.open(kindSecret, key.Versions[0].Sealed, materialContext(key.ID, 2)); err == nil {
		t.Error("the material opens as another version's")
	}
}

func FuzzDecrypt(f *testing.F) {
	root, err := NewRootKey(bytes.Repeat([]byte{7}, KeyBytes))
	if err != nil {
		f.Fatal(err)
	}
	k := &Keys{o: KeysOptions{Root: root, Clock: time.Now}}
	key := Key{ID: newUUID(), State: Enabled}
	if err := k.addVersion(&key, false); err != nil {
		f.Fatal(err)
	}
	good, err := k.Encrypt(context.Background(), key, []byte("x"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:ciphertextHeader])
	f.Fuzz(func(t *testing.T, blob []byte) {
		if plaintext, err := k.Decrypt(key, blob, nil); err == nil && !bytes.Equal(blob, good) {
			t.Errorf("%d bytes open that nobody made: %q", len(blob), plaintext)
		}
	})
}
