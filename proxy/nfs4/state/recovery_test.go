package state

import (
	"slices"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

func known(owners ...string) func(*Options) {
	return func(o *Options) {
		for _, owner := range owners {
			o.Known = append(o.Known, Record{Owner: owner, Verifier: verifier(1), Principal: principal(0)})
		}
	}
}

func (p *peer) reclaim(f File, owner string) (s wire.Status) {
	p.do(func(t *Ticket) {
		var res OpenResult
		res, _, s = p.b.m.Open(t, &OpenRequest{File: f, Owner: []byte(owner), Access: 3, Reclaim: true})
		if res.New {
			p.b.holds[f]++
		}
	})
	return s
}

func TestNoGraceWithoutKnownClients(t *testing.T) {
	b := newBench(t, nil)
	if b.m.InGrace() || b.m.GraceDue() || b.m.EndGrace() {
		t.Fatal("there is a recovery phase")
	}
	p := b.join("new", true)
	_, s := p.open(File{1, 1}, "o", 1, 0)
	b.want(s, wire.NFS4ERR_GRACE) // RECLAIM_COMPLETE comes first, even with nothing to reclaim
	b.want(p.reclaim(File{1, 1}, "o"), wire.NFS4ERR_NO_GRACE)
	b.want(p.complete(), wire.NFS4_OK)
	b.want(p.complete(), wire.NFS4ERR_COMPLETE_ALREADY)
	p.mustOpen(File{1, 1}, "o", 1, 0)
}

func TestGrace(t *testing.T) {
	b := newBench(t, known("old", "older", "gone"))
	f := File{1, 1}
	old, older, fresh := b.join("old", true), b.join("older", true), b.join("fresh", true)

	b.want(fresh.reclaim(f, "o"), wire.NFS4ERR_RECLAIM_BAD)
	b.want(fresh.complete(), wire.NFS4_OK)
	_, s := fresh.open(f, "o", 1, 0)
	b.want(s, wire.NFS4ERR_GRACE)
	b.want(b.m.CheckAnonymous(f, false, true), wire.NFS4ERR_GRACE)
	fresh.do(func(tk *Ticket) {
		_, _, s := b.m.TestLock(tk, &LockRequest{File: f, Length: 1})
		b.want(s, wire.NFS4ERR_GRACE)
	})

	b.want(old.reclaim(f, "o"), wire.NFS4_OK)
	_, s = old.open(f, "o", 1, 0)
	b.want(s, wire.NFS4ERR_GRACE)
	b.want(old.complete(), wire.NFS4_OK)
	b.want(old.reclaim(File{2, 1}, "o"), wire.NFS4ERR_NO_GRACE)
	b.want(older.complete(), wire.NFS4_OK)
	if b.m.GraceDue() {
		t.Fatal("the recovery phase is due though a client may still come")
	}
	if lost := b.m.LostClients(); !slices.Equal(lost, []string{"gone"}) {
		t.Errorf("lost: %q", lost)
	}
	b.advance(testGrace)
	if !b.m.GraceDue() || !b.m.InGrace() {
		t.Fatal("the recovery phase should be due, and on until it is ended")
	}
	if !b.m.EndGrace() || b.m.InGrace() || b.m.EndGrace() {
		t.Fatal("the recovery phase should end once")
	}
	fresh.mustOpen(f, "o", 1, 0)
	b.want(b.m.CheckAnonymous(f, false, false), wire.NFS4_OK)
}

func TestGraceEndsEarly(t *testing.T) {
	b := newBench(t, known("a", "b"))
	p, q := b.join("a", true), b.join("b", true)
	b.want(p.complete(), wire.NFS4_OK)
	if b.m.GraceDue() {
		t.Fatal("due after one of two")
	}
	b.want(q.complete(), wire.NFS4_OK)
	if !b.m.GraceDue() || len(b.m.LostClients()) != 0 {
		t.Fatal("not due, though everybody is through")
	}
}

// A known client that says goodbye does not keep the others waiting.
func TestGraceEndsWithAClientsDeparture(t *testing.T) {
	b := newBench(t, known("a"))
	p := b.join("a", true)
	b.want(b.m.DestroySession(p.session, nil), wire.NFS4_OK)
	_, s := b.m.DestroyClientID(p.id, "", nil)
	b.want(s, wire.NFS4_OK)
	if !b.m.GraceDue() {
		t.Error("not due")
	}
}

// A known client whose record was deleted in the recovery phase, because it said goodbye or was expired, is recorded
// anew when it comes back: after another restart it could not reclaim otherwise.
func TestKnownClientIsRecordedAnew(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(b *bench, p *peer)
	}{
		{"it said goodbye", func(b *bench, p *peer) {
			b.want(b.m.DestroySession(p.session, nil), wire.NFS4_OK)
			_, s := b.m.DestroyClientID(p.id, "", nil)
			b.want(s, wire.NFS4_OK)
		}},
		{"it was expired", func(b *bench, p *peer) {
			b.advance(testLease + 1)
			b.bury(p.id)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, known("a", "gone"))
			c.end(b, b.join("a", true))
			if !b.m.Forgettable("a") {
				t.Fatal("the record stays")
			}
			b.join("a", true).do(func(tk *Ticket) {
				record, s := b.m.ReclaimComplete(tk)
				b.want(s, wire.NFS4_OK)
				if record == nil {
					t.Error("the client may obtain something, and is not recorded")
				}
			})
		})
	}
}

// The recovery phase ends between the storing of a client's record and the end of its RECLAIM_COMPLETE: it is through with that.
func TestGraceEndsInAReclaimComplete(t *testing.T) {
	b := newBench(t, known("a", "gone"))
	p := b.join("a", true)
	b.advance(testLease + 1)
	b.bury(p.id) // with its record
	p = b.join("a", true)
	b.advance(testGrace)
	p.do(func(tk *Ticket) {
		if record, s := b.m.ReclaimComplete(tk); record == nil || s != wire.NFS4_OK {
			t.Fatalf("%v, %v", record, s)
		}
		b.m.Recorded(p.id)
		if lost := b.m.LostClients(); len(lost) != 1 || lost[0] != "gone" {
			t.Errorf("lost: %q", lost)
		}
		b.m.EndGrace()
		if record, s := b.m.ReclaimComplete(tk); record != nil || s != wire.NFS4_OK {
			t.Errorf("not through: %v, %v", record, s)
		}
	})
	p.mustOpen(File{1, 1}, "o", 3, 0)
}

func TestReclaimIsForTheSamePrincipal(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Known = []Record{{Owner: "a", Principal: Principal{Flavor: 1, UID: 5}}}
	})
	p := b.join("a", true) // uid 0
	b.want(p.reclaim(File{1, 1}, "o"), wire.NFS4ERR_RECLAIM_BAD)
}

func TestReclaimConflict(t *testing.T) {
	b := newBench(t, known("a", "b"))
	f := File{1, 1}
	p, q := b.join("a", true), b.join("b", true)
	p.do(func(tk *Ticket) {
		res, _, s := b.m.Open(tk, &OpenRequest{File: f, Owner: []byte("o"), Access: 3, Deny: 3, Reclaim: true})
		b.want(s, wire.NFS4_OK)
		b.holds[f]++
		_, _, _, s = b.m.Lock(tk, &LockRequest{File: f, Write: true, Length: 5, Reclaim: true, NewOwner: true, Stateid: res.Stateid})
		b.want(s, wire.NFS4_OK)
		_, _, _, s = b.m.Lock(tk, &LockRequest{File: f, Write: true, Length: 5, NewOwner: true, Stateid: res.Stateid})
		b.want(s, wire.NFS4ERR_GRACE)
	})
	b.want(q.reclaim(f, "o"), wire.NFS4ERR_RECLAIM_CONFLICT)
}

func TestRecordRoundTrip(t *testing.T) {
	for _, r := range []Record{
		{Owner: "x", Verifier: verifier(9), Principal: Principal{Flavor: 1, UID: 1 << 31}},
		{Owner: "y", Principal: Principal{Identity: "fsap-1"}},
	} {
		got, err := ParseRecord([]byte(r.Owner), r.Value())
		if err != nil || got != r {
			t.Errorf("got %+v, %v; want %+v", got, err, r)
		}
	}
	for _, bad := range [][]byte{nil, {1}, make([]byte, recordHeaderBytes), {2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}} {
		if _, err := ParseRecord([]byte("k"), bad); err == nil {
			t.Errorf("%x passed", bad)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	r := Record{Owner: "x", Principal: Principal{Flavor: 1, UID: 7, Identity: "id"}}
	f.Add([]byte("x"), r.Value())
	f.Add([]byte(""), []byte{1})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		r, err := ParseRecord(key, value)
		if err != nil {
			return
		}
		if again, err := ParseRecord([]byte(r.Owner), r.Value()); err != nil || again != r {
			t.Errorf("%+v does not survive: %+v, %v", r, again, err)
		}
	})
}

func TestGraceLastsAsLongAsItShould(t *testing.T) {
	b := newBench(t, known("a"))
	b.advance(testGrace - time.Nanosecond)
	if b.m.GraceDue() {
		t.Error("due too early")
	}
	b.advance(time.Nanosecond)
	if !b.m.GraceDue() {
		t.Error("not due in time")
	}
}

// Whoever is in the midst of reclaiming is waited for, but not for ever; whoever pauses is not.
func TestGraceGoesOnDuringReclaims(t *testing.T) {
	for _, c := range []struct {
		pause time.Duration
		lasts time.Duration // from the start, in whole pauses
	}{
		{time.Second, graceStretch * testGrace},
		{reclaimPause + time.Second, testGrace + time.Second}, // 21 s is the first multiple of 3 s after 20 s
	} {
		b := newBench(t, known("slow", "gone"))
		p := b.join("slow", true)
		for i := uint64(0); !b.m.GraceDue(); i++ {
			b.want(p.reclaim(File{i, 1}, "o"), wire.NFS4_OK)
			b.advance(c.pause)
		}
		if lasted := b.now.Sub(time.Unix(1_000_000, 0)); lasted != c.lasts {
			t.Errorf("with pauses of %v it lasted %v, not %v", c.pause, lasted, c.lasts)
		}
	}
}

// A second OPEN that reclaims a delegation, for another open-owner, does not take that along when it is undone.
func TestRollbackOfAReclaim(t *testing.T) {
	b, _ := newPhoneBench(t, known("a"))
	p, f := b.join("a", true), File{1, 1}
	reclaim := func(owner string) OpenResult {
		res, s := p.openWith(&OpenRequest{File: f, Owner: []byte(owner), Access: 3, Reclaim: true,
			Wish: DelegationWish{Reclaim: wire.OPEN_DELEGATE_WRITE}})
		b.want(s, wire.NFS4_OK)
		return res
	}
	first, second := reclaim("o"), reclaim("p")
	if first.Delegation.Stateid == (wire.Stateid{}) || second.Delegation.Stateid != first.Delegation.Stateid {
		t.Fatalf("got %+v, then %+v", first.Delegation, second.Delegation)
	}
	b.m.Rollback(&second)
	b.want(p.giveBack(first.Delegation.Stateid, f), wire.NFS4_OK)
	third := reclaim("q")
	b.m.Rollback(&third)
	b.want(p.giveBack(third.Delegation.Stateid, f), wire.NFS4ERR_BAD_STATEID)
	b.check()
}
