package appliance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"

	"go.uber.org/zap"

	"github.com/nfseal/nfseal/appliance/audit"
	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/policy"
	"github.com/nfseal/nfseal/proxy"
	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/transport"
)

// errNotServed closes a connection to a file system that exists and can't be served now: the client
// tries again, which is right, since it may be served again, here or elsewhere.
var errNotServed = errors.New("appliance: file system is not served now")

// table is what connections are resolved by. Its mu is a leaf.
type table struct {
	allowPlaintext bool
	nowhere        *nfs4.Service // answers those who ask for what does not exist

	arnOf     func(id string) string // of a file system
	directory *directory
	refusing  func(*session, *transport.Claims) // is told of clients that are refused
	record    func(audit.Event) error
	log       *zap.Logger

	mu           sync.RWMutex
	mountTargets map[netip.Addr]string    // the file system at an address
	served       map[string]*nfs4.Service // by file system id; nil when it exists and is not served
	policies     map[string]*policy.Document
	points       map[string]*catalog.AccessPoint  // by id; they do not change
	sessions     map[string]map[*session]struct{} // by file system id
	refusals     map[string]uint64                // clients refused, by reason
}

// setMountTargets says which file system answers at which address: those of the configuration, and those
// of the catalog.
func (t *table) setMountTargets(fixed map[netip.Addr]string, made []catalog.MountTarget) {
	all := maps.Clone(fixed)
	if all == nil {
		all = make(map[netip.Addr]string, len(made))
	}
	for i := range made {
		for _, a := range made[i].Addresses() {
			all[a] = made[i].FileSystem
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mountTargets = all
}

// set says that the file system id is served by s, or, with nil, that it is not served now.
func (t *table) set(id string, s *nfs4.Service) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.served[id] = s
}

// forget says that the file system id does not exist any more.
func (t *table) forget(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.served, id)
	delete(t.policies, id)
	maps.DeleteFunc(t.points, func(_ string, p *catalog.AccessPoint) bool { return p.FileSystem == id })
}

// Resolve implements proxy.Resolver.
func (t *table) Resolve(ctx context.Context, who transport.Identity) (proxy.Session, error) {
	claims, refused := claimsOf(&who)
	s := &session{t: t, id: t.fileSystemOf(&who, &claims), who: who, refused: refused}
	t.mu.RLock()
	service, exists := t.served[s.id]
	t.mu.RUnlock()
	if exists && service == nil {
		return nil, fmt.Errorf("%w: %s", errNotServed, s.id)
	}
	if !exists {
		service = t.nowhere
	} else if refused == nil && who.ClientCertificate != nil {
		s.proved, s.refused = t.directory.authenticate(&claims, s.id)
	}
	conn := nfs4.ConnInfo{Peer: who.Peer, Secure: who.Secure, HangUp: who.HangUp}
	if exists && s.refused == nil {
		s.refused = t.through(ctx, s, &claims, service, &conn)
	}
	if exists {
		t.recordNew(s)
	}
	if s.refused != nil {
		t.refuse(s, &claims)
	}
	conn.Identity, conn.Left = s.identity(), func() { t.leave(s) }
	s.Binding = service.Bind(conn)
	t.enter(s)
	return s, nil
}

// refuse counts a client that is let do nothing, and tells of it.
func (t *table) refuse(s *session, claims *transport.Claims) {
	t.mu.Lock()
	t.refusals[reasonOf(s.refused)]++
	t.mu.Unlock()
	t.refusing(s, claims)
}

// refused returns how many clients were refused, for each reason that there is.
func (t *table) refused() map[string]uint64 {
	counts := make(map[string]uint64, len(reasons))
	for _, reason := range reasons {
		counts[reason] = 0
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	maps.Copy(counts, t.refusals)
	return counts
}

// claimsOf reads what the client's certificate says, if it showed one.
func claimsOf(who *transport.Identity) (transport.Claims, error) {
	if who.ClientCertificate == nil {
		return transport.Claims{}, nil
	}
	return transport.ClaimsOf(who.ClientCertificate)
}

// fileSystemOf finds which file system a connection is for: by the client's certificate, the name
// that it asked for, the address that it came to, or because there is only one. "" if none of them
// says.
func (t *table) fileSystemOf(who *transport.Identity, claims *transport.Claims) string {
	if catalog.ValidID(claims.FileSystem) {
		return claims.FileSystem
	}
	if who.FileSystem != "" {
		return who.FileSystem
	}
	if id, ok := t.atAddress(who.Local.Addr()); ok {
		return id
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if len(t.served) != 1 {
		return ""
	}
	for id := range t.served {
		return id
	}
	return ""
}

// atAddress is the file system that a mount target serves at an address.
func (t *table) atAddress(address netip.Addr) (id string, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	id, ok = t.mountTargets[address]
	return id, ok
}
