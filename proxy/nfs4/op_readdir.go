package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// readdirVerifier is the cookie verifier of every directory: an entry keeps its cookie for its life,
// so cookies are always good.
var readdirVerifier wire.Verifier

// opReaddir serves READDIR (RFC 8881 §18.23). Entries are written as they are visited, and the first
// one that does not fit ends the reply.
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
	var w wire.ReaddirWriter
	w.Begin(c.out, readdirVerifier, a.DirCount, min(a.MaxCount, maxReaddirBytes))
	full := false
	visit := func(e *vfs.DirEntry) bool {
		c.s.present(&c.outAttrs, &c.entry, &e.Attr, mask)
		full = !w.Add(e.Cookie, e.Name, &c.outAttrs)
		return !full
	}
	withAttr := !mask.And(fileAttrs).IsZero()
	eof, err := c.s.fs.ReadDir(c.ctx, &c.cred, c.current.id, a.Cookie, withAttr, visit)
	if err != nil {
		return c.fail(err)
	}
	return w.End(eof && !full)
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
