package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// mayUnlink says whether names may go now: in the recovery phase a file without a name could be gone
// before the client that has it open has said so.
func (c *compound) mayUnlink() wire.Status {
	if c.s.state.InGrace() {
		return wire.NFS4ERR_GRACE
	}
	return wire.NFS4_OK
}

// opRemove serves REMOVE (RFC 8881 §18.25).
func opRemove(c *compound) wire.Status {
	var a wire.RemoveArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if st := wire.CheckComponent(a.Name, maxNameBytes); st != wire.NFS4_OK {
		return st
	}
	if st := c.mayUnlink(); st != wire.NFS4_OK {
		return st
	}
	if st := c.clearName(c.current.id, a.Name, state.OwnAll); st != wire.NFS4_OK {
		return st
	}
	c.fresh = false
	var removed vfs.Attr
	ci, err := c.s.fs.Remove(c.marked(), &c.cred, c.current.id, string(a.Name), &removed)
	if err != nil {
		return c.fail(err)
	}
	c.disturbed(removed.ID)
	res := wire.RemoveRes{Dir: changed(ci)}
	res.Encode(c.out)
	return wire.NFS4_OK
}

// opRename serves RENAME (RFC 8881 §18.26): from the saved directory to the current one. A file over a directory is NFS4ERR_ISDIR and the
// reverse NFS4ERR_NOTDIR, as rename(2) has it and as Linux's server says, for clients hand it on: not NFS4ERR_EXIST, as the RFC wants.
func opRename(c *compound) wire.Status {
	var a wire.RenameArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	for _, name := range [][]byte{a.OldName, a.NewName} {
		if st := wire.CheckComponent(name, maxNameBytes); st != wire.NFS4_OK {
			return st
		}
	}
	if st := c.mayUnlink(); st != wire.NFS4_OK {
		return st
	}
	if st := c.clearName(c.saved.id, a.OldName, state.OwnRead); st != wire.NFS4_OK {
		return st
	}
	if st := c.clearName(c.current.id, a.NewName, state.OwnAll); st != wire.NFS4_OK {
		return st
	}
	c.fresh = false
	var replaced vfs.Attr
	src, dst, err := c.s.fs.Rename(c.marked(), &c.cred, c.saved.id, string(a.OldName), c.current.id,
		string(a.NewName), &replaced)
	if err != nil {
		return c.fail(err)
	}
	c.disturbed(replaced.ID)
	c.disturbedName(c.current.id, a.NewName)
	res := wire.RenameRes{Source: changed(src), Target: changed(dst)}
	res.Encode(c.out)
	return wire.NFS4_OK
}
