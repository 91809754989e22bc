package nfs4

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/xdr"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// clear makes way for an operation that changes file id or, with change false, only looks at its
// content: delegations of other clients are recalled and waited for, and NFS4ERR_DELAY is returned if one is still in
// the way. truncate says that the file becomes empty.
func (c *compound) clear(id vfs.FileID, change, truncate bool) wire.Status {
	return c.clearOwn(id, state.OwnStay, change, truncate)
}

// clearOwn is clear for an operation that delegations of its own client are in the way of too.
func (c *compound) clearOwn(id vfs.FileID, own state.Own, change, truncate bool) wire.Status {
	if c.s.state.Delegations() == 0 {
		return wire.NFS4_OK
	}
	return c.outwait(func() (victim wire.ClientID, ended <-chan struct{}, st wire.Status) {
		return c.s.state.Clear(&c.ticket, state.File(id), own, change, truncate)
	})
}

// recall is clear that does not wait.
func (c *compound) recall(id vfs.FileID, change bool) wire.Status {
	if c.s.state.Delegations() == 0 {
		return wire.NFS4_OK
	}
	return c.unblock(func() (victim wire.ClientID, st wire.Status) {
		victim, _, st = c.s.state.Clear(&c.ticket, state.File(id), state.OwnStay, change, false)
		return victim, st
	})
}

// outwait calls try until no expired client is in its way, and no delegation, or until state.RecallWait has passed: a client that is told
// to come again does so a tenth of a second later at the earliest, and a holder that has nothing to write back answers at once.
func (c *compound) outwait(try func() (victim wire.ClientID, ended <-chan struct{}, s wire.Status)) wire.Status {
	st, ended := c.attempt(try)
	if ended == nil {
		return st
	}
	c.fresh = false // the holder writes back what it has
	timer := time.NewTimer(state.RecallWait)
	defer timer.Stop()
	for waiting := true; waiting && ended != nil; {
		select {
		case <-ended:
			st, ended = c.attempt(try)
		case <-timer.C:
			waiting = false
		case <-c.ctx.Done():
			waiting = false
		}
	}
	c.s.recallWaits.count(st)
	return st
}

// attempt is unblock for an operation that is told of delegations in its way.
func (c *compound) attempt(try func() (victim wire.ClientID, ended <-chan struct{}, s wire.Status)) (st wire.Status, ended <-chan struct{}) {
	st = c.unblock(func() (victim wire.ClientID, st wire.Status) {
		victim, ended, st = try()
		return victim, st
	})
	return st, ended
}

// recallWaits counts operations that have waited for delegations.
type recallWaits struct{ cleared, delayed atomic.Uint64 }

func (w *recallWaits) count(st wire.Status) {
	if st == wire.NFS4ERR_DELAY {
		w.delayed.Add(1)
		return
	}
	w.cleared.Add(1)
}

// RecallStats counts operations that waited for delegations of others, since the start.
type RecallStats struct {
	Cleared uint64 // the delegations were back in time
	Delayed uint64 // they were not, and the client was told to come again (NFS4ERR_DELAY)
}

func (w *recallWaits) stats() RecallStats {
	return RecallStats{Cleared: w.cleared.Load(), Delayed: w.delayed.Load()}
}

// clearName is clearOwn for the file called name in dir, for an operation that changes what names it has.
// Whatever else is wrong is left for the operation to find.
func (c *compound) clearName(dir vfs.FileID, name []byte, own state.Own) wire.Status {
	if c.s.state.Delegations() == 0 {
		return wire.NFS4_OK
	}
	var a vfs.Attr
	if err := c.s.fs.Lookup(c.ctx, &c.cred, dir, string(name), &a); err != nil {
		return wire.NFS4_OK
	}
	return c.clearOwn(a.ID, own, true, false)
}

// disturbed recalls delegations of id that were granted while it was being changed.
func (c *compound) disturbed(id vfs.FileID) {
	if id != (vfs.FileID{}) {
		c.recall(id, true)
	}
}

// disturbedUnder is disturbed for the current file's content, if it was changed under a stateid that is no open, or is none any more: an
// open for writing lets nobody else have a delegation. What has failed may have changed a part of it.
func (c *compound) disturbedUnder(id *wire.Stateid) {
	if c.s.state.Delegations() == 0 {
		return
	}
	if state.Classify(id) != state.Ordinary || c.s.state.CheckIO(&c.ticket, id, c.file(), true) != wire.NFS4_OK {
		c.disturbed(c.current.id)
	}
}

// disturbedName is disturbed for the file that has got the name in dir. Who has taken it away again since has seen to the file himself.
func (c *compound) disturbedName(dir vfs.FileID, name []byte) {
	if c.s.state.Delegations() == 0 {
		return
	}
	var a vfs.Attr
	if err := c.s.fs.Lookup(c.ctx, &c.cred, dir, string(name), &a); err == nil {
		c.disturbed(a.ID)
	}
}

// opDelegReturn serves DELEGRETURN (RFC 8881 §18.6).
func opDelegReturn(c *compound) wire.Status {
	var a wire.DelegReturnArgs
	a.Decode(&c.args)
	if c.malformed() {
		return wire.NFS4ERR_BADXDR
	}
	if st := c.resolve(&a.Stateid); st != wire.NFS4_OK {
		return st
	}
	return c.endCopies(func() ([]wire.Stateid, wire.Status) { return c.s.state.Return(&c.ticket, &a.Stateid, c.file()) })
}

// granted is the protocol's form of a delegation. The entry about who may do what is left empty, so
// that the client asks for each of its users (RFC 8881 §18.16.3). No space is promised (§10.4.1): what a client has not
// written back when a file is closed might find none, so it writes back before, and close tells whether there was.
func granted(d *state.Delegation) wire.Delegation {
	return wire.Delegation{
		Type:       d.Type,
		Stateid:    d.Stateid,
		Recall:     d.Recall,
		LimitBy:    wire.NFS_LIMIT_SIZE,
		LimitBytes: 0,
		Why:        d.Why,
	}
}

// errQuery: a client did not say what it has made of a file.
var errQuery = errors.New("nfs4: no use in a CB_GETATTR's answer")

// query is a CB_GETATTR on its way. All that ask for the same wait for it. An answer that comes when all have given up is kept for
// the first that asks again, for lateAnswer: from a client that is far away, none would ever be in time.
type query struct {
	change uint64        // the file's change attribute before
	done   chan struct{} // closed when what follows is there
	attrs  wire.Attrs
	err    error

	// With callbacks.mu held.
	waiting int
	kept    time.Time // when it was answered, if nobody waited; else zero
}

// heldAttrs are those that the holder of a write delegation knows better.
var heldAttrs = wire.BitmapOf(wire.FATTR4_CHANGE, wire.FATTR4_SIZE, wire.FATTR4_SPACE_USED,
	wire.FATTR4_TIME_ACCESS, wire.FATTR4_TIME_MODIFY, wire.FATTR4_TIME_METADATA)

// ask sends a CB_GETATTR about a file with a change attribute, unless one is on its way. Who does not wait for the answer any more
// says so with giveUp.
func (c *callbacks) ask(q *state.Query, change uint64) *query {
	c.mu.Lock()
	defer c.mu.Unlock()
	if on := c.queries[q.Stateid]; on != nil {
		if on.kept.IsZero() {
			on.waiting++
			return on
		}
		delete(c.queries, q.Stateid)
		if time.Since(on.kept) <= lateAnswer {
			return on
		}
	}
	on := &query{change: change, done: make(chan struct{}), waiting: 1}
	c.queries[q.Stateid] = on
	args := wire.CBGetAttrArgs{Handle: c.handleOf(q.File), Request: wire.BitmapOf(wire.FATTR4_CHANGE, wire.FATTR4_SIZE)}
	if q.Times {
		args.Request.Set(wire.FATTR4_TIME_DELEG_ACCESS)
		args.Request.Set(wire.FATTR4_TIME_DELEG_MODIFY)
	}
	j := &job{op: wire.OP_CB_GETATTR, args: args.Encode}
	j.done = func(st wire.Status, res *xdr.Decoder, err error) { c.answered(q.Stateid, on, st, res, err) }
	if err := c.queueLocked(q.Client, j); err != nil {
		c.count(j, 0, err)
		delete(c.queries, q.Stateid)
		on.err = err
		close(on.done)
	}
	return on
}

// giveUp says that somebody who asked does not wait any more.
func (c *callbacks) giveUp(on *query) {
	c.mu.Lock()
	defer c.mu.Unlock()
	on.waiting--
}

// answered completes a query.
func (c *callbacks) answered(id wire.Stateid, on *query, st wire.Status, res *xdr.Decoder, err error) {
	on.err = err
	if err == nil && st != wire.NFS4_OK {
		on.err = st
	}
	if on.err == nil {
		var got wire.CBGetAttrRes
		got.Decode(res)
		on.attrs = got.Attrs
		if res.Err() != nil || got.Attrs.Unknown || !got.Attrs.Mask.Has(wire.FATTR4_CHANGE) || !got.Attrs.Mask.Has(wire.FATTR4_SIZE) {
			on.err = errQuery
			c.counters[wire.OP_CB_GETATTR].failures[cbError].Add(1)
		}
	}
	c.mu.Lock()
	if on.waiting > 0 {
		delete(c.queries, id)
	} else {
		c.keepLocked(id, on)
	}
	c.mu.Unlock()
	close(on.done)
}

// keepLocked keeps an answer that nobody waits for, and drops those that were not asked for in time.
func (c *callbacks) keepLocked(id wire.Stateid, on *query) {
	for len(c.late) > 0 && time.Since(c.late[0].on.kept) > lateAnswer {
		if old := c.late[0]; c.queries[old.id] == old.on {
			delete(c.queries, old.id)
		}
		c.late = c.late[1:]
	}
	on.kept = time.Now()
	c.late = append(c.late, lateQuery{id, on})
}

// consult asks whoever holds a write delegation of the current file what has become of it, if mask has
// something that may have changed (RFC 8881 §10.4.3). c.attr is up to date, and is again afterwards.
func (c *compound) consult(mask wire.Bitmap) wire.Status {
	if mask.And(heldAttrs).IsZero() || c.attr.Kind != vfs.Regular {
		return wire.NFS4_OK
	}
	q, ok := c.s.state.QueryAttrs(&c.ticket, c.file())
	if !ok {
		return wire.NFS4_OK
	}
	return c.consultHolder(q)
}

// consultHolder asks the holder of the delegation in q.
func (c *compound) consultHolder(q state.Query) wire.Status {
	on := c.s.callbacks.ask(&q, c.attr.Change)
	timer := time.NewTimer(queryWait)
	defer timer.Stop()
	select {
	case <-on.done:
	case <-timer.C:
		c.s.callbacks.giveUp(on)
		return wire.NFS4ERR_DELAY
	case <-c.ctx.Done():
		c.s.callbacks.giveUp(on)
		return wire.NFS4ERR_DELAY
	}
	if on.err != nil { // it will not say: the delegation must go
		if st := c.clear(c.current.id, false, false); st != wire.NFS4_OK {
			return st
		}
		c.fresh = false
		return c.know()
	}
	return c.takeDown(&q, on)
}

// takeDown enters what the holder of a delegation has said of the current file.
func (c *compound) takeDown(q *state.Query, on *query) wire.Status {
	held, st := c.enter(q, on, &c.attr)
	switch {
	case st != wire.NFS4_OK:
		return st
	case !held:
		c.fresh = false
		return c.know()
	}
	c.attr.Size = on.attrs.Size
	return wire.NFS4_OK
}

// enter notes what the holder of a delegation has said, and makes a what the file is like; held says that it has not given it
// back meanwhile. A change that it has not written back yet is one of the file already, so that change attribute and times go
// up. What it has written back since it was asked, or set, has seen to that itself.
func (c *compound) enter(q *state.Query, on *query, a *vfs.Attr) (held bool, st wire.Status) {
	said := &on.attrs
	if err := c.s.fs.GetAttr(c.ctx, vfs.FileID(q.File), a); err != nil {
		return false, c.fail(err)
	}
	changed, held := c.s.state.Answered(q, said.Change, said.Size, a.Size)
	if !changed || a.Change != on.change {
		return held, wire.NFS4_OK
	}
	set := vfs.SetAttr{Mask: vfs.SetMTimeNow}
	if q.Times {
		c.s.heldTimes(said, q.Since, &set)
	}
	if err := c.s.fs.SetAttr(c.ctx, nil, vfs.FileID(q.File), &set, a); err != nil {
		return held, c.fail(err)
	}
	return held, wire.NFS4_OK
}

// heldTimes puts the times that a client keeps under a delegation into set, since being those that the file had with it (RFC 9754 §5).
func (s *Service) heldTimes(said *wire.Attrs, since state.Times, set *vfs.SetAttr) {
	now := wire.Time(vfs.TimeOf(s.opt.Now()))
	if said.Mask.Has(wire.FATTR4_TIME_DELEG_MODIFY) {
		if bit := heldTime(&said.TimeDelegModify, &since.Modified, &now, vfs.SetMTime, vfs.SetMTimeNow); bit != 0 {
			set.Mask = set.Mask&^vfs.SetMTimeNow | bit
			set.MTime = vfs.Time(said.TimeDelegModify)
		}
	}
	if said.Mask.Has(wire.FATTR4_TIME_DELEG_ACCESS) {
		set.Mask |= heldTime(&said.TimeDelegAccess, &since.Accessed, &now, vfs.SetATime, vfs.SetATimeNow)
		set.ATime = vfs.Time(said.TimeDelegAccess)
	}
}

// heldTime says which of two bits a time of a client's sets: given it as it is, clock now, which is put for what is still to come. One
// that is before since is not heeded.
func heldTime(said, since, now *wire.Time, given, clock vfs.SetMask) vfs.SetMask {
	switch {
	case said.Nsec >= 1e9 || earlier(said, since):
		return 0
	case earlier(now, said):
		return clock
	}
	return given
}

func earlier(a, b *wire.Time) bool { return a.Sec < b.Sec || a.Sec == b.Sec && a.Nsec < b.Nsec }

// timesSince are those before which the holder of a new delegation of a file with attributes a sets none: the file's. Who may set any
// times without a delegation may with it: a client can keep what utimensat(2) sets, and tar does, for the delegation's end.
func (c *compound) timesSince(a *vfs.Attr) state.Times {
	if c.cred.UID == 0 || c.cred.UID == a.UID {
		return state.Times{}
	}
	return state.Times{Accessed: wire.Time(a.ATime), Modified: wire.Time(a.MTime)}
}

// delegatedAttrs are the times that a client keeps under a delegation (RFC 9754 §5).
var delegatedAttrs = wire.BitmapOf(wire.FATTR4_TIME_DELEG_ACCESS, wire.FATTR4_TIME_DELEG_MODIFY)

// delegationAttrs are all attributes of RFC 9754.
var delegationAttrs = delegatedAttrs.Or(wire.BitmapOf(wire.FATTR4_OPEN_ARGUMENTS))

// openArguments says what an OPEN may ask for (FATTR4_OPEN_ARGUMENTS, RFC 9754 §4).
func (o *Options) openArguments() wire.OpenArguments {
	a := wire.OpenArguments{
		ShareAccess: wire.BitmapOf(wire.OPEN4_SHARE_ACCESS_READ, wire.OPEN4_SHARE_ACCESS_WRITE, wire.OPEN4_SHARE_ACCESS_BOTH),
		ShareDeny: wire.BitmapOf(wire.OPEN4_SHARE_DENY_NONE, wire.OPEN4_SHARE_DENY_READ,
			wire.OPEN4_SHARE_DENY_WRITE, wire.OPEN4_SHARE_DENY_BOTH),
		ShareAccessWant: wire.BitmapOf(wire.OPEN_ARGS_SHARE_ACCESS_WANT_NO_DELEG, wire.OPEN_ARGS_SHARE_ACCESS_WANT_CANCEL),
	}
	for _, claim := range []wire.ClaimType{wire.CLAIM_NULL, wire.CLAIM_PREVIOUS, wire.CLAIM_DELEGATE_CUR,
		wire.CLAIM_FH, wire.CLAIM_DELEG_CUR_FH} {
		a.Claim.Set(wire.AttrNumber(claim))
	}
	for mode := range createModes {
		a.CreateMode.Set(wire.AttrNumber(mode))
	}
	if !o.NoDelegations {
		a.ShareAccessWant.Set(wire.OPEN_ARGS_SHARE_ACCESS_WANT_ANY_DELEG)
		a.ShareAccessWant.Set(wire.OPEN_ARGS_SHARE_ACCESS_WANT_DELEG_TIMESTAMPS)
		a.ShareAccessWant.Set(wire.OPEN_ARGS_SHARE_ACCESS_WANT_OPEN_XOR_DELEGATION)
	}
	return a
}
