package apitest

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/policy"
)

// Directory is the operations of an api.Backend on users and roles, over a catalog in memory.
type Directory struct {
	// Now is the time by which sessions end; time.Now at first.
	Now      func() time.Time
	c        *catalog.Catalog
	callers  map[string]*iam.Caller  // by access key
	sessions map[string]*iam.Session // by token
}

// NewDirectory returns none; the end of the test closes what they are kept in.
func NewDirectory(t testing.TB) *Directory {
	t.Helper()
	store, err := catalog.OpenLocal(catalog.LocalOptions{FS: vfs.NewMem(), Dir: "catalog"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Directory{time.Now, catalog.New(store), make(map[string]*iam.Caller), make(map[string]*iam.Session)}
}

// CreateUser implements api.Backend.
func (u *Directory) CreateUser(ctx context.Context, name string) (catalog.User, error) {
	user := catalog.User{Name: name, Created: time.Unix(1700000000, 0).UTC()}
	return user, u.c.CreateUser(ctx, user)
}

// Users implements api.Backend.
func (u *Directory) Users(ctx context.Context) ([]catalog.User, error) { return u.c.Users(ctx) }

// DeleteUser implements api.Backend.
func (u *Directory) DeleteUser(ctx context.Context, name string) error {
	return u.c.DeleteUser(ctx, name)
}

// CreateAccessKey implements api.Backend.
func (u *Directory) CreateAccessKey(ctx context.Context, name string) (string, iam.Secret, error) {
	id, secret := iam.NewAccessKey()
	_, err := u.c.ChangeUser(ctx, name, func(user *catalog.User) error { return user.AddKey(catalog.AccessKey{ID: id}) })
	return id, secret, err
}

// DeleteAccessKey implements api.Backend.
func (u *Directory) DeleteAccessKey(ctx context.Context, name, id string) error {
	_, err := u.c.ChangeUser(ctx, name, func(user *catalog.User) error { return user.DeleteKey(id) })
	return err
}

// PutUserPolicy implements api.Backend.
func (u *Directory) PutUserPolicy(ctx context.Context, name, policyName, text string) error {
	if _, err := policy.Parse(policy.Identity, text); err != nil {
		return err
	}
	_, err := u.c.ChangeUser(ctx, name, func(user *catalog.User) error { return user.PutPolicy(policyName, text) })
	return err
}

// DeleteUserPolicy implements api.Backend.
func (u *Directory) DeleteUserPolicy(ctx context.Context, name, policyName string) error {
	_, err := u.c.ChangeUser(ctx, name, func(user *catalog.User) error { return user.DeletePolicy(policyName) })
	return err
}

// Signer gives a new access key to the user name, which is made with this policy.
func (u *Directory) Signer(t testing.TB, name, document string) (id string, secret iam.Secret) {
	t.Helper()
	d, err := policy.Parse(policy.Identity, document)
	if err != nil {
		t.Fatal(err)
	}
	id, secret = iam.NewAccessKey()
	caller := iam.NewUser(name, iam.UserID(name, time.Unix(1700000000, 0)), []*policy.Document{d})
	caller.KeyID, caller.Secret = id, secret
	u.callers[id] = caller
	return id, secret
}

// Caller implements api.Backend, for those whom Signer made, and for roles.
func (u *Directory) Caller(ctx context.Context, keyID, token string) (*iam.Caller, error) {
	if token != "" {
		return u.sessionCaller(ctx, keyID, token)
	}
	c := u.callers[keyID]
	if c == nil {
		return nil, iam.ErrUnknownKey
	}
	return c, nil
}

func (u *Directory) sessionCaller(ctx context.Context, keyID, token string) (*iam.Caller, error) {
	s := u.sessions[token]
	switch {
	case s == nil || s.KeyID != keyID:
		return nil, iam.ErrUnknownKey
	case !u.Now().Before(s.Expires):
		return nil, iam.ErrExpired
	case s.Role == "":
		c := *u.callers[s.Source]
		c.Context = maps.Clone(c.Context)
		return &c, c.In(s)
	}
	r, err := u.c.Role(ctx, s.Role)
	if err != nil {
		return nil, iam.ErrUnknownKey
	}
	var policies []*policy.Document
	for _, text := range r.Policies {
		d, err := policy.Parse(policy.Identity, text)
		if err != nil {
			return nil, err
		}
		policies = append(policies, d)
	}
	c := iam.NewRole(s.Role, s.HolderID, s.Name, policies)
	return c, c.In(s)
}

// Issue implements api.Backend.
func (u *Directory) Issue(s *iam.Session) (string, error) {
	token := iam.Token([]byte("token of " + s.KeyID))
	u.sessions[token] = s
	return token, nil
}

// CreateRole implements api.Backend.
func (u *Directory) CreateRole(ctx context.Context, r catalog.Role) (catalog.Role, error) {
	r.Created = time.Unix(1700000000, 0).UTC()
	return r, u.c.CreateRole(ctx, r)
}

// Roles implements api.Backend.
func (u *Directory) Roles(ctx context.Context) ([]catalog.Role, error) { return u.c.Roles(ctx) }

// Role implements api.Backend.
func (u *Directory) Role(ctx context.Context, name string) (catalog.Role, error) {
	return u.c.Role(ctx, name)
}

// ChangeRole implements api.Backend.
func (u *Directory) ChangeRole(ctx context.Context, name string, change func(*catalog.Role) error) error {
	_, err := u.c.ChangeRole(ctx, name, change)
	return err
}

// DeleteRole implements api.Backend.
func (u *Directory) DeleteRole(ctx context.Context, name string) error {
	return u.c.DeleteRole(ctx, name)
}
