package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestServeEcho(t *testing.T) {
	for _, size := range []int{0, 1, 100, 8000, 8192, 70_000, 300_000, 1 << 20} {
		for _, fragment := range []int{1 << 20, 4096, 331} {
			t.Run(fmt.Sprintf("%d in %d", size, fragment), func(t *testing.T) {
				s := serve(t, Options{})
				arg := bytes.Repeat([]byte{0xa5, 1, 2}, size/3+1)[:size]
				s.send(record(message(9, procEcho, arg), fragment))
				s.echoed(9, arg)
				s.Close()
				if err := s.wait(); err != nil {
					t.Errorf("ServeConn: %v", err)
				}
			})
		}
	}
}

// A record that comes byte by byte, with the next one right behind it.
func TestServeByteByByte(t *testing.T) {
	s := serve(t, Options{})
	stream := append(record(message(1, procEcho, []byte("one")), 50), record(message(2, procEcho, []byte("two")), 1<<20)...)
	for _, b := range stream {
		s.send([]byte{b})
	}
	got := make(map[uint32]string) // replies may overtake each other
	for range 2 {
		xid, d, err := ParseReply(s.receive())
		if err != nil {
			t.Fatal(err)
		}
		got[xid] = string(d.Opaque(10))
	}
	if got[1] != "one" || got[2] != "two" {
		t.Errorf("replies %v", got)
	}
}

func TestServeRefusals(t *testing.T) {
	good := message(5, procEcho, []byte("x"))
	with := func(offset int, v uint32) []byte {
		b := bytes.Clone(good)
		binary.BigEndian.PutUint32(b[offset:], v)
		return b
	}
	for _, c := range []struct {
		name    string
		message []byte
		want    RejectedError
	}{
		{"rpc version", with(8, 3), RejectedError{Denied: true}},
		{"program", with(12, 1), RejectedError{Accept: ProgUnavail}},
		{"program version", with(16, 4), RejectedError{Accept: ProgMismatch}},
		{"procedure", with(20, 99), RejectedError{Accept: ProcUnavail}},
		{"unknown flavour", with(24, 77), RejectedError{Denied: true, Auth: AuthBadCred}},
		{"AUTH_TLS", with(24, uint32(AuthTLS)), RejectedError{Denied: true, Auth: AuthBadCred}},
		{"credential over 400 bytes", with(28, 404), RejectedError{Denied: true, Auth: AuthBadCred}},
		{"machine name too long", with(36, 300), RejectedError{Denied: true, Auth: AuthBadCred}},
		{"17 groups", with(48, 17), RejectedError{Denied: true, Auth: AuthBadCred}},
		{"bytes left in credential", with(48, 1), RejectedError{Denied: true, Auth: AuthBadCred}},
		{"verifier over 400 bytes", with(64, 404), RejectedError{Denied: true, Auth: AuthBadVerf}},
		{"arguments cut short", good[:len(good)-8], RejectedError{Accept: GarbageArgs}},
		{"handler fails", with(20, procFail), RejectedError{Accept: SystemErr}},
		{"reply over the limit", message(5, procBig, make([]byte, 1<<20)), RejectedError{Accept: SystemErr}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, Options{MaxReplyBytes: 1 << 16})
			s.send(record(c.message, 1<<20))
			xid, _, err := ParseReply(s.receive())
			var got *RejectedError
			if !errors.As(err, &got) || *got != c.want || xid != 5 {
				t.Errorf("xid %d, %v; want %v", xid, err, &c.want)
			}
			s.send(record(message(6, procEcho, []byte("still there")), 1<<20))
			s.echoed(6, []byte("still there"))
		})
	}
}

// What is no call at all is passed over; the connection goes on.
func TestServePassesOver(t *testing.T) {
	s := serve(t, Options{})
	reply := []byte{0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0}
	for _, b := range [][]byte{
		record(reply, 100),
		record([]byte{1, 2, 3}, 100),
		record(nil, 100),
		record([]byte{0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0}, 100),
		record(message(3, procSilent, nil), 1000),
		record(message(4, procEcho, []byte("x")), 1000),
	} {
		s.send(b)
	}
	s.echoed(4, []byte("x"))
	if n := s.stats.Replies.Load(); n != 1 {
		t.Errorf("%d replies counted, want 1", n)
	}
	if m := s.stats.Malformed.Load(); m != 3 {
		t.Errorf("%d malformed records counted, want 3", m)
	}
}

func TestServeEndsConnection(t *testing.T) {
	half := record(message(1, procEcho, make([]byte, 100)), 1000)
	for _, c := range []struct {
		name  string
		bytes []byte
		close bool
		want  error
	}{
		{"2 GiB mark", []byte{0xff, 0xff, 0xff, 0xff}, false, ErrRecordTooBig},
		{"one byte over", binary.BigEndian.AppendUint32(nil, lastFragment|(1<<20+1)), false, ErrRecordTooBig},
		{"sum over", append(record(make([]byte, 1<<20), 1<<20)[4:4], bigFragments(17, 64<<10)...), false, ErrRecordTooBig},
		{"empty fragments", make([]byte, 4*(maxFragments+2)), false, ErrTooManyFragments},
		{"half a mark", []byte{0x80, 0}, true, io.ErrUnexpectedEOF},
		{"half a record", half[:60], true, io.ErrUnexpectedEOF},
		{"no second fragment", []byte{0, 0, 0, 4, 1, 2, 3, 4}, true, io.ErrUnexpectedEOF},
		{"nothing", nil, true, nil},
		{"idle", nil, false, ErrTimeout},
		{"record stalls", half[:60], false, ErrTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, Options{MaxRecordBytes: 1 << 20, IdleTimeout: time.Second / 2, RecordTimeout: time.Second / 4})
			s.Write(c.bytes) // the server may have hung up before the last byte
			if c.close {
				s.Conn.(*net.TCPConn).CloseWrite()
			}
			if err := s.wait(); !errors.Is(err, c.want) {
				t.Errorf("ServeConn: %v, want %v", err, c.want)
			}
		})
	}
}

// bigFragments is a record that goes on for n fragments without a last one.
func bigFragments(n, size int) []byte {
	var out []byte
	for range n {
		out = binary.BigEndian.AppendUint32(out, uint32(size))
		out = append(out, make([]byte, size)...)
	}
	return out
}

// A mark alone, however large the record that it announces, takes little memory.
func TestServeTakesMemoryAsBytesArrive(t *testing.T) {
	var before, after runtime.MemStats
	const connections = 50
	all := make([]*served, connections)
	for i := range all {
		all[i] = serve(t, Options{MaxRecordBytes: 64 << 20})
	}
	runtime.ReadMemStats(&before)
	for _, s := range all {
		s.send(binary.BigEndian.AppendUint32(nil, lastFragment|64<<20))
		s.send(make([]byte, 1000))
	}
	time.Sleep(50 * time.Millisecond)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > connections*100<<10 {
		t.Errorf("%d bytes taken for %d connections", grown, connections)
	}
}

// The calls under way at once are bounded, and all are answered.
func TestServeManyAtOnce(t *testing.T) {
	const calls, inFlight = 200, 8
	s := serve(t, Options{MaxInFlight: inFlight})
	go func() {
		for i := range uint32(calls) {
			s.Write(record(message(i, procWait, []byte{byte(i)}), 1000))
		}
	}()
	for s.stats.InFlight.Load() < inFlight {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(10 * time.Millisecond)
	close(s.h.gate)
	seen := make(map[uint32]bool)
	for range calls {
		xid, d, err := ParseReply(s.receive())
		if err != nil || seen[xid] || d.Opaque(1)[0] != byte(xid) {
			t.Fatalf("xid %d again %v: %v", xid, seen[xid], err)
		}
		seen[xid] = true
	}
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.h.max != inFlight {
		t.Errorf("%d calls at once, want %d", s.h.max, inFlight)
	}
}

// A call that stands alone and blocks does not keep the next one from being read.
func TestServeTakeover(t *testing.T) {
	s := serve(t, Options{})
	for round := range uint32(20) {
		for range crowdCalls + 1 { // until calls are thought to come alone
			s.send(record(message(1000, procEcho, nil), 1000))
			s.echoed(1000, nil)
		}
		s.send(record(message(2*round, procWait, nil), 1000))
		time.Sleep(time.Duration(round%4) * 100 * time.Microsecond)
		s.send(record(message(2*round+1, procEcho, []byte("quick")), 1000))
		s.echoed(2*round+1, []byte("quick"))
		s.h.gate <- struct{}{}
		s.echoed(2*round, nil)
	}
	if s.stats.Inline.Load() == 0 || s.stats.Takeovers.Load() == 0 {
		t.Errorf("%d calls inline, %d takeovers", s.stats.Inline.Load(), s.stats.Takeovers.Load())
	}
}

// A long call is not taken to be alone where the socket has more behind it, which a read to its end does not show.
func TestServeLargeTogether(t *testing.T) {
	s := serve(t, Options{Takeover: time.Minute})
	both := bytes.Join([][]byte{
		record(message(0, procWait, make([]byte, 4*largeBytes)), 8*largeBytes),
		record(message(1, procWait, make([]byte, 4*largeBytes)), 8*largeBytes),
	}, nil)
	const rounds = 20
	together := 0
	for range rounds {
		for range crowdCalls + 1 { // until calls are thought to come alone
			s.send(record(message(1000, procEcho, nil), 1000))
			s.echoed(1000, nil)
		}
		s.send(both)
		for end := time.Now().Add(100 * time.Millisecond); s.h.running() < 2 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if s.h.running() == 2 {
			together++
		}
		for range 2 {
			s.h.gate <- struct{}{}
			s.receive()
		}
	}
	if together < rounds/2 { // the client may be slower than the reader
		t.Errorf("of %d times two calls were under way together %d times", rounds, together)
	}
}

// asked is a connection that is asked what its socket has.
type asked struct {
	net.Conn
	has   atomic.Bool
	times atomic.Int32
}

func (a *asked) Pending() bool {
	a.times.Add(1)
	return a.has.Load()
}

// A call that is longer than what is read ahead is alone only if the socket has no more; of a shorter one it is not asked.
func TestServeAsksTheSocket(t *testing.T) {
	client, server := tcpPair(t)
	conn := &asked{Conn: server}
	s := serveOn(t, client, conn, Options{Takeover: time.Minute})
	echo := func(size int) (inline bool) {
		t.Helper()
		before := s.stats.Inline.Load()
		s.send(record(message(7, procEcho, make([]byte, size)), 8*largeBytes))
		s.echoed(7, make([]byte, size))
		return s.stats.Inline.Load() > before
	}
	alone := func() {
		t.Helper()
		for range crowdCalls + 1 {
			echo(100)
		}
	}
	for _, size := range []int{readAheadBytes + 1, 2 * largeBytes} {
		conn.has.Store(false)
		conn.times.Store(0)
		alone()
		if n := conn.times.Load(); n != 0 {
			t.Errorf("asked %d times about small calls", n)
		}
		if !echo(size) {
			t.Errorf("a call of %d bytes that is alone is handed out", size)
		}
		if conn.times.Load() != 1 {
			t.Errorf("asked %d times about one of %d bytes", conn.times.Load(), size)
		}
		alone()
		conn.has.Store(true)
		if echo(size) {
			t.Errorf("a call of %d bytes with more behind it is handled by the reader", size)
		}
	}
}

// echoedAll receives the echoes of "quick" of n calls from xid first on, in any order.
func (s *served) echoedAll(first, n uint32) {
	s.t.Helper()
	seen := make(map[uint32]bool)
	for range n {
		xid, d, err := ParseReply(s.receive())
		if err != nil || seen[xid] || xid-first >= n || string(d.Opaque(100)) != "quick" {
			s.t.Fatalf("reply to %d, %v", xid, err)
		}
		seen[xid] = true
	}
}

// Quick calls that come together are handled by the reader, and answered together.
func TestServeQuick(t *testing.T) {
	s := serve(t, Options{})
	s.h.quick.Store(true)
	const calls = 200
	for round := range uint32(10) {
		var all []byte
		for i := range uint32(calls) {
			all = append(all, record(message(round*calls+i, procEcho, []byte("quick")), 1000)...)
		}
		s.send(all)
		s.echoedAll(round*calls, calls)
	}
	// Some may be slow here, where other things run too.
	if inline, writes := s.stats.Inline.Load(), s.stats.Writes.Load(); inline < calls || writes > 10*calls/2 {
		t.Errorf("%d of %d calls inline, %d writes", inline, 10*calls, writes)
	}
	s.Close()
	if err := s.wait(); err != nil {
		t.Error(err)
	}
	if n := s.stats.InFlight.Load(); n != 0 {
		t.Errorf("%d calls under way at the end", n)
	}
}

// Options.Lone hears of a call that nothing else is beside, and of none that came with others.
func TestServeLone(t *testing.T) {
	var lone atomic.Int32
	s := serve(t, Options{Lone: func() { lone.Add(1) }})
	for xid := range uint32(10) {
		s.send(record(message(xid, procEcho, []byte("quick")), 1000))
		s.echoedAll(xid, 1)
	}
	alone := lone.Load()
	if alone < 5 { // a call that comes before the one ahead is wholly over is not alone
		t.Errorf("heard of %d of 10 calls", alone)
	}
	var all []byte
	for xid := range uint32(100) {
		all = append(all, record(message(xid, procEcho, []byte("quick")), 1000)...)
	}
	s.send(all)
	s.echoedAll(0, 100)
	if n := lone.Load() - alone; n > 50 {
		t.Errorf("heard of %d of 100 calls that came together", n)
	}
}

// expectingConn is told whether the next call is expected soon.
type expectingConn struct {
	net.Conn
	expects atomic.Bool
}

func (c *expectingConn) Expect(on bool) { c.expects.Store(on) }

// The next call of a client that has one at a time is expected soon, and no more once calls come together.
func TestServeExpects(t *testing.T) {
	client, conn := tcpPair(t)
	server := &expectingConn{Conn: conn}
	s := serveOn(t, client, server, Options{})
	for xid := range uint32(10 * loneCalls) {
		s.send(record(message(xid, procEcho, []byte("quick")), 1000))
		s.echoedAll(xid, 1)
		if xid < loneCalls-1 && server.expects.Load() {
			t.Fatalf("after %d calls the next one is expected", xid+1)
		}
		if server.expects.Load() {
			break
		}
	}
	if !server.expects.Load() {
		t.Errorf("after %d calls, one at a time, the next one is not expected", 10*loneCalls)
	}
	var all []byte
	for xid := range uint32(100) {
		all = append(all, record(message(xid, procEcho, []byte("quick")), 1000)...)
	}
	s.send(all)
	s.echoedAll(0, 100)
	if server.expects.Load() {
		t.Error("after calls that came together the next one is expected")
	}
}

// Held replies go out before the reader waits: for the rest of a record, for a place, or because the next
// call was not so quick.
func TestServeQuickHoldsNothingBack(t *testing.T) {
	for name, c := range map[string]struct {
		o      Options
		behind []byte // what comes with three calls
	}{
		"half a record": {Options{}, record(message(9, procEcho, []byte("later")), 1000)[:30]},
		"half a mark":   {Options{}, []byte{0x80, 0}},
		"few places":    {Options{MaxInFlight: 2}, nil},
		"a slow call":   {Options{}, record(message(8, procWait, []byte("slow")), 1000)},
		"slow calls": {Options{MaxInFlight: 5}, append(record(message(8, procWait, nil), 1000),
			record(message(7, procWait, nil), 1000)...)},
		"no answer": {Options{}, record(message(8, procSilent, nil), 1000)},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, c.o)
			s.h.quick.Store(true)
			var all []byte
			for i := range uint32(3) {
				all = append(all, record(message(i, procEcho, []byte("quick")), 1000)...)
			}
			s.send(append(all, c.behind...))
			s.echoedAll(0, 3)
			close(s.h.gate)
		})
	}
}

// A call that was taken over is not the end of the connection: its context lives on past DrainTimeout.
func TestServeTakeoverIsNoEnd(t *testing.T) {
	s := serve(t, Options{DrainTimeout: 5 * time.Millisecond, Takeover: time.Microsecond})
	s.send(record(message(1, procWait, []byte("patient")), 1000))
	for s.stats.Takeovers.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond)
	if n := s.stats.InFlight.Load(); n != 1 {
		t.Errorf("%d calls under way: the context of one on a living connection was cancelled", n)
	}
	close(s.h.gate)
	s.echoed(1, []byte("patient"))
}

// A silent connection gives its buffer back, and is served as before when it speaks again; a deadline
// that makes it do so is not the one that ends it.
func TestServeRests(t *testing.T) {
	s := serve(t, Options{RestAfter: 10 * time.Millisecond})
	resting := func(n int64) {
		t.Helper()
		for range 1000 {
			if s.stats.Resting.Load() == n {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Fatalf("%d connections rest, want %d", s.stats.Resting.Load(), n)
	}
	for xid := range uint32(4) {
		resting(1)
		b := record(message(xid, procEcho, bytes.Repeat([]byte{1}, 1000)), 300)
		if xid%2 == 0 { // in pieces that end within the first bytes
			s.send(b[:3])
			time.Sleep(5 * time.Millisecond)
			b = b[3:]
		}
		s.send(b)
		s.echoed(xid, bytes.Repeat([]byte{1}, 1000))
	}
	resting(1)
	s.cancel()
	if err := s.wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while it rests: %v", err)
	}
	resting(0)
}

// What is left of IdleTimeout ends a connection that rests.
func TestServeRestsNotForEver(t *testing.T) {
	s := serve(t, Options{RestAfter: 10 * time.Millisecond, IdleTimeout: 60 * time.Millisecond})
	start := time.Now()
	if err := s.wait(); !errors.Is(err, ErrTimeout) || time.Since(start) < 50*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

// Cancellation lets calls under way finish and be answered; no further one is read.
func TestServeDrain(t *testing.T) {
	s := serve(t, Options{})
	for i := range uint32(5) {
		s.send(record(message(i, procWait, []byte("late")), 1000))
	}
	for s.stats.InFlight.Load() < 5 {
		time.Sleep(time.Millisecond)
	}
	s.cancel()
	time.Sleep(20 * time.Millisecond)
	s.send(record(message(77, procEcho, nil), 1000))
	close(s.h.gate)
	for range 5 {
		xid, d, err := ParseReply(s.receive())
		if err != nil || xid >= 5 || string(d.Opaque(9)) != "late" {
			t.Fatalf("xid %d: %v", xid, err)
		}
	}
	if err := s.wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("ServeConn: %v", err)
	}
	if n := s.stats.Calls.Load(); n != 5 {
		t.Errorf("%d calls were handled", n)
	}
	if n := s.stats.Connections.Load(); n != 0 {
		t.Errorf("%d connections left", n)
	}
}

// After DrainTimeout the handlers' context ends.
func TestServeDrainTimeout(t *testing.T) {
	s := serve(t, Options{DrainTimeout: 20 * time.Millisecond})
	s.send(record(message(1, procWait, nil), 1000))
	for s.stats.InFlight.Load() < 1 {
		time.Sleep(time.Millisecond)
	}
	s.cancel()
	if err := s.wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("ServeConn: %v", err)
	}
}

// A client that does not fetch its replies is disconnected.
func TestServeSlowReader(t *testing.T) {
	s := serve(t, Options{WriteTimeout: 200 * time.Millisecond, MaxInFlight: 4})
	call := record(message(1, procEcho, make([]byte, 1<<20)), 2<<20)
	go func() {
		for {
			if _, err := s.Write(call); err != nil {
				return
			}
		}
	}()
	if err := s.wait(); err == nil {
		t.Error("ServeConn is content with a client that does not read")
	}
	if n := s.stats.InFlight.Load(); n != 0 {
		t.Errorf("%d calls left in flight", n)
	}
}

// hidden hides the type of a connection, as TLS does.
type hidden struct{ net.Conn }

// Replies of all sizes go out whole when many are waiting, with writev and without.
func TestServeCoalesces(t *testing.T) {
	for _, vectored := range []bool{true, false} {
		t.Run(fmt.Sprintf("vectored %v", vectored), func(t *testing.T) {
			client, server := tcpPair(t)
			if !vectored {
				server = hidden{server}
			}
			s := serveOn(t, client, server, Options{})
			const calls = 48
			sizes := []int{0, 1 << 20, 9000, 1 << 20, 40_000}
			go func() {
				for i := range calls {
					s.Write(record(message(uint32(i), procWait, bytes.Repeat([]byte{byte(i)}, sizes[i%len(sizes)])), 2<<20))
				}
			}()
			for s.stats.InFlight.Load() < calls {
				time.Sleep(time.Millisecond)
			}
			// The socket does not hold all the replies: most of them wait behind one writer.
			close(s.h.gate)
			for s.h.running() > 0 {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(100 * time.Millisecond) // between a handler's end and its reply's place in the queue
			for range calls {
				xid, d, err := ParseReply(s.receive())
				data := d.Opaque(1 << 20)
				if err != nil || len(data) != sizes[xid%5] || bytes.Count(data, []byte{byte(xid)}) != len(data) {
					t.Fatalf("xid %d: %d bytes, %v", xid, len(data), err)
				}
			}
			if n := s.stats.Writes.Load(); n >= calls {
				t.Errorf("%d writes for %d replies", n, calls)
			}
		})
	}
}

// Calls that were waiting for the same thing are answered together, though each is done by itself.
func TestServeAnswersTogether(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // so that none is done while another one's reply is written
	const calls = 32
	s := serve(t, Options{})
	for i := range uint32(calls) {
		s.send(record(message(i, procWait, []byte("small")), 1000))
	}
	for s.h.running() < calls {
		time.Sleep(time.Millisecond)
	}
	close(s.h.gate)
	for range calls {
		if _, d, err := ParseReply(s.receive()); err != nil || string(d.Opaque(10)) != "small" {
			t.Fatal(err)
		}
	}
	if n := s.stats.Writes.Load(); n > calls/4 {
		t.Errorf("%d writes for %d replies", n, calls)
	}
}

// In a steady state a call allocates nothing, inline or not.
func TestServeAllocations(t *testing.T) {
	for _, c := range []struct {
		name     string
		takeover time.Duration
		size     int
	}{
		{"inline", time.Minute, 100},
		{"goroutine", -1, 100},
		{"64 KiB", time.Minute, 64 << 10},
		{"1 MiB", time.Minute, 1 << 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, Options{Takeover: c.takeover})
			call := record(message(1, procEcho, make([]byte, c.size)), 2<<20)
			reply := make([]byte, c.size+32)
			one := func() {
				if _, err := s.Write(call); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(s.Conn, reply); err != nil {
					t.Fatal(err)
				}
			}
			for range 20 {
				one()
			}
			// The race detector makes sync.Pool forget at random.
			if n := testing.AllocsPerRun(200, one); n >= 1 && !raceEnabled {
				t.Errorf("%v allocations a call", n)
			}
		})
	}
}

func BenchmarkServe(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			client, server := tcpPair(b)
			done := make(chan error, 1)
			go func() {
				done <- ServeConn(context.Background(), server, &testHandler{}, Options{})
			}()
			call := record(message(1, procEcho, make([]byte, size)), 2<<20)
			reply := make([]byte, (size+3)&^3+32)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.Write(call); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(client, reply); err != nil {
					b.Fatal(err)
				}
			}
			client.Close()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// When a connection has ended, its goroutines and timers have too.
func TestServeLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	for i := range 30 {
		client, server := tcpPair(t)
		ctx, cancel := context.WithCancel(t.Context())
		h := &testHandler{gate: make(chan struct{})}
		done := make(chan error, 1)
		go func() { done <- ServeConn(ctx, server, h, Options{Takeover: time.Microsecond}) }()
		for xid := range uint32(20) {
			if _, err := client.Write(record(message(xid, procEcho, nil), 1000)); err != nil {
				t.Fatal(err)
			}
		}
		if i%2 == 0 {
			cancel()
		} else {
			client.Close()
		}
		<-done
		cancel()
		client.Close()
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		time.Sleep(time.Millisecond)
	}
}

// A record that comes byte by byte has one RecordTimeout for all of it, not one for each byte; the next record has one of
// its own.
func TestServeRecordTrickles(t *testing.T) {
	for name, whole := range map[string]int{"first": 0, "after another": 1} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Options{RecordTimeout: 400 * time.Millisecond})
			for xid := range uint32(whole) {
				s.send(record(message(xid, procEcho, []byte("whole")), 1000))
				s.echoed(xid, []byte("whole"))
			}
			go func() {
				for _, b := range record(message(9, procEcho, make([]byte, 100)), 1000) {
					if _, err := s.Write([]byte{b}); err != nil {
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
			}()
			start := time.Now()
			if err := s.wait(); !errors.Is(err, ErrTimeout) {
				t.Errorf("ServeConn: %v", err)
			}
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("a record of 160 bytes, of which one comes each 50 ms, was waited for %v long", d)
			}
		})
	}
}

// A long record over a slow line has RecordTimeout for each 64 KiB, and may take longer than that altogether.
func TestServeSlowRecord(t *testing.T) {
	s := serve(t, Options{RecordTimeout: 2 * time.Second})
	arg := make([]byte, 700_000)
	for b := record(message(1, procEcho, arg), 1<<20); len(b) > 0; {
		n := min(len(b), 70_000)
		s.send(b[:n])
		b = b[n:]
		time.Sleep(250 * time.Millisecond)
	}
	s.echoed(1, arg)
}

// Whoever took the reading over during the first call of a connection lends it in turn, while that call goes on: the race
// detector sees whether what the two share is ordered by more than luck.
func TestServeTakenOverAtOnce(t *testing.T) {
	client, server := tcpPair(t)
	h := &lockFreeHandler{gate: make(chan struct{})}
	stats := new(Stats)
	done := make(chan error, 1)
	go func() {
		done <- ServeConn(context.Background(), server, h, Options{Takeover: time.Microsecond, Stats: stats})
	}()
	client.SetDeadline(time.Now().Add(10 * time.Second))
	call := func(xid uint32) {
		if _, err := client.Write(record(message(xid, procEcho, nil), 1000)); err != nil {
			t.Fatal(err)
		}
	}
	call(0)
	for stats.Takeovers.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	for xid := uint32(1); xid < 2*spreadCalls; xid++ {
		call(xid)
		if _, err := readRecord(client); err != nil {
			t.Fatal(err)
		}
	}
	if n := stats.Inline.Load(); n < 2 {
		t.Errorf("%d calls were handled by a reader", n)
	}
	close(h.gate)
	if _, err := readRecord(client); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
