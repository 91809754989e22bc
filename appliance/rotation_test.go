package appliance

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/appliance/trust"
	"github.com/nfseal/nfseal/xtsengine/cryptfs"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// rotate begins a rotation of data keys, at a pace that a test need not wait for.
func (r *running) rotate(t testing.TB, id string) api.DataKeys {
	t.Helper()
	d, err := r.ChangeDataKeys(t.Context(), id, api.DataKeyRequest{Action: api.DataKeyRotate, BytesPerSecond: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// awaitKeys waits until a rotation is in a state.
func (r *running) awaitDataKeys(t testing.TB, id, state string) api.DataKeys {
	t.Helper()
	var d api.DataKeys
	var err error
	for range 4000 {
		if d, err = r.DataKeysOf(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if d.State == state {
			return d
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the rotation is %+v, want %s", d, state)
	return d
}

// pauseRotation begins one that waits after its first piece.
func (r *running) pauseRotation(t testing.TB, id string) {
	t.Helper()
	if _, err := r.ChangeDataKeys(t.Context(), id, api.DataKeyRequest{Action: api.DataKeyRotate, BytesPerSecond: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ChangeDataKeys(t.Context(), id, api.DataKeyRequest{Action: api.DataKeyPause}); err != nil {
		t.Fatal(err)
	}
}

// resumeRotation lets one go on at a pace that a test need not wait for.
func (r *running) resumeRotation(t testing.TB, id string) {
	t.Helper()
	if _, err := r.ChangeDataKeys(t.Context(), id, api.DataKeyRequest{Action: api.DataKeyResume, BytesPerSecond: 1 << 40}); err != nil {
		t.Fatal(err)
	}
}

// TestRotationFile: what was wanted of another rotation is void, and what can't be read is an error.
func TestRotationFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rotation.json")
	usual := rotationFile{Format: rotationFormat, Number: 2, BytesPerSecond: defaultRotationBytes}
	for text, want := range map[string]rotationFile{
		"": usual,
		`{"format":1,"number":2,"paused":true,"bytesPerSecond":5}`: {1, 2, true, 5},
		`{"format":1,"number":1,"paused":true,"bytesPerSecond":5}`: usual,
	} {
		if text != "" {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := readRotationFile(path, 2); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
		_ = os.Remove(path)
	}
	for _, text := range []string{"", "{", `{"format":2,"number":2,"bytesPerSecond":5}`, `{"format":1,"number":2}`, `{"format":1,"number":2,"bytesPerSecond":-1}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readRotationFile(path, 2); err == nil {
			t.Errorf("%q was taken: %+v", text, got)
		}
	}
}

// TestRotateDataKeys gives a file system new data keys twice, while a client works: what it holds stays, its
// handles too, and what is left on the machine opens nothing of before.
func TestRotateDataKeys(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	id, _ := r.createUnder(t, "a")
	c, root := r.mount(t, id)
	big := strings.Repeat("sixteen letters,", 3<<20/16)
	write(t, c, root, "big", big)
	write(t, c, root, "small", "a few words")
	u := r.units[0]
	path := u.fsDir(id).keys()
	before, err := readKeysFile(path, id)
	if err != nil {
		t.Fatal(err)
	}
	kept := t.TempDir() // a thief's copy of before
	copyTree(t, u.dir, filepath.Join(kept, "unit"))

	if d := r.rotate(t, id); d.Number != 2 || d.Retired != 1 || d.BytesTotal < uint64(len(big)) {
		t.Errorf("begun: %+v", d)
	}
	for n := range 20 {
		write(t, c, root, "meanwhile", strings.Repeat("x", 1000*n))
		expect(t, c, root, "small", "a few words")
	}
	if d := r.awaitDataKeys(t, id, api.DataKeyDone); d.Retired != 0 || d.BytesLeft != 0 || d.Percent() != 100 || d.Ended.IsZero() {
		t.Errorf("done: %+v", d)
	}
	expect(t, c, root, "big", big)
	after, err := readKeysFile(path, id)
	if err != nil || after.Format != listedKeysFormat || len(after.DataKeys) != 1 || after.current().Number != 2 {
		t.Fatalf("%+v, %v", after, err)
	}
	if hasSpace(u.volume, spaceOf(id, 1)) || !hasSpace(u.volume, spaceOf(id, 2)) {
		t.Error("the chunks are not those of the second keys")
	}
	if got := len(r.lookup(t, "DataKeysDestroyed")); got != 1 {
		t.Errorf("%d ends of data keys are on record", got)
	}
	if got := len(r.lookup(t, "GenerateDataKeyWithoutPlaintext")); got != 4 {
		t.Errorf("%d data keys are on record, want 4", got)
	}
	r.expectUndecipherable(t, filepath.Join(kept, "unit"), id, before, after)

	r.rotate(t, id)
	r.awaitDataKeys(t, id, api.DataKeyDone)
	if hasSpace(u.volume, spaceOf(id, 2)) {
		t.Error("the second keys' chunks are there yet")
	}
	expect(t, c, root, "big", big)
	r.stop(t)
	wanted := [][]byte{before.DataKey, before.MetadataKey, after.DataKeys[0].DataKey, after.DataKeys[0].MetadataKey}
	expectNowhere(t, dir, wanted)

	r = start(t, testOptions(dir))
	again, _ := r.mount(t, id)
	expect(t, again, root, "big", big) // by the handle of before
	expect(t, again, root, "small", "a few words")
	if d, err := r.DataKeysOf(t.Context(), id); err != nil || d.Number != 3 || d.State != api.DataKeyNone {
		t.Errorf("after another start: %+v, %v", d, err)
	}
}

// expectUndecipherable tries what is left on what was kept of before.
func (r *running) expectUndecipherable(t *testing.T, kept, id string, before, after *keysFile) {
	t.Helper()
	u := r.units[0]
	now, err := u.wrapping().unlock(t.Context(), after)
	if err != nil {
		t.Fatal(err)
	}
	defer now.Close()
	old, err := u.wrapping().unlock(t.Context(), before) // so that the test knows what there is to be found
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	theirs, err := cryptfs.New(pebblevfs.Default, old.metadata)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := cryptfs.New(pebblevfs.Default, now.metadata)
	if err != nil {
		t.Fatal(err)
	}
	db := filepath.Join(kept, "fs", id, "meta", "db")
	opened := 0
	entries, err := os.ReadDir(db)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Size() == 0 {
			continue
		}
		name := filepath.Join(db, e.Name())
		if f, err := theirs.Open(name); err == nil {
			opened++
			f.Close()
		}
		if f, err := ours.Open(name); !errors.Is(err, cryptfs.ErrWrongKey) {
			t.Errorf("%s of before: %v, %v", name, f, err)
		}
	}
	if opened == 0 {
		t.Error("there is nothing of before")
	}
	if bytes.Equal(secretOf(t, now.data.Use), secretOf(t, old.data.Use)) || bytes.Equal(secretOf(t, now.metadata.Use), secretOf(t, old.metadata.Use)) {
		t.Error("a key is the old one")
	}
	if !bytes.Equal(now.handle, old.handle) {
		t.Error("clients' handles are void")
	}
}

func secretOf(t *testing.T, use func(func([]byte)) error) (key []byte) {
	t.Helper()
	if err := use(func(b []byte) { key = bytes.Clone(b) }); err != nil {
		t.Fatal(err)
	}
	return key
}

// expectNowhere looks for wrapped keys in every file of a data directory but the audit log, which names none.
func expectNowhere(t *testing.T, dir string, wrapped [][]byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		for _, w := range wrapped {
			if bytes.Contains(content, w) || bytes.Contains(content, []byte(base64.StdEncoding.EncodeToString(w))) {
				t.Errorf("%s holds a key that was destroyed", path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRotationGoesOn stops the daemon, and takes the KMS key away, in the middle of a rotation.
func TestRotationGoesOn(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	id, key := r.createUnder(t, "a")
	c, root := r.mount(t, id)
	content := strings.Repeat("sixteen letters,", 2<<20/16)
	write(t, c, root, "file", content)
	r.pauseRotation(t, id)
	if _, err := r.ChangeDataKeys(t.Context(), id, api.DataKeyRequest{Action: api.DataKeyRotate}); err == nil {
		t.Error("two at a time")
	}
	keys := r.units[0].served[id].keys
	r.changeKey(t, key, (*kms.Key).Disable)
	r.awaitSealed(t, id, true)
	if err := keys.retired.data.Use(func([]byte) {}); err == nil {
		t.Error("a retired key is still in memory")
	}
	if d := r.awaitDataKeys(t, id, api.DataKeyStopped); d.Retired != 1 {
		t.Errorf("without the key: %+v", d)
	}
	if _, err := r.ChangeDataKeys(t.Context(), id, api.DataKeyRequest{Action: api.DataKeyRotate}); !errors.Is(err, ErrNotServing) {
		t.Errorf("a rotation without the key: %v", err)
	}
	r.changeKey(t, key, (*kms.Key).Enable)
	r.awaitSealed(t, id, false)
	expect(t, c, root, "file", content)
	if d := r.awaitDataKeys(t, id, api.DataKeyPaused); d.BytesPerSecond != 64<<10 {
		t.Errorf("with the key again: %+v", d)
	}
	slow := api.DataKeyRequest{Action: api.DataKeyResume, BytesPerSecond: 1 << 10}
	if _, err := r.ChangeDataKeys(t.Context(), id, slow); err != nil {
		t.Errorf("it does not go on with the key: %v", err)
	}
	r.stop(t)
	if k, err := readKeysFile(r.units[0].fsDir(id).keys(), id); err != nil || k.retired() == nil {
		t.Fatalf("two pairs of keys: %+v, %v", k, err)
	}

	if checks, err := Fsck(t.Context(), testOptions(dir), false); err != nil || !sound(checks) {
		t.Errorf("in the middle: %+v, %v", checks, err)
	}
	r = start(t, testOptions(dir))
	if d, err := r.DataKeysOf(t.Context(), id); err != nil || d.State != api.DataKeyRunning || d.BytesPerSecond != 1<<10 {
		t.Errorf("the pace after another start: %+v, %v", d, err)
	}
	if _, err := r.ChangeDataKeys(t.Context(), id, api.DataKeyRequest{Action: api.DataKeyPause}); err != nil {
		t.Errorf("a pause: %v", err)
	}
	r.stop(t)

	r = start(t, testOptions(dir))
	if d, err := r.DataKeysOf(t.Context(), id); err != nil || d.State != api.DataKeyPaused || d.Retired != 1 || d.BytesLeft == 0 {
		t.Errorf("the pause after another start: %+v, %v", d, err)
	}
	r.resumeRotation(t, id)
	r.awaitDataKeys(t, id, api.DataKeyDone)
	if _, err := os.Stat(r.units[0].fsDir(id).rotation()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was wanted of the rotation is kept: %v", err)
	}
	c, root = r.mount(t, id)
	expect(t, c, root, "file", content)
	r.stop(t)
	if checks, err := Fsck(t.Context(), testOptions(dir), false); err != nil || !sound(checks) {
		t.Errorf("at the end: %+v, %v", checks, err)
	}
}

// sound says that no check found anything.
func sound(checks []api.Check) bool {
	for _, c := range checks {
		if c.Found != 0 || c.Failure != "" {
			return false
		}
	}
	return len(checks) > 0
}

// TestRotationCutShort copies the data directory while a rotation is under way, as a kill of the daemon
// would leave it but for what the kernel has, and has another daemon end it; or the file system deleted.
func TestRotationCutShort(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	id := r.create(t, "a")
	c, root := r.mount(t, id)
	content := strings.Repeat("sixteen letters,", 1<<20/16)
	write(t, c, root, "file", content)
	r.pauseRotation(t, id)
	r.stop(t)

	gone := filepath.Join(t.TempDir(), "data")
	copyTree(t, dir, gone)
	left := filepath.Join(gone, "units", r.units[0].ID(), "fs", id, "keys.json.destroyed")
	if err := os.WriteFile(left, []byte("what a rotation left of keys"), 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, testOptions(gone))
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("old keys are there yet: %v", err)
	}
	if err := r.DeleteFileSystem(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for _, owner := range spacesOf(id) {
		if hasSpace(r.units[0].volume, owner) {
			t.Errorf("chunks of %v are left", owner)
		}
	}
}

// TestRotationWithoutRoom is refused in words, and changes nothing.
func TestRotationWithoutRoom(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	id := r.create(t, "a")
	c, root := r.mount(t, id)
	write(t, c, root, "file", strings.Repeat("sixteen letters,", 8<<20/16))
	_, err := r.ChangeDataKeys(t.Context(), id, api.DataKeyRequest{Action: api.DataKeyRotate})
	var refused *api.Error
	if !errors.As(err, &refused) || refused.Code != "InsufficientVolumeCapacity" || !strings.Contains(refused.Message, "volume grow") {
		t.Errorf("without room: %v", err)
	}
	if k, err := readKeysFile(r.units[0].fsDir(id).keys(), id); err != nil || k.Format != kmsKeysFormat {
		t.Errorf("%+v, %v", k, err)
	}
}

// TestRotateUnderTheRootKey is for a file system of old, whose root key then moves.
func TestRotateUnderTheRootKey(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	f, err := r.catalog.Create(t.Context(), catalog.FileSystem{CreationToken: "old", Created: time.Now().UTC(), Unit: r.units[0].ID()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.make(t.Context(), r.units[0], &f); err != nil {
		t.Fatal(err)
	}
	c, root := r.mount(t, f.ID)
	write(t, c, root, "file", "content")
	r.rotate(t, f.ID)
	r.awaitDataKeys(t, f.ID, api.DataKeyDone)
	r.pauseRotation(t, f.ID)
	r.stop(t)
	root2 := trust.Options{Kind: trust.KeyFile, Where: filepath.Join(t.TempDir(), "root.key")}
	if _, err := MoveRoot(context.Background(), testOptions(dir), root2); err != nil {
		t.Fatal(err)
	}
	o := testOptions(dir)
	o.Root = root2
	r = start(t, o)
	r.resumeRotation(t, f.ID)
	r.awaitDataKeys(t, f.ID, api.DataKeyDone)
	c, root = r.mount(t, f.ID)
	expect(t, c, root, "file", "content")
}

// TestHandleKeySeal: the key of file handles comes back from under a metadata key, and from no other.
func TestHandleKeySeal(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	id := r.create(t, "a")
	keys := r.units[0].served[id].keys
	sealed, err := keys.sealHandleKey(id, keys.handle)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := keys.openHandleKey(id, sealed); err != nil || !bytes.Equal(got, keys.handle) {
		t.Errorf("it does not come back: %v", err)
	}
	other := keyPair{metadata: keys.data}
	if _, err := other.openHandleKey(id, sealed); err == nil {
		t.Error("another key opens it")
	}
	for _, damaged := range [][]byte{nil, sealed[:5], append([]byte{sealed[0] ^ 1}, sealed[1:]...), sealed[:len(sealed)-1]} {
		if _, err := keys.openHandleKey(id, damaged); err == nil {
			t.Errorf("%d bytes were taken", len(damaged))
		}
	}
	if _, err := keys.openHandleKey("fs-other", sealed); err == nil {
		t.Error("it opens for another file system")
	}
	if spaceOf(id, 1) == spaceOf(id, 2) || spaceOf(id, 1) != spaceOf(id, 3) || spaceOf(id, 2) == (volume.SpaceID{}) {
		t.Error("spaces of data keys")
	}
}
