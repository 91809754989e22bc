package nfs4_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
)

// What newRig has by default: a lease, how long its state is kept for a client that nobody is waiting for, and
// a recovery phase. The reaper looks every tick.
const (
	leaseTime    = 15 * time.Second
	courtesyTime = time.Hour
	graceTime    = 20 * time.Second
	reaperTick   = 3 * time.Second
)

// alone is an OPEN of name that keeps everybody else out.
func alone(name string) call {
	a := openArgs(name, forBoth)
	a.ShareDeny, a.Create, a.Attrs = wire.OPEN4_SHARE_DENY_BOTH, true, withMode(0o666)
	return call{wire.OP_OPEN, a}
}

// leaseCase is a client with a file open for itself alone, what it does, and what comes of it.
type leaseCase struct {
	name      string
	idle      bool // it has nothing open
	cache     int  // bytes for replies of all clients; 0: plenty
	renewals  int  // one a lease
	silent    time.Duration
	contested bool
	told      wire.Status // the one who wants the file
	kept      bool
}

// A lease, on the real clock of the service: who renews it keeps what it has, who is only away keeps it until
// somebody wants it, and who has nothing that others could want keeps its session for long.
func TestLeaseOverTime(t *testing.T) {
	for _, c := range []leaseCase{
		{name: "renewed for ten minutes", renewals: 40, contested: true, told: wire.NFS4ERR_SHARE_DENIED, kept: true},
		{name: "silent for a lease", silent: leaseTime, contested: true, told: wire.NFS4ERR_SHARE_DENIED, kept: true},
		{name: "silent for more than a lease", silent: leaseTime + 1, contested: true, told: wire.NFS4_OK},
		{name: "silent after it renewed", renewals: 40, silent: leaseTime + 1, contested: true, told: wire.NFS4_OK},
		{name: "silent, and nobody comes", silent: courtesyTime, kept: true},
		{name: "silent, and somebody comes late", silent: courtesyTime, contested: true, told: wire.NFS4_OK},
		{name: "silent for too long", silent: courtesyTime + 2*reaperTick},
		{name: "with nothing open", idle: true, silent: courtesyTime, contested: true, told: wire.NFS4_OK, kept: true},
		{name: "with nothing open for too long", idle: true, silent: courtesyTime + 2*reaperTick},
		{name: "with nothing open for a lease while room is short", idle: true, cache: 32 << 10, silent: leaseTime, kept: true},
		{name: "with nothing open while room is short", idle: true, cache: 32 << 10, silent: leaseTime + 2*reaperTick},
		{name: "with something open while room is short", cache: 32 << 10, silent: leaseTime + 2*reaperTick, kept: true},
	} {
		t.Run(c.name, func(t *testing.T) { synctest.Test(t, c.run) })
	}
}

func (c *leaseCase) run(t *testing.T) {
	expired := 0
	r := newRig(t, func(o *nfs4.Options) {
		o.Now, o.Limits.ReplyCacheBytes = time.Now, c.cache
		o.Events.ClientExpired = func(string) { expired++ }
	})
	s := r.newSession("c")
	uses := []call{putRoot}
	if !c.idle {
		res := last[wire.OpenRes](t, s.ok(putRoot, alone("f")))
		uses = []call{putRoot, lookup("f"), write(res.Stateid, 0, "mine")}
	}
	for range c.renewals {
		time.Sleep(leaseTime)
		s.ok()
	}
	time.Sleep(c.silent)
	synctest.Wait()
	if c.contested {
		wantStatus(t, r.newSession("other").do(putRoot, alone("f")), c.told)
	}
	if c.kept != (expired == 0) || expired > 1 {
		t.Errorf("%d clients expired", expired)
	}
	if c.kept {
		s.ok(uses...)
	} else {
		s.fails0(wire.NFS4ERR_BADSESSION, uses...)
	}
}

// returning is a server that was restarted under clients with a file open each, which is named after them.
type returning struct {
	*rig
	began    time.Time
	handles  map[string][]byte
	sessions map[string]*session
}

func newReturning(t *testing.T, known []string, ended func(lost int)) *returning {
	r := &returning{handles: map[string][]byte{}, sessions: map[string]*session{}}
	r.rig = newRig(t, func(o *nfs4.Options) { o.Now, o.Events.GraceEnded = time.Now, ended })
	for _, name := range known {
		r.handles[name], _ = r.newSession(name).makeFile(name, 0o666)
	}
	r.restart()
	r.began = time.Now()
	return r
}

// session is that of a client, made when it is first asked for.
func (r *returning) session(owner string) *session {
	if r.sessions[owner] == nil {
		r.sessions[owner] = r.newSessionWith(owner, wide)
	}
	return r.sessions[owner]
}

// What a client of a returning server does.
func (r *returning) opens(string) []call { return []call{putRoot, create("new", 0o666)} }
func (r *returning) takesA(string) []call {
	return []call{putRoot, alone("a"), closeFile(currentStateid)}
}
func (r *returning) completes(string) []call    { return []call{reclaimComplete} }
func (r *returning) reclaims(who string) []call { return []call{putFH(r.handles[who]), reclaimOpen()} }
func (r *returning) reclaimsA(string) []call    { return r.reclaims("a") }

// graceStep is what one client does, at a time since the restart.
type graceStep struct {
	at   time.Duration
	who  string
	does func(*returning, string) []call
	want wire.Status
}

// graceCase is a recovery phase.
type graceCase struct {
	name  string
	known []string
	steps []graceStep
	ended time.Duration // since the restart
	lost  int
}

// reclaimsEvery has a reclaim, for some time.
func reclaimsEvery(pause, from, to time.Duration) (steps []graceStep) {
	for at := from; at < to; at += pause {
		steps = append(steps, graceStep{at, "a", (*returning).reclaims, wire.NFS4_OK})
	}
	return steps
}

// The recovery phase, on the real clock of the service: when it ends, and what is refused before and after.
func TestGraceOverTime(t *testing.T) {
	const (
		ok      = wire.NFS4_OK
		grace   = wire.NFS4ERR_GRACE
		noGrace = wire.NFS4ERR_NO_GRACE
		ends    = graceTime + time.Second // when the reaper sees that the time is up
	)
	opens, completes, reclaims := (*returning).opens, (*returning).completes, (*returning).reclaims
	takesA, reclaimsA := (*returning).takesA, (*returning).reclaimsA
	for _, c := range []graceCase{
		{"nobody comes back", []string{"a"}, []graceStep{
			{0, "new", reclaimsA, wire.NFS4ERR_RECLAIM_BAD}, {0, "new", completes, ok}, {0, "new", opens, grace},
			{graceTime - 1, "new", opens, grace}, {ends, "new", opens, ok}, {ends, "new", reclaimsA, noGrace},
		}, ends, 1},
		{"everybody comes back", []string{"a", "b"}, []graceStep{
			{time.Second, "a", reclaims, ok}, {time.Second, "a", completes, ok}, {time.Second, "a", opens, grace},
			{2 * time.Second, "b", reclaims, ok}, {2 * time.Second, "b", opens, grace}, {2 * time.Second, "b", completes, ok},
			{2 * time.Second, "a", opens, ok}, {2 * time.Second, "a", reclaims, noGrace}, {2 * time.Second, "b", reclaims, noGrace},
		}, 2 * time.Second, 0},
		{"one of two comes back", []string{"a", "b"}, []graceStep{
			{time.Second, "a", reclaims, ok}, {time.Second, "a", completes, ok}, {time.Second, "a", reclaims, noGrace},
			{graceTime - 1, "a", opens, grace},
			{ends, "a", opens, ok}, {ends, "a", reclaims, noGrace},
		}, ends, 1},
		{"one comes back and does not get through", []string{"a"}, []graceStep{
			{time.Second, "a", reclaims, ok}, {graceTime - 1, "a", opens, grace}, {ends, "a", opens, grace},
			{ends, "a", completes, ok}, {ends, "a", opens, ok},
		}, ends, 1},
		{"one is reclaiming at the end", []string{"a"}, append(reclaimsEvery(1900*time.Millisecond, 19*time.Second, 30*time.Second),
			graceStep{30 * time.Second, "new", completes, ok}, graceStep{30 * time.Second, "new", opens, grace},
			graceStep{33 * time.Second, "new", opens, ok}), 33 * time.Second, 1},
		{"one does not stop reclaiming", []string{"a"}, append(reclaimsEvery(1900*time.Millisecond, 19*time.Second, 3*graceTime),
			graceStep{3 * graceTime, "new", completes, ok}, graceStep{3 * graceTime, "new", opens, ok}), 3 * graceTime, 1},
		{"one comes late", []string{"a"}, []graceStep{
			{ends + courtesyTime - time.Minute, "a", reclaims, ok}, {ends + courtesyTime, "a", completes, ok},
		}, ends, 1},
		{"one comes when another has had its file", []string{"a"}, []graceStep{
			{ends, "new", completes, ok}, {ends, "new", takesA, ok}, {ends + time.Minute, "a", reclaims, noGrace},
		}, ends, 1},
		{"one comes too late", []string{"a"}, []graceStep{
			{ends + courtesyTime + reaperTick, "a", reclaims, noGrace},
		}, ends, 1},
	} {
		t.Run(c.name, func(t *testing.T) { synctest.Test(t, c.run) })
	}
}

func (c *graceCase) run(t *testing.T) {
	var ended time.Time
	lost := -1
	r := newReturning(t, c.known, func(n int) { ended, lost = time.Now(), n })
	for _, step := range c.steps {
		time.Sleep(time.Until(r.began.Add(step.at)))
		synctest.Wait()
		if a := r.session(step.who).do(step.does(r, step.who)...); a.status != step.want {
			t.Errorf("after %v, %q: %v, want %v", step.at, step.who, a.status, step.want)
		}
	}
	if got := ended.Sub(r.began); got != c.ended || lost != c.lost {
		t.Errorf("the recovery phase ended after %v with %d lost, want %v and %d", got, lost, c.ended, c.lost)
	}
}
