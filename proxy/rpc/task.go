package rpc

import (
	"encoding/binary"
	"time"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// task is one call from its record to its written reply. Tasks are pooled.
type task struct {
	s       *server
	record  *buffer
	n       int // bytes of the record so far
	call    Call
	reply   *buffer // record mark, then what enc has written
	enc     xdr.Encoder
	refused bool   // the reply is there already
	hasPass bool   // it need not wait for memory
	run     func() // a worker that begins with t: made once, so that starting it allocates nothing
}

// newTask returns an empty task of s.
func (s *server) newTask() *task {
	t, ok := s.o.Buffers.tasks.Get().(*task)
	if !ok {
		t = new(task)
		t.run = func() { t.s.work(t) }
	}
	t.s, t.n, t.refused = s, 0, false
	return t
}

// free gives all memory of t back.
func (t *task) free() {
	pool := t.s.o.Buffers
	t.call.detach()
	t.freeRecord()
	pool.put(t.reply)
	if t.hasPass {
		pool.large.yield(t)
	}
	t.reply, t.s = nil, nil
	t.enc = xdr.Encoder{}
	pool.tasks.Put(t)
}

// freeRecord gives the record back; the call is over then.
func (t *task) freeRecord() {
	t.s.o.Buffers.put(t.record)
	t.record = nil
	t.call.Auth, t.call.Args = Auth{}, xdr.Decoder{}
}

// room implements sink. It provides for a large record only when a good part of it has arrived.
func (t *task) room(want int) []byte {
	total := t.n + want
	if t.record == nil {
		t.record = t.receive(min(total, firstRoomBytes))
	}
	if t.n == len(t.record.Mem) {
		bigger := t.receive(max(total, min(2*t.n, t.s.o.MaxRecordBytes)))
		copy(bigger.Mem, t.record.Mem)
		t.s.o.Buffers.put(t.record)
		t.record = bigger
	}
	return t.record.Mem[t.n:min(total, len(t.record.Mem))]
}

// receive returns a buffer of at least n bytes for the record, and waits for a large one, while what is held goes out and the record
// has time. Where that takes too long the connection is closed, and there is one nevertheless.
func (t *task) receive(n int) *buffer {
	pool, size := t.s.o.Buffers, bufferBytes(n)
	if size == readAheadBytes || pool.large.claim(t, int64(size)) {
		return pool.fetch(size)
	}
	t.s.flush()
	if !pool.large.await(t, int64(size)) {
		return pool.get(n)
	}
	t.needsClient(true)
	t.s.in.due = 0
	return pool.fetch(size)
}

// needsClient notes whether t waits for its client, to send the call or to take the reply, if it has a pass.
func (t *task) needsClient(does bool) {
	switch {
	case !t.hasPass:
	case does:
		t.s.pass.since.Store(time.Now().UnixNano())
	default:
		t.s.pass.since.Store(0)
	}
}

// add implements sink.
func (t *task) add(n int) { t.n += n }

// len implements sink.
func (t *task) len() int { return t.n }

// parse reads the call's header and says whether there is anything to answer; if it is a refusal, that
// is written.
func (t *task) parse() bool {
	t.needsClient(false)
	var record []byte
	if t.record != nil {
		record = t.record.Mem[:t.n]
	}
	stats := t.s.o.Stats
	err := t.call.parse(record)
	switch err {
	case errIsAReply:
		stats.Replies.Add(1)
		if t.s.caller != nil {
			t.s.caller.deliver(record)
		}
		return false
	case errNotCall, errGarbled:
		stats.Malformed.Add(1)
		return false
	}
	t.beginReply()
	t.call.attaches = t.s.out.together != nil
	if err != nil {
		stats.Refused.Add(1)
		t.refuse(err)
	}
	return true
}

// refuse writes why a call does not get to the handler.
func (t *task) refuse(err error) {
	t.refused = true
	switch err {
	case errVersion:
		t.call.versionMismatch(&t.enc)
	case errBadVerf:
		t.call.AuthError(&t.enc, AuthBadVerf)
	default:
		t.call.AuthError(&t.enc, AuthBadCred)
	}
	t.freeRecord()
}

// beginReply points the encoder at a small buffer, behind room for the record mark.
func (t *task) beginReply() {
	t.reply = t.s.o.Buffers.get(readAheadBytes)
	t.enc.Reset(t.reply.Mem[markBytes:], t.s.o.MaxReplyBytes, t)
}

// Grow implements xdr.Grower with the pool's next size. It waits where the pool holds much: so may who writes a reply.
func (t *task) Grow(old []byte, need int) []byte {
	pool := t.s.o.Buffers
	size := bufferBytes(markBytes + max(need, min(2*len(old), t.s.o.MaxReplyBytes)))
	if size > readAheadBytes && !pool.large.claim(t, int64(size)) && !pool.large.await(t, int64(size)) {
		return nil
	}
	bigger := pool.fetch(size)
	copy(bigger.Mem[markBytes:], old)
	pool.put(t.reply)
	t.reply = bigger
	return bigger.Mem[markBytes:]
}

// handle has the handler answer the call and sends the reply.
func (t *task) handle() {
	t.execute()
	t.finish()
}

// execute has the handler answer the call and returns the length of the reply, 0 for none.
func (t *task) execute() int {
	gss := t.call.Auth.Flavor == AuthGSS
	if !gss || t.enterGSS() {
		t.s.h.Handle(t.s.ctx, &t.call, &t.enc)
	}
	t.s.busy.Add(-1) // before the reply is out: the client's next call is not beside this one
	if t.enc.Err() != nil {
		t.s.o.Stats.ReplyErrors.Add(1)
		t.call.detach()
		t.enc.Truncate(0)
		t.enc.SetLimit(t.s.o.MaxReplyBytes)
		t.call.SystemErr(&t.enc)
	}
	if gss {
		t.leaveGSS()
	}
	if t.enc.Len() == 0 {
		t.call.detach() // the end of no reply
	}
	t.freeRecord()
	return t.size()
}

// size is the length of the reply.
func (t *task) size() int { return t.enc.Len() + t.call.tailBytes() }

// finish sends the reply, if there is one.
func (t *task) finish() {
	if t.size() == 0 {
		t.s.release(t)
		return
	}
	t.s.out.send(t)
}

// small says whether neither the call nor its reply is long.
func (t *task) small() bool { return t.n < largeBytes && t.size() <= maxHeldBytes }

// frame is the reply with its record mark, up to where something is attached.
func (t *task) frame() []byte {
	binary.BigEndian.PutUint32(t.reply.Mem, lastFragment|uint32(t.size()))
	return t.reply.Mem[:markBytes+t.enc.Len()]
}
