package state

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

const (
	testLease = 15 * time.Second
	testGrace = 20 * time.Second
)

// bench is a machine with a clock that stands still, and what the holds of files are.
type bench struct {
	*testing.T
	m     *Machine
	now   time.Time
	holds map[File]int
}

func newBench(t *testing.T, change func(*Options)) *bench {
	b := &bench{T: t, now: time.Unix(1_000_000, 0), holds: map[File]int{}}
	o := Options{
		Epoch: 7, Lease: testLease, Grace: testGrace,
		MaxRequestBytes: 1 << 20, MaxReplyBytes: 1 << 20,
		Now:  func() time.Time { return b.now },
		Drop: func(f File) { b.holds[f]-- },
	}
	if change != nil {
		change(&o)
	}
	b.m = New(o)
	t.Cleanup(b.check)
	return b
}

func (b *bench) advance(d time.Duration) { b.now = b.now.Add(d) }

func (b *bench) want(got, want wire.Status) {
	b.Helper()
	if got != want {
		b.Fatalf("got %v, want %v", got, want)
	}
}

// peer is a client with a session.
type peer struct {
	b       *bench
	id      wire.ClientID
	session wire.SessionID
	seq     []uint32
}

func wideChannel() Channel {
	return Channel{MaxRequestBytes: 1 << 20, MaxResponseBytes: 1 << 20, MaxCachedBytes: 4096,
		MaxOperations: 64, MaxRequests: 8}
}

func principal(uid uint32) Principal { return Principal{Flavor: 1, UID: uid} }

func verifier(n byte) wire.Verifier { return wire.Verifier{n} }

// exchange does an EXCHANGE_ID that must succeed.
func (b *bench) exchange(owner string, v byte, uid uint32) ExchangeIDResult {
	b.Helper()
	res, victim, s := b.m.ExchangeID(&ExchangeIDRequest{Owner: []byte(owner), Verifier: verifier(v), Principal: principal(uid)})
	if victim != 0 || s != wire.NFS4_OK {
		b.Fatalf("EXCHANGE_ID %q: victim %d, %v", owner, victim, s)
	}
	return res
}

func (b *bench) createArgs(id wire.ClientID, seq uint32, uid uint32) *CreateSessionRequest {
	return &CreateSessionRequest{ClientID: id, Sequence: seq, Principal: principal(uid), Fore: wideChannel(), Back: wideChannel()}
}

// create does a CREATE_SESSION.
func (b *bench) create(r *CreateSessionRequest) (CreateSessionResult, wire.Status) {
	return b.m.CreateSession(r)
}

// complete does a RECLAIM_COMPLETE, with the record stored.
func (p *peer) complete() (s wire.Status) {
	p.b.Helper()
	p.do(func(t *Ticket) {
		var record *Record
		if record, s = p.b.m.ReclaimComplete(t); record != nil {
			p.b.m.Recorded(p.id)
			record, s = p.b.m.ReclaimComplete(t)
		}
		if record != nil {
			p.b.Fatal("the record is asked for twice")
		}
	})
	return s
}

// join makes a client with a session, that has nothing to reclaim unless reclaims.
func (b *bench) join(owner string, reclaims bool) *peer {
	b.Helper()
	ex := b.exchange(owner, 1, 0)
	res, s := b.create(b.createArgs(ex.ClientID, ex.Sequence, 0))
	b.want(s, wire.NFS4_OK)
	p := &peer{b: b, id: ex.ClientID, session: res.Session, seq: make([]uint32, res.Fore.MaxRequests)}
	if !reclaims {
		b.want(p.complete(), wire.NFS4_OK)
	}
	return p
}

func (p *peer) request(slot uint32) *SequenceRequest {
	return &SequenceRequest{Session: p.session, Sequence: p.seq[slot] + 1, Slot: slot, Highest: slot,
		RequestBytes: 200, ReplyBytes: 100, Operations: 2, Fingerprint: uint64(p.seq[slot]) + 1}
}

// do runs f as a request on slot 0.
func (p *peer) do(f func(t *Ticket)) {
	p.b.Helper()
	var t Ticket
	v, s := p.b.m.Sequence(p.request(0), &t)
	if v != Execute || s != wire.NFS4_OK {
		p.b.Fatalf("SEQUENCE: verdict %d, %v", v, s)
	}
	p.seq[0]++
	f(&t)
	p.b.m.Finish(&t, []byte("reply"), false)
}

// open opens f, holding it as a server would, and getting rid of expired clients.
func (p *peer) open(f File, owner string, access, deny uint32) (res OpenResult, s wire.Status) {
	p.b.Helper()
	p.do(func(t *Ticket) {
		for range 10 {
			var victim wire.ClientID
			res, victim, s = p.b.m.Open(t, &OpenRequest{File: f, Owner: []byte(owner), Access: access, Deny: deny})
			if victim == 0 {
				break
			}
			p.b.bury(victim)
		}
	})
	if res.New {
		p.b.holds[f]++
	}
	return res, s
}

func (b *bench) bury(id wire.ClientID) {
	b.Helper()
	if _, ok := b.m.Condemn(id); !ok {
		b.Fatalf("client %x cannot be condemned", id)
	}
	b.m.Bury(id)
}

func (p *peer) mustOpen(f File, owner string, access, deny uint32) wire.Stateid {
	p.b.Helper()
	res, s := p.open(f, owner, access, deny)
	p.b.want(s, wire.NFS4_OK)
	return res.Stateid
}

func (p *peer) close(id wire.Stateid, f File) (s wire.Status) {
	p.do(func(t *Ticket) { _, s = p.b.m.Close(t, &id, f) })
	return s
}

func (p *peer) giveBack(id wire.Stateid, f File) (s wire.Status) {
	p.do(func(t *Ticket) { _, s = p.b.m.Return(t, &id, f) })
	return s
}

// check holds the machine to its invariants.
func (b *bench) check() {
	b.Helper()
	m := b.m
	opens, ranges, tokens, delegs, sides := 0, 0, 0, 0, 0
	for id, f := range m.files {
		var read, write, denyRead, denyWrite int
		for o := range f.opens {
			opens++
			tokens += 1 + len(o.sides)
			sides += len(o.sides)
			read += int(o.access & 1)
			write += int(o.access >> 1 & 1)
			denyRead += int(o.deny & 1)
			denyWrite += int(o.deny >> 1 & 1)
			if m.tokens[o.number] != &o.token {
				b.Errorf("file %v: an open is not in the table", id)
			}
		}
		if [4]int{read, write, denyRead, denyWrite} != [4]int{f.read, f.write, f.denyRead, f.denyWrite} {
			b.Errorf("file %v: counts %v are not sums", id, f)
		}
		if b.holds[id] != 1 || len(f.opens)+len(f.delegs) == 0 {
			b.Errorf("file %v: %d opens, %d delegations, %d holds", id, len(f.opens), len(f.delegs), b.holds[id])
		}
		delegs += len(f.delegs)
		ranges += b.checkLocks(f)
	}
	tokens += b.checkDelegations(delegs)
	if opens != m.opens || ranges != m.ranges || tokens != len(m.tokens) || sides != m.sides {
		b.Errorf("counts are %d opens, %d ranges, %d stateids, %d of locks; there are %d, %d, %d, %d",
			m.opens, m.ranges, len(m.tokens), m.sides, opens, ranges, tokens, sides)
	}
	for f, n := range b.holds {
		if n < 0 || n > 0 && m.files[f] == nil {
			b.Errorf("file %v: %d holds are left", f, n)
		}
	}
	b.checkClients()
}

// checkDelegations returns how many stateids of delegations there are, given how many files know of.
func (b *bench) checkDelegations(inEffect int) (tokens int) {
	m := b.m
	granted, writes := 0, 0
	for _, c := range all(m.clients, m.condemned) {
		revoked := 0
		for d := range c.delegs {
			tokens++
			if m.tokens[d.number] != &d.token {
				b.Errorf("a delegation of client %x is not in the table", c.id)
			}
			switch {
			case d.revoked:
				revoked++
				continue
			case d.write:
				writes++
			}
			granted++
			if d.file.contests(c, "", d.write) {
				b.Errorf("file %v: a delegation is contested", d.file.id)
			}
		}
		if len(c.delegs) != c.nDelegs || revoked != c.revoked {
			b.Errorf("client %x has %d delegations, %d of them revoked; counted are %d and %d",
				c.id, len(c.delegs), revoked, c.nDelegs, c.revoked)
		}
	}
	if granted != inEffect || granted != int(m.delegations.Load()) || writes != int(m.writeDelegations.Load()) {
		b.Errorf("%d delegations, %d of them for writing; files have %d; counted are %d and %d",
			granted, writes, inEffect, m.delegations.Load(), m.writeDelegations.Load())
	}
	s := m.delegated
	if ended := s.Returned + s.Revoked + s.Lost + s.Undone; s.ReadGranted+s.WriteGranted != ended+uint64(granted) {
		b.Errorf("%d delegations are in effect; counted are %+v", granted, s)
	}
	return tokens
}

func all(some, more map[wire.ClientID]*client) (both []*client) {
	for _, c := range some {
		both = append(both, c)
	}
	for _, c := range more {
		both = append(both, c)
	}
	return both
}

func (b *bench) checkLocks(f *file) (ranges int) {
	for _, set := range f.locks {
		ranges += len(set.ranges)
		for i, r := range set.ranges {
			if r.start > r.end {
				b.Errorf("range %v is empty", r)
			}
			if i == 0 {
				continue
			}
			prev := set.ranges[i-1]
			if prev.end >= r.start || prev.end+1 == r.start && prev.write == r.write && prev.side == r.side {
				b.Errorf("ranges %v and %v should be one, or not be there", prev, r)
			}
		}
		for _, r := range set.ranges {
			if other := b.m.lockConflictLocked(f, set, r.start, r.end, r.write); other != nil {
				b.Errorf("ranges %v and %v of two owners overlap", r, *other)
			}
		}
	}
	return ranges
}

func (b *bench) checkClients() {
	m := b.m
	cache, sessions, guests := int64(0), 0, 0
	for _, s := range m.sessions {
		cache += s.reserved()
		if s.client.sessions[s.id] != s {
			b.Errorf("session %x is not its client's", s.id)
		}
	}
	for id, c := range m.clients {
		sessions += len(c.sessions)
		if c.guest {
			guests++
		}
		o := m.owners[c.owner]
		if o == nil || o.confirmed != c && o.unconfirmed != c || c.confirmed != (o.confirmed == c) {
			b.Errorf("client %x is not its owner's", id)
		}
	}
	if cache != m.cacheBytes.Load() || sessions != len(m.sessions) || guests != m.guests {
		b.Errorf("%d cache bytes, %d sessions and %d guests are counted; there are %d, %d and %d",
			m.cacheBytes.Load(), len(m.sessions), m.guests, cache, sessions, guests)
	}
}

func TestIdsBelongToTheirEpoch(t *testing.T) {
	b := newBench(t, nil)
	p := b.join("a", false)
	if uint64(p.id)>>32 != 7 || binary.BigEndian.Uint32(p.session[:]) != 7 {
		t.Errorf("client id %x and session id %x do not begin with epoch 7", p.id, p.session)
	}
	id := p.mustOpen(File{1, 1}, "o", 1, 0)
	if binary.BigEndian.Uint32(id.Other[:]) != 7 {
		t.Errorf("stateid %x does not begin with epoch 7", id.Other)
	}

	later := newBench(t, func(o *Options) { o.Epoch = 8 })
	q := later.join("a", false)
	var tk Ticket
	_, s := later.m.Sequence(p.request(0), &tk)
	later.want(s, wire.NFS4ERR_BADSESSION)
	_, s = later.create(later.createArgs(p.id, 1, 0))
	later.want(s, wire.NFS4ERR_STALE_CLIENTID)
	q.do(func(tk *Ticket) { later.want(later.m.CheckIO(tk, &id, File{1, 1}, false), wire.NFS4ERR_BAD_STATEID) })
}

func TestSessionIdsCannotBeGuessed(t *testing.T) {
	b := newBench(t, nil)
	first, second := b.join("a", false), b.join("b", false)
	if [8]byte(first.session[8:]) == [8]byte(second.session[8:]) {
		t.Errorf("two session ids end alike: %x, %x", first.session, second.session)
	}
}

func TestLimitsValidate(t *testing.T) {
	var l Limits
	l.EnsureDefaults()
	if err := l.Validate(); err != nil {
		t.Fatal(err)
	}
	for i, change := range []func(*Limits){
		func(l *Limits) { l.Clients = -1 },
		func(l *Limits) { l.Opens = maxLimit + 1 },
		func(l *Limits) { l.CompoundOps = 1 },
		func(l *Limits) { l.ReplyCacheBytes = 1 },
	} {
		bad := l
		change(&bad)
		if bad.Validate() == nil {
			t.Errorf("case %d: %+v passed", i, bad)
		}
	}
}

func TestStats(t *testing.T) {
	b := newBench(t, nil)
	p := b.join("a", false)
	id := p.mustOpen(File{1, 1}, "o", 3, 0)
	p.lock(id, File{1, 1}, "l", 0, 10, true)
	want := Stats{Clients: 1, Sessions: 1, Opens: 1, Locks: 1, CacheBytes: 8 * 4096}
	if got := b.m.Stats(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	b.want(p.close(id, File{1, 1}), wire.NFS4_OK)
	want.Opens, want.Locks = 0, 0
	if got := b.m.Stats(); got != want {
		t.Errorf("after CLOSE: got %+v, want %+v", got, want)
	}
}

// lock locks a range under an open stateid, with a new lock owner.
func (p *peer) lock(open wire.Stateid, f File, owner string, offset, length uint64, write bool) (id wire.Stateid, d Denied, s wire.Status) {
	p.b.Helper()
	p.do(func(t *Ticket) {
		for range 10 {
			var victim wire.ClientID
			id, d, victim, s = p.b.m.Lock(t, &LockRequest{File: f, Write: write, Offset: offset, Length: length,
				NewOwner: true, Stateid: open, Owner: []byte(owner)})
			if victim == 0 {
				return
			}
			p.b.bury(victim)
		}
	})
	return id, d, s
}

func ownerName(i int) string { return fmt.Sprintf("owner %d", i) }
