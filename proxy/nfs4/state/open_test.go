package state

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

func TestClassify(t *testing.T) {
	odd := wire.BypassStateid
	odd.Seqid = 3
	for _, c := range []struct {
		id   wire.Stateid
		want Class
	}{
		{wire.AnonymousStateid, Anonymous},
		{wire.BypassStateid, Bypass},
		{wire.CurrentStateid, Current},
		{wire.InvalidStateid, Invalid},
		{wire.Stateid{Seqid: 2}, Invalid},
		{odd, Invalid},
		{wire.Stateid{Other: [12]byte{1}}, Ordinary},
	} {
		if got := Classify(&c.id); got != c.want {
			t.Errorf("%v is %d, want %d", c.id, got, c.want)
		}
	}
}

func TestStateidSequence(t *testing.T) {
	b := newBench(t, nil)
	f := File{1, 1}
	p, q := b.join("p", false), b.join("q", false)
	first := p.mustOpen(f, "o", 1, 0)
	second := p.mustOpen(f, "o", 2, 0)
	if second.Other != first.Other || first.Seqid != 1 || second.Seqid != 2 {
		t.Fatalf("got %v, then %v", first, second)
	}
	latest, future, foreign, file := second, second, second, second
	latest.Seqid = 0
	future.Seqid = 3
	foreign.Other[11] ^= 1
	for _, c := range []struct {
		name string
		who  *peer
		id   wire.Stateid
		file File
		want wire.Status
	}{
		{"up to date", p, second, f, wire.NFS4_OK},
		{"whatever it is", p, latest, f, wire.NFS4_OK},
		{"old", p, first, f, wire.NFS4ERR_OLD_STATEID},
		{"of the future", p, future, f, wire.NFS4ERR_BAD_STATEID},
		{"never given out", p, foreign, f, wire.NFS4ERR_BAD_STATEID},
		{"another client's", q, second, f, wire.NFS4ERR_BAD_STATEID},
		{"another file's", p, file, File{2, 1}, wire.NFS4ERR_BAD_STATEID},
		{"special", p, wire.AnonymousStateid, f, wire.NFS4ERR_BAD_STATEID},
	} {
		c.who.do(func(tk *Ticket) {
			if s := b.m.CheckIO(tk, &c.id, c.file, false); s != c.want {
				t.Errorf("%s: CheckIO gives %v, want %v", c.name, s, c.want)
			}
			if s := b.m.TestStateid(tk, &c.id); c.file == f && s != c.want {
				t.Errorf("%s: TestStateid gives %v, want %v", c.name, s, c.want)
			}
		})
	}
	b.want(p.close(second, f), wire.NFS4_OK)
	b.want(p.close(second, f), wire.NFS4ERR_BAD_STATEID)
}

func TestOpenMode(t *testing.T) {
	b := newBench(t, nil)
	p := b.join("p", false)
	for access := uint32(1); access <= 3; access++ {
		f := File{uint64(access), 1}
		id := p.mustOpen(f, "o", access, 0)
		for _, write := range []bool{false, true} {
			bit := uint32(1)
			if write {
				bit = 2
			}
			want := wire.NFS4_OK
			if access&bit == 0 {
				want = wire.NFS4ERR_OPENMODE
			}
			p.do(func(tk *Ticket) { b.want(b.m.CheckIO(tk, &id, f, write), want) })
			if _, _, s := p.lock(id, f, "l", 0, 1, write); s != want {
				t.Errorf("access %d, lock for writing %v: %v, want %v", access, write, s, want)
			}
		}
	}
}

func TestAnonymousIO(t *testing.T) {
	b := newBench(t, nil)
	p := b.join("p", false)
	for deny := range uint32(4) {
		f := File{uint64(deny), 9}
		b.want(b.m.CheckAnonymous(f, true, false), wire.NFS4_OK)
		p.mustOpen(f, "o", 1, deny)
		for _, c := range []struct {
			write, bypass bool
			denied        bool
		}{
			{false, false, deny&1 != 0},
			{false, true, false},
			{true, false, deny&2 != 0},
			{true, true, deny&2 != 0},
		} {
			want := wire.NFS4_OK
			if c.denied {
				want = wire.NFS4ERR_LOCKED
			}
			if s := b.m.CheckAnonymous(f, c.write, c.bypass); s != want {
				t.Errorf("deny %d, %+v: %v, want %v", deny, c, s, want)
			}
		}
	}
}

func TestDowngrade(t *testing.T) {
	b := newBench(t, nil)
	f := File{1, 1}
	p := b.join("p", false)
	down := func(id wire.Stateid, access, deny uint32) (out wire.Stateid, s wire.Status) {
		p.do(func(tk *Ticket) { out, _, s = b.m.Downgrade(tk, &id, f, access, deny) })
		return out, s
	}
	id := p.mustOpen(f, "o", 3, 0)
	_, s := down(id, 1, 0)
	b.want(s, wire.NFS4ERR_INVAL) // it was never opened for reading alone
	id = p.mustOpen(f, "o", 1, 2)
	_, s = down(id, 1, 1)
	b.want(s, wire.NFS4ERR_INVAL)
	id, s = down(id, 1, 0)
	b.want(s, wire.NFS4_OK)
	if id.Seqid != 3 {
		t.Errorf("seqid is %d", id.Seqid)
	}
	p.do(func(tk *Ticket) { b.want(b.m.CheckIO(tk, &id, f, true), wire.NFS4ERR_OPENMODE) })
	_, s = down(id, 3, 0)
	b.want(s, wire.NFS4ERR_INVAL) // there is no way up
	p.mustOpen(f, "other", 2, 0)
}

// What OPEN_DOWNGRADE may leave is what some of the owner's OPENs of the file had together.
func TestDowngradeToAUnion(t *testing.T) {
	type share struct{ access, deny uint32 }
	for _, c := range []struct {
		opens []share
		to    share
		want  wire.Status
	}{
		{[]share{{1, 0}, {2, 0}, {1, 1}}, share{3, 0}, wire.NFS4_OK},
		{[]share{{1, 1}, {2, 2}, {3, 0}}, share{3, 3}, wire.NFS4_OK},
		{[]share{{3, 1}, {1, 2}}, share{1, 0}, wire.NFS4ERR_INVAL},
		{[]share{{3, 1}, {1, 2}}, share{2, 1}, wire.NFS4ERR_INVAL},
		{[]share{{1, 0}}, share{3, 0}, wire.NFS4ERR_INVAL},
	} {
		b := newBench(t, nil)
		p, f := b.join("p", false), File{1, 1}
		var id wire.Stateid
		for _, o := range c.opens {
			id = p.mustOpen(f, "o", o.access, o.deny)
		}
		p.do(func(tk *Ticket) {
			if _, _, s := b.m.Downgrade(tk, &id, f, c.to.access, c.to.deny); s != c.want {
				t.Errorf("%v to %v: %v, want %v", c.opens, c.to, s, c.want)
			}
		})
	}
}

func TestRollback(t *testing.T) {
	b := newBench(t, nil)
	f := File{1, 1}
	p, q := b.join("p", false), b.join("q", false)
	res, s := p.open(f, "o", 3, 3)
	b.want(s, wire.NFS4_OK)
	b.m.Rollback(&res)
	b.m.Rollback(&res) // gone already
	id := q.mustOpen(f, "o", 1, 0)

	res, s = q.open(f, "o", 2, 2)
	b.want(s, wire.NFS4_OK)
	b.m.Rollback(&res)
	q.do(func(tk *Ticket) {
		b.want(b.m.CheckIO(tk, &id, f, false), wire.NFS4_OK) // the old stateid is good again
		b.want(b.m.CheckIO(tk, &id, f, true), wire.NFS4ERR_OPENMODE)
	})
	p.mustOpen(f, "o", 2, 0)
}

// An OPEN that is undone leaves alone what its owner has been told of by a later one, which goes on with the same open.
func TestRollbackBehindAnotherOpen(t *testing.T) {
	for _, first := range []bool{true, false} {
		b := newBench(t, nil)
		p, f := b.join("p", false), File{1, 1}
		if !first {
			p.mustOpen(f, "o", 1, 0)
		}
		res, s := p.open(f, "o", 1, 0)
		b.want(s, wire.NFS4_OK)
		id := p.mustOpen(f, "o", 3, 0)
		b.m.Rollback(&res)
		p.do(func(tk *Ticket) {
			if s := b.m.CheckIO(tk, &id, f, true); s != wire.NFS4_OK {
				t.Errorf("first %v: %v", first, s)
			}
		})
	}
}

func TestFreeStateid(t *testing.T) {
	b := newBench(t, nil)
	f := File{1, 1}
	p := b.join("p", false)
	open := p.mustOpen(f, "o", 3, 0)
	lock, _, s := p.lock(open, f, "l", 0, 10, true)
	b.want(s, wire.NFS4_OK)
	p.do(func(tk *Ticket) {
		b.want(b.m.FreeStateid(tk, &open), wire.NFS4ERR_LOCKS_HELD)
		b.want(b.m.FreeStateid(tk, &lock), wire.NFS4ERR_LOCKS_HELD)
		lock, s = b.m.Unlock(tk, &lock, f, 0, ^uint64(0))
		b.want(s, wire.NFS4_OK)
		b.want(b.m.FreeStateid(tk, &lock), wire.NFS4_OK)
		b.want(b.m.FreeStateid(tk, &lock), wire.NFS4ERR_BAD_STATEID)
	})
}

// What a lock owner has locked under another open keeps nobody from freeing a lock stateid, and stays.
func TestFreeStateidOfOneOpen(t *testing.T) {
	b := newBench(t, nil)
	f := File{1, 1}
	p, q := b.join("p", false), b.join("q", false)
	one, other := p.mustOpen(f, "o", 3, 0), p.mustOpen(f, "another", 3, 0)
	lock, _, s := p.lock(one, f, "l", 0, 10, true)
	b.want(s, wire.NFS4_OK)
	kept, _, s := p.lock(other, f, "l", 20, 10, true)
	b.want(s, wire.NFS4_OK)
	p.do(func(tk *Ticket) {
		b.want(b.m.FreeStateid(tk, &lock), wire.NFS4ERR_LOCKS_HELD)
		lock, s = b.m.Unlock(tk, &lock, f, 0, 10)
		b.want(s, wire.NFS4_OK)
		b.want(b.m.FreeStateid(tk, &lock), wire.NFS4_OK)
		b.want(b.m.FreeStateid(tk, &kept), wire.NFS4ERR_LOCKS_HELD)
	})
	_, _, s = q.lock(q.mustOpen(f, "o", 3, 0), f, "l", 25, 1, true)
	b.want(s, wire.NFS4ERR_DENIED)
}

func TestOpenLimits(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Limits.Opens, o.Limits.OpensPerClient = 3, 2 })
	p, q := b.join("p", false), b.join("q", false)
	p.mustOpen(File{1, 1}, "o", 1, 0)
	id := p.mustOpen(File{2, 1}, "o", 1, 0)
	p.mustOpen(File{2, 1}, "o", 2, 0) // no further open
	_, s := p.open(File{3, 1}, "o", 1, 0)
	b.want(s, wire.NFS4ERR_DELAY)
	q.mustOpen(File{1, 1}, "o", 1, 0)
	_, s = q.open(File{2, 1}, "o", 1, 0)
	b.want(s, wire.NFS4ERR_DELAY)
	id.Seqid = 0
	b.want(p.close(id, File{2, 1}), wire.NFS4_OK)
	q.mustOpen(File{2, 1}, "o", 1, 0)
}

// What an expired client holds is kept for it as a courtesy, and not at the cost of others: where all opens or locks that there may
// be are taken, the one goes that was silent for longest.
func TestExpiredClientsMakeRoom(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Limits.Opens, o.Limits.Locks = 4, 4 })
	idle, oldest, old, p := b.join("idle", false), b.join("oldest", false), b.join("old", false), b.join("p", false)
	lock := func(p *peer, f File, n int) (s wire.Status) {
		id := p.mustOpen(f, "o", 3, 0)
		for i := range n {
			if _, _, s = p.lock(id, f, "l", uint64(2*i), 1, true); s != wire.NFS4_OK {
				return s
			}
		}
		return s
	}
	f := func(n uint64) File { return File{n, 1} }
	b.want(lock(oldest, f(1), 1), wire.NFS4_OK)
	oldest.mustOpen(f(2), "o", 1, 0)
	b.advance(time.Second)
	b.want(lock(old, f(3), 2), wire.NFS4_OK)
	b.advance(testLease)
	p.mustOpen(f(4), "o", 1, 0) // as many as may be
	b.advance(1)
	p.mustOpen(f(5), "o", 1, 0)
	if b.m.clients[oldest.id] != nil || b.m.clients[old.id] == nil || b.m.clients[idle.id] == nil {
		t.Error("not the client that was silent for longest")
	}
	b.want(lock(p, f(6), 2), wire.NFS4_OK)
	if b.m.clients[old.id] != nil {
		t.Error("its locks are still there")
	}
	_, s := p.open(f(7), "o", 1, 0)
	b.want(s, wire.NFS4_OK)
	_, s = p.open(f(8), "o", 1, 0)
	b.want(s, wire.NFS4ERR_DELAY)
}

// modelOpen is what the model knows of an open.
type modelOpen struct {
	access, deny uint32
	id           wire.Stateid
}

// Random opens, upgrades, downgrades and closes by several owners of two clients, against a model
// that compares every pair.
func TestShareReservationsModel(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		b := newBench(t, nil)
		peers := []*peer{b.join("p", false), b.join("q", false)}
		type key struct{ peer, owner, file int }
		model := map[key]*modelOpen{}
		for step := range 600 {
			k := key{rnd.IntN(2), rnd.IntN(3), rnd.IntN(2)}
			p, f := peers[k.peer], File{uint64(k.file) + 1, 1}
			mine := model[k]
			if mine != nil && rnd.IntN(3) == 0 {
				if s := p.close(mine.id, f); s != wire.NFS4_OK {
					t.Fatalf("seed %d step %d: CLOSE: %v", seed, step, s)
				}
				delete(model, k)
				continue
			}
			access, deny := 1+uint32(rnd.IntN(3)), uint32(rnd.IntN(4))*uint32(rnd.IntN(2))
			want := wire.NFS4_OK
			for other, o := range model {
				if other != k && other.file == k.file && (access&o.deny != 0 || deny&o.access != 0) {
					want = wire.NFS4ERR_SHARE_DENIED
				}
			}
			res, s := p.open(f, ownerName(k.owner), access, deny)
			if s != want {
				t.Fatalf("seed %d step %d: OPEN %+v access %d deny %d: %v, want %v", seed, step, k, access, deny, s, want)
			}
			if s != wire.NFS4_OK {
				continue
			}
			if mine == nil {
				mine = new(modelOpen)
				model[k] = mine
			}
			mine.access, mine.deny, mine.id = mine.access|access, mine.deny|deny, res.Stateid
		}
		b.check()
		if got := b.m.Stats().Opens; got != len(model) {
			t.Fatalf("seed %d: %d opens, want %d", seed, got, len(model))
		}
	}
}
