package catalog

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"
)

// newAvailable is a catalog with a file system that is available.
func newAvailable(t *testing.T) (*Catalog, Store, FileSystem) {
	t.Helper()
	c, store := newCatalog(t)
	f, err := c.Create(t.Context(), FileSystem{CreationToken: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if f, err = c.SetState(t.Context(), f.ID, Available, Creating); err != nil {
		t.Fatal(err)
	}
	return c, store, f
}

func TestAccessPoints(t *testing.T) {
	c, _, f := newAvailable(t)
	want := AccessPoint{
		FileSystem: f.ID, Token: "a", Created: time.Unix(1_700_000_000, 0).UTC(),
		User: &PosixUser{UID: 1000, GID: 1001, SecondaryGIDs: []uint32{7}},
		Root: RootDirectory{Path: "/home/a", Creation: &CreationInfo{OwnerUID: 1000, OwnerGID: 1001, Permissions: 0o750}},
		Tags: []Tag{{Key: "Name", Value: "a's"}},
	}
	made, err := c.CreateAccessPoint(t.Context(), want)
	if err != nil || !ValidAccessPointID(made.ID) || made.Name() != "a's" {
		t.Fatalf("%+v, %v", made, err)
	}
	want.ID = made.ID
	if got, err := c.AccessPoint(t.Context(), made.ID); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	if again, err := c.CreateAccessPoint(t.Context(), want); !errors.Is(err, ErrAccessPointExists) || again.ID != made.ID {
		t.Errorf("with the same token: %s, %v", again.ID, err)
	}
	other, err := c.CreateAccessPoint(t.Context(), AccessPoint{FileSystem: f.ID, Token: "b"})
	if err != nil {
		t.Fatal(err)
	}
	if all, err := c.AccessPoints(t.Context(), f.ID); err != nil || len(all) != 2 {
		t.Errorf("%d access points, %v", len(all), err)
	}
	if err := c.DeleteAccessPoint(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteAccessPoint(t.Context(), made.ID); !errors.Is(err, ErrNoAccessPoint) {
		t.Errorf("deleted twice: %v", err)
	}
	if all, err := c.AccessPoints(t.Context(), ""); err != nil || len(all) != 1 || all[0].ID != other.ID {
		t.Errorf("left %+v, %v", all, err)
	}
	if _, err := c.CreateAccessPoint(t.Context(), want); err != nil {
		t.Errorf("a token that is free again: %v", err)
	}
}

// TestAccessPointsGoWithTheirFileSystem makes more of them than one transaction could delete.
func TestAccessPointsGoWithTheirFileSystem(t *testing.T) {
	c, store, f := newAvailable(t)
	for i := range MaxTxnOps + 1 {
		if _, err := c.CreateAccessPoint(t.Context(), AccessPoint{FileSystem: f.ID, Token: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.SetState(t.Context(), f.ID, Deleting, Available); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateAccessPoint(t.Context(), AccessPoint{FileSystem: f.ID, Token: "late"}); !errors.Is(err, ErrWrongState) {
		t.Errorf("while the file system is deleted: %v", err)
	}
	if err := c.Remove(t.Context(), f.ID); err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{pointPrefix, pointIDPrefix, pointTokenPrefix, pointCountPrefix} {
		if kvs, _, err := store.Range(t.Context(), prefix); err != nil || len(kvs) != 0 {
			t.Errorf("%d of %s left, %v", len(kvs), prefix, err)
		}
	}
}

func TestAccessPointLimit(t *testing.T) {
	c, store, f := newAvailable(t)
	full := Put(pointCountPrefix+f.ID, []byte(fmt.Sprint(MaxAccessPoints)))
	if _, err := store.Txn(t.Context(), Txn{Then: []Op{full}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateAccessPoint(t.Context(), AccessPoint{FileSystem: f.ID, Token: "more"}); !errors.Is(err, ErrAccessPointLimit) {
		t.Errorf("%v", err)
	}
}
