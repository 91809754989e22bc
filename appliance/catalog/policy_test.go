package catalog

import (
	"errors"
	"strings"
	"testing"
)

// TestPolicyGoesWithItsFileSystem follows a policy through the life of its file system.
func TestPolicyGoesWithItsFileSystem(t *testing.T) {
	c, store := newCatalog(t)
	f, err := c.Create(t.Context(), FileSystem{CreationToken: "t"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.PutPolicy(t.Context(), f.ID, "p"); !errors.Is(err, ErrWrongState) {
		t.Errorf("while it is made: %v", err)
	}
	if _, err := c.SetState(t.Context(), f.ID, Available, Creating); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Policy(t.Context(), f.ID); !errors.Is(err, ErrNoPolicy) {
		t.Errorf("before: %v", err)
	}
	longest := strings.Repeat("<", 20000) // six bytes each in the record
	for _, text := range []string{"one", longest} {
		if err := c.PutPolicy(t.Context(), f.ID, text); err != nil {
			t.Fatal(err)
		}
		if got, err := c.Policy(t.Context(), f.ID); err != nil || got != text {
			t.Fatalf("%.20q, %v", got, err)
		}
	}
	if all, err := c.Policies(t.Context()); err != nil || len(all) != 1 || all[f.ID] != longest {
		t.Errorf("%d policies, %v", len(all), err)
	}
	if _, err := c.SetState(t.Context(), f.ID, Deleting, Available); err != nil {
		t.Fatal(err)
	}
	if err := c.DeletePolicy(t.Context(), f.ID); !errors.Is(err, ErrWrongState) {
		t.Errorf("while it is deleted: %v", err)
	}
	if err := c.Remove(t.Context(), f.ID); err != nil {
		t.Fatal(err)
	}
	if kvs, _, err := store.Range(t.Context(), policyPrefix); err != nil || len(kvs) != 0 {
		t.Errorf("%d left, %v", len(kvs), err)
	}
	if _, err := c.Policy(t.Context(), f.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("after: %v", err)
	}
}

// TestDamagedPolicyIsEmpty checks that a record that can't be read is told apart from none.
func TestDamagedPolicyIsEmpty(t *testing.T) {
	c, store := newCatalog(t)
	if _, err := store.Txn(t.Context(), Txn{Then: []Op{Put(policyPrefix+"fs-1", []byte("{"))}}); err != nil {
		t.Fatal(err)
	}
	all, err := c.Policies(t.Context())
	if text, there := all["fs-1"]; err != nil || !there || text != "" {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := store.Txn(t.Context(), Txn{Then: []Op{Put(policyPrefix+"fs-1", []byte(`{"format":9}`))}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Policies(t.Context()); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("newer: %v", err)
	}
}
