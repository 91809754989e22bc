package state

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// phone is a Callbacks that takes down what it was asked for.
type phone struct {
	recalls []Recall
	anys    []wire.ClientID
	notices []LockNotice
	copied  []CopyNotice
	slots   map[wire.SessionID]uint32
	gone    []wire.SessionID
}

func (p *phone) Recall(r Recall)                          { p.recalls = append(p.recalls, r) }
func (p *phone) RecallAny(client wire.ClientID, _ uint32) { p.anys = append(p.anys, client) }
func (p *phone) NotifyLock(n LockNotice)                  { p.notices = append(p.notices, n) }
func (p *phone) Copied(n CopyNotice)                      { p.copied = append(p.copied, n) }
func (p *phone) RecallSlots(s wire.SessionID, highest uint32) {
	if p.slots == nil {
		p.slots = map[wire.SessionID]uint32{}
	}
	p.slots[s] = highest
}
func (p *phone) Gone(s wire.SessionID) { p.gone = append(p.gone, s) }

func newPhoneBench(t *testing.T, change func(*Options)) (*bench, *phone) {
	p := new(phone)
	return newBench(t, func(o *Options) {
		o.Callbacks = p
		if change != nil {
			change(o)
		}
	}), p
}

// joinUp is join for a client that can be called.
func (b *bench) joinUp(owner string) *peer {
	b.Helper()
	p := b.join(owner, false)
	if !b.m.SetBackchannel(p.session, BackUp) {
		b.Fatal("no session")
	}
	return p
}

// An OPEN that asks for the delegation of a file whose other state is from a table.
func TestDelegationConflicts(t *testing.T) {
	const read, write, both = 1, 2, 3
	for _, c := range []struct {
		name     string
		others   uint32 // access of another client's open, 0: none
		own      uint32 // access of an open of the same client
		by       string // by this owner
		access   uint32
		want     uint32
		kind     wire.DelegationType
		contends bool
	}{
		{"nobody, reading", 0, 0, "", read, 0, wire.OPEN_DELEGATE_READ, false},
		{"nobody, both", 0, 0, "", both, 0, wire.OPEN_DELEGATE_WRITE, false},
		{"nobody, writing", 0, 0, "", write, 0, wire.OPEN_DELEGATE_NONE, false},
		{"nobody, both, a read one", 0, 0, "", both, wire.OPEN4_SHARE_ACCESS_WANT_READ_DELEG, wire.OPEN_DELEGATE_READ, false},
		{"a reader, reading", read, 0, "", read, 0, wire.OPEN_DELEGATE_READ, false},
		{"a reader, both", read, 0, "", both, 0, wire.OPEN_DELEGATE_NONE, false},
		{"a writer, reading", write, 0, "", read, 0, wire.OPEN_DELEGATE_NONE, false},
		{"a writer, both", both, 0, "", both, 0, wire.OPEN_DELEGATE_NONE, false},
		{"oneself, reading", 0, both, "o", read, 0, wire.OPEN_DELEGATE_READ, false},
		{"oneself, both", 0, read, "o", both, 0, wire.OPEN_DELEGATE_WRITE, false},
		{"another owner writes, reading", 0, both, "other", read, 0, wire.OPEN_DELEGATE_NONE, false},
		{"another owner reads, reading", 0, read, "other", read, 0, wire.OPEN_DELEGATE_READ, false},
		{"another owner reads, both", 0, read, "other", both, 0, wire.OPEN_DELEGATE_NONE, false},
		{"contended", 0, 0, "", read, 0, wire.OPEN_DELEGATE_NONE, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, _ := newPhoneBench(t, nil)
			p, q := b.joinUp("a"), b.join("b", false)
			f := File{1, 1}
			if c.others != 0 {
				q.mustOpen(f, "o", c.others, 0)
			}
			if c.own != 0 {
				p.wish(f, c.by, c.own, wire.OPEN4_SHARE_ACCESS_WANT_NO_DELEG)
			}
			if c.contends {
				b.m.contendLocked(f)
			}
			if got := p.wish(f, "o", c.access, c.want); got.Type != c.kind {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// wish opens f, which must succeed, and returns the delegation.
// TestDelegationAmongOwners: an open-owner that does not know of its client's delegation has it recalled, as another client
// does; one that opens under it does not.
func TestDelegationAmongOwners(t *testing.T) {
	const read, write, both = 1, 2, 3
	for _, c := range []struct {
		name     string
		holds    uint32 // access of the open that got the delegation
		owner    string // who opens then
		access   uint32
		recalled bool
	}{
		{"the same, more", read, "o", both, false},
		{"another reads what may be written", both, "other", read, true},
		{"another reads what is read", read, "other", read, false},
		{"another writes what is read", read, "other", write, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, calls := newPhoneBench(t, nil)
			p, f := b.joinUp("a"), File{1, 1}
			d := p.wish(f, "o", c.holds, 0)
			want := wire.NFS4_OK
			if c.recalled {
				want = wire.NFS4ERR_DELAY
			}
			for range 2 { // the second asks again, and recalls nothing more
				if _, s := p.open(f, c.owner, c.access, 0); s != want {
					t.Errorf("the open: %v, want %v", s, want)
				}
			}
			if (len(calls.recalls) == 1) != c.recalled {
				t.Errorf("%d recalls", len(calls.recalls))
			}
			if _, s := p.openWith(&OpenRequest{File: f, Owner: []byte("other"), Access: read, Under: &d.Stateid}); s != wire.NFS4_OK {
				t.Errorf("an open under the delegation: %v", s)
			}
			b.want(p.giveBack(d.Stateid, f), wire.NFS4_OK)
			if _, s := p.open(f, c.owner, c.access, 0); s != wire.NFS4_OK {
				t.Errorf("the open when it is given back: %v", s)
			}
			b.check()
		})
	}
}

func (p *peer) wish(f File, owner string, access, want uint32) Delegation {
	p.b.Helper()
	res, s := p.openWith(&OpenRequest{File: f, Owner: []byte(owner), Access: access, Wish: DelegationWish{Want: want}})
	p.b.want(s, wire.NFS4_OK)
	return res.Delegation
}

// openWith opens, holding the file as a server would, and getting rid of expired clients.
func (p *peer) openWith(r *OpenRequest) (res OpenResult, s wire.Status) {
	p.b.Helper()
	p.do(func(t *Ticket) {
		for range 10 {
			var victim wire.ClientID
			res, victim, s = p.b.m.Open(t, r)
			if victim == 0 {
				break
			}
			p.b.bury(victim)
		}
	})
	if s == wire.NFS4_OK && res.New {
		p.b.holds[r.File]++
	}
	return res, s
}

// A delegation comes in the place of an open if it is good for all that was asked for.
func TestDelegationInsteadOfAnOpen(t *testing.T) {
	const read, both = 1, 3
	f := File{1, 1}
	for _, c := range []struct {
		access, deny, want uint32
		instead            bool
	}{
		{read, 0, 0, true},
		{both, 0, 0, true},
		{both, 0, wire.OPEN4_SHARE_ACCESS_WANT_READ_DELEG, false},
		{read, wire.OPEN4_SHARE_DENY_READ, 0, false},
		{both, wire.OPEN4_SHARE_DENY_WRITE, 0, false},
	} {
		b, _ := newPhoneBench(t, nil)
		p := b.joinUp("a")
		res, s := p.openWith(&OpenRequest{File: f, Owner: []byte("o"), Access: c.access, Deny: c.deny,
			Wish: DelegationWish{Want: c.want, Instead: true}})
		b.want(s, wire.NFS4_OK)
		if res.Delegation.Stateid == (wire.Stateid{}) || res.NoOpen != c.instead {
			t.Errorf("%+v: got %+v", c, res)
		}
	}
}

// Each way in which a delegation ends is counted as what it is, and once.
func TestDelegationsAreCounted(t *testing.T) {
	const read, write, both = 1, 2, 3
	f := File{1, 1}
	revoke := func(b *bench, p *peer) {
		q := b.join("other", false)
		for range 3 { // it is recalled, waited for, revoked
			q.open(f, "o", write, 0)
			b.advance(testLease/2 + time.Second)
			p.do(func(*Ticket) {})
		}
	}
	for _, c := range []struct {
		name   string
		access uint32
		end    func(b *bench, p *peer, d *OpenResult)
		want   DelegationStats
	}{
		{"in effect", read, func(*bench, *peer, *OpenResult) {}, DelegationStats{ReadGranted: 1}},
		{"in effect, for writing", both, func(*bench, *peer, *OpenResult) {}, DelegationStats{WriteGranted: 1}},
		{"none is asked for", write, func(*bench, *peer, *OpenResult) {}, DelegationStats{}},
		{"asked for twice", read, func(b *bench, p *peer, _ *OpenResult) {
			p.wish(f, "o", read, 0)
		}, DelegationStats{ReadGranted: 1}},
		{"returned", read, func(b *bench, p *peer, d *OpenResult) {
			b.want(p.giveBack(d.Delegation.Stateid, f), wire.NFS4_OK)
			b.want(p.giveBack(d.Delegation.Stateid, f), wire.NFS4ERR_BAD_STATEID)
		}, DelegationStats{ReadGranted: 1, Returned: 1}},
		{"closed and kept", read, func(b *bench, p *peer, d *OpenResult) {
			b.want(p.close(d.Stateid, f), wire.NFS4_OK)
		}, DelegationStats{ReadGranted: 1}},
		{"revoked and freed", read, func(b *bench, p *peer, d *OpenResult) {
			revoke(b, p)
			b.want(p.giveBack(d.Delegation.Stateid, f), wire.NFS4ERR_DELEG_REVOKED)
			p.do(func(t *Ticket) { b.want(b.m.FreeStateid(t, &d.Delegation.Stateid), wire.NFS4_OK) })
		}, DelegationStats{ReadGranted: 1, Revoked: 1}},
		{"revoked, then its client goes", read, func(b *bench, p *peer, d *OpenResult) {
			revoke(b, p)
			b.advance(testLease + time.Second)
			b.bury(p.id)
		}, DelegationStats{ReadGranted: 1, Revoked: 1}},
		{"its client goes", both, func(b *bench, p *peer, _ *OpenResult) {
			b.advance(testLease + time.Second)
			b.bury(p.id)
		}, DelegationStats{WriteGranted: 1, Lost: 1}},
		{"the OPEN is undone", both, func(b *bench, _ *peer, d *OpenResult) {
			b.m.Rollback(d)
			b.m.Rollback(d)
		}, DelegationStats{WriteGranted: 1, Undone: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, _ := newPhoneBench(t, nil)
			p := b.joinUp("a")
			res, s := p.openWith(&OpenRequest{File: f, Owner: []byte("o"), Access: c.access})
			b.want(s, wire.NFS4_OK)
			c.end(b, p, &res)
			st := b.m.Stats()
			if st.Delegated != c.want {
				t.Errorf("got %+v, want %+v", st.Delegated, c.want)
			}
			if ended := c.want.Returned + c.want.Revoked + c.want.Lost + c.want.Undone; ended > 0 && st.Delegations+st.WriteDelegations != 0 {
				t.Errorf("%d are in effect, %d of them for writing", st.Delegations, st.WriteDelegations)
			}
		})
	}
}

// The request that a delegation was granted to is named until the client has used its slot again.
func TestRecallNamesTheRequest(t *testing.T) {
	for _, again := range []bool{false, true} {
		b, calls := newPhoneBench(t, nil)
		p, q := b.joinUp("a"), b.join("b", false)
		f := File{1, 1}
		p.wish(f, "o", 1, 0)
		seq := p.seq[0]
		if again {
			p.do(func(*Ticket) {})
		}
		if _, s := q.open(f, "o", 2, 0); s != wire.NFS4ERR_DELAY {
			t.Fatalf("got %v", s)
		}
		r := calls.recalls[0]
		if r.HasGranted == again || r.Granted != (wire.ReferringCall{Session: p.session, Sequence: seq}) {
			t.Errorf("used again %v: %+v", again, r)
		}
	}
}

// A session that goes is told of, and so is the way to its client.
func TestGoneSession(t *testing.T) {
	b, calls := newPhoneBench(t, nil)
	p := b.joinUp("a")
	b.want(b.m.DestroySession(p.session, nil), wire.NFS4_OK)
	if len(calls.gone) != 1 || calls.gone[0] != p.session || b.m.SetBackchannel(p.session, BackUp) {
		t.Errorf("gone %v", calls.gone)
	}
}

// walk does random things as random clients, and holds the machine to its invariants all the time.
type walk struct {
	*bench
	rnd   *rand.Rand
	peers []*peer
	opens map[wire.Stateid]held
	given map[wire.Stateid]held
}

type held struct {
	p *peer
	f File
}

func (w *walk) step() {
	i := w.rnd.IntN(len(w.peers))
	p, f := w.peers[i], File{Inode: uint64(w.rnd.IntN(5)), Generation: 1}
	var t Ticket
	if v, _ := w.m.Sequence(p.request(0), &t); v != Execute {
		w.peers[i] = w.joinUp(fmt.Sprint("peer ", w.rnd.Uint64())) // it was expired
		return
	}
	w.m.Finish(&t, nil, false)
	p.seq[0]++
	switch w.rnd.IntN(12) {
	case 0, 1, 2, 3:
		w.open(p, f)
	case 4, 5:
		w.closeOne(p)
	case 6, 7:
		w.giveOne(p)
	case 8, 9:
		p.do(func(t *Ticket) {
			if victim, _, _ := w.m.Clear(t, f, Own(w.rnd.IntN(3)), w.rnd.IntN(2) == 0, false); victim != 0 {
				w.bury(victim)
			}
		})
	case 10:
		w.advance(time.Duration(w.rnd.IntN(int(testLease / 2))))
		for _, id := range w.m.Lapsed() {
			if _, ok := w.m.Condemn(id); ok {
				w.m.Bury(id)
			}
		}
	case 11:
		w.m.SetBackchannel(p.session, Back(w.rnd.IntN(int(BackFaulty)+1)))
	}
}

func (w *walk) open(p *peer, f File) {
	r := &OpenRequest{File: f, Owner: []byte(ownerName(w.rnd.IntN(3))), Access: uint32(1 + w.rnd.IntN(3)),
		Deny: uint32(w.rnd.IntN(8) / 6), Truncate: w.rnd.IntN(8) == 0}
	r.Wish = DelegationWish{Want: uint32(w.rnd.IntN(5)) << 8, Instead: w.rnd.IntN(4) == 0, Times: w.rnd.IntN(2) == 0}
	res, s := p.openWith(r)
	if s != wire.NFS4_OK {
		return
	}
	if w.rnd.IntN(8) == 0 {
		w.m.Rollback(&res)
		return
	}
	if !res.NoOpen {
		w.opens[res.Stateid] = held{p, f}
	}
	if res.Delegation.Stateid != (wire.Stateid{}) {
		w.given[res.Delegation.Stateid] = held{p, f}
	}
}

func (w *walk) closeOne(p *peer) {
	for id, h := range w.opens {
		if h.p == p {
			p.close(id, h.f)
			delete(w.opens, id)
			return
		}
	}
}

func (w *walk) giveOne(p *peer) {
	for id, h := range w.given {
		if h.p != p {
			continue
		}
		p.do(func(t *Ticket) {
			if _, s := w.m.Return(t, &id, h.f); s == wire.NFS4ERR_DELEG_REVOKED {
				w.want(w.m.FreeStateid(t, &id), wire.NFS4_OK)
			}
		})
		delete(w.given, id)
		return
	}
}

func TestDelegationInvariants(t *testing.T) {
	recalls := 0
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			b, calls := newPhoneBench(t, func(o *Options) { o.Limits.DelegationsPerClient = 3 })
			w := &walk{bench: b, rnd: rand.New(rand.NewPCG(seed, 1)), opens: map[wire.Stateid]held{}, given: map[wire.Stateid]held{}}
			for i := range 4 {
				w.peers = append(w.peers, b.joinUp(fmt.Sprint("peer ", i)))
			}
			for range 400 {
				w.step()
				b.check()
				if t.Failed() {
					t.FailNow()
				}
			}
			recalls += len(calls.recalls)
		})
	}
	if recalls < 20 {
		t.Errorf("only %d recalls in all", recalls)
	}
}

// A thousand clients with a session and ten files each, all delegated, are within bounds, and all of it
// goes when they do.
func TestThousandClients(t *testing.T) {
	const clients, files = 1000, 10
	b, calls := newPhoneBench(t, func(o *Options) { o.Limits.Delegations = clients * files / 2 })
	for i := range clients {
		p := b.joinUp(fmt.Sprint("client ", i))
		for j := range files {
			f := File{Inode: uint64(i*files + j), Generation: 1}
			res, s := p.openWith(&OpenRequest{File: f, Owner: []byte("o"), Access: 3})
			b.want(s, wire.NFS4_OK)
			if granted := res.Delegation.Type == wire.OPEN_DELEGATE_WRITE; granted != (i < clients/2) {
				t.Fatalf("client %d: %+v", i, res.Delegation)
			}
		}
	}
	if st := b.m.Stats(); st.Clients != clients || st.Sessions != clients || st.Opens != clients*files || st.Delegations != clients*files/2 {
		t.Errorf("got %+v", st)
	}
	if len(calls.anys) != 1 {
		t.Errorf("%d clients were asked to give something back, though no time has passed", len(calls.anys))
	}
	b.advance((courtesyLeases + 2) * testLease)
	for _, id := range b.m.Lapsed() {
		b.bury(id)
	}
	counted := DelegationStats{WriteGranted: clients * files / 2, Lost: clients * files / 2}
	if st := b.m.Stats(); st != (Stats{Delegated: counted}) || len(calls.gone) != clients || len(b.m.tokens) != 0 {
		t.Errorf("left: %+v, %d sessions gone", st, len(calls.gone))
	}
}

// However many slots clients ask for, a thousand of them have a session, and none has too few slots to
// work with.
func TestThousandSessionsShareTheReplyCache(t *testing.T) {
	b := newBench(t, nil)
	first, least := uint32(0), ^uint32(0)
	for i := range 1000 {
		ex := b.exchange(fmt.Sprint("client ", i), 1, 0)
		r := b.createArgs(ex.ClientID, ex.Sequence, 0)
		r.Fore.MaxRequests, r.Fore.MaxCachedBytes = 1000, 1<<20
		res, s := b.create(r)
		b.want(s, wire.NFS4_OK)
		if i == 0 {
			first = res.Fore.MaxRequests
		}
		least = min(least, res.Fore.MaxRequests)
	}
	if st := b.m.Stats(); st.Sessions != 1000 || st.CacheBytes > 256<<20 || first != 64 || least < 4 {
		t.Errorf("first %d, least %d, %+v", first, least, st)
	}
}

// TestDelegationEnds: who is told that a delegation is in the way hears of its end, however it comes, and does not wait for one whose
// client can't be asked for it.
func TestDelegationEnds(t *testing.T) {
	const read, write = 1, 2
	f := File{1, 1}
	ended := func(c <-chan struct{}) bool {
		select {
		case <-c:
			return true
		default:
			return false
		}
	}
	for name, end := range map[string]func(b *bench, holder, other *peer, d Delegation){
		"returned": func(b *bench, holder, _ *peer, d Delegation) {
			b.want(holder.giveBack(d.Stateid, f), wire.NFS4_OK)
		},
		"revoked": func(b *bench, holder, other *peer, _ Delegation) {
			b.advance(b.m.opt.Lease / 2)
			holder.do(func(*Ticket) {})
			b.advance(b.m.opt.Lease/2 + time.Second)
			other.do(func(t *Ticket) { b.m.Clear(t, f, OwnStay, true, false) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := newPhoneBench(t, nil)
			holder, other := b.joinUp("a"), b.join("b", false)
			d := holder.wish(f, "o", read, 0)
			res, s := other.openWith(&OpenRequest{File: f, Owner: []byte("p"), Access: write})
			if b.want(s, wire.NFS4ERR_DELAY); res.Ended == nil {
				t.Fatal("nothing to wait for")
			}
			var also <-chan struct{}
			other.do(func(t *Ticket) { _, also, _ = b.m.Clear(t, f, OwnStay, true, false) })
			if ended(res.Ended) || ended(also) {
				t.Error("it has not ended yet")
			}
			end(b, holder, other, d)
			if !ended(res.Ended) || !ended(also) {
				t.Error("the end was not told")
			}
		})
	}
	t.Run("too slow", func(t *testing.T) {
		b, _ := newPhoneBench(t, nil)
		holder, other := b.joinUp("a"), b.join("b", false)
		holder.wish(f, "o", read, 0)
		for _, soon := range []bool{true, true, false} {
			res, s := other.openWith(&OpenRequest{File: f, Owner: []byte("p"), Access: write})
			if b.want(s, wire.NFS4ERR_DELAY); (res.Ended != nil) != soon {
				t.Errorf("worth waiting for: %v", !soon)
			}
			b.advance(RecallWait / 2)
		}
	})
	t.Run("not to be called", func(t *testing.T) {
		b, _ := newPhoneBench(t, nil)
		holder, other := b.joinUp("a"), b.join("b", false)
		holder.wish(f, "o", read, 0)
		b.m.SetBackchannel(holder.session, BackDown)
		res, s := other.openWith(&OpenRequest{File: f, Owner: []byte("p"), Access: write})
		if b.want(s, wire.NFS4ERR_DELAY); res.Ended != nil {
			t.Error("it is waited for")
		}
	})
}
