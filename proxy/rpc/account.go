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
	maxBytes int64
	held     atomic.Int64
	waits    atomic.Uint64
	waiting  atomic.Int32 // how many are in queue: who gives memory back needs no lock while nobody is

	mu    sync.Mutex
	queue list.List // of *waiter, of all connections
}

// pass is the right to hold more than there is, which one call of each connection has at a time, until its reply is written: so
// each goes on, however much others hold and whatever its own calls hold that wait. Guarded by account.mu.
type pass struct {
	taken bool
	turns uint64    // how often it was given
	queue list.List // of *waiter, of this connection
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
	a.queue.Remove(w.of)
	w.t.s.pass.queue.Remove(w.own)
	a.waiting.Add(-1)
}

// await takes n bytes for t, whose claim has failed: under the pass of its connection, or when others have given them back. If
// for twice WriteTimeout neither comes and the pass stays where it is, the connection is closed, and nothing is taken.
func (a *account) await(t *task, n int64) bool {
	w, turns := a.enter(t, n)
	if w == nil {
		return true
	}
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
		case <-expired:
			if turns = a.leave(w, turns); turns == 0 {
				t.s.conn.Close()
				return false
			}
		}
	}
}

// enter gives t the pass, or a place among those who wait.
func (a *account) enter(t *task, n int64) (w *waiter, turns uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := &t.s.pass
	if !p.taken {
		a.passLocked(t, n)
		return nil, 0
	}
	a.waits.Add(1)
	w = &waiter{t: t, bytes: n, ready: make(chan struct{})}
	w.of, w.own = a.queue.PushBack(w), p.queue.PushBack(w)
	a.waiting.Add(1)
	a.serveLocked() // who gave memory back just now may have seen nobody
	return w, p.turns
}

// leave ends the waiting of w if since turns the pass has stayed where it is, and returns 0 then, else how often it was given by now.
func (a *account) leave(w *waiter, turns uint64) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-w.ready:
		return turns
	default:
	}
	if now := w.t.s.pass.turns; now != turns {
		return now
	}
	a.removeLocked(w)
	return 0
}

// passLocked gives t the pass and n bytes.
func (a *account) passLocked(t *task, n int64) {
	p := &t.s.pass
	p.taken, t.hasPass = true, true
	p.turns++
	a.held.Add(n)
}

// yield hands the pass that t has to the next one of its connection.
func (a *account) yield(t *task) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t.hasPass = false
	p := &t.s.pass
	p.taken = false
	if first := p.queue.Front(); first != nil {
		w := first.Value.(*waiter)
		a.removeLocked(w)
		a.passLocked(w.t, w.bytes)
		close(w.ready)
	}
}
