package nfs4

import (
	"encoding/binary"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/xdr"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// A retry of a request that was carried out before the server started, and whose reply was lost, is
// answered out of the request's mark (RFC 8881 §2.10.6.5). What the mark says was done is not done again;
// operations that only look are executed; for the rest the session is dead.

// repeats answers operations that their mark says were carried out: what they were asked for is decoded
// again, and what came of it is done.
var repeats = map[wire.Op]func(c *compound, done *vfs.Done) wire.Status{
	wire.OP_CREATE:      repeatCreate,
	wire.OP_LINK:        repeatChange[wire.LinkArgs],
	wire.OP_OPEN:        repeatOpen,
	wire.OP_REMOVE:      repeatChange[wire.RemoveArgs],
	wire.OP_REMOVEXATTR: repeatChange[wire.RemoveXattrArgs],
	wire.OP_RENAME:      repeatRename,
	wire.OP_SETXATTR:    repeatChange[wire.SetXattrArgs],
}

// looks are the operations that change nothing and need no session.
var looks = map[wire.Op]bool{
	wire.OP_ACCESS:    true,
	wire.OP_GETATTR:   true,
	wire.OP_GETFH:     true,
	wire.OP_LOOKUP:    true,
	wire.OP_LOOKUPP:   true,
	wire.OP_NVERIFY:   true,
	wire.OP_PUTFH:     true,
	wire.OP_PUTPUBFH:  true,
	wire.OP_PUTROOTFH: true,
	wire.OP_READLINK:  true,
	wire.OP_RESTOREFH: true,
	wire.OP_SAVEFH:    true,
	wire.OP_VERIFY:    true,
}

// repeatFormer answers a request of a session that is not known, if it is the retry of one that was
// carried out before the start. SEQUENCE has been decoded, and nothing written of its result.
func (c *compound) repeatFormer() bool {
	a := &c.a.sequence
	was := c.s.formerRequestAt(markKeyOf(a.SessionID, a.SlotID))
	if was == nil || was.sequence != a.SequenceID || was.print != c.print() {
		return false
	}
	highest := max(a.HighestSlot, a.SlotID) // that the client uses is all that is known of its slots
	res := wire.SequenceRes{
		SessionID:         a.SessionID,
		SequenceID:        a.SequenceID,
		SlotID:            a.SlotID,
		HighestSlot:       highest,
		TargetHighestSlot: highest,
	}
	res.Encode(c.out)
	c.w.EndOp(c.at, wire.NFS4_OK)
	c.repeating = was
	c.index = 1
	c.run()
	c.repeating = nil
	return true
}

// done returns what came of the operation at c.index, if it was carried out.
func (r *formerRequest) done(index uint32) *vfs.Done {
	for i := range r.operations {
		if r.operations[i].index == index {
			return &r.operations[i].done
		}
	}
	return nil
}

// executeAgain is execute for a request that is repeated.
func (c *compound) executeAgain(op wire.Op, def *opDef) wire.Status {
	done := c.repeating.done(uint32(c.index))
	answer := repeats[op]
	switch {
	case done != nil && answer != nil && !c.out.Provide(def.resultBytes):
		return c.tooBig
	case done != nil && answer != nil:
		return answer(c, done)
	case !looks[op]:
		return wire.NFS4ERR_DEADSESSION
	}
	if st := c.admit(def); st != wire.NFS4_OK {
		return st
	}
	return def.run(c)
}

func repeatCreate(c *compound, done *vfs.Done) wire.Status {
	a := &c.a.create
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	c.goTo(done.File)
	res := wire.CreateRes{Dir: changed(done.Change), Set: a.Attrs.Mask}
	res.Encode(c.out)
	return wire.NFS4_OK
}

// repeatOpen answers an OPEN that made its file. The open itself is gone as all are: its stateid is one of
// the former start, which the client reclaims with its others in the recovery phase.
func repeatOpen(c *compound, done *vfs.Done) wire.Status {
	a := &c.a.open
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	c.goTo(done.File)
	res := wire.OpenRes{
		Stateid: c.lostStateid(done.File),
		Dir:     changed(done.Change),
		Flags:   wire.OPEN4_RESULT_LOCKTYPE_POSIX | wire.OPEN4_RESULT_PRESERVE_UNLINKED,
	}
	if a.CreateMode != wire.EXCLUSIVE4 {
		res.Set = a.Attrs.Mask
	}
	c.remember(res.Stateid)
	res.Encode(c.out)
	return wire.NFS4_OK
}

// lostStateid is a stateid of the start that the session was made in, as package state makes them, with a
// number that it never gave out.
func (c *compound) lostStateid(file vfs.FileID) wire.Stateid {
	id := wire.Stateid{Seqid: 1}
	copy(id.Other[:4], c.a.sequence.SessionID[:4])
	binary.BigEndian.PutUint64(id.Other[4:], 1<<63|file.Inode)
	return id
}

// repeatChange answers an operation with arguments A and one change information as its result.
func repeatChange[A any, P interface {
	*A
	Decode(*xdr.Decoder)
}](c *compound, done *vfs.Done) wire.Status {
	var a A
	P(&a).Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	res := wire.ChangeInfoRes{Change: changed(done.Change)}
	res.Encode(c.out)
	return wire.NFS4_OK
}

func repeatRename(c *compound, done *vfs.Done) wire.Status {
	var a wire.RenameArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	res := wire.RenameRes{Source: changed(done.Change), Target: changed(done.Target)}
	res.Encode(c.out)
	return wire.NFS4_OK
}
