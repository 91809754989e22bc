package state

import (
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// newAway is a bench after a recovery phase that the client "away" has missed, with one that was there.
func newAway(t *testing.T) (b *bench, here *peer) {
	b = newBench(t, known("away", "here", "too"))
	here = b.join("here", false)
	b.advance(testGrace)
	b.m.LostClients()
	if !b.m.EndGrace() {
		t.Fatal("the recovery phase does not end")
	}
	return b, here
}

// reclaimAs reclaims an open and, if lock, a lock.
func (p *peer) reclaimAs(f File, access, deny uint32, lock bool) (open, locked wire.Status) {
	p.do(func(t *Ticket) {
		var res OpenResult
		res, _, open = p.b.m.Open(t, &OpenRequest{File: f, Owner: []byte("o"), Access: access, Deny: deny, Reclaim: true})
		if res.New {
			p.b.holds[f]++
		}
		if open == wire.NFS4_OK && lock {
			_, _, _, locked = p.b.m.Lock(t, &LockRequest{File: f, Write: true, Length: 5, Reclaim: true, NewOwner: true, Stateid: res.Stateid})
		}
	})
	return open, locked
}

// What others have had of a file, and given back, against what is reclaimed of it.
func TestAbsentClaims(t *testing.T) {
	f := File{1, 1}
	opened := func(access, deny uint32) func(*bench, *peer) {
		return func(b *bench, p *peer) { b.want(p.close(p.mustOpen(f, "o", access, deny), f), wire.NFS4_OK) }
	}
	for _, c := range []struct {
		name         string
		meanwhile    func(b *bench, here *peer)
		access, deny uint32
		open, locked wire.Status
	}{
		{"nothing", func(*bench, *peer) {}, 3, 3, wire.NFS4_OK, wire.NFS4_OK},
		{"read", opened(1, 0), 3, 2, wire.NFS4_OK, wire.NFS4_OK},
		{"read, against denied", opened(1, 0), 3, 1, wire.NFS4ERR_NO_GRACE, 0},
		{"denied, against read", opened(2, 1), 3, 0, wire.NFS4ERR_NO_GRACE, 0},
		{"another file", func(b *bench, p *peer) { p.mustOpen(File{2, 1}, "o", 3, 3) }, 3, 3, wire.NFS4_OK, wire.NFS4_OK},
		{"locked", func(b *bench, p *peer) {
			id := p.mustOpen(f, "o", 3, 0)
			p.lock(id, f, "l", 100, 1, false)
			p.close(id, f)
		}, 3, 0, wire.NFS4_OK, wire.NFS4ERR_NO_GRACE},
		{"written without a stateid", func(b *bench, p *peer) { b.want(b.m.CheckAnonymous(f, true, false), wire.NFS4_OK) },
			3, 2, wire.NFS4ERR_NO_GRACE, 0},
		{"read without a stateid", func(b *bench, p *peer) { b.want(b.m.CheckAnonymous(f, false, true), wire.NFS4_OK) },
			3, 2, wire.NFS4_OK, wire.NFS4_OK},
		{"reclaimed by another that was away", func(b *bench, p *peer) {
			too := b.join("too", true)
			open, locked := too.reclaimAs(f, 1, 0, true)
			b.want(open, wire.NFS4_OK)
			b.want(locked, wire.NFS4ERR_OPENMODE)
			b.want(too.complete(), wire.NFS4_OK)
		}, 3, 0, wire.NFS4_OK, wire.NFS4_OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, here := newAway(t)
			c.meanwhile(b, here)
			open, locked := b.join("away", true).reclaimAs(f, c.access, c.deny, true)
			if open != c.open || locked != c.locked {
				t.Errorf("open %v, lock %v; want %v, %v", open, locked, c.open, c.locked)
			}
		})
	}
}

// What ends a claim besides.
func TestAbsentClaimsEnd(t *testing.T) {
	f := File{1, 1}
	for _, c := range []struct {
		name string
		end  func(b *bench, here *peer)
		want wire.Status
	}{
		{"nothing", func(*bench, *peer) {}, wire.NFS4_OK},
		{"time", func(b *bench, _ *peer) {
			b.advance(courtesyLeases*testLease + 1)
			b.m.Lapsed()
		}, wire.NFS4ERR_NO_GRACE},
		{"too many files to remember", func(b *bench, _ *peer) {
			for i := range uint64(maxUses + 1) {
				b.want(b.m.CheckAnonymous(File{i + 2, 1}, true, false), wire.NFS4_OK)
			}
		}, wire.NFS4ERR_NO_GRACE},
		{"it came back and went away again", func(b *bench, here *peer) {
			p := b.join("away", true)
			b.advance(testLease + 1)
			here.do(func(*Ticket) {})
			b.bury(p.id)
		}, wire.NFS4ERR_NO_GRACE},
		{"it came back and was through", func(b *bench, _ *peer) { b.want(b.join("away", true).complete(), wire.NFS4_OK) }, wire.NFS4ERR_NO_GRACE},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, here := newAway(t)
			c.end(b, here)
			b.want(b.join("away", true).reclaim(f, "o"), c.want)
			b.want(b.join("stranger", true).reclaim(f, "o"), wire.NFS4ERR_NO_GRACE)
			if n := len(b.m.recovery.absent.uses); n > maxUses {
				t.Errorf("%d files are remembered", n)
			}
		})
	}
}

// Who had a delegation meanwhile has locked what it wanted by itself, and the server has not heard of it: a lock is not
// given back late then. An open that it shared is.
func TestAbsentLockOfADelegatedFile(t *testing.T) {
	f := File{1, 1}
	for _, access := range []uint32{1, 3} {
		b := newBench(t, func(o *Options) {
			known("away", "here")(o)
			o.Callbacks = new(phone)
		})
		here := b.joinUp("here")
		b.advance(testGrace)
		b.m.LostClients()
		b.m.EndGrace()
		res, s := here.openWith(&OpenRequest{File: f, Owner: []byte("o"), Access: access})
		b.want(s, wire.NFS4_OK)
		if res.Delegation.Stateid == (wire.Stateid{}) {
			t.Fatal("no delegation")
		}
		b.want(here.close(res.Stateid, f), wire.NFS4_OK)
		b.want(here.giveBack(res.Delegation.Stateid, f), wire.NFS4_OK)
		open, locked := b.join("away", true).reclaimAs(f, 3, 0, true)
		if open != wire.NFS4_OK || locked != wire.NFS4ERR_NO_GRACE {
			t.Errorf("opened with access %d meanwhile: open %v, lock %v", access, open, locked)
		}
	}
}

// A delegation is not given back late: what was cached under it may not be so any more.
func TestAbsentDelegation(t *testing.T) {
	b, _ := newAway(t)
	b.join("away", true).do(func(tk *Ticket) {
		r := OpenRequest{File: File{1, 1}, Owner: []byte("o"), Access: 3, Reclaim: true}
		r.Wish.Reclaim = wire.OPEN_DELEGATE_WRITE
		res, _, s := b.m.Open(tk, &r)
		b.want(s, wire.NFS4_OK)
		b.holds[r.File]++
		if res.Delegation.Type != wire.OPEN_DELEGATE_NONE {
			t.Errorf("got %+v", res.Delegation)
		}
	})
}
