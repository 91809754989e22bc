package rpc

import (
	"bytes"
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/xdr"
)

// largestBytes is what a reply with 1 MiB of data takes.
var largestBytes = int64(bufferBytes(1 << 20))

// bigHandler answers with so many bytes as it is asked for. It knows how much the pool has held at most by then.
type bigHandler struct {
	pool *Buffers
	hold chan struct{} // what it waits for with the reply in memory, unless it is nil
	peak atomic.Int64
}

func (h *bigHandler) Handle(ctx context.Context, call *Call, reply *xdr.Encoder) {
	n := call.Args.Uint32()
	call.Succeed(reply)
	reply.Reserve(int(n))
	for held := h.pool.Stats().HeldBytes; ; {
		peak := h.peak.Load()
		if held <= peak || h.peak.CompareAndSwap(peak, held) {
			break
		}
	}
	if h.hold != nil {
		select {
		case <-h.hold:
		case <-ctx.Done():
		}
	}
}

// pipe serves h on a connection that holds nothing: a reply is written when the client has read it.
func (h *bigHandler) pipe(t *testing.T, o Options) (client net.Conn, done chan error) {
	t.Helper()
	client, server := net.Pipe()
	o.Buffers = h.pool
	done = make(chan error, 1)
	go func() { done <- ServeConn(context.Background(), server, h, o) }()
	t.Cleanup(func() { client.Close() })
	return client, done
}

// ask sends calls for n bytes each without waiting for anything.
func ask(client net.Conn, calls, n int) {
	go func() {
		for xid := range calls {
			if _, err := client.Write(asking(uint32(xid), n)); err != nil {
				return
			}
		}
	}()
}

// eventually waits until what is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// ended waits for connections to be over, and checks that all was given back.
func (h *bigHandler) ended(t *testing.T, all ...chan error) {
	t.Helper()
	for _, done := range all {
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Fatal("ServeConn does not return")
		}
	}
	a := &h.pool.large
	a.mu.Lock()
	defer a.mu.Unlock()
	if held, n := a.held.Load(), a.waiting.Load(); held != 0 || n != 0 || a.queue.Len() != 0 {
		t.Errorf("at the end %d bytes are held, and %d wait, %d in the queue", held, n, a.queue.Len())
	}
}

// answered reads n replies of so many bytes.
func answered(t *testing.T, client net.Conn, n, size int) {
	t.Helper()
	client.SetReadDeadline(time.Now().Add(30 * time.Second))
	for i := range n {
		reply, err := readRecord(client)
		if err != nil || len(reply) != 24+size {
			t.Fatalf("reply %d has %d bytes, want %d: %v", i, len(reply), 24+size, err)
		}
	}
}

// stuck are clients that ask for 1 MiB many times and read nothing, until all their calls have memory or wait for it.
func (h *bigHandler) stuck(t *testing.T, clients, calls int, o Options) (conns []net.Conn, done []chan error) {
	t.Helper()
	for range clients {
		client, over := h.pipe(t, o)
		ask(client, calls, 1<<20)
		conns, done = append(conns, client), append(done, over)
	}
	within := int(h.pool.large.maxBytes / largestBytes)
	above := min(clients, minPasses)
	eventually(t, "all calls under way", func() bool {
		return int(h.pool.large.waiting.Load()) == clients*calls-above-within
	})
	if held, want := h.pool.Stats().HeldBytes, int64(within+above)*largestBytes; held != want {
		t.Errorf("%d bytes are held by clients that read nothing, want %d: the bound, and a call of each up to as many as may", held, want)
	}
	return conns, done
}

// TestStuckClients: clients that read no replies have what the bound gives and one call each above it; one beside them that reads is
// served, whatever it has under way and however large its own calls are; all is given back when they leave.
func TestStuckClients(t *testing.T) {
	const clients, calls = minPasses - 1, 16
	h := &bigHandler{pool: NewBuffers(8 * largestBytes)}
	conns, done := h.stuck(t, clients, calls, Options{})
	good, over := h.pipe(t, Options{})
	ask(good, 40, 1<<20)
	answered(t, good, 40, 1<<20)
	for range 3 {
		long := message(1, procEcho, make([]byte, 1<<20))
		if _, err := good.Write(record(long, 300_000)); err != nil {
			t.Fatal(err)
		}
		answered(t, good, 1, 1<<20)
	}
	// A call of the good one's has its record, also a smaller one before it, and its reply.
	if peak, most := h.peak.Load(), 8*largestBytes+(clients+2)*largestBytes+largestBytes/2; peak > most {
		t.Errorf("%d bytes were held, want %d at most", peak, most)
	}
	for _, client := range append(conns, good) {
		client.Close()
	}
	h.ended(t, append(done, over)...)
}

// TestCallsAboveTheBound: of many clients that read no replies, or send half a call, some have a call above the bound each and no more
// do; who waits for that is served when those have had their time. A call that the handler has is nobody's fault.
func TestCallsAboveTheBound(t *testing.T) {
	const clients = 3 * minPasses
	h := &bigHandler{pool: NewBuffers(4 * largestBytes), hold: make(chan struct{})}
	busy, done := h.pipe(t, Options{})
	ask(busy, 6, 1<<20)
	a := &h.pool.large
	eventually(t, "one call of a busy one above the bound", func() bool { return a.waiting.Load() == 1 })
	sender, over := h.pipe(t, Options{})
	conns, all := []net.Conn{busy, sender}, []chan error{done, over}
	long := record(message(1, procEcho, make([]byte, 100_000)), 1<<20)
	if _, err := sender.Write(long); err != nil {
		t.Fatal(err)
	}
	for range clients {
		client, over := h.pipe(t, Options{})
		conns, all = append(conns, client), append(all, over)
		go func() { _, _ = client.Write(long[:80_000]) }()
	}
	const others = minPasses - 2
	eventually(t, "all wait", func() bool { return a.waiting.Load() == 1+clients-others })
	good, over := h.pipe(t, Options{})
	ask(good, 1, 1<<20)
	eventually(t, "the good one waits", func() bool { return a.waiting.Load() == 2+clients-others })
	if held := a.held.Load(); held > (4+minPasses)*largestBytes {
		t.Errorf("%d bytes are held, want %d at most", held, (4+minPasses)*largestBytes)
	}
	a.evict(time.Now())
	if n := h.pool.Stats().Evicted; n != 0 {
		t.Errorf("%d were closed before their time", n)
	}
	for k := range time.Duration(1 + clients/others) {
		stuck := max(0, min(others, clients-int(k)*others))
		eventually(t, "those with a pass wait for their clients", func() bool { return a.stuck() >= stuck })
		a.evict(time.Now().Add((k + 1) * 2 * passPatience))
		eventually(t, "others have their turn", func() bool {
			return a.waiting.Load() <= max(1, int32(2+clients-(int(k)+2)*others))
		})
	}
	close(h.hold)
	answered(t, good, 1, 1<<20)
	answered(t, busy, 6, 1<<20)
	answered(t, sender, 1, 100_000)
	if n := h.pool.Stats().Evicted; n < clients-minPasses || n > clients {
		t.Errorf("%d were closed", n)
	}
	for _, client := range append(conns, good) {
		client.Close()
	}
	h.ended(t, append(all, over)...)
}

// stuck is how many connections with a pass wait for their clients.
func (a *account) stuck() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.holders {
		if s.pass.since.Load() != 0 {
			n++
		}
	}
	return n
}

// TestOverdueReplies: so is one whose client does not take the reply, if others wait for a pass, and not else.
func TestOverdueReplies(t *testing.T) {
	h := &bigHandler{pool: NewBuffers(0)}
	conns, done := h.stuck(t, minPasses, 2, Options{})
	a := &h.pool.large
	a.evict(time.Now().Add(2 * passPatience))
	if n := h.pool.Stats().Evicted; n != 0 {
		t.Errorf("%d were closed for nobody", n)
	}
	good, over := h.pipe(t, Options{})
	ask(good, 1, 1<<20)
	eventually(t, "the good one waits", func() bool { return a.waiting.Load() == minPasses+1 })
	eventually(t, "those with a pass wait for their clients", func() bool { return a.stuck() == minPasses })
	a.evict(time.Now().Add(4 * passPatience))
	answered(t, good, 1, 1<<20)
	if n := h.pool.Stats().Evicted; n != minPasses {
		t.Errorf("%d were closed, want all", n)
	}
	for _, client := range append(conns, good) {
		client.Close()
	}
	h.ended(t, append(done, over)...)
}

// TestStuckClientsEnd: what clients hold that read nothing comes back with the write timeout, and who waits is let go.
func TestStuckClientsEnd(t *testing.T) {
	const clients = 5
	h := &bigHandler{pool: NewBuffers(2 * largestBytes)}
	var all []chan error
	for range clients {
		client, done := h.pipe(t, Options{WriteTimeout: 300 * time.Millisecond})
		ask(client, 8, 1<<20)
		all = append(all, done)
	}
	h.ended(t, all...)
	if peak := h.peak.Load(); peak > (2+clients)*largestBytes {
		t.Errorf("%d bytes were held, want %d at most", peak, (2+clients)*largestBytes)
	}
}

// TestSmallCallsDoNotCount: calls that need small buffers alone have no part in it, on a connection whose large ones wait neither.
func TestSmallCallsDoNotCount(t *testing.T) {
	h := &bigHandler{pool: NewBuffers(largestBytes)}
	conns, done := h.stuck(t, 3, 4, Options{})
	before := h.pool.Stats()
	good, over := h.pipe(t, Options{})
	ask(good, 100, 4<<10)
	answered(t, good, 100, 4<<10)
	if after := h.pool.Stats(); after != before {
		t.Errorf("%+v, before %+v", after, before)
	}
	for _, client := range append(conns, good) {
		client.Close()
	}
	h.ended(t, append(done, over)...)
}

// TestReaderWaits: a connection whose replies are not read takes no long call beside them, and does when they are read.
func TestReaderWaits(t *testing.T) {
	h := &bigHandler{pool: NewBuffers(0)}
	client, done := h.pipe(t, Options{})
	ask(client, 1, 1<<20)
	eventually(t, "the reply", func() bool { return h.pool.Stats().HeldBytes == largestBytes })
	arrived := make(chan error, 1)
	go func() {
		_, err := client.Write(record(message(1, procEcho, make([]byte, 70_000)), 1<<20))
		arrived <- err
	}()
	eventually(t, "the reader waits", func() bool { return h.pool.large.waiting.Load() == 1 })
	if held := h.pool.Stats().HeldBytes; held != largestBytes {
		t.Errorf("%d bytes are held, want %d", held, largestBytes)
	}
	answered(t, client, 1, 1<<20)
	answered(t, client, 1, 70_000)
	if err := <-arrived; err != nil {
		t.Error(err)
	}
	if n := h.pool.Stats().Waits; n != 1 {
		t.Errorf("%d waits, want 1", n)
	}
	client.Close()
	h.ended(t, done)
}

// TestHeldRepliesGoOutBeforeTheWait: the reader that waits for memory for a record has sent what it held, and the record has its
// time anew afterwards.
func TestHeldRepliesGoOutBeforeTheWait(t *testing.T) {
	s := &server{o: Options{Buffers: NewBuffers(0)}}
	s.o.EnsureDefaults()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	s.conn, s.slots = far, make(chan struct{}, 2)
	s.out.init(s)
	held := s.newTask()
	held.reply = held.receive(largeBytes) // under the pass
	held.enc.Reset(held.reply.Mem[markBytes:], 100, nil)
	held.enc.Uint64(7)
	s.slots <- struct{}{}
	s.out.hold(held)
	if s.pass.since.Load() == 0 {
		t.Error("a reply that is held is not one that waits for its client")
	}
	s.held = 1
	go func() { _, _ = readRecord(near) }()
	next := s.newTask()
	s.in.due = largeBytes
	if p := next.room(largeBytes); len(p) != largeBytes {
		t.Errorf("%d bytes", len(p))
	}
	if s.in.due > 0 {
		t.Errorf("%d bytes are to come before the record has more time", s.in.due)
	}
	next.free()
}

// TestPassStays: where the call that has the pass never ends, as where it waits for one that waits for memory, the connection does.
func TestPassStays(t *testing.T) {
	h := &bigHandler{pool: NewBuffers(0), hold: make(chan struct{})}
	client, done := h.pipe(t, Options{WriteTimeout: 50 * time.Millisecond, DrainTimeout: 50 * time.Millisecond, Takeover: -1})
	ask(client, 5, 1<<20)
	h.ended(t, done)
	if h.peak.Load() > largestBytes {
		t.Errorf("%d bytes were held, want those of one call", h.peak.Load())
	}
}

// TestPatience: who waits does so for as long as the pass goes round.
func TestPatience(t *testing.T) {
	p := NewBuffers(0)
	s := &server{o: Options{Buffers: p}}
	a := &p.large
	first, second, third := s.newTask(), s.newTask(), s.newTask()
	if w, _ := a.enter(first, 10); w != nil || !first.hasPass {
		t.Fatal("the first one waits")
	}
	w2, turns2 := a.enter(second, 20)
	w3, turns3 := a.enter(third, 30)
	if w2 == nil || w3 == nil || a.held.Load() != 10 {
		t.Fatalf("%v, %v, %d bytes", w2, w3, a.held.Load())
	}
	a.yield(first)
	select {
	case <-w2.ready:
	default:
		t.Fatal("the pass is not handed to who came next")
	}
	if !second.hasPass || third.hasPass || first.hasPass || a.held.Load() != 30 {
		t.Errorf("passes %v, %v, %v; %d bytes", first.hasPass, second.hasPass, third.hasPass, a.held.Load())
	}
	if turns := a.leave(w2, turns2); turns == 0 {
		t.Error("one that has its memory leaves")
	}
	turns := a.leave(w3, turns3)
	if turns == 0 {
		t.Fatal("one leaves although the pass has moved")
	}
	if a.leave(w3, turns) != 0 || a.waiting.Load() != 0 || a.queue.Len() != 0 || s.pass.queue.Len() != 0 {
		t.Error("one stays although the pass does")
	}
	a.yield(second)
	if s.pass.taken {
		t.Error("the pass is with nobody, and taken")
	}
}

// TestTurns: passes go round by connections, a connection that got memory otherwise has no turn, and who gets one waits for nobody yet.
func TestTurns(t *testing.T) {
	p := NewBuffers(0)
	a := &p.large
	a.maxPasses, a.maxBytes = 1, 10
	var tasks []*task
	var waiters []*waiter
	for range 4 {
		s := &server{o: Options{Buffers: p}}
		tasks = append(tasks, s.newTask())
	}
	again := tasks[0].s.newTask()
	a.held.Store(10)
	for _, call := range append(tasks, again) {
		w, _ := a.enter(call, 5)
		waiters = append(waiters, w)
	}
	tasks[0].needsClient(true)
	a.give(5)  // of the pass's
	a.give(10) // goes to the second one and the third
	if n := a.turns.Len(); n != 1 || tasks[1].s.pass.turn != nil || tasks[2].s.pass.turn != nil {
		t.Fatalf("%d wait for a turn", n)
	}
	for _, want := range []struct{ from, to *task }{{tasks[0], tasks[3]}, {tasks[3], again}} {
		a.yield(want.from)
		if want.from.hasPass || !want.to.hasPass {
			t.Fatal("the pass went to another one")
		}
		if want.to.s.pass.since.Load() != 0 {
			t.Error("who has just got the pass waits for its client")
		}
	}
	for _, w := range waiters[1:] {
		<-w.ready
	}
	a.yield(again)
	if len(a.holders) != 0 || a.turns.Len() != 0 || a.waiting.Load() != 0 {
		t.Errorf("%d have passes, %d wait for a turn, %d wait", len(a.holders), a.turns.Len(), a.waiting.Load())
	}
}

// TestOverdueOnce: a connection is closed once for one call, though it takes a while to go.
func TestOverdueOnce(t *testing.T) {
	p := NewBuffers(0)
	a := &p.large
	a.maxPasses = 1
	s, other := &server{o: Options{Buffers: p}}, &server{o: Options{Buffers: p}}
	first := s.newTask()
	a.enter(first, 5)
	first.needsClient(true)
	a.enter(other.newTask(), 5)
	now := time.Now().Add(2 * passPatience)
	if n := len(a.overdue(now)); n != 1 {
		t.Errorf("%d are overdue, want 1", n)
	}
	if n := len(a.overdue(now.Add(2 * lookEvery))); n != 0 {
		t.Errorf("%d are overdue again", n)
	}
}

// TestGivenBack: memory that is given back goes to those who wait for it, in their order, as far as it goes, and whoever had the
// pass of their connection keeps it.
func TestGivenBack(t *testing.T) {
	p := NewBuffers(100)
	a := &p.large
	if !a.take(100) || a.take(1) {
		t.Fatal("the bound is not 100")
	}
	var waiters []*waiter
	for _, n := range []int64{30, 30, 50} {
		s := &server{o: Options{Buffers: p}}
		a.enter(s.newTask(), 0)
		w, _ := a.enter(s.newTask(), n)
		waiters = append(waiters, w)
	}
	got := func() (ready []bool) {
		for _, w := range waiters {
			select {
			case <-w.ready:
				ready = append(ready, true)
			default:
				ready = append(ready, false)
			}
		}
		return ready
	}
	for _, step := range []struct {
		gives int64
		want  []bool
	}{
		{20, []bool{false, false, false}},
		{10, []bool{true, false, false}},
		{79, []bool{true, true, false}},
		{1, []bool{true, true, true}},
	} {
		a.give(step.gives)
		if ready := got(); !slices.Equal(ready, step.want) {
			t.Errorf("%d more bytes: %v, want %v", step.gives, ready, step.want)
		}
	}
	if a.held.Load() != 100 || a.waiting.Load() != 0 || waiters[0].t.hasPass {
		t.Errorf("%d bytes, %d wait", a.held.Load(), a.waiting.Load())
	}
}

// TestDefaultBufferBytes: 8 calls of 32 clients each fit, which hold 1 MiB of data, and a moment longer what came of it first.
func TestDefaultBufferBytes(t *testing.T) {
	if most := 32 * 8 * (largestBytes + int64(bufferBytes(firstRoomBytes))); most > DefaultBufferBytes {
		t.Errorf("they need %d bytes, and there are %d", most, DefaultBufferBytes)
	}
}

// TestGivenBackMeanwhile: what is given back between a call's claim and its waiting is not missed.
func TestGivenBackMeanwhile(t *testing.T) {
	p := NewBuffers(100)
	s := &server{o: Options{Buffers: p}}
	p.large.enter(s.newTask(), 0)
	w, _ := p.large.enter(s.newTask(), 100)
	select {
	case <-w.ready:
	default:
		t.Error("a call waits, and there is memory")
	}
}

// TestCrowdedMemory: with memory for two calls, many connections with many calls of all sizes each are all answered.
func TestCrowdedMemory(t *testing.T) {
	h := &bigHandler{pool: NewBuffers(2 * largestBytes)}
	var wg sync.WaitGroup
	var all []chan error
	for range 8 {
		client, done := h.pipe(t, Options{MaxInFlight: 8})
		all = append(all, done)
		const calls = 48
		go func() {
			for xid := range uint32(calls) {
				arg := make([]byte, []int{100, 20_000, 70_000, 300_000, 1 << 20}[xid%5])
				if _, err := client.Write(record(message(xid, procEcho, arg), 1<<20)); err != nil {
					return
				}
			}
		}()
		wg.Go(func() {
			defer client.Close()
			client.SetReadDeadline(time.Now().Add(60 * time.Second))
			for i := range calls {
				if _, err := readRecord(client); err != nil {
					t.Errorf("reply %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	h.ended(t, all...)
	if h.pool.Stats().Waits == 0 {
		t.Error("nobody has waited")
	}
}

// TestLargeCallsAllocateNothing: nor does a call that has to have the pass.
func TestLargeCallsAllocateNothing(t *testing.T) {
	h := &bigHandler{pool: NewBuffers(0)}
	client, server := tcpPair(t)
	done := make(chan error, 1)
	go func() { done <- ServeConn(context.Background(), server, h, Options{Buffers: h.pool}) }()
	wantNoAllocation(t, client, asking(1, 100_000), 4+24+100_000)
	client.Close()
	h.ended(t, done)
}

// TestReplyThatFindsNoMemory is an error for the handler, as one over the limit.
func TestReplyThatFindsNoMemory(t *testing.T) {
	s := &server{o: Options{Buffers: NewBuffers(0), WriteTimeout: time.Millisecond}}
	s.o.EnsureDefaults()
	near, far := net.Pipe()
	defer near.Close()
	s.conn = far
	first, second := s.newTask(), s.newTask()
	first.beginReply()
	first.enc.Reserve(largeBytes)
	second.beginReply()
	second.enc.Reserve(largeBytes)
	if first.enc.Err() != nil || second.enc.Err() == nil {
		t.Errorf("%v, %v", first.enc.Err(), second.enc.Err())
	}
	if _, err := far.Write(bytes.Repeat([]byte{1}, 10)); err == nil {
		t.Error("the connection is open")
	}
	first.free()
	second.free()
	if held := s.o.Buffers.Stats().HeldBytes; held != 0 {
		t.Errorf("%d bytes at the end", held)
	}
}
