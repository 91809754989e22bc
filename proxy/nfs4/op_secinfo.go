package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
)

// offeredFlavors are the ways of saying who one is.
var offeredFlavors = wire.SecinfoRes{Flavors: []uint32{uint32(rpc.AuthSys)}}

// offer writes the flavours and consumes the current filehandle (RFC 8881 §2.6.3.1.1.8).
func (c *compound) offer() wire.Status {
	offeredFlavors.Encode(c.out)
	c.leave()
	return wire.NFS4_OK
}

// opSecinfo serves SECINFO (RFC 8881 §18.29).
func opSecinfo(c *compound) wire.Status {
	var a wire.SecinfoArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if st := c.lookup(a.Name); st != wire.NFS4_OK {
		return st
	}
	return c.offer()
}

// opSecinfo40 serves SECINFO in minor version 0 (RFC 7530 §16.31), which leaves the current filehandle
// alone.
func opSecinfo40(c *compound) wire.Status {
	before := c.current
	st := opSecinfo(c)
	c.current, c.fresh = before, false
	return st
}

// opSecinfoNoName serves SECINFO_NO_NAME (RFC 8881 §18.45).
func opSecinfoNoName(c *compound) wire.Status {
	var a wire.SecinfoNoNameArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if a.Style == wire.SECINFO_STYLE4_PARENT && c.current.threshold {
		return wire.NFS4ERR_NOENT
	}
	if a.Style == wire.SECINFO_STYLE4_PARENT {
		if st := opLookupP(c); st != wire.NFS4_OK {
			return st
		}
	}
	return c.offer()
}
