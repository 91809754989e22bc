package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// goTo makes id the current file, of which nothing is known yet.
func (c *compound) goTo(id vfs.FileID) {
	c.current = place{set: true, id: id}
	c.fresh = false
}

// arrive makes the file of c.attr, which is up to date, the current one.
func (c *compound) arrive() {
	c.current = place{set: true, id: c.attr.ID}
	c.fresh = true
}

// leave takes the current filehandle away (RFC 8881 §2.6.3.1.1.8).
func (c *compound) leave() {
	c.current = place{}
	c.fresh = false
}

// know sees to it that c.attr is the current file's.
func (c *compound) know() wire.Status {
	if c.fresh {
		return wire.NFS4_OK
	}
	if err := c.s.fs.GetAttr(c.ctx, c.current.id, &c.attr); err != nil {
		return c.fail(err)
	}
	c.fresh = true
	return wire.NFS4_OK
}

// remember makes id the current stateid.
func (c *compound) remember(id wire.Stateid) {
	c.current.hasStateid, c.current.stateid = true, id
}

// resolve replaces the special stateid that stands for the current one (RFC 8881 §16.2.3.1.2).
func (c *compound) resolve(id *wire.Stateid) wire.Status {
	class := state.Classify(id)
	if class == state.Current && c.current.hasStateid && !c.is40() {
		*id = c.current.stateid
		class = state.Classify(id)
	}
	if class == state.Invalid || class == state.Current {
		return wire.NFS4ERR_BAD_STATEID
	}
	return wire.NFS4_OK
}

// file is the current file, as package state knows it.
func (c *compound) file() state.File { return state.File(c.current.id) }

// fileID is a file as the file system knows it.
func fileID(f state.File) vfs.FileID { return vfs.FileID(f) }

// wantRegular returns what operations on content say of a file that has none (RFC 8881 §18.22.3).
func wantRegular(kind vfs.Kind) wire.Status {
	switch kind {
	case vfs.Regular:
		return wire.NFS4_OK
	case vfs.Directory:
		return wire.NFS4ERR_ISDIR
	case vfs.Symlink:
		return wire.NFS4ERR_SYMLINK
	}
	return wire.NFS4ERR_WRONG_TYPE
}

// opPutFH serves PUTFH (RFC 8881 §18.19). Whether the file still exists is seen by the operation that
// uses it.
func opPutFH(c *compound) wire.Status {
	a := &c.a.putFH
	a.Decode(&c.args)
	switch {
	case c.malformed():
		return wire.NFS4ERR_BADXDR
	case !c.grant.Mount:
		return wire.NFS4ERR_ACCESS
	}
	id, st := c.s.sealer.open(&c.handle, a.Handle)
	if st == wire.NFS4_OK {
		c.goTo(id)
	}
	return st
}

// opPutRootFH serves PUTROOTFH and PUTPUBFH (RFC 8881 §18.21, §18.20).
func opPutRootFH(c *compound) wire.Status {
	if !c.grant.Mount {
		c.stopAtThreshold()
		return wire.NFS4_OK
	}
	c.goTo(c.root())
	return wire.NFS4_OK
}

// root is the directory that the client sees as the root.
func (c *compound) root() vfs.FileID {
	if root := c.b.conn.Root; root != (vfs.FileID{}) {
		return root
	}
	return c.s.fs.Root()
}

// opGetFH serves GETFH (RFC 8881 §18.8).
func opGetFH(c *compound) wire.Status {
	if c.current.threshold {
		c.out.Opaque(thresholdHandle[:])
		return wire.NFS4_OK
	}
	c.out.Opaque(c.s.sealer.seal(&c.handle, c.current.id))
	return wire.NFS4_OK
}

// opSaveFH serves SAVEFH (RFC 8881 §18.28).
func opSaveFH(c *compound) wire.Status {
	c.saved = c.current
	return wire.NFS4_OK
}

// opRestoreFH40 serves RESTOREFH in minor version 0 (RFC 7530 §16.29), which has a status of its own
// for there being nothing to restore.
func opRestoreFH40(c *compound) wire.Status {
	if !c.saved.set {
		return wire.NFS4ERR_RESTOREFH
	}
	return opRestoreFH(c)
}

// opRestoreFH serves RESTOREFH (RFC 8881 §18.27).
func opRestoreFH(c *compound) wire.Status {
	c.fresh = c.fresh && c.current.id == c.saved.id
	c.current = c.saved
	return wire.NFS4_OK
}
