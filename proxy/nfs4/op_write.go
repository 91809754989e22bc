package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// opWrite serves WRITE (RFC 8881 §18.32). Data above MaxIOBytes is left for the client to send again,
// which it learns from the count.
func opWrite(c *compound) wire.Status {
	a := &c.a.write
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	cred, st := c.mayDo(&a.Stateid, true)
	if st != wire.NFS4_OK {
		return st
	}
	data := a.Data[:min(len(a.Data), MaxIOBytes)]
	c.fresh = false
	verifier := c.s.verifier()
	how, err := c.s.fs.Write(c.ctx, &c.cred, cred != nil, c.current.id, a.Offset, data, vfs.Stability(a.Stable))
	c.disturbedUnder(&a.Stateid)
	if err != nil {
		return c.failContent(err)
	}
	c.s.bytesWritten.Add(uint64(len(data)))
	res := wire.WriteRes{Count: uint32(len(data)), Committed: wire.StableHow(how), Verifier: verifier}
	res.Encode(c.out)
	return wire.NFS4_OK
}

// opCommit serves COMMIT (RFC 8881 §18.3).
func opCommit(c *compound) wire.Status {
	a := &c.a.commit
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if err := c.s.fs.Commit(c.ctx, c.current.id, a.Offset, uint64(a.Count)); err != nil {
		return c.failContent(err)
	}
	res := wire.CommitRes{Verifier: c.s.verifier()}
	res.Encode(c.out)
	return wire.NFS4_OK
}
