package state

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// tightCache has room for 64 replies of 8 KiB: the first quarter is one session of 16 slots.
func tightCache(o *Options) { o.Limits.ReplyCacheBytes, o.Limits.Slots = 64*MaxCachedReplyBytes, 16 }

// joinAsking makes a client with a session that asks for n slots, and keeps all of every reply.
func (b *bench) joinAsking(owner string, n uint32) (*peer, wire.Status) {
	b.Helper()
	ex := b.exchange(owner, 1, 0)
	r := b.createArgs(ex.ClientID, ex.Sequence, 0)
	r.Fore.MaxRequests, r.Fore.MaxCachedBytes = n, MaxCachedReplyBytes
	res, s := b.create(r)
	if s != wire.NFS4_OK {
		return nil, s
	}
	return &peer{b: b, id: ex.ClientID, session: res.Session, seq: make([]uint32, n)}, s
}

func (p *peer) slots() (n, target int) {
	s := p.b.m.sessions[p.session]
	return len(s.slots), s.target
}

// send executes one request on slot, with highest the highest slot in use, and returns its ticket.
func (p *peer) send(slot, highest uint32) (t Ticket, s wire.Status) {
	r := p.request(slot)
	r.Highest, r.CacheThis = highest, true
	v, s := p.b.m.Sequence(r, &t)
	if v != Execute {
		return t, s
	}
	p.seq[slot]++
	told := t
	p.b.m.Finish(&t, []byte("reply"), false)
	return told, s
}

// The fuller the reply cache, the fewer slots; and those that there are room for are given to whoever
// uses all it has.
func TestSlotsGrow(t *testing.T) {
	b := newBench(t, tightCache)
	first, _ := b.joinAsking("first", 16)
	second, _ := b.joinAsking("second", 16)
	if n, _ := first.slots(); n != 16 {
		t.Fatalf("the first has %d slots", n)
	}
	if n, _ := second.slots(); n != 4 {
		t.Fatalf("the second has %d slots", n)
	}
	second.send(3, 3)
	if n, _ := second.slots(); n != 4 {
		t.Errorf("%d slots while there is no room for more", n)
	}
	b.want(b.m.DestroySession(first.session, nil), wire.NFS4_OK)
	second.send(0, 0)
	if n, _ := second.slots(); n != 4 {
		t.Errorf("%d slots, though the last was not used", n)
	}
	got, _ := second.send(3, 3)
	if n, target := second.slots(); n != 5 || target != 5 || got.Slots != 5 || got.Target != 5 {
		t.Errorf("%d slots, target %d, told %d and %d", n, target, got.Slots, got.Target)
	}
	for range 20 {
		n, _ := second.slots()
		second.send(uint32(n-1), uint32(n-1))
	}
	if n, _ := second.slots(); n != 16 {
		t.Errorf("%d slots after it used all it had for long", n)
	}
}

// Slots go when their client has shown that it knows, and not before; then there is room for others.
func TestSlotsAreRecalled(t *testing.T) {
	b, phone := newPhoneBench(t, tightCache)
	b.m.opt.Limits.ReplyCacheBytes = 16 * MaxCachedReplyBytes // full with the first
	p, _ := b.joinAsking("first", 16)
	p.send(15, 15)
	if _, s := b.joinAsking("second", 16); s != wire.NFS4ERR_DELAY {
		t.Fatalf("got %v", s)
	}
	if phone.slots[p.session] != 0 {
		t.Errorf("recalled to slot %d", phone.slots[p.session])
	}
	for _, c := range []struct {
		what          string
		slot, highest uint32
		slots         int
	}{
		{"the client does not know yet", 0, 0, 16},
		{"something is outstanding above", 0, 5, 16},
		{"the request is above itself", 3, 3, 16},
		{"the client knows", 0, 0, 1},
	} {
		got, s := p.send(c.slot, c.highest)
		b.want(s, wire.NFS4_OK)
		if n, _ := p.slots(); n != c.slots || got.Target != 1 || got.Slots != uint32(c.slots) {
			t.Errorf("%s: %d slots, told %d and %d", c.what, n, got.Slots, got.Target)
		}
	}
	_, s := p.send(15, 15)
	b.want(s, wire.NFS4ERR_BADSLOT)
	q, s := b.joinAsking("second", 16)
	b.want(s, wire.NFS4_OK)
	if n, _ := q.slots(); n != 15 {
		t.Errorf("the second has %d slots", n)
	}
	_, s = p.send(0, 15) // was under way over another connection when the slots went
	b.want(s, wire.NFS4_OK)
	_, s = p.send(0, 16)
	b.want(s, wire.NFS4ERR_BAD_HIGH_SLOT)
}

// A slot that comes back goes on where it was, or begins anew, as the client has it; what was kept for
// it is gone.
func TestSlotsComeBack(t *testing.T) {
	for _, from := range []uint32{0, 7} {
		t.Run(fmt.Sprintf("from %d", from), func(t *testing.T) {
			b, _ := newPhoneBench(t, tightCache)
			p, _ := b.joinAsking("p", 4)
			for range 7 {
				p.send(3, 3)
			}
			b.m.opt.Limits.ReplyCacheBytes = 4 * MaxCachedReplyBytes
			b.m.Lapsed()
			p.send(0, 0)
			p.send(0, 0)
			if n, _ := p.slots(); n != 1 {
				t.Fatalf("%d slots", n)
			}
			b.m.opt.Limits.ReplyCacheBytes = 64 * MaxCachedReplyBytes
			for i := range uint32(3) {
				p.send(i, i)
			}
			r := p.request(3) // once more what was the last before
			r.Sequence, r.Fingerprint = 7, 7
			var tk Ticket
			if v, s := b.m.Sequence(r, &tk); v != Refused || s != wire.NFS4ERR_SEQ_MISORDERED {
				t.Errorf("an old request: verdict %d, %v", v, s)
			}
			p.seq[3] = from
			first, s := p.send(3, 3)
			b.want(s, wire.NFS4_OK)
			if second, _ := p.send(3, 3); first.Restarted != (from == 0) || second.Restarted {
				t.Errorf("begins anew: %v, then %v", first.Restarted, second.Restarted)
			}
		})
	}
}

// Clients that obey, and lose replies, never lose what was kept for them, whatever is recalled from
// them in between.
func TestNoReplyIsLostWithItsSlot(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	b, _ := newPhoneBench(t, tightCache)
	p, _ := b.joinAsking("p", 16)
	var others []*peer
	lost := map[uint32]*SequenceRequest{} // executed, and the client has no reply yet
	target := uint32(16)
	for step := range 20000 {
		switch slot := rnd.Uint32N(target); {
		case rnd.IntN(50) == 0:
			if q, s := b.joinAsking(fmt.Sprint("other ", step), 16); s == wire.NFS4_OK {
				others = append(others, q)
			}
			b.m.Lapsed()
		case rnd.IntN(50) == 0 && len(others) > 0:
			b.want(b.m.DestroySession(others[0].session, nil), wire.NFS4_OK)
			others = others[1:]
		case len(lost) > 0 && rnd.IntN(3) == 0:
			for slot, r := range lost {
				var tk Ticket
				v, s := b.m.Sequence(r, &tk)
				if v != Replayed || string(tk.Reply) != fmt.Sprint(slot, r.Sequence) {
					t.Fatalf("step %d: slot %d: verdict %d, %v, %q", step, slot, v, s, tk.Reply)
				}
				delete(lost, slot)
				target = tk.Target
				break
			}
		case lost[slot] == nil:
			highest := slot
			for used := range lost {
				highest = max(highest, used)
			}
			r := p.request(slot)
			r.Highest, r.CacheThis = highest, true
			var tk Ticket
			if v, s := b.m.Sequence(r, &tk); v != Execute {
				t.Fatalf("step %d: slot %d of %d: %v", step, slot, target, s)
			}
			p.seq[slot]++
			told := tk.Target
			b.m.Finish(&tk, fmt.Append(nil, fmt.Sprint(slot, r.Sequence)), false)
			if rnd.IntN(4) == 0 {
				lost[slot] = r
				break
			}
			target = told
		}
	}
}
