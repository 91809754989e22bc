package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// What the catalog can answer about users.
var (
	ErrNoUser      = errors.New("catalog: no such user")
	ErrUserExists  = errors.New("catalog: user exists")
	ErrNoAccessKey = errors.New("catalog: no such access key")
)

// User is somebody who may be given permissions.
type User struct {
	Name       string      `json:"name"`
	Created    time.Time   `json:"created"`
	AccessKeys []AccessKey `json:"accessKeys,omitempty"`
	Policies   Policies    `json:"policies,omitempty"`
}

// AccessKey is what a user signs with.
type AccessKey struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Sealed  []byte    `json:"sealed"` // the secret, under the root key
}

type userRecord struct {
	Format int `json:"format"`
	User
}

var users = named[User]{
	prefix: "user/", kind: "user", most: MaxUsers, missing: ErrNoUser, taken: ErrUserExists,
	name:   func(u *User) string { return u.Name },
	record: func(u *User) any { return userRecord{recordFormat, *u} },
	read: func(text []byte) (User, int, error) {
		var r userRecord
		err := json.Unmarshal(text, &r)
		return r.User, r.Format, err
	},
}

// CreateUser records a new user; ErrUserExists if the name is taken.
func (c *Catalog) CreateUser(ctx context.Context, u User) error {
	return users.create(ctx, c.store, &u)
}

// Users returns all users in the order of their names.
func (c *Catalog) Users(ctx context.Context) ([]User, error) { return users.list(ctx, c.store) }

// ChangeUser replaces the user name by what change makes of it, and returns that. An error of change
// ends it; it may be called more than once.
func (c *Catalog) ChangeUser(ctx context.Context, name string, change func(*User) error) (User, error) {
	return users.change(ctx, c.store, name, change)
}

// DeleteUser forgets the user name, with all keys and policies.
func (c *Catalog) DeleteUser(ctx context.Context, name string) error {
	return users.remove(ctx, c.store, name)
}

// AddKey gives u an access key; ErrUserLimit if it has MaxAccessKeys.
func (u *User) AddKey(k AccessKey) error {
	if len(u.AccessKeys) >= MaxAccessKeys {
		return fmt.Errorf("%w: %s has %d access keys, delete one first", ErrUserLimit, u.Name, MaxAccessKeys)
	}
	u.AccessKeys = append(u.AccessKeys, k)
	return nil
}

// DeleteKey takes an access key from u; ErrNoAccessKey if it has no such one.
func (u *User) DeleteKey(id string) error {
	i := slices.IndexFunc(u.AccessKeys, func(k AccessKey) bool { return k.ID == id })
	if i < 0 {
		return fmt.Errorf("%w: %s of %s", ErrNoAccessKey, id, u.Name)
	}
	u.AccessKeys = slices.Delete(u.AccessKeys, i, i+1)
	return nil
}

// PutPolicy gives u a policy in place of the one with that name; ErrUserLimit if it has
// MaxUserPolicies others.
func (u *User) PutPolicy(name, text string) error { return u.Policies.put(u.Name, name, text) }

// DeletePolicy takes a policy from u; ErrNoPolicy if it has no such one.
func (u *User) DeletePolicy(name string) error { return u.Policies.remove(name) }
