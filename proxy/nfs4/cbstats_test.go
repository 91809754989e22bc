package nfs4_test

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// callbacks are the counts of callbacks, of the kinds that have any.
func (r *rig) callbacks() map[string]nfs4.CallbackStats {
	counts := make(map[string]nfs4.CallbackStats)
	for _, n := range r.s.Stats().Callbacks {
		if n != (nfs4.CallbackStats{Op: n.Op}) {
			counts[n.Op] = n
		}
	}
	return counts
}

// cbCase is something that has clients called, and how often by then, and how.
type cbCase struct {
	name   string
	change func(*nfs4.Options) // may be nil
	does   func(t *testing.T, c *counting)
	want   []nfs4.CallbackStats
}

// counting is a client that can be called and has been told so once, with CB_NULL, and another one that cannot.
type counting struct {
	*rig
	s      *session
	client *callee
	other  *session
}

// recalls has the delegation of a file called back.
func (c *counting) recalls() {
	c.t.Helper()
	c.s.delegated("f", forRead)
	c.other.fails(wire.NFS4ERR_DELAY, putRoot, open("f", forWrite))
}

// asks has the client asked for the attributes of a file that it may be writing.
func (c *counting) asks(said wire.Attrs) *answer {
	c.t.Helper()
	c.s.delegated("f", forBoth)
	c.client.with(func() { c.client.attrs = said })
	return c.other.do(putRoot, lookup("f"), getAttr(wire.FATTR4_SIZE))
}

// holds has the client keep its answers to itself until release.
func (c *counting) holds() (release func()) {
	hold := make(chan struct{})
	c.client.with(func() { c.client.hold = hold })
	return func() { close(hold) }
}

func lockFor(id wire.Stateid, kind wire.LockType) call {
	return call{wire.OP_LOCK, &wire.LockArgs{Type: kind, Length: 10, NewOwner: true, OpenStateid: id, Owner: wire.Owner{Owner: []byte("o")}}}
}

// Each callback is counted as what it is and as what came of it, once, and nothing else is.
func TestCallbacksAreCounted(t *testing.T) {
	null := nfs4.CallbackStats{Op: "CB_NULL", Sent: 1}
	for _, c := range []cbCase{
		{"nothing", nil, func(*testing.T, *counting) {}, []nfs4.CallbackStats{null}},
		{"a delegation that nobody wants", nil, func(t *testing.T, c *counting) {
			h, got := c.s.delegated("f", forRead)
			c.other.ok(putRoot, open("f", forRead))
			c.s.ok(putFH(h), giveBack(got.Delegation.Stateid))
		}, []nfs4.CallbackStats{null}},
		{"CB_RECALL", nil, func(t *testing.T, c *counting) {
			c.recalls()
			c.client.expect(wire.OP_CB_RECALL)
			c.other.fails(wire.NFS4ERR_DELAY, putRoot, open("f", forWrite)) // one is enough
		}, []nfs4.CallbackStats{null, {Op: "CB_RECALL", Sent: 1}}},
		{"CB_GETATTR", nil, func(t *testing.T, c *counting) {
			wantStatus(t, c.asks(wire.Attrs{Mask: wire.BitmapOf(wire.FATTR4_CHANGE, wire.FATTR4_SIZE), Size: 7}), wire.NFS4_OK)
		}, []nfs4.CallbackStats{null, {Op: "CB_GETATTR", Sent: 1}}},
		{"CB_NOTIFY_LOCK", nil, func(t *testing.T, c *counting) {
			h, theirs := c.other.makeFile("f", 0o644)
			c.other.ok(putFH(h), lockFor(theirs, wire.WRITE_LT))
			mine := last[wire.OpenRes](t, c.s.ok(putRoot, open("f", forBoth))).Stateid
			c.s.fails(wire.NFS4ERR_DENIED, putFH(h), lockFor(mine, wire.WRITEW_LT))
			c.other.ok(putFH(h), closeFile(theirs))
		}, []nfs4.CallbackStats{null, {Op: "CB_NOTIFY_LOCK", Sent: 1}}},
		{"CB_RECALL_ANY", func(o *nfs4.Options) { o.Limits.DelegationsPerClient = 4 }, func(t *testing.T, c *counting) {
			for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
				c.s.makeFile(name, 0o644)
			}
		}, []nfs4.CallbackStats{null, {Op: "CB_RECALL_ANY", Sent: 1}}},
		{"CB_RECALL_SLOT", func(o *nfs4.Options) { o.Limits.ReplyCacheBytes, o.Limits.Slots = 5*4096, 16 }, func(t *testing.T, c *counting) {
			ex := last[wire.ExchangeIDRes](t, c.raw(exchangeID("late")))
			wantStatus(t, c.raw(call{wire.OP_CREATE_SESSION, &wire.CreateSessionArgs{ClientID: ex.ClientID, SequenceID: ex.SequenceID,
				Fore: wide, Back: wide}}), wire.NFS4ERR_DELAY)
		}, []nfs4.CallbackStats{null, {Op: "CB_RECALL_SLOT", Sent: 1}}},

		{"an error", nil, func(t *testing.T, c *counting) {
			c.client.with(func() { c.client.statuses = []wire.Status{wire.NFS4ERR_SERVERFAULT} })
			c.recalls()
		}, []nfs4.CallbackStats{null, {Op: "CB_RECALL", Sent: 1, Errors: 1}}},
		{"an error of CB_SEQUENCE", nil, func(t *testing.T, c *counting) {
			c.client.with(func() { c.client.sequence = []wire.Status{wire.NFS4ERR_BADSESSION} })
			c.recalls()
		}, []nfs4.CallbackStats{null, {Op: "CB_RECALL", Sent: 1, Errors: 1}}},
		{"not ready at first", nil, func(t *testing.T, c *counting) {
			c.client.with(func() {
				c.client.sequence = []wire.Status{wire.NFS4ERR_DELAY}
				c.client.statuses = []wire.Status{wire.NFS4ERR_DELAY, wire.NFS4ERR_BADHANDLE}
			})
			c.recalls()
			time.Sleep(time.Minute)
		}, []nfs4.CallbackStats{null, {Op: "CB_RECALL", Sent: 1}}},
		{"never ready", func(o *nfs4.Options) { o.Now = time.Now }, func(t *testing.T, c *counting) { // asked again until it is revoked
			c.client.with(func() {
				for range 100 {
					c.client.statuses = append(c.client.statuses, wire.NFS4ERR_DELAY)
				}
			})
			c.recalls()
			time.Sleep(time.Minute)
		}, []nfs4.CallbackStats{null, {Op: "CB_RECALL", Sent: 6, Errors: 6}}},
		{"attributes that say nothing", nil, func(t *testing.T, c *counting) {
			wantStatus(t, c.asks(wire.Attrs{}), wire.NFS4ERR_DELAY)
		}, []nfs4.CallbackStats{null, {Op: "CB_GETATTR", Sent: 1, Errors: 1}, {Op: "CB_RECALL", Sent: 1}}},
		{"no answer in time", nil, func(t *testing.T, c *counting) {
			defer c.holds()()
			c.recalls()
			time.Sleep(time.Minute)
		}, []nfs4.CallbackStats{null, {Op: "CB_RECALL", Sent: 1, NoAnswer: 1}}},
		{"no answer yet", nil, func(t *testing.T, c *counting) {
			t.Cleanup(c.holds())
			c.recalls()
			time.Sleep(time.Second)
		}, []nfs4.CallbackStats{null, {Op: "CB_RECALL", Sent: 1}}},
		{"a connection that ends", nil, func(t *testing.T, c *counting) {
			defer c.holds()()
			c.recalls()
			synctest.Wait()
			go c.client.end() // waits until nothing is held
			synctest.Wait()
		}, []nfs4.CallbackStats{null, {Op: "CB_RECALL", Sent: 1, NoAnswer: 1}}},
		{"no connection", nil, func(t *testing.T, c *counting) {
			c.s.delegated("f", forRead)
			c.s.delegated("g", forBoth)
			c.client.end()
			c.other.fails(wire.NFS4ERR_DELAY, putRoot, open("f", forWrite))
			c.other.fails(wire.NFS4ERR_DELAY, putRoot, lookup("g"), getAttr(wire.FATTR4_SIZE))
		}, []nfs4.CallbackStats{null, {Op: "CB_RECALL", NotSent: 2}, {Op: "CB_GETATTR", NotSent: 1}}},
		{"a connection bound anew", nil, func(t *testing.T, c *counting) {
			c.s.bind(c.client.b, wire.CDFC4_FORE_OR_BOTH)
		}, []nfs4.CallbackStats{{Op: "CB_NULL", Sent: 2}}},
		{"a connection bound anew that says nothing", nil, func(t *testing.T, c *counting) {
			defer c.holds()()
			c.s.bind(c.client.b, wire.CDFC4_FORE_OR_BOTH)
			time.Sleep(time.Minute)
		}, []nfs4.CallbackStats{{Op: "CB_NULL", Sent: 2, NoAnswer: 1}}},
	} {
		t.Run(c.name, func(t *testing.T) { synctest.Test(t, c.run) })
	}
}

func (c *cbCase) run(t *testing.T) {
	r := newRig(t, c.change)
	s, client := r.newCalled("holder")
	c.does(t, &counting{rig: r, s: s, client: client, other: r.newSession("other")})
	synctest.Wait()
	c.expect(t, r)
}

func (c *cbCase) expect(t *testing.T, r *rig) {
	t.Helper()
	want := make(map[string]nfs4.CallbackStats)
	for _, n := range c.want {
		want[n.Op] = n
	}
	if got := r.callbacks(); !maps.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// The end of a copy is told with a callback that is counted too.
func TestCallbackOfCopyIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffloadRig(t)
		o.start()
		close(o.part)
		o.client.expect(wire.OP_CB_OFFLOAD)
		synctest.Wait()
		c := cbCase{want: []nfs4.CallbackStats{{Op: "CB_NULL", Sent: 1}, {Op: "CB_OFFLOAD", Sent: 1}}}
		c.expect(t, o.rig)
	})
}

// All kinds are shown from the start, so that the first of each is a rise.
func TestCallbacksAreCountedFromZero(t *testing.T) {
	shown := map[string]bool{}
	for _, n := range newRig(t, nil).s.Stats().Callbacks {
		if n != (nfs4.CallbackStats{Op: n.Op}) || shown[n.Op] {
			t.Errorf("at the start: %+v", n)
		}
		shown[n.Op] = true
	}
	for _, op := range []string{"CB_NULL", "CB_GETATTR", "CB_NOTIFY_LOCK", "CB_OFFLOAD", "CB_RECALL", "CB_RECALL_ANY", "CB_RECALL_SLOT"} {
		if !shown[op] {
			t.Errorf("no %s", op)
		}
	}
	if len(shown) != 7 {
		t.Errorf("there are %v", shown)
	}
}
