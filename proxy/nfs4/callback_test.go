package nfs4_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

const cbProgram = 0x40000123

// seen is a callback that a client got.
type seen struct {
	op      wire.CBOp
	session wire.SessionID
	refers  bool
	auth    rpc.Auth
	recall  wire.CBRecallArgs
	any     wire.CBRecallAnyArgs
	getattr wire.CBGetAttrArgs
	slot    wire.CBRecallSlotArgs
	lock    wire.CBNotifyLockArgs
	offload wire.CBOffloadArgs
}

// callee is the client's end of a connection: it answers callbacks. It implements rpc.Handler.
type callee struct {
	t testing.TB
	b *nfs4.Binding
	// got has every callback operation behind CB_SEQUENCE.
	got chan seen

	mu      sync.Mutex
	nulls   int
	slots   map[wire.SessionID][]uint32
	retried bool // a call may come once more, whose answer over another connection was lost
	// misorders: a call may come too late in the sequence, for those before it have not come.
	misorders bool
	sequence  []wire.Status // what the next CB_SEQUENCEs get
	statuses  []wire.Status // what the next operations get
	attrs     wire.Attrs    // of CB_GETATTR
	last      wire.CBSequenceArgs
	hold      chan struct{} // if not nil, nothing is answered before it is closed
	// The next operation is executed, or with deaf is not, and the connection ends without an answer.
	vanishes, deaf bool
	end            func()
}

// attaching says when the server's end can call.
type attaching struct {
	*nfs4.Binding
	done chan struct{}
}

func (a attaching) Attach(c *rpc.Caller) {
	a.Binding.Attach(c)
	close(a.done)
}

// callable makes a connection whose client can be called, and binds it to the rig.
func (r *rig) callable(t testing.TB) *callee {
	near, far := net.Pipe()
	c := &callee{t: t, b: r.s.Bind(nfs4.ConnInfo{Grant: everything}), got: make(chan seen, 100), slots: map[wire.SessionID][]uint32{}}
	attached := attaching{c.b, make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = rpc.ServeConn(context.Background(), far, attached, rpc.Options{}) // ends with the client
		c.b.Close()
	})
	wg.Go(func() { _ = rpc.ServeConn(context.Background(), near, c, rpc.Options{}) })
	<-attached.done
	c.end = sync.OnceFunc(func() {
		near.Close()
		wg.Wait()
	})
	t.Cleanup(c.end)
	return c
}

// Handle implements rpc.Handler.
func (c *callee) Handle(_ context.Context, call *rpc.Call, reply *xdr.Encoder) {
	c.mu.Lock()
	hold := c.hold
	c.mu.Unlock()
	if hold != nil {
		<-hold
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if call.Program != cbProgram || call.Version != wire.CBVersion {
		c.t.Errorf("program %#x version %d", call.Program, call.Version)
	}
	call.Succeed(reply)
	if call.Procedure == wire.CBProcNull {
		c.nulls++
		return
	}
	executed := !c.deaf && c.compound(call, reply)
	if c.deaf {
		c.got <- seen{}
	}
	if c.deaf || c.vanishes && executed {
		c.deaf, c.vanishes = false, false
		reply.Truncate(0)
		go c.end()
	}
}

// compound says whether the operation behind CB_SEQUENCE was executed.
func (c *callee) compound(call *rpc.Call, reply *xdr.Encoder) (executed bool) {
	var head wire.CBCompoundArgs
	head.Decode(&call.Args)
	var w wire.CompoundWriter
	w.Begin(reply, head.Tag)
	st := c.sequenced(call, &w, reply)
	if executed = st == wire.NFS4_OK; executed {
		st = c.operation(call, &w, reply)
	}
	w.End(st)
	if call.Args.Err() != nil || call.Args.Remaining() != 0 && st == wire.NFS4_OK {
		c.t.Errorf("arguments: %v, %d bytes left", call.Args.Err(), call.Args.Remaining())
	}
	return executed
}

func (c *callee) sequenced(call *rpc.Call, w *wire.CompoundWriter, reply *xdr.Encoder) wire.Status {
	var a wire.CBSequenceArgs
	at := w.BeginOp(wire.ReadOp(&call.Args))
	a.Decode(&call.Args)
	st := wire.NFS4_OK
	if len(c.sequence) > 0 {
		st, c.sequence = c.sequence[0], c.sequence[1:]
	}
	if c.slots[a.SessionID] == nil {
		c.slots[a.SessionID] = make([]uint32, 16)
	}
	if last := &c.slots[a.SessionID][a.SlotID]; st == wire.NFS4_OK {
		switch {
		case a.SequenceID == *last+1 || c.retried && a.SequenceID == *last:
			*last = a.SequenceID
			res := wire.CBSequenceRes{SessionID: a.SessionID, SequenceID: a.SequenceID, SlotID: a.SlotID, HighestSlot: 15, TargetHighestSlot: 15}
			res.Encode(reply)
		case c.misorders && a.SequenceID != *last:
			st = wire.NFS4ERR_SEQ_MISORDERED
		default:
			c.t.Errorf("slot %d: %d after %d", a.SlotID, a.SequenceID, *last)
		}
	}
	c.last = a
	w.EndOp(at, st)
	return st
}

func (c *callee) operation(call *rpc.Call, w *wire.CompoundWriter, reply *xdr.Encoder) wire.Status {
	op := wire.ReadOp(&call.Args)
	at := w.BeginOp(op)
	s := seen{op: wire.CBOp(op), session: c.last.SessionID, refers: c.last.HasReferring, auth: call.Auth}
	st := wire.NFS4_OK
	if len(c.statuses) > 0 {
		st, c.statuses = c.statuses[0], c.statuses[1:]
	}
	switch s.op {
	case wire.OP_CB_RECALL:
		s.recall.Decode(&call.Args)
		s.recall.Handle = append([]byte(nil), s.recall.Handle...)
	case wire.OP_CB_RECALL_ANY:
		s.any.Decode(&call.Args)
	case wire.OP_CB_RECALL_SLOT:
		s.slot.Decode(&call.Args)
	case wire.OP_CB_NOTIFY_LOCK:
		s.lock.Decode(&call.Args)
		s.lock.Owner.Owner = append([]byte(nil), s.lock.Owner.Owner...)
	case wire.OP_CB_OFFLOAD:
		s.offload.Decode(&call.Args)
		s.offload.Handle = append([]byte(nil), s.offload.Handle...)
	case wire.OP_CB_GETATTR:
		s.getattr.Decode(&call.Args)
		if st == wire.NFS4_OK {
			res := wire.CBGetAttrRes{Attrs: c.attrs}
			res.Encode(reply)
		}
	default:
		c.t.Errorf("callback %v", s.op)
	}
	w.EndOp(at, st)
	c.got <- s
	return st
}

// expect waits for the next callback.
func (c *callee) expect(op wire.CBOp) seen {
	c.t.Helper()
	select {
	case s := <-c.got:
		if s.op != op {
			c.t.Fatalf("got %v, want %v", s.op, op)
		}
		return s
	case <-time.After(10 * time.Second):
		c.t.Fatalf("no %v", op)
	}
	return seen{}
}

// drain forgets the callbacks that have come.
func (c *callee) drain() {
	for len(c.got) > 0 {
		<-c.got
	}
}

// quiet says that no callback came.
func (c *callee) quiet() {
	c.t.Helper()
	select {
	case s := <-c.got:
		c.t.Errorf("got %v", s.op)
	case <-time.After(20 * time.Millisecond):
	}
}

// with sets what the client answers.
func (c *callee) with(set func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set()
}

var callbackSec = wire.CallbackSec{Flavor: 1, Machine: []byte("server"), UID: 17, GID: 19}

// newCalled makes a client that can be called, whose backchannel works.
func (r *rig) newCalled(owner string) (*session, *callee) {
	r.t.Helper()
	c := r.callable(r.t)
	s := r.newCalledOn(c, owner)
	s.ok(call{wire.OP_RECLAIM_COMPLETE, &wire.ReclaimCompleteArgs{}})
	s.untilUp()
	return s, c
}

func (r *rig) newCalledOn(c *callee, owner string) *session {
	r.t.Helper()
	return r.newCalledWith(c, owner, wide)
}

// newCalledWith is newCalledOn with a backchannel that the client wants so.
func (r *rig) newCalledWith(c *callee, owner string, back wire.ChannelAttrs) *session {
	r.t.Helper()
	a := handle(c.b, sysAuth(0, 0), encodeCompound("", 1, exchangeID(owner)))
	wantStatus(r.t, a, wire.NFS4_OK)
	ex := last[wire.ExchangeIDRes](r.t, a)
	a = handle(c.b, sysAuth(0, 0), encodeCompound("", 1, createCalled(ex, back)))
	wantStatus(r.t, a, wire.NFS4_OK)
	created := last[wire.CreateSessionRes](r.t, a)
	if created.Flags != wire.CREATE_SESSION4_FLAG_CONN_BACK_CHAN {
		r.t.Fatalf("flags %#x", created.Flags)
	}
	return &session{r: r, b: c.b, minor: 1, auth: sysAuth(0, 0), clientID: ex.ClientID, id: created.SessionID, fore: created.Fore, created: *created}
}

// createCalled is a CREATE_SESSION with a backchannel.
func createCalled(ex *wire.ExchangeIDRes, back wire.ChannelAttrs) call {
	return call{wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ClientID: ex.ClientID, SequenceID: ex.SequenceID,
		Flags: wire.CREATE_SESSION4_FLAG_CONN_BACK_CHAN, Fore: wide, Back: back, CBProgram: cbProgram, Sec: []wire.CallbackSec{callbackSec}}}
}

// untilUp waits until the server knows that the backchannel works: then OPEN says that it may tell of
// locks.
func (s *session) untilUp() {
	s.r.t.Helper()
	for range 1000 {
		a := s.ok(putRoot, undelegated("probe"), getFH)
		res := at[wire.OpenRes](s.r.t, a, 2)
		s.ok(putFH(last[wire.GetFHRes](s.r.t, a).Handle), closeFile(res.Stateid))
		if res.Flags&wire.OPEN4_RESULT_MAY_NOTIFY_LOCK != 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	s.r.t.Fatal("the backchannel does not get up")
}

// undelegated creates name, or opens it, and wants no delegation.
func undelegated(name string) call {
	c := create(name, 0o644)
	c.args.(*wire.OpenArgs).ShareAccess |= wire.OPEN4_SHARE_ACCESS_WANT_NO_DELEG
	return c
}

// flags are what SEQUENCE says.
func (s *session) flags() uint32 {
	s.r.t.Helper()
	return at[wire.SequenceRes](s.r.t, s.ok(), 0).StatusFlags
}

// delegated makes a file of "hello" and opens it anew in a way that gives a delegation.
func (s *session) delegated(name string, access uint32) (h []byte, got wire.OpenRes) {
	s.r.t.Helper()
	a := s.ok(putRoot, undelegated(name), getFH)
	h, id := last[wire.GetFHRes](s.r.t, a).Handle, at[wire.OpenRes](s.r.t, a, 2).Stateid
	s.ok(putFH(h), write(id, 0, "hello"), closeFile(id))
	got = *last[wire.OpenRes](s.r.t, s.ok(putRoot, open(name, access)))
	if t := got.Delegation.Type; t == wire.OPEN_DELEGATE_NONE || t == wire.OPEN_DELEGATE_NONE_EXT {
		s.r.t.Fatalf("no delegation: %+v", got.Delegation)
	}
	return h, got
}

func giveBack(id wire.Stateid) call {
	return call{wire.OP_DELEGRETURN, &wire.DelegReturnArgs{Stateid: id}}
}
