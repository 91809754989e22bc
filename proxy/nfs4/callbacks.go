package nfs4

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/state"
	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/xdr"
	"github.com/nfseal/nfseal/xtsengine/vfs"
)

var (
	// errNoWay: no connection leads to the client.
	errNoWay = errors.New("nfs4: no way to call the client")
	// errCallbackQueue: too many callbacks wait for the client.
	errCallbackQueue = errors.New("nfs4: too many callbacks for one client")
)

// way is a way to call a client: a session's backchannel, or whatever else a minor version has.
type way interface {
	// call executes one callback operation and returns its status and a decoder at its result.
	// An error says that nothing came back from the client.
	call(ctx context.Context, j *job) (wire.Status, xdr.Decoder, error)
	// usable says whether there is any point in trying.
	usable() bool
}

// job is one callback operation for a client.
type job struct {
	op   wire.CBOp
	args func(e *xdr.Encoder)
	// granted is the request that the callback has to do with, if hasGranted.
	granted    wire.ReferringCall
	hasGranted bool
	// only, if not nil, is the way that it must take.
	only way
	// patient has the operation tried again while the client is not ready for it.
	patient bool
	// done, if not nil, is given the outcome.
	done func(st wire.Status, res *xdr.Decoder, err error)
	// sent says that it was on its way once, and is counted.
	sent bool
}

// callbacks calls clients. It implements state.Callbacks. Each client has a queue, and a few goroutines
// while there is something in it.
type callbacks struct {
	s   *Service
	ctx context.Context
	end context.CancelFunc
	wg  sync.WaitGroup

	counters [cbSlots]cbCounter

	mu       sync.Mutex
	closed   bool
	peers    map[wire.ClientID]*peer
	sessions map[wire.SessionID]*backchannel
	queries  map[wire.Stateid]*query
	late     []lateQuery // those that are kept, the oldest first
}

// lateQuery is a query whose answer is kept.
type lateQuery struct {
	id wire.Stateid
	on *query
}

// peer is a client that can be called, or has callbacks waiting.
type peer struct {
	ways    []way
	queue   []*job
	workers int
}

var _ state.Callbacks = (*callbacks)(nil)

func newCallbacks(s *Service) *callbacks {
	ctx, cancel := context.WithCancel(context.Background())
	return &callbacks{s: s, ctx: ctx, end: cancel, peers: make(map[wire.ClientID]*peer),
		sessions: make(map[wire.SessionID]*backchannel), queries: make(map[wire.Stateid]*query)}
}

// close gives up what is under way and returns when the goroutines have gone.
func (c *callbacks) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.wg.Wait()
}

// spawn runs f on a goroutine that close waits for. It does nothing after close.
func (c *callbacks) spawn(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Go(f)
	}
}

// peerLocked is what is known of client id, from now on if nothing was.
func (c *callbacks) peerLocked(id wire.ClientID) *peer {
	p := c.peers[id]
	if p == nil {
		p = new(peer)
		c.peers[id] = p
	}
	return p
}

// putPeerLocked forgets a client without ways and jobs.
func (c *callbacks) putPeerLocked(id wire.ClientID, p *peer) {
	if len(p.ways) == 0 && p.workers == 0 {
		delete(c.peers, id)
	}
}

// addWay makes w one of the ways to client id, once.
func (c *callbacks) addWay(id wire.ClientID, w way) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peerLocked(id)
	for _, other := range p.ways {
		if other == w {
			return
		}
	}
	p.ways = append(p.ways, w)
}

func (c *callbacks) removeWay(id wire.ClientID, w way) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[id]
	if p == nil {
		return
	}
	kept := make([]way, 0, len(p.ways))
	for _, other := range p.ways {
		if other != w {
			kept = append(kept, other)
		}
	}
	p.ways = kept
	c.putPeerLocked(id, p)
}

// send queues j for client id.
func (c *callbacks) send(id wire.ClientID, j *job) {
	if err := c.queue(id, j); err != nil {
		c.finish(j, 0, nil, err)
	}
}

func (c *callbacks) queue(id wire.ClientID, j *job) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queueLocked(id, j)
}

func (c *callbacks) queueLocked(id wire.ClientID, j *job) error {
	p := c.peers[id]
	switch {
	case c.closed || p == nil:
		return errNoWay
	case len(p.queue) >= maxQueuedCallbacks:
		return errCallbackQueue
	}
	p.queue = append(p.queue, j)
	if p.workers < callbackWorkers {
		p.workers++
		c.wg.Go(func() { c.work(id, p) })
	}
	return nil
}

// work executes jobs of client id until there are no more.
func (c *callbacks) work(id wire.ClientID, p *peer) {
	for {
		c.mu.Lock()
		if len(p.queue) == 0 {
			p.workers--
			p.queue = nil
			c.putPeerLocked(id, p)
			c.mu.Unlock()
			return
		}
		j := p.queue[0]
		p.queue[0] = nil
		p.queue = p.queue[1:]
		c.mu.Unlock()
		c.execute(id, p, j)
	}
}

// execute sees one job through, which may take several attempts.
func (c *callbacks) execute(id wire.ClientID, p *peer, j *job) {
	pause := callbackPause
	for attempt := 1; ; attempt++ {
		st, res, err := c.attempt(p, j)
		if !j.patient || err != nil || attempt == callbackAttempts || !notReady(st) {
			c.finish(j, st, &res, err)
			return
		}
		select {
		case <-time.After(pause):
		case <-c.ctx.Done():
			c.finish(j, 0, nil, c.ctx.Err())
			return
		}
		pause *= 2
	}
}

// notReady says whether a client that answers with st may do better later: it may not have seen yet what it is asked about, since the reply that
// gives it that is on its way.
func notReady(st wire.Status) bool {
	return st == wire.NFS4ERR_DELAY || st == wire.NFS4ERR_BAD_STATEID || st == wire.NFS4ERR_BADHANDLE
}

// attempt tries the ways to the client one after the other. The error is that of the last one.
func (c *callbacks) attempt(p *peer, j *job) (wire.Status, xdr.Decoder, error) {
	c.mu.Lock()
	ways := p.ways
	c.mu.Unlock()
	if j.only != nil {
		ways = []way{j.only}
	}
	failed := errNoWay
	for _, w := range ways {
		if !w.usable() {
			continue
		}
		st, res, err := w.call(c.ctx, j)
		if err == nil {
			return st, res, nil
		}
		failed = err
	}
	return 0, xdr.Decoder{}, failed
}

// finish counts what came of j, and gives it to whoever waits for it.
func (c *callbacks) finish(j *job, st wire.Status, res *xdr.Decoder, err error) {
	c.count(j, st, err)
	if j.done != nil {
		j.done(st, res, err)
	}
}

// handleOf makes the handle of f, which the caller keeps.
func (c *callbacks) handleOf(f state.File) []byte {
	return c.s.sealer.seal(new(handle), vfs.FileID(f))
}

// Recall implements state.Callbacks. A client that cannot be reached, or does not answer well, is left
// to time: its delegation is revoked. One that is not ready is asked again.
func (c *callbacks) Recall(r state.Recall) {
	args := wire.CBRecallArgs{Stateid: r.Stateid, Truncate: r.Truncate, Handle: c.handleOf(r.File)}
	c.send(r.Client, &job{op: wire.OP_CB_RECALL, args: args.Encode, granted: r.Granted, hasGranted: r.HasGranted,
		patient: true, done: func(st wire.Status, _ *xdr.Decoder, err error) {
			if err == nil && notReady(st) {
				c.s.state.RecallDeferred(&r.Stateid)
			}
		}})
}

// RecallAny implements state.Callbacks.
func (c *callbacks) RecallAny(client wire.ClientID, keep uint32) {
	args := wire.CBRecallAnyArgs{Keep: keep,
		Types: wire.BitmapOf(wire.RCA4_TYPE_MASK_RDATA_DLG, wire.RCA4_TYPE_MASK_WDATA_DLG)}
	c.send(client, &job{op: wire.OP_CB_RECALL_ANY, args: args.Encode})
}

// RecallSlots implements state.Callbacks. A client that does not hear it learns the same from SEQUENCE.
func (c *callbacks) RecallSlots(session wire.SessionID, highest uint32) {
	b := c.backchannelOf(session)
	if b == nil {
		return
	}
	args := wire.CBRecallSlotArgs{TargetHighestSlot: highest}
	c.send(b.client, &job{op: wire.OP_CB_RECALL_SLOT, args: args.Encode, only: b})
}

// NotifyLock implements state.Callbacks.
func (c *callbacks) NotifyLock(n state.LockNotice) {
	args := wire.CBNotifyLockArgs{Handle: c.handleOf(n.File),
		Owner: wire.Owner{ClientID: n.Client, Owner: []byte(n.Owner)}}
	c.send(n.Client, &job{op: wire.OP_CB_NOTIFY_LOCK, args: args.Encode})
}

// Gone implements state.Callbacks.
func (c *callbacks) Gone(session wire.SessionID) {
	c.mu.Lock()
	b := c.sessions[session]
	delete(c.sessions, session)
	c.mu.Unlock()
	if b != nil {
		b.unbindAll()
	}
	c.s.forgetMarks(c.ctx, session[:])
}
