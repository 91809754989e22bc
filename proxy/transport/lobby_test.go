package transport_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/transport"
	"github.com/nfseal/nfseal/proxy/transport/transporttest"
)

// refusal is what a Lobby said of a connection.
type refusal struct {
	peer netip.AddrPort
	err  error
}

// lobby is a Lobby with a listener, and what it does.
type lobby struct {
	*transport.Lobby
	front    *transport.Front
	address  string
	admitted chan net.Conn
	refused  chan refusal
}

func openLobby(t *testing.T, o transport.FrontOptions) *lobby {
	t.Helper()
	transporttest.CheckGoroutines(t)
	front, err := transport.NewFront(o)
	if err != nil {
		t.Fatal(err)
	}
	l := &lobby{front: front, admitted: make(chan net.Conn, 1024), refused: make(chan refusal, 1024)}
	l.Lobby, err = front.OpenLobby(func(conn net.Conn) { l.admitted <- conn },
		func(peer netip.AddrPort, err error) { l.refused <- refusal{peer, err} })
	if err != nil {
		t.Fatal(err)
	}
	address, raw := prepared(t)
	l.address = address
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = l.Accept(raw.RawConn)
		}
		ended <- err
	}()
	t.Cleanup(func() {
		raw.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept ended with %v", err)
		}
		l.Close()
		if l.Len() != 0 || front.Stats().Pending != 0 {
			t.Errorf("%d wait after Close, %+v", l.Len(), front.Stats())
		}
	})
	return l
}

// listener is one that is ready for Accept, with what closes it.
type listener struct {
	syscall.RawConn
	io.Closer
}

func prepared(t *testing.T) (address string, l listener) {
	t.Helper()
	made, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	file, err := made.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	raw, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := transport.PrepareListener(raw); err != nil {
		t.Fatal(err)
	}
	return made.Addr().String(), listener{raw, file}
}

// admission is the next connection that goes on.
func (l *lobby) admission(t *testing.T) net.Conn {
	t.Helper()
	select {
	case conn := <-l.admitted:
		t.Cleanup(func() { conn.Close() })
		return conn
	case r := <-l.refused:
		t.Fatalf("refused: %v", r.err)
	case <-time.After(20 * time.Second):
		t.Fatal("nothing admitted")
	}
	return nil
}

// refusal is the next connection that does not, which must be of conn's.
func (l *lobby) refusal(t *testing.T, conn *net.TCPConn, want error) {
	t.Helper()
	select {
	case r := <-l.refused:
		if !errors.Is(r.err, want) || r.peer.String() != conn.LocalAddr().String() {
			t.Errorf("%v was refused: %v, want %v: %v", r.peer, r.err, conn.LocalAddr(), want)
		}
	case <-l.admitted:
		t.Fatal("admitted")
	case <-time.After(20 * time.Second):
		t.Fatal("nothing refused")
	}
}

// wasReset says that conn ended without an orderly end.
func wasReset(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection ended with %v, want a reset", err)
	}
}

// What goes on does so with all that it has sent, and as any other connection.
func TestLobbyAdmits(t *testing.T) {
	l := openLobby(t, transport.FrontOptions{})
	hello := clientHello(t)
	for name, c := range map[string]struct {
		parts [][]byte
		ends  bool
	}{
		"a ClientHello":              {parts: [][]byte{hello}},
		"a ClientHello, cut":         {parts: [][]byte{hello[:3], hello[3:9], hello[9:100], hello[100:]}},
		"a ClientHello, cut short":   {parts: [][]byte{hello[:100]}, ends: true},
		"TLS that is none":           {parts: [][]byte{{0x16, 0x13, 1, 2, 0}}},
		"an empty record":            {parts: [][]byte{{0x16, 3, 1, 0, 0}}},
		"an ONC RPC":                 {parts: [][]byte{{0x80, 0, 0}, {0x2c, 1, 2, 3, 4}}},
		"too little of one, and end": {parts: [][]byte{{0x80}}, ends: true},
	} {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, l.address)
			for i, part := range c.parts {
				if i > 0 {
					time.Sleep(20 * time.Millisecond)
					if l.Len() != 1 {
						t.Errorf("%d wait before it is all there", l.Len())
					}
				}
				conn.Write(part)
			}
			if c.ends {
				conn.CloseWrite()
			}
			admitted := l.admission(t)
			if admitted.RemoteAddr().String() != conn.LocalAddr().String() || admitted.LocalAddr().String() != l.address {
				t.Errorf("%v to %v", admitted.RemoteAddr(), admitted.LocalAddr())
			}
			want := bytes.Join(c.parts, nil)
			got := make([]byte, len(want))
			admitted.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadFull(admitted, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%x: %v", got, err)
			}
			if c.ends {
				return
			}
			conn.Write([]byte{7}) // one byte is enough now
			if n, err := admitted.Read(got); n != 1 || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
			admitted.Close()
			if n, err := conn.Read(got); n != 0 || err != io.EOF {
				t.Errorf("%d bytes, %v at its end, which is orderly", n, err)
			}
		})
	}
}

func TestLobbyRefuses(t *testing.T) {
	l := openLobby(t, transport.FrontOptions{SniffTimeout: 200 * time.Millisecond})
	silent := connect(t, l.address)
	l.refusal(t, silent, transport.ErrSilent)
	wasReset(t, silent)
	for _, sent := range [][]byte{{0x80, 0}, {0x16}, clientHello(t)[:200]} {
		slow := connect(t, l.address)
		slow.Write(sent)
		l.refusal(t, slow, transport.ErrSlow)
		wasReset(t, slow)
	}
	gone := connect(t, l.address)
	gone.CloseWrite()
	l.refusal(t, gone, transport.ErrGone)
	lost := connect(t, l.address)
	waitFor(t, func() bool { return l.Len() == 1 })
	lost.SetLinger(0)
	lost.Close()
	l.refusal(t, lost, transport.ErrGone)
	if s := l.front.Stats(); s.Silent != 1 || s.Slow != 3 || s.Gone != 2 {
		t.Errorf("%+v", s)
	}
}

// Many that wait cost a descriptor each, and no goroutine; the oldest make room; those who speak go on.
func TestLobbyFull(t *testing.T) {
	const most = 300
	before := descriptors(t)
	l := openLobby(t, transport.FrontOptions{MaxPending: most})
	var conns []*net.TCPConn
	for i := range most {
		conns = append(conns, connect(t, l.address))
		waitFor(t, func() bool { return l.Len() == i+1 })
	}
	if n := descriptors(t) - before; n < 2*most || n > 2*most+10 {
		t.Errorf("%d descriptors for %d connections of both ends", n, most)
	}
	if s := l.front.Stats(); s.Pending != most || s.Crowded != 0 {
		t.Errorf("%+v", s)
	}
	newest := connect(t, l.address)
	l.refusal(t, conns[0], transport.ErrCrowded)
	wasReset(t, conns[0])
	newest.Write([]byte{0x80, 0, 0, 0x2c, 0})
	if got := l.admission(t); got.RemoteAddr().String() != newest.LocalAddr().String() {
		t.Errorf("%v goes on", got.RemoteAddr())
	}
	l.Close()
	wasReset(t, conns[1])
	if late, err := net.Dial("tcp", l.address); err == nil {
		defer late.Close()
		wasReset(t, late.(*net.TCPConn))
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

// Whoever is the oldest when there is no room, and has said enough before anybody looked, goes on instead of being turned
// away.
func TestLobbyFullOfSpeakers(t *testing.T) {
	const most = 16
	l := openLobby(t, transport.FrontOptions{MaxPending: most})
	address, listener := prepared(t)
	speakers := map[string]bool{}
	for range 2 * most { // they are in the listener's queue, with what they say
		conn := connect(t, address)
		conn.Write([]byte{0x80, 0, 0, 0x2c, 0})
		speakers[conn.LocalAddr().String()] = true
	}
	for range 2 * most {
		connect(t, address)
	}
	for taken := 0; taken < 4*most; {
		n, err := l.Accept(listener.RawConn)
		if err != nil {
			t.Fatal(err)
		}
		taken += n
	}
	for range 2 * most {
		select {
		case conn := <-l.admitted:
			if conn.Close(); !speakers[conn.RemoteAddr().String()] {
				t.Errorf("%v goes on", conn.RemoteAddr())
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("not all go on: %+v", l.front.Stats())
		}
	}
	waitFor(t, func() bool { return l.front.Stats().Crowded == most && l.Len() == most })
}

// descriptors is how many this process has.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
