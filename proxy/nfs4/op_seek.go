package nfs4

import (
	"errors"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// opSeek serves SEEK (RFC 7862 §15.11). The end of the file is where the last hole begins; that there
// is no data before it is an answer, not a failure.
func opSeek(c *compound) wire.Status {
	var a wire.SeekArgs
	a.Decode(&c.args)
	switch {
	case c.malformed():
		return wire.NFS4ERR_BADXDR
	case a.What > wire.NFS4_CONTENT_HOLE:
		return wire.NFS4ERR_UNION_NOTSUPP
	}
	cred, st := c.mayDo(&a.Stateid, false)
	if st != wire.NFS4_OK {
		return st
	}
	what := vfs.SeekData
	if a.What == wire.NFS4_CONTENT_HOLE {
		what = vfs.SeekHole
	}
	at, err := c.s.fs.Seek(c.ctx, cred, c.current.id, a.Offset, what)
	if err != nil && !errors.Is(err, vfs.ErrNoData) {
		return c.failContent(err)
	}
	c.fresh = false
	if st := c.know(); st != wire.NFS4_OK {
		return st
	}
	if err != nil {
		if a.Offset >= c.attr.Size {
			return wire.NFS4ERR_NXIO
		}
		at = c.attr.Size
	}
	res := wire.SeekRes{EOF: at >= c.attr.Size, Offset: at}
	res.Encode(c.out)
	return wire.NFS4_OK
}
