package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// attached is a handler that calls back.
type attached struct {
	testHandler
	caller *Caller
}

func (h *attached) Attach(c *Caller) { h.caller = c }

// callerBench is a served connection whose client is the test.
type callerBench struct {
	t      *testing.T
	client net.Conn
	h      *attached
	ctx    context.Context
	done   chan error
}

// newCallerBench is for use inside a synctest bubble.
func newCallerBench(t *testing.T) *callerBench {
	client, server := net.Pipe()
	b := &callerBench{t: t, client: client, h: &attached{}, ctx: t.Context(), done: make(chan error, 1)}
	b.h.gate = make(chan struct{})
	go func() { b.done <- ServeConn(context.Background(), server, b.h, Options{IdleTimeout: -1}) }()
	synctest.Wait()
	return b
}

func (b *callerBench) end() {
	b.client.Close()
	if err := <-b.done; err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		b.t.Errorf("ServeConn: %v", err)
	}
}

// call calls the client with procedure 7 and an opaque, and returns the opaque of the reply.
func (b *callerBench) call(ctx context.Context, arg string) (string, error) {
	o := Outgoing{Program: 0x40000000, Version: 1, Procedure: 7, Auth: Auth{Flavor: AuthSys, UID: 3},
		Args: func(e *xdr.Encoder) { e.String(arg) }}
	d, err := b.h.caller.Call(ctx, &o)
	return string(d.Opaque(100)), err
}

// receive reads one record.
func (b *callerBench) receive() []byte {
	var mark [4]byte
	if _, err := io.ReadFull(b.client, mark[:]); err != nil {
		b.t.Error(err)
		return nil
	}
	p := make([]byte, binary.BigEndian.Uint32(mark[:])&^(1<<31))
	if _, err := io.ReadFull(b.client, p); err != nil {
		b.t.Error(err)
	}
	return p
}

// replyTo is the successful reply to a call that the client received: what it was sent, twice.
func (b *callerBench) replyTo(call []byte) []byte {
	var c Call
	if err := c.parse(call); err != nil {
		b.t.Error(err)
	}
	if c.Program != 0x40000000 || c.Version != 1 || c.Procedure != 7 || c.Auth.UID != 3 {
		b.t.Errorf("got call %+v", c)
	}
	arg := string(c.Args.Opaque(100))
	e := xdr.NewEncoder(make([]byte, 300))
	c.Succeed(&e)
	e.String(arg + arg)
	return record(e.Bytes(), 1000)
}

func TestCallerGetsTheReplyOfItsCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCallerBench(t)
		defer b.end()
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				arg := fmt.Sprint("call ", i)
				if got, err := b.call(b.ctx, arg); got != arg+arg || err != nil {
					t.Errorf("got %q, %v", got, err)
				}
			})
		}
		calls := [][]byte{b.receive(), b.receive(), b.receive()}
		for _, i := range []int{2, 0, 1} {
			reply := b.replyTo(calls[i])
			b.client.Write(reply)
			b.client.Write(reply) // the second one has no effect
		}
		wg.Wait()
	})
}

// Calls in both directions are under way at once: a call of the client that is being handled does not
// keep the reply to the server's from being read.
func TestCallerBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCallerBench(t)
		defer b.end()
		b.client.Write(record(message(1, procWait, []byte("slow")), 1000))
		got := make(chan string)
		go func() {
			s, _ := b.call(b.ctx, "x")
			got <- s
		}()
		b.client.Write(b.replyTo(b.receive()))
		if s := <-got; s != "xx" {
			t.Errorf("got %q", s)
		}
		close(b.h.gate)
		if xid, _, err := ParseReply(b.receive()); xid != 1 || err != nil {
			t.Errorf("xid %d, %v", xid, err)
		}
	})
}

func TestCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCallerBench(t)
		ctx, cancel := context.WithTimeout(b.ctx, time.Second)
		defer cancel()
		go b.receive()
		if _, err := b.call(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a reply: %v", err)
		}
		go func() {
			b.receive()
			b.client.Close()
		}()
		if _, err := b.call(b.ctx, "x"); !errors.Is(err, ErrCallerClosed) {
			t.Errorf("as the client goes: %v", err)
		}
		b.end()
		if _, err := b.call(b.ctx, "x"); !errors.Is(err, ErrCallerClosed) {
			t.Errorf("after the client went: %v", err)
		}
	})
}

// What waits for replies is bounded, and a reply that is too long, denied or cut short is an error.
func TestCallerHostile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCallerBench(t)
		go func() {
			for {
				if _, err := b.client.Read(make([]byte, 4096)); err != nil {
					return
				}
			}
		}()
		results := make(chan error, maxOutgoing)
		for range maxOutgoing {
			go func() {
				_, err := b.call(b.ctx, "x")
				results <- err
			}()
		}
		synctest.Wait()
		if _, err := b.call(b.ctx, "one more"); err == nil || errors.Is(err, ErrCallerClosed) {
			t.Errorf("call %d: %v", maxOutgoing+1, err)
		}
		denied := []byte{0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2}
		b.client.Write(record(denied, 100))
		var rejected *RejectedError
		if err := <-results; !errors.As(err, &rejected) || rejected.Auth != AuthRejectedCred {
			t.Errorf("denied: %v", err)
		}
		b.client.Write(record([]byte{0, 0, 0, 2, 0, 0, 0, 1}, 100))
		if err := <-results; !errors.Is(err, ErrReply) {
			t.Errorf("cut short: %v", err)
		}
		b.end()
		for range maxOutgoing - 2 {
			if err := <-results; !errors.Is(err, ErrCallerClosed) {
				t.Errorf("at the end: %v", err)
			}
		}
	})
}

// A client that fetches nothing keeps nobody longer than his context who calls it, though the call still waits to be sent.
func TestCallerOfWhoDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCallerBench(t)
		defer b.end()
		for range 3 {
			ctx, cancel := context.WithTimeout(b.ctx, time.Second)
			start := time.Now()
			if _, err := b.call(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("not read: %v", err)
			}
			if d := time.Since(start); d != time.Second {
				t.Errorf("given up after %v", d)
			}
			cancel()
		}
	})
}
