package appliance

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
)

// createUnder makes a key and a file system under it.
func (r *running) createUnder(t testing.TB, token string) (id string, key kms.Key) {
	t.Helper()
	key, err := r.kmsKeys.Create(t.Context(), token, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.CreateFileSystem(t.Context(), catalog.FileSystem{CreationToken: token, Key: key.ID})
	if err != nil {
		t.Fatal(err)
	}
	return f.ID, key
}

// awaitSealed waits until the I/O of a file system has stopped, or goes on.
func (r *running) awaitSealed(t testing.TB, id string, want bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		v := r.units[0].view()
		if _, sealed := v.sealed[id]; sealed == want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("sealed: %v, want %v", !want, want)
		}
	}
}

func (r *running) changeKey(t testing.TB, key kms.Key, change func(*kms.Key) error) {
	t.Helper()
	if _, err := r.kmsKeys.Change(t.Context(), key.ID, change); err != nil {
		t.Fatal(err)
	}
}

// Whatever takes the key away, the file system's clients are told NFS4ERR_IO, its keys are gone from memory,
// and giving it back lets them go on: session, open files, locks, and a file that has no name any more.
func TestIOFollowsTheKey(t *testing.T) {
	const deny = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"kms:Decrypt","Resource":"*"}]}`
	r := start(t, testOptions(t.TempDir()))
	id, key := r.createUnder(t, "a")
	other := r.create(t, "b")
	for name, c := range map[string]struct{ take, give func() error }{
		"disabled": {
			func() error { _, err := r.kmsKeys.Change(t.Context(), key.ID, (*kms.Key).Disable); return err },
			func() error { _, err := r.kmsKeys.Change(t.Context(), key.ID, (*kms.Key).Enable); return err },
		},
		"pending deletion": {
			func() error { _, err := r.kmsKeys.ScheduleDeletion(t.Context(), key.ID, 7); return err },
			func() error {
				_, err := r.kmsKeys.Change(t.Context(), key.ID, (*kms.Key).CancelDeletion)
				_, enableErr := r.kmsKeys.Change(t.Context(), key.ID, (*kms.Key).Enable)
				return errors.Join(err, enableErr)
			},
		},
		"denied": {
			func() error {
				_, err := r.kmsKeys.Change(t.Context(), key.ID, func(k *kms.Key) error { return k.SetPolicy(deny) })
				return err
			},
			func() error {
				_, err := r.kmsKeys.Change(t.Context(), key.ID, func(k *kms.Key) error { return k.SetPolicy(key.Policy) })
				return err
			},
		},
		"without its grant": {
			func() error { return r.kms.Retire(t.Context(), key.ID, id) },
			func() error { return r.grantKey(t.Context(), &catalog.FileSystem{ID: id, Key: key.ID}) },
		},
	} {
		t.Run(name, func(t *testing.T) { stopAndGoOn(t, r, id, other, c.take, c.give) })
	}
}

func stopAndGoOn(t *testing.T, r *running, id, other string, take, give func() error) {
	ctx := t.Context()
	c, root := r.mount(t, id)
	write(t, c, root, "kept", "as it was")
	f, _, err := c.Open(ctx, root, "nameless", nfsclient.OpenOptions{Read: true, Write: true, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	before, err := f.WriteAt(ctx, bytes.Repeat([]byte("u"), 100_000), 0, wire.UNSTABLE4)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Lock(ctx, nfsclient.Range{Length: 10, Write: true}), c.Remove(ctx, root, "nameless")); err != nil {
		t.Fatal(err)
	}
	fs := r.units[0].served[id]
	keys := fs.keys
	if err := take(); err != nil {
		t.Fatal(err)
	}
	r.awaitSealed(t, id, true)
	if err := keys.data.Use(func([]byte) {}); err == nil {
		t.Error("the data key is still in memory")
	}
	if err := keys.metadata.Use(func([]byte) {}); err == nil {
		t.Error("the metadata key is still in memory")
	}
	if err := c.WriteFile(ctx, root, "no", []byte("x"), 0o644); !isStatus(err, wire.NFS4ERR_IO) {
		t.Errorf("a write without a key: %v", err)
	}
	if _, err := c.ReadFile(ctx, root, "kept"); !isStatus(err, wire.NFS4ERR_IO) {
		t.Errorf("a read without a key: %v", err)
	}
	if _, err := f.Commit(ctx, 0, 0); !isStatus(err, wire.NFS4ERR_IO) {
		t.Errorf("a commit without a key: %v", err)
	}
	status, err := r.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range status.FileSystems {
		if want := map[string]string{id: "error", other: "available"}[s.ID]; s.State != want {
			t.Errorf("%s is %s: %s", s.ID, s.State, s.Reason)
		}
	}
	time.Sleep(3 * time.Second) // longer than a lease: the client renews it, and keeps what it has
	if err := give(); err != nil {
		t.Fatal(err)
	}
	r.awaitSealed(t, id, false)
	expect(t, c, root, "kept", "as it was")
	p := make([]byte, 100_000)
	if n, _, err := f.ReadAt(ctx, p, 0); err != nil || n != len(p) || p[0] != 'u' || p[n-1] != 'u' {
		t.Errorf("the open file without a name: %d bytes, %v", n, err)
	}
	if v, err := f.Commit(ctx, 0, 0); err != nil || v != before.Verifier {
		t.Errorf("what was written before the stop has to be sent again: %v", err)
	}
	if _, err := f.WriteAt(ctx, []byte("goes on"), 0, wire.FILE_SYNC4); err != nil {
		t.Error(err)
	}
	if err := errors.Join(f.Unlock(ctx, nfsclient.Range{Length: 10, Write: true}), f.Close(ctx), c.Close()); err != nil {
		t.Error(err)
	}
}

// A file system whose key can't be used at the start is served when it can; data keys of all versions of
// its key open.
func TestKeyBackAfterTheStart(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	id, key := r.createUnder(t, "a")
	c, root := r.mount(t, id)
	write(t, c, root, "file", "content")
	for range 2 {
		if _, err := r.kmsKeys.Rotate(t.Context(), key.ID); err != nil {
			t.Fatal(err)
		}
	}
	r.changeKey(t, key, (*kms.Key).Disable)
	r.stop(t)
	r = start(t, testOptions(dir))
	var refused *kms.Fault
	if v := r.units[0].view(); !errors.As(v.broken[id], &refused) || refused.Code != "DisabledException" {
		t.Fatalf("served without its key: %v", v.broken)
	}
	r.changeKey(t, key, (*kms.Key).Enable)
	for end := time.Now().Add(30 * time.Second); len(r.units[0].view().served) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not served with its key")
		}
	}
	c, root = r.mount(t, id)
	expect(t, c, root, "file", "content")
}

// When a key is deleted nothing opens the file systems under it any more: no record, no copy beside them.
func TestDeletedKey(t *testing.T) {
	dir, ahead := t.TempDir(), time.Duration(0)
	o := testOptions(dir)
	r := start(t, o)
	id, key := r.createUnder(t, "a")
	if _, err := os.Stat(r.units[0].fsDir(id).key()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.kmsKeys.ScheduleDeletion(t.Context(), key.ID, 7); err != nil {
		t.Fatal(err)
	}
	r.stop(t)
	ahead = 8 * 24 * time.Hour
	o.Clock = func() time.Time { return time.Now().Add(ahead) }
	r = start(t, o)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, found, _, err := r.store.Get(t.Context(), "kms/key/"+key.ID); err == nil && !found {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the key is still on record")
		}
	}
	if _, err := os.Stat(r.units[0].fsDir(id).key()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the copy beside the file system: %v", err)
	}
	if err := r.DeleteFileSystem(t.Context(), id); err != nil {
		t.Errorf("what can't be read can't be deleted: %v", err)
	}
}

// A file system from before there were KMS keys is under the root key, and stays readable.
func TestFileSystemUnderTheRootKey(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	f := catalog.FileSystem{CreationToken: "old", Created: time.Now().UTC(), Unit: r.units[0].ID()}
	f, err := r.catalog.Create(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.make(t.Context(), r.units[0], &f); err != nil {
		t.Fatal(err)
	}
	c, root := r.mount(t, f.ID)
	write(t, c, root, "file", "content")
	if k, err := readKeysFile(r.units[0].fsDir(f.ID).keys(), f.ID); err != nil || k.Format != rootKeysFormat {
		t.Errorf("%+v, %v", k, err)
	}
	r.stop(t)
	r = start(t, testOptions(dir))
	c, root = r.mount(t, f.ID)
	expect(t, c, root, "file", "content")
	if err := r.DeleteFileSystem(t.Context(), f.ID); err != nil {
		t.Error(err)
	}
}

// Each file system has one grant, from its making to its end, and a creation that fails leaves none.
func TestOneGrantAFileSystem(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	id, key := r.createUnder(t, "a")
	count := func(want int) {
		t.Helper()
		grants, err := r.kmsKeys.Grants(t.Context(), "")
		if err != nil || len(grants) != want {
			t.Errorf("%d grants, want %d, %v", len(grants), want, err)
		}
	}
	count(1)
	r.changeKey(t, key, (*kms.Key).Disable)
	if _, err := r.CreateFileSystem(t.Context(), catalog.FileSystem{CreationToken: "b", Key: key.ID}); err == nil {
		t.Error("made under a disabled key")
	}
	count(1)
	if list, err := r.FileSystems(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	r.awaitSealed(t, id, true)
	if err := r.DeleteFileSystem(t.Context(), id); err != nil {
		t.Error(err)
	}
	count(0)
}
