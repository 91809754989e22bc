package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// ErrTimeout: on a served connection nothing arrived, or the rest of a record did not, in time.
var ErrTimeout = errors.New("rpc: timeout")

// The baton says who may read from the connection.
const (
	batonHeld = iota // the reader reads, or hands a call out
	batonLent        // the reader handles a call: whoever changes this back is the reader
)

// server serves one connection. What is under "reader" belongs to the goroutine that has the baton.
type server struct {
	conn net.Conn
	h    Handler
	o    Options
	ctx  context.Context // the handlers'

	cancel     context.CancelFunc // of ctx
	drainOnce  sync.Once
	drainTimer *time.Timer

	slots chan struct{} // one element a call whose reply is not written yet
	wg    sync.WaitGroup
	baton atomic.Int32
	in    reader
	out   writer
	pass  pass

	caller *Caller // nil unless the handler is an Attacher

	quick QuickHandler // h, if it is one
	gss   GSSHandler   // h, if it is one

	calls chan *task   // from the reader to workers that wait; closed by the reader
	idle  atomic.Int32 // workers that wait
	busy  atomic.Int32 // calls that the handler has, or is to get

	// Of the reader.
	takeoverTimer *time.Timer
	held          int   // replies of the present batch that wait in out
	heldBytes     int   // what they are altogether
	spread        int   // so many quick calls get goroutines yet, since one was not quick
	crowd         int   // so many other calls get goroutines yet, since one was not alone
	readErr       error // set as the last one leaves
}

// ServeConn serves calls from conn until the client closes it, something goes wrong or ctx is cancelled,
// and closes it. It returns when its goroutines have gone and all calls are done, the replies to which
// were still written if they could be. The result is nil after a close between two records, ctx's error
// after a cancellation, else what went wrong.
//
// conn should be the *net.TCPConn itself where there is no TLS: only then do several replies go out
// without being copied together.
func ServeConn(ctx context.Context, conn net.Conn, h Handler, o Options) error {
	defer conn.Close()
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return err
	}
	handlers, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	s := &server{
		conn: conn, h: h, o: o, ctx: handlers, cancel: cancel,
		slots: make(chan struct{}, o.MaxInFlight), calls: make(chan *task),
	}
	s.quick, _ = h.(QuickHandler)
	s.gss, _ = h.(GSSHandler)
	s.out.init(s)
	s.in.init(s)
	defer s.in.close()
	o.Stats.Connections.Add(1)
	defer o.Stats.Connections.Add(-1)

	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		s.in.stop()
		s.startDrain()
	})
	s.attach()
	s.readLoop()
	s.wg.Wait()
	if !stop() {
		<-drained
	}
	s.drainTimer.Stop()
	return s.result(ctx)
}

// startDrain gives the calls under way Options.DrainTimeout; the first of several calls counts.
func (s *server) startDrain() {
	s.drainOnce.Do(func() {
		s.drainTimer = time.AfterFunc(max(s.o.DrainTimeout, 0), func() {
			if s.o.DrainTimeout > 0 {
				s.cancel()
			}
		})
	})
}

// result says how the connection ended.
func (s *server) result(ctx context.Context) error {
	if err := s.out.failure(); err != nil {
		return err
	}
	switch {
	case s.readErr == io.EOF:
		return nil
	case ctx.Err() != nil && s.in.stopped.Load():
		return ctx.Err()
	case errors.Is(s.readErr, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrTimeout, s.readErr)
	}
	return s.readErr
}

// readLoop reads records and sees to their calls until there are no more, or until another goroutine
// took the reading over.
func (s *server) readLoop() {
	for {
		t, err := s.in.next()
		if err != nil {
			s.flush()
			s.readErr = err
			close(s.calls)
			s.caller.close()
			s.startDrain()
			return
		}
		if t != nil && !s.see(t) {
			return
		}
	}
}

// see sees to the call of t, and says whether this goroutine is still the reader.
func (s *server) see(t *task) bool {
	busy := s.busy.Load() > 0
	more := s.in.ready() || t.n > readAheadBytes && !busy && s.in.pending()
	alone := !busy && !more
	s.in.saw(alone)
	if len(s.slots) == cap(s.slots) {
		s.flush() // what is held keeps its places
	}
	s.slots <- struct{}{}
	s.o.Stats.InFlight.Add(1)
	if t.refused {
		s.out.send(t)
		return true
	}
	s.o.Stats.Calls.Add(1)
	s.busy.Add(1)
	if alone && s.o.Lone != nil {
		s.o.Lone()
	}
	if s.inline(t, alone) {
		return s.handleInline(t, more, alone)
	}
	large := t.n >= largeBytes
	s.handOut(t)
	if large {
		// The worker is next on this processor, which has the call's data in its cache, and the reader goes to where
		// another one looks first. Staying here it would be the worker that is searched for, only after a while.
		runtime.Gosched()
	}
	return true
}

// inline says whether the reader handles a call itself. One that is alone it may, since nobody waits for
// the reader; for quick ones it is cheaper than a hand-over in any case.
func (s *server) inline(t *task, alone bool) bool {
	waiting := &s.crowd
	if s.quick != nil && s.quick.Quick(&t.call) {
		if alone {
			return s.o.Takeover > 0
		}
		waiting = &s.spread
	} else if !alone {
		s.crowd = crowdCalls
	}
	if *waiting > 0 {
		*waiting--
		return false
	}
	return s.o.Takeover > 0
}

// handleInline handles t on the reader's goroutine and says whether that is still the reader. If more has
// been received, a small reply is held to go out with the next ones.
func (s *server) handleInline(t *task, more, alone bool) bool {
	s.o.Stats.Inline.Add(1)
	s.lend(s.patience(alone))
	var start time.Time
	if more {
		start = time.Now()
	}
	size := t.execute()
	if size > maxHeldBytes {
		t.finish()
		return s.regain()
	}
	if !s.regain() {
		t.finish()
		return false
	}
	if more && time.Since(start) > slowCall {
		s.spread = spreadCalls
	}
	if !more || size == 0 {
		t.finish()
		return true
	}
	s.held++
	s.heldBytes += size
	s.out.hold(t)
	if s.held >= maxBatch || s.heldBytes > maxHeldBytes {
		s.flush()
	}
	return true
}

// flush sends the replies that are held.
func (s *server) flush() {
	if s.held > 0 {
		s.held, s.heldBytes = 0, 0
		s.out.flush()
	}
}

// patience is how long a call may keep the reader.
func (s *server) patience(alone bool) time.Duration {
	if alone {
		return aloneTakeovers * s.o.Takeover
	}
	return s.o.Takeover
}

// lend lets the timer's goroutine read on if regain does not come in time.
func (s *server) lend(d time.Duration) {
	if s.takeoverTimer == nil { // from here on it is the next reader's too
		s.takeoverTimer = time.AfterFunc(time.Hour, s.takeover)
		s.takeoverTimer.Stop()
	}
	s.baton.Store(batonLent)
	s.wg.Add(1)
	if s.takeoverTimer.Reset(d) {
		s.wg.Done() // of the time before: a late takeover lent that call's baton, and nobody stopped its timer
	}
}

// regain says whether this goroutine is still the reader.
func (s *server) regain() bool {
	if !s.baton.CompareAndSwap(batonLent, batonHeld) {
		return false
	}
	if s.takeoverTimer.Stop() {
		s.wg.Done()
	}
	return true
}

// takeover is the timer's goroutine: it reads on if the reader is still busy with a call.
func (s *server) takeover() {
	defer s.wg.Done()
	if s.baton.CompareAndSwap(batonLent, batonHeld) {
		s.o.Stats.Takeovers.Add(1)
		s.spread = spreadCalls
		s.flush()
		s.readLoop()
	}
}

// release gives the place of a call back, and its memory.
func (s *server) release(t *task) {
	t.free()
	s.o.Stats.InFlight.Add(-1)
	<-s.slots
}
