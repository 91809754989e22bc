package nfs4_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

// lose sends a request whose reply is lost: the server is started anew after it was carried out. It returns
// what the client sends again, and the reply that it never got.
func (s *session) lose(ops ...call) (request []byte, lost *answer) {
	s.r.t.Helper()
	request = s.encode(ops...)
	lost = handle(s.b, s.auth, request)
	wantStatus(s.r.t, lost, wire.NFS4_OK)
	s.r.restart()
	s.b = s.r.b
	return request, lost
}

// retry sends a request again.
func (s *session) retry(request []byte) *answer { return handle(s.b, s.auth, request) }

// marks counts what requests have left in the file system.
func (r *rig) marks() (n int) {
	r.t.Helper()
	err := r.mem.EachMark(context.Background(), func([]byte, []byte, vfs.Done) error {
		n++
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

func guarded(name string, mode uint32) call {
	a := openArgs(name, wire.OPEN4_SHARE_ACCESS_BOTH)
	a.Create, a.CreateMode, a.Attrs = true, wire.GUARDED4, withMode(mode)
	return call{wire.OP_OPEN, a}
}

func exclusive(name string, verifier byte) call {
	a := openArgs(name, wire.OPEN4_SHARE_ACCESS_BOTH)
	a.Create, a.CreateMode, a.Verifier, a.Attrs = true, wire.EXCLUSIVE4_1, wire.Verifier{verifier}, withMode(0o600)
	return call{wire.OP_OPEN, a}
}

// onceCases are requests that have another result when they are carried out twice; before is what there must be first.
var onceCases = []struct {
	name   string
	before []call
	ops    []call
}{
	{"mkdir", nil, []call{putRoot, mkdir("d", 0o750), getFH, getAttr(wire.FATTR4_TYPE, wire.FATTR4_MODE)}},
	{"symlink", nil, []call{putRoot, {wire.OP_CREATE, &wire.CreateArgs{Type: wire.NF4LNK, Name: []byte("l"), Target: []byte("target")}}, getFH, readLink}},
	{"rm", []call{putRoot, mkdir("d", 0o700)}, []call{putRoot, remove("d"), getAttr(wire.FATTR4_CHANGE)}},
	{"mv", []call{putRoot, mkdir("a", 0o700)}, []call{putRoot, saveFH, rename("a", "b"), getAttr(wire.FATTR4_CHANGE)}},
	{"mv between directories", []call{putRoot, mkdir("a", 0o700), putRoot, mkdir("d", 0o700)},
		[]call{putRoot, saveFH, lookup("d"), rename("a", "b"), getAttr(wire.FATTR4_CHANGE)}},
	{"ln", []call{putRoot, create("a", 0o600)}, []call{putRoot, lookup("a"), saveFH, putRoot, linkTo("b"), restoreFH, getAttr(wire.FATTR4_NUMLINKS)}},
	{"open guarded", nil, []call{putRoot, guarded("f", 0o400), getFH, access(wire.ACCESS4_READ), getAttr(wire.FATTR4_MODE)}},
	{"open exclusive", nil, []call{putRoot, exclusive("f", 1), getFH, getAttr(wire.FATTR4_MODE)}},
	{"setxattr", nil, []call{putRoot, setXattr("x", "1", wire.SETXATTR4_CREATE), getAttr(wire.FATTR4_CHANGE)}},
	{"removexattr", []call{putRoot, setXattr("x", "1", wire.SETXATTR4_CREATE)},
		[]call{putRoot, removeXattr("x"), getAttr(wire.FATTR4_CHANGE)}},
	{"two in one", nil, []call{putRoot, mkdir("d", 0o700), getFH, mkdir("e", 0o700), getFH, lookupP, lookupP, getAttr(wire.FATTR4_CHANGE)}},
}

// bodies are an answer's results behind SEQUENCE, without the stateid of an OPEN, which differs.
func bodies(a *answer) string {
	var text strings.Builder
	for _, r := range a.results[1:] {
		if o, ok := r.body.(*wire.OpenRes); ok {
			same := *o
			same.Stateid, same.Delegation = wire.Stateid{}, wire.Delegation{}
			same.Flags &^= wire.OPEN4_RESULT_MAY_NOTIFY_LOCK
			r.body = &same
		}
		fmt.Fprintf(&text, "%v %v %+v\n", r.op, r.status, r.body)
	}
	return text.String()
}

// What was carried out before a restart, and not answered, is answered when it is sent again, in the
// recovery phase too, as often as it is sent, over several restarts.
func TestRetryAfterRestart(t *testing.T) {
	for _, c := range onceCases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			s := r.newSession("client")
			s.minor, s.cache = 2, true
			if c.before != nil {
				s.ok(c.before...)
			}
			request, lost := s.lose(c.ops...)
			want := bodies(lost)
			for range 2 {
				got := s.retry(request)
				wantStatus(t, got, wire.NFS4_OK)
				if bodies(got) != want {
					t.Errorf("the retry is answered\n%s, the request was answered\n%s", bodies(got), want)
				}
				seq := at[wire.SequenceRes](t, got, 0)
				if seq.SessionID != s.id || seq.SequenceID != s.seq || seq.SlotID != 0 || seq.HighestSlot != 0 {
					t.Errorf("SEQUENCE: %+v", seq)
				}
				r.restart()
				s.b = r.b
			}
		})
	}
}

// Anything but the retry of the last request finds no session.
func TestRetryAfterRestartOfAnotherRequest(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("client")
	s.cache = true
	request, _ := s.lose(putRoot, mkdir("d", 0o700))
	send := func(what string, change func(*session), ops ...call) {
		t.Helper()
		other := *s
		other.seq--
		change(&other)
		wantStatus(t, other.do(ops...), wire.NFS4ERR_BADSESSION)
	}
	same := []call{putRoot, mkdir("d", 0o700)}
	send("the next sequence", func(o *session) { o.seq++ }, same...)
	send("an earlier sequence", func(o *session) { o.seq-- }, same...)
	send("another request", func(*session) {}, putRoot, mkdir("e", 0o700))
	send("a longer request", func(*session) {}, putRoot, mkdir("d", 0o700), getFH)
	send("another user", func(o *session) { o.auth = sysAuth(1, 1) }, same...)
	send("another session", func(o *session) { o.id[15]++ }, same...)
	send("another identity", func(o *session) { o.b = r.s.Bind(nfs4.ConnInfo{Grant: everything, Identity: "x"}) }, same...)
	send("another slot", func(o *session) {}, call{op: wire.OP_SEQUENCE}) // no such request
	wantStatus(t, s.retry(request), wire.NFS4_OK)
}

// What only looks is executed again; for the rest of a request the session is dead.
func TestRetryAfterRestartOfARequestThatWasCutShort(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("client")
	s.cache = true
	request := s.encode(putRoot, mkdir("d", 0o700), mkdir("e", 0o700), mkdir("f", 0o700))
	r.fs.failCreate = "f"
	wantStatus(t, handle(s.b, s.auth, request), wire.NFS4ERR_IO)
	r.fs.failCreate = ""
	r.restart()
	s.b = r.b
	got := s.retry(request)
	wantStatus(t, got, wire.NFS4ERR_DEADSESSION)
	if len(got.results) != 5 || got.results[3].status != wire.NFS4_OK {
		t.Errorf("results: %+v", got.results)
	}
	n := r.newSession("client")
	n.fails(wire.NFS4ERR_EXIST, putRoot, lookup("d"), mkdir("e", 0o700))
	n.ok(putRoot, lookup("d"), lookup("e"))
	n.fails(wire.NFS4ERR_NOENT, putRoot, lookup("d"), lookup("e"), lookup("f"))
}

// An open whose reply was lost is reclaimed as the others.
func TestRetriedOpenIsReclaimed(t *testing.T) {
	r := newRig(t, nil)
	s := r.newSession("client")
	s.cache = true
	request, _ := s.lose(putRoot, exclusive("f", 1), getFH)
	got := s.retry(request)
	wantStatus(t, got, wire.NFS4_OK)
	id := at[wire.OpenRes](t, got, 2).Stateid
	handle := last[wire.GetFHRes](t, got).Handle
	n := r.newSessionWith("client", wide)
	n.fails(wire.NFS4ERR_BAD_STATEID, putFH(handle), write(id, 0, "x"))
	again := openArgs("", wire.OPEN4_SHARE_ACCESS_BOTH)
	again.Claim = wire.CLAIM_PREVIOUS
	a := n.ok(putFH(handle), call{wire.OP_OPEN, again})
	n.ok(reclaimComplete)
	n.ok(putFH(handle), write(last[wire.OpenRes](t, a).Stateid, 0, "x"))
}

// Marks go with their session, and those of former starts after a while.
func TestMarksGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(o *nfs4.Options) { o.Now = time.Now })
		want := func(n int, when string) {
			t.Helper()
			if got := r.marks(); got != n {
				t.Fatalf("%d marks %s, want %d", got, when, n)
			}
		}
		a, b := r.newSession("a"), r.newSession("b")
		for n := range 3 {
			a.ok(putRoot, mkdir(fmt.Sprint("a", n), 0o700))
		}
		b.ok(putRoot, mkdir("b", 0o700))
		a.fails(wire.NFS4ERR_EXIST, putRoot, mkdir("b", 0o700))
		want(2, "of two slots")
		wantStatus(t, r.raw(call{wire.OP_DESTROY_SESSION, &wire.DestroySessionArgs{SessionID: a.id}}), wire.NFS4_OK)
		want(1, "after one session ended")
		r.restart()
		want(1, "after a restart")
		time.Sleep(239 * 15 * time.Second)
		synctest.Wait()
		want(1, "too early")
		c := r.newSession("c")
		c.ok(putRoot, mkdir("c", 0o700))
		for range 3 {
			time.Sleep(10 * time.Second)
			c.ok(putRoot)
		}
		synctest.Wait()
		want(1, "after a long while")
		b.b = r.b
		b.seq--
		b.fails0(wire.NFS4ERR_BADSESSION)
		r.s.Close()
	})
}

// fillCache has so many other clients take a part of the reply cache that nothing is left of it, and returns their
// sessions.
func (r *rig) fillCache(fore wire.ChannelAttrs) (others []wire.SessionID) {
	r.t.Helper()
	for n := range 100 {
		ex := last[wire.ExchangeIDRes](r.t, r.raw(exchangeID(fmt.Sprint(n))))
		a := r.raw(call{wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ClientID: ex.ClientID, SequenceID: ex.SequenceID, Fore: fore, Back: wide}})
		if a.status == wire.NFS4ERR_DELAY {
			return others
		}
		wantStatus(r.t, a, wire.NFS4_OK)
		others = append(others, last[wire.CreateSessionRes](r.t, a).SessionID)
	}
	r.t.Fatal("there is always room")
	return nil
}

// A slot that the session had to give back, and has again, begins anew: a mark from before must not be the answer
// to a request that was never carried out.
func TestMarksGoWithTheirSlot(t *testing.T) {
	r := newRig(t, func(o *nfs4.Options) { o.Limits.ReplyCacheBytes, o.Limits.Slots = 512<<10, 16 })
	fore := wide
	fore.MaxRequests, fore.MaxResponseSizeCached = 16, 8<<10
	s := r.newSessionWith("client", fore)
	s.ok(reclaimComplete)
	lastSlot := s.fore.MaxRequests - 1
	on := func(slot, sequence uint32, ops ...call) *answer {
		seq := call{wire.OP_SEQUENCE, &wire.SequenceArgs{SessionID: s.id, SequenceID: sequence, SlotID: slot, HighestSlot: slot, CacheThis: true}}
		return s.retry(encodeCompound("t", 1, append([]call{seq}, ops...)...))
	}
	again := []call{putRoot, mkdir("d", 0o700)}
	wantStatus(t, on(lastSlot, 1, again...), wire.NFS4_OK)
	s.ok(putRoot, remove("d"))
	others := r.fillCache(fore)
	s.ok(putRoot)
	s.ok(putRoot)
	if got := at[wire.SequenceRes](t, s.ok(putRoot), 0).HighestSlot; got >= lastSlot {
		t.Fatalf("slot %d is still there", got)
	}
	for _, id := range others {
		wantStatus(t, r.raw(call{wire.OP_DESTROY_SESSION, &wire.DestroySessionArgs{SessionID: id}}), wire.NFS4_OK)
	}
	// Whoever uses its last slot gets more.
	used := map[uint32]uint32{}
	n := uint32(0)
	for range 100 {
		if n = at[wire.SequenceRes](t, s.ok(putRoot), 0).HighestSlot; n == lastSlot {
			break
		}
		if n > 0 {
			used[n]++
			wantStatus(t, on(n, used[n], putRoot), wire.NFS4_OK)
		}
	}
	if n != lastSlot || r.marks() != 2 {
		t.Fatalf("the last slot is %d, %d marks", n, r.marks())
	}
	wantStatus(t, on(lastSlot, 1, putRoot), wire.NFS4_OK)
	if n := r.marks(); n != 1 {
		t.Errorf("%d marks after the slot began anew", n)
	}
	r.restart()
	s.b = r.b
	wantStatus(t, on(lastSlot, 1, again...), wire.NFS4ERR_BADSESSION)
}

// A server that can't read what requests have left does not start; of another version it knows nothing.
func TestDamagedMarks(t *testing.T) {
	for _, c := range []struct {
		name string
		note []byte
		ok   bool
	}{
		{"a later version", []byte{2, 1, 2, 3}, true},
		{"short", []byte{1, 2}, false},
		{"empty", nil, false},
		{"odd", append([]byte{1}, make([]byte, 17)...), false},
		{"out of order", append([]byte{1}, make([]byte, 16+48)...), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			ctx := &vfs.MarkContext{Context: context.Background(), Mark: vfs.Mark{Key: make([]byte, 20), Note: c.note}}
			var out vfs.CreateResult
			req := vfs.CreateRequest{Kind: vfs.Directory, Mode: vfs.Guarded}
			if err := r.mem.Create(ctx, nil, r.mem.Root(), "d", &req, &out); err != nil {
				t.Fatal(err)
			}
			s, err := nfs4.New(r.o)
			if err == nil {
				s.Close()
			}
			if (err == nil) != c.ok {
				t.Errorf("New: %v", err)
			}
		})
	}
}

// lossy is a client whose replies are lost now and then because the server is started anew, and which does then
// what a client does: it sends the request again, and if there is no session, once more in a new one.
type lossy struct {
	*session
	rng *rand.Rand
}

func (l *lossy) request(ops ...call) wire.Status {
	request := l.encode(ops...)
	var got *answer
	switch l.rng.IntN(4) {
	case 0: // lost on the way to the server
		l.restart()
		got = l.retry(request)
	case 1, 2: // lost on the way back
		handle(l.b, l.auth, request)
		for range 1 + l.rng.IntN(2) {
			l.restart()
			got = l.retry(request)
		}
	default:
		return handle(l.b, l.auth, request).status
	}
	if got.results[0].status == wire.NFS4ERR_BADSESSION {
		l.again()
		return l.do(ops...).status
	}
	l.again()
	return got.status
}

func (l *lossy) restart() {
	l.r.restart()
	l.b = l.r.b
}

// again is a new session.
func (l *lossy) again() {
	l.session = l.r.newSession("client")
	l.cache, l.minor = true, 2
}

// Random operations over a server that is started anew all the time have the results that they have when each
// is carried out once.
func TestOnceModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 30))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	})
	model, real := newRig(t, nil), newRig(t, nil)
	m := model.newSession("client")
	m.cache, m.minor = true, 2
	l := &lossy{session: real.newSession("client"), rng: rng}
	l.cache, l.minor = true, 2
	name := func() string { return string(rune('a' + rng.IntN(5))) }
	for step := range 600 {
		var ops []call
		switch a, b := name(), name(); rng.IntN(8) {
		case 0:
			ops = []call{putRoot, mkdir(a, 0o700), getFH}
		case 1:
			ops = []call{putRoot, remove(a)}
		case 2:
			ops = []call{putRoot, saveFH, rename(a, b)}
		case 3:
			ops = []call{putRoot, lookup(a), saveFH, putRoot, linkTo(b)}
		case 4:
			ops = []call{putRoot, guarded(a, 0o400), getFH}
		case 5:
			ops = []call{putRoot, exclusive(a, byte(step)), getFH}
		case 6:
			ops = []call{putRoot, setXattr(a, b, wire.SETXATTR4_CREATE)}
		default:
			ops = []call{putRoot, removeXattr(a)}
		}
		if want, got := m.do(ops...).status, l.request(ops...); got != want {
			t.Fatalf("step %d, %v: %v, carried out once %v", step, ops[len(ops)-1], got, want)
		}
		if want, got := tree(t, model), tree(t, real); !slices.Equal(want, got) {
			t.Fatalf("step %d: %v, carried out once %v", step, got, want)
		}
	}
}

// tree is what there is in the root directory: names, kinds and links.
func tree(t *testing.T, r *rig) (list []string) {
	t.Helper()
	_, err := r.mem.ReadDir(context.Background(), nil, r.mem.Root(), 0, true, func(e *vfs.DirEntry) bool {
		list = append(list, fmt.Sprint(e.Name, e.Attr.Kind, e.Attr.Links))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// Minor version 0 has no sessions, and leaves nothing.
func TestNoMarksInMinorVersion0(t *testing.T) {
	r := newRig(t, nil)
	a := handle(r.b, sysAuth(0, 0), encodeCompound("t", 0, putRoot, mkdir("d", 0o700)))
	wantStatus(t, a, wire.NFS4_OK)
	if n := r.marks(); n != 0 {
		t.Errorf("%d marks", n)
	}
}
