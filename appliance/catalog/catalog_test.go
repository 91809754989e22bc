package catalog

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func newCatalog(t testing.TB) (*Catalog, *Local) {
	t.Helper()
	l := openLocal(t, vfs.NewMem())
	return New(l), l
}

func TestLifeOfAFileSystem(t *testing.T) {
	c, _ := newCatalog(t)
	want := FileSystem{
		CreationToken: "token", Created: time.Unix(1700000000, 5).UTC(), Unit: "u",
		PerformanceMode: "generalPurpose", ThroughputMode: "elastic", Tags: []Tag{{"Name", "home"}, {"a", "b"}},
	}
	f, err := c.Create(t.Context(), want)
	if err != nil || !ValidID(f.ID) || f.State != Creating || f.Name() != "home" {
		t.Fatalf("%+v, %v", f, err)
	}
	want.ID, want.State = f.ID, Creating
	if got, err := c.Get(t.Context(), f.ID); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	if _, err := c.SetState(t.Context(), f.ID, Available, Deleting); !errors.Is(err, ErrWrongState) {
		t.Errorf("available from creating, deleting wanted: %v", err)
	}
	if _, err := c.SetState(t.Context(), f.ID, Available, Creating); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(t.Context(), f.ID); !errors.Is(err, ErrWrongState) {
		t.Errorf("removed while available: %v", err)
	}
	if _, err := c.SetState(t.Context(), f.ID, Deleting, Available, Deleting); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove(t.Context(), f.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), f.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("after Remove: %v", err)
	}
	if again, err := c.Create(t.Context(), want); err != nil || again.ID != f.ID {
		t.Errorf("the token was not freed: %v", err)
	}
}

func TestTokenIsIdempotentUnderRaces(t *testing.T) {
	c, _ := newCatalog(t)
	var wg sync.WaitGroup
	ids := make(chan string, 8)
	for range cap(ids) {
		wg.Go(func() {
			f, err := c.Create(t.Context(), FileSystem{CreationToken: "same"})
			if err != nil && !errors.Is(err, ErrTokenExists) {
				t.Error(err)
			}
			ids <- f.ID
		})
	}
	wg.Wait()
	first := <-ids
	for range cap(ids) - 1 {
		if id := <-ids; id != first {
			t.Fatalf("one token made %s and %s", first, id)
		}
	}
	if list, err := c.List(t.Context()); err != nil || len(list) != 1 {
		t.Fatalf("%d file systems, %v", len(list), err)
	}
}

func TestAdoptKeepsIdentity(t *testing.T) {
	c, _ := newCatalog(t)
	f := FileSystem{ID: NewID(), CreationToken: "elsewhere", State: Available, Unit: "u"}
	if _, err := c.Adopt(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(t.Context(), f.ID); err != nil || got.State != Available || got.CreationToken != "elsewhere" {
		t.Fatalf("%+v, %v", got, err)
	}
	f.CreationToken = "another"
	if _, err := c.Adopt(t.Context(), f); !errors.Is(err, ErrConflict) {
		t.Fatalf("an id that exists: %v", err)
	}
}

func TestLimitOfFileSystems(t *testing.T) {
	c, l := newCatalog(t)
	if _, err := l.Txn(t.Context(), Txn{Then: []Op{Put(countKey, fmt.Append(nil, MaxFileSystems-1))}}); err != nil {
		t.Fatal(err)
	}
	f, err := c.Create(t.Context(), FileSystem{CreationToken: "last"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), FileSystem{CreationToken: "one more"}); !errors.Is(err, ErrLimit) {
		t.Fatalf("over the limit: %v", err)
	}
	if err := c.Remove(t.Context(), f.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), FileSystem{CreationToken: "one more"}); err != nil {
		t.Fatalf("after one was removed: %v", err)
	}
}

func TestDamagedAndNewerRecords(t *testing.T) {
	c, l := newCatalog(t)
	for id, test := range map[string]struct {
		value string
		want  error
	}{
		"fs-00000000000000001": {`{"format":1,"id":"fs-00000000000000002"}`, nil},
		"fs-00000000000000003": {`not json`, nil},
		"fs-00000000000000004": {`{"format":2,"id":"fs-00000000000000004"}`, ErrNewerFormat},
	} {
		if _, err := l.Txn(t.Context(), Txn{Then: []Op{Put(fsPrefix+id, []byte(test.value))}}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), id); err == nil || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %v", test.value, err)
		}
	}
}

func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewID()
		if !ValidID(id) || seen[id] {
			t.Fatalf("bad or repeated id %q", id)
		}
		seen[id] = true
	}
	for _, bad := range []string{"", "fs-", "fs-0123456789abcdef", "fs-0123456789ABCDEF0", "fs-0123456789abcdef01", "x-0123456789abcdef0", "fs-0123456789abcdef0\n"} {
		if ValidID(bad) {
			t.Errorf("%q passes for an id", bad)
		}
	}
}
