package state

import (
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

func TestCreateSessionSequence(t *testing.T) {
	b := newBench(t, nil)
	ex := b.exchange("owner", 1, 1)
	if ex.Sequence != 1 || ex.Confirmed {
		t.Fatalf("got %+v", ex)
	}
	for _, c := range []struct {
		name string
		req  *CreateSessionRequest
		want wire.Status
	}{
		{"no such client", b.createArgs(ex.ClientID+1, 1, 1), wire.NFS4ERR_STALE_CLIENTID},
		{"a retry of nothing", b.createArgs(ex.ClientID, 0, 1), wire.NFS4ERR_SEQ_MISORDERED},
		{"too early", b.createArgs(ex.ClientID, 2, 1), wire.NFS4ERR_SEQ_MISORDERED},
		{"another principal", b.createArgs(ex.ClientID, 1, 2), wire.NFS4ERR_CLID_INUSE},
	} {
		_, s := b.create(c.req)
		if s != c.want {
			t.Errorf("%s: got %v, want %v", c.name, s, c.want)
		}
	}
	first, s := b.create(b.createArgs(ex.ClientID, 1, 1))
	b.want(s, wire.NFS4_OK)
	again, s := b.create(b.createArgs(ex.ClientID, 1, 2))
	b.want(s, wire.NFS4_OK)
	if !again.Replayed || first.Replayed {
		t.Errorf("replayed: %v, then %v", first.Replayed, again.Replayed)
	}
	again.Replayed = false
	if again != first {
		t.Errorf("a retry got %+v, not %+v", again, first)
	}
	second, s := b.create(b.createArgs(ex.ClientID, 2, 2)) // confirmed: any principal may
	b.want(s, wire.NFS4_OK)
	if second.Session == first.Session || second.Sequence != 2 {
		t.Errorf("got %+v after %+v", second, first)
	}
	_, s = b.create(b.createArgs(ex.ClientID, 1, 1))
	b.want(s, wire.NFS4ERR_SEQ_MISORDERED)
	if ex = b.exchange("owner", 1, 1); ex.Sequence != 3 || !ex.Confirmed {
		t.Errorf("got %+v", ex)
	}
}

// A CREATE_SESSION that fails takes its sequence id, unless the client is to send it again, or somebody else has sent it. As
// nothing came of it, it may be sent again in any case.
func TestFailedCreateSessionTakesItsPlace(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func(r *CreateSessionRequest, l *Limits)
		want wire.Status
		took bool
	}{
		{"too many sessions", func(_ *CreateSessionRequest, l *Limits) { l.SessionsPerClient = 1 }, wire.NFS4ERR_NOSPC, true},
		{"no room for replies", func(_ *CreateSessionRequest, l *Limits) { l.ReplyCacheBytes, l.Slots = 8*4096, 128 }, wire.NFS4ERR_NOSPC, true},
		{"too small", func(r *CreateSessionRequest, _ *Limits) { r.Fore.MaxRequests = 0 }, wire.NFS4ERR_TOOSMALL, true},
		{"not now", func(_ *CreateSessionRequest, l *Limits) { l.ReplyCacheBytes, l.Slots = 8*4096, 16 }, wire.NFS4ERR_DELAY, false},
		{"another identity", func(r *CreateSessionRequest, _ *Limits) { r.Principal.Identity = "x" }, wire.NFS4ERR_CLID_INUSE, false},
	} {
		for _, next := range []uint32{2, 3} {
			b := newBench(t, nil)
			ex := b.exchange("owner", 1, 0)
			_, s := b.create(b.createArgs(ex.ClientID, 1, 0))
			b.want(s, wire.NFS4_OK)
			was := b.m.opt.Limits
			r := b.createArgs(ex.ClientID, 2, 0)
			c.fail(r, &b.m.opt.Limits)
			_, s = b.create(r)
			b.want(s, c.want)
			b.m.opt.Limits = was
			want := wire.NFS4_OK
			if next == 3 && !c.took {
				want = wire.NFS4ERR_SEQ_MISORDERED
			}
			if res, s := b.create(b.createArgs(ex.ClientID, next, 0)); s != want || res.Replayed {
				t.Errorf("%s, then %d: %v, want %v", c.name, next, s, want)
			}
		}
	}
}

// Nothing can be obtained before the record is said to be stored.
func TestRecordComesBeforeState(t *testing.T) {
	b := newBench(t, nil)
	ex := b.exchange("owner", 3, 5)
	res, s := b.create(b.createArgs(ex.ClientID, 1, 5))
	b.want(s, wire.NFS4_OK)
	p := &peer{b: b, id: ex.ClientID, session: res.Session, seq: make([]uint32, 8)}
	for range 2 {
		p.do(func(tk *Ticket) {
			record, s := b.m.ReclaimComplete(tk)
			b.want(s, wire.NFS4_OK)
			if record == nil || record.Owner != "owner" || record.Verifier != verifier(3) || record.Principal != principal(5) {
				t.Fatalf("record is %+v", record)
			}
		})
		_, s := p.open(File{1, 1}, "o", 1, 0)
		b.want(s, wire.NFS4ERR_GRACE)
	}
	b.want(p.complete(), wire.NFS4_OK)
	p.mustOpen(File{1, 1}, "o", 1, 0)
}

func TestChannelNegotiation(t *testing.T) {
	b := newBench(t, nil)
	ex := b.exchange("owner", 1, 0)
	tooSmall := func(change func(*CreateSessionRequest)) {
		t.Helper()
		req := b.createArgs(ex.ClientID, 1, 0)
		change(req)
		_, s := b.create(req)
		b.want(s, wire.NFS4ERR_TOOSMALL)
	}
	tooSmall(func(r *CreateSessionRequest) { r.Fore.MaxRequestBytes = 20 })
	tooSmall(func(r *CreateSessionRequest) { r.Fore.MaxResponseBytes = 0 })
	tooSmall(func(r *CreateSessionRequest) { r.Fore.MaxOperations = 1 })
	tooSmall(func(r *CreateSessionRequest) { r.Fore.MaxRequests = 0 })
	tooSmall(func(r *CreateSessionRequest) { r.Back.MaxRequestBytes = 10 })

	req := b.createArgs(ex.ClientID, 1, 0)
	req.Fore = Channel{MaxRequestBytes: 1 << 30, MaxResponseBytes: 1 << 30, MaxCachedBytes: 1 << 30,
		MaxOperations: 1 << 30, MaxRequests: 1 << 30}
	res, s := b.create(req)
	b.want(s, wire.NFS4_OK)
	want := Channel{MaxRequestBytes: 1 << 20, MaxResponseBytes: 1 << 20, MaxCachedBytes: MaxCachedReplyBytes,
		MaxOperations: 64, MaxRequests: 64}
	if res.Fore != want {
		t.Errorf("granted %+v, want %+v", res.Fore, want)
	}
}

func TestReplyCacheIsBounded(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Limits.ReplyCacheBytes = 10 * 4096; o.Limits.SessionsPerClient = 3 })
	ex := b.exchange("owner", 1, 0)
	first, s := b.create(b.createArgs(ex.ClientID, 1, 0))
	b.want(s, wire.NFS4_OK)
	second, s := b.create(b.createArgs(ex.ClientID, 2, 0))
	b.want(s, wire.NFS4_OK)
	if first.Fore.MaxRequests != 8 || second.Fore.MaxRequests != 2 {
		t.Errorf("slots: %d and %d, want 8 and what is left, 2", first.Fore.MaxRequests, second.Fore.MaxRequests)
	}
	_, s = b.create(b.createArgs(ex.ClientID, 3, 0))
	b.want(s, wire.NFS4ERR_DELAY) // the first is to give some of its slots back
	b.m.sessions[first.Session].target = 8
	b.m.opt.Limits.Slots = 16 * 8 // as many as it may have
	_, s = b.create(b.createArgs(ex.ClientID, 3, 0))
	b.want(s, wire.NFS4ERR_NOSPC)
	b.m.opt.Limits.Slots = 64
	b.want(b.m.DestroySession(first.Session, nil), wire.NFS4_OK)
	_, s = b.create(b.createArgs(ex.ClientID, 3, 0))
	b.want(s, wire.NFS4_OK)
	b.m.opt.Limits.ReplyCacheBytes = 1 << 20
	_, s = b.create(b.createArgs(ex.ClientID, 4, 0))
	b.want(s, wire.NFS4_OK)
	_, s = b.create(b.createArgs(ex.ClientID, 5, 0))
	b.want(s, wire.NFS4ERR_NOSPC) // three sessions are there
}

func TestDestroySession(t *testing.T) {
	b := newBench(t, nil)
	p := b.join("owner", false)
	b.want(b.m.DestroySession(wire.SessionID{1}, nil), wire.NFS4ERR_BADSESSION)
	if !b.m.KnowsSession(p.session) || b.m.KnowsSession(wire.SessionID{1}) {
		t.Error("KnowsSession does not")
	}
	var own, other Ticket
	req := p.request(1)
	if v, _ := b.m.Sequence(req, &other); v != Execute {
		t.Fatal("not executed")
	}
	if v, _ := b.m.Sequence(p.request(0), &own); v != Execute {
		t.Fatal("not executed")
	}
	b.want(b.m.DestroySession(p.session, &own), wire.NFS4ERR_DELAY)
	b.m.Finish(&other, nil, false)
	b.want(b.m.DestroySession(p.session, nil), wire.NFS4ERR_DELAY)
	b.want(b.m.DestroySession(p.session, &own), wire.NFS4_OK)
	b.m.Finish(&own, []byte("ok"), false)
	_, s := b.m.Sequence(p.request(0), &own)
	b.want(s, wire.NFS4ERR_BADSESSION)
	if b.m.Stats().CacheBytes != 0 {
		t.Error("the reply cache was not given back")
	}
}

func TestSequenceRules(t *testing.T) {
	b := newBench(t, nil)
	p := b.join("owner", false)
	p.do(func(*Ticket) {})
	base := p.seq[0]
	for _, c := range []struct {
		name   string
		change func(*SequenceRequest)
		want   wire.Status
	}{
		{"no such session", func(r *SequenceRequest) { r.Session[15] ^= 1 }, wire.NFS4ERR_BADSESSION},
		{"no such slot", func(r *SequenceRequest) { r.Slot, r.Highest = 8, 8 }, wire.NFS4ERR_BADSLOT},
		{"slot far away", func(r *SequenceRequest) { r.Slot = 1 << 31 }, wire.NFS4ERR_BADSLOT},
		{"highest slot", func(r *SequenceRequest) { r.Highest = 8 }, wire.NFS4ERR_BAD_HIGH_SLOT},
		{"ahead", func(r *SequenceRequest) { r.Sequence++ }, wire.NFS4ERR_SEQ_MISORDERED},
		{"behind", func(r *SequenceRequest) { r.Sequence -= 2 }, wire.NFS4ERR_SEQ_MISORDERED},
		{"retry of nothing", func(r *SequenceRequest) { r.Slot, r.Sequence = 5, 0 }, wire.NFS4ERR_SEQ_MISORDERED},
		{"request too big", func(r *SequenceRequest) { r.RequestBytes = 1<<20 + 1 }, wire.NFS4ERR_REQ_TOO_BIG},
		{"too many operations", func(r *SequenceRequest) { r.Operations = 65 }, wire.NFS4ERR_TOO_MANY_OPS},
		{"reply too big", func(r *SequenceRequest) { r.ReplyBytes = 1<<20 + 1 }, wire.NFS4ERR_REP_TOO_BIG},
		{"reply too big to cache", func(r *SequenceRequest) { r.ReplyBytes, r.CacheThis = 4097, true },
			wire.NFS4ERR_REP_TOO_BIG_TO_CACHE},
	} {
		req := p.request(0)
		c.change(req)
		var tk Ticket
		v, s := b.m.Sequence(req, &tk)
		if v != Refused || s != c.want {
			t.Errorf("%s: got verdict %d, %v; want %v", c.name, v, s, c.want)
		}
		if p.seq[0] != base || b.m.sessions[p.session].slots[0].sequence != base {
			t.Errorf("%s: the slot moved", c.name)
		}
	}
	p.do(func(*Ticket) {}) // none of it did harm
}

func TestExactlyOnce(t *testing.T) {
	for _, c := range []struct {
		name      string
		cacheThis bool
		solo      bool
		failed    bool
		reply     int // bytes
		verdict   Verdict
	}{
		{"asked to be kept", true, false, false, 300, Replayed},
		{"not asked", false, false, false, 300, Uncached},
		{"SEQUENCE alone", false, true, false, 60, Replayed},
		{"a failure", false, false, true, 60, Replayed},
		{"a failure that is too long", false, false, true, 4097, Uncached},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, nil)
			p := b.join("owner", false)
			req := p.request(3)
			req.CacheThis = c.cacheThis
			if c.solo {
				req.Operations = 1
			}
			var tk, retry Ticket
			if v, s := b.m.Sequence(req, &tk); v != Execute {
				t.Fatal(v, s)
			}
			v, s := b.m.Sequence(req, &retry)
			if v != Refused || s != wire.NFS4ERR_DELAY {
				t.Fatalf("a retry of what is being executed: verdict %d, %v", v, s)
			}
			next := *req
			next.Sequence++
			_, s = b.m.Sequence(&next, &retry)
			b.want(s, wire.NFS4ERR_SEQ_MISORDERED)

			reply := make([]byte, c.reply)
			reply[0] = 42
			b.m.Finish(&tk, reply, c.failed)
			reply[0] = 0 // the machine has a copy
			for range 3 {
				v, s = b.m.Sequence(req, &retry)
				if v != c.verdict || s != wire.NFS4_OK {
					t.Fatalf("retry: verdict %d, %v; want %d", v, s, c.verdict)
				}
				if v == Replayed && (len(retry.Reply) != c.reply || retry.Reply[0] != 42) {
					t.Fatalf("reply of %d bytes: %x", len(retry.Reply), retry.Reply)
				}
			}
			other := *req
			other.Fingerprint ^= 1
			_, s = b.m.Sequence(&other, &retry)
			b.want(s, wire.NFS4ERR_SEQ_FALSE_RETRY)
			if v, _ = b.m.Sequence(&next, &retry); v != Execute {
				t.Error("the slot does not go on")
			}
			b.m.Finish(&retry, nil, false)
		})
	}
}

func TestSequenceNumbersWrap(t *testing.T) {
	b := newBench(t, nil)
	p := b.join("owner", false)
	b.m.sessions[p.session].slots[0].sequence = ^uint32(0)
	p.seq[0] = ^uint32(0)
	p.do(func(*Ticket) {})
	if p.seq[0] != 0 {
		t.Fatalf("at %d", p.seq[0])
	}
	p.do(func(*Ticket) {})
}

func TestSequenceAllocatesNothing(t *testing.T) {
	b := newBench(t, nil)
	p := b.join("owner", false)
	var tk Ticket
	req := p.request(0)
	n := testing.AllocsPerRun(100, func() {
		if v, s := b.m.Sequence(req, &tk); v != Execute {
			t.Fatal(v, s)
		}
		b.m.Finish(&tk, nil, false)
		req.Sequence++
	})
	if n != 0 {
		t.Errorf("%v allocations a request", n)
	}
}
