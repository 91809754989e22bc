package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// readdirVerifier is the cookie verifier of every directory: an entry keeps its cookie for its life,
// so cookies are always good.
var readdirVerifier wire.Verifier

// listedAttrs are those of an entry that are told to who may not search the directory, as readdir(3) does. With the handle the file
// could be opened.
var listedAttrs = wire.BitmapOf(wire.FATTR4_TYPE, wire.FATTR4_FILEID, wire.FATTR4_MOUNTED_ON_FILEID, wire.FATTR4_RDATTR_ERROR)

// opReaddir serves READDIR (RFC 8881 §18.23). Entries are written as they are visited, and the first
// one that does not fit ends the reply. What the holder of a write delegation does not tell in time is left out of
// its file's entry, with NFS4ERR_DELAY in rdattr_error, if the client asked for that; what a caller who may not search the directory
// asks for likewise, with NFS4ERR_ACCESS.
func opReaddir(c *compound) wire.Status {
	var a wire.ReaddirArgs
	a.Decode(&c.args)
	switch {
	case c.malformed():
		return wire.NFS4ERR_BADXDR
	case !a.Request.And(writeOnlyAttrs).IsZero():
		return wire.NFS4ERR_INVAL
	case a.Cookie == 1 || a.Cookie == 2:
		return wire.NFS4ERR_BAD_COOKIE
	case a.Cookie != 0 && a.Verifier != readdirVerifier:
		return wire.NFS4ERR_NOT_SAME
	}
	mask := a.Request.And(c.readable())
	if st := c.gatherStat(mask); st != wire.NFS4_OK {
		return st
	}
	l := listing{c: c, args: a, mask: mask}
	if st := l.withhold(); st != wire.NFS4_OK {
		return st
	}
	l.withAttr = !l.mask.And(fileAttrs).IsZero()
	start := c.out.Len()
	st := l.write()
	if st != wire.NFS4_OK || l.held == nil {
		return st
	}
	if st := l.settle(); st != wire.NFS4_OK {
		return st
	}
	c.out.Truncate(start)
	l.second = true
	return l.write()
}

// opReadlink serves READLINK (RFC 8881 §18.24).
func opReadlink(c *compound) wire.Status {
	target, err := c.s.fs.Readlink(c.ctx, &c.cred, c.current.id)
	if err == nil {
		c.out.String(target)
		return wire.NFS4_OK
	}
	st := c.fail(err)
	if st != wire.NFS4ERR_INVAL {
		return st
	}
	if st := c.know(); st != wire.NFS4_OK {
		return st
	}
	if c.attr.Kind == vfs.Symlink {
		return st
	}
	return wire.NFS4ERR_WRONG_TYPE
}
