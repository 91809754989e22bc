package nfs4

import (
	"bytes"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// opVerify serves VERIFY (RFC 8881 §18.31): it fails unless the attributes are as the client says.
func opVerify(c *compound) wire.Status {
	same, st := c.compare()
	if st == wire.NFS4_OK && !same {
		return wire.NFS4ERR_NOT_SAME
	}
	return st
}

// opNVerify serves NVERIFY (RFC 8881 §18.15): it fails if the attributes are as the client says.
func opNVerify(c *compound) wire.Status {
	same, st := c.compare()
	if st == wire.NFS4_OK && same {
		return wire.NFS4ERR_SAME
	}
	return st
}

// compare says whether the current file's attributes are those in the arguments, byte by byte. The
// file's are encoded behind the result, which has no body, and taken away again.
func (c *compound) compare() (same bool, st wire.Status) {
	a := &c.a.verify.Attrs
	a.Decode(&c.args)
	switch {
	case c.malformed():
		return false, wire.NFS4ERR_BADXDR
	case a.Unknown || !a.Mask.Without(c.supported()).IsZero():
		return false, wire.NFS4ERR_ATTRNOTSUPP
	case !a.Mask.And(writeOnlyAttrs).IsZero() || a.Mask.Has(wire.FATTR4_RDATTR_ERROR):
		return false, wire.NFS4ERR_INVAL
	}
	if st := c.gather(a.Mask); st != wire.NFS4_OK {
		return false, st
	}
	from := c.out.Len()
	c.outAttrs.Encode(c.out)
	if c.out.Err() != nil {
		return false, wire.NFS4_OK // reported as too big
	}
	encoded := c.out.Bytes()[from:]
	same = len(encoded) >= len(a.Raw) && bytes.Equal(encoded[len(encoded)-len(a.Raw):], a.Raw) &&
		len(encoded) == encodedLen(a.Mask, len(a.Raw))
	c.out.Truncate(from)
	return same, wire.NFS4_OK
}

// encodedLen is the length of a fattr4 with attributes mask and values of n bytes.
func encodedLen(mask wire.Bitmap, n int) int {
	words := len(mask)
	for words > 0 && mask[words-1] == 0 {
		words--
	}
	return 4 + 4*words + 4 + n
}
