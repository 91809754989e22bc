package appliance

import (
	"context"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/iam"
)

// Issue implements api.Backend: it seals what credentials stand for under the root key.
func (a *Appliance) Issue(s *iam.Session) (token string, err error) {
	text, err := s.Encode()
	if err != nil {
		return "", err
	}
	defer clear(text)
	return iam.Token(a.dir.root.key.SealToken(text)), nil
}

// openToken is the inverse of Issue; iam.ErrUnknownKey for what is no token of this root key.
func (a *Appliance) openToken(token string) (*iam.Session, error) {
	sealed, err := iam.OpenToken(token)
	if err != nil {
		return nil, err
	}
	text, err := a.dir.root.key.OpenToken(sealed)
	if err != nil {
		return nil, iam.ErrUnknownKey
	}
	defer clear(text)
	return iam.DecodeSession(text)
}

// announceRoles fills the directory from the catalog. A role whose record can't be used is told of in the log,
// and its sessions can't do anything.
func (a *Appliance) announceRoles(ctx context.Context) error {
	roles, err := a.catalog.Roles(ctx)
	if err != nil {
		return err
	}
	for i := range roles {
		if err := a.announceRole(&roles[i]); err != nil {
			a.log.Error("role can't be assumed until its record is repaired", zap.String("role", roles[i].Name), zap.Error(err))
		}
	}
	return nil
}

func (a *Appliance) announceRole(r *catalog.Role) error {
	policies, err := parsePolicies(r.Policies)
	if err != nil {
		a.table.directory.setRole(r.Name, nil)
		return err
	}
	a.table.directory.setRole(r.Name, &bearer{iam.RoleID(r.Name, r.Created), policies})
	return nil
}

// CreateRole implements api.Backend.
func (a *Appliance) CreateRole(ctx context.Context, r catalog.Role) (catalog.Role, error) {
	a.admin.Lock()
	defer a.admin.Unlock()
	r.Created = a.o.Clock().UTC()
	if err := a.catalog.CreateRole(ctx, r); err != nil {
		return catalog.Role{}, err
	}
	return r, a.announceRole(&r)
}

// Roles implements api.Backend.
func (a *Appliance) Roles(ctx context.Context) ([]catalog.Role, error) { return a.catalog.Roles(ctx) }

// Role implements api.Backend.
func (a *Appliance) Role(ctx context.Context, name string) (catalog.Role, error) {
	return a.catalog.Role(ctx, name)
}

// ChangeRole implements api.Backend. Sessions and connections follow at once.
func (a *Appliance) ChangeRole(ctx context.Context, name string, change func(*catalog.Role) error) error {
	a.admin.Lock()
	defer a.admin.Unlock()
	r, err := a.catalog.ChangeRole(ctx, name, change)
	if err != nil {
		return err
	}
	err = a.announceRole(&r)
	a.table.refresh()
	return err
}

// DeleteRole implements api.Backend. The role's sessions and their connections can do nothing from then on.
func (a *Appliance) DeleteRole(ctx context.Context, name string) error {
	a.admin.Lock()
	defer a.admin.Unlock()
	if err := a.catalog.DeleteRole(ctx, name); err != nil {
		return err
	}
	a.table.directory.setRole(name, nil)
	a.table.refresh()
	return nil
}
