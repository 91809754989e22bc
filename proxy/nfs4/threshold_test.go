package nfs4_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// Who may not mount sees a directory where the root would be, learns nothing from it, and can do nothing with it.
func TestThreshold(t *testing.T) {
	r := newRig(t, nil)
	owner := r.newSession("c")
	h, id := owner.makeFile("f", 0o640)
	owner.ok(putRoot, setAttr(wire.AnonymousStateid, withMode(0o751)))
	root := last[wire.GetFHRes](t, owner.ok(putRoot, getFH)).Handle
	writes := r.fs.writes.Load()

	b := r.s.Bind(nfs4.ConnInfo{Grant: nfs4.Grant{Write: true, Root: true}})
	s := owner.on(b)
	for _, put := range []call{putRoot, {op: wire.OP_PUTPUBFH}} {
		a := s.ok(put, getFH, getAttr(wire.FATTR4_TYPE, wire.FATTR4_MODE, wire.FATTR4_FILEID, wire.FATTR4_SPACE_FREE, wire.FATTR4_FILEHANDLE),
			noName(wire.SECINFO_STYLE4_CURRENT_FH))
		got := at[wire.GetAttrRes](t, a, 3).Attrs
		if want := wire.BitmapOf(wire.FATTR4_TYPE, wire.FATTR4_MODE, wire.FATTR4_FILEID); got.Mask != want ||
			got.Type != wire.NF4DIR || got.Mode != 0 || got.FileID != 1 {
			t.Errorf("attributes %+v", got)
		}
		handle := at[wire.GetFHRes](t, a, 2).Handle
		if bytes.Equal(handle, root) {
			t.Error("the root's handle was given away")
		}
		s.fails(wire.NFS4ERR_ACCESS, putFH(handle))
		entitled := s.on(r.b)
		entitled.fails(wire.NFS4ERR_STALE, putFH(handle))
		s.seq = entitled.seq
	}
	s.fails(wire.NFS4ERR_NOENT, putRoot, noName(wire.SECINFO_STYLE4_PARENT))
	s.fails(wire.NFS4ERR_NOFILEHANDLE, putRoot, noName(wire.SECINFO_STYLE4_CURRENT_FH), getFH)
	for _, op := range []call{
		lookup("f"), lookupP, saveFH, readdir(0, 100, 1000, wire.FATTR4_TYPE), access(0x3f), secinfo("f"), readLink, putFH(h),
		open("f", forRead), create("g", 0o600), mkdir("d", 0o700), remove("f"), write(wire.AnonymousStateid, 0, "y"),
		read(wire.AnonymousStateid, 0, 1), commit(0), setAttr(wire.AnonymousStateid, withMode(0)), write(id, 0, "y"),
	} {
		s.fails(wire.NFS4ERR_ACCESS, putRoot, op)
	}
	if r.fs.creates.Load() != 1 || r.fs.removes.Load() != 0 || r.fs.writes.Load() != writes {
		t.Errorf("something was changed: %+v", r.fs)
	}

	b.SetGrant(everything)
	s.ok(putRoot, lookup("f"), getAttr(wire.FATTR4_TYPE))
}

// Minor version 0 has no session.
// Clients that may not mount do not keep out those who may: a part of the client ids is for them, and one session each.
func TestThresholdClientsAreBounded(t *testing.T) {
	r := newRig(t, func(o *nfs4.Options) { o.Limits.Clients = 8 })
	outside := r.s.Bind(nfs4.ConnInfo{})
	do := func(minor uint32, ops ...call) *answer {
		return handle(outside, sysAuth(0, 0), encodeCompound("", minor, ops...))
	}
	session := func(id wire.ClientID, sequence uint32) call {
		return call{wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ClientID: id, SequenceID: sequence, Fore: wide, Back: wide}}
	}
	first := last[wire.ExchangeIDRes](t, do(1, exchangeID("first")))
	wantStatus(t, do(1, session(first.ClientID, 1)), wire.NFS4_OK)
	wantStatus(t, do(1, session(first.ClientID, 2)), wire.NFS4ERR_NOSPC)
	old := last[wire.SetClientIDRes](t, do(0, setClientID("second", 1)))
	wantStatus(t, do(0, confirmClientID(old)), wire.NFS4_OK)
	wantStatus(t, do(1, exchangeID("third")), wire.NFS4ERR_DELAY)
	wantStatus(t, do(0, setClientID("third", 1)), wire.NFS4ERR_DELAY)
	for i := range 6 {
		r.newSession(fmt.Sprint("inside ", i))
	}
	wantStatus(t, r.raw(exchangeID("one more")), wire.NFS4ERR_DELAY)

	// Who is let in later is one of the others.
	wantStatus(t, r.raw(session(first.ClientID, 3)), wire.NFS4_OK)
	r.now = r.now.Add(testLease + time.Second)
	wantStatus(t, do(1, exchangeID("third")), wire.NFS4_OK) // in the place of the second, which was silent
}

// Who may not mount any more can neither close a file nor give a lock back. However often it is heard of, others have what it holds
// when its lease is over; if nobody wanted it, it is there when the client may mount again.
func TestThresholdDoesNotRenewLeases(t *testing.T) {
	r := newRig(t, nil)
	rest := func(renew ...func()) {
		for range 4 {
			r.now = r.now.Add(testLease / 3)
			for _, f := range renew {
				f()
			}
		}
	}
	inside := r.newSession("inside")
	h, id := inside.makeFile("f", 0o666)

	b := r.s.Bind(nfs4.ConnInfo{Grant: everything})
	s := inside.r.newSession("was inside").on(b)
	open := at[wire.OpenRes](t, s.ok(putRoot, open("f", forBoth)), 2).Stateid
	held := last[wire.StateidRes](t, s.ok(putFH(h), lockFor(open, wire.WRITE_LT))).Stateid
	b.SetGrant(nfs4.Grant{})
	s.fails(wire.NFS4ERR_ACCESS, putFH(h))
	rest(func() { s.ok() }, func() { inside.ok() })
	b.SetGrant(everything)
	s.ok(putFH(h), write(held, 0, "x"))
	inside.fails(wire.NFS4ERR_DENIED, putFH(h), lockFor(id, wire.WRITE_LT))
	b.SetGrant(nfs4.Grant{})
	rest(func() { s.ok() }, func() { inside.ok() })
	mine := last[wire.StateidRes](t, inside.ok(putFH(h), lockFor(id, wire.WRITE_LT))).Stateid
	s.fails0(wire.NFS4ERR_BADSESSION)
	mine = last[wire.StateidRes](t, inside.ok(putFH(h), call{wire.OP_LOCKU, &wire.LockUArgs{Type: wire.WRITE_LT, Stateid: mine, Length: 10}})).Stateid

	o := r.newOld("old")
	o.r = &rig{t: t, b: b}
	b.SetGrant(everything)
	renew := call{wire.OP_RENEW, &wire.RenewArgs{ClientID: o.id}}
	opened := o.confirm(h, last[wire.OpenRes](t, o.ok(putRoot, o.opens("f", forBoth, nil))).Stateid)
	o.ok(putFH(h), o.locks(opened, "l", 1, 0, 10))
	b.SetGrant(nfs4.Grant{})
	rest(func() { o.ok(renew) }, func() { inside.ok() })
	inside.ok(putFH(h), call{wire.OP_LOCK, &wire.LockArgs{Type: wire.WRITE_LT, Length: 10, LockStateid: mine}})
	o.fails(wire.NFS4ERR_EXPIRED, renew)
}

func TestThresholdOfOldClients(t *testing.T) {
	r := newRig(t, nil)
	o := r.newOld("c")
	o.r.b.SetGrant(nfs4.Grant{})
	o.ok(putRoot, getFH, getAttr(wire.FATTR4_TYPE))
	o.fails(wire.NFS4ERR_ACCESS, putRoot, lookup("f"))
	o.fails(wire.NFS4ERR_ACCESS, putRoot, saveFH)
	o.fails(wire.NFS4ERR_ACCESS, putRoot, o.opens("f", forRead, creating))
}
