package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// ofSaved is may, mayDo or mayNow, for the saved file.
func (c *compound) ofSaved(may func(*wire.Stateid, bool) (*vfs.Cred, wire.Status), id *wire.Stateid, write bool) (cred *vfs.Cred, st wire.Status) {
	c.current, c.saved, c.fresh = c.saved, c.current, false
	cred, st = may(id, write)
	c.current, c.saved, c.fresh = c.saved, c.current, false
	return cred, st
}

// mayMove says whether data may be moved from the saved file to the current one, and whose access
// remains to be checked: nil if both are open.
func (c *compound) mayMove(a *wire.CloneArgs) (cred *vfs.Cred, st wire.Status) {
	if _, st = c.ofSaved(c.mayDo, &a.Source, false); st != wire.NFS4_OK {
		return nil, st
	}
	target, st := c.mayDo(&a.Target, true)
	if st != wire.NFS4_OK {
		return nil, st
	}
	source, st := c.ofSaved(c.mayNow, &a.Source, false) // the target may have been waited for
	switch {
	case st != wire.NFS4_OK:
		return nil, st
	case source != nil:
		return source, wire.NFS4_OK
	}
	return target, wire.NFS4_OK
}

// mayMoveOn says whether what mayMove has allowed is still so, and waits for nothing.
func (c *compound) mayMoveOn(a *wire.CloneArgs) bool {
	_, st := c.ofSaved(c.mayNow, &a.Source, false)
	if st == wire.NFS4_OK {
		_, st = c.mayNow(&a.Target, true)
	}
	return st == wire.NFS4_OK
}

// opClone serves CLONE (RFC 7862 §15.13): the saved file's content becomes the current one's too.
func opClone(c *compound) wire.Status {
	var a wire.CloneArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	cred, st := c.mayMove(&a)
	if st != wire.NFS4_OK {
		return st
	}
	if st := c.regularPair(); st != wire.NFS4_OK {
		return st
	}
	c.fresh = false
	err := c.s.fs.Clone(c.ctx, c.by(cred), c.saved.id, c.current.id, a.SourceOffset, a.TargetOffset, a.Count, &c.attr)
	c.disturbedUnder(&a.Target)
	if err != nil {
		return c.fail(err)
	}
	c.fresh = true
	return wire.NFS4_OK
}

// regularPair says whether the saved and the current file have content; c.attr is the current one's
// then.
func (c *compound) regularPair() wire.Status {
	var source vfs.Attr
	if err := c.s.fs.GetAttr(c.ctx, c.saved.id, &source); err != nil {
		return c.fail(err)
	}
	if st := wantRegular(source.Kind); st != wire.NFS4_OK {
		return st
	}
	return c.mayLock()
}
