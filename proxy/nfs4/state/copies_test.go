package state

import (
	"slices"
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// copier is a client with two files open and a copy under way between them.
type copier struct {
	*peer
	from, to     File
	fromID, toID wire.Stateid
	id           wire.Stateid
}

func (b *bench) newCopier(owner string) *copier {
	b.Helper()
	c := &copier{peer: b.joinUp(owner), from: File{1, 1}, to: File{2, 1}}
	c.fromID, c.toID = c.mustOpen(c.from, "o", 1, 0), c.mustOpen(c.to, "o", 2, 0)
	id, s := c.begin()
	b.want(s, wire.NFS4_OK)
	c.id = id
	return c
}

func (c *copier) begin() (id wire.Stateid, s wire.Status) {
	c.do(func(t *Ticket) {
		id, s = c.b.m.BeginCopy(t, &CopyRequest{From: c.from, To: c.to, Source: c.fromID, Target: c.toID})
	})
	return id, s
}

// part moves n bytes.
func (c *copier) part(n uint64) wire.Status {
	s := c.b.m.EnterPart(&c.id)
	if s == wire.NFS4_OK {
		c.b.m.LeavePart(&c.id, n)
	}
	return s
}

// What stops a copy, and what its client is told.
func TestCopyStops(t *testing.T) {
	for _, c := range []struct {
		name   string
		stop   func(c *copier)
		want   wire.Status // of the next part
		copied uint64
		told   wire.Status
	}{
		{"nothing", func(*copier) {}, wire.NFS4_OK, 14, wire.NFS4_OK},
		{"the source is closed", func(c *copier) { c.close(c.fromID, c.from) }, wire.NFS4ERR_BAD_STATEID, 7, wire.NFS4_OK},
		{"the target is closed", func(c *copier) { c.close(c.toID, c.to) }, wire.NFS4ERR_BAD_STATEID, 7, wire.NFS4_OK},
		{"the source is opened once more", func(c *copier) { c.mustOpen(c.from, "o", 3, 0) }, wire.NFS4_OK, 14, wire.NFS4_OK},
		{"the lease runs out", func(c *copier) { c.b.advance(testLease + 1) }, wire.NFS4ERR_EXPIRED, 7, wire.NFS4_OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, phone := newPhoneBench(t, nil)
			cp := b.newCopier("a")
			b.want(cp.part(7), wire.NFS4_OK)
			c.stop(cp)
			s := cp.part(7)
			b.want(s, c.want)
			b.m.EndCopy(&cp.id, s)
			if len(phone.copied) != 1 {
				t.Fatalf("told %+v", phone.copied)
			}
			if got := phone.copied[0]; got.Client != cp.peer.id || got.Stateid != cp.id || got.File != cp.to ||
				got.Copied != c.copied || got.Status != c.told {
				t.Errorf("told %+v", got)
			}
			if n := b.m.Stats().Copies; n != 1 {
				t.Errorf("%d copies before it is acknowledged", n)
			}
			b.m.ToldOfCopy(&cp.id)
			if n := b.m.Stats().Copies; n != 0 {
				t.Errorf("%d copies afterwards", n)
			}
		})
	}
}

// While a part is moved, nobody else can have what its client holds, whatever its lease.
func TestCopyPartKeepsItsClient(t *testing.T) {
	b, phone := newPhoneBench(t, nil)
	c, other := b.newCopier("a"), b.join("b", false)
	b.want(b.m.EnterPart(&c.id), wire.NFS4_OK)
	b.advance(testLease + 1)
	if _, ok := b.m.Condemn(c.peer.id); ok {
		t.Fatal("condemned in the midst of a part")
	}
	ex := b.exchange("a", 2, 0) // it has started anew
	_, s := b.create(b.createArgs(ex.ClientID, ex.Sequence, 0))
	b.want(s, wire.NFS4ERR_DELAY)
	b.m.LeavePart(&c.id, 5)
	b.want(b.m.EnterPart(&c.id), wire.NFS4ERR_BAD_STATEID)
	other.do(func(*Ticket) {})
	b.bury(c.peer.id)
	if n := b.m.Stats().Copies; n != 0 {
		t.Errorf("%d copies of a client that is gone", n)
	}
	b.m.EndCopy(&c.id, wire.NFS4ERR_EXPIRED)
	if len(phone.copied) != 0 {
		t.Errorf("told %+v", phone.copied)
	}
}

// A delegation that was not returned in time is revoked when no part of a copy under it is being moved, and none is afterwards.
func TestCopyPartKeepsItsDelegation(t *testing.T) {
	for name, revoke := range map[string]func(*bench, *peer){
		"by the clock":    func(b *bench, _ *peer) { b.m.Lapsed() },
		"by another OPEN": func(b *bench, p *peer) { _, _ = p.open(File{3, 1}, "o", 3, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := newPhoneBench(t, nil)
			c, other := &copier{peer: b.joinUp("a"), from: File{2, 1}, to: File{3, 1}}, b.join("b", false)
			c.fromID, c.toID = c.mustOpen(c.from, "o", 1, 0), c.wish(c.to, "o", 3, 0).Stateid
			var s wire.Status
			c.id, s = c.begin()
			b.want(s, wire.NFS4_OK)
			_, s = other.open(c.to, "o", 3, 0)
			b.want(s, wire.NFS4ERR_DELAY)
			b.want(b.m.EnterPart(&c.id), wire.NFS4_OK)
			b.advance(testLease + 1)
			c.do(func(*Ticket) {})
			revoke(b, other)
			if n := b.m.Stats().Delegated.Revoked; n != 0 {
				t.Fatal("revoked in the midst of a part")
			}
			b.m.LeavePart(&c.id, 5)
			b.want(b.m.EnterPart(&c.id), wire.NFS4ERR_BAD_STATEID)
			revoke(b, other)
			if n := b.m.Stats().Delegated.Revoked; n != 1 {
				t.Errorf("%d delegations are revoked", n)
			}
		})
	}
}

// Who begins copies all the while under a delegation that should have been returned does not keep it with them.
func TestCopiesDoNotKeepADelegation(t *testing.T) {
	b, _ := newPhoneBench(t, nil)
	c, other := &copier{peer: b.joinUp("a"), from: File{2, 1}, to: File{3, 1}}, b.join("b", false)
	c.fromID, c.toID = c.mustOpen(c.from, "o", 1, 0), c.wish(c.to, "o", 3, 0).Stateid
	_, s := other.open(c.to, "o", 3, 0)
	b.want(s, wire.NFS4ERR_DELAY)
	began := func(want wire.Status) {
		t.Helper()
		c.id, s = c.begin()
		b.want(s, wire.NFS4_OK)
		b.want(b.m.EnterPart(&c.id), want)
	}
	began(wire.NFS4_OK)
	b.advance(testLease + 1)
	c.do(func(*Ticket) {})
	b.m.Lapsed()
	former := c.id
	began(wire.NFS4ERR_DELEG_REVOKED)
	b.m.LeavePart(&former, 5)
	_, s = other.open(c.to, "o", 3, 0)
	b.want(s, wire.NFS4_OK)
}

// CLOSE and DELEGRETURN take nothing away while a part is being moved that needs it, whenever its copy was begun.
func TestCopyPartKeepsItsStateid(t *testing.T) {
	for name, end := range map[string]func(m *Machine, t *Ticket, id *wire.Stateid, f File) ([]wire.Stateid, wire.Status){
		"CLOSE":       (*Machine).Close,
		"DELEGRETURN": (*Machine).Return,
	} {
		b, _ := newPhoneBench(t, nil)
		c := &copier{peer: b.joinUp("a"), from: File{2, 1}, to: File{3, 1}}
		c.fromID, c.toID = c.mustOpen(c.from, "o", 1, 0), c.mustOpen(c.to, "o", 2, 0)
		if name == "DELEGRETURN" {
			c.to = File{4, 1}
			c.toID = c.wish(c.to, "o", 3, 0).Stateid
		}
		ended := func(want ...wire.Stateid) {
			t.Helper()
			c.do(func(tk *Ticket) {
				moving, s := end(b.m, tk, &c.toID, c.to)
				b.want(s, wire.NFS4_OK)
				if !slices.Equal(moving, want) {
					t.Errorf("%s waits for %v, want %v", name, moving, want)
				}
			})
		}
		for range 2 {
			var s wire.Status
			c.id, s = c.begin()
			b.want(s, wire.NFS4_OK)
			b.want(b.m.EnterPart(&c.id), wire.NFS4_OK)
			ended(c.id)
			b.m.LeavePart(&c.id, 5)
			b.want(b.m.EnterPart(&c.id), wire.NFS4ERR_BAD_STATEID)
		}
		late, s := c.begin()
		b.want(s, wire.NFS4_OK)
		ended()
		b.want(b.m.EnterPart(&late), wire.NFS4ERR_BAD_STATEID)
	}
}

// A client that has started anew waits for a part, not for all of what its former incarnation has asked for. That ends when the new
// one is about to be confirmed, and not for somebody's EXCHANGE_ID (RFC 8881 §18.35.5).
func TestCopyEndsWithItsIncarnation(t *testing.T) {
	b, _ := newPhoneBench(t, nil)
	c := b.newCopier("a")
	b.want(b.m.EnterPart(&c.id), wire.NFS4_OK)
	ex := b.exchange("a", 2, 0)
	b.m.LeavePart(&c.id, 5)
	b.want(b.m.EnterPart(&c.id), wire.NFS4_OK)
	wrong := b.createArgs(ex.ClientID, ex.Sequence, 0)
	wrong.Fore.MaxRequests = 0
	_, s := b.create(wrong)
	b.want(s, wire.NFS4ERR_TOOSMALL)
	_, s = b.create(b.createArgs(ex.ClientID, ex.Sequence, 9))
	b.want(s, wire.NFS4ERR_CLID_INUSE)
	b.m.LeavePart(&c.id, 5)
	b.want(b.m.EnterPart(&c.id), wire.NFS4_OK)
	_, s = b.create(b.createArgs(ex.ClientID, ex.Sequence, 0))
	b.want(s, wire.NFS4ERR_DELAY)
	b.m.LeavePart(&c.id, 5)
	b.want(b.m.EnterPart(&c.id), wire.NFS4ERR_BAD_STATEID)
	_, s = b.create(b.createArgs(ex.ClientID, ex.Sequence, 0))
	b.want(s, wire.NFS4_OK)
}

func TestCopyCancelled(t *testing.T) {
	b, phone := newPhoneBench(t, nil)
	c, other := b.newCopier("a"), b.joinUp("b")
	cancel := func(p *peer) (s wire.Status) {
		p.do(func(t *Ticket) { s = b.m.CancelCopy(t, &c.id) })
		return s
	}
	b.want(cancel(other), wire.NFS4ERR_BAD_STATEID)
	b.want(b.m.EnterPart(&c.id), wire.NFS4_OK)
	b.want(cancel(c.peer), wire.NFS4_OK)
	b.want(cancel(c.peer), wire.NFS4ERR_BAD_STATEID)
	b.m.LeavePart(&c.id, 5)
	b.want(b.m.EnterPart(&c.id), wire.NFS4ERR_BAD_STATEID)
	b.m.EndCopy(&c.id, wire.NFS4ERR_BAD_STATEID)
	if len(phone.copied) != 0 || b.m.Stats().Copies != 0 {
		t.Errorf("told %+v, %d copies", phone.copied, b.m.Stats().Copies)
	}
}

// The bounds, and that what has ended makes room.
func TestCopyLimits(t *testing.T) {
	b, phone := newPhoneBench(t, func(o *Options) { o.Limits.Copies, o.Limits.CopiesPerClient = 3, 2 })
	c := b.newCopier("a")
	_, s := c.begin()
	b.want(s, wire.NFS4_OK)
	_, s = c.begin()
	b.want(s, wire.NFS4ERR_OFFLOAD_DENIED)
	d := b.newCopier("b")
	_, s = d.begin()
	b.want(s, wire.NFS4ERR_OFFLOAD_DENIED)
	b.m.EndCopy(&d.id, wire.NFS4ERR_IO)
	if len(phone.copied) != 1 || phone.copied[0].Status != wire.NFS4ERR_IO {
		t.Errorf("told %+v", phone.copied)
	}
	_, s = d.begin()
	b.want(s, wire.NFS4_OK)
	d.do(func(tk *Ticket) {
		_, s := b.m.CopyProgress(tk, &d.id)
		b.want(s, wire.NFS4ERR_BAD_STATEID)
	})

	b.m.SetBackchannel(c.session, BackDown)
	b.m.EndCopy(&c.id, wire.NFS4_OK)
	_, s = c.begin()
	b.want(s, wire.NFS4ERR_OFFLOAD_DENIED)
	b.m.SetBackchannel(c.session, BackUp)
	if n := len(phone.copied); n != 3 || phone.copied[2].Stateid != c.id {
		t.Errorf("told %+v", phone.copied)
	}
}

// A copy's stateid has no latest: one with seqid 0 is none.
func TestCopyStateidHasASeqid(t *testing.T) {
	b, _ := newPhoneBench(t, nil)
	c := b.newCopier("a")
	latest := wire.Stateid{Other: c.id.Other}
	c.do(func(tk *Ticket) {
		_, s := b.m.CopyProgress(tk, &latest)
		b.want(s, wire.NFS4ERR_BAD_STATEID)
		b.want(b.m.CancelCopy(tk, &latest), wire.NFS4ERR_BAD_STATEID)
		_, s = b.m.CopyProgress(tk, &c.id)
		b.want(s, wire.NFS4_OK)
	})
}
