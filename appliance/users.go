package appliance

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/iam"
	"github.com/nfseal/nfseal/appliance/policy"
	"github.com/nfseal/nfseal/proxy/transport"
)

// accessKeyContext is what the secret of an access key is bound to.
func accessKeyContext(user, id string) map[string]string {
	return map[string]string{"nfseal:purpose": "access key", "nfseal:user": user, "nfseal:access-key": id}
}

// announceUsers fills the directory from the catalog. A user whose record can't be used is told of in
// the log and can't do anything; the others can.
func (a *Appliance) announceUsers(ctx context.Context) error {
	users, err := a.catalog.Users(ctx)
	if err != nil {
		return err
	}
	for i := range users {
		if err := a.announceUser(ctx, &users[i]); err != nil {
			a.log.Error("user is not known to clients until the record is repaired",
				zap.String("user", users[i].Name), zap.Error(err))
		}
	}
	return nil
}

func (a *Appliance) announceUser(ctx context.Context, u *catalog.User) error {
	policies, err := parsePolicies(u.Policies)
	if err != nil {
		return err
	}
	keys := make(map[string]iam.Secret, len(u.AccessKeys))
	for _, k := range u.AccessKeys {
		secret, err := a.keys.Open(ctx, k.Sealed, accessKeyContext(u.Name, k.ID))
		if err != nil {
			return fmt.Errorf("access key %s: %w", k.ID, err)
		}
		keys[k.ID] = iam.NewSecret(string(secret))
		clear(secret)
	}
	a.table.directory.setUser(u.Name, &bearer{iam.UserID(u.Name, u.Created), policies}, keys)
	return nil
}

// refusing logs why a client may do nothing. What the client says of itself is not its name.
func (a *Appliance) refusing(s *session, claims *transport.Claims) {
	fields := []zap.Field{
		zap.String("file_system", s.id), zap.String("peer", s.who.Peer.String()), zap.String("client", claims.Client),
		zap.Error(s.refused),
	}
	if claims.Proof != nil {
		fields = append(fields, zap.String("access_key", claims.Proof.AccessKeyID))
	}
	a.log.Warn("client refused", fields...)
}

// CreateUser implements api.Backend.
func (a *Appliance) CreateUser(ctx context.Context, name string) (catalog.User, error) {
	a.admin.Lock()
	defer a.admin.Unlock()
	u := catalog.User{Name: name, Created: a.o.Clock().UTC()}
	if err := a.catalog.CreateUser(ctx, u); err != nil {
		return catalog.User{}, err
	}
	return u, a.announceUser(ctx, &u)
}

// Users implements api.Backend.
func (a *Appliance) Users(ctx context.Context) ([]catalog.User, error) { return a.catalog.Users(ctx) }

// DeleteUser implements api.Backend. The user's connections can do nothing from then on.
func (a *Appliance) DeleteUser(ctx context.Context, name string) error {
	a.admin.Lock()
	defer a.admin.Unlock()
	if err := a.catalog.DeleteUser(ctx, name); err != nil {
		return err
	}
	a.table.directory.setUser(name, nil, nil)
	a.table.refresh()
	return nil
}

// CreateAccessKey implements api.Backend. The secret is not shown again.
func (a *Appliance) CreateAccessKey(ctx context.Context, name string) (string, iam.Secret, error) {
	id, secret := iam.NewAccessKey()
	sealed, err := a.keys.Seal(ctx, []byte(secret.Reveal()), accessKeyContext(name, id))
	if err != nil {
		return "", iam.Secret{}, err
	}
	key := catalog.AccessKey{ID: id, Created: a.o.Clock().UTC(), Sealed: sealed}
	return id, secret, a.changeUser(ctx, name, func(u *catalog.User) error { return u.AddKey(key) })
}

// DeleteAccessKey implements api.Backend. Connections that were proved with it can do nothing from
// then on.
func (a *Appliance) DeleteAccessKey(ctx context.Context, name, id string) error {
	return a.changeUser(ctx, name, func(u *catalog.User) error { return u.DeleteKey(id) })
}

// PutUserPolicy implements api.Backend.
func (a *Appliance) PutUserPolicy(ctx context.Context, name, policyName, text string) error {
	if _, err := policy.Parse(policy.Identity, text); err != nil {
		return err
	}
	return a.changeUser(ctx, name, func(u *catalog.User) error { return u.PutPolicy(policyName, text) })
}

// DeleteUserPolicy implements api.Backend.
func (a *Appliance) DeleteUserPolicy(ctx context.Context, name, policyName string) error {
	return a.changeUser(ctx, name, func(u *catalog.User) error { return u.DeletePolicy(policyName) })
}

// changeUser changes the record of a user, and lets living connections follow.
func (a *Appliance) changeUser(ctx context.Context, name string, change func(*catalog.User) error) error {
	a.admin.Lock()
	defer a.admin.Unlock()
	u, err := a.catalog.ChangeUser(ctx, name, change)
	if err != nil {
		return err
	}
	if err := a.announceUser(ctx, &u); err != nil {
		a.table.directory.setUser(name, nil, nil)
		a.table.refresh()
		return err
	}
	a.table.refresh()
	return nil
}
