package nfs4_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

const testLease = 15 * time.Second

// What another client does to a delegated file has to wait until the delegation was given back; what
// does not concern it does not.
func TestDelegationIsRecalled(t *testing.T) {
	openDeny := openArgs("f", forRead)
	openDeny.ShareDeny = wire.OPEN4_SHARE_DENY_READ
	truncating := undelegated("f")
	truncating.args.(*wire.OpenArgs).Attrs = withSize(0)
	anonymous := wire.AnonymousStateid
	for _, c := range []struct {
		name        string
		ops         []call
		read, write bool // is a delegation of that kind in the way
		empties     bool
	}{
		{"open for reading", []call{putRoot, open("f", forRead)}, false, true, false},
		{"open for writing", []call{putRoot, open("f", forWrite)}, true, true, false},
		{"open denying readers", []call{putRoot, {wire.OP_OPEN, openDeny}}, true, true, false},
		{"truncating open", []call{putRoot, truncating}, true, true, true},
		{"read", []call{putRoot, lookup("f"), read(anonymous, 0, 5)}, false, true, false},
		{"write", []call{putRoot, lookup("f"), write(anonymous, 0, "x")}, true, true, false},
		{"truncate", []call{putRoot, lookup("f"), setAttr(anonymous, withSize(0))}, true, true, true},
		{"chmod", []call{putRoot, lookup("f"), setAttr(anonymous, withMode(0o600))}, true, true, false},
		{"remove", []call{putRoot, remove("f")}, true, true, false},
		{"rename", []call{putRoot, saveFH, rename("f", "g")}, true, true, false},
		{"replace", []call{putRoot, saveFH, rename("other", "f")}, true, true, false},
		{"link", []call{putRoot, lookup("f"), saveFH, putRoot, linkTo("h")}, true, true, false},
		{"set an extended attribute", []call{putRoot, lookup("f"), setXattr("x", "y", wire.SETXATTR4_EITHER)}, true, true, false},
		{"remove an extended attribute", []call{putRoot, lookup("f"), removeXattr("here")}, true, true, false},
		{"lookup", []call{putRoot, lookup("f"), access(1)}, false, false, false},
		{"rename another", []call{putRoot, saveFH, rename("other", "g")}, false, false, false},
	} {
		for _, kind := range []struct {
			access uint32
			inWay  bool
		}{{forRead, c.read}, {forBoth, c.write}} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				r := newRig(t, nil)
				holder, client := r.newCalled("holder")
				other := r.newSession("other")
				other.makeFile("other", 0o644)
				h, got := holder.delegated("f", kind.access)
				holder.ok(putFH(h), closeFile(got.Stateid))
				other.minor, holder.minor = 2, 2
				holder.ok(putFH(h), setXattr("here", "", wire.SETXATTR4_EITHER))
				if !kind.inWay {
					other.ok(c.ops...)
					client.quiet()
					return
				}
				other.fails(wire.NFS4ERR_DELAY, c.ops...)
				recall := client.expect(wire.OP_CB_RECALL)
				if recall.recall.Stateid != got.Delegation.Stateid || !bytes.Equal(recall.recall.Handle, h) ||
					recall.recall.Truncate != c.empties || recall.session != holder.id {
					t.Errorf("got %+v", recall)
				}
				if recall.auth.UID != 17 || recall.auth.GID != 19 || string(recall.auth.Machine) != "server" {
					t.Errorf("called as %+v", recall.auth)
				}
				other.fails(wire.NFS4ERR_DELAY, c.ops...)
				client.quiet() // one recall is enough
				holder.ok(putFH(h), giveBack(recall.recall.Stateid))
				other.ok(c.ops...)
				holder.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), giveBack(recall.recall.Stateid))
			})
		}
	}
}

// A delegation that is granted while a file is changed without being open is recalled when it was, also if the rest of the change fails:
// a large one is made in steps.
func TestDelegationDuringAChange(t *testing.T) {
	anonymous := wire.AnonymousStateid
	emptying := undelegated("f")
	emptying.args.(*wire.OpenArgs).ShareAccess = forRead // and so nobody is kept from a delegation
	emptying.args.(*wire.OpenArgs).Attrs = withSize(0)
	for _, ops := range [][]call{
		{write(anonymous, 0, "x")},
		{{wire.OP_ALLOCATE, &wire.AllocateArgs{Length: 10}}},
		{{wire.OP_DEALLOCATE, &wire.AllocateArgs{Length: 4}}},
		{saveFH, putRoot, lookup("source"), saveFH, putRoot, lookup("f"), {wire.OP_CLONE, &wire.CloneArgs{}}},
		{saveFH, putRoot, lookup("source"), saveFH, putRoot, lookup("f"), {wire.OP_COPY, &wire.CopyArgs{Synchronous: true}}},
	} {
		testDelegationDuring(t, ops, nil)
		testDelegationDuring(t, ops, vfs.ErrNoSpace)
	}
	for _, ops := range [][]call{ // which are made at one go
		{saveFH, putRoot, linkTo("g")},
		{setAttr(anonymous, withSize(0))},
		{setXattr("x", "y", wire.SETXATTR4_EITHER)},
		{putRoot, emptying},
		{putRoot, remove("f")},
		{putRoot, saveFH, rename("source", "f")},
		{putRoot, saveFH, rename("f", "g")},
	} {
		testDelegationDuring(t, ops, nil)
	}
}

// testDelegationDuring is a change with a failure behind it, or none.
func testDelegationDuring(t *testing.T, ops []call, failure error) {
	op := ops[len(ops)-1].op
	t.Helper()
	r := newRig(t, nil)
	holder, client := r.newCalled("holder")
	other := r.newSession("other")
	other.minor = 2
	for _, name := range []string{"source", "f"} {
		h, id := other.makeFile(name, 0o666)
		other.ok(putFH(h), write(id, 0, "content"))
		other.ok(putFH(h), closeFile(id))
	}
	holder.delegated("elsewhere", forRead)
	r.fs.beforeChange = func() {
		a := holder.ok(putRoot, open("f", forRead))
		if last[wire.OpenRes](t, a).Delegation.Type != wire.OPEN_DELEGATE_READ {
			t.Fatalf("%v: no delegation", op)
		}
	}
	r.fs.afterChange = failure
	want := wire.NFS4_OK
	if failure != nil {
		want = wire.NFS4ERR_NOSPC
	}
	wantStatus(t, other.do(append([]call{putRoot, lookup("f")}, ops...)...), want)
	if r.fs.beforeChange != nil {
		t.Fatalf("%v changed nothing", op)
	}
	select {
	case got := <-client.got:
		if got.op != wire.OP_CB_RECALL {
			t.Errorf("%v: called with %v", op, got.op)
		}
	case <-time.After(time.Second):
		t.Errorf("%v: not recalled", op)
	}
	if got := r.s.Stats().RecallWaits; got != (nfs4.RecallStats{}) {
		t.Errorf("%v: what was changed already has waited: %+v", op, got)
	}
}

// So is one that is granted while something is under way for a file that its own client has closed meanwhile.
func TestDelegationDuringAChangeOfWhatIsClosed(t *testing.T) {
	for name, change := range map[string]func(from, to wire.Stateid) call{
		"WRITE":      func(_, to wire.Stateid) call { return write(to, 0, "x") },
		"ALLOCATE":   func(_, to wire.Stateid) call { return allocate(to, 0, 10) },
		"DEALLOCATE": func(_, to wire.Stateid) call { return deallocate(to, 0, 4) },
		"CLONE": func(from, to wire.Stateid) call {
			args := cloneOf(from, to, 0, 0, 0)
			return call{wire.OP_CLONE, &args}
		},
		"COPY": func(from, to wire.Stateid) call { return copyOf(from, to, 1, 0, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			holder, client := r.newCalled("holder")
			other := r.newSession42("other")
			h, to := other.makeFile("f", 0o666)
			source, from := other.makeFile("source", 0o666)
			other.ok(putFH(source), write(from, 0, "content"))
			other.ok(putFH(h), write(to, 0, "content"))
			r.fs.beforeChange = func() {
				other.onSlot(1).ok(putFH(h), closeFile(to))
				if last[wire.OpenRes](t, holder.ok(putRoot, open("f", forRead))).Delegation.Type != wire.OPEN_DELEGATE_READ {
					t.Fatal("no delegation")
				}
			}
			other.ok(putFH(source), saveFH, putFH(h), change(from, to))
			client.expect(wire.OP_CB_RECALL)
		})
	}
}

// What another client has written, and closed, while the file was looked up is in what the OPEN that gets a delegation
// tells of it: its client will not ask again.
func TestDelegationOfWhatWasJustWritten(t *testing.T) {
	for _, access := range []uint32{forRead, forBoth} {
		r := newRig(t, nil)
		s, client := r.newCalled("holder")
		other := r.newSession("other")
		h, id := other.makeFile("f", 0o644)
		r.fs.beforeHold = func() {
			other.ok(putFH(h), write(id, 0, "hello"))
			other.ok(putFH(h), closeFile(id))
		}
		a := s.ok(putRoot, open("f", access), getAttr(wire.FATTR4_CHANGE, wire.FATTR4_SIZE))
		if d := at[wire.OpenRes](t, a, 2).Delegation; d.Stateid == (wire.Stateid{}) {
			t.Fatal("no delegation")
		}
		told := last[wire.GetAttrRes](t, a).Attrs
		now := last[wire.GetAttrRes](t, s.ok(putFH(h), getAttr(wire.FATTR4_CHANGE, wire.FATTR4_SIZE))).Attrs
		if told.Size != 5 || told.Change != now.Change {
			t.Errorf("told of %d bytes, change %d; it has %d, change %d", told.Size, told.Change, now.Size, now.Change)
		}
		if access == forRead {
			continue
		}
		client.with(func() { client.attrs = wire.Attrs{Mask: now.Mask, Change: now.Change, Size: now.Size} })
		seen := last[wire.GetAttrRes](t, other.ok(putFH(h), getAttr(wire.FATTR4_CHANGE, wire.FATTR4_SIZE))).Attrs
		client.expect(wire.OP_CB_GETATTR)
		if seen.Change != now.Change {
			t.Error("the holder has changed nothing, and the file changes")
		}
	}
}

// The holder itself is not in its own way.
func TestDelegationOfOnesOwn(t *testing.T) {
	r := newRig(t, nil)
	s, client := r.newCalled("holder")
	h, got := s.delegated("f", forRead)
	d := got.Delegation
	if d.Type != wire.OPEN_DELEGATE_READ {
		t.Errorf("got %+v", d)
	}
	again := *last[wire.OpenRes](t, s.ok(putRoot, open("f", forBoth)))
	if again.Delegation.Type != wire.OPEN_DELEGATE_NONE {
		t.Errorf("a second one: %+v", again.Delegation)
	}
	s.ok(putFH(h), read(d.Stateid, 0, 5))
	s.fails(wire.NFS4ERR_OPENMODE, putFH(h), write(d.Stateid, 0, "x"))
	s.ok(putRoot, lookup("f"), setAttr(again.Stateid, withSize(1)))
	client.quiet()
	s.fails(wire.NFS4ERR_DELAY, putRoot, remove("f")) // by a mount that does not know of the delegation
	client.expect(wire.OP_CB_RECALL)
	s.ok(putFH(h), read(d.Stateid, 0, 5))
	s.ok(putFH(h), closeFile(again.Stateid))
	s.ok(putFH(h), giveBack(d.Stateid))
	if r.s.Stats().Delegations != 0 || len(r.fs.holds) != 0 {
		t.Errorf("left: %+v, holds %v", r.s.Stats(), r.fs.holds)
	}
}

// A client gives a delegation back before it does what the delegation is about, or does it under that. If it does not, the
// delegation is another mount's of the same client, which is told.
func TestDelegationOfAnotherMount(t *testing.T) {
	anonymous := wire.AnonymousStateid
	times := wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_TIME_MODIFY_SET)}
	for _, c := range []struct {
		name        string
		ops         []call
		read, write bool // is a delegation of that kind in the way
	}{
		{"truncate", []call{putRoot, lookup("f"), setAttr(anonymous, withSize(0))}, true, true},
		{"chmod", []call{putRoot, lookup("f"), setAttr(anonymous, withMode(0o600))}, true, false},
		{"utimes", []call{putRoot, lookup("f"), setAttr(anonymous, times)}, false, false},
		{"remove", []call{putRoot, remove("f")}, true, true},
		{"rename", []call{putRoot, saveFH, rename("f", "g")}, true, false},
		{"replace", []call{putRoot, saveFH, rename("other", "f")}, true, true},
		{"link", []call{putRoot, lookup("f"), saveFH, putRoot, linkTo("h")}, true, false},
		{"read", []call{putRoot, lookup("f"), read(anonymous, 0, 5)}, false, false},
		{"set an extended attribute", []call{putRoot, lookup("f"), setXattr("x", "y", wire.SETXATTR4_EITHER)}, false, false},
		{"remove an extended attribute", []call{putRoot, lookup("f"), removeXattr("here")}, false, false},
	} {
		for _, kind := range []struct {
			access uint32
			inWay  bool
		}{{forRead, c.read}, {forBoth, c.write}} {
			t.Run(c.name, func(t *testing.T) {
				r := newRig(t, nil)
				s, client := r.newCalled("holder")
				r.newSession("other").makeFile("other", 0o644)
				h, got := s.delegated("f", kind.access)
				s.minor = 2
				s.ok(putFH(h), closeFile(got.Stateid), setXattr("here", "", wire.SETXATTR4_EITHER))
				if !kind.inWay {
					s.ok(c.ops...)
					client.quiet()
					return
				}
				s.fails(wire.NFS4ERR_DELAY, c.ops...)
				if recall := client.expect(wire.OP_CB_RECALL).recall; recall.Stateid != got.Delegation.Stateid {
					t.Errorf("got %+v", recall)
				}
				s.ok(putFH(h), giveBack(got.Delegation.Stateid))
				s.ok(c.ops...)
				client.quiet()
			})
		}
	}
}

// Who does not give a delegation back loses it after a lease, and is told.
func TestDelegationIsRevoked(t *testing.T) {
	r := newRig(t, nil)
	holder, client := r.newCalled("holder")
	other := r.newSession("other")
	h, got := holder.delegated("f", forRead)
	id := got.Delegation.Stateid
	other.fails(wire.NFS4ERR_DELAY, putRoot, open("f", forWrite))
	client.expect(wire.OP_CB_RECALL)
	for range 3 {
		r.now = r.now.Add(testLease/3 + time.Second)
		holder.ok()
		other.do(putRoot, open("f", forWrite))
	}
	other.ok(putRoot, open("f", forWrite))
	holder.fails(wire.NFS4ERR_DELEG_REVOKED, putFH(h), read(id, 0, 5))
	holder.fails(wire.NFS4ERR_DELEG_REVOKED, putFH(h), giveBack(id))
	test := &wire.TestStateidArgs{}
	test.Add(id)
	if got := last[testStateidRes](t, holder.ok(call{wire.OP_TEST_STATEID, test})); got.Statuses[0] != wire.NFS4ERR_DELEG_REVOKED {
		t.Errorf("TEST_STATEID: %v", got)
	}
	if f := holder.flags(); f != wire.SEQ4_STATUS_RECALLABLE_STATE_REVOKED {
		t.Errorf("flags %#x", f)
	}
	holder.ok(free(id))
	if f := holder.flags(); f != 0 {
		t.Errorf("flags %#x after FREE_STATEID", f)
	}
	holder.fails(wire.NFS4ERR_BAD_STATEID, free(id))
}

// Delegations are counted by what becomes of them; those of other clients, and opens without one, are not among them.
func TestDelegationsAreCounted(t *testing.T) {
	r := newRig(t, nil)
	holder, client := r.newCalled("holder")
	other := r.newSession("other")
	count := func(when string, inEffect, writes int, want nfs4.DelegationStats) {
		t.Helper()
		st := r.s.Stats()
		if st.Delegations != inEffect || st.WriteDelegations != writes || st.Delegated != want {
			t.Errorf("%s: %d, %d of them for writing, and %+v; want %d, %d and %+v",
				when, st.Delegations, st.WriteDelegations, st.Delegated, inEffect, writes, want)
		}
	}
	other.makeFile("plain", 0o644)
	count("at first", 0, 0, nfs4.DelegationStats{})
	h, got := holder.delegated("f", forRead)
	count("one to read", 1, 0, nfs4.DelegationStats{ReadGranted: 1})
	h2, got2 := holder.delegated("g", forBoth)
	count("one to write", 2, 1, nfs4.DelegationStats{ReadGranted: 1, WriteGranted: 1})
	holder.ok(putFH(h2), giveBack(got2.Delegation.Stateid))
	holder.fails(wire.NFS4ERR_BAD_STATEID, putFH(h2), giveBack(got2.Delegation.Stateid))
	count("given back", 1, 0, nfs4.DelegationStats{ReadGranted: 1, WriteGranted: 1, Returned: 1})

	for range 4 {
		other.do(putRoot, open("f", forWrite))
		r.now = r.now.Add(testLease/3 + time.Second)
		holder.ok()
	}
	client.expect(wire.OP_CB_RECALL)
	count("revoked", 0, 0, nfs4.DelegationStats{ReadGranted: 1, WriteGranted: 1, Returned: 1, Revoked: 1})
	holder.fails(wire.NFS4ERR_DELEG_REVOKED, putFH(h), giveBack(got.Delegation.Stateid))
	holder.ok(free(got.Delegation.Stateid))
	count("freed", 0, 0, nfs4.DelegationStats{ReadGranted: 1, WriteGranted: 1, Returned: 1, Revoked: 1})

	holder.delegated("h", forBoth)
	r.now = r.now.Add(testLease + time.Second)
	other.ok(putRoot, open("h", forRead))
	count("lost", 0, 0, nfs4.DelegationStats{ReadGranted: 1, WriteGranted: 2, Returned: 1, Revoked: 1, Lost: 1})
}

// A client whose lease ran out does not hold anybody up with its delegation.
func TestDelegationOfExpiredClient(t *testing.T) {
	r := newRig(t, nil)
	holder, client := r.newCalled("holder")
	other := r.newSession("other")
	holder.delegated("f", forRead)
	r.now = r.now.Add(testLease + time.Second)
	other.ok(putRoot, open("f", forWrite))
	client.quiet()
	wantStatus(t, holder.do(), wire.NFS4ERR_BADSESSION)
}

// A file that two clients want is not delegated again at once.
func TestContendedFileIsNotDelegated(t *testing.T) {
	r := newRig(t, nil)
	holder, client := r.newCalled("holder")
	other := r.newSession("other")
	h, got := holder.delegated("f", forRead)
	other.fails(wire.NFS4ERR_DELAY, putRoot, open("f", forWrite))
	client.expect(wire.OP_CB_RECALL)
	holder.ok(putFH(h), giveBack(got.Delegation.Stateid), closeFile(got.Stateid))
	wanted := open("f", forRead|wire.OPEN4_SHARE_ACCESS_WANT_READ_DELEG)
	if d := last[wire.OpenRes](t, holder.ok(putRoot, wanted)).Delegation; d.Type != wire.OPEN_DELEGATE_NONE_EXT || d.Why != wire.WND4_CONTENTION {
		t.Errorf("got %+v", d)
	}
	for range 3 {
		r.now = r.now.Add(testLease)
		holder.ok()
	}
	if d := last[wire.OpenRes](t, holder.ok(putRoot, wanted)).Delegation; d.Type != wire.OPEN_DELEGATE_READ {
		t.Errorf("three leases later: %+v", d)
	}
}

// Wishes, and what there is instead of a delegation.
func TestDelegationWishes(t *testing.T) {
	r := newRig(t, nil)
	s, _ := r.newCalled("c")
	other := r.newSession("other")
	_, id := other.makeFile("writing", 0o644)
	other.makeFile("f", 0o644)
	for _, c := range []struct {
		name   string
		access uint32
		kind   wire.DelegationType
		why    uint32
	}{
		{"writing", forRead | wire.OPEN4_SHARE_ACCESS_WANT_READ_DELEG, wire.OPEN_DELEGATE_NONE_EXT, wire.WND4_CONTENTION},
		{"writing", forRead, wire.OPEN_DELEGATE_NONE, 0},
		{"writing", forBoth | wire.OPEN4_SHARE_ACCESS_WANT_CANCEL, wire.OPEN_DELEGATE_NONE_EXT, wire.WND4_CANCELLED},
		{"new", forBoth | wire.OPEN4_SHARE_ACCESS_WANT_NO_DELEG, wire.OPEN_DELEGATE_NONE_EXT, wire.WND4_NOT_WANTED},
		{"new", forWrite | wire.OPEN4_SHARE_ACCESS_WANT_ANY_DELEG, wire.OPEN_DELEGATE_NONE_EXT, wire.WND4_RESOURCE},
		{"new", forBoth | wire.OPEN4_SHARE_ACCESS_WANT_READ_DELEG, wire.OPEN_DELEGATE_READ, 0},
		{"new", forBoth | wire.OPEN4_SHARE_ACCESS_WANT_WRITE_DELEG, wire.OPEN_DELEGATE_NONE_EXT, wire.WND4_NOT_SUPP_UPGRADE},
		{"newer", forBoth | wire.OPEN4_SHARE_ACCESS_WANT_ANY_DELEG | wire.OPEN4_SHARE_ACCESS_WANT_PUSH_DELEG_WHEN_UNCONTENDED,
			wire.OPEN_DELEGATE_WRITE, 0},
		{"newest", forBoth | wire.OPEN4_SHARE_ACCESS_WANT_DELEG_TIMESTAMPS, wire.OPEN_DELEGATE_WRITE_ATTRS_DELEG, 0},
	} {
		args := openArgs(c.name, c.access)
		args.Create, args.Attrs = true, withMode(0o644)
		got := last[wire.OpenRes](t, s.ok(putRoot, call{wire.OP_OPEN, args})).Delegation
		if got.Type != c.kind || got.Why != c.why {
			t.Errorf("%s %#x: %+v", c.name, c.access, got)
		}
	}
	other.ok(putRoot, lookup("writing"), closeFile(id))
}

// With the setting off, or a backchannel that does not work, there are none.
func TestNoDelegations(t *testing.T) {
	for _, off := range []bool{true, false} {
		r := newRig(t, func(o *nfs4.Options) { o.NoDelegations = off })
		var s *session
		if off {
			s, _ = r.newCalled("c")
		} else {
			s = r.newSession("c")
		}
		args := openArgs("f", forBoth|wire.OPEN4_SHARE_ACCESS_WANT_ANY_DELEG)
		args.Create, args.Attrs = true, withMode(0o644)
		got := last[wire.OpenRes](t, s.ok(putRoot, call{wire.OP_OPEN, args})).Delegation
		if got.Type != wire.OPEN_DELEGATE_NONE_EXT || got.Why != wire.WND4_RESOURCE {
			t.Errorf("off %v: %+v", off, got)
		}
		supported := last[wire.GetAttrRes](t, s.ok(putRoot, getAttr(wire.FATTR4_OPEN_ARGUMENTS))).Attrs.OpenArguments
		if supported.ShareAccessWant.Has(wire.OPEN_ARGS_SHARE_ACCESS_WANT_DELEG_TIMESTAMPS) == off {
			t.Errorf("off %v: %+v", off, supported)
		}
	}
}

// The holder of a write delegation is asked how long the file is; its changes count as changes.
func TestCBGetAttr(t *testing.T) {
	r := newRig(t, nil)
	r.now = time.Now() // as the file system has it
	holder, client := r.newCalled("holder")
	other := r.newSession("other")
	h, got := holder.delegated("f", forBoth|wire.OPEN4_SHARE_ACCESS_WANT_DELEG_TIMESTAMPS)
	if got.Delegation.LimitBy != wire.NFS_LIMIT_SIZE || got.Delegation.LimitBytes != 0 || got.Delegation.Type != wire.OPEN_DELEGATE_WRITE_ATTRS_DELEG {
		t.Errorf("got %+v", got.Delegation)
	}
	look := func(s *session) wire.Attrs {
		t.Helper()
		a := s.ok(putRoot, lookup("f"), getAttr(wire.FATTR4_CHANGE, wire.FATTR4_SIZE, wire.FATTR4_TIME_MODIFY))
		return last[wire.GetAttrRes](t, a).Attrs
	}
	before := look(holder)
	client.quiet()
	held := before
	held.Mask = wire.BitmapOf(wire.FATTR4_CHANGE, wire.FATTR4_SIZE, wire.FATTR4_TIME_DELEG_MODIFY)
	held.TimeDelegModify = before.TimeModify
	client.with(func() { client.attrs = held })
	if now := look(other); now.Change != before.Change || now.Size != 5 {
		t.Errorf("unchanged: %d %d, was %d", now.Change, now.Size, before.Change)
	}
	asked := client.expect(wire.OP_CB_GETATTR)
	if !bytes.Equal(asked.getattr.Handle, h) || !asked.getattr.Request.Has(wire.FATTR4_TIME_DELEG_MODIFY) {
		t.Errorf("asked %+v", asked.getattr)
	}
	held.Change++
	held.Size, held.TimeDelegModify.Nsec = 99, (held.TimeDelegModify.Nsec+1)%1e9
	r.now = r.now.Add(time.Second)
	client.with(func() { client.attrs = held })
	changed := look(other)
	if changed.Change <= before.Change || changed.Size != 99 || changed.TimeModify != held.TimeDelegModify {
		t.Errorf("changed: %+v", changed)
	}
	if again := look(other); again.Change != changed.Change || again.Size != 99 {
		t.Errorf("asked again: %+v", again)
	}
	client.expect(wire.OP_CB_GETATTR)
	client.expect(wire.OP_CB_GETATTR)

	client.with(func() { client.statuses = []wire.Status{wire.NFS4ERR_BADHANDLE} })
	other.fails(wire.NFS4ERR_DELAY, putRoot, lookup("f"), getAttr(wire.FATTR4_SIZE))
	client.expect(wire.OP_CB_GETATTR)
	client.expect(wire.OP_CB_RECALL)
	holder.ok(putFH(h), giveBack(got.Delegation.Stateid))
	if now := look(other); now.Size != 5 {
		t.Errorf("given back without a change: %+v", now)
	}
}

// A holder that is far away answers after those who have asked gave up: when they ask again, the answer is there.
func TestCBGetAttrFromAfar(t *testing.T) {
	r := newRig(t, nil)
	holder, client := r.newCalled("holder")
	other := r.newSession("other")
	holder.delegated("f", forBoth)
	look := func() *answer { return other.do(putRoot, lookup("f"), getAttr(wire.FATTR4_SIZE)) }
	for _, listed := range []bool{false, true} {
		far := make(chan struct{})
		client.with(func() { client.hold, client.attrs = far, holding(99) })
		wantStatus(t, look(), wire.NFS4ERR_DELAY)
		client.with(func() { client.hold = make(chan struct{}) }) // the next one is on its way for just as long
		close(far)
		client.expect(wire.OP_CB_GETATTR)
		time.Sleep(50 * time.Millisecond)
		if listed {
			if got, _ := other.listed(1<<15, listedAttrs...); got["f"].Size != 99 || got["f"].RdattrError != wire.NFS4_OK {
				t.Errorf("listed %+v", got["f"])
			}
		} else if a := look(); a.status != wire.NFS4_OK || last[wire.GetAttrRes](t, a).Attrs.Size != 99 {
			t.Errorf("told %v", a.status)
		}
		client.with(func() { close(client.hold); client.hold = nil })
		client.with(func() { client.attrs = holding(100) })
		if a := look(); a.status != wire.NFS4_OK || last[wire.GetAttrRes](t, a).Attrs.Size != 100 {
			t.Errorf("later: %v", a.status) // the answer was good once
		}
		client.expect(wire.OP_CB_GETATTR)
	}
}

// What the holder of a write delegation has written back is no change of now for others who look: the times that it has
// set stay, whether they look at the file or into its directory. Like Linux, the holder says a change attribute above the one that
// it got with the delegation while it has something to write back, and that one otherwise.
func TestTimesOfWhatIsWrittenBack(t *testing.T) {
	for name, how := range map[string]struct {
		truncate bool // by the OPEN
		restart  bool
	}{"opened": {}, "truncated": {truncate: true}, "reclaimed": {restart: true}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			holder, client := r.newCalled("holder")
			h, got := holder.delegated("f", forBoth)
			if how.truncate {
				holder.ok(putFH(h), giveBack(got.Delegation.Stateid), closeFile(got.Stateid))
				empty := openArgs("f", forBoth)
				empty.Create, empty.Attrs = true, withSize(0)
				got = *last[wire.OpenRes](t, holder.ok(putRoot, call{wire.OP_OPEN, empty}))
			}
			attrs := []wire.AttrNumber{wire.FATTR4_CHANGE, wire.FATTR4_SIZE, wire.FATTR4_TIME_MODIFY}
			clean := last[wire.GetAttrRes](t, holder.ok(putFH(h), getAttr(attrs...))).Attrs.Change
			old := wire.Time{Sec: 1_000_000_000}
			writeBack := func(data string) {
				t.Helper()
				times := wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_TIME_MODIFY_SET), TimeModifySet: wire.SetTime{Client: true, Time: old}}
				holder.ok(putFH(h), write(got.Stateid, 0, data), setAttr(wire.AnonymousStateid, times))
			}
			says := func(change, size uint64) {
				client.with(func() {
					client.attrs = wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_CHANGE, wire.FATTR4_SIZE), Change: change, Size: size}
				})
			}
			if how.restart {
				writeBack("before")
				r.restart()
				client = r.callable(t)
				holder = r.newCalledOn(client, "holder")
				reclaim := reclaimOpen()
				reclaim.args.(*wire.OpenArgs).DelegateType = wire.OPEN_DELEGATE_WRITE
				got = *last[wire.OpenRes](t, holder.ok(putFH(h), reclaim))
				holder.ok(reclaimComplete)
			}
			other := r.newSession("other")
			wantTime := func(what string, size uint64, kept bool) {
				t.Helper()
				a := last[wire.GetAttrRes](t, other.ok(putRoot, lookup("f"), getAttr(attrs...))).Attrs
				listed, _ := other.listed(1<<15, attrs...)
				l := listed["f"]
				if a.Size != size || (a.TimeModify == old) != kept || l.TimeModify != a.TimeModify || l.Size != size {
					t.Errorf("%s: %d bytes of %v, listed %d of %v", what, a.Size, a.TimeModify, l.Size, l.TimeModify)
				}
			}
			writeBack("longer than before")
			says(clean, 18)
			wantTime("written back", 18, true)
			says(clean+1, 50)
			wantTime("to be written back", 50, false)
			writeBack("as long as that was, with everything written back.")
			says(clean, 50)
			wantTime("written back once more", 50, true)
		})
	}
}

// Times that are kept under a delegation can be set with it, and only with it.
func TestDelegatedTimes(t *testing.T) {
	r := newRig(t, nil)
	s, _ := r.newCalled("c")
	h, got := s.delegated("f", forBoth|wire.OPEN4_SHARE_ACCESS_WANT_DELEG_TIMESTAMPS)
	r.now = time.Now().Add(2 * time.Minute)
	soon := time.Now().Unix() + 60
	times := wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_TIME_DELEG_ACCESS, wire.FATTR4_TIME_DELEG_MODIFY),
		TimeDelegAccess: wire.Time{Sec: soon}, TimeDelegModify: wire.Time{Sec: soon + 1, Nsec: 7}}
	s.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), setAttr(got.Stateid, times))
	s.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), setAttr(wire.AnonymousStateid, times))
	s.auth = sysAuth(5, 5) // the user that last wrote need not be the owner
	s.ok(putFH(h), setAttr(got.Delegation.Stateid, times))
	now := last[wire.GetAttrRes](t, s.ok(putFH(h), getAttr(wire.FATTR4_TIME_ACCESS, wire.FATTR4_TIME_MODIFY))).Attrs
	if now.TimeAccess != times.TimeDelegAccess || now.TimeModify != times.TimeDelegModify {
		t.Errorf("got %v and %v", now.TimeAccess, now.TimeModify)
	}
	s.fails(wire.NFS4ERR_PERM, putFH(h), setAttr(got.Delegation.Stateid, withMode(0o777)))
	for _, attr := range []wire.AttrNumber{wire.FATTR4_TIME_DELEG_ACCESS, wire.FATTR4_TIME_DELEG_MODIFY} {
		none := wire.Attrs{Mask: wire.BitmapOf(attr), TimeDelegAccess: wire.Time{Nsec: 1e9}, TimeDelegModify: wire.Time{Nsec: 1e9}}
		s.fails(wire.NFS4ERR_INVAL, putFH(h), setAttr(got.Delegation.Stateid, none))
	}
	s.r.readerKeepsNoModifyTime(t, times)
	_, plain := s.r.newSessionHolding(t, "plain")
	s.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), setAttr(plain, times))
	s.fails(wire.NFS4ERR_INVAL, putFH(h), getAttr(wire.FATTR4_TIME_DELEG_MODIFY))
	made := undelegated("g")
	made.args.(*wire.OpenArgs).Attrs = times
	s.auth = sysAuth(0, 0)
	s.fails(wire.NFS4ERR_INVAL, putRoot, made)
}

// The times that a delegation's holder says are none before those that the file had with it, and none that are still to come, whether
// he is asked or not.
func TestDelegatedTimesAreOfTheDelegation(t *testing.T) {
	r := newRig(t, nil)
	holder, client := r.newCalled("holder")
	other := r.newSession("other")
	h, made := other.makeFile("f", 0o666)
	other.ok(putFH(h), closeFile(made))
	holder.auth = sysAuth(5, 5)
	h, got := holder.delegated("f", forBoth|wire.OPEN4_SHARE_ACCESS_WANT_DELEG_TIMESTAMPS)
	r.now = time.Now()
	look := func(s *session) wire.Attrs {
		t.Helper()
		return last[wire.GetAttrRes](t, s.ok(putFH(h), getAttr(wire.FATTR4_CHANGE, wire.FATTR4_TIME_ACCESS, wire.FATTR4_TIME_MODIFY))).Attrs
	}
	mask := wire.BitmapOf(wire.FATTR4_TIME_DELEG_ACCESS, wire.FATTR4_TIME_DELEG_MODIFY)
	before := look(holder)
	early := wire.Time{Sec: before.TimeModify.Sec - 1}
	holder.ok(putFH(h), setAttr(got.Delegation.Stateid, wire.Attrs{Mask: mask, TimeDelegAccess: early, TimeDelegModify: early}))
	if now := look(holder); now.TimeAccess != before.TimeAccess || now.TimeModify != before.TimeModify {
		t.Errorf("before the delegation: %v and %v, were %v and %v", now.TimeAccess, now.TimeModify, before.TimeAccess, before.TimeModify)
	}
	late := wire.Time{Sec: time.Now().Unix() + 3600}
	holder.ok(putFH(h), setAttr(got.Delegation.Stateid, wire.Attrs{Mask: mask, TimeDelegAccess: late, TimeDelegModify: late}))
	if now := look(holder); now.TimeAccess.Sec >= late.Sec || now.TimeModify.Sec >= late.Sec || now.TimeModify == before.TimeModify {
		t.Errorf("still to come: %v and %v", now.TimeAccess, now.TimeModify)
	}
	for name, said := range map[string]wire.Time{"early": early, "late": late} {
		was := look(holder)
		client.with(func() {
			client.attrs = wire.Attrs{Mask: mask.Or(wire.BitmapOf(wire.FATTR4_CHANGE, wire.FATTR4_SIZE)), Change: was.Change + 1<<40,
				Size: uint64(50 + len(name)), TimeDelegAccess: said, TimeDelegModify: said}
		})
		now := look(other)
		client.expect(wire.OP_CB_GETATTR)
		if now.Change <= was.Change || now.TimeModify.Sec <= early.Sec || now.TimeModify.Sec >= late.Sec ||
			now.TimeAccess.Sec <= early.Sec || now.TimeAccess.Sec >= late.Sec {
			t.Errorf("%s, asked: %v and %v", name, now.TimeAccess, now.TimeModify)
		}
	}
}

// A file's owner, who may set any times that have been without a delegation, may with one, whether his client is asked or not: that is how
// tar's come from a client that keeps them.
func TestOwnerKeepsAnyTimes(t *testing.T) {
	r := newRig(t, nil)
	holder, client := r.newCalled("holder")
	other := r.newSession("other")
	holder.auth = sysAuth(5, 5)
	root := r.newSession("root")
	root.ok(putRoot, setAttr(wire.AnonymousStateid, withMode(0o777)))
	h, got := holder.delegated("f", forBoth|wire.OPEN4_SHARE_ACCESS_WANT_DELEG_TIMESTAMPS)
	r.now = time.Now()
	mask := wire.BitmapOf(wire.FATTR4_TIME_DELEG_ACCESS, wire.FATTR4_TIME_DELEG_MODIFY)
	look := func(s *session) wire.Attrs {
		return last[wire.GetAttrRes](t, s.ok(putFH(h), getAttr(wire.FATTR4_CHANGE, wire.FATTR4_TIME_ACCESS, wire.FATTR4_TIME_MODIFY))).Attrs
	}
	set, asked := wire.Time{Sec: 1e9}, wire.Time{Sec: 1e9 - 5, Nsec: 1}
	holder.ok(putFH(h), setAttr(got.Delegation.Stateid, wire.Attrs{Mask: mask, TimeDelegAccess: set, TimeDelegModify: set}))
	now := look(holder)
	if now.TimeAccess != set || now.TimeModify != set {
		t.Errorf("set: %v and %v", now.TimeAccess, now.TimeModify)
	}
	client.with(func() {
		client.attrs = wire.Attrs{Mask: mask.Or(wire.BitmapOf(wire.FATTR4_CHANGE, wire.FATTR4_SIZE)), Change: now.Change + 1<<40, Size: 50,
			TimeDelegAccess: asked, TimeDelegModify: asked}
	})
	now = look(other)
	client.expect(wire.OP_CB_GETATTR)
	if now.TimeAccess != asked || now.TimeModify != asked {
		t.Errorf("asked: %v and %v", now.TimeAccess, now.TimeModify)
	}
}

// readerKeepsNoModifyTime has a user that may only read a file set its times under a delegation for reading.
func (r *rig) readerKeepsNoModifyTime(t *testing.T, times wire.Attrs) {
	t.Helper()
	owner := r.newSession("owner")
	h, mine := owner.makeFile("read only", 0o644)
	owner.ok(putFH(h), closeFile(mine))
	s, _ := r.newCalled("reader")
	s.auth = sysAuth(1001, 1001)
	a := s.ok(putRoot, open("read only", forRead|wire.OPEN4_SHARE_ACCESS_WANT_READ_DELEG|wire.OPEN4_SHARE_ACCESS_WANT_DELEG_TIMESTAMPS))
	id := last[wire.OpenRes](t, a).Delegation.Stateid
	s.fails(wire.NFS4ERR_OPENMODE, putFH(h), setAttr(id, times))
	times.Mask = wire.BitmapOf(wire.FATTR4_TIME_DELEG_ACCESS)
	s.ok(putFH(h), setAttr(id, times))
}

// newSessionHolding is a client of its own with a delegation that has no times.
func (r *rig) newSessionHolding(t *testing.T, name string) (*session, wire.Stateid) {
	t.Helper()
	s, _ := r.newCalled("holder of " + name)
	_, got := s.delegated(name, forRead)
	return s, got.Delegation.Stateid
}

// An open instead of which there is a delegation.
func TestOpenXorDelegation(t *testing.T) {
	r := newRig(t, nil)
	s, _ := r.newCalled("c")
	a := s.ok(putRoot, undelegated("f"), getFH)
	h := last[wire.GetFHRes](t, a).Handle
	s.ok(putFH(h), closeFile(at[wire.OpenRes](t, a, 2).Stateid))
	wish := uint32(forRead | wire.OPEN4_SHARE_ACCESS_WANT_OPEN_XOR_DELEGATION)
	a = s.ok(putRoot, open("f", wish), read(wire.CurrentStateid, 0, 5))
	got := at[wire.OpenRes](t, a, 2)
	if got.Flags&wire.OPEN4_RESULT_NO_OPEN_STATEID == 0 || got.Delegation.Type != wire.OPEN_DELEGATE_READ || r.s.Stats().Opens != 0 {
		t.Errorf("got %+v, %d opens", got, r.s.Stats().Opens)
	}
	second := last[wire.OpenRes](t, s.ok(putRoot, open("f", wish)))
	if second.Flags&wire.OPEN4_RESULT_NO_OPEN_STATEID != 0 || r.s.Stats().Opens != 1 {
		t.Errorf("without a delegation: %+v", second)
	}
	s.ok(putFH(h), giveBack(got.Delegation.Stateid), closeFile(second.Stateid))
	if len(r.fs.holds) != 0 {
		t.Errorf("holds are left: %v", r.fs.holds)
	}
}

// A client that opened a file by itself, under its delegation, tells the server so.
func TestClaimDelegateCurrent(t *testing.T) {
	r := newRig(t, nil)
	holder, client := r.newCalled("holder")
	other := r.newSession("other")
	h, got := holder.delegated("f", forRead)
	id := got.Delegation.Stateid
	holder.makeFile("g", 0o600)
	other.fails(wire.NFS4ERR_DELAY, putRoot, open("f", forWrite))
	client.expect(wire.OP_CB_RECALL)
	claim := func(kind wire.ClaimType, name string, access uint32, id wire.Stateid) call {
		a := openArgs(name, access)
		a.Claim, a.DelegateState, a.Owner.Owner = kind, id, []byte("another owner")
		return call{wire.OP_OPEN, a}
	}
	holder.ok(putRoot, claim(wire.CLAIM_DELEGATE_CUR, "f", forRead, id))
	holder.ok(putFH(h), claim(wire.CLAIM_DELEG_CUR_FH, "", forRead, id))
	holder.fails(wire.NFS4ERR_OPENMODE, putFH(h), claim(wire.CLAIM_DELEG_CUR_FH, "", forBoth, id))
	holder.fails(wire.NFS4ERR_BAD_STATEID, putRoot, claim(wire.CLAIM_DELEGATE_CUR, "g", forRead, id))
	holder.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), claim(wire.CLAIM_DELEG_CUR_FH, "", forRead, got.Stateid))
	holder.ok(putFH(h), giveBack(id))
	holder.fails(wire.NFS4ERR_BAD_STATEID, putFH(h), claim(wire.CLAIM_DELEG_CUR_FH, "", forRead, id))
	other.ok(putRoot, open("f", forWrite))
}
