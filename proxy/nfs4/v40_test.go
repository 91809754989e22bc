package nfs4_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/proxy/xdr"
)

// old is a client of minor version 0.
type old struct {
	r     *rig
	auth  rpc.Auth
	id    wire.ClientID
	owner string
	seqid uint32 // of the next request of owner
}

func setClientID(id string, verifier byte) call {
	return call{wire.OP_SETCLIENTID, &wire.SetClientIDArgs{ID: []byte(id), Verifier: wire.Verifier{verifier},
		CBAddr: wire.ClientAddr{NetID: []byte("tcp"), Addr: []byte("127.0.0.1.8.1")}}}
}

func confirmClientID(res *wire.SetClientIDRes) call { return call{wire.OP_SETCLIENTID_CONFIRM, res} }

func (r *rig) newOld(id string) *old {
	r.t.Helper()
	o := &old{r: r, auth: sysAuth(0, 0), owner: "owner", seqid: 7}
	got := last[wire.SetClientIDRes](r.t, o.ok(setClientID(id, 1)))
	o.ok(confirmClientID(got))
	o.id = got.ClientID
	return o
}

func (o *old) do(ops ...call) *answer {
	return handle(o.r.b, o.auth, encodeCompound("old", 0, ops...))
}

func (o *old) ok(ops ...call) *answer {
	o.r.t.Helper()
	a := o.do(ops...)
	wantStatus(o.r.t, a, wire.NFS4_OK)
	return a
}

func (o *old) fails(want wire.Status, ops ...call) {
	o.r.t.Helper()
	a := o.do(ops...)
	wantStatus(o.r.t, a, want)
	if len(a.results) != len(ops) {
		o.r.t.Fatalf("operation %d of %d failed with %v", len(a.results), len(ops), a.status)
	}
}

// opens is the owner's next OPEN, changed by change.
func (o *old) opens(name string, access uint32, change func(*wire.OpenArgs)) call {
	a := openArgs(name, access)
	a.Owner = wire.Owner{ClientID: o.id, Owner: []byte(o.owner)}
	a.Seqid = o.next()
	if change != nil {
		change(a)
	}
	return call{wire.OP_OPEN, a}
}

func (o *old) next() uint32 {
	o.seqid++
	return o.seqid - 1
}

func creating(a *wire.OpenArgs) { a.Create, a.Attrs = true, withMode(0o644) }

func (o *old) confirm(h []byte, id wire.Stateid) wire.Stateid {
	o.r.t.Helper()
	a := o.ok(putFH(h), call{wire.OP_OPEN_CONFIRM, &wire.OpenConfirmArgs{Stateid: id, Seqid: o.next()}})
	return last[wire.OpenConfirmRes](o.r.t, a).Stateid
}

// makeFile makes a file and leaves it open for both, with the owner confirmed.
func (o *old) makeFile(name string) (h []byte, id wire.Stateid) {
	o.r.t.Helper()
	a := o.ok(putRoot, o.opens(name, wire.OPEN4_SHARE_ACCESS_BOTH, creating), getFH)
	h, res := last[wire.GetFHRes](o.r.t, a).Handle, at[wire.OpenRes](o.r.t, a, 1)
	if res.Flags&wire.OPEN4_RESULT_CONFIRM == 0 {
		return h, res.Stateid
	}
	return h, o.confirm(h, res.Stateid)
}

func (o *old) closes(id wire.Stateid) call {
	return call{wire.OP_CLOSE, &wire.CloseArgs{Stateid: id, Seqid: o.next()}}
}

func TestOldClientReadsAndWrites(t *testing.T) {
	r := newRig(t, nil)
	o := r.newOld("c")
	h, id := o.makeFile("f")
	o.ok(putFH(h), write(id, 0, "hello"))
	if got := last[wire.ReadRes](t, o.ok(putFH(h), read(id, 1, 100))); string(got.Data) != "ello" || !got.EOF {
		t.Errorf("read %q", got.Data)
	}
	o.ok(putFH(h), setAttr(id, withSize(2)))
	o.ok(putFH(h), o.closes(id))
	o.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), read(id, 0, 1))
	if st := r.s.Stats(); st.Opens != 0 || len(r.fs.holds) != 0 {
		t.Errorf("left: %+v, %v", st, r.fs.holds)
	}
	for op := range wire.Op(80) {
		want := wire.NFS4ERR_OP_ILLEGAL
		if op.In(0) {
			continue
		}
		if a := o.do(call{op: op}); a.status != want {
			t.Errorf("%v: %v", op, a.status)
		}
	}
}

// The client id's life: confirmation, a callback that changes, a client that restarts, another that has
// the same id.
func TestSetClientID(t *testing.T) {
	r := newRig(t, nil)
	o := &old{r: r, auth: sysAuth(0, 0), owner: "o"}
	first := last[wire.SetClientIDRes](t, o.ok(setClientID("c", 1)))
	o.fails(wire.NFS4ERR_STALE_CLIENTID, call{wire.OP_RENEW, &wire.RenewArgs{ClientID: first.ClientID}})
	wrong := *first
	wrong.Confirm[0]++
	o.fails(wire.NFS4ERR_STALE_CLIENTID, confirmClientID(&wrong))
	if r.fs.records != 0 {
		t.Fatalf("%d records before the confirmation", r.fs.records)
	}
	o.ok(confirmClientID(first))
	o.ok(confirmClientID(first)) // sent again
	if r.fs.records != 1 {
		t.Fatalf("%d records", r.fs.records)
	}
	o.ok(call{wire.OP_RENEW, &wire.RenewArgs{ClientID: first.ClientID}})

	update := last[wire.SetClientIDRes](t, o.ok(setClientID("c", 1)))
	if update.ClientID != first.ClientID || update.Confirm == first.Confirm {
		t.Errorf("a new callback: %+v after %+v", update, first)
	}
	o.ok(confirmClientID(update))
	o.fails(wire.NFS4ERR_STALE_CLIENTID, confirmClientID(first))

	o.id = first.ClientID
	h, id := o.makeFile("f")
	stranger := &old{r: r, auth: sysAuth(5, 5)}
	a := stranger.do(setClientID("c", 9))
	wantStatus(t, a, wire.NFS4ERR_CLID_INUSE)
	if got := last[wire.ClientAddr](t, a); string(got.Addr) != "127.0.0.1.8.1" {
		t.Errorf("in use by %q", got.Addr)
	}

	again := last[wire.SetClientIDRes](t, o.ok(setClientID("c", 2)))
	if again.ClientID == first.ClientID {
		t.Error("a client that restarted has its old id")
	}
	if r.s.Stats().Opens != 1 {
		t.Error("the old state went before the confirmation")
	}
	o.ok(confirmClientID(again))
	if r.s.Stats().Opens != 0 {
		t.Error("the old state is still there")
	}
	o.fails(wire.NFS4ERR_STALE_CLIENTID, call{wire.OP_RENEW, &wire.RenewArgs{ClientID: first.ClientID}})
	o.fails(wire.NFS4ERR_EXPIRED, putFH(h), read(id, 0, 1))
	// Neither kind of client id is good for the other kind of client.
	wantStatus(t, r.raw(call{wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ClientID: again.ClientID, SequenceID: 1, Fore: wide, Back: wide}}),
		wire.NFS4ERR_STALE_CLIENTID)
	wantStatus(t, r.raw(call{wire.OP_DESTROY_CLIENTID, &wire.DestroyClientIDArgs{ClientID: again.ClientID}}), wire.NFS4ERR_STALE_CLIENTID)
	s := r.newSession("c")
	o.fails(wire.NFS4ERR_STALE_CLIENTID, call{wire.OP_RENEW, &wire.RenewArgs{ClientID: s.clientID}})
}

// TestOldClientIsNotCalled: no delegation, and no connection to where the client wants to be called, whatever it opens and
// whoever else comes (docs/adr/0032).
func TestOldClientIsNotCalled(t *testing.T) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	o := &old{r: newRig(t, nil), auth: sysAuth(0, 0), owner: "owner"}
	got := last[wire.SetClientIDRes](t, o.ok(call{wire.OP_SETCLIENTID, &wire.SetClientIDArgs{ID: []byte("c"), CBProgram: 1 << 30,
		CBAddr: wire.ClientAddr{NetID: []byte("tcp"), Addr: fmt.Appendf(nil, "127.0.0.1.%d.%d", port>>8, port&255)}}}))
	o.ok(confirmClientID(got))
	o.id = got.ClientID
	o.makeFile("f")
	for _, access := range []uint32{wire.OPEN4_SHARE_ACCESS_READ, wire.OPEN4_SHARE_ACCESS_BOTH} {
		if d := last[wire.OpenRes](t, o.ok(putRoot, o.opens("f", access, nil))).Delegation; d.Type != wire.OPEN_DELEGATE_NONE {
			t.Errorf("%+v", d)
		}
	}
	o.r.newOld("another").makeFile("f")
	l.SetDeadline(time.Now().Add(50 * time.Millisecond))
	if c, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("called: %v, %v", c, err)
	}
}

// Each request of an owner has its place; the last one may be repeated and is answered as before.
func TestOwnerSequence(t *testing.T) {
	r := newRig(t, nil)
	o := r.newOld("c")
	open := o.opens("f", wire.OPEN4_SHARE_ACCESS_BOTH, func(a *wire.OpenArgs) { creating(a); a.CreateMode = wire.GUARDED4 })
	first := o.ok(putRoot, open, getFH)
	again := o.ok(putRoot, open, getFH) // GUARDED4: it would fail if it were done twice
	if !bytes.Equal(first.raw, again.raw) || r.fs.creates.Load() != 1 {
		t.Errorf("repeated: %x, first %x, %d creates", again.raw, first.raw, r.fs.creates.Load())
	}
	h, res := last[wire.GetFHRes](t, first).Handle, at[wire.OpenRes](t, first, 1)
	if res.Flags != wire.OPEN4_RESULT_CONFIRM|wire.OPEN4_RESULT_LOCKTYPE_POSIX {
		t.Errorf("flags %#x", res.Flags)
	}
	o.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), read(res.Stateid, 0, 1)) // not confirmed
	id := o.confirm(h, res.Stateid)
	o.fails(wire.NFS4ERR_OLD_STATEID, putFH(h), read(res.Stateid, 0, 1))

	for _, bad := range []uint32{o.seqid + 1, o.seqid - 2, 0} {
		o.fails(wire.NFS4ERR_BAD_SEQID, putFH(h), call{wire.OP_CLOSE, &wire.CloseArgs{Stateid: id, Seqid: bad}})
	}
	// A failure takes a seqid too, unless it is one of those that do not.
	downgrade := call{wire.OP_OPEN_DOWNGRADE, &wire.OpenDowngradeArgs{Stateid: id, Seqid: o.next(), ShareAccess: 0}}
	o.fails(wire.NFS4ERR_INVAL, putFH(h), downgrade)
	o.fails(wire.NFS4ERR_INVAL, putFH(h), downgrade)

	closing := o.closes(id)
	one, two := o.ok(putFH(h), closing), o.ok(putFH(h), closing)
	if !bytes.Equal(one.raw, two.raw) {
		t.Errorf("CLOSE repeated: %x, first %x", two.raw, one.raw)
	}
	next := o.ok(putRoot, o.opens("f", wire.OPEN4_SHARE_ACCESS_READ, nil))
	if flags := last[wire.OpenRes](t, next).Flags; flags&wire.OPEN4_RESULT_CONFIRM != 0 {
		t.Errorf("a known owner must confirm again: %#x", flags)
	}
	o.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), closing) // no longer the last one
}

// An owner that was never confirmed starts over, and what it had open is gone.
func TestUnconfirmedOwner(t *testing.T) {
	r := newRig(t, nil)
	o := r.newOld("c")
	deny := func(a *wire.OpenArgs) { creating(a); a.ShareDeny = wire.OPEN4_SHARE_DENY_BOTH }
	o.ok(putRoot, o.opens("f", wire.OPEN4_SHARE_ACCESS_BOTH, deny))
	o.seqid = 1000
	o.ok(putRoot, o.opens("g", wire.OPEN4_SHARE_ACCESS_BOTH, creating))
	if st := r.s.Stats(); st.Opens != 1 {
		t.Errorf("%d opens", st.Opens)
	}
}

// Clients of both kinds see each other's share reservations and locks.
func TestMinorVersionsConflict(t *testing.T) {
	r := newRig(t, nil)
	o, s := r.newOld("old"), r.newSession("new")
	h, _ := o.makeFile("f")
	o.ok(putRoot, o.opens("f", wire.OPEN4_SHARE_ACCESS_READ, func(a *wire.OpenArgs) { a.ShareDeny = wire.OPEN4_SHARE_DENY_NONE }))
	denied := openArgs("f", wire.OPEN4_SHARE_ACCESS_READ)
	denied.ShareDeny = wire.OPEN4_SHARE_DENY_WRITE
	s.fails(wire.NFS4ERR_SHARE_DENIED, putRoot, call{wire.OP_OPEN, denied})

	id := last[wire.OpenRes](t, o.ok(putRoot, o.opens("f", wire.OPEN4_SHARE_ACCESS_BOTH, nil))).Stateid
	lock := last[wire.LockRes](t, o.ok(putFH(h), o.locks(id, "lo", 3, 0, 10))).Stateid
	a := s.do(putRoot, lookup("f"), lockTest(0, 1))
	wantStatus(t, a, wire.NFS4ERR_DENIED)
	if got := last[wire.LockDenied](t, a); got.Owner.ClientID != o.id || string(got.Owner.Owner) != "lo" || got.Length != 10 {
		t.Errorf("denied by %+v", got)
	}
	_, mine := s.makeFile("g", 0o644)
	theirs := last[wire.OpenRes](t, s.ok(putRoot, open("f", wire.OPEN4_SHARE_ACCESS_BOTH))).Stateid
	s.ok(putFH(h), call{wire.OP_LOCK, &wire.LockArgs{Type: wire.WRITE_LT, Offset: 20, Length: 1, NewOwner: true, OpenStateid: theirs, Owner: wire.Owner{Owner: []byte("x")}}})
	grab := &wire.LockArgs{Type: wire.WRITE_LT, Offset: 15, Length: 10, LockStateid: lock, LockSeqid: 4}
	o.fails(wire.NFS4ERR_DENIED, putFH(h), call{wire.OP_LOCK, grab})
	o.fails(wire.NFS4ERR_DENIED, putFH(h), call{wire.OP_LOCK, grab}) // repeated
	o.fails(wire.NFS4ERR_BAD_STATEID, putRoot, lookup("g"), read(mine, 0, 1))
	s.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), read(id, 0, 1))
}

// A client that does not count what has failed, as libnfs 4.0, goes on with the same seqid. A repetition has the answer of before, and what
// follows a success has the next seqid.
func TestFailuresNotCounted(t *testing.T) {
	r := newRig(t, nil)
	o := r.newOld("c")
	f, id := o.makeFile("f")
	guarded := func(a *wire.OpenArgs) { creating(a); a.CreateMode = wire.GUARDED4 }
	failing := o.opens("f", wire.OPEN4_SHARE_ACCESS_BOTH, guarded)
	o.fails(wire.NFS4ERR_EXIST, putRoot, failing)
	o.fails(wire.NFS4ERR_EXIST, putRoot, failing)
	o.seqid--
	other := o.opens("other", wire.OPEN4_SHARE_ACCESS_BOTH, guarded)
	first := o.ok(putRoot, other, getFH)
	if again := o.ok(putRoot, other, getFH); !bytes.Equal(first.raw, again.raw) {
		t.Errorf("repeated: %x, first %x", again.raw, first.raw)
	}
	h := last[wire.GetFHRes](t, first).Handle
	o.fails(wire.NFS4ERR_BAD_SEQID, putRoot, failing)
	closing := call{wire.OP_CLOSE, &wire.CloseArgs{Stateid: id, Seqid: o.seqid - 1}}
	o.fails(wire.NFS4ERR_BAD_SEQID, putFH(f), closing)
	o.fails(wire.NFS4ERR_INVAL, putFH(h), call{wire.OP_OPEN_DOWNGRADE, &wire.OpenDowngradeArgs{Stateid: at[wire.OpenRes](t, first, 1).Stateid, Seqid: o.next()}})
	o.ok(putFH(h), call{wire.OP_CLOSE, &wire.CloseArgs{Stateid: at[wire.OpenRes](t, first, 1).Stateid, Seqid: o.seqid - 1}})
}

func (o *old) locks(open wire.Stateid, owner string, lockSeqid uint32, offset, length uint64) call {
	return call{wire.OP_LOCK, &wire.LockArgs{Type: wire.WRITE_LT, Offset: offset, Length: length, NewOwner: true, OpenSeqid: o.next(),
		OpenStateid: open, LockSeqid: lockSeqid, Owner: wire.Owner{ClientID: o.id, Owner: []byte(owner)}}}
}

func lockTest(offset, length uint64) call {
	return call{wire.OP_LOCKT, &wire.LockTArgs{Type: wire.WRITE_LT, Offset: offset, Length: length, Owner: wire.Owner{Owner: []byte("tester")}}}
}

func TestOldLockOwner(t *testing.T) {
	r := newRig(t, nil)
	o := r.newOld("c")
	h, id := o.makeFile("f")
	locking := o.locks(id, "lo", 100, 0, 10)
	first := o.ok(putFH(h), locking)
	if again := o.ok(putFH(h), locking); !bytes.Equal(first.raw, again.raw) || r.s.Stats().Locks != 1 {
		t.Errorf("LOCK repeated: %x, first %x", again.raw, first.raw)
	}
	lock := last[wire.LockRes](t, first).Stateid
	release := call{wire.OP_RELEASE_LOCKOWNER, &wire.ReleaseLockOwnerArgs{Owner: wire.Owner{ClientID: o.id, Owner: []byte("lo")}}}
	o.fails(wire.NFS4ERR_LOCKS_HELD, release)
	unlock := func(seqid uint32) call {
		return call{wire.OP_LOCKU, &wire.LockUArgs{Type: wire.WRITE_LT, Seqid: seqid, Stateid: lock, Length: 10}}
	}
	o.fails(wire.NFS4ERR_BAD_SEQID, putFH(h), unlock(100))
	o.fails(wire.NFS4ERR_BAD_SEQID, putFH(h), unlock(102))
	o.ok(putFH(h), unlock(101))
	o.ok(putFH(h), unlock(101))
	o.fails(wire.NFS4ERR_OLD_STATEID, putFH(h), unlock(102))

	// The client has forgotten the owner, which holds nothing: it begins anew, but not once it holds something.
	lock = last[wire.LockRes](t, o.ok(putFH(h), o.locks(id, "lo", 7, 0, 10))).Stateid
	o.fails(wire.NFS4ERR_BAD_SEQID, putFH(h), unlock(7)) // the request with this one has not failed
	o.fails(wire.NFS4ERR_BAD_SEQID, putFH(h), o.locks(id, "lo", 0, 20, 10))
	o.seqid--
	o.fails(wire.NFS4ERR_BAD_SEQID, putFH(h), unlock(102))
	lock = last[wire.LockURes](t, o.ok(putFH(h), unlock(8))).Stateid
	o.ok(release)
	o.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), unlock(9))
	o.ok(putFH(h), o.locks(id, "lo", 5, 0, 10)) // it is new again
	o.ok(putFH(h), o.closes(id))
	if r.s.Stats().Locks != 0 {
		t.Error("locks outlive the open")
	}
}

// A lease is renewed by stateids; what an expired client had goes only when another wants it, and the
// client is told so.
func TestOldLease(t *testing.T) {
	r := newRig(t, nil)
	o, other := r.newOld("c"), r.newSession("other")
	h, id := o.makeFile("f")
	lease := 15 * time.Second
	for range 4 {
		r.now = r.now.Add(lease - time.Second)
		o.ok(putFH(h), read(id, 0, 1))
	}
	r.now = r.now.Add(2 * lease)
	o.ok(putFH(h), read(id, 0, 1)) // nobody wanted it

	r.now = r.now.Add(2 * lease)
	deny := openArgs("f", wire.OPEN4_SHARE_ACCESS_READ)
	deny.ShareDeny = wire.OPEN4_SHARE_DENY_BOTH
	other.ok(putRoot, call{wire.OP_OPEN, deny})
	o.fails(wire.NFS4ERR_EXPIRED, putFH(h), read(id, 0, 1))
	o.fails(wire.NFS4ERR_EXPIRED, putFH(h), o.closes(id))
	o.fails(wire.NFS4ERR_EXPIRED, call{wire.OP_RENEW, &wire.RenewArgs{ClientID: o.id}})
	o.fails(wire.NFS4ERR_EXPIRED, putRoot, o.opens("f", wire.OPEN4_SHARE_ACCESS_READ, nil))
}

// After a restart a client learns that its state is stale, gets a new id, and reclaims.
func TestOldReclaim(t *testing.T) {
	ended := make(chan int, 1)
	r := newRig(t, func(o *nfs4.Options) { o.Events.GraceEnded = func(lost int) { ended <- lost } })
	o := r.newOld("c")
	h, id := o.makeFile("f")
	o.ok(putFH(h), o.locks(id, "lo", 1, 0, 10))
	r.restart()
	o.fails(wire.NFS4ERR_STALE_CLIENTID, call{wire.OP_RENEW, &wire.RenewArgs{ClientID: o.id}})
	o.fails(wire.NFS4ERR_STALE_STATEID, putFH(h), read(id, 0, 1))
	o.fails(wire.NFS4ERR_STALE_STATEID, putFH(h), o.closes(id))

	got := last[wire.SetClientIDRes](t, o.ok(setClientID("c", 1)))
	o.ok(confirmClientID(got))
	o.id = got.ClientID
	o.fails(wire.NFS4ERR_GRACE, putRoot, o.opens("f", wire.OPEN4_SHARE_ACCESS_READ, nil))
	previous := func(a *wire.OpenArgs) { a.Claim, a.Name = wire.CLAIM_PREVIOUS, nil }
	res := last[wire.OpenRes](t, o.ok(putFH(h), o.opens("", wire.OPEN4_SHARE_ACCESS_BOTH, previous)))
	if res.Flags&wire.OPEN4_RESULT_CONFIRM != 0 {
		t.Errorf("a reclaim must be confirmed: %#x", res.Flags)
	}
	lock := o.locks(res.Stateid, "lo", 1, 0, 10)
	lock.args.(*wire.LockArgs).Reclaim = true
	o.ok(putFH(h), lock)

	stranger := &old{r: r, auth: sysAuth(0, 0), owner: "s"}
	got = last[wire.SetClientIDRes](t, stranger.ok(setClientID("stranger", 1)))
	stranger.ok(confirmClientID(got))
	stranger.id = got.ClientID
	stranger.fails(wire.NFS4ERR_RECLAIM_BAD, putFH(h), stranger.opens("", wire.OPEN4_SHARE_ACCESS_READ, previous))
	r.now = r.now.Add(time.Minute)
	r.newSession("late") // whoever says RECLAIM_COMPLETE notices that the time is up
	if lost := <-ended; lost != 0 {
		t.Errorf("%d clients lost", lost)
	}
	o.fails(wire.NFS4ERR_NO_GRACE, putFH(h), o.opens("", wire.OPEN4_SHARE_ACCESS_READ, previous))

	// An owner that was reclaimed may leave out one number, for Linux does, and no other owner; none leaves out two.
	o.seqid += 2
	o.fails(wire.NFS4ERR_BAD_SEQID, putFH(h), o.closes(res.Stateid))
	o.seqid -= 2
	o.ok(putFH(h), o.closes(res.Stateid))
	fresh := r.newOld("fresh")
	h, id = fresh.makeFile("g")
	fresh.seqid++
	fresh.fails(wire.NFS4ERR_BAD_SEQID, putFH(h), fresh.closes(id))
}

// What only later minor versions say is not said to this one.
func TestOldStatuses(t *testing.T) {
	r := newRig(t, nil)
	o := r.newOld("c")
	o.ok(putRoot, call{wire.OP_CREATE, &wire.CreateArgs{Type: wire.NF4FIFO, Name: []byte("fifo"), Attrs: withMode(0o666)}})
	o.fails(wire.NFS4ERR_INVAL, putRoot, lookup("fifo"), read(wire.AnonymousStateid, 0, 1))
	o.fails(wire.NFS4ERR_RESTOREFH, putRoot, restoreFH)
	o.fails(wire.NFS4ERR_BAD_STATEID, putRoot, lookup("fifo"), read(wire.CurrentStateid, 0, 1))
	o.fails(wire.NFS4ERR_BADXDR, putRoot, o.opens("x", 1, func(a *wire.OpenArgs) { a.Claim = wire.CLAIM_FH }))
	o.fails(wire.NFS4ERR_INVAL, putRoot, o.opens("x", 0x101, nil))
	o.ok(putRoot, secinfo("fifo"), getFH)
	wantStatus(t, o.do(slices.Repeat([]call{putRoot}, 65)...), wire.NFS4ERR_RESOURCE)
	o.ok() // an empty COMPOUND
}

// What makes or removes names is carried out once, however often it comes; the same again as a new
// request is not it.
func TestOldRequestsComeOnce(t *testing.T) {
	r := newRig(t, nil)
	send := func(xid uint32, ops ...call) *answer {
		c := rpc.Call{XID: xid, Program: wire.Program, Version: wire.RPCVersion, Procedure: wire.ProcCompound,
			Auth: sysAuth(0, 0), Args: xdr.NewDecoder(encodeCompound("old", 0, ops...))}
		e := xdr.NewEncoder(make([]byte, 0, 1<<20))
		r.b.Handle(t.Context(), &c, &e)
		return parseAnswer(e.Bytes())
	}
	for _, ops := range [][]call{{putRoot, mkdir("d", 0o755), getFH}, {putRoot, saveFH, rename("d", "e")}, {putRoot, remove("e")}} {
		first, again := send(5, ops...), send(5, ops...)
		if first.status != wire.NFS4_OK || !bytes.Equal(first.raw, again.raw) {
			t.Errorf("%v: %v, then %v", ops[len(ops)-1].op, first.status, again.status)
		}
		if a := send(6, ops...); a.status == wire.NFS4_OK && ops[len(ops)-1].op == wire.OP_REMOVE {
			t.Errorf("%v as a new request: %v", ops[len(ops)-1].op, a.status)
		}
	}
	if r.fs.creates.Load() != 2 || r.fs.removes.Load() != 2 {
		t.Errorf("%d creates, %d removes", r.fs.creates.Load(), r.fs.removes.Load())
	}
	odd := func(ops ...call) *answer { // of a length that XDR does not have
		c := rpc.Call{XID: 7, Program: wire.Program, Version: wire.RPCVersion, Procedure: wire.ProcCompound,
			Auth: sysAuth(0, 0), Args: xdr.NewDecoder(append(encodeCompound("old", 0, ops...), 0))}
		e := xdr.NewEncoder(make([]byte, 0, 1<<20))
		r.b.Handle(t.Context(), &c, &e)
		return parseAnswer(e.Bytes())
	}
	wantStatus(t, odd(putRoot, mkdir("x", 0o755)), wire.NFS4_OK)
	wantStatus(t, odd(putRoot, remove("nothing")), wire.NFS4ERR_NOENT)
	send(8, putRoot, mkdir("mine", 0o755))
	b := r.b
	r.b = r.s.Bind(nfs4.ConnInfo{Grant: everything, Identity: "somebody else"})
	wantStatus(t, send(8, putRoot, mkdir("mine", 0o755)), wire.NFS4ERR_EXIST) // not what another was told
	r.b = b
	for i := range uint32(3000) { // what is kept is bounded
		send(100+i, putRoot, remove("nothing"))
	}
	wantStatus(t, send(5, putRoot, remove("e")), wire.NFS4ERR_NOENT)
}

// A stateid is no pass for another user, nor does an owner get past its own deny mode.
func TestOldOwnersAndUsers(t *testing.T) {
	r := newRig(t, nil)
	o := r.newOld("c")
	h, id := o.makeFile("f")
	o.ok(putFH(h), setAttr(wire.AnonymousStateid, withMode(0o600)), write(id, 0, "x"))
	thief := *o
	thief.auth = sysAuth(3912, 2422)
	thief.fails(wire.NFS4ERR_ACCESS, putFH(h), write(id, 0, "y"))
	thief.fails(wire.NFS4ERR_ACCESS, putFH(h), read(id, 0, 1))
	thief.fails(wire.NFS4ERR_ACCESS, putFH(h), setAttr(id, withSize(0)))

	deny := func(a *wire.OpenArgs) { creating(a); a.ShareDeny = wire.OPEN4_SHARE_DENY_BOTH }
	o.ok(putRoot, o.opens("g", wire.OPEN4_SHARE_ACCESS_BOTH, deny))
	o.fails(wire.NFS4ERR_SHARE_DENIED, putRoot, o.opens("g", wire.OPEN4_SHARE_ACCESS_READ, nil))
	o.ok(putRoot, call{wire.OP_CREATE, &wire.CreateArgs{Type: wire.NF4SOCK, Name: []byte("socket")}})
	o.fails(wire.NFS4ERR_SYMLINK, putRoot, o.opens("socket", wire.OPEN4_SHARE_ACCESS_READ, nil))
}

// An OPEN that is refused does not hand its owner's stateids over to whoever it was for.
func TestOldRefusedOpenIsNobodys(t *testing.T) {
	r := newRig(t, nil)
	o := r.newOld("c")
	o.auth = sysAuth(1001, 1001)
	h, id := o.makeFile("f")
	o.ok(putFH(h), setAttr(wire.AnonymousStateid, withMode(0o600)), write(id, 0, "secret"))
	stranger := sysAuth(1002, 1002)
	fails := func(want wire.Status, ops ...call) {
		t.Helper()
		wantStatus(t, handle(r.b, stranger, encodeCompound("", 0, ops...)), want)
	}
	fails(wire.NFS4ERR_ACCESS, putFH(h), read(id, 0, 10))
	late := o.opens("f", forRead, nil)
	late.args.(*wire.OpenArgs).Seqid += 7
	fails(wire.NFS4ERR_BAD_SEQID, putRoot, late)
	fails(wire.NFS4ERR_ACCESS, putFH(h), read(id, 0, 10))
	o.seqid--
	fails(wire.NFS4ERR_ACCESS, putRoot, o.opens("f", forRead, nil))
	fails(wire.NFS4ERR_ACCESS, putFH(h), read(id, 0, 10))
	o.ok(putFH(h), setAttr(wire.AnonymousStateid, withMode(0)))
	o.ok(putFH(h), read(id, 0, 10)) // it is open
}
