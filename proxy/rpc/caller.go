package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// ErrCallerClosed says that a call could not be sent, or its reply not be waited for, because the
// connection is at its end.
var ErrCallerClosed = errors.New("rpc: connection closed")

// Attacher is a Handler that wants to send calls of its own to the client, as a backchannel does
// (RFC 8881 §2.10.3.1). ServeConn calls Attach once, before it reads anything.
type Attacher interface {
	Attach(c *Caller)
}

// Caller sends calls to the client of a served connection, between the replies. Its methods may be
// called concurrently; it is of no use any more when ServeConn has returned.
type Caller struct {
	s *server

	mu      sync.Mutex
	closed  bool
	lastXID uint32
	waiting map[uint32]chan []byte // capacity 1; closed without a value at the connection's end
}

// Outgoing is a call to be sent.
type Outgoing struct {
	Program   uint32
	Version   uint32
	Procedure uint32
	Auth      Auth
	// Args writes the arguments; nil writes none. What is in error afterwards is not sent.
	Args func(e *xdr.Encoder)
}

// attach gives h, if it wants one, the means to call the client.
func (s *server) attach() {
	if a, ok := s.h.(Attacher); ok {
		s.caller = &Caller{s: s, waiting: make(map[uint32]chan []byte)}
		a.Attach(s.caller)
	}
}

// Call sends o and waits for the reply until ctx is done or the connection ends. The results belong
// to the caller. The error is a *RejectedError for a call that the client did not execute, and
// ErrCallerClosed at the connection's end: whether the call was executed is not known then.
func (c *Caller) Call(ctx context.Context, o *Outgoing) (xdr.Decoder, error) {
	xid, reply, err := c.register()
	if err != nil {
		return xdr.Decoder{}, err
	}
	defer c.s.wg.Done()
	defer c.forget(xid)
	if err := c.send(ctx, xid, o); err != nil {
		return xdr.Decoder{}, err
	}
	select {
	case <-ctx.Done():
		return xdr.Decoder{}, ctx.Err()
	case record, ok := <-reply:
		if !ok {
			return xdr.Decoder{}, ErrCallerClosed
		}
		_, results, err := ParseReply(record)
		return results, err
	}
}

// register makes the place of one call, which the connection's end waits for.
func (c *Caller) register() (xid uint32, reply chan []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return 0, nil, ErrCallerClosed
	case len(c.waiting) >= maxOutgoing:
		return 0, nil, fmt.Errorf("rpc: %d calls to the client are under way", maxOutgoing)
	}
	for c.lastXID++; c.waiting[c.lastXID] != nil; c.lastXID++ {
	}
	reply = make(chan []byte, 1)
	c.waiting[c.lastXID] = reply
	c.s.wg.Add(1)
	return c.lastXID, reply, nil
}

func (c *Caller) forget(xid uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, xid)
}

// send queues the call behind the replies that wait to be written. It takes one of the places that
// bound the connection's memory until it is written, by a goroutine of its own.
func (c *Caller) send(ctx context.Context, xid uint32, o *Outgoing) error {
	select {
	case c.s.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	c.s.o.Stats.InFlight.Add(1)
	t := c.s.newTask()
	t.beginReply()
	AppendCall(&t.enc, xid, o.Program, o.Version, o.Procedure, &o.Auth)
	if o.Args != nil {
		o.Args(&t.enc)
	}
	if err := t.enc.Err(); err != nil {
		c.s.release(t)
		return fmt.Errorf("rpc: encode a call: %w", err)
	}
	c.s.o.Stats.CallsOut.Add(1)
	// Whoever writes goes on for as long as others leave replies to be written, and waits for the client to fetch them: that
	// is not for somebody who waits no longer than ctx.
	c.s.wg.Go(func() { c.s.out.send(t) })
	return nil
}

// deliver gives a REPLY record to whoever waits for it; one that nobody waits for is dropped.
func (c *Caller) deliver(record []byte) {
	d := xdr.NewDecoder(record)
	xid := d.Uint32()
	c.mu.Lock()
	defer c.mu.Unlock()
	reply := c.waiting[xid]
	if reply == nil || d.Err() != nil || c.closed {
		return
	}
	select {
	case reply <- append([]byte(nil), record[:min(len(record), maxOutgoingReplyBytes)]...):
	default: // a second reply to one call
	}
}

// close ends the waiting for replies.
func (c *Caller) close() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, reply := range c.waiting {
		close(reply)
	}
	clear(c.waiting)
}
