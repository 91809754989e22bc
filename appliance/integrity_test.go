package appliance

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/xtsengine/volume"
)

// scrubEnds waits for the end of a scrub.
func (r *running) scrubEnds(t testing.TB, id string) api.Scrub {
	t.Helper()
	for range 2000 {
		s, err := r.ScrubOf(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if !s.Ended.IsZero() {
			return s
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the scrub does not end")
	return api.Scrub{}
}

// TestScrubLife starts, pauses, resumes and cancels a scrub, goes on where it stopped, and has one end
// because the unit stops.
func TestScrubLife(t *testing.T) {
	r := start(t, testOptions(t.TempDir()))
	id := r.create(t, "a")
	c, root := r.mount(t, id)
	content := strings.Repeat("sixteen letters,", 4<<20/16)
	write(t, c, root, "file", content)
	if _, err := r.ScrubOf(t.Context(), id); err == nil {
		t.Error("there is a scrub before one was started")
	}
	change := func(a api.ScrubAction, rate uint64, from api.ScrubPosition) (api.Scrub, error) {
		return r.ChangeScrub(t.Context(), id, api.ScrubRequest{Action: a, BytesPerSecond: rate, From: from})
	}
	must := func(a api.ScrubAction, rate uint64, from api.ScrubPosition) api.Scrub {
		t.Helper()
		s, err := change(a, rate, from)
		if err != nil {
			t.Fatalf("%s: %v", a, err)
		}
		return s
	}
	if s := must(api.ScrubStart, 1<<10, api.ScrubPosition{}); s.State != api.ScrubRunning || s.BytesTotal < uint64(len(content)) {
		t.Errorf("started: %+v", s)
	}
	if _, err := change(api.ScrubStart, 0, api.ScrubPosition{}); err == nil {
		t.Error("two at a time")
	}
	if s := must(api.ScrubPause, 0, api.ScrubPosition{}); s.State != api.ScrubPaused {
		t.Errorf("paused: %+v", s)
	}
	if _, err := change(api.ScrubPause, 0, api.ScrubPosition{}); err == nil {
		t.Error("paused twice")
	}
	if s := must(api.ScrubResume, 2<<20, api.ScrubPosition{}); s.State != api.ScrubRunning || s.BytesPerSecond != 2<<20 {
		t.Errorf("resumed: %+v", s)
	}
	for s := must(api.ScrubPause, 0, api.ScrubPosition{}); s.BytesRead == 0; { // until it has read something
		must(api.ScrubResume, 2<<20, api.ScrubPosition{})
		time.Sleep(20 * time.Millisecond)
		s = must(api.ScrubPause, 0, api.ScrubPosition{})
	}
	first := must(api.ScrubCancel, 0, api.ScrubPosition{})
	if first.State != api.ScrubCancelled || first.Ended.IsZero() || first.At == (api.ScrubPosition{}) || first.BytesRead >= uint64(len(content)) {
		t.Errorf("cancelled: %+v", first)
	}
	must(api.ScrubStart, 1<<40, first.At)
	rest := r.scrubEnds(t, id)
	if rest.State != api.ScrubDone || rest.BadBlocks != 0 || first.BytesRead+rest.BytesRead < uint64(len(content)) {
		t.Errorf("the rest: %+v after %+v", rest, first)
	}
	must(api.ScrubStart, 1<<10, api.ScrubPosition{})
	unit := r.units[0].ID()
	if err := r.StopUnit(unit); err != nil {
		t.Fatal(err)
	}
	if s := r.scrubEnds(t, id); s.State != api.ScrubFailed || !strings.Contains(s.Failure, "not served") {
		t.Errorf("the unit stopped: %+v", s)
	}
	if _, err := change(api.ScrubStart, 0, api.ScrubPosition{}); !errors.Is(err, ErrNotServing) {
		t.Errorf("started on a unit that is stopped: %v", err)
	}
	if _, err := r.CheckFileSystem(t.Context(), id); !errors.Is(err, ErrNotServing) {
		t.Errorf("checked on a unit that is stopped: %v", err)
	}
}

// TestScrubFindsTampering spoils the volume of a stopped daemon: the next one's scrub finds it, and the
// audit log has it.
func TestScrubFindsTampering(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	id := r.create(t, "a")
	c, root := r.mount(t, id)
	write(t, c, root, "file", strings.Repeat("content ", 200_000))
	path := r.units[0].volumePath()
	r.stop(t)

	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	image := make([]byte, testVolumeBytes)
	if _, err := f.ReadAt(image, 0); err != nil {
		t.Fatal(err)
	}
	block := len(image) / 4096
	for zero := true; zero; { // the last one in use
		block--
		for _, b := range image[block*4096:][:4096] {
			zero = zero && b == 0
		}
	}
	image[block*4096+77] ^= 4
	if _, err := f.WriteAt(image[block*4096:][:4096], int64(block)*4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}

	r = start(t, testOptions(dir))
	if _, err := r.ChangeScrub(t.Context(), id, api.ScrubRequest{Action: api.ScrubStart, BytesPerSecond: 1 << 40}); err != nil {
		t.Fatal(err)
	}
	s := r.scrubEnds(t, id)
	if s.State != api.ScrubDone || s.BadBlocks != 1 || len(s.Bad) != 1 || s.Bad[0].VolumeBlock != uint64(block) || s.Bad[0].Unreadable {
		t.Errorf("%+v, block %d", s, block)
	}
	auditDir := r.dir.audit()
	r.stop(t)
	found := 0
	if _, _, err := audit.Verify(auditDir, func(record *audit.Record) error {
		if record.Name == "TamperedBlock" && record.Resources[0] == id {
			found++
		}
		return nil
	}); err != nil || found != 1 {
		t.Errorf("%d records, %v", found, err)
	}
}

// TestFsck checks a data directory online and stopped, and ends leaked leases if told to.
func TestFsck(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	ids := []string{r.create(t, "a"), r.create(t, "b")}
	for _, id := range ids {
		c, root := r.mount(t, id)
		write(t, c, root, "file", strings.Repeat("content ", 100_000))
		check, err := r.CheckFileSystem(t.Context(), id)
		if err != nil || check.Found != 0 || !check.Online || check.Inodes != 2 {
			t.Errorf("online: %+v, %v", check, err)
		}
	}
	if _, err := Fsck(t.Context(), testOptions(dir), false); !errors.Is(err, ErrInUse) {
		t.Errorf("while it is served: %v", err)
	}
	left, lost := r.units[0].fsDir(ids[0]), r.units[0].fsDir(ids[1])
	r.stop(t)
	checks := fsckAll(t, dir, false)
	if len(checks) != 3 || checks[0].FileSystem != "" {
		t.Fatalf("%+v", checks)
	}
	for _, c := range checks {
		if c.Found != 0 || c.Failure != "" || c.FileSystem != "" && (c.Inodes != 2 || c.VolumeBlocks == 0) {
			t.Errorf("%+v", c)
		}
	}
	if err := os.RemoveAll(string(lost)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		repair          bool
		found, repaired uint64
	}{{false, 1, 0}, {true, 0, 1}, {false, 0, 0}} {
		c := fsckAll(t, dir, want.repair)[0]
		if c.Found != want.found || c.Leaks != want.found || c.Repaired != want.repaired {
			t.Errorf("repair %v: %+v", want.repair, c)
		}
	}
	if err := os.WriteFile(left.keys(), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Fsck(t.Context(), testOptions(dir), false); err == nil {
		t.Error("damaged keys: no error")
	}
	if _, err := Fsck(t.Context(), testOptions(t.TempDir()), false); err == nil {
		t.Error("an empty directory: no error")
	}
}

func fsckAll(t testing.TB, dir string, repair bool) []api.Check {
	t.Helper()
	checks, err := Fsck(t.Context(), testOptions(dir), repair)
	if err != nil {
		t.Fatal(err)
	}
	return checks
}

// TestKeysHalfDestroyed lets a crash cut the destruction of the keys itself short: the daemon starts,
// with and without a record of the deletion, and nothing of the keys is left in the end.
func TestKeysHalfDestroyed(t *testing.T) {
	dir := t.TempDir()
	r := start(t, testOptions(dir))
	id := r.create(t, "a")
	keys := r.units[0].fsDir(id).keys()
	before := keyBytes(t, r.units[0].fsDir(id))
	r.stop(t)
	if err := os.Rename(keys, keys+".destroyed"); err != nil {
		t.Fatal(err)
	}
	if c := fsckAll(t, dir, false)[1]; c.FileSystem != id || c.Leaks != 1 {
		t.Errorf("fsck: %+v", c)
	}
	r = start(t, testOptions(dir)) // its record says that it is there: it is not served, others are
	if _, ok := r.UsedBytes(t.Context(), id); ok {
		t.Error("a file system without keys is served")
	}
	if err := r.DeleteFileSystem(t.Context(), id); err != nil {
		t.Error(err)
	}
	if anywhere(t, dir, before) {
		t.Error("the wrapped keys are still in a file")
	}
}

// TestDeletionKeysFirst lets a crash cut a deletion short after each of its steps: in the first the keys
// go, so that nothing that is left can be decrypted, and the next start does the rest.
func TestDeletionKeysFirst(t *testing.T) {
	for steps := range len(new(Unit).destruction("")) + 1 {
		dir := t.TempDir()
		r := start(t, testOptions(dir))
		id := r.create(t, "a")
		c, root := r.mount(t, id)
		write(t, c, root, "file", strings.Repeat("content ", 100_000))
		u := r.units[0]
		fsDir, keysBefore := u.fsDir(id), keyBytes(t, u.fsDir(id))
		if _, err := r.catalog.SetState(t.Context(), id, catalog.Deleting, catalog.Available); err != nil {
			t.Fatal(err)
		}
		u.mu.Lock()
		served := u.served[id]
		delete(u.served, id)
		if err := served.Close(); err != nil {
			t.Fatal(err)
		}
		for _, step := range u.destruction(id)[:steps] {
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
		leased := hasSpace(u.volume, spaceOf(id, 1))
		u.mu.Unlock()
		_, err := os.Stat(fsDir.keys())
		if gone := os.IsNotExist(err); gone != (steps > 0) {
			t.Errorf("after %d steps the keys are gone: %v", steps, gone)
		}
		if steps > 0 && anywhere(t, dir, keysBefore) {
			t.Errorf("after %d steps the wrapped keys are still in a file", steps)
		}
		if leased != (steps < 2) {
			t.Errorf("after %d steps the blocks are leased: %v", steps, leased)
		}
		r.stop(t)

		r = start(t, testOptions(dir))
		if _, err := r.catalog.Get(t.Context(), id); !errors.Is(err, catalog.ErrNotFound) {
			t.Errorf("after %d steps and a start there is a record: %v", steps, err)
		}
		if _, err := os.Stat(string(fsDir)); !os.IsNotExist(err) {
			t.Errorf("after %d steps and a start there is a directory: %v", steps, err)
		}
		if hasSpace(r.units[0].volume, spaceOf(id, 1)) {
			t.Errorf("after %d steps and a start the blocks are leased", steps)
		}
		r.stop(t)
	}
}

func hasSpace(v *volume.Volume, id volume.SpaceID) bool {
	for _, owner := range v.Spaces() {
		if owner == id {
			return true
		}
	}
	return false
}

// keyBytes is the wrapped data key of a file system, as it stands in its file.
func keyBytes(t testing.TB, dir fsDir) []byte {
	t.Helper()
	text, err := os.ReadFile(dir.keys())
	if err != nil {
		t.Fatal(err)
	}
	_, after, ok := bytes.Cut(text, []byte(`"dataKey"`))
	if !ok || len(after) < 60 {
		t.Fatalf("no data key in %s", dir.keys())
	}
	return bytes.Clone(after[10:60])
}

// anywhere looks for bytes in the files of a directory.
func anywhere(t testing.TB, dir string, what []byte) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		found = found || bytes.Contains(text, what)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
