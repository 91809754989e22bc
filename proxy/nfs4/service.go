package nfs4

import (
	"context"
	"net/netip"

	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// Service serves one file system to any number of connections.
type Service struct {
	opt Options
}

// New starts a Service. The caller closes it before the file system below.
func New(o Options) (*Service, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Service{opt: o}, nil
}

// Close ends the service: it returns when no request is under way any more. Requests that come later
// are not answered.
func (s *Service) Close() error { return nil }

// Grant says what a connection may do: elasticfilesystem:ClientMount, ClientWrite and
// ClientRootAccess.
type Grant struct {
	Mount bool // see anything at all; without it file handles are refused with NFS4ERR_ACCESS
	Write bool // change anything; without it NFS4ERR_ROFS
	Root  bool // act as uid 0; without it uid 0 is squashed
}

// ConnInfo is what is known of a connection.
type ConnInfo struct {
	Peer   netip.AddrPort
	Secure bool // inside TLS
	Grant  Grant
	// Identity names whoever was authenticated below NFS, if anybody was: client ids that were
	// made under one identity are not for others.
	Identity string
	// HangUp, if not nil, is called once when the connection must end without further replies:
	// the term of ownership is over, or the Service is closed. It must not wait for the
	// connection's handlers.
	HangUp func()
}

// Binding is the Service seen by one connection. It implements rpc.Handler.
type Binding struct {
	s    *Service
	conn ConnInfo
}

var _ rpc.Handler = (*Binding)(nil)

// Bind returns the handler for one connection. Close it when the connection is gone.
func (s *Service) Bind(conn ConnInfo) *Binding { return &Binding{s: s, conn: conn} }

// Close forgets the connection.
func (b *Binding) Close() {}

// Handle implements rpc.Handler.
func (b *Binding) Handle(_ context.Context, call *rpc.Call, reply *xdr.Encoder) {
	call.SystemErr(reply)
}
