package nfs4

import "github.com/nfseal/nfseal/proxy/nfs4/wire"

// gather puts those attributes of the current file that are in mask into c.outAttrs.
func (c *compound) gather(mask wire.Bitmap) wire.Status {
	if c.current.threshold {
		c.gatherThreshold(mask)
		return wire.NFS4_OK
	}
	if st := c.know(); st != wire.NFS4_OK {
		return st
	}
	if st := c.consult(mask); st != wire.NFS4_OK {
		return st
	}
	if st := c.gatherStat(mask); st != wire.NFS4_OK {
		return st
	}
	c.s.present(&c.outAttrs, &c.handle, &c.attr, mask)
	return wire.NFS4_OK
}

// gatherStat counts the file system's capacity if mask asks for it.
func (c *compound) gatherStat(mask wire.Bitmap) wire.Status {
	if mask.And(statAttrs).IsZero() {
		return wire.NFS4_OK
	}
	if err := c.s.fs.StatFS(c.ctx, &c.statFS); err != nil {
		return c.fail(err)
	}
	presentStat(&c.outAttrs, &c.statFS)
	return wire.NFS4_OK
}

// opGetAttr serves GETATTR (RFC 8881 §18.7). Attributes that are not supported are left out.
func opGetAttr(c *compound) wire.Status {
	a := &c.a.getAttr
	a.Decode(&c.args)
	switch {
	case c.malformed():
		return wire.NFS4ERR_BADXDR
	case !a.Request.And(writeOnlyAttrs).IsZero():
		return wire.NFS4ERR_INVAL
	}
	if st := c.gather(a.Request.And(c.readable())); st != wire.NFS4_OK {
		return st
	}
	c.outAttrs.Encode(c.out)
	return wire.NFS4_OK
}
