package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// failDir is fail for operations that want a directory and tell a symbolic link apart from the rest.
func (c *compound) failDir(err error) wire.Status {
	st := c.fail(err)
	c.fresh = false
	if st != wire.NFS4ERR_NOTDIR {
		return st
	}
	if st := c.know(); st != wire.NFS4_OK {
		return st
	}
	if c.attr.Kind == vfs.Symlink {
		return wire.NFS4ERR_SYMLINK
	}
	return st
}

// lookup makes the file called name in the current directory the current file.
func (c *compound) lookup(name []byte) wire.Status {
	if st := wire.CheckComponent(name, maxNameBytes); st != wire.NFS4_OK {
		return st
	}
	if err := c.s.fs.Lookup(c.ctx, &c.cred, c.current.id, string(name), &c.attr); err != nil {
		return c.failDir(err)
	}
	c.arrive()
	return wire.NFS4_OK
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
	if st := c.mayGoUp(); st != wire.NFS4_OK {
		return st
	}
	if err := c.s.fs.LookupParent(c.ctx, &c.cred, c.current.id, &c.attr); err != nil {
		return c.failDir(err)
	}
	c.arrive()
	return wire.NFS4_OK
}

// mayGoUp keeps a client whose root is not the file system's below its root: what was moved out of there
// has no parent for it.
func (c *compound) mayGoUp() wire.Status {
	root := c.root()
	if root == c.s.fs.Root() {
		return wire.NFS4_OK
	}
	at, depth := c.current.id, 0
	for at != root {
		var parent vfs.Attr
		if err := c.s.fs.LookupParent(c.ctx, nil, at, &parent); err != nil {
			return c.failDir(err)
		}
		if at = parent.ID; at == root {
			return wire.NFS4_OK
		}
		if depth++; depth > maxDepth {
			break
		}
	}
	return wire.NFS4ERR_NOENT
}
