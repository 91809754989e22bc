package nowait

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pair is the two ends of a connection.
func pair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); other.Close() })
	return conn.(*net.TCPConn), other.(*net.TCPConn)
}

// TestRead reads what is sent at once and in pieces, up to its end.
func TestRead(t *testing.T) {
	near, far := pair(t)
	r := NewSocket(near)
	if n, err := r.Read(nil); n != 0 || err != nil {
		t.Errorf("reading nothing: %d, %v", n, err)
	}
	sent := make([]byte, 3*mostBytes+5)
	for i := range sent {
		sent[i] = byte(i * 7 >> 3)
	}
	go func() {
		far.Write(sent[:10])
		time.Sleep(10 * time.Millisecond)
		far.Write(sent[10:])
		far.CloseWrite()
	}()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d, %v", len(got), len(sent), err)
	}
}

// TestWrite writes more than both ends' buffers hold to a peer that reads late.
func TestWrite(t *testing.T) {
	near, far := pair(t)
	s := NewSocket(near)
	if n, err := s.Write(nil); n != 0 || err != nil {
		t.Errorf("writing nothing: %d, %v", n, err)
	}
	sent := make([]byte, 24<<20)
	for i := range sent {
		sent[i] = byte(i * 11 >> 4)
	}
	got := make(chan []byte)
	go func() {
		time.Sleep(20 * time.Millisecond)
		all, _ := io.ReadAll(far)
		got <- all
	}()
	if n, err := s.Write(sent); n != len(sent) || err != nil {
		t.Errorf("wrote %d of %d, %v", n, len(sent), err)
	}
	near.CloseWrite()
	if all := <-got; !bytes.Equal(all, sent) {
		t.Errorf("%d bytes of %d arrived, or others", len(all), len(sent))
	}
}

// TestWriteErrors says what a write says of a deadline, and how far it came, and of a peer that is gone.
func TestWriteErrors(t *testing.T) {
	near, far := pair(t)
	s := NewSocket(near)
	much := make([]byte, 24<<20)
	near.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := s.Write(much); !errors.Is(err, os.ErrDeadlineExceeded) || n <= 0 || n >= len(much) {
		t.Errorf("after the deadline: %d, %v", n, err)
	}
	near.SetWriteDeadline(time.Time{})
	far.SetLinger(0)
	far.Close()
	_, err := s.Write(much)
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("after a reset: %v", err)
	}
	near.Close()
	if _, err := s.Write(much); !errors.Is(err, net.ErrClosed) {
		t.Errorf("to a closed connection: %v", err)
	}
}

// TestErrors says what a read says of a deadline, of a peer that breaks off and of a closed connection.
func TestErrors(t *testing.T) {
	near, far := pair(t)
	r := NewSocket(near)
	p := make([]byte, 1)
	near.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := r.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	near.SetReadDeadline(time.Time{})
	far.SetLinger(0)
	far.Close()
	if _, err := r.Read(p); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after a reset: %v", err)
	}
	near.Close()
	if _, err := r.Read(p); !errors.Is(err, net.ErrClosed) {
		t.Errorf("of a closed connection: %v", err)
	}
}

// TestPending: what has come is pending until it is taken, and so is the end.
func TestPending(t *testing.T) {
	near, far := pair(t)
	s := NewSocket(near)
	expect := func(want bool, when string) {
		t.Helper()
		for range 1000 { // what is sent takes a moment
			if s.Pending() == want {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Errorf("%s: pending is %t", when, !want)
	}
	expect(false, "at first")
	if _, err := far.Write([]byte("xy")); err != nil {
		t.Fatal(err)
	}
	expect(true, "when something has come")
	for range 2 {
		if _, err := s.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	expect(false, "when it is taken")
	far.CloseWrite()
	expect(true, "at the end")
	if n := testing.AllocsPerRun(10, func() { s.Pending() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	near.Close()
	expect(true, "of a closed one")
}

// TestNoWait asks a socket whose descriptor is in blocking mode, which has nothing, and then takes nothing.
func TestNoWait(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	if n, err := Receive(uintptr(fds[0]), make([]byte, 8)); n != 0 || err != unix.EAGAIN {
		t.Errorf("nothing to receive: %d, %v", n, err)
	}
	for range 10_000 {
		if _, err = Send(uintptr(fds[0]), make([]byte, 64<<10)); err != nil {
			break
		}
	}
	if err != unix.EAGAIN {
		t.Errorf("no room to send to: %v", err)
	}
}

// TestOnlySockets refuses connections whose Read is not a socket's: one in memory, and one that does more.
func TestOnlySockets(t *testing.T) {
	memory, other := net.Pipe()
	defer memory.Close()
	defer other.Close()
	near, _ := pair(t)
	if NewSocket(memory) != nil || NewSocket(struct{ *net.TCPConn }{near}) != nil {
		t.Error("another Read is passed by")
	}
}

// TestNoAllocation reads and writes without allocating.
func TestNoAllocation(t *testing.T) {
	near, far := pair(t)
	r, w := NewSocket(near), NewSocket(far)
	one, p := []byte{1}, make([]byte, 8)
	two := [][]byte{one, one}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := w.Write(one); err != nil {
			t.Fatal(err)
		}
		if _, err := w.WriteBuffers(two); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a read", n)
	}
}
