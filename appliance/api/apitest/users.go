package apitest

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/policy"
)

// Directory is the operations of an api.Backend on users, over a catalog in memory.
type Directory struct {
	c       *catalog.Catalog
	callers map[string]*iam.Caller // by access key
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
	return &Directory{catalog.New(store), make(map[string]*iam.Caller)}
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
	u.callers[id] = &iam.Caller{
		KeyID: id, ID: iam.UserID(name, time.Unix(1700000000, 0)), Secret: secret, Type: "IAMUser", Policies: []*policy.Document{d},
		Principal: policy.Principal{ARN: "arn:aws:iam::000000000000:user/" + name, Account: "000000000000"},
		Context:   map[string][]string{"aws:username": {name}},
	}
	return id, secret
}

// Caller implements api.Backend, for those whom Signer made.
func (u *Directory) Caller(_ context.Context, keyID, token string) (*iam.Caller, error) {
	c := u.callers[keyID]
	if c == nil || token != "" {
		return nil, iam.ErrUnknownKey
	}
	return c, nil
}
