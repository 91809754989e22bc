package appliance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/appliance/trust"
	"github.com/nfseal/nfseal/xtsengine/filestore"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// TestRefusedInWordsWithNothingWritten damages a data directory in one way at a time. The start must
// say what is wrong, and every byte, mode and time must be as before.
func TestRefusedInWordsWithNothingWritten(t *testing.T) {
	sound := filepath.Join(t.TempDir(), "data")
	r := start(t, testOptions(sound))
	id := r.create(t, "a")
	c, root := r.mount(t, id)
	write(t, c, root, "file", "content")
	unit := r.units[0].ID()
	r.stop(t)

	inUnit := func(dir string, elem ...string) string {
		return filepath.Join(append([]string{dir, "units", unit}, elem...)...)
	}
	tests := []struct {
		name   string
		damage func(dir string) error
		want   error
		words  string
	}{
		{"missing key file", func(dir string) error { return os.Remove(filepath.Join(dir, "root.key")) }, trust.ErrNoKeyFile, "root.key"},
		{"another key file", func(dir string) error {
			path := filepath.Join(dir, "root.key")
			return errors.Join(os.Remove(path), trust.CreateKeyFile(path))
		}, ErrWrongKey, "was made with key"},
		{"key file that others can read", func(dir string) error { return os.Chmod(filepath.Join(dir, "root.key"), 0o644) }, trust.ErrKeyFileMode, "chmod 600"},
		{"key file cut short", func(dir string) error { return os.Truncate(filepath.Join(dir, "root.key"), 31) }, trust.ErrKeyFileShape, "root.key"},
		{"newer data directory", edit("nfseal.json", `"format": 1`, `"format": 4`), ErrNewerFormat, "format 4"},
		{"no next", edit("nfseal.json", `"format": 1`, `"format": 3`), nil, "damaged"},
		{"no recipients", edit("nfseal.json", `"format": 1`, `"format": 2`), nil, "damaged"},
		{"damaged manifest", edit("nfseal.json", `"rootKeyId"`, `"root"`), nil, "damaged"},
		{"truncated volume", func(dir string) error { return os.Truncate(inUnit(dir, "volume"), testVolumeBytes/2) }, volume.ErrTruncated, "volume"},
		{"no volume", func(dir string) error { return os.Truncate(inUnit(dir, "volume"), 0) }, nil, "volume"},
		{"missing volume", func(dir string) error { return os.Remove(inUnit(dir, "volume")) }, fs.ErrNotExist, "volume"},
		{"volume of something else", func(dir string) error { return os.WriteFile(inUnit(dir, "volume"), make([]byte, 1<<20), 0o600) }, volume.ErrForeign, "volume"},
		{"newer unit", edit("units/"+unit+"/unit.json", `"format": 1`, `"format": 9`), ErrNewerFormat, "format 9"},
		{"another unit's volume", edit("units/"+unit+"/unit.json", unit[:8], "00000000"), nil, "not named after"},
		{"newer keys", edit("units/"+unit+"/fs/"+id+"/keys.json", `"format": 2`, `"format": 4`), ErrNewerFormat, "format 4"},
		{"keys of another format", edit("units/"+unit+"/fs/"+id+"/keys.json", `"format": 2`, `"format": 3`), nil, "damaged"},
		{"tampered keys", swapKeys("units/" + unit + "/fs/" + id + "/keys.json"), kms.ErrInvalidCiphertext, id},
		{"newer metadata store", func(dir string) error { return newerPebble(inUnit(dir, "fs", id, "meta")) }, filestore.ErrNewerFormat, "newer"},
		{"newer catalog", func(dir string) error { return newerPebble(filepath.Join(dir, "catalog")) }, nil, "newer"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			copyTree(t, sound, dir)
			if err := test.damage(dir); err != nil {
				t.Fatal(err)
			}
			before := digest(t, dir)
			a, err := Open(t.Context(), testOptions(dir))
			if err == nil {
				a.Close()
				t.Fatal("started")
			}
			if test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.words) {
				t.Errorf("said %q; want %v and %q", err, test.want, test.words)
			}
			if digest(t, dir) != before {
				t.Error("the data directory was changed")
			}
		})
	}
}

// edit replaces text in a file of the data directory.
func edit(name, old, replacement string) func(dir string) error {
	return func(dir string) error {
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !strings.Contains(string(text), old) {
			return fmt.Errorf("%s does not hold %q", path, old)
		}
		return os.WriteFile(path, []byte(strings.Replace(string(text), old, replacement, 1)), 0o600)
	}
}

// swapKeys exchanges the two wrapped keys of a file system.
func swapKeys(name string) func(dir string) error {
	return func(dir string) error {
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var k keysFile
		if err := json.Unmarshal(text, &k); err != nil {
			return err
		}
		k.MetadataKey, k.DataKey = k.DataKey, k.MetadataKey
		return writeJSON(path, k)
	}
}

// newerPebble renames the marker that says which format a Pebble store below dir has.
func newerPebble(dir string) error {
	found := false
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !strings.HasPrefix(e.Name(), "marker.format-version.") {
			return err
		}
		found = true
		return os.Rename(path, filepath.Join(filepath.Dir(path), "marker.format-version.000099.099"))
	})
	if err == nil && !found {
		err = fmt.Errorf("no format marker below %s", dir)
	}
	return err
}

func TestSecondStartIsRefused(t *testing.T) {
	dir := t.TempDir()
	start(t, testOptions(dir))
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), testOptions(dir))
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", os.Getpid())) {
		t.Fatalf("said %v; want the pid %d", err, os.Getpid())
	}
	after, err := os.ReadDir(dir)
	if err != nil || len(before) != len(after) {
		t.Errorf("the refused start left %v of %v, %v", after, before, err)
	}
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.doc"), []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := digest(t, dir)
	if _, err := Open(t.Context(), testOptions(dir)); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "thesis.doc") {
		t.Fatalf("said %v", err)
	}
	if digest(t, dir) != before {
		t.Error("the directory was changed")
	}
}

func TestTooLargeAVolumeIsRefused(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(dir)
	o.VolumeBytes = 1 << 50
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "too little space") {
		t.Fatalf("said %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestTakenPortIsRefused(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	o := testOptions(t.TempDir())
	o.Listen = r.addresses()
	if _, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Fatalf("said %v", err)
	}
	if entries, _ := os.ReadDir(o.DataDir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// TestFirstStartCutShort starts on what a first start leaves that ended after each of its steps.
func TestFirstStartCutShort(t *testing.T) {
	whole := filepath.Join(t.TempDir(), "data")
	start(t, testOptions(whole)).stop(t)
	steps := []string{"root.key", "nfseal.json", "lock", "audit", "catalog/key.json", "catalog/store", "pki"}
	for i := range steps {
		dir := filepath.Join(t.TempDir(), "data")
		if err := os.MkdirAll(filepath.Join(dir, "catalog"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range steps[:i+1] {
			from, to := filepath.Join(whole, name), filepath.Join(dir, name)
			info, err := os.Stat(from)
			if err != nil {
				t.Fatal(err)
			}
			if info.IsDir() {
				copyTree(t, from, to)
				continue
			}
			content, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(to, content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if i < 4 {
			if err := os.Remove(filepath.Join(dir, "catalog")); err != nil {
				t.Fatal(err)
			}
		}
		unfinished := filepath.Join(dir, "units", "0"+unfinishedSuffix)
		if i == len(steps)-1 {
			if err := os.MkdirAll(unfinished, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		r := start(t, testOptions(dir))
		r.create(t, "a")
		r.stop(t)
		if _, err := os.Stat(unfinished); err == nil {
			t.Error("half a unit was left")
		}
	}
}
