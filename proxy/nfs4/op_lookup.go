package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// notDir is the failure of an operation that wants a directory and found kind: LOOKUP and its like
// tell a symbolic link apart.
func notDir(kind vfs.Kind) wire.Status {
	if kind == vfs.Symlink {
		return wire.NFS4ERR_SYMLINK
	}
	return wire.NFS4ERR_NOTDIR
}

// lookup makes the file called name in the current directory the current file.
func (c *compound) lookup(name []byte) wire.Status {
	if st := wire.CheckComponent(name, maxNameBytes); st != wire.NFS4_OK {
		return st
	}
	err := c.s.fs.Lookup(c.ctx, &c.cred, c.current.id, string(name), &c.attr)
	if err == nil {
		c.arrive()
		return wire.NFS4_OK
	}
	c.fresh = false
	if st := c.fail(err); st != wire.NFS4ERR_NOTDIR {
		return st
	}
	if st := c.know(); st != wire.NFS4_OK {
		return st
	}
	return notDir(c.attr.Kind)
}

// opLookup serves LOOKUP (RFC 8881 §18.13).
func opLookup(c *compound) wire.Status {
	var a wire.LookupArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	return c.lookup(a.Name)
}

// opLookupP serves LOOKUPP (RFC 8881 §18.14).
func opLookupP(c *compound) wire.Status {
	if err := c.s.fs.LookupParent(c.ctx, &c.cred, c.current.id, &c.attr); err != nil {
		c.fresh = false
		return c.fail(err)
	}
	c.arrive()
	return wire.NFS4_OK
}
