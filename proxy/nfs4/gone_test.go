package nfs4

import (
	"testing"
	"time"

	"github.com/nfseal/nfseal/proxy/nfs4/wire"
	"github.com/nfseal/nfseal/proxy/rpc"
	"github.com/nfseal/nfseal/xtsengine/vfs/memvfs"
)

// TestBindGone binds connections to a session that is destroyed meanwhile: nothing of it is kept for them, nor asked of the client.
func TestBindGone(t *testing.T) {
	fs, err := memvfs.New(memvfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{FS: fs, ServerOwner: []byte("o"), ServerScope: []byte("s"), Epoch: 1, HandleKey: make([]byte, HandleKeyBytes)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	conn := s.Bind(ConnInfo{})
	defer conn.Close()
	open := func() *backchannel {
		b := s.callbacks.openSession(wire.SessionID{1}, 7, 1, new(wire.CreateSessionArgs), rpc.Auth{}) // finds it gone
		b.probing = true                                                                               // nobody can be called
		return b
	}
	kept := func(b *backchannel, bound bool) {
		t.Helper()
		if bound || len(s.callbacks.peers) != 0 || len(conn.backs) != 0 || len(b.conns) != 0 {
			t.Errorf("bound %v, %d ways, %d backchannels, %d connections are kept", bound, len(s.callbacks.peers), len(conn.backs), len(b.conns))
		}
	}
	b := open()
	kept(b, b.bind(conn))

	b = open()
	b.gone = false
	bound := make(chan bool)
	conn.mu.Lock() // bind waits for it when the backchannel has the connection
	go func() { bound <- b.bind(conn) }()
	for ; !b.gone; time.Sleep(time.Millisecond) {
		b.mu.Lock()
		b.gone = len(b.conns) > 0
		b.conns = nil
		b.mu.Unlock()
	}
	b.c.removeWay(b.client, b)
	conn.mu.Unlock()
	kept(b, <-bound)
}
