package appliance

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/durable"
	"github.com/nfseal/nfseal/appliance/kms"
	"github.com/nfseal/nfseal/appliance/trust"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/nfsclient"
)

// withCatalog lets change work on the catalog of a stopped appliance.
func withCatalog(t testing.TB, dir string, change func(*catalog.Catalog)) {
	t.Helper()
	d, err := openDataDir(t.Context(), dir, trust.Options{Kind: trust.KeyFile, Where: layout{dir}.rootKey()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	keys, err := kms.New(kms.Options{Root: d.root.key, Audit: &pendingLog{}})
	if err != nil {
		t.Fatal(err)
	}
	store, key, err := openCatalog(t.Context(), d.layout, keys, nil)
	if err != nil {
		t.Fatal(err)
	}
	change(catalog.New(store))
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	key.Close()
}

// TestCreationCutShort starts on what a crash leaves after each step of making a file system. The
// record was durable, so each start finishes the work.
func TestCreationCutShort(t *testing.T) {
	for _, left := range []string{"record", "empty directory", "key's copy", "keys", "store without its end", "all"} {
		t.Run(left, func(t *testing.T) {
			dir := t.TempDir()
			r := start(t, testOptions(dir))
			id := r.create(t, "a")
			fsDir, unit := r.units[0].fsDir(id), r.units[0].ID()
			r.stop(t)
			cutCreation(t, fsDir, left)
			withCatalog(t, dir, func(c *catalog.Catalog) { setState(t, c, id, catalog.Creating) })

			r = start(t, testOptions(dir))
			f, err := r.catalog.Get(t.Context(), id)
			if err != nil || f.State != catalog.Available || f.Unit != unit {
				t.Fatalf("%+v, %v", f, err)
			}
			if grants, err := r.kmsKeys.Grants(t.Context(), ""); err != nil || len(grants) != 1 {
				t.Errorf("%d grants for one file system, %v", len(grants), err)
			}
			c, root := r.mount(t, id)
			write(t, c, root, "file", "content")
			expect(t, c, root, "file", "content")
		})
	}
}

// cutCreation takes away what comes after the named step.
func cutCreation(t testing.TB, dir fsDir, left string) {
	t.Helper()
	var err error
	switch left {
	case "record":
		err = os.RemoveAll(string(dir))
	case "empty directory":
		err = os.RemoveAll(string(dir))
		if err == nil {
			err = os.Mkdir(string(dir), 0o700)
		}
	case "key's copy":
		err = errors.Join(os.RemoveAll(dir.meta()), os.Remove(dir.keys()))
	case "keys":
		err = os.RemoveAll(dir.meta())
	case "store without its end":
		err = os.Remove(filepath.Join(dir.meta(), "FORMAT"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func setState(t testing.TB, c *catalog.Catalog, id string, to catalog.State) {
	t.Helper()
	if _, err := c.SetState(t.Context(), id, to, catalog.Available, catalog.Creating, catalog.Deleting); err != nil {
		t.Fatal(err)
	}
}

// TestDeletionCutShort starts on what a crash leaves after each step of a deletion. Each start
// finishes it: nothing is left but another file system.
func TestDeletionCutShort(t *testing.T) {
	for _, left := range []string{"record", "destroyed keys", "freed blocks", "nothing"} {
		t.Run(left, func(t *testing.T) {
			dir := t.TempDir()
			r := start(t, testOptions(dir))
			free := r.units[0].view()
			id, other := r.create(t, "a"), r.create(t, "b")
			c, root := r.mount(t, id)
			write(t, c, root, "file", strings.Repeat("x", 4<<20))
			u := r.units[0]
			switch left {
			case "destroyed keys":
				u.mu.Lock()
				err := durable.Destroy(u.fsDir(id).keys())
				u.mu.Unlock()
				if err != nil {
					t.Fatal(err)
				}
			case "nothing":
				if err := u.Destroy(id); err != nil {
					t.Fatal(err)
				}
			case "freed blocks":
				u.mu.Lock()
				fs := u.served[id]
				delete(u.served, id)
				err := fs.Close()
				if err == nil {
					err = durable.Destroy(u.fsDir(id).keys())
				}
				if err == nil {
					err = u.volume.DestroySpace(spaceOf(id, 1))
				}
				u.mu.Unlock()
				if err != nil {
					t.Fatal(err)
				}
			}
			r.stop(t)
			withCatalog(t, dir, func(c *catalog.Catalog) { setState(t, c, id, catalog.Deleting) })

			r = start(t, testOptions(dir))
			list, err := r.FileSystems(t.Context())
			if err != nil || len(list) != 1 || list[0].ID != other {
				t.Fatalf("%+v, %v", list, err)
			}
			if _, err := os.Stat(string(r.units[0].fsDir(id))); err == nil {
				t.Error("the directory is still there")
			}
			if grants, err := r.kmsKeys.Grants(t.Context(), ""); err != nil || len(grants) != 1 {
				t.Errorf("%d grants for the other file system, %v", len(grants), err)
			}
			if now := r.units[0].view(); now.freeBytes() != free.freeBytes() {
				t.Errorf("%d bytes are free, %d were", now.freeBytes(), free.freeBytes())
			}
			if _, err := nfsclient.New(t.Context(), r.dial(t, id), nfsclient.Options{}); !isStatus(err, wire.NFS4ERR_ACCESS) {
				t.Errorf("mounting what was deleted: %v", err)
			}
			r.mount(t, other)
		})
	}
}

func TestMissingUnitIsReported(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	id := r.create(t, "a")
	unit := r.units[0].ID()
	r.stop(t)
	away := filepath.Join(t.TempDir(), "unit")
	if err := os.Rename(filepath.Join(dir, "units", unit), away); err != nil {
		t.Fatal(err)
	}
	r = start(t, testOptions(dir))
	status, err := r.Status(t.Context())
	if err != nil || len(status.FileSystems) != 1 || status.FileSystems[0].State != "error" || !strings.Contains(status.FileSystems[0].Reason, unit) {
		t.Fatalf("%+v, %v", status.FileSystems, err)
	}
	if err := r.DeleteFileSystem(t.Context(), id); err == nil {
		t.Error("deleted on a unit that is not here")
	}
	r.stop(t)
	if err := os.Rename(away, filepath.Join(dir, "units", unit)); err != nil {
		t.Fatal(err)
	}
	start(t, testOptions(dir)).mount(t, id)
}

// TestDamagedFileSystemDoesNotStopOthers breaks the metadata of one of two file systems.
func TestDamagedFileSystemDoesNotStopOthers(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	bad, good := r.create(t, "bad"), r.create(t, "good")
	meta := r.units[0].fsDir(bad).meta()
	r.stop(t)
	err := filepath.WalkDir(meta, func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), "MANIFEST-") {
			err = os.Truncate(path, 4096)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r = start(t, testOptions(dir))
	status, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range status.FileSystems {
		if want := map[string]string{bad: "error", good: "available"}[f.ID]; f.State != want {
			t.Errorf("%s is %s (%s), want %s", f.ID, f.State, f.Reason, want)
		}
	}
	r.mount(t, good)
}

// TestNoKeyIsAnywhere looks for the root key and every data key, in three encodings, in everything
// that the appliance writes and says.
func TestNoKeyIsAnywhere(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	id := r.create(t, "a")
	c, root := r.mount(t, id)
	write(t, c, root, "file", "content")
	text, err := os.ReadFile(r.dir.rootKey())
	if err != nil {
		t.Fatal(err)
	}
	rootKey, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if !holds(text, rootKey[:16]) {
		t.Fatal("the search misses the root key where it is")
	}
	secrets := map[string][]byte{"root key": rootKey}
	fs := r.units[0].served[id]
	fs.keys.data.Use(func(k []byte) { secrets["data key"] = bytes.Clone(k) })
	fs.keys.metadata.Use(func(k []byte) { secrets["metadata key"] = bytes.Clone(k) })
	r.catalogKey.Use(func(k []byte) { secrets["catalog key"] = bytes.Clone(k) })
	said := apiOutput(t, r)
	r.stop(t)
	for _, entry := range r.logs.All() {
		said += fmt.Sprintln(entry.Message, entry.Context)
	}
	where := map[string][]byte{"log and API": []byte(said)}
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || path == r.dir.rootKey() {
			return err
		}
		where[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for place, content := range where {
		for name, secret := range secrets {
			if holds(content, secret[:16]) || holds(content, secret[len(secret)-16:]) {
				t.Errorf("%s stands in %s", name, place)
			}
		}
	}
}

func holds(content, secret []byte) bool {
	digits := hex.EncodeToString(secret)
	return bytes.Contains(content, secret) || bytes.Contains(content, []byte(digits)) ||
		bytes.Contains(content, []byte(strings.ToUpper(digits))) || bytes.Contains(content, []byte(fmt.Sprint(secret)))
}

// apiOutput is all that the API says.
func apiOutput(t testing.TB, r *running) string {
	t.Helper()
	var all strings.Builder
	for _, path := range []string{"/metrics", "/healthz", "/nfseal/v1/status", "/2015-02-01/file-systems"} {
		w := httptest.NewRecorder()
		r.apiServer.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d", path, w.Code)
		}
		if _, err := io.Copy(&all, w.Body); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(all.String(), "nfseal_storage_bytes{file_system=\"fs-") {
		t.Error("the metrics do not tell what the file system holds")
	}
	return all.String()
}

func TestAuditTellsOfEveryKeyUse(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	c := api.NewClient(SocketPath(dir))
	defer c.Close()
	made, err := c.CreateFileSystem(t.Context(), api.CreateFileSystemRequest{CreationToken: "a"})
	if err != nil {
		t.Fatal(err)
	}
	r.stop(t)
	counts := map[string]int{}
	_, _, err = audit.Verify(filepath.Join(dir, "audit"), func(e *audit.Record) error {
		if e.Host != "box" {
			t.Errorf("host is %q", e.Host)
		}
		if e.Parameters["encryptionContext/aws:elasticfilesystem:filesystem:id"] == made.FileSystemID || e.Source != "kms" {
			counts[e.Name]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"StartDaemon": 1, "StopDaemon": 1, "CreateFileSystem": 1, "GenerateDataKeyWithoutPlaintext": 2, "Decrypt": 4}
	for name, n := range want {
		if counts[name] != n {
			t.Errorf("%d records of %s, want %d (%v)", counts[name], name, n, counts)
		}
	}
}

func TestNoServiceWithoutAuditLog(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	r.audit.Close() // what a full disk does, for good
	_, err := r.CreateFileSystem(t.Context(), catalog.FileSystem{CreationToken: "a", Created: time.Now()})
	if err == nil {
		t.Fatal("keys were made without a record")
	}
	list, err := r.FileSystems(t.Context())
	if err != nil || len(list) != 0 {
		t.Errorf("left behind: %+v, %v", list, err)
	}
	r.cancel()
	<-r.done
	r.Close() // can't record that either, and says so
	r.cancel = nil
}
