package rpc

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"
)

// account is how much the large buffers of a pool hold. A call takes of it before it gets one, and waits where that would be more
// than maxBytes. It has no part in calls that need small buffers alone.
type account struct {
	maxBytes  int64
	maxPasses int
	held      atomic.Int64
	waits     atomic.Uint64
	evicted   atomic.Uint64
	waiting   atomic.Int32 // how many are in queue: who gives memory back needs no lock while nobody is

	mu      sync.Mutex
	queue   list.List // of *waiter, of all connections
	turns   list.List // of *server: those that wait for one of the passes, as there are no more
	holders []*server // those that have one
	looked  time.Time // when overdue ones were last looked for
}

// pass is the right to hold more than there is, which one call of a connection has at a time, until its reply is written: so
// it goes on, however much others hold and whatever the connection's own calls hold that wait. Guarded by account.mu, but for since.
type pass struct {
	taken bool
	index int           // in account.holders
	given uint64        // how often it was
	queue list.List     // of *waiter, of this connection
	turn  *list.Element // in account.turns
	since atomic.Int64  // when the call that has it began to wait for its client, in Unix nanoseconds; 0 while it does not
}

// waiter is a call that waits for memory, or for the pass of its connection.
type waiter struct {
	t       *task
	bytes   int64
	ready   chan struct{} // closed when it has the memory
	of, own *list.Element // in the account's queue and the pass's
}

// take takes n bytes, if there are as many.
func (a *account) take(n int64) bool {
	for {
		held := a.held.Load()
		if held+n > a.maxBytes {
			return false
		}
		if a.held.CompareAndSwap(held, held+n) {
			return true
		}
	}
}

// claim takes n bytes for t, if there are as many or t has the pass.
func (a *account) claim(t *task, n int64) bool {
	if t.hasPass {
		a.held.Add(n)
		return true
	}
	return a.take(n)
}

// give gives n bytes back.
func (a *account) give(n int64) {
	a.held.Add(-n)
	if a.waiting.Load() > 0 {
		a.mu.Lock()
		a.serveLocked()
		a.mu.Unlock()
	}
}

// serveLocked lets those go on for whom there is memory, in the order in which they came.
func (a *account) serveLocked() {
	for first := a.queue.Front(); first != nil; first = a.queue.Front() {
		w := first.Value.(*waiter)
		if !a.take(w.bytes) {
			return
		}
		a.removeLocked(w)
		close(w.ready)
	}
}

func (a *account) removeLocked(w *waiter) {
	p := &w.t.s.pass
	a.queue.Remove(w.of)
	p.queue.Remove(w.own)
	a.waiting.Add(-1)
	if p.queue.Len() == 0 && p.turn != nil {
		a.turns.Remove(p.turn)
		p.turn = nil
	}
}

// await takes n bytes for t, whose claim has failed: under a pass, or when others have given them back. If for twice WriteTimeout
// neither comes and the pass of its connection is not given, the connection is closed, and nothing is taken.
func (a *account) await(t *task, n int64) bool {
	w, given := a.enter(t, n)
	if w == nil {
		return true
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var expired <-chan time.Time
	patience := 2 * t.s.o.WriteTimeout
	if patience > 0 {
		timer := time.NewTicker(patience)
		defer timer.Stop()
		expired = timer.C
	}
	for {
		select {
		case <-w.ready:
			return true
		case now := <-look.C:
			a.evict(now)
		case <-expired:
			if given = a.leave(w, given); given == 0 {
				t.s.conn.Close()
				return false
			}
		}
	}
}

// enter gives t a pass, or a place among those who wait, and how often the pass of its connection was given.
func (a *account) enter(t *task, n int64) (w *waiter, given uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := &t.s.pass
	if !p.taken && len(a.holders) < a.maxPasses {
		a.passLocked(t, n)
		return nil, 0
	}
	a.waits.Add(1)
	w = &waiter{t: t, bytes: n, ready: make(chan struct{})}
	w.of, w.own = a.queue.PushBack(w), p.queue.PushBack(w)
	if !p.taken && p.turn == nil {
		p.turn = a.turns.PushBack(t.s)
	}
	a.waiting.Add(1)
	a.serveLocked() // who gave memory back just now may have seen nobody
	return w, p.given
}

// leave ends the waiting of w if the pass was not given again since it was the given-th time, and returns 0 then, else how often it was by now.
func (a *account) leave(w *waiter, given uint64) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-w.ready:
		return given
	default:
	}
	if now := w.t.s.pass.given; now != given {
		return now
	}
	a.removeLocked(w)
	return 0
}

// passLocked gives t a pass and n bytes.
func (a *account) passLocked(t *task, n int64) {
	p := &t.s.pass
	p.taken, t.hasPass = true, true
	p.given++
	p.index = len(a.holders)
	a.holders = append(a.holders, t.s)
	a.held.Add(n)
}

// yield hands the pass that t has to the connection that has waited longest for one, of which t's own is the last.
func (a *account) yield(t *task) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t.hasPass = false
	p := &t.s.pass
	p.taken = false
	p.since.Store(0)
	last := len(a.holders) - 1
	a.holders[p.index] = a.holders[last]
	a.holders[p.index].pass.index = p.index
	a.holders[last] = nil
	a.holders = a.holders[:last]
	if p.queue.Len() > 0 {
		p.turn = a.turns.PushBack(t.s)
	}
	if next := a.turns.Front(); next != nil {
		w := next.Value.(*server).pass.queue.Front().Value.(*waiter)
		a.turns.Remove(next)
		w.t.s.pass.turn = nil
		a.removeLocked(w)
		a.passLocked(w.t, w.bytes)
		close(w.ready)
	}
}

// evict closes the connections that have a pass and have waited for their clients longer than passPatience, if others wait for one.
func (a *account) evict(now time.Time) {
	for _, s := range a.overdue(now) {
		a.evicted.Add(1)
		s.conn.Close()
	}
}

// overdue is what evict closes: none twice.
func (a *account) overdue(now time.Time) (all []*server) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.turns.Len() == 0 || now.Sub(a.looked) < lookEvery {
		return nil
	}
	a.looked = now
	for _, s := range a.holders {
		since := s.pass.since.Load()
		if since != 0 && now.Sub(time.Unix(0, since)) > passPatience && s.pass.since.CompareAndSwap(since, 0) {
			all = append(all, s)
		}
	}
	return all
}
