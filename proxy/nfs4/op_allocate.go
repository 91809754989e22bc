package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// opAllocate serves ALLOCATE (RFC 7862 §15.1).
func opAllocate(c *compound) wire.Status {
	return c.changeSpace(func(cred *vfs.Cred, a *wire.AllocateArgs) error {
		return c.s.fs.Allocate(c.ctx, cred, c.current.id, a.Offset, a.Length, &c.attr)
	})
}

// opDeallocate serves DEALLOCATE (RFC 7862 §15.4).
func opDeallocate(c *compound) wire.Status {
	return c.changeSpace(func(cred *vfs.Cred, a *wire.AllocateArgs) error {
		return c.s.fs.Deallocate(c.ctx, cred, c.current.id, a.Offset, a.Length, &c.attr)
	})
}

// changeSpace serves ALLOCATE and DEALLOCATE: change fills in c.attr.
func (c *compound) changeSpace(change func(*vfs.Cred, *wire.AllocateArgs) error) wire.Status {
	var a wire.AllocateArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	cred, st := c.mayDo(&a.Stateid, true)
	if st != wire.NFS4_OK {
		return st
	}
	c.fresh = false
	err := change(c.by(cred), &a)
	c.disturbedUnder(&a.Stateid)
	if err != nil {
		return c.failContent(err)
	}
	c.fresh = true
	return wire.NFS4_OK
}

// opIOAdvise serves IO_ADVISE (RFC 7862 §15.5). No hint is followed: the cache decides by what is read.
func opIOAdvise(c *compound) wire.Status {
	var a wire.IOAdviseArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if st := c.mayLock(); st != wire.NFS4_OK {
		return st
	}
	if _, st := c.mayDo(&a.Stateid, false); st != wire.NFS4_OK && st != wire.NFS4ERR_OPENMODE {
		return st
	}
	var res wire.IOAdviseRes
	res.Encode(c.out)
	return wire.NFS4_OK
}
