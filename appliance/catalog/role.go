package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// What the catalog can answer about roles.
var (
	ErrNoRole     = errors.New("catalog: no such role")
	ErrRoleExists = errors.New("catalog: role exists")
)

// Role is what others may assume, to do what its policies allow.
type Role struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	// Trust is the policy that says who may assume the role, as it was put.
	Trust string `json:"trust"`
	// MaxSessionSeconds is how long a session of it may be.
	MaxSessionSeconds int      `json:"maxSessionSeconds"`
	Policies          Policies `json:"policies,omitempty"`
}

type roleRecord struct {
	Format int `json:"format"`
	Role
}

var roles = named[Role]{
	prefix: "role/", kind: "role", most: MaxRoles, missing: ErrNoRole, taken: ErrRoleExists,
	name:   func(r *Role) string { return r.Name },
	record: func(r *Role) any { return roleRecord{recordFormat, *r} },
	read: func(text []byte) (Role, int, error) {
		var r roleRecord
		err := json.Unmarshal(text, &r)
		return r.Role, r.Format, err
	},
}

// CreateRole records a new role; ErrRoleExists if the name is taken.
func (c *Catalog) CreateRole(ctx context.Context, r Role) error {
	return roles.create(ctx, c.store, &r)
}

// Roles returns all roles in the order of their names.
func (c *Catalog) Roles(ctx context.Context) ([]Role, error) { return roles.list(ctx, c.store) }

// Role returns the role name; ErrNoRole.
func (c *Catalog) Role(ctx context.Context, name string) (Role, error) {
	r, _, err := roles.get(ctx, c.store, name)
	return r, err
}

// ChangeRole replaces the role name by what change makes of it, and returns that. An error of change
// ends it; it may be called more than once.
func (c *Catalog) ChangeRole(ctx context.Context, name string, change func(*Role) error) (Role, error) {
	return roles.change(ctx, c.store, name, change)
}

// DeleteRole forgets the role name, with all policies.
func (c *Catalog) DeleteRole(ctx context.Context, name string) error {
	return roles.remove(ctx, c.store, name)
}

// PutPolicy gives r a policy in place of the one with that name; ErrUserLimit if it has
// MaxUserPolicies others.
func (r *Role) PutPolicy(name, text string) error { return r.Policies.put(r.Name, name, text) }

// DeletePolicy takes a policy from r; ErrNoPolicy if it has no such one.
func (r *Role) DeletePolicy(name string) error { return r.Policies.remove(name) }
