package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// opGetXattr serves GETXATTR (RFC 8276 §8.4.1).
func opGetXattr(c *compound) wire.Status {
	var a wire.GetXattrArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	value, err := c.s.fs.GetXattr(c.ctx, &c.cred, c.current.id, string(a.Name))
	if err != nil {
		return c.fail(err)
	}
	res := wire.GetXattrRes{Value: value}
	res.Encode(c.out)
	return wire.NFS4_OK
}

var xattrModes = [...]vfs.XattrMode{
	wire.SETXATTR4_EITHER:  vfs.XattrEither,
	wire.SETXATTR4_CREATE:  vfs.XattrCreate,
	wire.SETXATTR4_REPLACE: vfs.XattrReplace,
}

// opSetXattr serves SETXATTR (RFC 8276 §8.4.2).
func opSetXattr(c *compound) wire.Status {
	var a wire.SetXattrArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if st := c.clear(c.current.id, true, false); st != wire.NFS4_OK {
		return st
	}
	c.fresh = false
	ci, err := c.s.fs.SetXattr(c.marked(), &c.cred, c.current.id, string(a.Name), a.Value, xattrModes[a.Option])
	return c.answerChange(ci, err)
}

// opRemoveXattr serves REMOVEXATTR (RFC 8276 §8.4.4).
func opRemoveXattr(c *compound) wire.Status {
	var a wire.RemoveXattrArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if st := c.clear(c.current.id, true, false); st != wire.NFS4_OK {
		return st
	}
	c.fresh = false
	ci, err := c.s.fs.RemoveXattr(c.marked(), &c.cred, c.current.id, string(a.Name))
	return c.answerChange(ci, err)
}

func (c *compound) answerChange(ci vfs.ChangeInfo, err error) wire.Status {
	if err != nil {
		return c.fail(err)
	}
	c.disturbed(c.current.id)
	res := wire.ChangeInfoRes{Change: changed(ci)}
	res.Encode(c.out)
	return wire.NFS4_OK
}

// opListXattrs serves LISTXATTRS (RFC 8276 §8.4.3). The first name that does not fit ends the reply. Memory is got as for READDIR.
func opListXattrs(c *compound) wire.Status {
	var a wire.ListXattrsArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	limit, end := c.out.Limit(), c.out.Len()+min(max(int(a.MaxCount), wire.EmptyXattrsBytes), c.out.Room())
	if c.provideList(a.Cookie) && !c.out.Provide(end-c.out.Len()) {
		return c.tooBig
	}
	defer c.out.SetLimit(limit)
	c.out.SetLimit(min(end, c.out.Len()+c.out.Spare()))
	var w wire.ListXattrsWriter
	if !w.Begin(c.out, a.MaxCount) {
		return wire.NFS4ERR_TOOSMALL
	}
	for last := a.Cookie; ; {
		more, err := c.s.fs.ListXattrs(c.ctx, &c.cred, c.current.id, last, func(name string, cookie uint64) bool {
			if !w.Add(name) {
				return false
			}
			last = cookie
			return true
		})
		all := c.out.Limit() == end
		c.out.SetLimit(end)
		switch {
		case err != nil:
			return c.fail(err)
		case more && !all:
			w.Extend(a.MaxCount)
			if !c.out.Provide(end - c.out.Len()) {
				return c.tooBig
			}
		case more && w.Names() == 0:
			return wire.NFS4ERR_TOOSMALL
		default:
			w.End(last, !more)
			return wire.NFS4_OK
		}
	}
}
