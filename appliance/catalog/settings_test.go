package catalog

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// What was put outlives the store that it was put in.
func TestSettingsAreKept(t *testing.T) {
	fs := vfs.NewMem()
	store := openLocal(t, fs)
	c := New(store)
	f, err := c.Create(t.Context(), FileSystem{CreationToken: "t", Tags: []Tag{{"Name", "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(*FileSystem) error { return nil }
	if _, err := c.ChangeFileSystem(t.Context(), f.ID, nothing); !errors.Is(err, ErrWrongState) {
		t.Errorf("while it is made: %v", err)
	}
	if _, err := c.SetState(t.Context(), f.ID, Available, Creating); err != nil {
		t.Fatal(err)
	}
	want, err := c.ChangeFileSystem(t.Context(), f.ID, func(f *FileSystem) error {
		f.BackupPolicy, f.OverwriteProtection, f.ThroughputMode = "DISABLED", "DISABLED", "elastic"
		f.Lifecycle = []LifecyclePolicy{{TransitionToIA: "AFTER_7_DAYS"}, {TransitionToPrimaryStorageClass: "AFTER_1_ACCESS"}}
		f.Tags, _ = WithTags(f.Tags, []Tag{{"b", "c"}})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	c = New(openLocal(t, fs))
	if got, err := c.Get(t.Context(), f.ID); err != nil || !reflect.DeepEqual(got, want) || len(got.Tags) != 2 || len(got.Lifecycle) != 2 {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	refusal := errors.New("no")
	if _, err := c.ChangeFileSystem(t.Context(), f.ID, func(f *FileSystem) error { f.BackupPolicy = "x"; return refusal }); !errors.Is(err, refusal) {
		t.Errorf("a refusal: %v", err)
	}
	if got, err := c.Get(t.Context(), f.ID); err != nil || got.BackupPolicy != "DISABLED" {
		t.Errorf("after a refusal: %+v, %v", got, err)
	}
	if _, err := c.ChangeFileSystem(t.Context(), NewID(), nothing); !errors.Is(err, ErrNotFound) {
		t.Errorf("of none: %v", err)
	}
}

// Changes that happen at once are all done.
func TestConcurrentChanges(t *testing.T) {
	c, _, f := newAvailable(t)
	p, err := c.CreateAccessPoint(t.Context(), AccessPoint{FileSystem: f.ID, Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		more := []Tag{{fmt.Sprint(i), ""}}
		wg.Go(func() {
			_, err := c.ChangeFileSystem(t.Context(), f.ID, func(f *FileSystem) (err error) {
				f.Tags, err = WithTags(f.Tags, more)
				return err
			})
			_, err2 := c.ChangeAccessPoint(t.Context(), p.ID, func(a *AccessPoint) (err error) {
				a.Tags, err = WithTags(a.Tags, more)
				return err
			})
			if err := errors.Join(err, err2); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f, err = c.Get(t.Context(), f.ID)
	p, err2 := c.AccessPoint(t.Context(), p.ID)
	if err := errors.Join(err, err2); err != nil || len(f.Tags) != 4 || len(p.Tags) != 4 {
		t.Errorf("%v, %v, %v", f.Tags, p.Tags, err)
	}
	if _, err := c.ChangeAccessPoint(t.Context(), "fsap-00000000000000000", func(*AccessPoint) error { return nil }); !errors.Is(err, ErrNoAccessPoint) {
		t.Errorf("of none: %v", err)
	}
}

func TestTags(t *testing.T) {
	tags := []Tag{{"b", "1"}, {"a", "2"}}
	got, err := WithTags(tags, []Tag{{"c", "3"}, {"b", "4"}})
	if want := []Tag{{"b", "4"}, {"a", "2"}, {"c", "3"}}; err != nil || !reflect.DeepEqual(got, want) || tags[0].Value != "1" {
		t.Errorf("with: %v, %v, of %v", got, err, tags)
	}
	if got, want := SortedTags(got), []Tag{{"a", "2"}, {"b", "4"}, {"c", "3"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("sorted: %v", got)
	}
	if got, want := WithoutTags(got, []string{"a", "z"}), []Tag{{"b", "4"}, {"c", "3"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("without: %v", got)
	}
	for i := range MaxTags {
		if tags, err = WithTags(tags, []Tag{{fmt.Sprint(i), ""}}); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrTagLimit) {
		t.Errorf("too many: %v", err)
	}
}
