package state

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

const toTheEnd = ^uint64(0)

func TestSpan(t *testing.T) {
	for _, c := range []struct {
		offset, length uint64
		start, end     uint64
		want           wire.Status
	}{
		{0, 0, 0, 0, wire.NFS4ERR_INVAL},
		{5, 1, 5, 5, wire.NFS4_OK},
		{5, toTheEnd, 5, toTheEnd, wire.NFS4_OK},
		{toTheEnd, 1, toTheEnd, toTheEnd, wire.NFS4_OK},
		{toTheEnd, 2, 0, 0, wire.NFS4ERR_INVAL},
		{1, toTheEnd - 1, 1, toTheEnd - 1, wire.NFS4_OK},
		{2, toTheEnd - 1, 2, toTheEnd, wire.NFS4_OK},
		{3, toTheEnd - 1, 0, 0, wire.NFS4ERR_INVAL},
	} {
		start, end, s := span(c.offset, c.length)
		if s != c.want || s == wire.NFS4_OK && (start != c.start || end != c.end) {
			t.Errorf("span(%d, %d) = %d, %d, %v", c.offset, c.length, start, end, s)
		}
	}
}

func TestDenied(t *testing.T) {
	b := newBench(t, nil)
	f := File{1, 1}
	p, q := b.join("p", false), b.join("q", false)
	pid, qid := p.mustOpen(f, "o", 3, 0), q.mustOpen(f, "o", 3, 0)
	_, _, s := p.lock(pid, f, "mine", 10, 5, true)
	b.want(s, wire.NFS4_OK)
	_, _, s = p.lock(pid, f, "mine too", 100, toTheEnd, false)
	b.want(s, wire.NFS4_OK)
	for _, c := range []struct {
		offset, length uint64
		write          bool
		want           Denied
	}{
		{0, 11, false, Denied{10, 5, true, p.id, "mine"}},
		{14, 1, true, Denied{10, 5, true, p.id, "mine"}},
		{1 << 40, 1, true, Denied{100, toTheEnd, false, p.id, "mine too"}},
	} {
		_, d, s := q.lock(qid, f, "l", c.offset, c.length, c.write)
		if s != wire.NFS4ERR_DENIED || d != c.want {
			t.Errorf("LOCK %+v: %v, %+v", c, s, d)
		}
		q.do(func(tk *Ticket) {
			d, _, s = b.m.TestLock(tk, &LockRequest{File: f, Offset: c.offset, Length: c.length, Write: c.write, Owner: []byte("l")})
		})
		if s != wire.NFS4ERR_DENIED || d != c.want {
			t.Errorf("LOCKT %+v: %v, %+v", c, s, d)
		}
	}
	_, _, s = q.lock(qid, f, "l", 200, 5, false)
	b.want(s, wire.NFS4_OK) // readers share
	_, _, s = q.lock(qid, f, "l", 0, 10, true)
	b.want(s, wire.NFS4_OK)
}

func TestLockStateids(t *testing.T) {
	b := newBench(t, nil)
	f := File{1, 1}
	p := b.join("p", false)
	open := p.mustOpen(f, "o", 3, 0)
	lock, _, s := p.lock(open, f, "l", 0, 1, true)
	b.want(s, wire.NFS4_OK)
	more := func(id wire.Stateid, isNew bool) (out wire.Stateid, s wire.Status) {
		p.do(func(tk *Ticket) {
			out, _, _, s = b.m.Lock(tk, &LockRequest{File: f, Write: true, Offset: 10, Length: 1, NewOwner: isNew, Stateid: id, Owner: []byte("l")})
		})
		return out, s
	}
	_, s = more(open, false)
	b.want(s, wire.NFS4ERR_BAD_STATEID)
	_, s = more(lock, true)
	b.want(s, wire.NFS4ERR_BAD_STATEID)
	second, s := more(lock, false)
	b.want(s, wire.NFS4_OK)
	if second.Other != lock.Other || second.Seqid != lock.Seqid+1 {
		t.Errorf("%v after %v", second, lock)
	}
	_, s = more(lock, false)
	b.want(s, wire.NFS4ERR_OLD_STATEID)
	again, s := more(open, true) // a client that has forgotten that it knows the owner
	b.want(s, wire.NFS4_OK)
	if again.Other != lock.Other {
		t.Errorf("the owner got a second stateid, %v", again)
	}
	p.do(func(tk *Ticket) {
		b.want(b.m.CheckIO(tk, &again, f, true), wire.NFS4_OK)
		_, s := b.m.Close(tk, &again, f)
		b.want(s, wire.NFS4ERR_BAD_STATEID)
		_, s = b.m.Unlock(tk, &open, f, 0, 1)
		b.want(s, wire.NFS4ERR_BAD_STATEID)
		_, s = b.m.Unlock(tk, &again, f, 0, 0)
		b.want(s, wire.NFS4ERR_INVAL)
	})
	b.want(p.close(open, f), wire.NFS4_OK)
	p.do(func(tk *Ticket) { b.want(b.m.CheckIO(tk, &again, f, true), wire.NFS4ERR_BAD_STATEID) })
}

// One lock owner under two opens: each open takes with it what was locked under it.
func TestLocksOfOneOwnerUnderTwoOpens(t *testing.T) {
	b := newBench(t, nil)
	f := File{1, 1}
	p, q := b.join("p", false), b.join("q", false)
	first, second := p.mustOpen(f, "o1", 3, 0), p.mustOpen(f, "o2", 3, 0)
	qid := q.mustOpen(f, "o", 3, 0)
	_, _, s := p.lock(first, f, "l", 0, 10, true)
	b.want(s, wire.NFS4_OK)
	_, _, s = p.lock(second, f, "l", 5, 10, true) // its own lock is not in its way
	b.want(s, wire.NFS4_OK)
	b.want(p.close(first, f), wire.NFS4_OK)
	_, _, s = q.lock(qid, f, "l", 0, 5, true)
	b.want(s, wire.NFS4_OK)
	_, d, s := q.lock(qid, f, "l", 5, 1, true)
	b.want(s, wire.NFS4ERR_DENIED)
	if d.Offset != 5 || d.Length != 10 {
		t.Errorf("denied by %+v", d)
	}
}

func TestLockLimits(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Limits.LocksPerClient = 4 })
	f := File{1, 1}
	p := b.join("p", false)
	open := p.mustOpen(f, "o", 3, 0)
	lock, _, s := p.lock(open, f, "l", 0, 1000, true)
	b.want(s, wire.NFS4_OK)
	unlock := func(offset, length uint64) (s wire.Status) {
		p.do(func(tk *Ticket) {
			lock.Seqid = 0
			_, s = b.m.Unlock(tk, &lock, f, offset, length)
		})
		return s
	}
	b.want(unlock(100, 1), wire.NFS4_OK)
	b.want(unlock(200, 1), wire.NFS4_OK)
	b.want(unlock(300, 1), wire.NFS4ERR_DELAY) // three ranges, and it could be four
	_, _, s = p.lock(open, f, "l", 5000, 1, true)
	b.want(s, wire.NFS4ERR_DELAY)
	b.want(unlock(0, 250), wire.NFS4_OK) // giving back is always possible
	_, _, s = p.lock(open, f, "l", 5000, 1, true)
	b.want(s, wire.NFS4_OK)
}

// A lock-owner that has unlocked everything has its stateid still: they are bounded as locks are, and one that is freed
// makes room.
func TestLockStateidLimits(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Limits.LocksPerClient, o.Limits.Locks = 4, 6 })
	f := File{1, 1}
	p, q := b.join("p", false), b.join("q", false)
	use := func(p *peer, open wire.Stateid, owner int) (id wire.Stateid, s wire.Status) {
		if id, _, s = p.lock(open, f, ownerName(owner), 0, 1, true); s == wire.NFS4_OK {
			p.do(func(tk *Ticket) { id, s = b.m.Unlock(tk, &id, f, 0, 1) })
		}
		return id, s
	}
	mine, theirs := p.mustOpen(f, "o", 3, 0), q.mustOpen(f, "o", 3, 0)
	var last wire.Stateid
	for i := range 4 {
		var s wire.Status
		last, s = use(p, mine, i)
		b.want(s, wire.NFS4_OK)
	}
	_, s := use(p, mine, 4)
	b.want(s, wire.NFS4ERR_DELAY)
	_, s = use(p, mine, 0) // one that is there
	b.want(s, wire.NFS4_OK)
	for i := range 2 {
		_, s = use(q, theirs, i)
		b.want(s, wire.NFS4_OK)
	}
	_, s = use(q, theirs, 2)
	b.want(s, wire.NFS4ERR_DELAY)
	p.do(func(tk *Ticket) { b.want(b.m.FreeStateid(tk, &last), wire.NFS4_OK) })
	_, s = use(q, theirs, 2)
	b.want(s, wire.NFS4_OK)
	mine.Seqid = 0
	b.want(p.close(mine, f), wire.NFS4_OK)
	mine = p.mustOpen(f, "o", 3, 0)
	_, s = use(p, mine, 5)
	b.want(s, wire.NFS4_OK)
}

func TestExpiredLockGivesWay(t *testing.T) {
	b := newBench(t, nil)
	f := File{1, 1}
	p, q := b.join("p", false), b.join("q", false)
	pid, qid := p.mustOpen(f, "o", 3, 0), q.mustOpen(f, "o", 3, 0)
	_, _, s := p.lock(pid, f, "l", 0, 10, true)
	b.want(s, wire.NFS4_OK)
	b.advance(testLease + time.Second)
	q.do(func(tk *Ticket) {
		_, victim, s := b.m.TestLock(tk, &LockRequest{File: f, Length: 1, Owner: []byte("l")})
		if victim != p.id {
			t.Errorf("LOCKT: victim %x, %v", victim, s)
		}
	})
	_, _, s = q.lock(qid, f, "l", 5, 1, true)
	b.want(s, wire.NFS4_OK)
	if b.m.Stats().Opens != 1 {
		t.Error("the expired client still has the file open")
	}
}

// Nothing is taken from an expired client for what is refused all the same, as somebody else is in the way too.
func TestExpiredStateIsNotTakenInVain(t *testing.T) {
	f := File{1, 1}
	for name, c := range map[string]struct {
		deny uint32 // of those who have it open
		try  func(b *bench, p *peer) wire.Status
	}{
		"OPEN that denies": {0, func(b *bench, p *peer) wire.Status {
			_, s := p.open(f, "o", wire.OPEN4_SHARE_ACCESS_READ, wire.OPEN4_SHARE_DENY_READ)
			return s
		}},
		"OPEN that is denied": {wire.OPEN4_SHARE_DENY_WRITE, func(b *bench, p *peer) wire.Status {
			_, s := p.open(f, "o", wire.OPEN4_SHARE_ACCESS_WRITE, 0)
			return s
		}},
		"I/O without a stateid": {wire.OPEN4_SHARE_DENY_WRITE, func(b *bench, p *peer) wire.Status {
			if victim := b.m.Denier(f, true); victim != 0 {
				b.bury(victim)
			}
			return b.m.CheckAnonymous(f, true, false)
		}},
		"LOCK": {0, func(b *bench, p *peer) wire.Status {
			_, _, s := p.lock(p.mustOpen(f, "o", wire.OPEN4_SHARE_ACCESS_BOTH, 0), f, "l", 5, 1, true)
			return s
		}},
		"LOCKT": {0, func(b *bench, p *peer) (s wire.Status) {
			p.do(func(tk *Ticket) {
				_, victim, st := b.m.TestLock(tk, &LockRequest{File: f, Write: true, Length: 1, Owner: []byte("l")})
				if s = st; victim != 0 {
					b.bury(victim)
				}
			})
			return s
		}},
	} {
		for range 8 { // the order of those in the way is that of a map
			b := newBench(t, nil)
			away, there, p := b.join("away", false), b.join("there", false), b.join("p", false)
			for _, holder := range []*peer{away, there} {
				id := holder.mustOpen(f, "o", wire.OPEN4_SHARE_ACCESS_READ, c.deny)
				_, _, s := holder.lock(id, f, "l", 0, 10, false)
				b.want(s, wire.NFS4_OK)
			}
			b.advance(testLease/2 + time.Second)
			there.do(func(*Ticket) {})
			b.advance(testLease / 2)
			s := c.try(b, p)
			if b.m.clients[away.id] == nil {
				t.Fatalf("%s: the expired client has lost what it had", name)
			}
			if s == wire.NFS4_OK {
				t.Fatalf("%s: it is not refused", name)
			}
		}
	}
}

// Who waits for a lock is told when it can be had, be it that another one became a shared lock.
func TestLockNotices(t *testing.T) {
	f := File{1, 1}
	for _, c := range []struct {
		name    string
		write   bool // is what is waited for
		release func(b *bench, p *peer, open, lock wire.Stateid)
		told    bool
	}{
		{"unlocked", true, func(b *bench, p *peer, _, lock wire.Stateid) {
			p.do(func(tk *Ticket) { _, s := b.m.Unlock(tk, &lock, f, 0, 10); b.want(s, wire.NFS4_OK) })
		}, true},
		{"closed", true, func(b *bench, p *peer, open, _ wire.Stateid) { b.want(p.close(open, f), wire.NFS4_OK) }, true},
		{"shared, to read", false, func(b *bench, p *peer, open, _ wire.Stateid) { p.lock(open, f, "l", 0, 10, false) }, true},
		{"shared, to write", true, func(b *bench, p *peer, open, _ wire.Stateid) { p.lock(open, f, "l", 0, 10, false) }, false},
		{"shared in part", false, func(b *bench, p *peer, open, _ wire.Stateid) { p.lock(open, f, "l", 0, 5, false) }, false},
	} {
		b, calls := newPhoneBench(t, func(o *Options) { o.NoDelegations = true })
		p, q := b.join("p", false), b.joinUp("q")
		open, theirs := p.mustOpen(f, "o", 3, 0), q.mustOpen(f, "o", 3, 0)
		lock, _, s := p.lock(open, f, "l", 0, 10, true)
		b.want(s, wire.NFS4_OK)
		q.do(func(tk *Ticket) {
			_, _, _, s := b.m.Lock(tk, &LockRequest{File: f, Write: c.write, Waits: true, Length: 10, NewOwner: true, Stateid: theirs, Owner: []byte("w")})
			b.want(s, wire.NFS4ERR_DENIED)
		})
		c.release(b, p, open, lock)
		if told := len(calls.notices) == 1 && calls.notices[0] == (LockNotice{Client: q.id, File: f, Owner: "w"}); told != c.told {
			t.Errorf("%s: %+v", c.name, calls.notices)
		}
	}
}

// Who waits for longer than a lease, as Linux does before it asks again, is told although others have come to wait since.
func TestLockNoticesOutlastALease(t *testing.T) {
	f := File{1, 1}
	b, calls := newPhoneBench(t, func(o *Options) { o.NoDelegations = true })
	p, q := b.join("p", false), b.joinUp("q")
	open, theirs := p.mustOpen(f, "o", 3, 0), q.mustOpen(f, "o", 3, 0)
	lock, _, s := p.lock(open, f, "l", 0, 10, true)
	b.want(s, wire.NFS4_OK)
	for _, w := range []struct {
		owner string
		after time.Duration
	}{{"vanished", 0}, {"first", 2 * waiterPause}, {"second", 2 * testLease}} {
		b.advance(w.after)
		p.do(func(*Ticket) {}) // its lease goes on
		q.do(func(tk *Ticket) {
			_, _, _, s := b.m.Lock(tk, &LockRequest{File: f, Waits: true, Length: 10, NewOwner: true, Stateid: theirs, Owner: []byte(w.owner)})
			b.want(s, wire.NFS4ERR_DENIED)
		})
	}
	p.do(func(tk *Ticket) { _, s := b.m.Unlock(tk, &lock, f, 0, 10); b.want(s, wire.NFS4_OK) })
	if n := calls.notices; len(n) != 2 || n[0].Owner != "first" || n[1].Owner != "second" {
		t.Errorf("told: %+v", n)
	}
}

// The model has an entry for each of the first bytes of a file, one for all bytes in the middle, and
// one for each of the last bytes of the 64-bit range.
const (
	modelBytes  = 25
	modelMiddle = 20
)

// placeOf is where a byte of the model is in the file.
func placeOf(i int) uint64 {
	switch {
	case i > modelMiddle:
		return toTheEnd - uint64(modelBytes-1-i)
	case i == modelMiddle:
		return 1 << 40
	}
	return uint64(i)
}

// randomByte is a byte of the model at which a lock can begin or end.
func randomByte(rnd *rand.Rand) int {
	for {
		if i := rnd.IntN(modelBytes); i != modelMiddle {
			return i
		}
	}
}

// Random locks and unlocks by four owners of two clients, against the model.
func TestLocksModel(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		b := newBench(t, nil)
		f := File{1, 1}
		var peers []*peer
		var opens [4]wire.Stateid
		for i := range 4 {
			if i < 2 {
				peers = append(peers, b.join(ownerName(i), false))
			}
			opens[i] = peers[i%2].mustOpen(f, ownerName(i), 3, 0)
		}
		var model [4][modelBytes]byte // 0 free, 1 read, 2 write
		var locks [4]*wire.Stateid
		for step := range 500 {
			who := rnd.IntN(4)
			from, to := randomByte(rnd), randomByte(rnd)
			if from > to {
				from, to = to, from
			}
			length := placeOf(to) - placeOf(from) + 1
			if to == modelBytes-1 && (length == 0 || rnd.IntN(2) == 0) {
				length = toTheEnd
			}
			if length == toTheEnd {
				to = modelBytes - 1 // all but the last byte of the range cannot be said
			}
			if rnd.IntN(3) == 0 {
				if locks[who] == nil {
					continue
				}
				peers[who%2].do(func(tk *Ticket) {
					id, s := b.m.Unlock(tk, locks[who], f, placeOf(from), length)
					b.want(s, wire.NFS4_OK)
					locks[who] = &id
				})
				for i := from; i <= to; i++ {
					model[who][i] = 0
				}
				continue
			}
			kind := byte(1 + rnd.IntN(2))
			want := wire.NFS4_OK
			for other := range model {
				for i := from; i <= to; i++ {
					if other != who && model[other][i] != 0 && (kind == 2 || model[other][i] == 2) {
						want = wire.NFS4ERR_DENIED
					}
				}
			}
			id, d, s := peers[who%2].lock(opens[who], f, ownerName(who), placeOf(from), length, kind == 2)
			if s != want {
				t.Fatalf("seed %d step %d: owner %d locks %d..%d kind %d: %v (%+v), want %v", seed, step, who, from, to, kind, s, d, want)
			}
			if s != wire.NFS4_OK {
				continue
			}
			locks[who] = &id
			for i := from; i <= to; i++ {
				model[who][i] = kind
			}
		}
		b.check()
		compareLocks(t, b, &model)
	}
}

// compareLocks asks byte by byte, for each owner, what a stranger would be told.
func compareLocks(t *testing.T, b *bench, model *[4][modelBytes]byte) {
	stranger := b.join("stranger", false)
	for i := range model[0] {
		var highest byte
		for who := range model {
			highest = max(highest, model[who][i])
		}
		for _, write := range []bool{false, true} {
			want := wire.NFS4_OK
			if highest == 2 || write && highest == 1 {
				want = wire.NFS4ERR_DENIED
			}
			stranger.do(func(tk *Ticket) {
				_, _, s := b.m.TestLock(tk, &LockRequest{File: File{1, 1}, Offset: placeOf(i), Length: 1, Write: write})
				if s != want {
					t.Errorf("byte %d, write %v: %v, want %v", i, write, s, want)
				}
			})
		}
	}
}
