package nfs4

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// Grant says what a connection may do: elasticfilesystem:ClientMount, ClientWrite and
// ClientRootAccess.
type Grant struct {
	Mount bool // see anything at all; without it all but the root is refused with NFS4ERR_ACCESS, and that is empty
	Write bool // change anything; without it NFS4ERR_ROFS
	Root  bool // act as uid 0; without it uid 0 is squashed
}

// User is whom requests act for on files.
type User struct {
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary, at most rpc.MaxGroups; those beyond are left out
}

// ConnInfo is what is known of a connection.
type ConnInfo struct {
	Peer   netip.AddrPort
	Secure bool  // inside TLS
	Grant  Grant // at first: see Binding.SetGrant
	// Identity names whoever was authenticated below NFS, if anybody was, and what restricts the
	// connection: client ids and sessions that were made under one identity are not for others, and
	// to its clients the Service is a server of its own under each (RFC 8881 §2.10.5), or they would
	// send one mount's requests over another's connection. At most MaxIdentityBytes. It must stay the
	// same when the client connects anew, and has no control characters.
	Identity string
	// As, if not nil, is whom every request acts for, whoever it says that it is for; squashing comes
	// after it.
	As *User
	// Root is the directory that the client sees as the root of the file system; zero means the real
	// one. There is no way up from it. Handles are not bound to it: one that was got over another
	// connection to the same file system is good here too.
	Root vfs.FileID
	// Left, if not nil, is called once: when the Binding was closed and nothing goes on any more that was asked for over it, such as a
	// copy. Until then that follows SetGrant.
	Left func()
	// HangUp, if not nil, is called once when the connection must end without further replies:
	// the term of ownership is over, or the Service is closed. It may be called by one of the
	// connection's handlers and must not wait for them.
	HangUp func()
}

// Binding is the Service seen by one connection. It implements rpc.Handler.
type Binding struct {
	s      *Service
	conn   ConnInfo
	grant  atomic.Pointer[Grant]
	once   sync.Once
	caller *rpc.Caller // nil: the client cannot be called over this connection

	serverOwner []byte // so_major_id

	uses atomic.Int32 // the connection, until Close, and the copies that go on which were asked for over it

	enforced atomic.Bool // it is bound to the fore channel of sessions that take only connections which are

	mu     sync.Mutex
	closed bool
	backs  map[*backchannel]struct{} // what it is bound to
}

var (
	_ rpc.Handler  = (*Binding)(nil)
	_ rpc.Attacher = (*Binding)(nil)

	_ rpc.GSSHandler = (*Binding)(nil)
)

// Bind returns the handler for one connection. Close it when the connection is gone.
func (s *Service) Bind(conn ConnInfo) *Binding {
	b := &Binding{s: s, conn: conn, backs: make(map[*backchannel]struct{}), serverOwner: s.opt.ServerOwner}
	if conn.Identity != "" {
		b.serverOwner = ownerUnder(conn.Identity, s.opt.ServerOwner)
	}
	b.SetGrant(conn.Grant)
	b.uses.Store(1)
	s.mu.Lock()
	s.bindings[b] = struct{}{}
	s.mu.Unlock()
	if s.stopped.Load() {
		b.hangUp()
	}
	return b
}

// ownerUnder is owner marked by an identity, within what a name may have. One that would be too long
// is known by its hash.
func ownerUnder(identity string, owner []byte) []byte {
	if len(identity)+1+len(owner) > maxIdentityBytes {
		sum := sha256.Sum256(owner)
		owner = sum[:]
	}
	return append(append([]byte(identity), ' '), owner...)
}

// SetGrant says what the connection may do from now on. Each COMPOUND is judged by one grant, that
// at its beginning; those that have begun are finished under theirs. Each part of a copy that goes on after its answer is judged anew.
func (b *Binding) SetGrant(g Grant) { b.grant.Store(&g) }

// Close forgets the connection. Copies that were asked for over it go on: its client may come back over another one.
func (b *Binding) Close() {
	b.leaveBackchannels()
	if b.enforced.Load() {
		b.s.state.ForgetConn(b)
	}
	b.s.mu.Lock()
	delete(b.s.bindings, b)
	b.s.mu.Unlock()
	b.endUse()
}

// beginUse says that a copy goes on, and endUse that it does not any more.
func (b *Binding) beginUse() { b.uses.Add(1) }

func (b *Binding) endUse() {
	if b.uses.Add(-1) == 0 && b.conn.Left != nil {
		b.conn.Left()
	}
}

func (b *Binding) hangUp() {
	b.once.Do(func() {
		if b.conn.HangUp != nil {
			b.conn.HangUp()
		}
	})
}

// Handle implements rpc.Handler. When the service has stopped, before or while the call is executed,
// the reply stays empty and the connection is hung up.
func (b *Binding) Handle(ctx context.Context, call *rpc.Call, reply *xdr.Encoder) {
	if !b.s.gate.TryRLock() { // closing
		return
	}
	defer b.s.gate.RUnlock()
	if !b.s.mayAnswer() {
		b.hangUp()
		return
	}
	b.dispatch(ctx, call, reply)
	if !b.s.mayAnswer() {
		reply.Truncate(0)
	}
}

// dispatch serves the two procedures of the program (RFC 8881 §16).
func (b *Binding) dispatch(ctx context.Context, call *rpc.Call, reply *xdr.Encoder) {
	switch {
	case call.Program != wire.Program:
		call.ProgUnavail(reply)
	case call.Version != wire.RPCVersion:
		call.ProgMismatch(reply, wire.RPCVersion, wire.RPCVersion)
	case call.Procedure == wire.ProcNull:
		call.Succeed(reply)
	case call.Procedure == wire.ProcCompound:
		c := b.s.compounds.Get().(*compound)
		c.serve(ctx, b, call, reply)
		c.release()
	default:
		call.ProcUnavail(reply)
	}
}
