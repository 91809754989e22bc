package proxy_test

import (
	"net"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy"
)

// plainFrom is plain from another address of this machine.
func (f *fixture) plainFrom(t *testing.T, address string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	conn, err := d.DialContext(t.Context(), "tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// gone checks that the server has closed conn.
func gone(t *testing.T, what string, conn net.Conn) {
	t.Helper()
	conn.Write(record(testProgram, procNull))
	if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("%s is served: %v", what, err)
	}
}

// TestOneAddressTakesAllPlaces: whoever has taken all places there are, and keeps them, keeps nobody else out; his oldest
// connections stay, and he gets no place back from those who have fewer.
func TestOneAddressTakesAllPlaces(t *testing.T) {
	f := start(t, func(o *proxy.Options, _ *fixture) { o.MaxConnections = 4 })
	var greedy []net.Conn
	for range 4 {
		conn := f.plainFrom(t, "127.0.0.1")
		mustServe(t, conn)
		greedy = append(greedy, conn)
	}
	first, second := f.plainFrom(t, "127.0.0.2"), f.plainFrom(t, "127.0.0.3")
	mustServe(t, first)
	mustServe(t, second)
	gone(t, "the greedy one's newest", greedy[3])
	gone(t, "the one before it", greedy[2])
	gone(t, "another of the greedy one's", f.plainFrom(t, "127.0.0.1"))
	for _, conn := range []net.Conn{greedy[0], greedy[1], first, second} {
		mustServe(t, conn)
	}
	waitFor(t, "no more than fit", func() bool { return f.Stats().Active == 4 })
	if s := f.Stats(); s.Refused != 3 {
		t.Errorf("%d were refused, or closed to make room", s.Refused)
	}
	for _, conn := range []net.Conn{greedy[0], greedy[1], first, second} {
		conn.Close()
	}
	waitFor(t, "all places", func() bool { return f.Stats().Active == 0 })
	for range 4 {
		mustServe(t, f.plainFrom(t, "127.0.0.4"))
	}
}
