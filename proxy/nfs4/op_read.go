package nfs4

import (
	"errors"

	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// readOverheadBytes are the eof flag, the length and the padding around the data.
const readOverheadBytes = 12

// mayDo says whether the current file may be read or written under stateid id, and makes way for that. cred is whose access
// remains to be checked: nil if the file is open.
func (c *compound) mayDo(id *wire.Stateid, write bool) (cred *vfs.Cred, st wire.Status) {
	if st := c.resolve(id); st != wire.NFS4_OK {
		return nil, st
	}
	cred, st = c.mayNow(id, write)
	if st != wire.NFS4_OK || state.Classify(id) == state.Ordinary || c.s.state.Delegations() == 0 {
		return cred, st
	}
	if st := c.clear(c.current.id, write, false); st != wire.NFS4_OK {
		return cred, st
	}
	return c.mayNow(id, write) // who gave a delegation back has told of the opens under it, and of what they deny
}

// mayNow is mayDo by what is known already; id is resolved.
func (c *compound) mayNow(id *wire.Stateid, write bool) (cred *vfs.Cred, st wire.Status) {
	class := state.Classify(id)
	if class != state.Ordinary {
		return &c.cred, c.mayDoAnonymously(write, class == state.Bypass)
	}
	own, st := c.admitStateid(id)
	if st != wire.NFS4_OK {
		return nil, st
	}
	if !own {
		cred = &c.cred
	}
	return cred, c.s.state.CheckIO(&c.ticket, id, c.file(), write)
}

// by is who changes a file whose access is to be checked for cred, as mayDo has it: uid 0 is named though the file is open. It may
// do everything, and what it changes keeps its set-id bits.
func (c *compound) by(cred *vfs.Cred) *vfs.Cred {
	if cred == nil && c.cred.UID == 0 {
		return &c.cred
	}
	return cred
}

// mayDoAnonymously says whether the current file may be read or written without an open; bypass is as for
// state.Machine.CheckAnonymous. What expired clients deny goes (RFC 7530 §9.6.3.1).
func (c *compound) mayDoAnonymously(write, bypass bool) wire.Status {
	st := c.s.state.CheckAnonymous(c.file(), write, bypass)
	if st != wire.NFS4ERR_LOCKED {
		return st
	}
	return c.unblock(func() (victim wire.ClientID, st wire.Status) {
		return c.s.state.Denier(c.file(), write), c.s.state.CheckAnonymous(c.file(), write, bypass)
	})
}

// admitStateid finds the client of a stateid where the request has no session that says who it is. own
// says that the caller can rely on the open: in minor version 0 it must be for the same user.
func (c *compound) admitStateid(id *wire.Stateid) (own bool, st wire.Status) {
	if !c.is40() {
		return true, wire.NFS4_OK
	}
	return c.s.state.EnterStateid(id, &c.principal, &c.ticket) // left in result
}

// failContent is fail for operations on a file's content.
func (c *compound) failContent(err error) wire.Status {
	if !errors.Is(err, vfs.ErrWrongType) {
		return c.fail(err)
	}
	if st := c.know(); st != wire.NFS4_OK {
		return st
	}
	return wantRegular(c.attr.Kind)
}

// opRead serves READ (RFC 8881 §18.22): the data goes straight into the reply, or is sent from where it lies.
func opRead(c *compound) wire.Status {
	a := &c.a.read
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	cred, st := c.mayDo(&a.Stateid, false)
	if st != wire.NFS4_OK {
		return st
	}
	room := c.out.Room() - readOverheadBytes
	if room < 0 {
		return c.tooBig
	}
	count := min(int64(a.Count), MaxIOBytes, int64(room))
	if n, eof := c.lend(cred, a.Offset, int(count)); n > 0 {
		c.readWriter.Lent(c.out, n, eof)
		return wire.NFS4_OK
	}
	data := c.readWriter.Begin(c.out, int(count))
	n, eof, err := c.s.fs.Read(c.ctx, cred, c.current.id, a.Offset, data)
	if err != nil {
		return c.failContent(err)
	}
	c.readWriter.End(n, eof)
	c.s.bytesRead.Add(uint64(n))
	return wire.NFS4_OK
}

// lend ends the reply with content that the file system lends, and returns how much that is and whether the file ends there; 0 if
// nothing is lent. What says so in the operation's result is the caller's to write.
func (c *compound) lend(cred *vfs.Cred, offset uint64, count int) (n int, eof bool) {
	if count < minLentBytes || c.s.lender == nil || !c.endsReply() {
		return 0, false
	}
	loan, eof := c.s.lender.Lend(c.ctx, cred, c.current.id, offset, count)
	if loan == nil {
		return 0, false
	}
	for _, view := range loan.Views() {
		n += len(view)
	}
	c.call.Attach(loan, n)
	c.s.bytesRead.Add(uint64(n))
	return n, eof
}

// A session keeps no reply as long as that, so none that would lack what is lent.
const _ = uint(minLentBytes - state.MaxCachedReplyBytes)

// endsReply says whether what the present operation attaches can be the end of the reply: nothing follows it, and with minor version 0
// the reply is not kept for a retry.
func (c *compound) endsReply() bool {
	return c.call.CanAttach() && c.index == c.head.Ops-1 && c.first40 == nil
}
