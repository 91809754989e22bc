package nfs4

import (
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// copying is one COPY on its way.
type copying struct {
	cred     *vfs.Cred // nil: both files are open
	writer   vfs.Cred
	from, to vfs.FileID
	fromAt   uint64
	toAt     uint64
	length   uint64
	verifier wire.Verifier // from before anything is moved
}

// opCopy serves COPY (RFC 7862 §15.2) within the server. Of a range that can be cloned nothing is
// moved. Any other is copied while the client waits up to maxCopyBytes, and goes on after the answer if
// it is longer; where that cannot be, as much as maxCopyBytes is moved, and the client asks for the rest.
func opCopy(c *compound) wire.Status {
	var a wire.CopyArgs
	a.Decode(&c.args)
	switch {
	case c.malformed():
		return wire.NFS4ERR_BADXDR
	case a.Servers != 0:
		return wire.NFS4ERR_NOTSUPP
	}
	job, st := c.planCopy(&a)
	if st != wire.NFS4_OK {
		return st
	}
	c.fresh = false
	res := wire.CopyRes{Requirements: wire.CopyRequirements{Consecutive: true, Synchronous: true}}
	res.Response = wire.WriteResponse{Count: job.length, Committed: wire.FILE_SYNC4, Verifier: c.s.verifier()}
	if job.length > 0 && !c.cloned(job) {
		res.Response, st = c.copyData(&a, job)
		res.Requirements.Synchronous = !res.Response.Async
	}
	c.disturbedUnder(&a.Target)
	if st == wire.NFS4_OK {
		res.Encode(c.out)
	}
	return st
}

// copyData copies what cannot be cloned, or begins to.
func (c *compound) copyData(a *wire.CopyArgs, job *copying) (res wire.WriteResponse, st wire.Status) {
	job.verifier = c.s.verifier()
	res = wire.WriteResponse{Committed: wire.UNSTABLE4, Verifier: job.verifier}
	if res.Callback, res.Async = c.offload(a, job); !res.Async {
		res.Count, st = c.moveData(a, job)
	}
	return res, st
}

// planCopy checks a COPY and says what is to be copied.
func (c *compound) planCopy(a *wire.CopyArgs) (*copying, wire.Status) {
	cred, st := c.mayMove(&a.CloneArgs)
	if st != wire.NFS4_OK {
		return nil, st
	}
	var source vfs.Attr
	if err := c.s.fs.GetAttr(c.ctx, c.saved.id, &source); err != nil {
		return nil, c.fail(err)
	}
	if st := c.regularPair(); st != wire.NFS4_OK {
		return nil, st
	}
	job := &copying{cred: cred, writer: c.cred, from: c.saved.id, to: c.current.id,
		fromAt: a.SourceOffset, toAt: a.TargetOffset, length: a.Count}
	if a.SourceOffset > source.Size || a.Count > source.Size-a.SourceOffset {
		return nil, wire.NFS4ERR_INVAL
	}
	if job.length == 0 {
		job.length = source.Size - job.fromAt
	}
	switch {
	case job.toAt > vfs.MaxFileBytes || job.length > vfs.MaxFileBytes-job.toAt:
		return nil, wire.NFS4ERR_FBIG
	case job.from == job.to && job.fromAt < job.toAt+job.length && job.toAt < job.fromAt+job.length:
		return nil, wire.NFS4ERR_INVAL
	}
	return job, wire.NFS4_OK
}

// cloned copies by sharing storage. Where that is impossible, for the alignment or because the file system cannot do it, or fails on
// the way, at most a part of it has happened, and all is to be copied.
func (c *compound) cloned(job *copying) bool {
	if job.fromAt%vfs.CloneBytes != 0 || job.toAt%vfs.CloneBytes != 0 {
		return false
	}
	return c.s.fs.Clone(c.ctx, c.by(job.cred), job.from, job.to, job.fromAt, job.toAt, job.length, &c.attr) == nil
}

// moveData copies through memory and returns how much was copied: less than asked for if it is more
// than a request should wait for, if something fails on the way, or if a file was closed or is denied to others meanwhile.
func (c *compound) moveData(a *wire.CopyArgs, job *copying) (done uint64, st wire.Status) {
	buffer := c.s.copyBuffers.Get().(*[]byte)
	defer c.s.copyBuffers.Put(buffer)
	length := min(job.length, maxCopyBytes)
	for done < length && (done == 0 || c.mayMoveOn(&a.CloneArgs)) {
		n, err := c.s.copyPart(c.ctx, job, done, (*buffer)[:min(length-done, MaxIOBytes)])
		done += n
		switch {
		case err == nil && n > 0:
		case err == nil || done > 0:
			return done, wire.NFS4_OK
		default:
			return 0, c.failContent(err)
		}
	}
	return done, wire.NFS4_OK
}
