package nfs4_test

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// An operation that a delegation is in the way of goes on when that was given back, and sees what its holder has made of the file
// until then; its client does not have to come again.
func TestDelegationIsWaitedFor(t *testing.T) {
	anonymous := wire.AnonymousStateid
	masked := wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_MODE_SET_MASKED)}
	masked.ModeSetMasked.Mask = 0o700
	size := getAttr(wire.FATTR4_SIZE)
	for _, c := range []struct {
		name string
		ops  []call
		mode uint32 // afterwards
	}{
		{"open", []call{putRoot, open("f", forRead), size}, 0o644},
		{"read", []call{putRoot, lookup("f"), read(anonymous, 0, 5), size}, 0o644},
		{"write", []call{putRoot, lookup("f"), write(anonymous, 0, "x"), size}, 0o644},
		{"chmod", []call{putRoot, lookup("f"), {wire.OP_SETATTR, &wire.SetAttrArgs{Attrs: masked}}, size}, 0o066},
		{"link", []call{putRoot, lookup("f"), saveFH, putRoot, linkTo("g"), lookup("g"), size}, 0o644},
		{"rename", []call{putRoot, saveFH, rename("f", "g"), lookup("g"), size}, 0o644},
		{"set an extended attribute", []call{putRoot, lookup("f"), setXattr("x", "y", wire.SETXATTR4_EITHER), size}, 0o644},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 50 { // a holder that is slow here is not waited for
				if waitedFor(t, c.ops, c.mode) {
					return
				}
			}
			t.Error("the client had to come again each time")
		})
	}
}

// waitedFor does ops on a file f whose holder gives it back when it is asked; false says that the answer was NFS4ERR_DELAY.
func waitedFor(t *testing.T, ops []call, mode uint32) bool {
	r := newRig(t, nil)
	holder, client := r.newCalled("holder")
	other := r.newSession("other")
	h, got := holder.delegated("f", forBoth)
	other.minor, holder.minor = 2, 2
	answers := make(chan *answer, 1)
	go func() { answers <- other.do(ops...) }()
	recall := client.expect(wire.OP_CB_RECALL)
	holder.ok(putFH(h), write(recall.recall.Stateid, 5, " world"))
	if mode != 0o644 {
		holder.ok(putFH(h), setAttr(got.Stateid, withMode(0o666)))
	}
	holder.ok(putFH(h), closeFile(got.Stateid))
	holder.ok(putFH(h), giveBack(recall.recall.Stateid))
	a := <-answers
	if a.status == wire.NFS4ERR_DELAY {
		return false
	}
	wantStatus(t, a, wire.NFS4_OK)
	if got, want := r.s.Stats().RecallWaits, (nfs4.RecallStats{Cleared: 1}); got != want {
		t.Errorf("counted %+v", got)
	}
	if n := last[wire.GetAttrRes](t, a).Attrs.Size; n != 11 {
		t.Errorf("the size behind it is %d", n)
	}
	now := last[wire.GetAttrRes](t, holder.ok(putFH(h), getAttr(wire.FATTR4_MODE))).Attrs.Mode
	if now != mode {
		t.Errorf("the mode is %#o", now)
	}
	return true
}

// What denies others the file, and is told with the delegation that was waited for, holds for who waited.
func TestDeniedByWhoWasWaitedFor(t *testing.T) {
	anonymous := wire.AnonymousStateid
	for name, op := range map[string]call{"write": write(anonymous, 0, "x"), "truncate": setAttr(anonymous, withSize(0))} {
		t.Run(name, func(t *testing.T) {
			for range 50 { // a holder that is slow here is not waited for
				if deniedAfterWait(t, op) {
					return
				}
			}
			t.Error("the client had to come again each time")
		})
	}
}

func deniedAfterWait(t *testing.T, op call) bool {
	r := newRig(t, nil)
	holder, client := r.newCalled("holder")
	other := r.newSession("other")
	h, got := holder.delegated("f", forBoth)
	answers := make(chan *answer, 1)
	go func() { answers <- other.do(putFH(h), op) }()
	client.expect(wire.OP_CB_RECALL)
	own := openArgs("", forBoth)
	own.Claim, own.DelegateState, own.ShareDeny = wire.CLAIM_DELEG_CUR_FH, got.Delegation.Stateid, wire.OPEN4_SHARE_DENY_WRITE
	holder.ok(putFH(h), call{wire.OP_OPEN, own}, giveBack(got.Delegation.Stateid))
	a := <-answers
	if a.status == wire.NFS4ERR_DELAY {
		return false
	}
	wantStatus(t, a, wire.NFS4ERR_LOCKED)
	return true
}

// An OPEN that has waited for a delegation opens what the name stands for then, if its caller may.
func TestOpenLooksAgainWhenItHasWaited(t *testing.T) {
	emptying := create("f", 0o600)
	emptying.args.(*wire.OpenArgs).Attrs.Mask.Set(wire.FATTR4_SIZE)
	byHandle := openArgs("", forRead)
	byHandle.Claim = wire.CLAIM_FH
	ctx, root := context.Background(), &vfs.Cred{}
	var removed vfs.Attr
	remove := func(r *rig, _ *session, _ []byte) {
		if _, err := r.mem.Remove(ctx, root, r.mem.Root(), "f", &removed); err != nil {
			r.t.Fatal(err)
		}
	}
	replace := func(r *rig, _ *session, _ []byte) {
		if _, _, err := r.mem.Rename(ctx, root, r.mem.Root(), "other", r.mem.Root(), "f", &removed); err != nil {
			r.t.Fatal(err)
		}
	}
	away := func(_ *rig, holder *session, _ []byte) { holder.ok(putRoot, saveFH, rename("f", "g")) }
	shut := func(_ *rig, holder *session, h []byte) {
		holder.ok(putFH(h), setAttr(wire.AnonymousStateid, withMode(0o600)))
	}
	nothing := func(*rig, *session, []byte) {}
	for name, c := range map[string]struct {
		meanwhile func(r *rig, holder *session, h []byte)
		open      call
		want      wire.Status
		opens     string // what was there before by this name, or "" for a new file
		left      uint64 // bytes of the file that was delegated
	}{
		"nothing happened":           {nothing, open("f", forRead), wire.NFS4_OK, "f", 5},
		"emptied":                    {nothing, emptying, wire.NFS4_OK, "f", 0},
		"removed":                    {remove, open("f", forRead), wire.NFS4ERR_NOENT, "", 0},
		"removed, and made anew":     {remove, emptying, wire.NFS4_OK, "", 0},
		"replaced":                   {replace, open("f", forRead), wire.NFS4_OK, "other", 0},
		"replaced, and emptied":      {replace, emptying, wire.NFS4_OK, "other", 0},
		"renamed":                    {away, open("f", forRead), wire.NFS4ERR_NOENT, "", 5},
		"renamed, and made anew":     {away, emptying, wire.NFS4_OK, "", 5},
		"no longer for everybody":    {shut, open("f", forRead), wire.NFS4ERR_ACCESS, "", 5},
		"by a handle, and removed":   {remove, call{wire.OP_OPEN, byHandle}, wire.NFS4ERR_STALE, "", 0},
		"by a handle, and renamed":   {away, call{wire.OP_OPEN, byHandle}, wire.NFS4_OK, "f", 5},
		"by a handle, and forbidden": {shut, call{wire.OP_OPEN, byHandle}, wire.NFS4ERR_ACCESS, "", 5},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				holder, client := r.newCalled("holder")
				other := r.newSession("other")
				h, got := holder.delegated("f", forBoth)
				holder.ok(putFH(h), setAttr(got.Stateid, withMode(0o666)), closeFile(got.Stateid))
				before := map[string][]byte{"f": h}
				a := holder.ok(putRoot, undelegated("other"), getFH)
				before["other"] = last[wire.GetFHRes](t, a).Handle
				holder.ok(putFH(before["other"]), setAttr(wire.AnonymousStateid, withMode(0o666)), closeFile(at[wire.OpenRes](t, a, 2).Stateid))
				other.auth = sysAuth(5, 5)
				at := putRoot
				if c.open.args.(*wire.OpenArgs).Claim == wire.CLAIM_FH {
					at = putFH(h)
				}
				answers := make(chan *answer, 1)
				request := other.encode(at, c.open, getFH)
				go func() { answers <- handle(other.b, other.auth, request) }()
				client.expect(wire.OP_CB_RECALL)
				c.meanwhile(r, holder, h)
				holder.ok(putFH(h), giveBack(got.Delegation.Stateid))
				answer := <-answers
				wantStatus(t, answer, c.want)
				r.wantOpened(other, answer, before[c.opens])
				if res := holder.do(putFH(h), getAttr(wire.FATTR4_SIZE)); res.status == wire.NFS4_OK {
					if n := last[wire.GetAttrRes](t, res).Attrs.Size; n != c.left {
						t.Errorf("%d bytes are left", n)
					}
				}
				if len(r.fs.holds) != 0 {
					t.Errorf("holds: %v", r.fs.holds)
				}
			})
		})
	}
}

// wantOpened checks what s has opened, if it has, the file with handle old or, if that is nil, a new one called f; and closes it.
func (r *rig) wantOpened(s *session, a *answer, old []byte) {
	r.t.Helper()
	if a.status != wire.NFS4_OK {
		return
	}
	opened, id := last[wire.GetFHRes](r.t, a).Handle, at[wire.OpenRes](r.t, a, 2).Stateid
	switch {
	case old != nil && !bytes.Equal(opened, old):
		r.t.Error("opened another file")
	case old == nil && !bytes.Equal(opened, last[wire.GetFHRes](r.t, s.ok(putRoot, lookup("f"), getFH)).Handle):
		r.t.Error("opened a file without the name")
	}
	s.ok(putFH(opened), closeFile(id))
}

// An OPEN that has made its file, and waits since somebody else was first to open that, does not take it for somebody else's.
func TestOpenKnowsWhatItHasMade(t *testing.T) {
	for _, mode := range []wire.CreateMode{wire.GUARDED4, wire.UNCHECKED4} {
		for _, gone := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				holder, client := r.newCalled("holder")
				other := r.newSession("other")
				other.auth = sysAuth(5, 5)
				var h []byte
				var got wire.OpenRes
				r.fs.beforeHold = func() {
					a := holder.ok(putRoot, open("f", forRead), getFH)
					h, got = last[wire.GetFHRes](t, a).Handle, *at[wire.OpenRes](t, a, 2)
				}
				making := create("f", 0o400)
				making.args.(*wire.OpenArgs).CreateMode = mode
				answers := make(chan *answer, 1)
				request := other.encode(putRoot, making, getFH)
				go func() { answers <- handle(other.b, other.auth, request) }()
				client.expect(wire.OP_CB_RECALL)
				if gone {
					var removed vfs.Attr
					if _, err := r.mem.Remove(t.Context(), &vfs.Cred{}, r.mem.Root(), "f", &removed); err != nil {
						t.Fatal(err)
					}
				}
				holder.ok(putFH(h), closeFile(got.Stateid), giveBack(got.Delegation.Stateid))
				a := <-answers
				wantStatus(t, a, wire.NFS4_OK)
				if same := bytes.Equal(last[wire.GetFHRes](t, a).Handle, h); same == gone {
					t.Errorf("%v, removed %v: the same file %v", mode, gone, same)
				}
				if set := at[wire.OpenRes](t, a, 2).Set; !set.Has(wire.FATTR4_MODE) {
					t.Errorf("%v: set %v", mode, set)
				}
			})
		}
	}
}

// What CLONE and COPY read may be denied to others, or closed, while the target is waited for.
func TestSourceIsDeniedWhileTargetIsWaitedFor(t *testing.T) {
	anonymous := wire.AnonymousStateid
	for name, c := range map[string]struct {
		op    wire.Op
		opens bool // the source, whose stateid is used
		want  wire.Status
	}{
		"CLONE":                 {wire.OP_CLONE, false, wire.NFS4ERR_LOCKED},
		"COPY":                  {wire.OP_COPY, false, wire.NFS4ERR_LOCKED},
		"CLONE of an open file": {wire.OP_CLONE, true, wire.NFS4ERR_BAD_STATEID},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				holder, client := r.newCalled("holder")
				other, third := r.newSession("other"), r.newSession("third")
				from, source := third.makeFile("from", 0o644)
				third.ok(putFH(from), write(source, 0, "content"), closeFile(source))
				h, got := holder.delegated("f", forRead)
				args := cloneOf(anonymous, anonymous, 0, 0, 0)
				if c.opens {
					a := other.ok(putRoot, undelegated("from"))
					args.Source = last[wire.OpenRes](t, a).Stateid
				}
				op := call{c.op, &args}
				if c.op == wire.OP_COPY {
					op.args = &wire.CopyArgs{CloneArgs: args, Synchronous: true}
				}
				other.minor = 2
				answers := make(chan *answer, 1)
				request := other.encode(putFH(from), saveFH, putFH(h), op)
				go func() { answers <- handle(other.b, other.auth, request) }()
				client.expect(wire.OP_CB_RECALL)
				if c.opens {
					other.onSlot(1).ok(putFH(from), closeFile(args.Source))
				} else {
					deny := openArgs("from", forRead)
					deny.ShareDeny = wire.OPEN4_SHARE_DENY_READ
					third.ok(putRoot, call{wire.OP_OPEN, deny})
				}
				holder.ok(putFH(h), closeFile(got.Stateid), giveBack(got.Delegation.Stateid))
				wantStatus(t, <-answers, c.want)
			})
		})
	}
}

// A holder that does not give back what it is asked for keeps an operation for a moment, once.
func TestDelegationIsNotWaitedForLong(t *testing.T) {
	r := newRig(t, nil)
	holder, client := r.newCalled("holder")
	other := r.newSession("other")
	_, got := holder.delegated("f", forRead)
	began := time.Now()
	other.fails(wire.NFS4ERR_DELAY, putRoot, open("f", forWrite))
	if d := time.Since(began); d < state.RecallWait {
		t.Errorf("the holder had %v", d)
	}
	if recall := client.expect(wire.OP_CB_RECALL); recall.recall.Stateid != got.Delegation.Stateid {
		t.Errorf("got %+v", recall)
	}
	if got, want := r.s.Stats().RecallWaits, (nfs4.RecallStats{Delayed: 1}); got != want {
		t.Errorf("counted %+v", got)
	}
}

// A call that is given up, as package rpc does with one whose connection has ended, waits no longer for a delegation, nor for what its
// holder says of the file.
func TestWaitEndsWithItsCall(t *testing.T) {
	for name, ops := range map[string][]call{
		"a delegation":       {putRoot, open("f", forRead)},
		"what a holder says": {putRoot, lookup("f"), getAttr(wire.FATTR4_SIZE)},
		"what holders say":   {putRoot, readdir(0, 0, 1<<15, wire.FATTR4_SIZE)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				holder, client := r.newCalled("holder")
				other := r.newSession("other")
				holder.delegated("f", forBoth)
				ctx, end := context.WithCancel(t.Context())
				began := time.Now()
				silent := make(chan struct{})
				t.Cleanup(func() { close(silent) })
				client.with(func() { client.hold = silent })
				answers := make(chan *answer, 1)
				request := other.encode(ops...)
				go func() { answers <- handleIn(ctx, other.b, other.auth, request) }()
				synctest.Wait()
				if len(answers) > 0 {
					t.Error("nothing is waited for")
				}
				end()
				wantStatus(t, <-answers, wire.NFS4ERR_DELAY)
				if d := time.Since(began); d != 0 {
					t.Errorf("waited for %v", d)
				}
			})
		})
	}
}
