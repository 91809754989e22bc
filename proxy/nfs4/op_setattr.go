package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// opSetAttr serves SETATTR (RFC 8881 §18.30). The attributes that were set are told whatever the
// status is.
func opSetAttr(c *compound) wire.Status {
	a := &c.a.setAttr
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	c.receive(&a.Attrs)
	done, st := c.applyAttrs(a)
	done.Encode(c.out)
	return st
}

// applyAttrs sets a's attributes and returns those that were set.
func (c *compound) applyAttrs(a *wire.SetAttrArgs) (done wire.Bitmap, st wire.Status) {
	if st := c.toSet(a); st != wire.NFS4_OK {
		return done, st
	}
	if c.setAttr.Mask&vfs.SetSize != 0 {
		if c.setAttr.Held, st = c.maySetSize(&a.Stateid); st != wire.NFS4_OK {
			return done, st
		}
	}
	cred := &c.cred
	if st = c.mayKeepTimes(a, &cred); st != wire.NFS4_OK {
		return done, st
	}
	empties := c.setAttr.Mask&vfs.SetSize != 0 && c.setAttr.Size == 0
	if st = c.clearOwn(c.current.id, c.apart(&a.Stateid), true, empties); st != wire.NFS4_OK {
		return done, st
	}
	if c.setAttr.Mask&vfs.SetSize != 0 && state.Classify(&a.Stateid) != state.Ordinary {
		if st = c.mayDoAnonymously(true, false); st != wire.NFS4_OK { // by what was told with a delegation that came back
			return done, st
		}
	}
	if st := c.keepMode(&a.Attrs); st != wire.NFS4_OK {
		return done, st
	}
	c.fresh = false
	if err := c.s.fs.SetAttr(c.ctx, cred, c.current.id, &c.setAttr, &c.attr); err != nil {
		return done, c.fail(err)
	}
	c.fresh = true
	c.disturbed(c.current.id)
	return a.Attrs.Mask, wire.NFS4_OK
}

// apart says which of the client's own delegations are in the way of c.setAttr, whose stateid is id: of a size that is set without
// having the file open all, of mode and owner those to read. Times are set under any.
func (c *compound) apart(id *wire.Stateid) state.Own {
	switch {
	case c.setAttr.Mask&vfs.SetSize != 0 && state.Classify(id) != state.Ordinary:
		return state.OwnAll
	case c.setAttr.Mask&(vfs.SetMode|vfs.SetUID|vfs.SetGID) != 0:
		return state.OwnRead
	}
	return state.OwnStay
}

// toSet is toSet for a SETATTR, which may have times that are kept under a delegation.
func (c *compound) toSet(a *wire.SetAttrArgs) wire.Status {
	mask := a.Attrs.Mask
	a.Attrs.Mask = mask.Without(delegatedAttrs)
	st := toSet(&a.Attrs, &c.setAttr)
	a.Attrs.Mask = mask
	return st
}

// mayKeepTimes lets the holder of a delegation that covers the times set them, whoever the user is
// (RFC 9754 §5), that of the last change if it is one for writing; nobody else can set these attributes.
func (c *compound) mayKeepTimes(a *wire.SetAttrArgs, cred **vfs.Cred) wire.Status {
	if a.Attrs.Mask.And(delegatedAttrs).IsZero() {
		return wire.NFS4_OK
	}
	if st := c.resolve(&a.Stateid); st != wire.NFS4_OK {
		return st
	}
	write := a.Attrs.Mask.Has(wire.FATTR4_TIME_DELEG_MODIFY)
	since, st := c.s.state.KeepsTimes(&c.ticket, &a.Stateid, c.file(), write)
	if st != wire.NFS4_OK {
		return st
	}
	if isNoTime(&a.Attrs, wire.FATTR4_TIME_DELEG_ACCESS, &a.Attrs.TimeDelegAccess) ||
		isNoTime(&a.Attrs, wire.FATTR4_TIME_DELEG_MODIFY, &a.Attrs.TimeDelegModify) {
		return wire.NFS4ERR_INVAL
	}
	if a.Attrs.Mask.Without(delegatedAttrs).IsZero() {
		*cred = nil
	}
	c.s.heldTimes(&a.Attrs, since, &c.setAttr)
	return wire.NFS4_OK
}

// isNoTime says that a has attribute attr, and that t, its value, is none (RFC 8881 §3.3.1).
func isNoTime(a *wire.Attrs, attr wire.AttrNumber, t *wire.Time) bool {
	return a.Mask.Has(attr) && t.Nsec >= 1e9
}

// maySetSize says whether the size may be changed, as by a WRITE under the stateid; held, that the
// file is open for it, so that the mode does not matter any more.
func (c *compound) maySetSize(id *wire.Stateid) (held bool, st wire.Status) {
	if st := c.resolve(id); st != wire.NFS4_OK {
		return false, st
	}
	if state.Classify(id) != state.Ordinary {
		return false, c.mayDoAnonymously(true, false)
	}
	own, st := c.admitStateid(id)
	if st != wire.NFS4_OK {
		return false, st
	}
	return own, c.s.state.CheckIO(&c.ticket, id, c.file(), true)
}
