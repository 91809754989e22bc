package nowait

import (
	"testing"
	"time"
)

// expecting is an Expect after a short wait in the poller, and the descriptor of what it waits for.
func expecting(t *testing.T, s *Socket) *Expect {
	t.Helper()
	e := &Expect{}
	if waitFor(t, e, s) {
		t.Fatal("the first wait was in the kernel")
	}
	e.Came()
	if !e.quick {
		t.Fatal("what came at once is not expected again")
	}
	return e
}

// waitFor waits for what a socket receives.
func waitFor(t *testing.T, e *Expect, s *Socket) (came bool) {
	t.Helper()
	if err := s.raw.Control(func(fd uintptr) { came = e.Wait(fd) }); err != nil {
		t.Fatal(err)
	}
	return came
}

// TestExpect: after a short wait the next one is in the kernel, until nothing comes in time.
func TestExpect(t *testing.T) {
	near, far := pair(t)
	s := NewSocket(near)
	e := expecting(t, s)
	if _, err := far.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if !waitFor(t, e, s) || e.Met() != 1 {
		t.Error("what had come was not waited for")
	}
	if _, err := s.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	lately.Store(e.number)
	began := time.Now()
	if waitFor(t, e, s) {
		t.Error("something came that nobody sent")
	}
	if d := time.Since(began); d < time.Duration(patience) {
		t.Errorf("it was waited for in the kernel for %v", d)
	}
	lately.Store(e.number)
	if e.quick || waitFor(t, e, s) {
		t.Error("after a long wait it is waited for in the kernel")
	}
}

// TestExpectLong: what took long to come is not expected soon.
func TestExpectLong(t *testing.T) {
	near, _ := pair(t)
	e := &Expect{}
	waitFor(t, e, NewSocket(near))
	e.began -= soon
	e.Came()
	if e.quick {
		t.Error("it is expected soon")
	}
}

// TestExpectOthers: where another socket waits too, both wait in the poller.
func TestExpectOthers(t *testing.T) {
	near, far := pair(t)
	s := NewSocket(near)
	if _, err := far.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	e := expecting(t, s)
	expecting(t, s)
	if waitFor(t, e, s) || e.Met() != 0 {
		t.Error("a socket that is not alone was waited for in the kernel")
	}
}

// TestPair: what comes for the other one of a pair ends a wait, and both expect more.
func TestPair(t *testing.T) {
	near, far := pair(t)
	side, end := pair(t)
	calls, answers := NewSocket(near), NewSocket(side)
	var a, b Expect
	Pair(&a, &b)
	for _, x := range []struct {
		e *Expect
		s *Socket
	}{{&b, answers}, {&a, calls}} {
		waitFor(t, x.e, x.s)
		x.e.Came()
	}
	if _, err := end.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if waitFor(t, &a, calls) || a.Met() != 1 || !a.quick {
		t.Error("the answer did not end the wait for a call")
	}
	if !waitFor(t, &b, answers) || b.Met() != 1 {
		t.Error("the answer was not there")
	}
	if _, err := far.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if !waitFor(t, &a, calls) {
		t.Error("a call beside an answer was not there")
	}
}

// TestReadExpects: a Socket whose peer answers at once is waited for in the kernel.
func TestReadExpects(t *testing.T) {
	near, far := pair(t)
	s := NewSocket(near)
	s.Expect(true)
	go func() {
		p := make([]byte, 1)
		for {
			if _, err := far.Read(p); err != nil {
				return
			}
			far.Write(p)
		}
	}()
	p := []byte("x")
	for range 2000 {
		near.Write(p)
		if _, err := s.Read(p); err != nil {
			t.Fatal(err)
		}
		if s.in.expect.Met() > 0 {
			return
		}
	}
	t.Error("of 2,000 answers none was waited for in the kernel")
}
