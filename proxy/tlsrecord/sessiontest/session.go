package sessiontest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// Run runs the contract.
func Run(t *testing.T, p Path) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, p Path)
	}{
		{"BothWays", testBothWays}, {"FirstData", testFirstData}, {"WriteBuffers", testWriteBuffers},
		{"ReadDeadline", testReadDeadline}, {"WriteDeadline", testWriteDeadline}, {"CloseUnderCalls", testCloseUnderCalls},
		{"HalfClose", testHalfClose}, {"Truncation", testTruncation}, {"NoAllocation", testNoAllocation},
		{"Pending", testPending},
		{"Move", testMove}, {"MoveEnds", testMoveEnds},
		{"OpenSSLServer", testOpenSSLServer}, {"OpenSSLClient", testOpenSSLClient},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, p) })
	}
}

// testBothWays: every pairing carries the same bytes both ways at once, to an orderly end.
func testBothWays(t *testing.T, p Path) {
	for _, c := range []struct{ server, both bool }{{true, false}, {false, false}, {true, true}} {
		t.Run(fmt.Sprintf("server %v both %v", c.server, c.both), func(t *testing.T) {
			ours, peer := p.ends(t, c.server, c.both)
			Exchange(t, ours, peer, Random(3<<20))
		})
	}
}

// Exchange sends data both ways at once and compares what arrives.
func Exchange(t *testing.T, a, b Duplex, data []byte) {
	t.Helper()
	errs := make(chan error, 4)
	exchange(a, b, data, errs)
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// exchange is Exchange whose four ends go to errs.
func exchange(a, b Duplex, data []byte, errs chan<- error) {
	for _, ends := range [][2]Duplex{{a, b}, {b, a}} {
		go func() { errs <- Send(ends[0], data) }()
		go func() {
			got, err := Receive(ends[1])
			if err == nil && !bytes.Equal(got, data) {
				err = fmt.Errorf("%d bytes arrived, not the %d that were sent", len(got), len(data))
			}
			errs <- err
		}()
	}
}

// testFirstData: what the peer sends in the same segment as the end of its handshake is not lost.
func testFirstData(t *testing.T, p Path) {
	for range 5 {
		a, b := Wire(t)
		serverConfig, clientConfig := Configs(t, p.Version)
		go func() {
			conn := tls.Server(&held{Conn: a}, serverConfig)
			if conn.HandshakeContext(t.Context()) == nil {
				conn.Write([]byte("at "))
				conn.Write([]byte("once"))
				conn.NetConn().(*held).release()
			}
		}()
		conn, err := p.shake(t, b, clientConfig, false)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 7)
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "at once" {
			t.Fatalf("%q, %v", got, err)
		}
		conn.Close()
		a.Close()
	}
}

// held holds back what is written after the first flight until it is released.
type held struct {
	net.Conn
	writes int
	kept   []byte
}

func (h *held) Write(p []byte) (int, error) {
	if h.writes++; h.writes == 1 {
		return h.Conn.Write(p)
	}
	h.kept = append(h.kept, p...)
	return len(p), nil
}

func (h *held) release() { h.Conn.Write(h.kept) }

// testWriteBuffers: slices of all sizes arrive as one stream.
func testWriteBuffers(t *testing.T, p Path) {
	ours, peer := p.ends(t, true, false)
	for name, sizes := range map[string][]int{
		"nothing":      {},
		"empty ones":   {0, 0},
		"small ones":   {3, 0, 200, 1, 17},
		"across":       {16380, 10, 20000, 0, 5},
		"exactly":      {16384, 16384, 1},
		"large":        {100, 1 << 20, 4, 300_000},
		"empty at end": {16384, 0},
	} {
		var v [][]byte
		var all []byte
		for _, n := range sizes {
			v = append(v, Random(n))
			all = append(all, v[len(v)-1]...)
		}
		wrote := make(chan error, 1)
		go func() {
			n, err := ours.WriteBuffers(v)
			if err == nil && n != int64(len(all)) {
				err = fmt.Errorf("wrote %d of %d", n, len(all))
			}
			wrote <- err
		}()
		got := make([]byte, len(all))
		if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, all) {
			t.Errorf("%s: other bytes, or %v", name, err)
		}
		if err := <-wrote; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i, n := range sizes {
			if len(v[i]) != n {
				t.Errorf("%s: a slice has %d bytes afterwards, not %d", name, len(v[i]), n)
			}
		}
	}
}

// testReadDeadline: a read that waited in vain can be done again.
func testReadDeadline(t *testing.T, p Path) {
	ours, peer := p.ends(t, true, false)
	for _, size := range []int{10, 1 << 20} {
		buf := make([]byte, size)
		ours.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
		if n, err := ours.Read(buf); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%d, %v", n, err)
		}
		ours.SetReadDeadline(time.Time{})
		peer.Write([]byte("late"))
		if n, err := ours.Read(buf); err != nil || string(buf[:n]) != "late" {
			t.Errorf("%q, %v", buf[:n], err)
		}
	}
}

// testWriteDeadline: a write that a peer does not fetch fails, and so do all that follow.
func testWriteDeadline(t *testing.T, p Path) {
	ours, _ := p.ends(t, true, false)
	ours.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := ours.Write(make([]byte, 16<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	ours.SetWriteDeadline(time.Time{})
	if _, err := ours.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// testCloseUnderCalls: Close ends a read and a write that wait.
func testCloseUnderCalls(t *testing.T, p Path) {
	ours, _ := p.ends(t, true, false)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := ours.Read(make([]byte, 10)); err == nil {
			t.Error("read something")
		}
	})
	wg.Go(func() {
		if _, err := ours.Write(make([]byte, 16<<20)); err == nil {
			t.Error("wrote all")
		}
	})
	time.Sleep(50 * time.Millisecond)
	if err := ours.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := ours.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a second Close: %v", err)
	}
}

// testHalfClose: after CloseWrite the other direction goes on, and the peer sees an orderly end.
func testHalfClose(t *testing.T, p Path) {
	ours, peer := p.ends(t, true, false)
	if err := ours.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Write([]byte("x")); !errors.Is(err, p.Shut) {
		t.Errorf("a write after CloseWrite: %v", err)
	}
	if n, err := peer.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("the peer reads %d, %v", n, err)
	}
	peer.Write([]byte("still here"))
	buf := make([]byte, 100)
	if n, err := ours.Read(buf); err != nil || string(buf[:n]) != "still here" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	peer.CloseWrite()
	if n, err := ours.Read(buf); n != 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
}

// testPending: what has come is pending until all of it is read, and so is the end.
func testPending(t *testing.T, p Path) {
	ours, peer := p.ends(t, true, false)
	expect := func(want bool, when string) {
		t.Helper()
		for range 1000 { // what is sent takes a moment
			if ours.Pending() == want {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Errorf("%s: pending is %t", when, !want)
	}
	expect(false, "at first")
	peer.Write([]byte("abc"))
	expect(true, "when something has come")
	buf := make([]byte, 2)
	if n, err := ours.Read(buf); err != nil || n != 2 {
		t.Fatalf("%d, %v", n, err)
	}
	expect(true, "when a part is read")
	if n, err := ours.Read(buf); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	expect(false, "when all is read")
	peer.CloseWrite()
	expect(true, "at the end")
	if _, err := ours.Read(buf); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	expect(true, "behind the end")
}

// testTruncation: an end of the connection is not the session's end.
func testTruncation(t *testing.T, p Path) {
	ours, peer := p.ends(t, true, false)
	peer.Write([]byte("good"))
	peer.(*tls.Conn).NetConn().(*net.TCPConn).CloseWrite()
	got, err := Receive(ours)
	if string(got) != "good" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%q, %v", got, err)
	}
}

// testNoAllocation: reads and writes of all sizes take their memory from the pool.
func testNoAllocation(t *testing.T, p Path) {
	ours, peer := p.ends(t, true, true)
	go io.Copy(peer, peer)
	v := [][]byte{make([]byte, 100), make([]byte, 20_000), make([]byte, 7)}
	all := make([]byte, 20_107)
	for name, f := range map[string]func(){
		"small": func() {
			ours.Write(v[0])
			io.ReadFull(ours, all[:50])
			io.ReadFull(ours, all[:50])
		},
		"large": func() {
			ours.Write(v[1])
			io.ReadFull(ours, all[:20_000])
		},
		"buffers": func() {
			ours.WriteBuffers(v)
			io.ReadFull(ours, all)
		},
	} {
		if n := testing.AllocsPerRun(100, f); n >= 1 && !p.Race {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
