package nfs4_test

import (
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// absent is a client "away" that has a file open and locked when the server restarts, and one "here".
type absent struct {
	*rig
	handle []byte
	here   *session
}

// newAbsent restarts the server under both, and ends the recovery phase with only "here" through.
func newAbsent(t *testing.T, meanwhile func(*absent)) *absent {
	r := newRig(t, nil)
	away := r.newSession("away")
	a := &absent{rig: r, here: r.newSession("here")}
	h, id := away.makeFile("f", 0o666)
	a.handle = h
	away.ok(putFH(h), lockOf(id, false))
	a.nextEpoch(meanwhile)
	return a
}

// nextEpoch restarts the server; meanwhile happens in the recovery phase.
func (a *absent) nextEpoch(meanwhile func(*absent)) {
	a.restart()
	if meanwhile != nil {
		meanwhile(a)
	}
	a.now = a.now.Add(time.Hour) // the recovery phase is over when somebody looks
	a.here = a.newSession("here")
	if a.s.Stats().InGrace {
		a.t.Fatal("the recovery phase goes on")
	}
}

func lockOf(id wire.Stateid, reclaim bool) call {
	return call{wire.OP_LOCK, &wire.LockArgs{Type: wire.WRITE_LT, Reclaim: reclaim, Length: 1, NewOwner: true, OpenStateid: id}}
}

func reclaimOpen() call {
	a := openArgs("", forBoth)
	a.Claim = wire.CLAIM_PREVIOUS
	return call{wire.OP_OPEN, a}
}

// wanted has "here" open and lock the file, and give both back.
func (a *absent) wanted() {
	a.t.Helper()
	res := last[wire.OpenRes](a.t, a.here.ok(putFH(a.handle), call{wire.OP_OPEN, &wire.OpenArgs{ShareAccess: forBoth,
		Owner: wire.Owner{Owner: []byte("o")}, Claim: wire.CLAIM_FH}}))
	a.here.ok(putFH(a.handle), lockOf(res.Stateid, false))
	a.here.ok(putFH(a.handle), closeFile(res.Stateid))
}

// Who was away for the whole recovery phase gets back what nobody else has had, keeps it over a further
// restart, and hears what it has lost.
func TestAbsentClientComesBack(t *testing.T) {
	a := newAbsent(t, nil)
	away := a.newSessionWith("away", wide)
	res := last[wire.OpenRes](t, away.ok(putFH(a.handle), reclaimOpen()))
	away.ok(putFH(a.handle), lockOf(res.Stateid, true))
	a.here.fails(wire.NFS4ERR_DENIED, putFH(a.handle), call{wire.OP_LOCKT, &wire.LockTArgs{Type: wire.READ_LT, Length: 1,
		Owner: wire.Owner{Owner: []byte("o")}}})
	away.ok(reclaimComplete)
	away.fails(wire.NFS4ERR_NO_GRACE, putFH(a.handle), reclaimOpen())

	a.nextEpoch(func(a *absent) {
		away := a.newSessionWith("away", wide)
		away.ok(putFH(a.handle), reclaimOpen())
		away.ok(reclaimComplete)
	})
}

func TestAbsentClientHasLostItsLock(t *testing.T) {
	a := newAbsent(t, nil)
	a.wanted()
	away := a.newSessionWith("away", wide)
	res := last[wire.OpenRes](t, away.ok(putFH(a.handle), reclaimOpen()))
	away.fails(wire.NFS4ERR_NO_GRACE, putFH(a.handle), lockOf(res.Stateid, true))
}

// The edge conditions of RFC 8881 §8.4.2.1: what another client has had in between is not reclaimed
// after a further restart either, however far the client had come by then.
func TestAbsentClientAfterASecondRestart(t *testing.T) {
	for _, c := range []struct {
		name  string
		first func(a *absent) // in the first recovery phase
		then  func(a *absent) // after it, and after another client had the file
	}{
		{"it was never seen", nil, func(*absent) {}},
		{"it had a session", nil, func(a *absent) { a.newSessionWith("away", wide) }},
		{"it had reclaimed its open", nil, func(a *absent) {
			away := a.newSessionWith("away", wide)
			away.ok(putRoot, lookup("f"), reclaimOpen())
		}},
		{"it was there in time and did not get through", func(a *absent) { a.newSessionWith("away", wide) }, func(*absent) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAbsent(t, c.first)
			a.wanted()
			c.then(a)
			a.nextEpoch(func(a *absent) {
				away := a.newSessionWith("away", wide)
				away.fails(wire.NFS4ERR_RECLAIM_BAD, putFH(a.handle), reclaimOpen())
			})
		})
	}
}

// A client that unmounts in the recovery phase and mounts again has a record for what it obtains then: after a second
// restart it reclaims it.
func TestMountedAnewInRecovery(t *testing.T) {
	r := newRig(t, nil)
	r.newSession("gone")
	r.newSession("c")
	r.restart()
	first := r.newSession("c")
	wantStatus(t, r.raw(call{wire.OP_DESTROY_SESSION, &wire.DestroySessionArgs{SessionID: first.id}}), wire.NFS4_OK)
	wantStatus(t, r.raw(call{wire.OP_DESTROY_CLIENTID, &wire.DestroyClientIDArgs{ClientID: first.clientID}}), wire.NFS4_OK)
	s := r.newSession("c")
	r.now = r.now.Add(time.Minute)
	r.newSession("late") // whoever says RECLAIM_COMPLETE notices that the time is up
	h, _ := s.makeFile("f", 0o644)

	r.restart()
	s = r.newSessionWith("c", wide)
	previous := openArgs("", forBoth)
	previous.Claim = wire.CLAIM_PREVIOUS
	s.ok(putFH(h), call{wire.OP_OPEN, previous})
}
