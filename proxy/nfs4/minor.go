package nfs4

import "github.com/nfseal/nfseal/proxy/nfs4/wire"

// attrsOf are the attributes that each minor version has, served or not: one that an earlier version
// does not have is unknown to it (RFC 8178 §4.4). Those about delegations are of minor version 2 by the
// book (RFC 9754); OPEN's arguments, which they belong to, are the same in version 1, and clients in use
// ask for them there.
var attrsOf = [maxMinorVersion + 1]wire.Bitmap{
	0: attrsUpTo(wire.FATTR4_MOUNTED_ON_FILEID),
	1: attrsUpTo(wire.FATTR4_FS_CHARSET_CAP).Or(delegationAttrs),
	2: attrsUpTo(wire.FATTR4_OPEN_ARGUMENTS),
}

func attrsUpTo(last wire.AttrNumber) (b wire.Bitmap) {
	for n := range last + 1 {
		b.Set(n)
	}
	return b
}

// readable are the attributes that can be read in c's minor version.
func (c *compound) readable() wire.Bitmap { return readableAttrs.And(attrsOf[c.head.MinorVersion]) }

// supported are the attributes that are served in c's minor version.
func (c *compound) supported() wire.Bitmap { return supportedAttrs.And(attrsOf[c.head.MinorVersion]) }

// speak fills in what is told of the attributes themselves.
func (c *compound) speak() {
	c.outAttrs.SupportedAttrs = c.supported()
	c.outAttrs.SuppattrExclcreat = settableAttrs.And(attrsOf[c.head.MinorVersion])
}

// receive makes attributes to be set that c's minor version does not have unknown ones, and turns names
// of owners into numbers where it can.
func (c *compound) receive(a *wire.Attrs) {
	a.Unknown = a.Unknown || !a.Mask.Without(attrsOf[c.head.MinorVersion]).IsZero()
	if a.Mask.Has(wire.FATTR4_OWNER) {
		c.s.opt.number(&a.Owner, c.s.opt.Squash.AnonUID)
	}
	if a.Mask.Has(wire.FATTR4_OWNER_GROUP) {
		c.s.opt.number(&a.OwnerGroup, c.s.opt.Squash.AnonGID)
	}
}
