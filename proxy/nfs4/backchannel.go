package nfs4

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// errBackchannel: the client's answer on the backchannel is not what the protocol has there.
var errBackchannel = errors.New("nfs4: wrong answer on the backchannel")

// backchannel is the way to a client that a session has: the connections that are bound to it, and the
// slots (RFC 8881 §2.10.3.1, §2.10.6). It exists as long as the session.
type backchannel struct {
	c       *callbacks
	session wire.SessionID
	client  wire.ClientID
	minor   uint32
	slots   []cbSlot
	free    chan int // indexes of slots that are not in use: who has one owns the slot

	reporting sync.Mutex // before mu

	mu      sync.Mutex
	program uint32
	auth    rpc.Auth
	conns   []*Binding
	faulty  bool
	probing bool
	proven  bool // a CB_NULL went through, and there was always a connection since
	binds   int  // how often bind was called
	gone    bool // its session is
}

// cbSlot is a slot of the backchannel; the server is the requester here.
type cbSlot struct {
	sequence uint32 // of the last request that the client is known to have executed
	// unsure is how many requests were sent since to which no answer came: each may have been executed if those before it were.
	unsure uint32
}

// callbackAuth chooses among the ways in which the client lets the server identify itself: the first
// one that can be had. ok is false if there is none.
func callbackAuth(secs []wire.CallbackSec) (auth rpc.Auth, ok bool) {
	for _, sec := range secs {
		switch rpc.Flavor(sec.Flavor) {
		case rpc.AuthNone:
			return rpc.Auth{}, true
		case rpc.AuthSys:
			return rpc.Auth{Flavor: rpc.AuthSys, Stamp: sec.Stamp, Machine: slices.Clone(sec.Machine),
				UID: sec.UID, GID: sec.GID, GIDs: slices.Clone(sec.GIDs)}, true
		}
	}
	return rpc.Auth{}, len(secs) == 0
}

// openSession makes the backchannel of a session that was just created, without connections.
func (c *callbacks) openSession(session wire.SessionID, client wire.ClientID, minor uint32,
	a *wire.CreateSessionArgs, auth rpc.Auth) *backchannel {
	b := &backchannel{c: c, session: session, client: client, minor: minor, program: a.CBProgram, auth: auth}
	n := min(int(a.Back.MaxRequests), callbackSlots)
	b.slots, b.free = make([]cbSlot, n), make(chan int, n)
	for i := range n {
		b.free <- i
	}
	c.mu.Lock()
	c.sessions[session] = b
	c.mu.Unlock()
	if !c.s.state.KnowsSession(session) {
		c.Gone(session) // it was told of too early
	}
	return b
}

// backchannelOf is that of a session, or nil.
func (c *callbacks) backchannelOf(session wire.SessionID) *backchannel {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions[session]
}

// bind makes conn one of the connections of the backchannel, and has it tried. The oldest ones go when
// there are too many. It says false if the session is gone.
func (b *backchannel) bind(conn *Binding) bool {
	b.mu.Lock()
	if b.gone {
		b.mu.Unlock()
		return false
	}
	b.conns = slices.DeleteFunc(b.conns, func(o *Binding) bool { return o == conn })
	if len(b.conns) >= maxBackConns {
		b.conns = slices.Delete(b.conns, 0, 1)
	}
	b.conns = append(b.conns, conn)
	b.faulty = false
	b.binds++
	probe := !b.probing
	b.probing = true
	b.mu.Unlock()
	conn.bound(b)
	b.c.addWay(b.client, b)
	if b.ended() { // before all of that was there to be undone
		b.leave(conn)
		return false
	}
	b.report()
	if probe {
		b.c.spawn(func() { b.probe() })
	}
	return true
}

// ended says whether the session is gone.
func (b *backchannel) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.gone
}

// leave undoes the binding of conn to a session that is gone.
func (b *backchannel) leave(conn *Binding) {
	conn.unbound(b)
	b.c.removeWay(b.client, b)
}

// unbind forgets conn, which is at its end.
func (b *backchannel) unbind(conn *Binding) {
	b.mu.Lock()
	b.conns = slices.DeleteFunc(b.conns, func(o *Binding) bool { return o == conn })
	left := len(b.conns)
	b.proven = b.proven && left > 0
	b.mu.Unlock()
	if left == 0 {
		b.c.removeWay(b.client, b)
		b.report()
	}
}

// unbindAll ends b.
func (b *backchannel) unbindAll() {
	b.mu.Lock()
	conns := b.conns
	b.conns, b.gone = nil, true
	b.mu.Unlock()
	for _, conn := range conns {
		conn.unbound(b)
	}
	b.c.removeWay(b.client, b)
}

// change serves BACKCHANNEL_CTL.
func (b *backchannel) change(program uint32, auth rpc.Auth) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.program, b.auth = program, auth
}

// report tells package state how b is doing. Reports are made one at a time, so that the last one is
// right.
func (b *backchannel) report() {
	b.reporting.Lock()
	defer b.reporting.Unlock()
	b.mu.Lock()
	back := state.BackUnproven
	switch {
	case len(b.conns) == 0:
		back = state.BackDown
	case b.faulty:
		back = state.BackFaulty
	case b.proven:
		back = state.BackUp
	}
	b.mu.Unlock()
	b.c.s.state.SetBackchannel(b.session, back)
}

// usable implements way.
func (b *backchannel) usable() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns) > 0 && !b.faulty
}

// fail marks b as not to be used until a connection is bound anew.
func (b *backchannel) fail() {
	b.mu.Lock()
	b.faulty, b.proven = true, false
	b.mu.Unlock()
	b.report()
}

// probe finds out with CB_NULL whether calls go through, before anything depends on it.
func (b *backchannel) probe() {
	var err error
	for again := true; again; {
		b.mu.Lock()
		tried := b.binds
		b.mu.Unlock()
		j := &job{op: cbNull}
		_, err = b.exchange(b.c.ctx, wire.CBProcNull, func(*xdr.Encoder) { b.c.sending(j) })
		b.c.count(j, wire.NFS4_OK, err)
		b.mu.Lock()
		again = b.binds != tried
		b.probing = again
		b.proven = err == nil && len(b.conns) > 0
		b.mu.Unlock()
	}
	switch {
	case err == nil:
		b.report()
	case b.usable() && b.c.ctx.Err() == nil:
		b.fail()
	}
}

// exchange sends a call over the first connection that takes it. One that ends in the midst of that leaves it to the others, and to those
// that were bound meanwhile.
func (b *backchannel) exchange(ctx context.Context, procedure uint32, args func(*xdr.Encoder)) (xdr.Decoder, error) {
	b.mu.Lock()
	o := rpc.Outgoing{Program: b.program, Version: wire.CBVersion, Procedure: procedure, Auth: b.auth, Args: args}
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, callbackTimeout)
	defer cancel()
	var ended []*Binding
	for conn := b.latest(nil); conn != nil; conn = b.latest(ended) {
		res, err := conn.caller.Call(ctx, &o)
		if !errors.Is(err, rpc.ErrCallerClosed) {
			return res, err
		}
		ended = append(ended, conn)
	}
	return xdr.Decoder{}, errNoWay
}

// latest is the connection that was bound last, but for those that have ended, or nil.
func (b *backchannel) latest(ended []*Binding) *Binding {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, conn := range slices.Backward(b.conns) {
		if !slices.Contains(ended, conn) {
			return conn
		}
	}
	return nil
}

// call implements way: the operation goes out behind a CB_SEQUENCE.
func (b *backchannel) call(ctx context.Context, j *job) (wire.Status, xdr.Decoder, error) {
	var i int
	select {
	case i = <-b.free:
	case <-ctx.Done():
		return 0, xdr.Decoder{}, ctx.Err()
	}
	defer func() { b.free <- i }()
	sl := &b.slots[i]
	st, res, err := b.callOn(ctx, i, j)
	for err == nil && st == wire.NFS4ERR_SEQ_MISORDERED && sl.unsure > 0 {
		sl.unsure-- // the last of those that were not answered was not executed either
		st, res, err = b.callOn(ctx, i, j)
	}
	switch {
	case err == nil && st == wire.NFS4ERR_SEQ_MISORDERED:
		err = errBackchannel
		fallthrough
	case err != nil && !errors.Is(err, errNoWay) && ctx.Err() == nil:
		b.fail()
	}
	return st, res, err
}

// callOn sends j on slot i. If CB_SEQUENCE itself fails, that is the status.
func (b *backchannel) callOn(ctx context.Context, i int, j *job) (wire.Status, xdr.Decoder, error) {
	sl := &b.slots[i]
	next := sl.sequence + sl.unsure + 1 // as if those had been executed: the client says so if not
	seq := wire.CBSequenceArgs{
		SequenceArgs: wire.SequenceArgs{SessionID: b.session, SequenceID: next, SlotID: uint32(i),
			HighestSlot: uint32(len(b.slots) - 1)},
		HasReferring: j.hasGranted, Referring: j.granted,
	}
	res, err := b.exchange(ctx, wire.CBProcCompound, func(e *xdr.Encoder) {
		b.c.sending(j)
		head := wire.CBCompoundArgs{MinorVersion: b.minor, Ops: 2}
		head.Encode(e)
		e.Uint32(uint32(wire.OP_CB_SEQUENCE))
		seq.Encode(e)
		e.Uint32(uint32(j.op))
		j.args(e)
	})
	if err != nil {
		sl.unsure++
		return 0, res, err
	}
	st, ok, err := b.readSequence(&res, &seq)
	switch {
	case err != nil:
		return 0, res, err
	case !ok:
		return st, res, nil
	}
	sl.sequence, sl.unsure = seq.SequenceID, 0
	return b.readResult(&res, j)
}

// readSequence reads the answer up to and with CB_SEQUENCE's result. ok says that it succeeded.
func (b *backchannel) readSequence(res *xdr.Decoder, sent *wire.CBSequenceArgs) (st wire.Status, ok bool, err error) {
	var head wire.CBCompoundRes
	head.Decode(res)
	if res.Err() == nil && head.Ops == 0 && head.Status != wire.NFS4_OK {
		return 0, false, fmt.Errorf("%w: CB_COMPOUND: %w", errBackchannel, head.Status)
	}
	op, st := wire.ReadCBResult(res)
	switch {
	case res.Err() != nil || op != wire.OP_CB_SEQUENCE:
		return 0, false, errBackchannel
	case st == wire.NFS4ERR_DELAY || st == wire.NFS4ERR_SEQ_MISORDERED:
		return st, false, nil
	case st != wire.NFS4_OK:
		return 0, false, fmt.Errorf("%w: CB_SEQUENCE: %w", errBackchannel, st)
	}
	var got wire.CBSequenceRes
	got.Decode(res)
	if res.Err() != nil || got.SessionID != sent.SessionID || got.SequenceID != sent.SequenceID || got.SlotID != sent.SlotID {
		return 0, false, errBackchannel
	}
	return st, true, nil
}

// readResult reads the status of the operation behind CB_SEQUENCE.
func (b *backchannel) readResult(res *xdr.Decoder, j *job) (wire.Status, xdr.Decoder, error) {
	op, st := wire.ReadCBResult(res)
	if res.Err() != nil || op != j.op && st == wire.NFS4_OK {
		return 0, *res, errBackchannel
	}
	return st, *res, nil
}

// Attach implements rpc.Attacher.
func (b *Binding) Attach(c *rpc.Caller) { b.caller = c }

// bound notes that b is a connection of a backchannel.
func (b *Binding) bound(to *backchannel) {
	b.mu.Lock()
	closed := b.closed
	if !closed {
		b.backs[to] = struct{}{}
	}
	b.mu.Unlock()
	if closed {
		to.unbind(b)
	}
}

func (b *Binding) unbound(from *backchannel) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.backs, from)
}

// leaveBackchannels is part of Close.
func (b *Binding) leaveBackchannels() {
	b.mu.Lock()
	b.closed = true
	backs := b.backs
	b.backs = nil
	b.mu.Unlock()
	for back := range backs {
		back.unbind(b)
	}
}

// What the backchannel is bounded by.
const (
	// callbackSlots is how many slots of a backchannel are used, callbackWorkers how many callbacks
	// are under way to a client at once.
	callbackSlots   = 4
	callbackWorkers = 4
	// maxBackConns is how many connections a backchannel keeps.
	maxBackConns = 16
	// maxQueuedCallbacks is how many callbacks wait for one client: as many as it has delegations,
	// by default, and some more.
	maxQueuedCallbacks = 40960
	// callbackTimeout is how long a client may take to answer a callback.
	callbackTimeout = 10 * time.Second
	// callbackAttempts is how often a client is asked that is not ready; callbackPause is between
	// the first two, and doubles.
	callbackAttempts = 6
	callbackPause    = 50 * time.Millisecond
	// queryWait is how long a GETATTR or READDIR waits for other clients' answers before its own client is
	// told to come again; lateAnswer is for how long what comes later is good for that. maxListingQueries is how many files
	// one READDIR asks about.
	queryWait         = 200 * time.Millisecond
	lateAnswer        = 5 * time.Second
	maxListingQueries = 64
)
