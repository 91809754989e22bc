package appliance

import (
	"crypto/rand"
	"encoding/binary"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/xtsengine/vfs/memvfs"
)

// newNowhere returns a service for connections that name no file system of ours. It speaks the
// protocol far enough to say NFS4ERR_ACCESS: a client whose connection is cut tries for ever, and
// one that is refused in EXCHANGE_ID reports an I/O error. It must be no existing file system's
// service, since a client takes equal identities for one server (ADR 5); so it has an identity of
// its own at each start, and an empty file system that no connection is granted.
func newNowhere() (*nfs4.Service, error) {
	var random [nfs4.HandleKeyBytes + 16]byte
	rand.Read(random[:]) // never fails (crypto/rand)
	name := identity("nowhere", rand.Text())
	empty, err := memvfs.New(memvfs.Options{})
	if err != nil {
		return nil, err
	}
	return nfs4.New(nfs4.Options{
		FS:          empty,
		FSID:        nfs4.FSID{Major: binary.BigEndian.Uint64(random[nfs4.HandleKeyBytes:]), Minor: 1},
		ServerOwner: name,
		ServerScope: name,
		Epoch:       binary.BigEndian.Uint64(random[nfs4.HandleKeyBytes+8:])>>1 | 1,
		HandleKey:   random[:nfs4.HandleKeyBytes],
		Limits: nfs4.Limits{
			Clients: 256, SessionsPerClient: 2, Slots: 4, Opens: 1, OpensPerClient: 1, Locks: 1, LocksPerClient: 1,
			ReplyCacheBytes: 8 << 20,
		},
	})
}
