package nfs4_test

import (
	"bytes"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// offloadRig is a client with two open files, and a source that is read part by part as the test lets
// it.
type offloadRig struct {
	*rig
	s      *session
	client *callee
	from   []byte
	to     []byte
	fromID wire.Stateid
	toID   wire.Stateid
	size   uint64
	part   chan struct{} // a send lets one part be read; closed: all of them
	begun  chan struct{} // a part is about to be read
}

// A copy of more than 64 MiB from an odd offset, which cannot be cloned, is one that goes on.
func newOffloadRig(t *testing.T) *offloadRig { return newOffloadRigWith(t, nil) }

func newOffloadRigWith(t *testing.T, change func(*nfs4.Options)) *offloadRig {
	o := &offloadRig{rig: newRig(t, change), size: 64<<20 + 12345, part: make(chan struct{}), begun: make(chan struct{}, 1000)}
	o.s, o.client = o.newCalled("c")
	o.s.minor = 2
	make := func(name string) ([]byte, wire.Stateid) {
		a := o.s.ok(putRoot, undelegated(name), getFH)
		return last[wire.GetFHRes](t, a).Handle, at[wire.OpenRes](t, a, 2).Stateid
	}
	o.from, o.fromID = make("from")
	o.to, o.toID = make("to")
	o.s.ok(putFH(o.from), setAttr(o.fromID, withSize(o.size+1)), write(o.fromID, o.size-10, "the tail ..."[:11]))
	o.fs.beforeRead = func() {
		o.begun <- struct{}{}
		<-o.part
	}
	return o
}

func (o *offloadRig) copy() call {
	return call{wire.OP_COPY, &wire.CopyArgs{CloneArgs: cloneOf(o.fromID, o.toID, 1, 0, 0), Consecutive: true}}
}

// start begins the copy and returns its stateid.
func (o *offloadRig) start() wire.Stateid {
	o.t.Helper()
	res := last[wire.CopyRes](o.t, o.s.ok(putFH(o.from), saveFH, putFH(o.to), o.copy()))
	if !res.Response.Async || res.Response.Count != 0 || res.Requirements.Synchronous || !res.Requirements.Consecutive {
		o.t.Fatalf("not one that goes on: %+v", res)
	}
	return res.Response.Callback
}

// openOnce opens a file once more, for less than before.
func (o *offloadRig) openOnce(name string, access uint32) wire.Stateid {
	o.t.Helper()
	a := openArgs(name, access|wire.OPEN4_SHARE_ACCESS_WANT_NO_DELEG)
	return last[wire.OpenRes](o.t, o.s.ok(putRoot, call{wire.OP_OPEN, a})).Stateid
}

func downgrade(id wire.Stateid, access uint32) call {
	return call{wire.OP_OPEN_DOWNGRADE, &wire.OpenDowngradeArgs{Stateid: id, ShareAccess: access}}
}

func offloadStatus(id wire.Stateid) call {
	return call{wire.OP_OFFLOAD_STATUS, &wire.OffloadArgs{Stateid: id}}
}

func offloadCancel(id wire.Stateid) call {
	return call{wire.OP_OFFLOAD_CANCEL, &wire.OffloadArgs{Stateid: id}}
}

func TestCopyGoesOnAfterItsAnswer(t *testing.T) {
	o := newOffloadRig(t)
	id := o.start()
	<-o.begun
	if p := last[wire.OffloadStatusRes](t, o.s.ok(offloadStatus(id))); p.Count != 0 || p.Complete {
		t.Errorf("at the beginning: %+v", p)
	}
	o.part <- struct{}{}
	<-o.begun
	if p := last[wire.OffloadStatusRes](t, o.s.ok(offloadStatus(id))); p.Count != nfs4.MaxIOBytes || p.Complete {
		t.Errorf("after one part: %+v", p)
	}
	o.newSession42("stranger").fails(wire.NFS4ERR_BAD_STATEID, offloadStatus(id))
	close(o.part)
	got := o.client.expect(wire.OP_CB_OFFLOAD).offload
	if got.Stateid != id || !bytes.Equal(got.Handle, o.to) || got.Status != wire.NFS4_OK || got.Bytes != o.size ||
		got.Committed != wire.UNSTABLE4 || got.Verifier != (wire.Verifier{4, 2}) {
		t.Errorf("CB_OFFLOAD %+v", got)
	}
	if data := last[wire.ReadRes](t, o.s.ok(putFH(o.to), read(o.toID, o.size-11, 100))).Data; string(data) != "the tail .." {
		t.Errorf("the copy ends with %q", data)
	}
	o.untilForgotten(id)
}

// untilForgotten waits until the server has seen that the client knows of the end.
func (o *offloadRig) untilForgotten(id wire.Stateid) {
	o.t.Helper()
	for range 1000 {
		if o.s.do(offloadStatus(id)).status == wire.NFS4ERR_BAD_STATEID {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	o.t.Error("the copy is kept though the client knows of its end")
}

// A client that could not be told learns it from OFFLOAD_STATUS, and is told once its backchannel is
// well again.
func TestCopyEndsWhileTheClientCannotBeCalled(t *testing.T) {
	o := newOffloadRig(t)
	id := o.start()
	<-o.begun
	o.client.end()
	o.s = o.s.on(o.b)
	close(o.part)
	var p *wire.OffloadStatusRes
	for range 1000 {
		if p = last[wire.OffloadStatusRes](t, o.s.ok(offloadStatus(id))); p.Complete {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if !p.Complete || p.Status != wire.NFS4_OK || p.Count != o.size {
		t.Errorf("status %+v", p)
	}
	again := o.callable(t)
	o.s.bind(again.b, wire.CDFC4_BACK_OR_BOTH)
	if got := again.expect(wire.OP_CB_OFFLOAD).offload; got.Stateid != id || got.Bytes != o.size {
		t.Errorf("CB_OFFLOAD %+v", got)
	}
	o.untilForgotten(id)
}

// What a client is told of the end of a copy has the verifier from before that, or it would take what was lost meanwhile for stable when
// it has committed it.
func TestCopyWhileTheVerifierChanges(t *testing.T) {
	for name, whileMoving := range map[string]bool{"under way": true, "before its client hears of the end": false} {
		t.Run(name, func(t *testing.T) {
			o := newOffloadRig(t)
			id := o.start()
			<-o.begun
			if whileMoving {
				o.part <- struct{}{}
				<-o.begun
				o.fs.verifier.Store(&[8]byte{5})
				close(o.part)
			} else {
				o.client.end()
				o.s = o.s.on(o.b)
				close(o.part)
				for deadline := time.Now().Add(10 * time.Second); !last[wire.OffloadStatusRes](t, o.s.ok(offloadStatus(id))).Complete; {
					if time.Now().After(deadline) {
						t.Fatal("the copy does not end")
					}
					time.Sleep(time.Millisecond)
				}
				o.fs.verifier.Store(&[8]byte{5})
				o.client = o.callable(t)
				o.s.bind(o.client.b, wire.CDFC4_BACK_OR_BOTH)
			}
			got := o.client.expect(wire.OP_CB_OFFLOAD).offload
			if got.Status != wire.NFS4_OK || got.Bytes == 0 || got.Verifier != (wire.Verifier{4, 2}) {
				t.Errorf("CB_OFFLOAD %+v", got)
			}
		})
	}
}

// A client that is not ready to be told for a while is told later: it may have nothing else to wait for.
func TestCopyEndsWhileTheClientIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it takes two seconds, in which the machine may stop for as long as a callback is waited for
		o := newOffloadRigWith(t, func(o *nfs4.Options) { o.LeaseSeconds = 1 }) // by a clock that stands still
		id := o.start()
		<-o.begun
		o.client.with(func() { o.client.statuses = slices.Repeat([]wire.Status{wire.NFS4ERR_DELAY}, 8) })
		close(o.part)
		for range 9 {
			if got := o.client.expect(wire.OP_CB_OFFLOAD).offload; got.Stateid != id || got.Bytes != o.size {
				t.Errorf("CB_OFFLOAD %+v", got)
			}
		}
		o.untilForgotten(id)
		o.client.quiet()
	})
}

// OFFLOAD_CANCEL is answered when nothing is written any more.
func TestCopyIsCancelled(t *testing.T) {
	o := newOffloadRig(t)
	id := o.start()
	<-o.begun
	answered := make(chan *answer)
	request := o.s.encode(offloadCancel(id))
	go func() { answered <- handle(o.s.b, o.s.auth, request) }()
	select {
	case <-answered:
		t.Error("answered while a part was being moved")
	case <-time.After(20 * time.Millisecond):
	}
	o.part <- struct{}{}
	wantStatus(t, <-answered, wire.NFS4_OK)
	o.client.quiet()
	if len(o.begun) != 0 {
		t.Error("a part was moved after the answer")
	}
	o.s.fails(wire.NFS4ERR_BAD_STATEID, offloadCancel(id))
	o.s.fails(wire.NFS4ERR_BAD_STATEID, offloadStatus(id))
}

// What ends a copy early, and what the client is told: what there is of it is a success.
func TestCopyEndsEarly(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(o *offloadRig)
		want wire.Status
		more bool // a part was moved before
	}{
		{"the connection may not write any more", func(o *offloadRig) { o.client.b.SetGrant(nfs4.Grant{Mount: true}) }, wire.NFS4_OK, true},
		{"the connection may not mount any more", func(o *offloadRig) { o.client.b.SetGrant(nfs4.Grant{Write: true}) }, wire.NFS4_OK, true},
		{"the storage fails at once", func(o *offloadRig) { o.fs.fail = vfs.ErrIO }, wire.NFS4ERR_IO, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOffloadRig(t)
			o.start()
			<-o.begun
			var want uint64
			if c.more {
				want = nfs4.MaxIOBytes
			}
			c.end(o)
			close(o.part)
			if got := o.client.expect(wire.OP_CB_OFFLOAD).offload; got.Status != c.want || got.Bytes != want {
				t.Errorf("CB_OFFLOAD %+v", got)
			}
		})
	}
}

// A copy goes on after its connection has ended, and follows what that may do until it is over; then the connection is left.
func TestCopyFollowsItsConnection(t *testing.T) {
	o := newOffloadRig(t)
	left := make(chan struct{}, 2)
	b := o.rig.s.Bind(nfs4.ConnInfo{Grant: everything, Left: func() { left <- struct{}{} }})
	idle := o.rig.s.Bind(nfs4.ConnInfo{Grant: everything, Left: func() { left <- struct{}{} }})
	o.s = o.s.on(b)
	o.start()
	<-o.begun
	idle.Close()
	<-left
	b.Close()
	o.part <- struct{}{}
	<-o.begun
	if len(left) != 0 {
		t.Error("left while the copy goes on")
	}
	b.SetGrant(nfs4.Grant{Mount: true})
	close(o.part)
	if got := o.client.expect(wire.OP_CB_OFFLOAD).offload; got.Status != wire.NFS4_OK || got.Bytes != 2*nfs4.MaxIOBytes {
		t.Errorf("CB_OFFLOAD %+v", got)
	}
	<-left
	if len(left) != 0 {
		t.Error("left twice")
	}
}

// CLOSE of one of its files, DELEGRETURN, or OPEN_DOWNGRADE to less than it needs ends a copy, and is answered when nothing is written
// any more: others may have the file then.
func TestCopyEndsBeforeClose(t *testing.T) {
	for name, end := range map[string]func(o *offloadRig) []call{
		"target":     func(o *offloadRig) []call { return []call{putFH(o.to), closeFile(o.toID)} },
		"source":     func(o *offloadRig) []call { return []call{putFH(o.from), closeFile(o.fromID)} },
		"delegation": (*offloadRig).underDelegation,
		"target may be read only": func(o *offloadRig) []call {
			o.toID = o.openOnce("to", forRead)
			return []call{putFH(o.to), downgrade(o.toID, forRead)}
		},
		"source may be written only": func(o *offloadRig) []call {
			o.fromID = o.openOnce("from", forWrite)
			return []call{putFH(o.from), downgrade(o.fromID, forWrite)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffloadRig(t)
			ending := end(o)
			id := o.start()
			<-o.begun
			o.s.fails(wire.NFS4ERR_BAD_STATEID, putFH(o.to), closeFile(o.fromID)) // the copy goes on
			answered := make(chan *answer)
			request := o.s.encode(ending...)
			go func() { answered <- handle(o.s.b, o.s.auth, request) }()
			select {
			case <-answered:
				close(o.part)
				t.Fatal("answered while a part was being moved")
			case <-time.After(20 * time.Millisecond):
			}
			close(o.part)
			wantStatus(t, <-answered, wire.NFS4_OK)
			if len(o.begun) != 0 {
				t.Error("a part was moved after that")
			}
			got := o.client.expect(wire.OP_CB_OFFLOAD).offload
			if got.Stateid != id || got.Status != wire.NFS4_OK || got.Bytes != nfs4.MaxIOBytes {
				t.Errorf("CB_OFFLOAD %+v", got)
			}
		})
	}
}

// A copy that is begun while CLOSE, DELEGRETURN or OPEN_DOWNGRADE waits for another one is waited for too.
func TestCopyBegunBeforeClose(t *testing.T) {
	for name, end := range map[string]func(o *offloadRig) []call{
		"CLOSE":       func(o *offloadRig) []call { return []call{putFH(o.to), closeFile(o.toID)} },
		"DELEGRETURN": (*offloadRig).underDelegation,
		"OPEN_DOWNGRADE": func(o *offloadRig) []call {
			o.toID = o.openOnce("to", forRead)
			return []call{putFH(o.to), downgrade(o.toID, forRead)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffloadRig(t)
				ending := end(o)
				o.start()
				<-o.begun
				answers := make(chan *answer, 1)
				request := o.s.encode(ending...)
				go func() { answers <- handle(o.s.b, o.s.auth, request) }()
				synctest.Wait()
				o.s = o.s.onSlot(1)
				o.start()
				<-o.begun
				o.part <- struct{}{} // of the copy that was begun first
				synctest.Wait()
				if len(answers) > 0 {
					t.Error("answered while a part was being moved")
				}
				close(o.part)
				wantStatus(t, <-answers, wire.NFS4_OK)
				if len(o.begun) != 0 {
					t.Error("a part was moved after that")
				}
			})
		})
	}
}

// A copy that its client waits for ends with its opens as well, or with what others are denied, behind the part that is being moved: its client can
// have closed the file without waiting for the answer, and others have it then.
func TestCopyWhileTheClientWaitsEndsWithClose(t *testing.T) {
	deny := func(name string, how uint32) call {
		a := openArgs(name, forRead)
		a.Owner.Owner, a.ShareDeny = []byte("another"), how
		return call{wire.OP_OPEN, a}
	}
	for name, c := range map[string]struct {
		anonymous bool
		end       func(o *offloadRig) []call
	}{
		"target":           {false, func(o *offloadRig) []call { return []call{putFH(o.to), closeFile(o.toID)} }},
		"source":           {false, func(o *offloadRig) []call { return []call{putFH(o.from), closeFile(o.fromID)} }},
		"target is denied": {true, func(o *offloadRig) []call { return []call{putRoot, deny("to", wire.OPEN4_SHARE_DENY_WRITE)} }},
		"source is denied": {true, func(o *offloadRig) []call { return []call{putRoot, deny("from", wire.OPEN4_SHARE_DENY_READ)} }},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOffloadRig(t)
			args := &wire.CopyArgs{CloneArgs: cloneOf(o.fromID, o.toID, 1, 0, 0), Consecutive: true, Synchronous: true}
			if c.anonymous {
				o.s.ok(putFH(o.to), closeFile(o.toID), putFH(o.from), closeFile(o.fromID))
				args.Source, args.Target = wire.AnonymousStateid, wire.AnonymousStateid
			}
			answers := make(chan *answer, 1)
			request := o.s.encode(putFH(o.from), saveFH, putFH(o.to), call{wire.OP_COPY, args})
			go func() { answers <- handle(o.s.b, o.s.auth, request) }()
			<-o.begun
			o.s.onSlot(1).ok(c.end(o)...)
			close(o.part)
			a := <-answers
			wantStatus(t, a, wire.NFS4_OK)
			if n := last[wire.CopyRes](t, a).Response.Count; n != nfs4.MaxIOBytes {
				t.Errorf("%d bytes were copied", n)
			}
		})
	}
}

// underDelegation has the copy write to a delegated file, and ends that.
func (o *offloadRig) underDelegation() []call {
	h, got := o.s.delegated("delegated", wire.OPEN4_SHARE_ACCESS_BOTH)
	o.to, o.toID = h, got.Delegation.Stateid
	return []call{putFH(o.to), giveBack(o.toID)}
}

// OPEN_DOWNGRADE that leaves what a copy needs, or fails, does not end it.
func TestCopyOutlivesDowngrade(t *testing.T) {
	o := newOffloadRig(t)
	o.toID, o.fromID = o.openOnce("to", forWrite), o.openOnce("from", forRead)
	o.start()
	<-o.begun
	o.s.fails(wire.NFS4ERR_INVAL, putFH(o.to), downgrade(o.toID, forRead)) // it was never opened for reading alone
	o.s.ok(putFH(o.to), downgrade(o.toID, forWrite))
	o.s.ok(putFH(o.from), downgrade(o.fromID, forRead))
	close(o.part)
	if got := o.client.expect(wire.OP_CB_OFFLOAD).offload; got.Status != wire.NFS4_OK || got.Bytes != o.size {
		t.Errorf("CB_OFFLOAD %+v", got)
	}
}

// Close waits for the copy, which is cut short.
func TestCopyEndsWithTheService(t *testing.T) {
	o := newOffloadRig(t)
	o.start()
	<-o.begun
	closed := make(chan struct{})
	go func() {
		o.rig.s.Close()
		close(closed)
	}()
	select {
	case <-closed:
		t.Error("closed while a part was being moved")
	case <-time.After(20 * time.Millisecond):
	}
	close(o.part)
	<-closed
	if len(o.begun) != 0 {
		t.Error("a part was moved after the close")
	}
}

// A client that cannot be called, or that has as many copies as may be, gets its copy while it waits.
func TestCopyWhileTheClientWaits(t *testing.T) {
	o := newOffloadRig(t)
	for range 4 {
		o.start()
	}
	for range 4 {
		<-o.begun
	}
	close(o.part)
	for range 4 {
		o.client.expect(wire.OP_CB_OFFLOAD)
	}
	o.client.with(func() { o.client.statuses = []wire.Status{wire.NFS4ERR_SERVERFAULT} }) // the next end is not heard of
	o.fs.beforeRead = nil
	id := o.start()
	o.client.expect(wire.OP_CB_OFFLOAD)
	o.s.ok(offloadStatus(id))
	o.s.ok(offloadCancel(id))

	o.client.end()
	o.s = o.s.on(o.b)
	res := last[wire.CopyRes](t, o.s.ok(putFH(o.from), saveFH, putFH(o.to), o.copy()))
	if res.Response.Async || res.Response.Count != 64<<20 {
		t.Errorf("%+v", res)
	}
}
