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

// TestReader reads what is sent at once and in pieces, up to its end.
func TestReader(t *testing.T) {
	near, far := pair(t)
	r := NewReader(near)
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

// TestErrors says what a reader says of a deadline, of a peer that breaks off and of a closed connection.
func TestErrors(t *testing.T) {
	near, far := pair(t)
	r := NewReader(near)
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

// TestReceiveDoesNotWait asks a socket whose descriptor is in blocking mode, which has nothing.
func TestReceiveDoesNotWait(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	if n, err := Receive(uintptr(fds[0]), make([]byte, 8)); n != 0 || err != unix.EAGAIN {
		t.Errorf("nothing to receive: %d, %v", n, err)
	}
}

// TestOnlySockets refuses connections whose Read is not a socket's: one in memory, and one that does more.
func TestOnlySockets(t *testing.T) {
	memory, other := net.Pipe()
	defer memory.Close()
	defer other.Close()
	near, _ := pair(t)
	if NewReader(memory) != nil || NewReader(struct{ *net.TCPConn }{near}) != nil {
		t.Error("another Read is passed by")
	}
}

// TestNoAllocation reads without allocating.
func TestNoAllocation(t *testing.T) {
	near, far := pair(t)
	r := NewReader(near)
	one, p := []byte{1}, make([]byte, 8)
	if n := testing.AllocsPerRun(100, func() {
		far.Write(one)
		if _, err := r.Read(p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a read", n)
	}
}
