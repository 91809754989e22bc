package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
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

	caller *Caller // nil unless the handler is an Attacher

	takeoverTimer *time.Timer // reader
	readErr       error       // reader; set as the last one leaves
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
		slots: make(chan struct{}, o.MaxInFlight),
	}
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
			s.readErr = err
			s.caller.close()
			s.startDrain()
			return
		}
		if t == nil {
			continue
		}
		alone := len(s.slots) == 0 && !s.in.f.buffered() && s.o.Takeover > 0
		s.slots <- struct{}{}
		s.o.Stats.InFlight.Add(1)
		if t.refused {
			s.out.send(t)
			continue
		}
		s.o.Stats.Calls.Add(1)
		if !alone {
			s.wg.Add(1)
			go t.run()
			continue
		}
		if !s.handleInline(t) {
			return
		}
	}
}

// handleInline handles t on the reader's goroutine and says whether that is still the reader.
func (s *server) handleInline(t *task) bool {
	s.o.Stats.Inline.Add(1)
	s.baton.Store(batonLent)
	s.wg.Add(1)
	if s.takeoverTimer == nil {
		s.takeoverTimer = time.AfterFunc(s.o.Takeover, s.takeover)
	} else if s.takeoverTimer.Reset(s.o.Takeover) {
		s.wg.Done() // of the time before: a late takeover lent that call's baton, and nobody stopped its timer
	}
	t.handle()
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
		s.readLoop()
	}
}

// release gives the place of a call back, and its memory.
func (s *server) release(t *task) {
	t.free()
	s.o.Stats.InFlight.Add(-1)
	<-s.slots
}
