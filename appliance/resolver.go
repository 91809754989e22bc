package appliance

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"sync"

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
	mountTargets   map[netip.Addr]string
	nowhere        *nfs4.Service // answers those who ask for what does not exist

	arnOf func(id string) string // of a file system

	mu       sync.RWMutex
	served   map[string]*nfs4.Service // by file system id; nil when it exists and is not served
	policies map[string]*policy.Document
	sessions map[string]map[*session]struct{} // by file system id
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
}

// Resolve implements proxy.Resolver.
func (t *table) Resolve(_ context.Context, who transport.Identity) (proxy.Session, error) {
	id := t.fileSystemOf(&who)
	t.mu.RLock()
	service, exists := t.served[id]
	t.mu.RUnlock()
	if exists && service == nil {
		return nil, fmt.Errorf("%w: %s", errNotServed, id)
	}
	if !exists {
		service = t.nowhere
	}
	s := &session{t: t, id: id, who: who}
	s.Binding = service.Bind(nfs4.ConnInfo{Peer: who.Peer, Secure: who.Secure, HangUp: who.HangUp})
	t.enter(s)
	return s, nil
}

// fileSystemOf finds which file system a connection is for: by the client's certificate, the name
// that it asked for, the address that it came to, or because there is only one. "" if none of them
// says.
func (t *table) fileSystemOf(who *transport.Identity) string {
	if id := certificateFileSystem(who); id != "" {
		return id
	}
	if who.FileSystem != "" {
		return who.FileSystem
	}
	if id, ok := t.mountTargets[who.Local.Addr()]; ok {
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

// fileSystemOID is the extension in which efs-utils names the file system.
var fileSystemOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 4843, 7, 3}

// certificateFileSystem is the file system that the client's certificate names, or "".
func certificateFileSystem(who *transport.Identity) string {
	if who.ClientCertificate == nil {
		return ""
	}
	for _, e := range who.ClientCertificate.Extensions {
		if e.Id.Equal(fileSystemOID) {
			return parseFileSystemExtension(e.Value)
		}
	}
	return ""
}

// parseFileSystemExtension takes a UTF8String apart; "" for anything that is no file system id.
func parseFileSystemExtension(der []byte) string {
	var id string
	rest, err := asn1.UnmarshalWithParams(der, &id, "utf8")
	if err != nil || len(rest) > 0 || !catalog.ValidID(id) {
		return ""
	}
	return id
}
