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
