package state

import (
	"testing"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// old makes a confirmed client of minor version 0.
func (b *bench) old(id string) wire.ClientID {
	b.Helper()
	r := SetClientIDRequest{ID: []byte(id), Verifier: verifier(1), Principal: principal(0)}
	res, _, s := b.m.SetClientID(&r)
	b.want(s, wire.NFS4_OK)
	_, s = b.m.ConfirmClientID(res.ClientID, res.Confirm, r.Principal)
	b.want(s, wire.NFS4_OK)
	b.m.Recorded(res.ClientID)
	_, s = b.m.ConfirmClientID(res.ClientID, res.Confirm, r.Principal)
	b.want(s, wire.NFS4_OK)
	return res.ClientID
}

// Who may not mount does not pass for a client that was started anew: what that one has would go. When it has nothing, or its lease has
// run out, and for a client that is only connected anew, it is as for anybody.
func TestGuestTakesNothingAway(t *testing.T) {
	for _, c := range []struct {
		name     string
		verifier byte
		prepare  func(b *bench)
		want     wire.Status
	}{
		{"started anew", 2, func(*bench) {}, wire.NFS4ERR_CLID_INUSE},
		{"connected anew", 1, func(*bench) {}, wire.NFS4_OK},
		{"after its lease", 2, func(b *bench) { b.advance(testLease + 1) }, wire.NFS4_OK},
	} {
		b := newBench(t, nil)
		p := b.join("c", false)
		p.mustOpen(File{1, 1}, "o", 3, 0)
		var tk Ticket
		var turn Turn
		_, s := b.m.BeginOpen(b.old("c"), []byte("o"), &SeqidRequest{Seqid: 1}, &tk, &turn)
		b.want(s, wire.NFS4_OK)
		_, _, s = b.m.Open(&tk, &OpenRequest{File: File{2, 1}, Owner: []byte("o"), Access: 3})
		b.want(s, wire.NFS4_OK)
		b.holds[File{2, 1}]++
		b.m.End(&tk, &turn, s, nil, File{2, 1})
		c.prepare(b)

		_, victim, s := b.m.ExchangeID(&ExchangeIDRequest{Owner: []byte("c"), Verifier: verifier(c.verifier), Principal: principal(0), Guest: true})
		if s != c.want || (victim != 0) != (c.name == "after its lease") {
			t.Errorf("%s: EXCHANGE_ID: victim %x, %v", c.name, victim, s)
		}
		_, victim, s = b.m.SetClientID(&SetClientIDRequest{ID: []byte("c"), Verifier: verifier(c.verifier), Principal: principal(0), Guest: true})
		if s != c.want || (victim != 0) != (c.name == "after its lease") {
			t.Errorf("%s: SETCLIENTID: victim %x, %v", c.name, victim, s)
		}
	}
}

// Owners are remembered for a while, whatever became of their requests: of all clients together as many as may have files open.
func TestOwnersAreBounded(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Limits.Opens = 3 })
	c, d := b.old("c"), b.old("d")
	open := func(id wire.ClientID, owner string, want wire.Status) {
		t.Helper()
		var tk Ticket
		var turn Turn
		v, s := b.m.BeginOpen(id, []byte(owner), &SeqidRequest{Seqid: 1, Fingerprint: uint64(b.now.UnixNano())}, &tk, &turn)
		if b.want(s, want); v == Execute {
			b.m.End(&tk, &turn, wire.NFS4ERR_NOENT, nil, File{})
		}
	}
	open(c, "1", wire.NFS4_OK)
	open(c, "2", wire.NFS4_OK)
	open(d, "1", wire.NFS4_OK)
	open(d, "2", wire.NFS4ERR_RESOURCE)
	b.advance(1)
	open(d, "1", wire.NFS4_OK)
	b.advance(testLease)
	b.m.Lapsed()
	open(d, "1", wire.NFS4_OK) // it was not silent for a lease
	open(d, "2", wire.NFS4_OK)
	open(d, "3", wire.NFS4_OK)
	open(c, "1", wire.NFS4ERR_RESOURCE)
	b.advance(testLease + 1)
	b.bury(d)
	open(b.old("c"), "1", wire.NFS4_OK)
	if b.m.owners40 != 1 {
		t.Errorf("%d owners are counted", b.m.owners40)
	}
}
