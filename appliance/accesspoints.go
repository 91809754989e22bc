package appliance

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/api"
	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/transport"
)

// announceAccessPoints tells the table the access points on record, before any file system is served.
func (a *Appliance) announceAccessPoints(ctx context.Context) error {
	all, err := a.catalog.AccessPoints(ctx, "")
	for i := range all {
		a.table.setPoint(&all[i])
	}
	return err
}

// CreateAccessPoint implements api.Backend.
func (a *Appliance) CreateAccessPoint(ctx context.Context, p catalog.AccessPoint) (catalog.AccessPoint, error) {
	a.admin.Lock()
	defer a.admin.Unlock()
	p.Created = a.o.Clock().UTC()
	made, err := a.catalog.CreateAccessPoint(ctx, p)
	if err != nil {
		return made, err
	}
	a.table.setPoint(&made)
	a.log.Info("access point made", zap.String("access_point", made.ID), zap.String("file_system", made.FileSystem))
	return made, nil
}

// AccessPoint implements api.Backend.
func (a *Appliance) AccessPoint(ctx context.Context, id string) (catalog.AccessPoint, error) {
	return a.catalog.AccessPoint(ctx, id)
}

// AccessPoints implements api.Backend.
func (a *Appliance) AccessPoints(ctx context.Context, fileSystem string) ([]catalog.AccessPoint, error) {
	if fileSystem != "" {
		if _, err := a.catalog.Get(ctx, fileSystem); err != nil {
			return nil, err
		}
	}
	return a.catalog.AccessPoints(ctx, fileSystem)
}

// DeleteAccessPoint implements api.Backend. Connections through it can do nothing from then on.
func (a *Appliance) DeleteAccessPoint(ctx context.Context, id string) error {
	a.admin.Lock()
	defer a.admin.Unlock()
	if err := a.catalog.DeleteAccessPoint(ctx, id); err != nil {
		return err
	}
	a.table.forgetPoint(id)
	a.log.Info("access point deleted", zap.String("access_point", id))
	return nil
}

func (t *table) setPoint(p *catalog.AccessPoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.points[p.ID] = p
}

func (t *table) forgetPoint(id string) {
	t.mu.Lock()
	var changed []audit.Event
	if p := t.points[id]; p != nil {
		delete(t.points, id)
		changed = t.regrantLocked(t.sessions[p.FileSystem])
	}
	t.mu.Unlock()
	t.recordAll(changed)
}

// through lets s come in through the access point that its client claims, if it claims one: conn gets
// its user and its root, which is made if it is missing and the client may mount.
func (t *table) through(ctx context.Context, s *session, claims *transport.Claims, service *nfs4.Service, conn *nfs4.ConnInfo) error {
	if claims.AccessPoint == "" {
		return nil
	}
	t.mu.RLock()
	p := t.points[claims.AccessPoint]
	t.mu.RUnlock()
	if p == nil || p.FileSystem != s.id {
		return errAccessPoint
	}
	s.point = p
	if p.User != nil {
		conn.As = &nfs4.User{UID: p.User.UID, GID: p.User.GID, Groups: p.User.SecondaryGIDs}
	}
	var missing *nfs4.NewRoot
	if c := p.Root.Creation; c != nil && t.grant(s).Mount {
		missing = &nfs4.NewRoot{UID: c.OwnerUID, GID: c.OwnerGID, Mode: c.Permissions}
	}
	root, err := service.FindRoot(ctx, p.Root.Path, missing)
	if err != nil {
		return fmt.Errorf("%w of access point %s: %w", errPointRoot, p.ID, err)
	}
	conn.Root = root
	return nil
}

// grant is what s may do now.
func (t *table) grant(s *session) nfs4.Grant {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.grantLocked(s)
}

// identity names what s is restricted by and who it is, for nfs4.ConnInfo. It holds as long as the user
// or role has its name, whichever of its keys or sessions signs.
func (s *session) identity() string {
	var parts []string
	if !s.who.Secure { // or a mount over TLS would go on over the connection of one without that its client has already
		parts = append(parts, plaintextIdentity)
	}
	if s.point != nil {
		parts = append(parts, s.point.ID)
	}
	if s.proved != nil {
		name := s.proved.keyID // whose user was deleted meanwhile
		if c, err := s.t.directory.caller(s.proved); err == nil {
			name = c.Holder()
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, " ")
}

// plaintextIdentity is part of the identity of a connection without TLS.
const plaintextIdentity = "plaintext"

// Why an access point lets nobody in.
var (
	errAccessPoint = errors.New("there is no such access point of the file system")
	errPointRoot   = errors.New("there is no root directory")
)

// pointARN is the resource name of an access point.
func (t *table) pointARN(id string) string { return api.AccessPointARN(t.directory.region, id) }
