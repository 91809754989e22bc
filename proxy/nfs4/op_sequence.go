package nfs4

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

const sequenceResultBytes = 36

// enterSession serves SEQUENCE (RFC 8881 §18.46) in its place, at the beginning. With Execute and
// Uncached its result is written but for the status.
func (c *compound) enterSession() (state.Verdict, wire.Status) {
	a := &c.a.sequence
	a.Decode(&c.args)
	if c.malformed() {
		return state.Refused, wire.NFS4ERR_BADXDR
	}
	c.operations = c.args
	c.sequence = state.SequenceRequest{
		Session:      a.SessionID,
		Identity:     c.b.conn.Identity,
		Conn:         c.b,
		Sequence:     a.SequenceID,
		Slot:         a.SlotID,
		Highest:      a.HighestSlot,
		CacheThis:    a.CacheThis,
		Guest:        !c.grant.Mount,
		RequestBytes: c.requestLen,
		ReplyBytes:   c.out.Len() + sequenceResultBytes,
		Operations:   c.head.Ops,
		Fingerprint:  c.fingerprint(),
	}
	if c.head.Ops > 1 {
		c.sequence.ReplyBytes += tailBytes
	}
	verdict, st := c.s.state.Sequence(&c.sequence, &c.ticket)
	if verdict == state.Refused || verdict == state.Replayed {
		return verdict, st
	}
	c.limit = min(c.limit, c.ticket.MaxReplyBytes-c.overhead)
	if a.CacheThis && c.ticket.MaxCachedBytes < c.limit {
		c.limit, c.tooBig = c.ticket.MaxCachedBytes, wire.NFS4ERR_REP_TOO_BIG_TO_CACHE
	}
	res := wire.SequenceRes{
		SessionID:         a.SessionID,
		SequenceID:        a.SequenceID,
		SlotID:            a.SlotID,
		HighestSlot:       c.ticket.Slots - 1,
		TargetHighestSlot: c.ticket.Target - 1,
		StatusFlags:       c.ticket.Status,
	}
	res.Encode(c.out)
	if verdict == state.Execute {
		c.w.EndOp(c.at, wire.NFS4_OK)
	}
	return verdict, st
}

// tellSlots puts how many slots there are now into a reply that is repeated: it may be from before some
// were taken away.
func (c *compound) tellSlots(reply []byte) {
	const beforeTag, behindTag = 8, 4 + resultHeaderBytes + 16 + 4 + 4
	tag := int(binary.BigEndian.Uint32(reply[4:]))
	slots := reply[beforeTag+(tag+3)&^3+behindTag:]
	binary.BigEndian.PutUint32(slots, c.ticket.Slots-1)
	binary.BigEndian.PutUint32(slots[4:], c.ticket.Target-1)
}

// sequenceResult is the result of SEQUENCE with its status, which has been written.
func (c *compound) sequenceResult() []byte {
	at := c.replyStart + 4 + 4 + (len(c.head.Tag)+3)&^3 + 4 + resultHeaderBytes
	return c.out.Bytes()[at-4 : at+sequenceResultBytes]
}

// opSequenceAgain serves a SEQUENCE that is not the first operation.
func opSequenceAgain(c *compound) wire.Status {
	c.a.sequence.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	return wire.NFS4ERR_SEQUENCE_POS
}

// fingerprintBytes of the operations tell a request from others: one that differs only behind them is
// not a retry that a client could have mistaken for another.
const fingerprintBytes = 512

// fingerprint tells requests on one slot apart: by the caller, the length, and the operations behind
// SEQUENCE. Not by the tag, and not by the arguments of SEQUENCE, some of which a client may fill in
// anew for a retry.
func (c *compound) fingerprint() uint64 {
	rest := c.args
	length := rest.Remaining()
	ops := rest.Fixed(min(length, fingerprintBytes) &^ 3)
	who := [4]uint64{uint64(c.principal.Flavor), uint64(c.principal.UID), uint64(length), uint64(c.head.Ops)}
	return maphash.Bytes(c.s.seed, ops) ^ maphash.Comparable(c.s.seed, who)
}
