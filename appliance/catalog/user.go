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
	ErrUserLimit   = errors.New("catalog: limit reached")
)

// User is somebody who may be given permissions.
type User struct {
	Name       string            `json:"name"`
	Created    time.Time         `json:"created"`
	AccessKeys []AccessKey       `json:"accessKeys,omitempty"`
	Policies   map[string]string `json:"policies,omitempty"` // by name, as they were put
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

const userPrefix = "user/"

// CreateUser records a new user; ErrUserExists if the name is taken.
func (c *Catalog) CreateUser(ctx context.Context, u User) error {
	all, err := c.Users(ctx)
	if err != nil {
		return err
	}
	if len(all) >= MaxUsers {
		return fmt.Errorf("%w: %d users", ErrUserLimit, MaxUsers)
	}
	done, err := c.putUser(ctx, &u, 0)
	if err == nil && !done {
		err = fmt.Errorf("%w: %s", ErrUserExists, u.Name)
	}
	return err
}

// putUser writes a record that is at revision now; false if it is not.
func (c *Catalog) putUser(ctx context.Context, u *User, revision int64) (bool, error) {
	record, err := json.Marshal(userRecord{recordFormat, *u})
	if err != nil {
		return false, fmt.Errorf("catalog: %w", err)
	}
	if len(record) > MaxValueBytes {
		return false, fmt.Errorf("%w: the policies of a user may have %d bytes in all", ErrUserLimit, MaxValueBytes)
	}
	result, err := c.store.Txn(ctx, Txn{
		If:   []Compare{{userPrefix + u.Name, revision}},
		Then: []Op{Put(userPrefix+u.Name, record)},
	})
	return result.Succeeded, err
}

// Users returns all users in the order of their names.
func (c *Catalog) Users(ctx context.Context) ([]User, error) {
	kvs, _, err := c.store.Range(ctx, userPrefix)
	if err != nil {
		return nil, err
	}
	users := make([]User, 0, len(kvs))
	for i := range kvs {
		u, err := decodeUser(&kvs[i])
		if err != nil {
			return nil, err
		}
		users = append(users, u)
	}
	return users, nil
}

func decodeUser(kv *KeyValue) (User, error) {
	var record userRecord
	if err := json.Unmarshal(kv.Value, &record); err != nil || kv.Key != userPrefix+record.Name {
		return User{}, fmt.Errorf("catalog: record %q is damaged", kv.Key)
	}
	if record.Format > recordFormat {
		return User{}, fmt.Errorf("%w: record %q has format %d", ErrNewerFormat, kv.Key, record.Format)
	}
	return record.User, nil
}

// ChangeUser replaces the user name by what change makes of it, and returns that. An error of change
// ends it; it may be called more than once.
func (c *Catalog) ChangeUser(ctx context.Context, name string, change func(*User) error) (User, error) {
	for range maxRetries {
		kv, found, _, err := c.store.Get(ctx, userPrefix+name)
		if err != nil {
			return User{}, err
		}
		if !found {
			return User{}, fmt.Errorf("%w: %s", ErrNoUser, name)
		}
		u, err := decodeUser(&kv)
		if err != nil {
			return User{}, err
		}
		if err := change(&u); err != nil {
			return User{}, err
		}
		done, err := c.putUser(ctx, &u, kv.ModRevision)
		if err != nil || done {
			return u, err
		}
	}
	return User{}, ErrConflict
}

// DeleteUser forgets the user name, with all keys and policies.
func (c *Catalog) DeleteUser(ctx context.Context, name string) error {
	result, err := c.store.Txn(ctx, Txn{
		If:   []Compare{{userPrefix + name, 0}},
		Else: []Op{Delete(userPrefix + name)},
	})
	if err == nil && result.Succeeded {
		err = fmt.Errorf("%w: %s", ErrNoUser, name)
	}
	return err
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
func (u *User) PutPolicy(name, text string) error {
	if _, there := u.Policies[name]; !there && len(u.Policies) >= MaxUserPolicies {
		return fmt.Errorf("%w: %s has %d policies", ErrUserLimit, u.Name, MaxUserPolicies)
	}
	if u.Policies == nil {
		u.Policies = make(map[string]string)
	}
	u.Policies[name] = text
	return nil
}

// DeletePolicy takes a policy from u; ErrNoPolicy if it has no such one.
func (u *User) DeletePolicy(name string) error {
	if _, there := u.Policies[name]; !there {
		return fmt.Errorf("%w of the name %s", ErrNoPolicy, name)
	}
	delete(u.Policies, name)
	return nil
}
