package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

const (
	accessKnown = wire.ACCESS4_READ | wire.ACCESS4_LOOKUP | wire.ACCESS4_MODIFY | wire.ACCESS4_EXTEND |
		wire.ACCESS4_DELETE | wire.ACCESS4_EXECUTE
	accessChanges = wire.ACCESS4_MODIFY | wire.ACCESS4_EXTEND | wire.ACCESS4_DELETE | wire.ACCESS4_XAWRITE
	accessXattrs  = wire.ACCESS4_XAREAD | wire.ACCESS4_XAWRITE | wire.ACCESS4_XALIST
	accessOfDir   = accessKnown &^ wire.ACCESS4_EXECUTE
	accessOfFile  = accessKnown &^ (wire.ACCESS4_LOOKUP | wire.ACCESS4_DELETE)
)

// permissions says what mode bits each of the rights stands for.
var permissions = [...]struct {
	right uint32
	want  vfs.Access
}{
	{wire.ACCESS4_READ, vfs.MayRead},
	{wire.ACCESS4_LOOKUP, vfs.MayExecute},
	{wire.ACCESS4_MODIFY, vfs.MayWrite},
	{wire.ACCESS4_EXTEND, vfs.MayWrite},
	{wire.ACCESS4_DELETE, vfs.MayWrite},
	{wire.ACCESS4_EXECUTE, vfs.MayExecute},
	{wire.ACCESS4_XAREAD, vfs.MayRead},
	{wire.ACCESS4_XAWRITE, vfs.MayWrite},
	{wire.ACCESS4_XALIST, vfs.MayRead},
}

// opAccess serves ACCESS (RFC 8881 §18.1).
func opAccess(c *compound) wire.Status {
	a := &c.a.access
	a.Decode(&c.args)
	known := uint32(accessKnown)
	if c.head.MinorVersion >= 2 {
		known |= accessXattrs
	}
	switch {
	case c.malformed():
		return wire.NFS4ERR_BADXDR
	case a.Access&^known != 0:
		return wire.NFS4ERR_INVAL
	}
	if st := c.know(); st != wire.NFS4_OK {
		return st
	}
	res := wire.AccessRes{Supported: a.Access & accessOfFile}
	switch c.attr.Kind {
	case vfs.Directory:
		res.Supported = a.Access & (accessOfDir | accessXattrs)
	case vfs.Regular:
		res.Supported = a.Access & (accessOfFile | accessXattrs)
	}
	for _, p := range permissions {
		if res.Supported&p.right != 0 && vfs.Permitted(&c.attr, &c.cred, p.want) {
			res.Access |= p.right
		}
	}
	if !c.grant.Write {
		res.Access &^= accessChanges
	}
	res.Encode(c.out)
	return wire.NFS4_OK
}
