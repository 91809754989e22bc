package state

import (
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// The cases of RFC 8881 §18.35.5: what is there of an owner, and what an EXCHANGE_ID with verifier 1
// or 2 by principal 1 or 2 makes of it.
func TestExchangeIDCases(t *testing.T) {
	const (
		nothing = iota
		unconfirmed
		confirmed // with a session
		idle      // confirmed, without a session
		expired   // confirmed, with a session, after its lease
	)
	type outcome struct {
		status    wire.Status
		same      bool // the same client id
		confirmed bool
	}
	fresh := outcome{}
	for _, c := range []struct {
		name     string
		before   int
		update   bool
		verifier byte
		uid      uint32
		want     outcome
	}{
		{"1: new owner", nothing, false, 1, 1, fresh},
		{"2: again", confirmed, false, 1, 1, outcome{same: true, confirmed: true}},
		{"2: again, idle", idle, false, 1, 1, outcome{same: true, confirmed: true}},
		{"3: collision", confirmed, false, 1, 2, outcome{status: wire.NFS4ERR_CLID_INUSE}},
		{"3: collision, other verifier", confirmed, false, 2, 2, outcome{status: wire.NFS4ERR_CLID_INUSE}},
		{"3: collision with nothing to lose", idle, false, 1, 2, fresh},
		{"3: collision with an expired one", expired, false, 1, 2, fresh},
		{"4: unconfirmed, same", unconfirmed, false, 1, 1, fresh},
		{"4: unconfirmed, other principal", unconfirmed, false, 1, 2, fresh},
		{"4: unconfirmed, other verifier", unconfirmed, false, 2, 1, fresh},
		{"5: client restart", confirmed, false, 2, 1, fresh},
		{"6: update", confirmed, true, 1, 1, outcome{same: true, confirmed: true}},
		{"7: update of nothing", nothing, true, 1, 1, outcome{status: wire.NFS4ERR_NOENT}},
		{"7: update of unconfirmed", unconfirmed, true, 1, 1, outcome{status: wire.NFS4ERR_NOENT}},
		{"8: update, other verifier", confirmed, true, 2, 1, outcome{status: wire.NFS4ERR_NOT_SAME}},
		{"9: update, other principal", confirmed, true, 1, 2, outcome{status: wire.NFS4ERR_PERM}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			var before ExchangeIDResult
			if c.before != nothing {
				before = b.exchange("owner", 1, 1)
			}
			if c.before >= confirmed {
				res, s := b.create(b.createArgs(before.ClientID, before.Sequence, 1))
				b.want(s, wire.NFS4_OK)
				if c.before == idle {
					b.want(b.m.DestroySession(res.Session, nil), wire.NFS4_OK)
				}
			}
			if c.before == expired {
				b.advance(testLease + time.Second)
			}
			req := &ExchangeIDRequest{Owner: []byte("owner"), Verifier: verifier(c.verifier), Principal: principal(c.uid), Update: c.update}
			got, victim, s := b.m.ExchangeID(req)
			if victim != 0 {
				if victim != before.ClientID {
					t.Fatalf("victim is %x, not %x", victim, before.ClientID)
				}
				b.bury(victim)
				got, victim, s = b.m.ExchangeID(req)
			}
			b.want(s, c.want.status)
			if s != wire.NFS4_OK {
				return
			}
			if victim != 0 || got.Confirmed != c.want.confirmed || (got.ClientID == before.ClientID) != c.want.same {
				t.Errorf("got %+v after %+v, want %+v", got, before, c.want)
			}
		})
	}
}

// A restarted client's old state stays until its new client id is confirmed, and goes then.
func TestNewIncarnationReplacesTheOldOne(t *testing.T) {
	b := newBench(t, nil)
	p := b.join("owner", false)
	f := File{1, 1}
	id := p.mustOpen(f, "o", 3, 0)
	p.lock(id, f, "l", 0, 1, true)
	ex := b.exchange("owner", 2, 0)
	p.do(func(tk *Ticket) { b.want(b.m.CheckIO(tk, &id, f, true), wire.NFS4_OK) })

	var busy Ticket
	p.seq[1]++
	req := p.request(1)
	req.Sequence = p.seq[1]
	if v, s := b.m.Sequence(req, &busy); v != Execute {
		t.Fatal(v, s)
	}
	_, s := b.create(b.createArgs(ex.ClientID, ex.Sequence, 0))
	b.want(s, wire.NFS4ERR_DELAY) // while a request of the old one is being executed
	b.m.Finish(&busy, nil, false)

	_, s = b.create(b.createArgs(ex.ClientID, ex.Sequence, 0))
	b.want(s, wire.NFS4_OK)
	_, s = b.m.Sequence(p.request(0), &busy)
	b.want(s, wire.NFS4ERR_BADSESSION)
	if st := b.m.Stats(); st.Opens != 0 || st.Locks != 0 || st.Clients != 1 || st.Sessions != 1 {
		t.Errorf("the old incarnation left something: %+v", st)
	}
}

func TestDestroyClientID(t *testing.T) {
	b := newBench(t, nil)
	_, s := b.m.DestroyClientID(99, "", nil)
	b.want(s, wire.NFS4ERR_STALE_CLIENTID)
	p := b.join("owner", false)
	_, s = b.m.DestroyClientID(p.id, "", nil)
	b.want(s, wire.NFS4ERR_CLIENTID_BUSY)
	b.want(b.m.DestroySession(p.session, nil), wire.NFS4_OK)
	if b.m.Forgettable("owner") {
		t.Error("the record of a client that is there may be deleted")
	}
	owner, s := b.m.DestroyClientID(p.id, "", nil)
	b.want(s, wire.NFS4_OK)
	if owner != "owner" || !b.m.Forgettable(owner) {
		t.Errorf("owner %q, forgettable %v", owner, b.m.Forgettable(owner))
	}
	_, s = b.m.DestroyClientID(p.id, "", nil)
	b.want(s, wire.NFS4ERR_STALE_CLIENTID)
}

func TestRecordIsNotForgottenUnderASuccessor(t *testing.T) {
	b := newBench(t, nil)
	p := b.join("owner", false)
	b.advance(testLease + time.Second)
	owner, ok := b.m.Condemn(p.id)
	if !ok || !b.m.Forgettable(owner) {
		t.Fatal("an expired client's record must go")
	}
	b.join("owner", false)
	if b.m.Forgettable(owner) {
		t.Error("the record that the successor stored may be deleted")
	}
	b.m.Bury(p.id)
}

// An expired client keeps what nobody else wants; it is condemned only when it comes to that.
func TestCourtesy(t *testing.T) {
	b := newBench(t, nil)
	f, g := File{1, 1}, File{2, 1}
	p, q := b.join("p", false), b.join("q", false)
	id := p.mustOpen(f, "o", 3, 2)
	idle := b.join("idle", false)
	b.advance(testLease)
	q.do(func(*Ticket) {})
	if got := b.m.Lapsed(); got != nil {
		t.Fatalf("at the very end of the lease %x have lapsed", got)
	}
	b.advance(time.Second)
	q.do(func(*Ticket) {})
	if got := b.m.Lapsed(); got != nil {
		t.Fatalf("lapsed: %x, which have sessions", got)
	}
	idle.do(func(*Ticket) {})
	b.want(b.m.DestroySession(idle.session, nil), wire.NFS4_OK)
	b.advance(testLease + time.Second)
	q.do(func(*Ticket) {})
	if got := b.m.Lapsed(); len(got) != 1 || got[0] != idle.id {
		t.Fatalf("lapsed: %x, want %x alone, which has nothing", got, idle.id)
	}
	q.mustOpen(g, "o", 3, 3) // in nobody's way
	p.do(func(tk *Ticket) { b.want(b.m.CheckIO(tk, &id, f, true), wire.NFS4_OK) })

	_, s := q.open(f, "o", 2, 0)
	b.want(s, wire.NFS4ERR_SHARE_DENIED) // p has come back
	b.advance(testLease + time.Second)
	q.do(func(*Ticket) {})
	q.mustOpen(f, "o", 2, 0)
	var tk Ticket
	_, s = b.m.Sequence(p.request(0), &tk)
	b.want(s, wire.NFS4ERR_BADSESSION)
}

// Sessions of those who are away, and have no files open, go when others would get fewer slots for them.
func TestCourtesyMakesRoomForSlots(t *testing.T) {
	b := newBench(t, nil)
	away, holder := b.join("away", false), b.join("holder", false)
	holder.mustOpen(File{1, 1}, "o", 1, 0)
	b.advance(testLease + time.Second)
	b.m.opt.Limits.ReplyCacheBytes = 2*int(b.m.cacheBytes.Load()) + 2
	if got := b.m.Lapsed(); got != nil {
		t.Errorf("lapsed: %x, with half of the cache free", got)
	}
	b.m.opt.Limits.ReplyCacheBytes -= 2
	if got := b.m.Lapsed(); len(got) != 1 || got[0] != away.id {
		t.Errorf("lapsed: %x, want %x alone", got, away.id)
	}
}

func TestCourtesyEndsSomeTime(t *testing.T) {
	b := newBench(t, nil)
	p := b.join("p", false)
	p.mustOpen(File{1, 1}, "o", 1, 0)
	b.advance(courtesyLeases*testLease + time.Second)
	got := b.m.Lapsed()
	if len(got) != 1 || got[0] != p.id {
		t.Fatalf("lapsed: %x", got)
	}
	b.bury(p.id)
	if st := b.m.Stats(); st.Clients != 0 || st.Opens != 0 {
		t.Errorf("left: %+v", st)
	}
}

// Between condemning and burying, nobody can have what the client held, nor can it come back.
func TestCondemnedStateIsNotGivenAwayBeforeTheBurial(t *testing.T) {
	b := newBench(t, nil)
	f := File{1, 1}
	p, q := b.join("p", false), b.join("q", false)
	p.mustOpen(f, "o", 1, 2)
	b.advance(testLease + time.Second)
	if _, ok := b.m.Condemn(p.id); !ok {
		t.Fatal("not condemned")
	}
	var tk Ticket
	_, s := b.m.Sequence(p.request(0), &tk)
	b.want(s, wire.NFS4ERR_BADSESSION)
	q.do(func(tk *Ticket) {
		_, victim, _ := b.m.Open(tk, &OpenRequest{File: f, Owner: []byte("o"), Access: 2})
		if victim != p.id {
			t.Errorf("victim is %x, want %x", victim, p.id)
		}
	})
	if got := b.m.Lapsed(); len(got) != 1 || got[0] != p.id {
		t.Errorf("lapsed: %x; a burial that failed must be tried again", got)
	}
	b.m.Bury(p.id)
	q.mustOpen(f, "o", 2, 0)
}

func TestARunningRequestKeepsTheLease(t *testing.T) {
	b := newBench(t, nil)
	p := b.join("p", false)
	p.do(func(*Ticket) {
		b.advance(10 * testLease)
		if got := b.m.Lapsed(); got != nil {
			t.Errorf("lapsed under its own request: %x", got)
		}
		if _, ok := b.m.Condemn(p.id); ok {
			t.Error("condemned under its own request")
		}
	})
	b.advance(testLease)
	p.do(func(*Ticket) {}) // the lease ran from the end of the long request
}

func TestClientLimit(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Limits.Clients = 3 })
	b.join("a", false)
	b.join("b", false)
	first := b.exchange("never confirmed", 1, 0)
	b.advance(time.Second)
	second := b.exchange("d", 1, 0) // in its place
	_, s := b.create(b.createArgs(first.ClientID, first.Sequence, 0))
	b.want(s, wire.NFS4ERR_STALE_CLIENTID)
	_, s = b.create(b.createArgs(second.ClientID, second.Sequence, 0))
	b.want(s, wire.NFS4_OK)
	ask := func() (victim wire.ClientID, s wire.Status) {
		_, victim, s = b.m.ExchangeID(&ExchangeIDRequest{Owner: []byte("e"), Principal: principal(0)})
		return victim, s
	}
	_, s = ask()
	b.want(s, wire.NFS4ERR_DELAY)
	b.exchange("a", 1, 0) // those that are there may always ask
	b.advance(testLease + time.Second)
	victim, _ := ask()
	if victim == 0 {
		t.Fatal("no expired client makes room")
	}
	b.bury(victim)
	b.exchange("e", 1, 0)
}
