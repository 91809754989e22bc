package nfs4_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

func bindTo(id wire.SessionID, dir uint32) call {
	return call{wire.OP_BIND_CONN_TO_SESSION, &wire.BindConnToSessionArgs{SessionID: id, Dir: dir}}
}

// bind sends BIND_CONN_TO_SESSION over c and returns the direction that was granted.
func (s *session) bind(c *nfs4.Binding, dir uint32) uint32 {
	s.r.t.Helper()
	a := handle(c, s.auth, encodeCompound("", 1, bindTo(s.id, dir)))
	wantStatus(s.r.t, a, wire.NFS4_OK)
	return last[wire.BindConnToSessionRes](s.r.t, a).Dir
}

// A connection that ends takes the backchannel with it, which the client is told; another one can take
// its place, and recalls that were lost are made again.
func TestBackchannelIsBoundAnew(t *testing.T) {
	r := newRig(t, nil)
	s, first := r.newCalled("c")
	other := r.newSession("other")
	h, got := s.delegated("f", forRead)
	first.end()
	s = s.on(r.b) // whose client cannot be called
	if f := s.flags(); f != wire.SEQ4_STATUS_CB_PATH_DOWN|wire.SEQ4_STATUS_CB_PATH_DOWN_SESSION {
		t.Errorf("flags %#x", f)
	}
	other.fails(wire.NFS4ERR_DELAY, putRoot, open("f", forWrite))
	if dir := s.bind(r.b, wire.CDFC4_FORE_OR_BOTH); dir != wire.CDFS4_FORE {
		t.Errorf("got direction %d", dir)
	}
	wantStatus(t, handle(r.b, s.auth, encodeCompound("", 1, bindTo(s.id, wire.CDFC4_BACK))), wire.NFS4ERR_INVAL)
	wantStatus(t, handle(r.b, s.auth, encodeCompound("", 1, bindTo(wire.SessionID{9}, wire.CDFC4_FORE))), wire.NFS4ERR_BADSESSION)

	second := r.callable(t)
	if dir := s.bind(second.b, wire.CDFC4_FORE); dir != wire.CDFS4_FORE {
		t.Errorf("got direction %d", dir)
	}
	second.quiet()
	if dir := s.bind(second.b, wire.CDFC4_BACK_OR_BOTH); dir != wire.CDFS4_BOTH {
		t.Errorf("got direction %d", dir)
	}
	recall := second.expect(wire.OP_CB_RECALL)
	if recall.recall.Stateid != got.Delegation.Stateid {
		t.Errorf("got %+v", recall)
	}
	if f := s.flags(); f != 0 {
		t.Errorf("flags %#x", f)
	}
	s.ok(putFH(h), giveBack(recall.recall.Stateid))
	other.ok(putRoot, open("f", forWrite))
}

// CREATE_SESSION that is sent once more, since the connection has ended without its answer, gives the backchannel to the new connection:
// the answer says that it is there.
func TestBackchannelOfCreateSessionAgain(t *testing.T) {
	r := newRig(t, nil)
	first, second := r.callable(t), r.callable(t)
	s := r.newCalledOn(first, "c")
	again := createCalled(&wire.ExchangeIDRes{ClientID: s.clientID, SequenceID: s.created.SequenceID}, wide)
	first.end()
	for _, b := range []*nfs4.Binding{r.b, second.b} { // the former's client cannot be called
		a := handle(b, sysAuth(0, 0), encodeCompound("", 1, again))
		wantStatus(t, a, wire.NFS4_OK)
		if got := last[wire.CreateSessionRes](t, a); got.SessionID != s.id || got.Flags != wire.CREATE_SESSION4_FLAG_CONN_BACK_CHAN {
			t.Fatalf("got %+v", got)
		}
	}
	s = s.on(second.b)
	s.ok(reclaimComplete)
	s.untilUp()
}

// Callbacks that the client has executed, one after the other, and whose answers were lost with their connections, do not keep the next one from being
// executed, nor is it taken for one of them.
func TestBackchannelLosesAnswers(t *testing.T) {
	for _, executed := range [][]bool{{true, true}, {true, true, true}, {true, false}, {false, true}, {false, false, true}} {
		r := newRig(t, nil)
		narrow := wide
		narrow.MaxRequests = 1
		client := r.callable(t)
		s := r.newCalledWith(client, "c", narrow)
		s.ok(reclaimComplete)
		s.untilUp()
		other := r.newSession("other")
		s.delegated("f", forRead)
		for n, done := range executed {
			client.with(func() { client.vanishes, client.deaf = done, !done })
			if n == 0 {
				other.fails(wire.NFS4ERR_DELAY, putRoot, open("f", forWrite))
			} else {
				s.bind(client.b, wire.CDFC4_BACK_OR_BOTH)
			}
			select {
			case <-client.got:
			case <-time.After(10 * time.Second):
				t.Fatalf("%v: callback %d does not come", executed, n)
			}
			client.end()
			next := r.callable(t)
			next.slots, next.misorders = client.slots, true
			client = next
		}
		s.bind(client.b, wire.CDFC4_BACK_OR_BOTH)
		client.expect(wire.OP_CB_RECALL)
		if f := s.on(client.b).flags(); f != 0 {
			t.Errorf("%v: flags %#x", executed, f)
		}
	}
}

// A callback whose connection ends before it is answered goes out over one that was bound meanwhile: nobody would ask for the
// delegation again.
func TestBackchannelMovesToANewConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		s, first := r.newCalled("c")
		other := r.newSession("other")
		h, got := s.delegated("f", forRead)
		silent := make(chan struct{})
		t.Cleanup(func() { close(silent) })
		first.with(func() { first.hold = silent })
		other.fails(wire.NFS4ERR_DELAY, putRoot, open("f", forWrite))
		second := r.callable(t)
		s.bind(second.b, wire.CDFC4_BACK_OR_BOTH)
		synctest.Wait()
		go first.end() // waits until nothing is held
		second.expect(wire.OP_CB_RECALL)
		s = s.on(second.b)
		s.ok(putFH(h), closeFile(got.Stateid), giveBack(got.Delegation.Stateid))
		if f := s.flags(); f != 0 {
			t.Errorf("flags %#x", f)
		}
	})
}

// Several connections: while one of them is left, callbacks go through.
func TestBackchannelOverSeveralConnections(t *testing.T) {
	r := newRig(t, nil)
	s, first := r.newCalled("c")
	other := r.newSession("other")
	second := r.callable(t)
	s.bind(second.b, wire.CDFC4_BACK)
	s.delegated("f", forRead)
	s.delegated("g", forRead)
	other.fails(wire.NFS4ERR_DELAY, putRoot, open("f", forWrite))
	second.expect(wire.OP_CB_RECALL)
	// The slots go on over the other connection.
	first.with(func() { first.slots, first.retried = second.slots, true })
	second.end()
	other.fails(wire.NFS4ERR_DELAY, putRoot, open("g", forWrite))
	first.expect(wire.OP_CB_RECALL)
	if f := s.flags(); f != 0 {
		t.Errorf("flags %#x", f)
	}
}

// A client that is not ready is asked again; one that gets the slots wrong is told so, and has no
// delegations until it binds a connection anew.
func TestBackchannelFaults(t *testing.T) {
	r := newRig(t, nil)
	s, client := r.newCalled("c")
	other := r.newSession("other")
	s.delegated("f", forRead)
	s.delegated("g", forRead)
	client.with(func() {
		client.sequence = []wire.Status{wire.NFS4ERR_DELAY, wire.NFS4ERR_DELAY}
		client.statuses = []wire.Status{wire.NFS4ERR_BAD_STATEID}
	})
	other.fails(wire.NFS4ERR_DELAY, putRoot, open("f", forWrite))
	client.expect(wire.OP_CB_RECALL)
	client.expect(wire.OP_CB_RECALL)

	client.with(func() { client.sequence = []wire.Status{wire.NFS4ERR_BADSESSION} })
	other.fails(wire.NFS4ERR_DELAY, putRoot, open("g", forWrite))
	want := uint32(wire.SEQ4_STATUS_BACKCHANNEL_FAULT | wire.SEQ4_STATUS_CB_PATH_DOWN)
	for range 1000 {
		if s.flags() == want {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if f := s.flags(); f != want {
		t.Errorf("flags %#x", f)
	}
	a := s.ok(putRoot, create("new", 0o644))
	if d := last[wire.OpenRes](t, a).Delegation; d.Type != wire.OPEN_DELEGATE_NONE {
		t.Errorf("granted %+v", d)
	}
	s.bind(client.b, wire.CDFC4_FORE_OR_BOTH)
	if got := client.expect(wire.OP_CB_RECALL); got.session != s.id { // the one that was lost, or both
		t.Errorf("got %+v", got)
	}
	if f := s.flags(); f != 0 {
		t.Errorf("flags %#x", f)
	}
}

// A client that is not ready for longer than it is asked for, or has not heard of the delegation yet, is asked again later, until it is, or its
// delegation is revoked.
func TestRecallOfAClientThatIsLongNotReady(t *testing.T) {
	for _, st := range []wire.Status{wire.NFS4ERR_DELAY, wire.NFS4ERR_BAD_STATEID, wire.NFS4ERR_BADHANDLE} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, func(o *nfs4.Options) { o.LeaseSeconds = 1 }) // by a clock that stands still
			s, client := r.newCalled("c")
			other := r.newSession("other")
			h, got := s.delegated("f", forRead)
			client.with(func() { client.statuses = slices.Repeat([]wire.Status{st}, 8) })
			other.fails(wire.NFS4ERR_DELAY, putRoot, open("f", forWrite))
			for range 9 {
				if recall := client.expect(wire.OP_CB_RECALL).recall; recall.Stateid != got.Delegation.Stateid {
					t.Errorf("got %+v", recall)
				}
			}
			client.quiet()
			s.ok(putFH(h), giveBack(got.Delegation.Stateid))
			other.ok(putRoot, open("f", forWrite))
		})
	}
}

// BACKCHANNEL_CTL changes as whom the server calls.
func TestBackchannelCtl(t *testing.T) {
	r := newRig(t, nil)
	s, client := r.newCalled("c")
	other := r.newSession("other")
	ctl := func(secs ...wire.CallbackSec) call {
		return call{wire.OP_BACKCHANNEL_CTL, &wire.BackchannelCtlArgs{CBProgram: cbProgram, Sec: secs}}
	}
	s.ok(ctl(wire.CallbackSec{Flavor: 1, UID: 29, GID: 31, Machine: []byte("m")}))
	s.delegated("f", forRead)
	other.fails(wire.NFS4ERR_DELAY, putRoot, open("f", forWrite))
	if got := client.expect(wire.OP_CB_RECALL); got.auth.UID != 29 || got.auth.GID != 31 {
		t.Errorf("called as %+v", got.auth)
	}
}

// A lock that somebody waits for is announced when it comes free, and only then.
func TestLockIsAnnounced(t *testing.T) {
	r := newRig(t, nil)
	s, client := r.newCalled("waits")
	other := r.newSession("holds")
	h, theirs := other.makeFile("f", 0o644)
	lock := func(id wire.Stateid, kind wire.LockType, owner string, offset uint64) call {
		return call{wire.OP_LOCK, &wire.LockArgs{Type: kind, Offset: offset, Length: 10, NewOwner: true, OpenStateid: id,
			Owner: wire.Owner{Owner: []byte(owner)}}}
	}
	unlock := func(id wire.Stateid, offset uint64) call {
		return call{wire.OP_LOCKU, &wire.LockUArgs{Type: wire.WRITE_LT, Stateid: id, Offset: offset, Length: 10}}
	}
	held := last[wire.LockRes](t, other.ok(putFH(h), lock(theirs, wire.WRITE_LT, "o", 0))).Stateid
	held2 := last[wire.LockRes](t, other.ok(putFH(h), lock(theirs, wire.WRITE_LT, "p", 20))).Stateid
	mine := *last[wire.OpenRes](t, s.ok(putRoot, open("f", forBoth)))
	if mine.Flags&wire.OPEN4_RESULT_MAY_NOTIFY_LOCK == 0 {
		t.Errorf("flags %#x", mine.Flags)
	}
	s.fails(wire.NFS4ERR_DENIED, putFH(h), lock(mine.Stateid, wire.WRITE_LT, "impatient", 0))
	s.fails(wire.NFS4ERR_DENIED, putFH(h), lock(mine.Stateid, wire.WRITEW_LT, "me", 5))
	s.fails(wire.NFS4ERR_DENIED, putFH(h), lock(mine.Stateid, wire.READW_LT, "you", 20))
	other.ok(putFH(h), unlock(held2, 100))
	client.quiet()
	other.ok(putFH(h), unlock(held, 0))
	if got := client.expect(wire.OP_CB_NOTIFY_LOCK); string(got.lock.Owner.Owner) != "me" || got.lock.Owner.ClientID != s.clientID {
		t.Errorf("got %+v", got.lock)
	}
	s.ok(putFH(h), lock(mine.Stateid, wire.WRITEW_LT, "me", 5))
	other.ok(putFH(h), closeFile(theirs)) // its locks go with it
	if got := client.expect(wire.OP_CB_NOTIFY_LOCK); string(got.lock.Owner.Owner) != "you" {
		t.Errorf("got %+v", got.lock)
	}
	client.quiet()
}

// A lock for writing that becomes one for reading makes way for those who would read, and for nobody else.
func TestDowngradedLockIsAnnounced(t *testing.T) {
	r := newRig(t, nil)
	s, client := r.newCalled("waits")
	other := r.newSession("holds")
	h, theirs := other.makeFile("f", 0o644)
	lock := func(id wire.Stateid, kind wire.LockType, owner string) call {
		return call{wire.OP_LOCK, &wire.LockArgs{Type: kind, Length: 10, NewOwner: true, OpenStateid: id,
			Owner: wire.Owner{Owner: []byte(owner)}}}
	}
	held := last[wire.LockRes](t, other.ok(putFH(h), lock(theirs, wire.WRITE_LT, "o"))).Stateid
	mine := *last[wire.OpenRes](t, s.ok(putRoot, open("f", forBoth)))
	s.fails(wire.NFS4ERR_DENIED, putFH(h), lock(mine.Stateid, wire.WRITEW_LT, "writer"))
	s.fails(wire.NFS4ERR_DENIED, putFH(h), lock(mine.Stateid, wire.READW_LT, "reader"))
	other.ok(putFH(h), call{wire.OP_LOCK, &wire.LockArgs{Type: wire.READ_LT, Length: 10, LockStateid: held}})
	if got := client.expect(wire.OP_CB_NOTIFY_LOCK); string(got.lock.Owner.Owner) != "reader" {
		t.Errorf("got %+v", got.lock)
	}
	client.quiet()
	s.ok(putFH(h), lock(mine.Stateid, wire.READW_LT, "reader"))
}

// A client that has as many delegations as it may is asked for some of them.
func TestRecallAny(t *testing.T) {
	r := newRig(t, func(o *nfs4.Options) { o.Limits.DelegationsPerClient = 8 })
	s, client := r.newCalled("c")
	for i := range 8 {
		s.makeFile(string(rune('a'+i)), 0o644)
	}
	client.quiet()
	for range 2 {
		if d := last[wire.OpenRes](t, s.ok(putRoot, create("more", 0o644))).Delegation; d.Type != wire.OPEN_DELEGATE_NONE {
			t.Errorf("granted %+v", d)
		}
	}
	got := client.expect(wire.OP_CB_RECALL_ANY)
	if got.any.Keep != 6 || !got.any.Types.Has(wire.RCA4_TYPE_MASK_RDATA_DLG) || !got.any.Types.Has(wire.RCA4_TYPE_MASK_WDATA_DLG) {
		t.Errorf("got %+v", got.any)
	}
	client.quiet() // once is enough for now
}

// After a restart a client has its delegation again, and it is recalled as before; a client that never
// had one, or asks when the grace period is over, does not get any.
func TestDelegationIsReclaimed(t *testing.T) {
	r := newRig(t, nil)
	s, _ := r.newCalled("holder")
	h, _ := s.delegated("f", forRead)
	r.newSession("other")
	r.restart()

	client := r.callable(t)
	s = r.newCalledOn(client, "holder")
	claim := func(kind wire.DelegationType) call {
		a := openArgs("", forRead)
		a.Claim, a.DelegateType = wire.CLAIM_PREVIOUS, kind
		return call{wire.OP_OPEN, a}
	}
	got := *last[wire.OpenRes](t, s.ok(putFH(h), claim(wire.OPEN_DELEGATE_READ)))
	if got.Delegation.Type != wire.OPEN_DELEGATE_READ || got.Delegation.Recall {
		t.Fatalf("got %+v", got.Delegation)
	}
	again := *last[wire.OpenRes](t, s.ok(putFH(h), claim(wire.OPEN_DELEGATE_READ)))
	if again.Delegation.Stateid != got.Delegation.Stateid {
		t.Errorf("reclaimed again: %+v", again.Delegation)
	}
	s.ok(call{wire.OP_RECLAIM_COMPLETE, &wire.ReclaimCompleteArgs{}})
	s.fails(wire.NFS4ERR_NO_GRACE, putFH(h), claim(wire.OPEN_DELEGATE_READ))
	other := r.newSession("other")
	s.ok(putFH(h), read(got.Delegation.Stateid, 0, 5))
	other.fails(wire.NFS4ERR_DELAY, putRoot, open("f", forWrite))
	if recall := client.expect(wire.OP_CB_RECALL); recall.recall.Stateid != got.Delegation.Stateid {
		t.Errorf("got %+v", recall.recall)
	}
	s.ok(putFH(h), giveBack(got.Delegation.Stateid))
	other.ok(putRoot, open("f", forWrite))
}

// Who may only read a file does not get to write it, and who may only write it to read it, by claiming that it had a delegation before
// the restart. The owner does, whatever the mode is.
func TestReclaimedDelegationNeedsAccess(t *testing.T) {
	for _, c := range []struct {
		uid    uint32
		mode   uint32
		access uint32
		kind   wire.DelegationType
		want   wire.DelegationType
	}{
		{1001, 0o644, forRead, wire.OPEN_DELEGATE_WRITE, wire.OPEN_DELEGATE_NONE},
		{1001, 0o644, forRead, wire.OPEN_DELEGATE_WRITE_ATTRS_DELEG, wire.OPEN_DELEGATE_NONE},
		{1001, 0o644, forRead, wire.OPEN_DELEGATE_READ, wire.OPEN_DELEGATE_READ},
		{1001, 0o666, forRead, wire.OPEN_DELEGATE_WRITE, wire.OPEN_DELEGATE_WRITE},
		{5, 0o444, forRead, wire.OPEN_DELEGATE_WRITE, wire.OPEN_DELEGATE_WRITE},
		{1001, 0o622, forWrite, wire.OPEN_DELEGATE_READ, wire.OPEN_DELEGATE_NONE},
		{1001, 0o622, forWrite, wire.OPEN_DELEGATE_WRITE, wire.OPEN_DELEGATE_NONE},
		{1001, 0o622, forWrite, wire.OPEN_DELEGATE_WRITE_ATTRS_DELEG, wire.OPEN_DELEGATE_NONE},
		{1001, 0o666, forWrite, wire.OPEN_DELEGATE_WRITE, wire.OPEN_DELEGATE_WRITE},
		{5, 0o222, forWrite, wire.OPEN_DELEGATE_WRITE, wire.OPEN_DELEGATE_WRITE},
	} {
		r := newRig(t, nil)
		s, _ := r.newCalled("c")
		s.auth = sysAuth(5, 5)
		h, id := s.makeFile("f", 0o644)
		s.ok(putFH(h), write(id, 0, "hello"), setAttr(id, withMode(c.mode)))
		r.restart()
		s = r.newCalledOn(r.callable(t), "c")
		s.auth = sysAuth(c.uid, c.uid)
		a := openArgs("", c.access)
		a.Claim, a.DelegateType = wire.CLAIM_PREVIOUS, c.kind
		got := last[wire.OpenRes](t, s.ok(putFH(h), call{wire.OP_OPEN, a}))
		if got.Delegation.Type != c.want {
			t.Errorf("%+v: got %+v", c, got)
		}
		other := write(got.Stateid, 0, "x")
		if c.access == forWrite {
			other = read(got.Stateid, 0, 5)
		}
		s.fails(wire.NFS4ERR_OPENMODE, putFH(h), other)
	}
}

// Without a way to call the client, a reclaimed delegation is to be returned at once.
func TestReclaimedDelegationIsReturned(t *testing.T) {
	r := newRig(t, nil)
	s, _ := r.newCalled("holder")
	h, _ := s.delegated("f", forBoth)
	r.restart()
	s = r.newSessionWith("holder", wide)
	a := openArgs("", forBoth)
	a.Claim, a.DelegateType = wire.CLAIM_PREVIOUS, wire.OPEN_DELEGATE_WRITE_ATTRS_DELEG
	got := last[wire.OpenRes](t, s.ok(putFH(h), call{wire.OP_OPEN, a})).Delegation
	if got.Type != wire.OPEN_DELEGATE_WRITE_ATTRS_DELEG || !got.Recall {
		t.Errorf("got %+v", got)
	}
}

// A client that was silent for several leases before a restart still has what it held: it is known, and
// reclaims.
func TestCourtesyAcrossRestart(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("away")
	h, id := s.makeFile("f", 0o644)
	s.ok(putFH(h), write(id, 0, "hello"))
	other := r.newSession("other")
	for range 5 {
		r.now = r.now.Add(testLease)
		other.ok()
	}
	r.restart()
	s = r.newSessionWith("away", wide)
	a := openArgs("", forBoth)
	a.Claim = wire.CLAIM_PREVIOUS
	got := last[wire.OpenRes](t, s.ok(putFH(h), call{wire.OP_OPEN, a}))
	s.ok(putFH(h), read(got.Stateid, 0, 5))
}

// A session with many slots is asked for some when there is no room for another client's; a reply that is
// repeated tells how many there are by then.
func TestRecallSlot(t *testing.T) {
	r := newRig(t, func(o *nfs4.Options) { o.Limits.ReplyCacheBytes, o.Limits.Slots = 4*4096, 16 })
	s, client := r.newCalled("c") // takes all four
	s.cache = true
	args := s.encode(putRoot, getFH)
	told := func(a *answer) [2]uint32 {
		wantStatus(t, a, wire.NFS4_OK)
		seq := at[wire.SequenceRes](t, a, 0)
		return [2]uint32{seq.HighestSlot, seq.TargetHighestSlot}
	}
	if got := told(handle(s.b, s.auth, args)); got != [2]uint32{3, 3} {
		t.Errorf("at first slots %v", got)
	}
	ex := last[wire.ExchangeIDRes](t, r.raw(exchangeID("late")))
	late := call{wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ClientID: ex.ClientID, SequenceID: ex.SequenceID, Fore: wide, Back: wide}}
	wantStatus(t, r.raw(late), wire.NFS4ERR_DELAY)
	if got := client.expect(wire.OP_CB_RECALL_SLOT); got.session != s.id || got.slot.TargetHighestSlot != 0 {
		t.Errorf("got %+v", got)
	}
	if got := told(handle(s.b, s.auth, args)); got != [2]uint32{3, 0} {
		t.Errorf("in a repetition slots %v", got)
	}
	for _, want := range [][2]uint32{{3, 0}, {0, 0}} {
		if got := told(s.ok()); got != want {
			t.Errorf("slots %v, want %v", got, want)
		}
	}
	wantStatus(t, r.raw(late), wire.NFS4_OK)
}
